"""``visit``, ``split`` and ``fuse``, and parts of reductions that programs combine in turn: an algorithm rewritten over
other axes, for one kernel.

    visit: {i: perm}                        i = perm[i'], for all that the kernel computes (``visit``)
    split: {p: {into: [po, pi], by: n}}     p = po * n + pi     po < ceildiv(P, n), pi < n
    fuse:  {ri: [r, i]}                     r = ri // S, i = ri % S     ri < R * S

Every definition that iterates the old axes is rewritten to the new ones; a point of the new axes beyond the old
extent is excluded from reductions by a guard and from stores by the bounds of the stored index. Funcs that earlier
kernels stored keep their layout: only the indices of reads change. What a kernel writes is still indexed by the old
axes (``Recut.indices``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import (
    INDEX,
    NO_BOUNDARY,
    Algorithm,
    Axis,
    AxisRef,
    Const,
    Def,
    DimRef,
    Expr,
    Extern,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    Scan,
    top_exprs,
)
from texpr.math.bounds import Facts
from texpr.math.expr import BoolExpr, IntExpr, ceildiv, const, eq
from texpr.math.prove import Proved, prove
from texpr.plan.cut import Cut
from texpr.plan.errors import LoopAxisInvalid, UnknownAxis, near
from texpr.plan.inline import bounded_indices, filled, rewrite
from texpr.plan.parts import by_turns, parts_cut
from texpr.plan.visit import visit
from texpr.schedule.records import Kernel


@dataclass(frozen=True, slots=True)
class Recut:
    """An algorithm over new axes. ``indices`` gives, for every rewritten func, its old axes in terms of the new ones.
    """

    algorithm: Algorithm
    funcs: Mapping[Func, Func]
    indices: Mapping[Func, tuple[Expr, ...]]


def recut(algorithm: Algorithm, record: Kernel, stored: frozenset[Func], facts: Facts, guard: BoolExpr) -> Recut:
    """Apply a kernel's ``visit``, ``split`` and ``fuse``, in that order, then cut what it combines in turn."""
    result = Recut(algorithm, {}, {})
    axes = {axis.name: axis for axis in axes_of_algorithm(algorithm)}
    for name, hint in record.visit.items():
        axis = _known(axes, name, "visit", record)
        cut = visit(algorithm, axis, hint, record, stored, guard)
        result = _apply(result, cut, stored)
        axes.update({new.name: new for new in cut.new})
    for name, split in record.split.items():
        axis = _known(axes, name, "split", record)
        cut = _split(axis, split.into, split.by, facts)
        result = _apply(result, cut, stored)
        axes.update({new.name: new for new in cut.new})
    for name, olds in record.fuse.items():
        old = tuple(_known(axes, o, "fuse", record) for o in olds)
        cut = _fuse(old, name)
        result = _apply(result, cut, stored)
        axes.update({new.name: new for new in cut.new})
    parts = by_turns(record)
    if parts is not None and parts.parts is not None:
        result = _apply(result, parts_cut(result.algorithm, record, parts, facts), stored)
    return result


def axes_of_algorithm(algorithm: Algorithm) -> list[Axis]:
    """Every axis that a definition runs over, each once."""
    found: dict[Axis, None] = {}
    for definition in algorithm.defs:
        found.update(dict.fromkeys(definition.axes))
        if isinstance(definition.top, Reduce):
            found.update(dict.fromkeys(definition.top.axes))
    return list(found)


def _known(axes: Mapping[str, Axis], name: str, directive: str, record: Kernel) -> Axis:
    if name not in axes:
        raise UnknownAxis(
            directive=directive,
            name=name,
            owner=f"kernel {record.name}",
            near=near(name, axes),
            at=record.location_of(directive),
        )
    return axes[name]


def _split(axis: Axis, into: tuple[str, str], by: int, facts: Facts) -> Cut:
    outer, inner = Axis(into[0], ceildiv(axis.extent, by)), Axis(into[1], const(by))
    value = _op(OpName.ADD, _op(OpName.MUL, AxisRef(outer), Const(by, INDEX)), AxisRef(inner))
    exact = isinstance(prove(eq(axis.extent % by, 0), facts), Proved)
    guard = None if exact else Op(OpName.LT, (value, DimRef(axis.extent)), DType.BOOL)

    def back(indices: Sequence[Expr]) -> tuple[Expr, ...]:
        (index,) = indices
        if index is value:
            return (AxisRef(outer), AxisRef(inner))
        n = Const(by, INDEX)
        return (_op(OpName.FLOORDIV, index, n), _op(OpName.MOD, index, n))

    return Cut((axis,), (outer, inner), (value,), back, guard)


