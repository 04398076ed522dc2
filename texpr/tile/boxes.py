"""Stages whose arrival is a phase of a barrier: maps of tensors, rings of barriers, and the copies of one step.

Stages of one pipeline that run equally far ahead in equally many tiles form a ring: their boxes of a step, and what
the threads of another role copy for it, complete one phase of one barrier. A ring that is used again, by the next tile
of a persistent program or the next turn of a loop outside, goes on where it was: ``done`` counts the steps before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, Read
from texpr.math.expr import TRUE, BoolExpr, IntExpr, Sym, const, sym
from texpr.plan.access import Memory, memory_of
from texpr.plan.boxes import Box, box_of
from texpr.plan.clusters import shared_along
from texpr.plan.copies import count_of, points_of
from texpr.plan.errors import NotLowered
from texpr.plan.ir import AxisTile, Reading, Stage
from texpr.schedule.words import Copy
from texpr.tile.declarations import Barriers, Buffer, PhysicalDim, TensorMapParam
from texpr.tile.evaluate import tile_of_copy
from texpr.tile.index import split
from texpr.tile.ir import Statement
from texpr.tile.kernel import Block, Kernel, origin, stage_dims
from texpr.tile.layouts import Bases, Nvmma, part_of
from texpr.tile.protocol import WARP_THREADS, Advance, Arrive, CopyTensor, Expect, WaitBarrier
from texpr.tile.scope import AxisValue, Scope


@dataclass(frozen=True, slots=True)
class Ring:
    """Stages whose tiles of a step arrive and are read together: ``depth`` slots, filled ``ahead`` steps before their
    use. ``done`` steps came before step 0. ``empty``: the barriers by which the role that reads them gives slots back
    to the role that fills them; none if it is the same. ``others``: further ones, for boxes that one program of a
    cluster fetches for several, all of which must have read what was in a slot."""

    stages: tuple[Stage, ...]
    full: str
    empty: str
    depth: int
    ahead: int
    done: IntExpr
    others: tuple[str, ...] = ()

    @property
    def vacancies(self) -> tuple[str, ...]:
        """All barriers by which slots are given back."""
        return (self.empty, *self.others) if self.empty else ()

    @property
    def reading(self) -> Reading:
        return self.stages[0].reading

    @property
    def boxes(self) -> tuple[Stage, ...]:
        """The stages that the copy engine fetches."""
        return tuple(stage for stage in self.stages if stage.copy is Copy.TMA)

    @property
    def copied(self) -> tuple[Stage, ...]:
        """The stages that threads of another role copy."""
        return tuple(stage for stage in self.stages if stage.copy is not Copy.TMA)

    def slot(self, step: IntExpr) -> IntExpr:
        return (self.done + step) % self.depth if self.depth > 1 else const(0)

    def phase(self, step: IntExpr) -> IntExpr:
        """The parity of the phase that the copies of a step complete."""
        return (self.done + step) // self.depth % 2


def rings_of(stages: Sequence[Stage], kernel: Kernel, scope: Scope) -> list[Ring]:
    """The rings of a pipeline, or of stages by themselves; the same ones if it is emitted again, for another role or
    for the next part of a loop. Those whose slots come free last are filled last."""
    kinds: dict[tuple[str, int, int, Reading], list[Stage]] = {}
    for stage in stages:
        owner = kernel.plan.role_of(stage)
        distance = stage.ahead if owner is None else 0  # another role runs as far ahead as there are slots
        kind = "" if owner is None else owner.name, stage.depth, distance, stage.reading
        kinds.setdefault(kind, []).append(stage)
    return [
        _ring(tuple(alike), depth, ahead, kernel, scope)
        for (_, depth, ahead, _), alike in sorted(kinds.items(), key=lambda item: item[0][3].lags)
    ]


def _ring(stages: tuple[Stage, ...], depth: int, ahead: int, kernel: Kernel, scope: Scope) -> Ring:
    key = id(stages[0])
    if key not in kernel.rings:
        names = ", ".join(stage.name for stage in stages)
        full, empty = kernel.name("_".join(["full", *(stage.name for stage in stages)])), ""
        others: list[str] = []
        arrivals = _arrivals(stages, kernel)
        kernel.barriers.append(Barriers(full, depth, arrivals, f"{names}: the copies of a step have landed"))
        if kernel.plan.role_of(stages[0]) is not None:
            readers = next(role.readers for role in kernel.plan.roles if role.default)
            empty = kernel.name("_".join(["empty", *(stage.name for stage in stages)]))
            kernel.barriers.append(Barriers(empty, depth, readers, f"{names}: the tiles of a step have been read"))
            for bits in sorted({_shared_bits(stage, kernel) for stage in stages} - {()}):
                alike = [stage.name for stage in stages if _shared_bits(stage, kernel) == bits]
                others.append(kernel.name("_".join(["empty", *alike, "of", "all"])))
                note = f"{', '.join(alike)}: all programs that get the same box have read it"
                kernel.barriers.append(Barriers(others[-1], depth, readers, note, bits))
        done: IntExpr = const(0)
        if scope.repeated:
            done = sym(kernel.name(f"{full}_done"))
            kernel.carried.append(done.name)
        kernel.rings[key] = full, empty, done, tuple(others)
    full, empty, done, known = kernel.rings[key]
    return Ring(stages, full, empty, depth, ahead, done, known)


def _shared_bits(stage: Stage, kernel: Kernel) -> tuple[int, ...]:
    """The bits of programs' numbers that make no difference to what a stage fetches for another role."""
    return kernel.grouping.cluster.bits([axis.name for axis in shared_along(stage, kernel.plan)])


