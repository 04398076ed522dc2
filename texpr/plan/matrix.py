"""Tile sizes for contractions: a matrix tile, operands staged in shared memory, a pipeline where copies can be
asynchronous.

Levels run from the tile that keeps a matrix unit busy to one that always fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.instructions import WARPGROUP_WARPS, mma_form, warpgroup_form
from texpr.lang.ir import Axis, BoundaryMode, Def, Read, Reduce, Tensor
from texpr.math.expr import BoolExpr, substitute
from texpr.math.prove import is_proved
from texpr.plan.access import fastest_axis, memory_of, vector_of
from texpr.plan.contraction import match_dot, one_sided
from texpr.plan.inline import axes_of, key_of, reads_of
from texpr.plan.ir import Dot, Unit
from texpr.plan.legality import exact_sum
from texpr.plan.monoids import constant_extent
from texpr.plan.partition import Job, is_symbolic, power_of_two
from texpr.plan.tiling import WARPS, Frame, by_tensor, fill, memory_reads, named, names, reduced, weights_of
from texpr.schedule.base import Map
from texpr.schedule.places import Mma, Place
from texpr.schedule.places import Stage as StageRecord
from texpr.schedule.records import Kernel, Order
from texpr.schedule.words import Copy, LoopOf, Memory, MmaOp, OrderKind, Tile

_STEP_BYTES = 64  # of an operand's row in one step: one swizzle period of the shared tile
_WARPGROUP_STEP_BYTES = 128  # the widest swizzle that the instructions of a warpgroup read
_FMA_STEP = 16  # the step where scalar units multiply: operands then sit in registers as they are
_ASYNC_BYTES = 4


@dataclass(frozen=True, slots=True)
class _Level:
    """The tile of a contraction and the depth of its pipeline (0: operands are not staged). ``warpgroups``: multiplied
    by the instructions of four warps together, which read the staged tiles themselves."""

    rows: int
    cols: int
    depth: int
    warpgroups: bool = False


_WARPGROUPS = (_Level(128, 128, 4, True), _Level(64, 128, 4, True))
_MATRIX = (_Level(128, 128, 4), _Level(128, 128, 3), _Level(128, 64, 3))
_MIDDLE = (_Level(64, 64, 3), _Level(64, 64, 2), _Level(64, 64, 1), _Level(32, 32, 1))
_ELEMENTWISE = (_Level(16, 16, 0), _Level(8, 8, 0))
_PLAIN = (_Level(64, 64, 0), _Level(32, 32, 0), *_ELEMENTWISE)


def contractions(job: Job, name: str, frame: Frame) -> Iterator[tuple[Kernel, ...]]:
    """Kernels around one or more contractions."""
    sizes = _matrix_sizes(job, _Level(64, 64, 1), frame)
    dots = [_dot(job, definition, sizes, frame) for definition in job.sides]
    levels: tuple[_Level, ...]
    if exact_sums(job, frame) or any(dot is not None and _needs_finite(dot) for dot in dots):
        # No matrix unit: its sums may saturate, or it may meet an infinity that a guard excludes. Every product is a
        # value of its own then, until the lanes are added up.
        levels = _ELEMENTWISE
    else:
        matrix = len(dots) == 1 and dots[0] is not None and dots[0].unit is Unit.MMA
        grouped = matrix and _has_warpgroup_form(dots[0], frame)
        levels = (
            *(_WARPGROUPS if frame.wide and grouped else ()),
            *(_MATRIX if frame.wide and matrix else ()),
            *_MIDDLE[0 if frame.wide else 2 :],
            *_PLAIN,
        )
    for level in levels:
        yield (_contraction(job, name, level, frame),)


def _has_warpgroup_form(dot: Dot | None, frame: Frame) -> bool:
    return dot is not None and warpgroup_form(dot.a.dtype, dot.b.dtype, frame.target) is not None


def exact_sums(job: Job, frame: Frame) -> list[BoolExpr]:
    """What must hold for the matrix unit's sums to be those of the language, where they may saturate."""
    found: list[BoolExpr] = []
    sizes = _matrix_sizes(job, _Level(64, 64, 1), frame) if job.sides else {}
    for definition in job.sides:
        dot = _dot(job, definition, sizes, frame)
        form = mma_form(dot.a.dtype, dot.b.dtype, frame.target) if dot is not None and dot.unit is Unit.MMA else None
        top = definition.top
        assert isinstance(top, Reduce)
        exact = substitute(exact_sum(top), frame.rooms)
        if form is not None and form.saturates and not is_proved(exact, frame.facts):
            found.append(exact)
    return found


def _needs_finite(dot: Dot) -> bool:
    return any((dot.b if side == "b" else dot.a).dtype.is_float for _, side in one_sided(dot))


def _contraction(job: Job, name: str, level: _Level, frame: Frame) -> Kernel:
    sizes = _matrix_sizes(job, level, frame)
    steps = {definition: _step_axis(job, definition, frame) for definition in job.held}
    place: dict[str, Place] = {}
    stage: dict[str, StageRecord] = {}
    for definition in job.held:
        reader = job.nested.get(definition)
        at = Tile() if reader is None else LoopOf(reader.name, steps[reader].name)
        loops = sorted(reduced([definition]), key=lambda axis: axis is steps[definition])
        place[definition.name] = Place(at=at, loop=named(sizes, loops), mma=_mma(job, definition, sizes, level, frame))
        if level.depth and definition in job.sides:
            stage.update(_operand_stages(job, definition, steps[definition], sizes, level, frame))
    for func in job.writes:
        inner = [axis for axis in job.inner if axis in func.axes]
        if inner:
            place[func.name] = Place(at=Tile(), loop=named(sizes, inner))
    return Kernel(
        name=name,
        writes=names(job.writes),
        grid=named(sizes, job.programs),
        order=_order(job),
        warps=2 * WARPGROUP_WARPS if level.warpgroups else WARPS,
        place=Map.of(place),
        stage=Map.of(stage),
    )


