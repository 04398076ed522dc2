"""Algorithm expressions as tile expressions: ``evaluate(expr, scope, space)`` is the value at every point of ``space``.

Reads become loads with inferred masks, reads of staged tiles and windows, or references to values already held. Every
mask exists because some fact is missing: an index that is proved in bounds has none.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from texpr.dtypes import DType
from texpr.lang.index import to_int_expr
from texpr.lang.ir import (
    INDEX,
    Axis,
    AxisRef,
    BoundaryMode,
    Cast,
    Const,
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
)
from texpr.math.bounds import Facts
from texpr.math.expr import IntExpr, const, denominators, ge, lt, sym
from texpr.math.prove import Proved, prove
from texpr.plan.access import Memory, memory_of, vector_of
from texpr.plan.copies import count_of
from texpr.plan.errors import NotLowered
from texpr.plan.inline import axes_of, bounded_index, key_of, spans
from texpr.plan.ir import Scratch
from texpr.tile import build as tile
from texpr.tile.declarations import Space
from texpr.tile.index import index_tile, largest, split, width_of, with_origins
from texpr.tile.ir import Argument, Literal, Load, SharedGather, SharedTile
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.layouts import Blocked, Linear, blocked, ctas_of
from texpr.tile.scope import Scope, StagedTile, StagedWindow


@dataclass(slots=True)
class Needs:
    """What the expressions of a kernel turned out to need from the launcher: collected while lowering, read when it
    is done. ``evaluated`` remembers values of expressions (which share parts) by scope and space."""

    tensors: dict[str, Tensor | Func | Scratch] = field(default_factory=dict)
    scalars: dict[str, DType] = field(default_factory=dict)
    present: dict[str, str] = field(default_factory=dict)
    limits: dict[IntExpr, None] = field(default_factory=dict)
    warps: int = 4
    evaluated: dict[tuple[int, int, Space | None], tuple[Expr, Scope, TileExpr]] = field(default_factory=dict)


def evaluate(expr: Expr, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    """The value of ``expr`` at every point of ``space`` (None: no axis has lanes)."""
    key = (id(expr), id(scope), space)
    if key not in needs.evaluated:
        needs.evaluated[key] = expr, scope, _evaluate(expr, scope, space, needs)
    return needs.evaluated[key][2]


def _evaluate(expr: Expr, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    match expr:
        case Const(value=value, dtype=dtype):
            return tile.uniform(int(value)) if dtype is INDEX and isinstance(value, int) else tile.literal(value, dtype)
        case _ if expr.dtype is INDEX and (known := to_int_expr(expr)) is not None:
            return _index(known, scope, space)
        case ScalarRef(scalar=scalar):
            needs.scalars[scalar.name] = scalar.dtype
            return Argument(scalar.name, scalar.dtype)
        case Present(tensor=tensor):
            return _present(tensor, needs)
        case Read():
            return _read(expr, scope, space, needs)
        case Op(name=name, args=args, dtype=dtype):
            values = [evaluate(arg, scope, space, needs) for arg in args]
            if any(arg.dtype is INDEX for arg in args):
                values = [
                    tile.cast(v, DType.I64) if v.dtype.is_int and v.dtype.bits < 64 and dtype is INDEX else v
                    for v in values
                ]
            return tile.op(name, *values, dtype=None if dtype is INDEX else dtype)
        case Select(condition=condition, then=then, otherwise=otherwise):
            parts = [evaluate(part, scope, space, needs) for part in (condition, then, otherwise)]
            return tile.choose(*parts)
        case Cast(value=value, dtype=dtype):
            return tile.cast(evaluate(value, scope, space, needs), dtype)
        case Ptx(template=template, constraints=constraints, args=args, dtypes=dtypes, component=component):
            values = [evaluate(arg, scope, space, needs) for arg in args]
            return tile.inline_ptx(template, constraints, values, dtypes, component)
        case Var():
            return scope.variables[expr]
        case AxisRef() | DimRef():
            raise AssertionError(f"{expr} is an index")


def _index(value: IntExpr, scope: Scope, space: Space | None) -> TileExpr:
    if space is None:
        at = with_origins(value, scope)
        return tile.uniform(at, width_of(at))
    return index_tile(value, scope, space)


def _present(tensor: Tensor, needs: Needs) -> TileExpr:
    name = f"has_{tensor.name}"
    needs.present[name] = tensor.name
    return tile.op(OpName.NE, tile.uniform(sym(name)), tile.uniform(0))


# ---- liveness -------------------------------------------------------------------------------------------------------


def live(axes: Sequence[Axis], scope: Scope, space: Space | None) -> list[TileExpr]:
    """The conditions under which the lanes of ``axes`` lie inside their extents; proved ones are left out."""
    found = []
    for axis in axes:
        at = scope.axes.get(axis)
        if at is not None and not at.full and at.tile is None:
            stop = axis.extent if at.stop is None else at.stop
            found.append(tile.op(OpName.LT, _index(sym(axis.name), scope, space), tile.uniform(stop)))
    return found


def axis_facts(axes: Sequence[Axis], facts: Facts) -> Facts:
    """The facts together with every axis lying inside its extent."""
    for axis in axes:
        facts = facts.assume(ge(sym(axis.name), 0), lt(sym(axis.name), axis.extent))
    return facts


# ---- reads ----------------------------------------------------------------------------------------------------------


def _read(read: Read, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    source = read.source
    held = scope.held(read)
    if held is not None:
        return _moved(held, space, source.name)
    staged = scope.tiles.get(key_of(read))
    if staged is not None and staged.kept is not None:
        axis, size = staged.kept
        step = scope.axes[axis].origin // size if axis in scope.axes and scope.axes[axis].size == size else None
        staged = None if step is None else dataclasses.replace(staged, stage=step, kept=None)
    if staged is not None:
        return _staged(read, staged, scope, space)
    window = scope.windows.get(source)
    if window is not None:
        return _from_window(read, window, scope, space, needs)
    return with_absent(load(read, scope, space, needs), read, scope, space, needs)


def _moved(value: TileExpr, space: Space | None, name: str) -> TileExpr:
    """A value that is held, brought to the space of its reader."""
    if space is None or value.space is None:
        return value
    for d in value.dims:
        if value.space.dims[d] not in space.dims:
            raise _fused(name, value.space.dims[d].axes)
    return tile.relayout(value, space)


def _fused(name: str, axes: Sequence[tuple[str, int]]) -> NotLowered:
    """Rows (or columns) of a contraction are one dim of its layout, however many axes they are."""
    own = ", ".join(axis for axis, _ in axes)
    return NotLowered(
        what=f"{name}, held over {own} alone, beside a contraction whose rows or columns join {own} with other axes",
        instead=f"an earlier kernel for {name}, or tiles of 1 along the other axes",
    )


def with_absent(value: TileExpr, read: Read, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    """``value`` where the optional tensor was given, else what the read says instead (a masked load yields 0)."""
    if not isinstance(read.source, Tensor) or not read.source.optional or read.absent is None:
        return value
    if isinstance(read.absent, Const) and read.absent.value == 0 and read.boundary.fill == 0:
        return value
    return tile.choose(_present(read.source, needs), value, evaluate(read.absent, scope, space, needs))


def _staged(read: Read, staged: StagedTile, scope: Scope, space: Space | None) -> TileExpr:
    staged = staged.covering(scope.axes)
    if staged.value is not None:
        return _moved(staged.value, space, read.source.name)
    first = dict(staged.part)
    sizes = {axis.name: (scope.axes[axis].start - first.get(axis, 0), scope.axes[axis].size) for axis in axes_of(read)}
    slices = []
    wanted: list[tuple[tuple[str, int], ...]] = []
    for d, dim in enumerate(staged.dims):
        axes = tuple((name, sizes[name][1]) for name, _ in dim.axes)
        wanted.append(axes)
        if axes != dim.axes:
            (name, width), inner = axes[0], axes[1:]
            if inner != dim.axes[1:] or width == 1:
                raise NotLowered(
                    what=f"by: along {', '.join(name for name, _ in dim.axes)} of what reads the stage of "
                    f"{read.source.name}, whose buffer cannot be cut there",
                    instead=f"no stage of {read.source.name}, or larger pieces",
                )
            points = math.prod(size for _, size in inner)
            slices.append((d, sizes[name][0] * points, width * points))
    assert space is not None
    present = [dim.axes for dim in space.dims]
    for axes in wanted:
        if axes not in present:
            raise _fused(read.source.name, axes)
    positions = [present.index(axes) for axes in wanted]
    dims = tuple(sorted(positions))
    order = tuple(positions.index(d) for d in dims)
    stage = staged.stage if not staged.copies else tile_of_copy(staged.stage, staged.copies, scope)
    return SharedTile(staged.buffer, stage, order, read.dtype, space, dims, tuple(slices))


def tile_of_copy(stage: IntExpr | None, copies: Sequence[Axis], scope: Scope) -> IntExpr:
    """Which tile of a buffer the current point of unrolled axes has in a stage: those of one stage lie together."""
    position: IntExpr = const(0)
    for axis in copies:
        position = position * axis.extent + scope.axes[axis].origin
    return position if stage is None else stage * count_of(copies) + position


def _from_window(read: Read, staged: StagedWindow, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    """The flat position of a read inside its window: index minus the window's first index, row-major."""
    flat: TileExpr = tile.uniform(0)
    stride = 1
    for index, lo, extent in reversed(list(zip(read.indices, staged.window.lo, staged.window.extent, strict=True))):
        known = to_int_expr(index)
        if known is not None and split(known, scope) is not None:
            local = _index_minus(known, lo, scope, space)
        else:
            local = tile.op(OpName.SUB, evaluate(index, scope, space, needs), tile.uniform(lo))
        flat = tile.op(OpName.ADD, flat, tile.op(OpName.MUL, local, tile.uniform(stride)))
        stride *= extent
    return SharedGather(staged.buffer, staged.stage, flat, read.dtype, flat.space, flat.dims)