def _arrivals(stages: Sequence[Stage], kernel: Kernel) -> int:
    """What completes a phase of a ring: one arrival for its boxes, one of every thread of the role that copies
    asynchronously, and one for all that the role stores."""
    owner = kernel.plan.role_of(stages[0])
    kinds = {stage.copy for stage in stages}
    assert owner is not None or kinds == {Copy.TMA}, "threads wait for their own copies without barriers"
    return sum(WARP_THREADS * owner.warps if copy is Copy.ASYNC and owner is not None else 1 for copy in kinds)


def fetch_boxes(
    ring: Ring, buffers: Mapping[str, Buffer], step: IntExpr, kernel: Kernel, scope: Scope, block: Block,
    when: BoolExpr = TRUE,
) -> None:  # fmt: skip
    """Have the copy engine start the copies of a step into its slot; ``scope`` is that of the step."""
    slot = ring.slot(step)
    size = sum(_tile_bytes(buffers[stage.name]) * count_of(stage.copies) for stage in ring.boxes)
    if size:
        block.add(Expect(ring.full, slot, size, when))
    for stage in ring.boxes:
        for point in points_of(stage.copies):
            values = zip(stage.copies, point, strict=True)
            at = scope.with_axes({axis: AxisValue(const(value), 1, True) for axis, value in values})
            block.add(_copy(stage, buffers[stage.name], ring, slot, kernel, at, when))


def await_step(ring: Ring, step: IntExpr) -> WaitBarrier:
    """Until the tiles of a step are there."""
    names = ", ".join(stage.name for stage in ring.stages)
    return WaitBarrier(ring.full, ring.slot(step), ring.phase(step), f"{names} of this step")


