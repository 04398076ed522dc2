"""Split reductions: an algorithm rewrite. One reduction becomes partial reductions over pieces of an axis and a
second over the pieces.

``acc = sum over k of e(k)`` split over k in P parts becomes

    acc.part[.., p] = sum over k' < chunk of e(p * chunk + k')   where p * chunk + k' < K
    acc             = sum over p of acc.part[.., p]

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
from texpr.math.expr import IntExpr, ceildiv
from texpr.math.expr import substitute as with_values
from texpr.plan.errors import LoopAxisInvalid, PartialsMissing, SplitNotAssociative, UnknownFunc, near
from texpr.plan.inline import plain_read, substitute
from texpr.plan.monoids import is_arg
from texpr.plan.split_group import Cut, reads_members, split_group
from texpr.schedule.records import RelaxKind, SplitReduction, Variant


def split_reductions(algorithm: Algorithm, variant: Variant) -> Algorithm:
    """Apply every ``split_reduction`` of the variant's kernels."""
    for kernel in variant.kernels:
        if kernel.split_reduction is not None:
            step = 1
            for name in kernel.split_reduction.of:
                place = kernel.place.get(f"{name}.part")
                if place is not None:
                    step = max(step, place.loop.get(kernel.split_reduction.over, 1))
                for group in (kernel.online, kernel.merge):
                    if group is not None and f"{name}.part" in group.funcs:
                        step = max(step, group.loop.get(kernel.split_reduction.over, 1))
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
    by_name = {func.name: definition for definition in algorithm.defs for func in definition.funcs}
    parts = with_values(record.parts.value, dict(algorithm.statics))
    part_axes: dict[str, Axis] = {}
    new_axes: list[Axis] = []
    replaced: dict[int, tuple[Def, ...]] = {}
    for name in record.of:
        definition = by_name.get(name)
        if definition is None:
            raise UnknownFunc(
                directive="split_reduction",
                name=name,
                algorithm=algorithm.name,
                near=near(name, by_name),
                at=record.location,
            )
        if id(definition) in replaced:
            continue
        top = definition.top
        if not isinstance(top, Reduce):
            raise SplitNotAssociative(func=name, why="it is not a reduction", at=record.location)
        if isinstance(top.op, Ranking):
            why = "it ranks its points"
            raise SplitNotAssociative(func=name, why=why, at=record.location)
        if isinstance(top.op, Monoid) and not top.op.commutative and len(top.axes) > 1:
            raise SplitNotAssociative(
                func=name, why=f"{top.op.name} is not commutative and runs over several axes", at=record.location
            )
        axis = next((a for a in top.axes if a.name == record.over), None)
        if axis is None:
            raise LoopAxisInvalid(
                func=name,
                axis=record.over,
                why="it does not reduce over it",
                choices=", ".join(a.name for a in top.axes),
                at=record.location,
            )
        part = part_axes.get(axis.name)
        if part is None:
            part = Axis(f"{axis.name}.part", parts)
            part_axes[axis.name] = part
            new_axes.append(part)
        inner, pair = _parts_of(definition, top, axis, part, parts, step)
        new_axes.append(inner)
        replaced[id(definition)] = pair
    members = tuple(definition for definition in algorithm.defs if id(definition) in replaced)
    funcs = [func for definition in members for func in definition.funcs]
    if any(reads_members(definition, funcs, algorithm) for definition in members):
        relaxed = {relax.name for relax in variant.relax if relax.kind is RelaxKind.ROUNDING}
        (axis,) = (a for a in _reduced_axes(members) if a.name == record.over)
        inner = next(a for a in new_axes if a.name == record.over)
        new_axes = [part_axes[axis.name], inner]
        cut = Cut(axis, part_axes[axis.name], inner, _chunk(axis, parts, step), record.location)
        replaced = split_group(algorithm, members, cut, relaxed.__contains__)
    defs: list[Def] = []
    for definition in algorithm.defs:
        defs.extend(replaced.get(id(definition), (definition,)))
    return dataclasses.replace(algorithm, defs=tuple(defs), axes=(*algorithm.axes, *new_axes))


def _chunk(axis: Axis, parts: IntExpr, step: int) -> IntExpr:
    """The points of one part: whole loop steps."""
    return ceildiv(ceildiv(axis.extent, parts), step) * step


def _reduced_axes(definitions: Sequence[Def]) -> list[Axis]:
    found: dict[Axis, None] = {}
    for definition in definitions:
        assert isinstance(definition.top, Reduce)
        found.update(dict.fromkeys(definition.top.axes))
    return list(found)


def _parts_of(
    definition: Def, top: Reduce, axis: Axis, part: Axis, parts: IntExpr, step: int
) -> tuple[Axis, tuple[Def, Def]]:
    chunk = _chunk(axis, parts, step)
    inner = Axis(axis.name, chunk)
    position: Expr = Op(OpName.ADD, (Op(OpName.MUL, (AxisRef(part), DimRef(chunk)), INDEX), AxisRef(inner)), INDEX)
    inside: Expr = Op(OpName.LT, (position, DimRef(axis.extent)), DType.BOOL)
    exprs = tuple(substitute(e, {axis: position}) for e in top.exprs)
    where = (
        inside if top.where is None else Op(OpName.AND, (inside, substitute(top.where, {axis: position})), DType.BOOL)
    )
    axes = (*definition.axes, part)
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
    found = None
    if not isinstance(top.op, Ranking) and is_arg(top.op):  # a piece without points has no position and is no candidate
        found = Op(OpName.GE, (plain_read(partials[1], axes), Const(0, INDEX)), DType.BOOL)
    second = Def(
        definition.funcs,
        definition.axes,
        Reduce(top.op, tuple(plain_read(p, axes) for p in partials), (part,), found),
        definition.location,
    )
    return inner, (first, second)
