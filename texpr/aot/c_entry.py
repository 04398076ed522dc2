"""What every part of an entry's C text needs: C names, ranges of its symbols, sizes and strides of its tensors as C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from texpr.aot.abi import DIM_MAX, args_fields, integer_scalars, kernel_names, stride_arguments, tensors
from texpr.aot.c_expr import ATOM, INT64, INT64_MAX, CInteger, Interval, Scope, add, c_integer, constant, multiply
from texpr.aot.c_names import c_names
from texpr.aot.ir import Entry, ScalarArgument, TensorArgument
from texpr.dtypes import Kind
from texpr.math.expr import Atom, AtomKind, Const, IntExpr, product

_DIM: Final = Interval(0, DIM_MAX)
_SMS: Final = Interval(1, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class EntryContext:
    """An entry ready to be written. ``bundle`` prefixes shared C names; ``names`` maps user names to C names;
    ``targets`` are those of the bundle, in the order of the image tables; ``kernels`` are those the entry launches.

    ``fresh`` is the scope before the arguments were checked (strides and scalars may hold anything), ``checked`` the
    one after.
    """

    bundle: str
    entry: Entry
    names: Mapping[str, str]
    targets: tuple[str, ...]
    kernels: tuple[str, ...]
    fresh: Scope
    checked: Scope

    @property
    def symbol(self) -> str:
        return self.entry.symbol


def entry_context(bundle: str, entry: Entry, targets: Sequence[str]) -> EntryContext:
    """Raises ValueError for names that collide in C, tensors whose ``groups`` do not add up and variants that launch
    nothing.
    """
    if not entry.variants or any(not variant.launches for variant in entry.variants):
        raise ValueError(f"{entry.symbol}: every entry needs a variant and every variant a launch")
    for tensor in tensors(entry):
        if sum(tensor.groups) != len(tensor.shape):
            raise ValueError(
                f"{entry.symbol}: the groups {tensor.groups} of {tensor.name} do not cover its {len(tensor.shape)} dims"
            )
    users = [field.name for field in args_fields(entry)] + [name for name, _ in entry.derived]
    if "sms" in users:
        raise ValueError(f"{entry.symbol}: the name sms means the number of multiprocessors")
    names = dict(zip(users, c_names(users, entry.symbol), strict=True))
    return EntryContext(
        bundle,
        entry,
        names,
        tuple(targets),
        kernel_names(entry),
        _scope(bundle, entry, names, checked=False),
        _scope(bundle, entry, names, checked=True),
    )


def scalar_range(scalar: ScalarArgument) -> Interval:
    """The values an integer scalar's type can hold, cut to int64."""
    bits = scalar.dtype.bits
    if scalar.dtype.kind is Kind.UNSIGNED:
        return Interval(0, min(2**bits - 1, INT64_MAX))
    return Interval(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _scope(bundle: str, entry: Entry, names: Mapping[str, str], *, checked: bool) -> Scope:
    ranges: dict[str, Interval] = {name: _DIM for name in (*entry.dims, *(name for name, _ in entry.derived))}
    for scalar in integer_scalars(entry):
        interval = scalar_range(scalar)
        if checked:
            low = scalar.low.value if isinstance(scalar.low, Const) else interval.low
            high = scalar.high.value - 1 if isinstance(scalar.high, Const) else interval.high
            interval = Interval(max(interval.low, low), min(interval.high, high))
        ranges[scalar.name] = interval
    for name in stride_arguments(entry):
        ranges[name] = Interval(0, INT64_MAX) if checked else INT64
    symbols = {name: (f"n->{names[name]}", interval) for name, interval in ranges.items()}
    symbols["sms"] = ("n->sms", _SMS)

    def atom(value: Atom) -> str:
        unknown = [name for name in value.names if name not in names]
        if unknown:
            raise ValueError(f"{entry.symbol}: the condition {value} names no argument: {', '.join(unknown)}")
        ranges_text = [f"m->{names[name]}" for name in value.names]
        match value.kind:
            case AtomKind.ALIGNED:
                return f"{ranges_text[0]}.begin % {value.number}u == 0"
            case AtomKind.PRESENT:
                return f"{ranges_text[0]}.begin != 0"
            case AtomKind.DISJOINT:
                return f"!{bundle}_overlap(&{ranges_text[0]}, &{ranges_text[1]})"

    return Scope(bundle, symbols, atom)


def storage_extents(tensor: TensorArgument) -> tuple[IntExpr, ...]:
    """The number of positions along each storage dim: the product of the logical dims that form it."""
    extents: list[IntExpr] = []
    start = 0
    for count in tensor.groups:
        extents.append(product(tensor.shape[start : start + count]))
        start += count
    return tuple(extents)


def storage_steps(tensor: TensorArgument, scope: Scope) -> tuple[CInteger, ...]:
    """Elements between neighbours along each storage dim: its stride argument, else the size of the row below."""
    strided = dict(tensor.strided)
    steps: list[CInteger] = []
    below = constant(1)
    for dim, extent in reversed(list(enumerate(storage_extents(tensor)))):
        name = strided.get(dim)
        step = below if name is None else CInteger(scope.symbols[name][0], ATOM, scope.symbols[name][1])
        steps.append(step)
        below = multiply(c_integer(extent, scope), step, scope)
    return tuple(reversed(steps))


def row_below(tensor: TensorArgument, dim: int, scope: Scope) -> CInteger:
    """The smallest legal stride of a storage dim: the elements that one step along it must clear."""
    extents = storage_extents(tensor)
    if dim + 1 == len(extents):
        return constant(1)
    return multiply(c_integer(extents[dim + 1], scope), storage_steps(tensor, scope)[dim + 1], scope)


def elements_text(tensor: TensorArgument, scope: Scope) -> str:
    """C text of the number of addressable elements, from the first to the last in memory; 0 if the tensor is empty."""
    extents = [c_integer(extent, scope) for extent in storage_extents(tensor)]
    if tensor.elements is not None:
        span = c_integer(tensor.elements, scope)
    elif tensor.strided:
        span = _strided_span(tensor, extents, scope)
    else:
        span = constant(1)
        for extent in extents:
            span = multiply(span, extent, scope)
        return span.text
    empty = " || ".join(f"{extent.text} == 0" for extent in extents if extent.interval.low <= 0)
    return f"{empty} ? 0 : {span.text}" if empty else span.text


def _strided_span(tensor: TensorArgument, extents: list[CInteger], scope: Scope) -> CInteger:
    """(extent - 1) * step summed over the dims down to the innermost strided one, plus the dense block below it."""
    steps = storage_steps(tensor, scope)
    last = max(dim for dim, _ in tensor.strided)
    block = constant(1)
    for extent in extents[last + 1 :]:
        block = multiply(block, extent, scope)
    span: CInteger | None = None
    for extent, step in zip(extents[: last + 1], steps, strict=False):
        reach = multiply(add(extent, constant(-1), scope), step, scope)
        span = reach if span is None else add(span, reach, scope)
    return block if span is None else add(span, block, scope)