def _index_minus(value: IntExpr, lo: IntExpr, scope: Scope, space: Space | None) -> TileExpr:
    parts = split(value, scope)
    assert parts is not None
    result = tile.uniform(parts.base - lo)
    for name, coefficient in parts.lanes:
        assert space is not None
        result = tile.op(OpName.ADD, result, tile.op(OpName.MUL, tile.lane(space, name), tile.uniform(coefficient)))
    return result


def load(read: Read, scope: Scope, space: Space | None, needs: Needs) -> TileExpr:
    """A global load of ``read`` at every point of ``space``, in a coalesced layout of its own if ``space`` is none."""
    own = _coalesced(read, scope, space, needs)
    if own is not None and own != space:
        assert space is not None
        return tile.relayout(masked_load(read, scope, own, needs), space)
    return masked_load(read, scope, space, needs)


def _coalesced(read: Read, scope: Scope, space: Space | None, needs: Needs) -> Space | None:
    """The space to load in: ``space`` itself unless the read spans a whole matrix-unit layout, which loads scalars."""
    if space is None or isinstance(space.layout, Blocked | Linear):
        return space
    moving = [axis for axis in axes_of(read) if scope.lanes(axis) > 1]
    dims = {space.dim_of(axis.name) for axis in moving}
    if len(dims) < len(space.dims):
        return space
    return store_space(
        memory_of(read.source, scope.guard), read.indices, read.boundary.mode, moving, scope, space, needs.warps
    )


