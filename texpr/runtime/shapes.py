"""From array shapes to dims: inference, checks, and the strides a launcher is told.

An array may have the storage rank (one dim per storage dim) or the logical rank (composite dims spelled out); both mean
the same memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from texpr.runtime.arrays import ArrayView
from texpr.runtime.errors import (
    DimValueError,
    LayoutError,
    RankError,
    ShapeError,
    UnknownArgumentError,
    UnknownDimError,
)
from texpr.runtime.expressions import Expression, evaluate, linear_in, names_in
from texpr.runtime.manifest import Entry, Tensor

Given = tuple[Tensor, ArrayView]


@dataclass(frozen=True, slots=True)
class _Equation:
    """One array dim: the product of ``factors`` is ``size``. ``dim`` is the position in the array."""

    tensor: Tensor
    shape: tuple[int, ...]
    dim: int
    factors: tuple[Expression, ...]
    size: int


def solve_dims(entry: Entry, arrays: Iterable[Given], explicit: Mapping[str, int]) -> dict[str, int]:
    """The value of every dim and derived dim of ``entry``.

    ``explicit`` are the dims the caller names. Raises RankError, ShapeError (naming where a conflicting value came
    from), UnknownDimError, UnknownArgumentError for an explicit dim that does not exist, and DimValueError for one that
    is no integer.
    """
    values: dict[str, int] = {}
    origin: dict[str, str] = {}
    for name, value in explicit.items():
        if name not in entry.dims:
            raise UnknownArgumentError(
                name=entry.symbol, what="dim", given=name, choices=", ".join(entry.dims) or "it has none"
            )
        if not _is_integer(value):
            raise DimValueError(dim=name, value=value)
        values[name], origin[name] = int(value), "dims="
    equations = [equation for tensor, array in arrays for equation in _equations(tensor, array)]
    progress = True
    while progress:
        progress = _derive(entry, values)
        for equation in equations:
            progress = _solve(equation, entry, values, origin) or progress
    for name in entry.dims:
        if name not in values:
            raise UnknownDimError(dim=name)
    for equation in equations:
        _check(equation, values, origin)
    return values


def _is_integer(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _derive(entry: Entry, values: dict[str, int]) -> bool:
    """Evaluate the derived dims whose dims are known; True if there was a new one."""
    found = False
    for name, expression in entry.derived:
        if name not in values and names_in(expression) <= values.keys():
            values[name] = evaluate(expression, values)
            found = True
    return found


def _equations(tensor: Tensor, array: ArrayView) -> list[_Equation]:
    storage = tensor.storage_dims()
    if len(array.shape) == len(storage):
        groups = storage
    elif len(array.shape) == len(tensor.shape):
        groups = [(index,) for index in range(len(tensor.shape))]
    else:
        ranks = " or ".join(str(rank) for rank in sorted({len(storage), len(tensor.shape)}))
        raise RankError(argument=tensor.name, shape=array.shape, ranks=ranks, declared=tensor.declared())
    return [
        _Equation(tensor, array.shape, dim, tuple(tensor.shape[i] for i in group), size)
        for dim, (group, size) in enumerate(zip(groups, array.shape, strict=True))
    ]


def _solve(equation: _Equation, entry: Entry, values: dict[str, int], origin: dict[str, str]) -> bool:
    """Learn the one unknown dim of an equation, if it has exactly one and is linear in it."""
    unknown = frozenset[str]().union(*(names_in(factor) for factor in equation.factors)) - values.keys()
    if len(unknown) != 1 or not unknown <= set(entry.dims):
        return False
    (name,) = unknown
    scale, offset = 0, 1  # the product so far is scale * unknown + offset
    for factor in equation.factors:
        form = linear_in(factor, name, values)
        if form is None or (scale and form[0]):
            return False
        scale, offset = scale * form[1] + offset * form[0], offset * form[1]
    if scale == 0:
        return False
    value, remainder = divmod(equation.size - offset, scale)
    if remainder or value < 0:
        raise ShapeError(
            argument=equation.tensor.name,
            shape=equation.shape,
            problem=f"its dim {equation.dim} is {_text(equation)}, and no {name} makes that {equation.size}"
            + _known(equation, values, origin),
        )
    values[name] = value
    origin[name] = equation.tensor.name
    return True


def _check(equation: _Equation, values: Mapping[str, int], origin: Mapping[str, str]) -> None:
    expected = prod(evaluate(factor, values) for factor in equation.factors)
    if expected != equation.size:
        raise ShapeError(
            argument=equation.tensor.name,
            shape=equation.shape,
            problem=f"its dim {equation.dim} should be {_text(equation)} = {expected}"
            + _known(equation, values, origin),
        )


def _text(equation: _Equation) -> str:
    tensor = equation.tensor
    texts = [text for text, expression in zip(tensor.text, tensor.shape, strict=True) if expression in equation.factors]
    return " * ".join(f"({text})" if " " in text and len(texts) > 1 else text for text in texts)


def _known(equation: _Equation, values: Mapping[str, int], origin: Mapping[str, str]) -> str:
    """``, with K = 64 from x``: where the known dims of an equation came from."""
    names = sorted(frozenset[str]().union(*(names_in(factor) for factor in equation.factors)) & values.keys())
    shown = [f"{name} = {values[name]}" + (f" from {origin[name]}" if name in origin else "") for name in names]
    return f" (with {', '.join(shown)})" if shown else ""


def storage_shape(tensor: Tensor, values: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a new array: one dim per storage dim."""
    return tuple(prod(evaluate(tensor.shape[i], values) for i in group) for group in tensor.storage_dims())