def await_slot(ring: Ring, step: IntExpr) -> list[WaitBarrier]:
    """Until the role that reads the slot of a step has read what was in it before; at once if nothing was. Whoever
    fetches for several programs waits for all of them."""
    vacant = ((ring.done + step) // ring.depth + 1) % 2
    note = "what was in the slot has been read"
    return [WaitBarrier(barrier, ring.slot(step), vacant, note) for barrier in ring.vacancies]


def give_back(ring: Ring, step: IntExpr, when: BoolExpr = TRUE) -> list[Arrive]:
    """The slot of a step has been read. The step may be negative, but for less than a whole ring, where ``when`` is
    false."""
    return [Arrive(barrier, ring.slot(step + ring.depth), when) for barrier in ring.vacancies]


def go_on(ring: Ring, steps: IntExpr) -> list[Statement]:
    """Count steps as done, if the ring is used again."""
    return [Advance(ring.done.name, steps)] if isinstance(ring.done, Sym) else []


def box_layout(shape: Sequence[int], element_bytes: int, ctas: Bases) -> Nvmma:
    """The layout of a tile that the copy engine writes: swizzled over as much of a row as there is, up to 128 bytes,
    if it has the eight rows over which the pattern repeats."""
    part = part_of(shape, ctas)
    row = part[-1] * element_bytes
    rows = math.prod(part[:-1])
    swizzle = next((size for size in (128, 64, 32) if row % size == 0), 0) if rows >= 8 else 0
    return Nvmma(swizzle, 8 * element_bytes, False, len(shape), ctas)


def _tile_bytes(buffer: Buffer) -> int:
    return buffer.bytes // max(buffer.depth, 1)


def _copy(
    stage: Stage, buffer: Buffer, ring: Ring, slot: IntExpr, kernel: Kernel, scope: Scope, when: BoolExpr
) -> CopyTensor:
    assert isinstance(stage.form, AxisTile), f"{stage.name} is no box"
    scope = scope.at_part(stage.part, stage.form.axes)
    memory = memory_of(stage.source, scope.guard)
    box = stage_box(stage, stage.form, memory, kernel, scope)
    descriptor = tensor_map(memory, box, buffer, kernel)
    held = slot if buffer.depth else None
    tile = tile_of_copy(held, stage.copies, scope) if stage.copies else held
    at = coordinates(stage.form.read, box, scope)
    label = origin(stage.name, stage.schedule)
    multicast = bool(_shared_bits(stage, kernel))
    return CopyTensor(buffer.name, tile, descriptor, at, ring.full, slot, when, label, multicast)


def stage_box(stage: Stage, form: AxisTile, memory: Memory, kernel: Kernel, scope: Scope) -> Box:
    """The box of a stage in the order of its buffer's dims. Raises ``NotLowered`` if that is not one of memory."""
    dims = stage_dims(form, kernel)
    rows = dims[-1].axes
    if len(rows) > 1:
        joined = " and ".join(name for name, _ in rows)
        raise NotLowered(what=f"copy: tma of {stage.name}, whose rows join {joined}", instead="copy: async")
    box = box_of(form.read, in_order(form.axes, dims), memory, scope.facts)
    if isinstance(box, str):
        raise NotLowered(what=f"copy: tma of {stage.name} ({box})", instead="copy: async")
    return box


def in_order(axes: Sequence[tuple[Axis, int]], dims: Sequence[PhysicalDim]) -> list[tuple[Axis, int]]:
    """Axes with their sizes in the order in which the dims of a buffer hold them."""
    known = {axis.name: (axis, size) for axis, size in axes}
    return [known[name] for dim in dims for name, _ in dim.axes]


def tensor_map(memory: Memory, box: Box, buffer: Buffer, kernel: Kernel) -> str:
    """The name of the map of a tensor for boxes in a buffer's layout; one map serves all that are alike."""
    assert isinstance(buffer.layout, Nvmma), f"the copy engine does not know the layout of {buffer.name}"
    ctas = kernel.grouping.cluster.bases([() if dim.axis is None else (dim.axis.name,) for dim in box.dims])
    layout = Nvmma(buffer.layout.swizzle_bytes, buffer.layout.element_bits, False, len(box.dims), ctas)
    shape = tuple(memory.shape[dim.dim] for dim in box.dims)
    strides = tuple(memory.strides[dim.dim] for dim in box.dims[:-1])
    key = (memory.name, box.extents, layout, shape, strides)
    if key not in kernel.maps:
        name = kernel.name(f"{memory.name}_map")
        kernel.maps[key] = TensorMapParam(
            name, memory.name, memory.dtype, box.extents, layout, shape, (*strides, const(1))
        )
    return kernel.maps[key].name


def coordinates(read: Read, box: Box, scope: Scope) -> tuple[IntExpr, ...]:
    """The first element of the box, in the order of its dims."""
    found = []
    for dim in box.dims:
        value = to_int_expr(read.indices[dim.dim])
        parts = None if value is None else split(value, scope)
        assert parts is not None, f"index {dim.dim} of a box is not affine"
        found.append(parts.base)
    return tuple(found)