def _fuse(old: tuple[Axis, ...], name: str) -> Cut:
    extent: IntExpr = const(1)
    for axis in old:
        extent = extent * axis.extent
    fused = Axis(name, extent)
    values: list[Expr] = []
    inner: IntExpr = const(1)
    for n, axis in reversed(list(enumerate(old))):
        value: Expr = AxisRef(fused)
        if inner != const(1):
            value = _op(OpName.FLOORDIV, value, DimRef(inner))
        if n:
            value = _op(OpName.MOD, value, DimRef(axis.extent))
        values.insert(0, value)
        inner = inner * axis.extent
    known = tuple(values)

    def back(indices: Sequence[Expr]) -> tuple[Expr, ...]:
        if all(a is b for a, b in zip(indices, known, strict=True)):
            return (AxisRef(fused),)
        total = indices[0]
        for index, axis in zip(indices[1:], old[1:], strict=True):
            total = _op(OpName.ADD, _op(OpName.MUL, total, DimRef(axis.extent)), index)
        return (total,)

    return Cut(old, (fused,), known, back, None)


def _apply(current: Recut, cut: Cut, stored: frozenset[Func]) -> Recut:
    """Rewrite every definition that has all of the cut's axes together."""
    funcs: dict[Func, Func] = {}
    for definition in current.algorithm.defs:
        for func in definition.funcs:
            if func not in stored and cut.rewrites(func) and _has(definition.axes, cut):
                funcs[func] = dataclasses.replace(func, axes=_replaced(func.axes, cut))
    values = dict(zip(cut.old, cut.values, strict=True))

    def change(node: Expr) -> Expr | None:
        if isinstance(node, AxisRef):
            return values.get(node.axis)
        if isinstance(node, Read) and isinstance(node.source, Func) and node.source in funcs:
            axes = node.source.axes  # boundaries are those of the old axes: applied before the new ones are indexed
            plain = set(zip(cut.old, cut.values, strict=True))
            bounded = tuple(
                index if (axis, index) in plain else within
                for axis, index, within in zip(axes, node.indices, bounded_indices(node, axes), strict=True)
            )
            indices = _reindexed(axes, bounded, cut)
            source = funcs[node.source]
            return filled(node, axes, dataclasses.replace(node, source=source, indices=indices, boundary=NO_BOUNDARY))
        return None

    defs: list[Def] = []
    for definition in current.algorithm.defs:
        if not cut.rewrites(definition.funcs[0]):
            defs.append(definition)
            continue
        exprs = [rewrite(expr, change) for expr in top_exprs(definition.top)]
        defs.append(_definition(definition, exprs, funcs, cut))
    indices = {
        funcs.get(func, func): tuple(rewrite(index, change) for index in old) for func, old in current.indices.items()
    }
    for old, new in funcs.items():
        if new not in indices:
            indices[new] = tuple(values.get(axis, AxisRef(axis)) for axis in old.axes)
    names = {original: funcs.get(last, last) for original, last in current.funcs.items()}
    names.update({old: new for old, new in funcs.items() if old not in current.funcs.values()})
    return Recut(dataclasses.replace(current.algorithm, defs=tuple(defs)), names, indices)


def _definition(definition: Def, exprs: list[Expr], funcs: Mapping[Func, Func], cut: Cut) -> Def:
    axes = _replaced(definition.axes, cut) if definition.funcs[0] in funcs else definition.axes
    new_funcs = tuple(funcs.get(func, func) for func in definition.funcs)
    top = definition.top
    if isinstance(top, Extern):  # over axes of its own, which no schedule can name
        return definition
    if isinstance(top, Scan):
        reset = exprs.pop() if top.reset is not None else None
        return Def(new_funcs, axes, dataclasses.replace(top, exprs=tuple(exprs), reset=reset), definition.location)
    if not isinstance(top, Reduce):
        return Def(new_funcs, axes, tuple(exprs), definition.location)
    where = exprs.pop() if top.where is not None else None
    reduced = top.axes
    if _has(reduced, cut):
        reduced = _replaced(reduced, cut)
        if cut.guard is not None:
            where = cut.guard if where is None else Op(OpName.AND, (cut.guard, where), DType.BOOL)
    elif any(axis in cut.old for axis in reduced):
        raise LoopAxisInvalid(
            func=definition.name,
            axis=cut.new[0].name,
            why="it reduces over some of the fused axes only",
            choices=", ".join(axis.name for axis in reduced),
        )
    return Def(new_funcs, axes, Reduce(top.op, tuple(exprs), reduced, where), definition.location)


def _has(axes: Sequence[Axis], cut: Cut) -> bool:
    return all(axis in axes for axis in cut.old)


def _replaced(axes: tuple[Axis, ...], cut: Cut) -> tuple[Axis, ...]:
    """The new axes stand where the first of the old ones stood."""
    result: list[Axis] = []
    for axis in axes:
        if axis is cut.old[0]:
            result.extend(cut.new)
        elif axis not in cut.old:
            result.append(axis)
    return tuple(result)


def _reindexed(axes: tuple[Axis, ...], indices: tuple[Expr, ...], cut: Cut) -> tuple[Expr, ...]:
    by_axis = dict(zip(axes, indices, strict=True))
    new = dict(zip(cut.new, cut.back([by_axis[axis] for axis in cut.old]), strict=True))
    return tuple(new.get(axis) or by_axis[axis] for axis in _replaced(axes, cut))


def _op(name: OpName, *args: Expr) -> Expr:
    return Op(name, args, INDEX)
