"""Split reductions: an algorithm rewrite. One reduction becomes partial reductions over pieces of an axis and a
second over the pieces.

``acc = sum over k of e(k)`` split over k in P parts becomes

    acc.part[p, ..] = sum over k' < chunk of e(p * chunk + k')   where p * chunk + k' < K
    acc             = sum over p of acc.part[p, ..]

with ``chunk = ceildiv(ceildiv(K, P), step) * step``: whole loop steps, so that every part but the last is full. The
rest of the compiler sees two ordinary reductions; the parts live in the workspace between two kernels and are
combined in index order, so the result does not depend on timing. Placed before every other planning step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import (
    INDEX,
    Algorithm,
    Axis,
    AxisRef,
    Const,
    Def,
    DimRef,
    Expr,
    Func,
    Monoid,
    Op,
    OpName,
    Ranking,
    Reduce,
)
from texpr.math.expr import ceildiv, const
from texpr.math.expr import substitute as with_values
from texpr.plan.errors import PartialsMissing, SplitNotAssociative
from texpr.plan.inline import plain_read, substitute
from texpr.plan.monoids import is_arg
from texpr.plan.parts import by_turns, member_of, step_of
from texpr.plan.shares import share_of, shares_axis
from texpr.plan.split_group import Cut, chunk_of, reads_members, split_group
from texpr.schedule.places import SplitReduction
from texpr.schedule.records import Variant
from texpr.schedule.words import RelaxKind


def split_reductions(algorithm: Algorithm, variant: Variant) -> Algorithm:
    """Apply every ``split_reduction`` of the variant's kernels."""
    for kernel in variant.kernels:
        if kernel.split_reduction is not None:
            if by_turns(kernel) is not None:
                continue  # an axis of this kernel is cut, nothing else changes
            step = step_of(kernel, [f"{name}.part" for name in kernel.split_reduction.of], kernel.split_reduction.over)
            algorithm = _split(algorithm, kernel.split_reduction, step, variant)
            _check_kernels(variant, kernel.split_reduction)
    return algorithm


def _check_kernels(variant: Variant, record: SplitReduction) -> None:
    written = [name for kernel in variant.kernels for name in kernel.writes]
    for name in record.of:
        for needed in (f"{name}.part", name):
            consumer = needed == name and all(name not in kernel.place for kernel in variant.kernels)
            if needed not in written and not consumer:
                raise PartialsMissing(func=name, why=f"no kernel writes {needed}", axis=record.over, at=record.location)


def _split(algorithm: Algorithm, record: SplitReduction, step: int, variant: Variant) -> Algorithm:
    shared = shares_axis(algorithm, variant, record) if record.parts is None else None
    parts = const(0) if record.parts is None else with_values(record.parts.value, dict(algorithm.statics))
    part_axes: dict[str, Axis] = {}
    new_axes: list[Axis] = []
    inside: dict[str, Axis] = {}  # reductions that are split together run over the same points of a piece
    replaced: dict[int, tuple[Def, ...]] = {}
    for name in record.of:
        definition, top, axis = member_of(algorithm, name, record)
        if id(definition) in replaced:
            continue
        if isinstance(top.op, Monoid) and not top.op.commutative and len(top.axes) > 1:
            raise SplitNotAssociative(
                func=name, why=f"{top.op.name} is not commutative and runs over several axes", at=record.location
            )
        if shared is not None:
            if isinstance(top.op, Monoid) and not top.op.commutative:
                why = f"{top.op.name} is not commutative, and the tiles of a program are not neighbours"
                raise SplitNotAssociative(func=name, why=why, at=record.location)
            partial = share_of(definition, top, shared)
            replaced[id(definition)] = (partial, _combined(definition, top, partial, shared))
            continue
        part = part_axes.get(axis.name)
        if part is None:
            part = Axis(f"{axis.name}.part", parts)
            part_axes[axis.name] = part
            new_axes.append(part)
        chunk = ceildiv(ceildiv(axis.extent, parts), step) * step
        if axis.name not in inside:
            inside[axis.name] = Axis(axis.name, chunk)
            new_axes.append(inside[axis.name])
        replaced[id(definition)] = _parts_of(definition, top, axis, part, inside[axis.name])
    members = tuple(definition for definition in algorithm.defs if id(definition) in replaced)
    funcs = [func for definition in members for func in definition.funcs]
    if shared is not None:
        new_axes.append(shared)
    reader = next((d for d in members if reads_members(d, funcs, algorithm)), None)
    if reader is not None and shared is not None:
        why = "it reads another of these reductions, whose value a program does not have before its last tile"
        raise SplitNotAssociative(func=reader.name, why=why, at=record.location)
    if reader is not None:
        relaxed = {relax.name for relax in variant.relax if relax.kind is RelaxKind.ROUNDING}
        (axis,) = (a for a in _reduced_axes(members) if a.name == record.over)
        inner = inside[axis.name]
        cut = Cut(axis, part_axes[axis.name], inner, inner.extent, record.location)
        replaced = split_group(algorithm, members, cut, relaxed.__contains__)
    defs: list[Def] = []
    for definition in algorithm.defs:
        defs.extend(replaced.get(id(definition), (definition,)))
    return dataclasses.replace(algorithm, defs=tuple(defs), axes=(*algorithm.axes, *new_axes))


def _reduced_axes(definitions: Sequence[Def]) -> list[Axis]:
    found: dict[Axis, None] = {}
    for definition in definitions:
        assert isinstance(definition.top, Reduce)
        found.update(dict.fromkeys(definition.top.axes))
    return list(found)


def _parts_of(definition: Def, top: Reduce, axis: Axis, part: Axis, inner: Axis) -> tuple[Def, Def]:
    """The reduction over the points of a piece, ``inner``, and that over the pieces, ``part``."""
    start: Expr = Op(OpName.MUL, (AxisRef(part), chunk_of(inner, inner.extent)), INDEX)
    position: Expr = Op(OpName.ADD, (start, AxisRef(inner)), INDEX)
    inside: Expr = Op(OpName.LT, (position, DimRef(axis.extent)), DType.BOOL)
    exprs = tuple(substitute(e, {axis: position}) for e in top.exprs)
    where = (
        inside if top.where is None else Op(OpName.AND, (inside, substitute(top.where, {axis: position})), DType.BOOL)
    )
    axes = (part, *definition.axes)
    partials = tuple(
        Func(
            f"{func.name}.part", value.dtype, axes, location=func.location
        )  # the accumulator's type: no added rounding
        for func, value in zip(definition.funcs, top.exprs, strict=True)
    )
    first = Def(
        partials,
        axes,
        Reduce(top.op, exprs, tuple(inner if a is axis else a for a in top.axes), where),
        definition.location,
    )
    return first, _combined(definition, top, first, part)


def _combined(definition: Def, top: Reduce, partial: Def, part: Axis) -> Def:
    """The reduction over the pieces."""
    reads = tuple(plain_read(func, partial.axes) for func in partial.funcs)
    found = None
    if not isinstance(top.op, Ranking) and is_arg(top.op):  # a piece without points has no position and is no candidate
        found = Op(OpName.GE, (reads[1], Const(0, INDEX)), DType.BOOL)
    return Def(definition.funcs, definition.axes, Reduce(top.op, reads, (part,), found), definition.location)