def stride_arguments(tensor: Tensor, array: ArrayView) -> dict[str, int]:
    """Check that ``array`` is dense row-major up to the free strides, and return the stride arguments in elements.

    A dim of extent 1 has no meaningful stride and is reported as dense. Raises LayoutError.
    """
    shape, strides = _as_storage(tensor, array)
    free = dict(tensor.strided)
    found: dict[str, int] = {}
    dense = 1
    for dim in reversed(range(len(shape))):
        stride = strides[dim]
        if shape[dim] <= 1 or array.empty:
            stride = dense
        elif dim in free and stride < dense:
            raise _layout_error(tensor, array, f"dim {dim} may have any stride from {dense} on, not {stride}")
        elif dim not in free and stride != dense:
            raise _layout_error(tensor, array, f"{_declared_layout(tensor)}, so dim {dim} should have stride {dense}")
        if dim in free:
            found[free[dim]] = stride
        dense = stride * shape[dim]
    return found


def _declared_layout(tensor: Tensor) -> str:
    if not tensor.strided:
        return f"{tensor.name} is declared dense and row-major"
    free = ", ".join(str(dim) for dim, _ in tensor.strided)
    return f"{tensor.name} is declared row-major with a free stride only on dim {free}"


def _layout_error(tensor: Tensor, array: ArrayView, expected: str) -> LayoutError:
    return LayoutError(argument=tensor.name, shape=array.shape, strides=array.strides, expected=expected)


def _as_storage(tensor: Tensor, array: ArrayView) -> tuple[list[int], list[int]]:
    """Shape and strides per storage dim; the dims of a composite one must lie densely in each other."""
    groups = tensor.storage_dims()
    if len(array.shape) == len(groups):
        return list(array.shape), list(array.strides)
    shape: list[int] = []
    strides: list[int] = []
    for group in groups:
        extent, step = 1, 1
        for index in reversed(group):
            size, stride = array.shape[index], array.strides[index]
            if size == 1:
                continue
            if extent > 1 and stride != step * extent and not array.empty:
                raise _layout_error(
                    tensor,
                    array,
                    f"the dims of a composite dim must be dense, so dim {index} has stride {step * extent}",
                )
            if extent == 1:
                step = stride
            extent *= size
        shape.append(extent)
        strides.append(step)
    return shape, strides
