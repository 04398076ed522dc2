"""Substitution on algorithm expressions: renaming axes, inlining funcs, applying boundaries. Pure functions ``Expr ->
Expr``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from texpr.dtypes import DType
from texpr.lang.ir import (
    INDEX,
    NO_BOUNDARY,
    Axis,
    AxisRef,
    BoundaryMode,
    Cast,
    Const,
    Def,
    DimRef,
    Expr,
    Func,
    Op,
    OpName,
    Present,
    Ptx,
    Read,
    ScalarRef,
    Select,
    Tensor,
    Var,
    children,
    map_children,
)
from texpr.math.expr import IntExpr
from texpr.plan.errors import NotLowered

Key: TypeAlias = tuple[object, ...]
_BOOL: Final = DType.BOOL


def rewrite(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """Bottom-up rewriting: every node, its children already rewritten, is replaced by ``change(node)`` unless that is
    None. Shared subexpressions stay shared."""
    done: dict[int, tuple[Expr, Expr]] = {}

    def visit(node: Expr) -> Expr:
        known = done.get(id(node))
        if known is None:
            inner = map_children(node, visit)
            replaced = change(inner)
            known = (node, inner if replaced is None else replaced)
            done[id(node)] = known
        return known[1]

    return visit(expr)


def substitute(expr: Expr, axes: Mapping[Axis, Expr]) -> Expr:
    """``expr`` with axis references replaced."""

    def change(node: Expr) -> Expr | None:
        if isinstance(node, AxisRef):
            return axes.get(node.axis)
        return None

    return rewrite(expr, change) if axes else expr


def bounded_index(index: Expr, extent: IntExpr, mode: BoundaryMode) -> Expr:
    """The index that a read with boundary ``mode`` really uses. FILL keeps the index: its reader guards it."""

    def const(value: int) -> Const:
        return Const(value, INDEX)

    def op(name: OpName, *args: Expr) -> Op:
        return Op(name, args, INDEX)

    length = DimRef(extent)
    match mode:
        case BoundaryMode.NONE | BoundaryMode.FILL:
            return index
        case BoundaryMode.CLAMP:
            return op(OpName.MIN, op(OpName.MAX, index, const(0)), op(OpName.SUB, length, const(1)))
        case BoundaryMode.WRAP:
            return op(OpName.MOD, index, length)
        case BoundaryMode.MIRROR:
            # Period 2(n-1): reflect the remainder. A source of one element has period 0, so the period is at least 1.
            period = op(OpName.MAX, op(OpName.MUL, const(2), op(OpName.SUB, length, const(1))), const(1))
            wrapped = op(OpName.MOD, index, period)
            return op(OpName.MIN, wrapped, op(OpName.SUB, period, wrapped))


def spans(index: Expr, extent: IntExpr) -> bool:
    """Whether an index is an axis that runs over just the extent, so that no boundary can come into play."""
    return isinstance(index, AxisRef) and index.axis.extent == extent


def in_range(index: Expr, extent: IntExpr) -> Expr:
    """``0 <= index < extent`` as a bool expression."""
    low = Op(OpName.GE, (index, Const(0, INDEX)), _BOOL)
    high = Op(OpName.LT, (index, DimRef(extent)), _BOOL)
    return Op(OpName.AND, (low, high), _BOOL)


def inline(expr: Expr, keep: Callable[[Func], bool], body_of: Callable[[Func], tuple[Def, Expr]]) -> Expr:
    """Replace reads of funcs that ``keep`` does not want by their definitions (``body_of``), rounded to the func's
    dtype.

    Boundaries of such a read become index arithmetic (clamp, wrap, mirror) or a select (fill).
    """

    def change(node: Expr) -> Expr | None:
        if not isinstance(node, Read) or not isinstance(node.source, Func) or keep(node.source):
            return None
        definition, body = body_of(node.source)
        indices = bounded_indices(node, definition.axes)
        _check_groups(node, definition, indices, body)
        value = substitute(body, dict(zip(definition.axes, indices, strict=True)))
        value = inline(value, keep, body_of)
        if value.dtype is not node.source.dtype:
            value = Cast(value, node.source.dtype)
        return filled(node, definition.axes, value)

    return rewrite(expr, change)


def _check_groups(read: Read, definition: Def, indices: Sequence[Expr], body: Expr) -> None:
    """What depends on the group of a point is known at points of an axis over the same groups only."""
    for axis, index in zip(definition.axes, indices, strict=True):
        if axis.ragged is None or axis.ragged.group not in axes_of(body):
            continue
        other = index.axis.ragged if isinstance(index, AxisRef) else None
        same = other is not None and other.offsets is axis.ragged.offsets and other.group is axis.ragged.group
        if not same:
            group = axis.ragged.group.name
            raise NotLowered(
                what=f"{read.source.name} at another point than {axis.name}, where its {group} is not known,",
                instead=f"an earlier kernel that writes {read.source.name}",
            )


def bounded_indices(read: Read, axes: Sequence[Axis]) -> tuple[Expr, ...]:
    """The indices that a read of a func over ``axes`` really uses under its boundary."""
    return tuple(
        index if spans(index, axis.extent) else bounded_index(index, axis.extent, read.boundary.mode)
        for index, axis in zip(read.indices, axes, strict=True)
    )


def filled(read: Read, axes: Sequence[Axis], value: Expr) -> Expr:
    """``value``, or the fill of the read's boundary where it reads outside of ``axes``."""
    if read.boundary.mode is not BoundaryMode.FILL:
        return value
    inside = conjunction([in_range(index, axis.extent) for index, axis in zip(read.indices, axes, strict=True)])
    return Select(inside, value, Const(read.boundary.fill, value.dtype))