def store_space(
    memory: Memory,
    indices: Sequence[Expr],
    boundary: BoundaryMode,
    axes: Sequence[Axis],
    scope: Scope,
    space: Space,
    warps: int,
) -> Space:
    """The coalesced space over the dims of ``space`` for an access to ``memory``."""
    best, contiguous = 1, len(space.dims) - 1
    for axis in axes:
        vector = vector_of(memory, indices, boundary, axis, scope.axes[axis].size, scope.facts).elements
        dim = space.dim_of(axis.name)
        if vector > best and dim is not None and space.dims[dim].axes[-1][0] == axis.name:
            best, contiguous = vector, dim
    layout = blocked(space.shape, warps, best, contiguous, ctas=ctas_of(space.layout))
    return Space(f"{memory.name}_tile", space.dims, layout)


def masked_load(read: Read, scope: Scope, space: Space | None, needs: Needs) -> Load:
    """The load itself: base, offsets and the mask of what is not proved in bounds."""
    memory = memory_of(read.source, scope.guard)
    needs.tensors[memory.name] = read.source
    mode = read.boundary.mode
    indices = [
        index if mode is BoundaryMode.NONE or _spans(index, extent, scope) else bounded_index(index, extent, mode)
        for index, extent in zip(read.indices, memory.shape, strict=True)
    ]
    base, offset = address(memory, indices, scope, space, needs)
    conditions: list[TileExpr] = []
    assumed = scope
    if mode not in (BoundaryMode.NONE, BoundaryMode.FILL):  # there is no nearest element of an empty tensor
        for extent in memory.shape:
            if not is_nonempty(extent, assumed):
                conditions.append(tile.op(OpName.GT, tile.uniform(extent, width_of(extent)), tile.uniform(0)))
                assumed = assumed.with_fact(ge(extent, 1))
    conditions += bounds_conditions(memory, indices, assumed, space, needs)
    if isinstance(read.source, Tensor) and read.source.optional:
        conditions.append(_present(read.source, needs))
    if scope.only is not None and (scope.only_along is None or axes_of(read) & scope.only_along):
        conditions.append(scope.only)
    mask = tile.both(conditions)
    fill = read.boundary.fill if mode is BoundaryMode.FILL else 0
    other = Literal(float(fill) if memory.dtype.is_float else fill, memory.dtype)
    where, dims = tile.join([e for e in (offset, mask) if e is not None])
    return Load(memory.name, base, offset, mask, other, memory.dtype, where, dims)