def _order(job: Job) -> Order | None:
    """Bands of row tiles, whose programs share columns in the cache."""
    sides = next(iter(job.sides.values()))
    symbolic = [axis for axis in sides.rows if constant_extent(axis) is None and axis in job.programs]
    if not symbolic or not is_symbolic(sides.cols):
        return None
    return Order(kind=OrderKind.GROUP, axes=(symbolic[-1].name,), by=8)


def _mma(job: Job, definition: Def, sizes: Mapping[Axis, int], level: _Level, frame: Frame) -> Mma | None:
    """The matrix instruction where one fits, with its rows and columns; None lets the plan choose what is left."""
    dot = _dot(job, definition, sizes, frame) if definition in job.sides and level.depth else None
    if dot is None or dot.unit is not Unit.MMA:
        return None
    op = MmaOp.WGMMA if level.warpgroups else MmaOp.MMA
    return Mma(op=op, rows=tuple(a.name for a in dot.rows), cols=tuple(a.name for a in dot.cols))


def _dot(job: Job, definition: Def, sizes: Mapping[Axis, int], frame: Frame) -> Dot | None:
    top = definition.top
    assert isinstance(top, Reduce)
    exprs = job.expressions[definition]
    summands, where = (exprs, None) if top.where is None else (exprs[:-1], exprs[-1])
    found = match_dot(top, summands, where, sizes, definition.axes, Mma(), frame.target)
    return found if isinstance(found, Dot) else None


def _matrix_sizes(job: Job, level: _Level, frame: Frame) -> dict[Axis, int]:
    """Rows and columns of a level spread over their axes, last axis first; one step of the contiguous reduction axis;
    one of everything else."""
    sizes = {axis: 1 for axis in (*job.programs, *job.inner, *reduced(job.held))}
    for definition, sides in job.sides.items():
        for axes, budget in ((sides.rows, level.rows), (sides.cols, level.cols)):
            several = len([axis for axis in axes if constant_extent(axis) is None]) > 1
            caps = {axes[-1]: 16} if several else {}
            sizes.update(fill(list(reversed(axes)), budget, caps))
        step = _step_axis(job, definition, frame)
        sizes.update({axis: 1 for axis in sides.batch})
        widest = max((r.dtype.bits // 8 for r in memory_reads(job) if step in axes_of(r)), default=4)
        row = _WARPGROUP_STEP_BYTES if level.warpgroups else _STEP_BYTES
        sizes[step] = min(max(_FMA_STEP, row // max(1, widest)), power_of_two(step))
        dot = _dot(job, definition, sizes, frame)
        if dot is None or dot.unit is Unit.FMA:
            sizes[step] = min(_FMA_STEP, sizes[step])
    return sizes


def _step_axis(job: Job, definition: Def, frame: Frame) -> Axis:
    """The reduction axis that a step of the loop covers: one along which an operand is contiguous, else the longest."""
    top = definition.top
    assert isinstance(top, Reduce)
    weights = weights_of(job, frame.guard)
    return max(top.axes, key=lambda axis: (power_of_two(axis) >= 16, weights.get(axis, 0.0), top.axes.index(axis)))


def _operand_stages(
    job: Job, definition: Def, step: Axis, sizes: Mapping[Axis, int], level: _Level, frame: Frame
) -> dict[str, StageRecord]:
    """Shared-memory tiles of the operands: tensors read along the step and another axis of the tile, at one place."""
    top = definition.top
    assert isinstance(top, Reduce)
    stages: dict[str, StageRecord] = {}
    others = [exprs for other, exprs in job.expressions.items() if other is not definition]
    elsewhere = {read.source for exprs in others for expr in exprs for read in reads_of(expr)}
    for tensor, reads in by_tensor([r for e in job.expressions[definition] for r in reads_of(e)]).items():
        moving = [axis for axis in axes_of(reads[0]) if sizes.get(axis, 1) > 1]
        single = len({key_of(read) for read in reads}) == 1
        if tensor in elsewhere or tensor.optional or not single or len(moving) < 2 or step not in moving:
            continue
        wide_enough = frame.wide and _run_bytes(tensor, reads[0], sizes, frame) >= _ASYNC_BYTES
        zero = reads[0].boundary.mode is not BoundaryMode.FILL or reads[0].boundary.fill == 0
        at = LoopOf(definition.name, step.name)
        if wide_enough and zero and level.depth > 1:
            stages[tensor.name] = StageRecord(at=at, where=Memory.SHARED, copy=Copy.ASYNC, depth=level.depth)
        else:
            stages[tensor.name] = StageRecord(at=at, where=Memory.SHARED)
    return stages


def _run_bytes(tensor: Tensor, read: Read, sizes: Mapping[Axis, int], frame: Frame) -> int:
    memory = memory_of(tensor, frame.guard)
    moving = sorted((axis for axis in axes_of(read) if sizes.get(axis, 1) > 1), key=lambda a: a.name)
    fast = fastest_axis(memory, read, moving)
    if fast is None or tensor.dtype is DType.BOOL:
        return 0
    vector = vector_of(memory, read.indices, read.boundary.mode, fast, sizes[fast], frame.facts)
    return vector.elements * memory.dtype.bits // 8