def conjunction(parts: list[Expr]) -> Expr:
    """``and`` of bool expressions (at least one)."""
    result = parts[0]
    for part in parts[1:]:
        result = Op(OpName.AND, (result, part), _BOOL)
    return result


def conjuncts(guard: Expr | None) -> list[Expr]:
    """The parts of a guard that must all hold."""
    if guard is None:
        return []
    if isinstance(guard, Op) and guard.name is OpName.AND:
        return [part for arg in guard.args for part in conjuncts(arg)]
    return [guard]


def axes_of(expr: Expr) -> frozenset[Axis]:
    """Every axis that ``expr`` mentions."""
    found: set[Axis] = set()
    seen: set[int] = set()

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, AxisRef):
            found.add(node.axis)
        for child in children(node):
            visit(child)

    visit(expr)
    return frozenset(found)


def reads_of(expr: Expr) -> list[Read]:
    """Every read under ``expr``, indices of reads included, each object once, in evaluation order."""
    found: list[Read] = []
    seen: set[int] = set()

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        for child in children(node):
            visit(child)
        if isinstance(node, Read):
            found.append(node)

    visit(expr)
    return found


def key_of(expr: Expr) -> Key:
    """A structural key: two expressions with the same key denote the same value."""
    inner = tuple(key_of(child) for child in children(expr))
    match expr:
        case Const(value=value, dtype=dtype):
            return ("const", repr(value), dtype)
        case ScalarRef(scalar=scalar):
            return ("scalar", scalar.name)
        case AxisRef(axis=axis):
            return ("axis", id(axis))
        case DimRef(value=value):
            return ("dim", value)
        case Read(source=source, boundary=boundary, absent=absent):
            return ("read", id(source), boundary, absent is None, inner)
        case Op(name=name, dtype=dtype):
            return ("op", name, dtype, inner)
        case Select():
            return ("select", inner)
        case Cast(dtype=dtype):
            return ("cast", dtype, inner)
        case Ptx(template=template, constraints=constraints, dtypes=dtypes, component=component):
            return ("ptx", template, constraints, dtypes, component, inner)
        case Present(tensor=tensor):
            return ("present", id(tensor))
        case Var(name=name):
            return ("var", name)


def plain_read(source: Tensor | Func, axes: tuple[Axis, ...]) -> Read:
    """``source[axes]``."""
    return Read(source, tuple(AxisRef(axis) for axis in axes), NO_BOUNDARY)
