"""Counting while a machine runs: hooks around bound blocks, and the totals they keep.

A block's instructions are executed by the same lanes, so lanes are counted once per block; only predicated
instructions and memory accesses have hooks of their own.  Nothing here changes what a kernel does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from texpr.emulator.accesses import Access, Addresses, find_accesses
from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import guard_lanes, per_lane
from texpr.emulator.counters import Channel, Counters, Executed, InstructionCounters, Launched, Site, Traffic
from texpr.emulator.instruction_classes import class_of
from texpr.emulator.kernel import Block, Operation, Transfer
from texpr.emulator.matrix_work import flops_per_warp, operand_bytes
from texpr.emulator.rows import Array, ControlKind, Mask, Step
from texpr.emulator.types import TYPES


class _Visits:
    """How often something was executed: by `whole` batches, and beyond these by warps and threads."""

    __slots__ = ("partial", "threads", "warps", "whole")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.whole = self.warps = self.threads = self.partial = 0


class Recorder:
    """The counters of one machine; they grow until `clear`."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._warp_threads = _per_warp(batch.exists)
        self._visits: dict[int, _Visits] = {}
        self._accesses: dict[int, list[Access]] = {}
        self._splits: dict[int, int] = {}
        self._every: list[_Visits] = []
        operations = batch.kernel.operations
        self._order = sorted(range(len(operations)), key=lambda position: operations[position].instruction.line)
        self._operations = operations
        self._numbers = {id(operation): position for position, operation in enumerate(operations)}

    def clear(self) -> None:
        for visits in self._every:
            visits.clear()
        for accesses in self._accesses.values():
            for access in accesses:
                access.clear()
        self._splits = dict.fromkeys(self._splits, 0)

    # Hooks --------------------------------------------------------------------------------------------------

    def watch(self, block: Block, steps: Sequence[Step], leave: Step) -> tuple[tuple[Step, ...], Step]:
        """The steps of a block and what moves its lanes on, with hooks around them."""
        visits = self._new_visits()
        watched = [
            self._watch_step(operation, step, visits) for operation, step in zip(block.operations, steps, strict=True)
        ]
        moves = block.transfer.operation
        if moves is not None:
            leave = self._watch_transfer(moves, block.transfer, leave, visits)
        return (lambda mask: self._visit(visits, mask), *watched), leave

    def _watch_step(self, operation: Operation, step: Step, of_block: _Visits) -> Step:
        guard = operation.instruction.guard
        position = self._numbers[id(operation)]
        accesses = find_accesses(self._batch, operation)
        self._visits[position] = of_block
        if accesses:
            self._accesses[position] = [access for access, _ in accesses]
        if guard is None:
            return step if not accesses else self._counting_accesses(accesses, step)
        own = self._visits[position] = self._new_visits()
        passing = guard_lanes(self._batch, guard)
        counted = self._counting_accesses(accesses, lambda mask: self._visit(own, mask))
        lanes = self._batch.lanes

        def run(mask: Mask) -> None:
            chosen = passing(mask)
            count = np.count_nonzero(chosen)
            if count == lanes:
                counted(None)
            elif count:
                counted(chosen)
            step(mask)

        return run

    def _counting_accesses(self, accesses: list[tuple[Access, Addresses]], step: Step) -> Step:
        batch = self._batch

        def run(mask: Mask) -> None:
            lanes = batch.active(mask)
            for _, look in accesses:
                look(lanes)
            step(mask)

        return run

    def _watch_transfer(self, operation: Operation, transfer: Transfer, leave: Step, of_block: _Visits) -> Step:
        """Conditional branches and exits are executed by all lanes, other predicated instructions by some."""
        position = self._numbers[id(operation)]
        self._visits[position] = of_block
        guard = operation.instruction.guard
        if transfer.kind is ControlKind.TABLE_BRANCH:
            index = per_lane(self._batch, operation.instruction.operands[0], TYPES["u32"])
            return self._counting_splits(position, lambda mask: _several_values(index, mask), leave)
        if guard is None:
            return leave
        passing = guard_lanes(self._batch, guard)
        if transfer.kind in (ControlKind.BRANCH, ControlKind.EXIT):
            return self._counting_splits(position, lambda mask: _some_but_not_all(passing(mask), mask), leave)
        own = self._visits[position] = self._new_visits()

        def run(mask: Mask) -> None:
            self._visit(own, passing(mask))
            leave(mask)

        return run

    def _counting_splits(self, position: int, splits: Callable[[Mask], int], leave: Step) -> Step:
        self._splits[position] = 0

        def run(mask: Mask) -> None:
            self._splits[position] += splits(mask)
            leave(mask)

        return run

    def _new_visits(self) -> _Visits:
        self._every.append(_Visits())
        return self._every[-1]

    def _visit(self, visits: _Visits, mask: Mask) -> None:
        if mask is None:
            visits.whole += 1
            return
        active = _per_warp(mask)
        visits.warps += int(np.count_nonzero(active))
        visits.threads += int(active.sum())
        visits.partial += int(np.count_nonzero((active > 0) & (active < self._warp_threads)))

    # Totals -------------------------------------------------------------------------------------------------

    def counters(self, programs: int) -> Counters:
        """What has been counted since `clear`, as part of a launch in which this machine ran so many programs."""
        batch = self._batch
        launched = Launched(0, programs, programs * batch.warps_per_program, programs * batch.shape.threads)
        entries = tuple(self._entry(position) for position in self._order)
        return Counters({batch.kernel.name: launched}, entries)

    def _entry(self, position: int) -> InstructionCounters:
        operation, batch = self._operations[position], self._batch
        instruction = operation.instruction
        visits = self._visits[position]
        warps = visits.whole * batch.warps + visits.warps
        executed = Executed(
            warps=warps,
            threads=visits.whole * batch.lanes + visits.threads,
            partial=visits.partial,
            splits=self._splits.get(position, 0),
            flops=warps * flops_per_warp(operation),
        )
        memory: dict[Channel, Traffic] = {}
        for access in self._accesses.get(position, ()):
            if access.traffic.requests:
                memory[access.channel] = memory.get(access.channel, Traffic()) + access.traffic
        for channel, size in operand_bytes(operation).items():
            if warps:
                memory[channel] = Traffic(requests=warps // 4, accesses=32 * warps, bytes=warps // 4 * size)
        site = Site(
            module=batch.module.name,
            kernel=batch.kernel.name,
            position=position,
            line=instruction.line,
            opcode=instruction.opcode,
            text=instruction.text,
            belongs=class_of(instruction.opcode),
            source=instruction.source,
        )
        return InstructionCounters(site, executed, memory)


def _per_warp(lanes: Array) -> Array:
    """How many lanes of each warp are chosen; eight booleans are counted at once."""
    return np.asarray(np.bitwise_count(lanes.view(np.uint64)).reshape(-1, WARP // 8).sum(axis=1, dtype=np.int64))


def _several_values(values: Array, mask: Mask) -> int:
    """Warps whose active lanes have different values."""
    table = values.reshape(-1, WARP).astype(np.int64)
    active = np.ones_like(table, np.bool_) if mask is None else mask.reshape(-1, WARP)
    least = np.where(active, table, np.iinfo(np.int64).max).min(axis=1)
    greatest = np.where(active, table, -1).max(axis=1)
    return int(np.count_nonzero(least < greatest))


def _some_but_not_all(chosen: Array, mask: Mask) -> int:
    """Warps some of whose active lanes are chosen, and some not."""
    some = _per_warp(chosen)
    active = WARP if mask is None else _per_warp(mask)
    return int(np.count_nonzero((some > 0) & (some < active)))