def is_nonempty(extent: IntExpr, scope: Scope) -> bool:
    """Whether an extent is at least 1: then a clamped index is an index."""
    return isinstance(prove(ge(extent, 1), scope.facts), Proved)


def _spans(index: Expr, extent: IntExpr, scope: Scope) -> bool:
    return isinstance(index, AxisRef) and spans(index, extent) and scope.is_inside(index.axis)


def address(
    memory: Memory, indices: Sequence[Expr], scope: Scope, space: Space | None, needs: Needs
) -> tuple[IntExpr, TileExpr | None]:
    """Split the element offset into a uniform 64-bit base and a per-element rest.

    Affine parts are 32-bit: their largest value becomes a limit that the launcher checks. Rows found through data are
    64-bit.
    """
    base: IntExpr = const(0)
    offset: TileExpr | None = None
    reach: IntExpr = const(0)
    coefficients: dict[str, IntExpr] = {}
    for index, stride in zip(indices, memory.strides, strict=True):
        known = to_int_expr(index)
        parts = None if known is None else split(known, scope)
        if parts is not None:
            base = base + parts.base * stride
            for name, coefficient in parts.lanes:
                coefficients[name] = coefficients.get(name, const(0)) + coefficient * stride
            reach = reach + largest(parts, scope) * stride
            continue
        value = evaluate(index, scope, space, needs)
        if stride != const(1):
            value = tile.op(OpName.MUL, tile.cast(value, DType.I64), tile.uniform(stride, width_of(stride)))
        offset = value if offset is None else tile.op(OpName.ADD, offset, value)
    affine = None if space is None else _lane_offset(coefficients, scope, space)
    if affine is not None:
        offset = affine if offset is None else tile.op(OpName.ADD, offset, affine)
    if reach != const(0):
        needs.limits[reach] = None
    return base, offset


