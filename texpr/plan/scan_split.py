"""Scans in two passes: an algorithm rewrite. Every tile is reduced, the results are scanned, and every tile is scanned
again from where the tiles before it have come to (Blelloch, Prefix sums and their applications, 1990, section 1.4).

``s = scan of v along i`` in tiles of c becomes, in P = ceildiv(N, c) parts,

    s.part[.., p]  = reduction of v(p * c + i') over i' < c   where p * c + i' < N
    s.carry[.., p] = exclusive scan of s.part along p
    s.local[.., i] = scan of v along i that starts anew at every multiple of c
    s[.., i]       = s.carry[.., i // c] . s.local[.., i]

A scan that starts anew where a condition holds is one of (condition, value) pairs; ``s.reset.part`` and
``s.reset.carry`` are the conditions'. Placed before every other planning step, after split reductions.
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
    Read,
    Reduce,
    ReduceOp,
    Scan,
    Select,
)
from texpr.math.expr import ceildiv, const
from texpr.plan.errors import NoEffect, ScanInTiles, UnknownFunc, near
from texpr.plan.inline import plain_read, substitute
from texpr.plan.monoids import combine, identity, scan_monoid
from texpr.plan.split import split_reductions
from texpr.plan.tile_ops import refuse_steps
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.words import Across


def with_partials(algorithm: Algorithm, variant: Variant) -> Algorithm:
    """``algorithm`` as the kernels of the variant cut it: every split reduction and every scan in two passes."""
    algorithm = split_reductions(algorithm, variant)
    seen: set[str] = set()
    for kernel in variant.kernels:
        for name, record in kernel.scan.items():
            if record.across is Across.TWO_PASS:
                algorithm = _split(algorithm, variant, kernel, name, seen)
    return algorithm


def _split(algorithm: Algorithm, variant: Variant, kernel: Kernel, name: str, seen: set[str]) -> Algorithm:
    record = kernel.scan[name]
    at = record.location or kernel.scan.location_of(name)
    by_name = {func.name: definition for definition in algorithm.defs for func in definition.funcs}
    definition = by_name.get(name)
    if definition is None:
        raise UnknownFunc(
            directive="scan", name=name, algorithm=algorithm.name, near=near(name, by_name), at=at
        )
    names = [func.name for func in definition.funcs]
    if seen & set(names):
        raise NoEffect(directive="scan", name=name, why="another entry cuts it already", at=at)
    seen.update(names)
    scan = definition.top
    if not isinstance(scan, Scan):
        raise NoEffect(directive="scan", name=name, why="it is not a scan", at=at)
    refuse_steps(name, scan, at)
    ((axis_name, size),) = record.by.items()
    if axis_name != scan.axis.name:
        why = f"by names {axis_name}"
        raise ScanInTiles(func=name, axis=scan.axis.name, why=why, at=at, hint=f"by: {{{scan.axis.name}: {size}}}")
    new_axes, defs = _definitions(definition, scan, size)
    _check_kernels(variant, kernel, name, scan, size, defs)
    replaced = [new for old in algorithm.defs for new in (defs if old is definition else (old,))]
    return dataclasses.replace(algorithm, defs=tuple(replaced), axes=(*algorithm.axes, *new_axes))


def _check_kernels(
    variant: Variant, kernel: Kernel, name: str, scan: Scan, size: int, defs: Sequence[Def]
) -> None:
    """The parts and what they come to are written by earlier kernels, and this one has tiles of the parts' size."""
    at = kernel.scan.location_of(name)
    axis = scan.axis.name
    earlier = variant.kernels[: variant.kernels.index(kernel)]
    written = {written for record in earlier for written in record.writes}
    for func in (*defs[0].funcs, *defs[1].funcs):
        if func.name not in written:
            what = "reduces every tile" if func in defs[0].funcs else f"scans along {axis}.part"
            why = f"two_pass needs an earlier kernel that writes {func.name}"
            hint = f"a kernel with writes: [{func.name}], which {what}"
            raise ScanInTiles(func=name, axis=axis, why=why, at=at, hint=hint)
    if kernel.grid.get(axis) != size:
        why = f"two_pass in tiles of {size} needs a grid of them"
        raise ScanInTiles(func=name, axis=axis, why=why, at=at, hint=f"grid: {{{axis}: {size}}}")


def _definitions(definition: Def, scan: Scan, size: int) -> tuple[tuple[Axis, Axis], tuple[Def, ...]]:
    axis = scan.axis
    dtypes = tuple(expr.dtype for expr in scan.exprs)
    op = refuse_steps(definition.name, scan, None)
    exprs = scan.exprs
    stems = [func.name for func in definition.funcs]
    if scan.reset is not None:
        op = scan_monoid(op, dtypes, flagged=True, exclusive=False)
        exprs = (Select(scan.reset, Const(1, DType.I32), Const(0, DType.I32)), *exprs)
        stems = [f"{definition.name}.reset", *stems]
    part, inner = Axis(f"{axis.name}.part", ceildiv(axis.extent, size)), Axis(axis.name, const(size))
    others = tuple(a for a in definition.axes if a is not axis)
    at = definition.location

    def funcs(suffix: str, axes: tuple[Axis, ...]) -> tuple[Func, ...]:
        return tuple(
            Func(f"{stem}.{suffix}", expr.dtype, axes, location=at) for stem, expr in zip(stems, exprs, strict=True)
        )

    position: Expr = _index(OpName.ADD, _index(OpName.MUL, AxisRef(part), Const(size, INDEX)), AxisRef(inner))
    inside = Op(OpName.LT, (position, DimRef(axis.extent)), DType.BOOL)
    summands = tuple(substitute(expr, {axis: position}) for expr in exprs)
    in_order = _turned(op) if scan.reverse else op
    parts = Def(
        funcs("part", (*others, part)), (*others, part), Reduce(in_order, summands, (inner,), inside), at
    )
    reads = tuple(plain_read(func, parts.axes) for func in parts.funcs)
    carries = Def(
        funcs("carry", parts.axes), parts.axes, Scan(op, reads, part, exclusive=True, reverse=scan.reverse), at
    )
    local = Def(
        funcs("local", definition.axes),
        definition.axes,
        Scan(op, exprs, axis, scan.exclusive, scan.reverse, None, size),
        at,
    )
    tile = _index(OpName.FLOORDIV, AxisRef(axis), Const(size, INDEX))
    before = [
        Read(func, tuple(tile if a is part else AxisRef(a) for a in carries.axes)) for func in carries.funcs
    ]
    own = [plain_read(func, definition.axes) for func in local.funcs]
    results = combine(op, before, own)[-len(definition.funcs) :]
    if scan.exclusive and scan.reset is not None:
        nothing = identity(refuse_steps(definition.name, scan, at), dtypes)
        results = tuple(Select(scan.reset, e, result) for e, result in zip(nothing, results, strict=True))
    ends = [
        Def((func,), definition.axes, (result,), at) for func, result in zip(definition.funcs, results, strict=True)
    ]
    return (part, inner), (parts, carries, local, *ends)


def _turned(op: ReduceOp | Monoid) -> ReduceOp | Monoid:
    """The operator whose left operand comes later: in index order it combines as a scan from the last to the first."""
    if isinstance(op, ReduceOp) or op.commutative:
        return op
    return dataclasses.replace(op, left=op.right, right=op.left, name=f"{op.name}_turned")


def _index(name: OpName, *args: Expr) -> Expr:
    return Op(name, args, INDEX)
