"""The oracle: what an algorithm computes, in NumPy, with no schedule in sight.

Floats are float64 where the language leaves them in f32; rounding happens exactly at casts, at funcs of a type other
than f32, and at outputs. ``te.reference(alg)(x=..., w=...)`` takes and gives storage arrays; :func:`run` works on
value arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from texpr.dtypes import DType
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.arguments import Arguments, resolve_call
from texpr.lang.arrays import Array, encode, value_dtype
from texpr.lang.evaluate import Points, State, convert, evaluate, rectangles, whole
from texpr.lang.extern_values import extern_values
from texpr.lang.ir import Algorithm, Def, Extern, Func, Reduce, Scan, Tensor, Top, components
from texpr.lang.reduce import contract, reduce_points
from texpr.lang.scan import lines, scan_points
from texpr.math import expr as integer

Reference = Callable[..., dict[str, npt.NDArray[np.generic]]]


def reference(
    algorithm: AlgorithmDef | Algorithm,
    types: Mapping[str, str | DType] | None = None,
    statics: Mapping[str, int] | None = None,
) -> Reference:
    """A function that evaluates ``algorithm`` on NumPy arrays.

    It takes the inputs by name in storage form (see :mod:`texpr.lang.arrays`; an optional one may be left out),
    scalars, statics, and any dim that the shapes do not determine; it gives ``{output: storage array}``. Type
    variables follow from the arrays unless ``types`` binds them. Raises the TX018x errors.
    """

    def call(**arguments: object) -> dict[str, npt.NDArray[np.generic]]:
        bound, checked = resolve_call(algorithm, types or {}, statics or {}, arguments)
        results = run(bound, checked)
        return {tensor.name: encode(results.outputs[tensor.name], tensor.dtype) for tensor in bound.outputs}

    call.__name__ = algorithm.name
    call.__doc__ = algorithm.doc
    return call


class Results:
    """Every func's value array, and the outputs by name in storage shape."""

    def __init__(self, algorithm: Algorithm, state: State) -> None:
        self.state = state
        self.outputs: dict[str, Array] = {}
        for definition in algorithm.defs:
            for func in definition.funcs:
                if func.output is not None:
                    shape = storage_shape(func.output.shape, func.output.groups, state.dims)
                    values = in_room(func.output, state.arrays[func], state.dims, 0)
                    self.outputs[func.output.name] = values.reshape(shape)


def in_room(tensor: Tensor, values: Array, dims: Mapping[str, int], beyond: object) -> Array:
    """An output of which a dim that the device counts bounds the part with values: in a whole array, with ``beyond``
    elsewhere."""
    if tensor.valid is None:
        return values
    everywhere = np.full([integer.evaluate(extent, dims) for extent in tensor.shape], beyond, values.dtype)
    everywhere[tuple(slice(extent) for extent in values.shape)] = values
    return everywhere


def counted(algorithm: Algorithm, func: Func, values: Array, state: State) -> None:
    """Once the definition of a count is evaluated, the dim is known."""
    for count in algorithm.counts:
        if func.output is not None and func.output.name == count.source:
            state.dims = {**state.dims, count.name: count.value_of(int(values), state.dims)}


def storage_shape(
    shape: tuple[integer.IntExpr, ...], groups: tuple[int, ...], dims: Mapping[str, int]
) -> tuple[int, ...]:
    """The storage dims of a logical shape: each composite dim is the product of its parts."""
    logical = [integer.evaluate(dim, dims) for dim in shape]
    sizes: list[int] = []
    start = 0
    for width in groups:
        sizes.append(int(np.prod(logical[start : start + width])))
        start += width
    return tuple(sizes)


def run(algorithm: Algorithm, arguments: Arguments) -> Results:
    """Evaluates every definition in order."""
    state = State(dict(arguments.arrays), dict(arguments.scalars), arguments.dims)
    for definition in algorithm.defs:
        for func, values in zip(definition.funcs, evaluate_def(definition, state), strict=True):
            state.arrays[func] = values
            counted(algorithm, func, values, state)
    return Results(algorithm, state)


def evaluate_def(definition: Def, state: State) -> tuple[Array, ...]:
    """The funcs of a definition over all their points, each in its own type."""
    if isinstance(definition.top, Extern):
        (func,) = definition.funcs
        return (store(extern_values(definition.top, definition.axes, state), func.dtype, func),)
    exprs = components(definition.top)
    shape = whole(definition.axes, state).shape
    if isinstance(definition.top, Reduce):
        product = contract(definition.top, definition.axes, state)
        if product is not None:
            return (store(product, exprs[0].dtype, definition.funcs[0]),)
    results = tuple(np.empty(shape, value_dtype(func.dtype)) for func in definition.funcs)
    if isinstance(definition.top, Scan):
        for points, here in lines(definition, definition.top, state):
            scanned = scan_points(definition.top, points)
            for func, result, expr, part in zip(definition.funcs, results, exprs, scanned, strict=True):
                along = definition.axes.index(definition.top.axis)
                np.moveaxis(result, along, -1)[here] = store(part, expr.dtype, func)
        return results
    over = definition.top.axes if isinstance(definition.top, Reduce) else ()
    for points in rectangles(definition.axes, over, state):
        here = tuple(slice(r.start, r.stop) for r in points.ranges[: len(definition.axes)])
        for func, result, expr, values in zip(
            definition.funcs, results, exprs, _top_values(definition.top, points), strict=True
        ):
            result[here] = store(values, expr.dtype, func)
    return results


def _top_values(top: Top, points: Points) -> tuple[Array, ...]:
    if isinstance(top, Reduce):
        return reduce_points(top, points)
    return tuple(evaluate(expr, points) for expr in components(top))


def store(values: Array, dtype: DType, func: Func) -> Array:
    """``values`` of type ``dtype`` as the func holds them: an f32 func that is no output is not rounded, the rest
    are."""
    if func.output is not None and func.dtype is DType.F32:
        return encode(convert(values, dtype, func.dtype), DType.F32).astype(np.float64)
    return convert(values, dtype, func.dtype)