def _lane_offset(coefficients: dict[str, IntExpr], scope: Scope, space: Space) -> TileExpr | None:
    """``sum(coefficient * lane)``; axes fused into one dim whose strides nest are addressed by the dim's position."""
    result: TileExpr | None = None
    for d, dim in enumerate(space.dims):
        own = [(name, size) for name, size in dim.axes if name in coefficients]
        terms: list[TileExpr] = []
        nested = len(own) == len(dim.axes) and all(
            coefficients[outer] == coefficients[inner] * size
            for (outer, _), (inner, size) in itertools.pairwise(own)
        )
        if own and nested:
            terms.append(_scaled(tile.position(space, d), coefficients[own[-1][0]]))
        else:
            terms += [_scaled(tile.lane(space, name), coefficients[name]) for name, _ in own]
        for term in terms:
            result = term if result is None else tile.op(OpName.ADD, result, term)
    return result


def _scaled(lane: TileExpr, coefficient: IntExpr) -> TileExpr:
    return tile.op(OpName.MUL, lane, tile.uniform(coefficient, DType.I32))


def bounds_conditions(
    memory: Memory, indices: Sequence[Expr], scope: Scope, space: Space | None, needs: Needs
) -> list[TileExpr]:
    """What must hold for every index to lie inside its dim: live lanes where that is enough, else comparisons."""
    conditions: list[TileExpr] = []
    relying: dict[Axis, None] = {}
    for index, extent in zip(indices, memory.shape, strict=True):
        axes = sorted(axes_of(index), key=lambda a: a.name)
        known = to_int_expr(index)
        if known is not None:
            inside = [axis for axis in axes if axis in scope.axes and scope.is_inside(axis)]
            begun = scope.facts.assume(*(ge(sym(axis.name), 0) for axis in inside))  # holds for dead lanes as well
            facts = axis_facts(inside, scope.facts)
            low, high = (isinstance(prove(goal, facts), Proved) for goal in (ge(known, 0), lt(known, extent)))
            proved = [goal for goal, holds in ((ge(known, 0), low), (lt(known, extent), high)) if holds]
            for denominator in denominators(known):  # proofs take for granted that nothing divides by zero
                if isinstance(prove(ge(denominator, 1), facts), Proved):
                    proved.append(ge(denominator, 1))
                else:
                    conditions.append(tile.op(OpName.GE, _index(denominator, scope, space), tile.uniform(1)))
            if not all(isinstance(prove(goal, begun), Proved) for goal in proved):
                relying.update(dict.fromkeys(axes))
            if low and high:
                continue
            value = _index(known, scope, space)
        else:
            value, low, high = evaluate(index, scope, space, needs), False, False
        if not low:
            conditions.append(tile.op(OpName.GE, value, tile.uniform(0)))
        if not high:
            conditions.append(tile.op(OpName.LT, value, tile.uniform(extent, width_of(extent))))
    return [*live(list(relying), scope, space), *conditions]


def distinct_conditions(
    memory: Memory, indices: Sequence[Expr], axes: Sequence[Axis], scope: Scope, space: Space | None
) -> list[TileExpr]:
    """What keeps dead lanes from storing where a live lane does. An axis that was split in two has lanes beyond the
    inner extent whose index is that of a later point; where an index in bounds implies a live lane there is nothing to
    add."""
    known = [(to_int_expr(index), extent) for index, extent in zip(indices, memory.shape, strict=True)]
    inside = scope.facts.assume(*(lt(value, extent) for value, extent in known if value is not None))
    doubtful = []
    for axis in axes:
        others = axis_facts([other for other in axes if other is not axis], inside).assume(ge(sym(axis.name), 0))
        ends_early = axis in scope.axes and scope.axes[axis].stop is not None
        if ends_early or not isinstance(prove(lt(sym(axis.name), axis.extent), others), Proved):
            doubtful.append(axis)
    return live(doubtful, scope, space)
