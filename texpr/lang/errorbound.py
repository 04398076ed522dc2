"""A bound on the error of every output element, for any legal schedule: the pass rule of ``texpr check``.

The reference is evaluated once more, and beside each value a bound is carried (:mod:`texpr.lang.bounded`): every
operation adds its stated error (:mod:`texpr.lang.accuracy`), and a sum of n terms, in whatever order, adds at most
``gamma_n * sum |terms|`` (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2) to what its terms
bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from texpr.dtypes import DType
from texpr.lang import bounded
from texpr.lang.accuracy import Accuracy
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.arguments import Arguments, resolve_call
from texpr.lang.arrays import round_float, value_dtype
from texpr.lang.bound_expr import Analysis, Rectangle, bound_expr
from texpr.lang.bounded import Bounded
from texpr.lang.evaluate import State, convert, rectangles, whole
from texpr.lang.extern_values import extern_bounds
from texpr.lang.ir import Algorithm, Def, Extern, Func, Reduce, Scan, Tensor, components
from texpr.lang.reduce_bound import contract_bound, reduce_bound
from texpr.lang.reference import counted, in_room, storage_shape
from texpr.lang.scan import lines
from texpr.lang.scan_bound import scan_bound


def error_bounds(
    algorithm: AlgorithmDef | Algorithm,
    types: Mapping[str, str | DType] | None = None,
    statics: Mapping[str, int] | None = None,
    accuracy: Accuracy | None = None,
) -> Callable[..., dict[str, Bounded]]:
    """Like :func:`texpr.lang.reference.reference`, but gives value arrays with bounds, in storage shape.

    ``error_bounds(alg)(x=..., w=...)["y"].ratios(decode(actual, dtype)).max() <= 1`` says that a kernel's result is
    right."""

    def call(**arguments: object) -> dict[str, Bounded]:
        bound, checked = resolve_call(algorithm, types or {}, statics or {}, arguments)
        return run_bounded(bound, checked, accuracy or Accuracy())

    return call


def run_bounded(algorithm: Algorithm, arguments: Arguments, accuracy: Accuracy) -> dict[str, Bounded]:
    """Every output with its bound."""
    analysis = Analysis(State(dict(arguments.arrays), dict(arguments.scalars), arguments.dims), accuracy)
    outputs: dict[str, Bounded] = {}
    for definition in algorithm.defs:
        for func, result in zip(definition.funcs, _bound_def(definition, analysis), strict=True):
            analysis.state.arrays[func] = result.value
            counted(algorithm, func, result.value, analysis.state)
            if result.bound.any():
                analysis.bounds[func] = result.bound
            if result.ambiguous.any():
                analysis.doubts[func] = result.ambiguous
            if func.output is not None:
                shape = storage_shape(func.output.shape, func.output.groups, arguments.dims)
                outputs[func.output.name] = _in_room(func.output, result, analysis.state.dims).reshape(shape)
    return outputs


def _in_room(tensor: Tensor, result: Bounded, dims: Mapping[str, int]) -> Bounded:
    """A whole output: what lies beyond a dim that the device counts is no element of it."""
    if tensor.valid is None:
        return result
    bound, ambiguous = (np.broadcast_to(part, result.value.shape) for part in (result.bound, result.ambiguous))
    return Bounded(
        in_room(tensor, result.value, dims, 0),
        in_room(tensor, bound, dims, np.nan),
        in_room(tensor, ambiguous, dims, False),
    )


def _bound_def(definition: Def, analysis: Analysis) -> list[Bounded]:
    top = definition.top
    analysis.owner = definition.name
    shape = whole(definition.axes, analysis.state).shape
    if isinstance(top, Extern):
        (func,) = definition.funcs
        return [_store(extern_bounds(top, definition.axes, analysis), func.dtype, func, analysis)]
    if isinstance(top, Reduce):
        product = contract_bound(top, definition.axes, analysis)
        if product is not None:
            return [_store(product, top.exprs[0].dtype, definition.funcs[0], analysis).reshape(shape)]
    results = [
        Bounded(np.empty(shape, value_dtype(func.dtype)), np.zeros(shape), np.zeros(shape, np.bool_))
        for func in definition.funcs
    ]
    exprs = components(top)
    if isinstance(top, Scan):
        along = definition.axes.index(top.axis)
        for points, here in lines(definition, top, analysis.state):
            parts = scan_bound(top, Rectangle(points, analysis))
            for func, result, expr, part in zip(definition.funcs, results, exprs, parts, strict=True):
                _fill(result, along, here, _store(part, expr.dtype, func, analysis))
        return results
    over = top.axes if isinstance(top, Reduce) else ()
    for points in rectangles(definition.axes, over, analysis.state):
        rectangle = Rectangle(points, analysis)
        here = tuple(slice(r.start, r.stop) for r in points.ranges[: len(definition.axes)])
        if isinstance(top, Reduce):
            parts = reduce_bound(top, rectangle)
        else:
            parts = [bound_expr(expr, rectangle, None) for expr in exprs]
        for func, result, expr, part in zip(definition.funcs, results, exprs, parts, strict=True):
            stored = _store(part, expr.dtype, func, analysis)
            result.value[here], result.bound[here], result.ambiguous[here] = (
                stored.value,
                stored.bound,
                stored.ambiguous,
            )
    return results


def _fill(result: Bounded, along: int, here: tuple[slice, ...], part: Bounded) -> None:
    """Put a part whose last dimension is ``along`` where it belongs."""
    for whole_array, values in zip(
        (result.value, result.bound, result.ambiguous), (part.value, part.bound, part.ambiguous), strict=True
    ):
        np.moveaxis(whole_array, along, -1)[here] = values


def _store(result: Bounded, dtype: DType, func: Func, analysis: Analysis) -> Bounded:
    """The rounding of a func's dtype, and of an f32 output."""
    value = convert(result.value, dtype, func.dtype)
    if func.name in analysis.accuracy.relaxed and dtype is not func.dtype and func.dtype.is_float:
        return bounded.rounded_elsewhere(result, func.dtype, value)
    stored = bounded.cast(result, dtype, func.dtype, value)
    if func.output is None or func.dtype is not DType.F32:
        return stored
    rounded = round_float(value, DType.F32)
    with np.errstate(all="ignore"):
        moved = np.abs(rounded - value)
    bound = np.where(stored.bound > 0, stored.bound + np.where(np.isfinite(moved), moved, 0.0), 0.0)
    return Bounded(rounded, bound, stored.ambiguous)
