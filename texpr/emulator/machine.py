"""Execution: binds a kernel to a batch of programs and moves its lanes from block to block.

While all lanes of the batch stand at the same block they run as one (no masks, no bookkeeping per lane); that is
the common case.  Once they part, each lane has its own position, and a scheduling policy picks who runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from texpr.emulator.barriers import BARRIERS, Barriers
from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import bind, guard_lanes, operand_error, source
from texpr.emulator.conflicts import GlobalConflicts
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.isa_control import bind_cluster_wait
from texpr.emulator.isa_mbarrier import bind_wait
from texpr.emulator.isa_warp import missing_lanes
from texpr.emulator.kernel import Block, Operation, Transfer
from texpr.emulator.livelock import Watch
from texpr.emulator.ptx import Instruction
from texpr.emulator.recorder import Recorder
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, ControlKind, Mask, Modifiers, Step
from texpr.emulator.scheduler import NOT_RUNNING, Lockstep, Policy, RandomBursts
from texpr.emulator.statistics import LaunchStats
from texpr.emulator.types import TYPES
from texpr.emulator.watch import with_other_side

_LAST_STEPS = 500
"""Before the step limit, in which it is noted who reads what."""

_BACKWARDS = 100
"""How many steps threads that are ahead in their warps run when the others wait for them."""


@dataclass(frozen=True, slots=True)
class BoundBlock:
    """A block's steps, and what moves its lanes on. `size` counts instructions."""

    steps: tuple[Step, ...]
    leave: Step
    size: int


@dataclass(slots=True)
class Counts:
    """What a run executed: blocks, and instructions times the lanes that executed them."""

    blocks: int = 0
    thread_instructions: int = 0


class Machine:
    """One kernel, ready to run batches of `batch.shape.programs` programs."""

    def __init__(self, batch: Batch, step_limit: int, seed: int | None) -> None:
        self.batch = batch
        self.step_limit = step_limit
        self.counts = Counts()
        self.recorder = Recorder(batch) if batch.shape.counters else None
        self._barriers = Barriers(batch)
        self._seed = seed
        self._seeded = seed is not None
        self._policy = self._new_policy(0)
        self._position = np.zeros(batch.lanes, np.int32)
        self._running = np.zeros(batch.lanes, np.bool_)
        self._together: int | None = None
        """The block at which all lanes of the batch stand, running; None if they do not."""
        self._uses_clock = any("%clock" in i.text or "%globaltimer" in i.text for i in self._instructions())
        self._blocks = [self._bind_block(block) for block in batch.kernel.blocks]
        batch.shared_space.begin_checks()
        if batch.shared_space.shadow is not None:
            batch.shared_space.shadow.followers.append(self._barriers.forget_epochs)
        self._watch = Watch(batch)
        self._backwards_until = 0
        self._collective = np.array([_is_collective(block) for block in batch.kernel.blocks])

    def _instructions(self) -> list[Instruction]:
        return [operation.instruction for operation in self.batch.kernel.operations]

    def run(
        self,
        programs: Sequence[int],
        grid: tuple[int, int, int],
        params: bytes,
        conflicts: GlobalConflicts | None,
    ) -> LaunchStats:
        """Run programs (as many as the batch holds) to their end; raises `Fault`, with both sides of a race.

        What happens does not depend on what ran here before.
        """
        try:
            return self._run(programs, grid, params, conflicts)
        except Fault as fault:
            again = partial(self._run, programs, grid, params, None)
            raise with_other_side(fault, self.batch, again) from None

    def _run(
        self,
        programs: Sequence[int],
        grid: tuple[int, int, int],
        params: bytes,
        conflicts: GlobalConflicts | None,
    ) -> LaunchStats:
        batch = self.batch
        batch.start(programs, grid, params, conflicts)
        self._policy = self._new_policy(programs[0])
        self._barriers.clear()
        self.counts = Counts()
        self._position.fill(0)
        self._running[:] = batch.alive
        self._together = 0 if batch.all_alive and not self._seeded else None
        self._watch.begin(self.counts.blocks)
        with np.errstate(all="ignore"):
            while True:
                if self.counts.blocks >= self._watch.due:
                    self._look()
                if self.counts.blocks >= self.step_limit - _LAST_STEPS:
                    self._watch.observe_end()
                    if self.counts.blocks >= self.step_limit:
                        raise self._stuck(FaultKind.STEP_LIMIT, f"no end after {self.step_limit} blocks")
                if self._together is not None:
                    self._execute(self._blocks[self._together], None, batch.lanes)
                    continue
                if not self._running.any():
                    if not batch.alive.any():
                        self._finish()
                        counts = self.counts
                        return LaunchStats(
                            len(programs), counts.blocks, counts.thread_instructions, dict(batch.warnings)
                        )
                    if batch.bulk.deliver_some():
                        self._wake()
                        continue
                    raise self._stuck(FaultKind.DEADLOCK, "no thread can run on")
                self._execute_some()

    def _new_policy(self, program: int) -> Policy:
        """Each run begins anew, so that what a seed does depends on nothing that ran before."""
        if self._seed is None:
            return Lockstep(self.batch.warps)
        self.batch.bulk.random = np.random.default_rng([self._seed, program])
        return RandomBursts(self.batch.warps, self.batch.warps_per_program, [self._seed, program])

    def _finish(self) -> None:
        """All programs have ended: nothing asynchronous may be left."""
        self.batch.copies.finish()
        self.batch.bulk.finish()
        self.batch.wgmma.finish()
        self.batch.mbarriers.finish()

    def _execute(self, block: BoundBlock, mask: Mask, lanes: int) -> None:
        for step in block.steps:
            step(mask)
        self.counts.blocks += 1
        self.counts.thread_instructions += lanes * block.size
        if self._uses_clock:
            self.batch.specials.tick(block.size)
        block.leave(mask)
        self._watch.ran(mask)
        if self.batch.bulk.loads or self.batch.bulk.stores:
            self.batch.bulk.tick()
        self._wake()

    def _wake(self) -> None:
        """Threads whose mbarrier or cluster barrier has completed run on."""
        woken = self.batch.woken
        if woken is not None:
            self._running |= woken
            self.batch.woken = None

    def _execute_some(self) -> None:
        """Run one block for the warps that the policy picks."""
        fronts = np.where(self._running, self._position, NOT_RUNNING).reshape(-1, WARP).min(axis=1)
        if self.counts.blocks < self._backwards_until:
            ahead = np.where(self._can_run_alone(self._running), self._position, -1).reshape(-1, WARP).max(axis=1)
            waited_for = (ahead > fronts) & (fronts != NOT_RUNNING)
            if waited_for.any():
                fronts = np.where(waited_for, ahead, NOT_RUNNING).astype(np.int32)
            else:
                self._backwards_until = 0
        number, warps = self._policy.choose(fronts)
        mask = self._running & (self._position == number) & np.repeat(warps, WARP)
        count = int(np.count_nonzero(mask))
        if count == self.batch.lanes and not self._seeded:
            self._together = number
            return
        self._execute(self._blocks[number], mask, count)

    def _look(self) -> None:
        """Faults if all threads repeat themselves for ever."""
        if self._together is None:
            position, running = self._position, self._running
        else:
            position, running = np.full(self.batch.lanes, self._together), self.batch.alive
        if not self._watch.look(self.counts.blocks, position, running):
            return
        if self._together is None and self._watch.starving(self._can_run_alone(running)):
            self._backwards_until = self.counts.blocks + _BACKWARDS
            self._watch.stop(self.counts.blocks)
            return
        raise self._stuck(FaultKind.DEADLOCK, "the running threads repeat themselves for ever: no memory changes")

    def _can_run_alone(self, lanes: Array) -> Array:
        """Those of the lanes that stand at blocks in which they need no other lane of their warp."""
        return np.asarray(lanes & ~self._collective[self._position])

    # Binding ------------------------------------------------------------------------------------------------

    def _bind_block(self, block: Block) -> BoundBlock:
        self.batch.fragments.begin_block()
        steps = tuple(bind(self.batch, operation) for operation in block.operations)
        size = len(steps) + (block.transfer.operation is not None)
        operation = block.transfer.operation
        leave = self._jump(block.transfer.following)
        if operation is not None:
            try:
                leave = self.batch.wgmma.watch_transfer(operation, self._bind_transfer(operation, block.transfer))
            except OperandError as error:
                raise operand_error(self.batch, operation.instruction, str(error)) from None
        if self.recorder is not None:
            steps, leave = self.recorder.watch(block, steps, leave)
        return BoundBlock(steps, leave, size)

    def _bind_transfer(self, operation: Operation, transfer: Transfer) -> Step:
        match transfer.kind:
            case ControlKind.BRANCH:
                return self._branch(operation, transfer)
            case ControlKind.TABLE_BRANCH:
                return self._table_branch(operation, transfer)
            case ControlKind.EXIT:
                return self._exit(operation, transfer)
            case ControlKind.MBARRIER_WAIT:
                return self._wait(operation, transfer, bind_wait)
            case ControlKind.CLUSTER_WAIT:
                return self._wait(operation, transfer, bind_cluster_wait)
            case _:
                return self._barrier(operation, transfer)

    def _jump(self, target: int) -> Step:
        def leave(mask: Mask) -> None:
            if mask is None:
                self._together = target
            else:
                self._position[mask] = target

        return leave

    def _branch(self, operation: Operation, transfer: Transfer) -> Step:
        target, following = transfer.targets[0], transfer.following
        if operation.instruction.guard is None:
            return self._jump(target)
        passing = guard_lanes(self.batch, operation.instruction.guard)

        def leave(mask: Mask) -> None:
            chosen = passing(mask)
            if mask is not None:
                self._position[mask] = np.where(chosen, target, following)[mask]
                return
            count = np.count_nonzero(chosen)
            if count == self.batch.lanes:
                self._together = target
            elif count == 0:
                self._together = following
            else:
                self._scatter(np.where(chosen, target, following))

        return leave

    def _scatter(self, positions: Array) -> None:
        """All lanes leave the common block, each for its own."""
        self._together = None
        self._running.fill(True)
        self._position[:] = positions

    def _table_branch(self, operation: Operation, transfer: Transfer) -> Step:
        index = source(self.batch, operation.instruction.operands[0], TYPES["u32"])
        targets = np.array(transfer.targets)

        def leave(mask: Mask) -> None:
            chosen = np.broadcast_to(index, self.batch.lanes)
            beyond = chosen >= len(targets) if mask is None else (chosen >= len(targets)) & mask
            if beyond.any():
                lane = int(np.flatnonzero(beyond)[0])
                message = f"branch index {int(chosen[lane])} is beyond the {len(targets)} targets"
                raise self.batch.fault(FaultKind.TRAP, message, operation.instruction, lane)
            positions = targets[np.minimum(chosen, len(targets) - 1)]
            if mask is None:
                self._scatter(positions)
            else:
                self._position[mask] = positions[mask]

        return leave

    def _exit(self, operation: Operation, transfer: Transfer) -> Step:
        guard = operation.instruction.guard
        passing = guard_lanes(self.batch, guard) if guard is not None else None

        def leave(mask: Mask) -> None:
            here = np.ones(self.batch.lanes, np.bool_) if mask is None else mask
            ends = here if passing is None else passing(mask).copy()
            if mask is None:
                self._scatter(np.zeros(self.batch.lanes, np.int32))
            self._position[here] = transfer.following
            self._running &= ~ends
            self.batch.alive &= ~ends
            self.batch.all_alive = bool(self.batch.alive.all())
            self.batch.shared_space.visits.ended(ends, operation.instruction)
            self._release()
            self.batch.cluster_barriers.complete()

        return leave

    def _barrier(self, operation: Operation, transfer: Transfer) -> Step:
        instruction = operation.instruction
        batch = self.batch
        sources = [source(batch, operand, TYPES["u32"]) for operand in instruction.operands]
        guard = instruction.guard
        passing: Callable[[Mask], Array] | None = guard_lanes(batch, guard) if guard is not None else None
        blocks = operation.modifiers.get("action") != "arrive"
        aligned = instruction.opcode.startswith("bar.") or "aligned" in operation.modifiers
        constant = all(not values.ndim for values in sources)
        threads = batch.shape.threads
        everyone = constant and int(sources[0]) < BARRIERS and (len(sources) == 1 or int(sources[1]) == threads)
        whole = everyone and blocks and passing is None

        def leave(mask: Mask) -> None:
            if mask is None and whole:
                batch.shared_space.barrier()
                self._together = transfer.following
                return
            here = np.ones(batch.lanes, np.bool_) if mask is None else mask
            arriving = here if passing is None else passing(mask).copy()
            if mask is None:
                self._scatter(np.full(batch.lanes, transfer.following))
            self._position[here] = transfer.following
            if not arriving.any():
                return
            if aligned and (missing := missing_lanes(arriving, batch.alive)) is not None:
                lane, who = missing
                raise batch.fault(FaultKind.DIVERGENT_BARRIER, f"part of a warp arrives: {who}", instruction, lane)
            for number, count, group in _groups(sources, arriving):
                self._barriers.arrive(instruction, group, number, count, blocks)
            if blocks:
                self._running &= ~arriving
            self._release()

        return leave

    def _wait(
        self,
        operation: Operation,
        transfer: Transfer,
        bind_wait: Callable[[Batch, Instruction, Modifiers], Callable[[Mask], Array]],
    ) -> Step:
        """Threads sleep until an mbarrier's phase or the cluster's barrier is complete, so that they never poll."""
        batch = self.batch
        guard = operation.instruction.guard
        passing = guard_lanes(batch, guard) if guard is not None else None
        wait = bind_wait(batch, operation.instruction, operation.modifiers)

        def leave(mask: Mask) -> None:
            asking = mask if passing is None else passing(mask).copy()
            sleeping = wait(asking)
            if mask is None and not len(sleeping):
                self._together = transfer.following
                return
            if mask is None:
                self._scatter(np.full(batch.lanes, transfer.following))
            else:
                self._position[mask] = transfer.following
            self._running[sleeping] = False

        return leave

    def _release(self) -> None:
        released = self._barriers.complete()
        if released is not None:
            self._running |= released

    def _stuck(self, kind: FaultKind, message: str) -> Exception:
        """A deadlock or an endless loop: say where everybody is."""
        waiting, poll = self._watch.describe()
        waits = (self._barriers, self.batch.mbarriers, self.batch.cluster_barriers)
        notes = [line for one in waits for line in one.describe()] + waiting
        if poll is not None:
            return self.batch.fault(kind, message, poll.site, int(poll.lanes[0]), notes=tuple(notes))
        if self._together is not None:
            positions, lane = [self._together], 0
        else:
            lanes = np.flatnonzero(self._running if self._running.any() else self.batch.alive)
            lane = int(lanes[0])
            positions = [int(position) for position in np.unique(self._position[self._running])]
        for position in positions[:4]:
            block = self.batch.kernel.blocks[position]
            operation = block.operations[0] if block.operations else block.transfer.operation
            if operation is not None:
                notes.append(f"threads run at {operation.instruction.where}: {operation.instruction.text}")
        position = positions[0] if positions else int(self._position[lane])
        block = self.batch.kernel.blocks[position]
        where = block.operations[0] if block.operations else block.transfer.operation
        assert where is not None
        waits_at = next((site for one in waits if (site := one.waiting_site()) is not None), None)
        blamed = waits_at if kind is FaultKind.DEADLOCK and waits_at is not None else where.instruction
        return self.batch.fault(kind, message, blamed, lane, notes=tuple(notes))


def _is_collective(block: Block) -> bool:
    """Whether instructions of a block need the whole warp."""
    operations = [*block.operations, *([block.transfer.operation] if block.transfer.operation else [])]
    words = {word for operation in operations for word in operation.instruction.opcode.split(".")}
    return bool(words & {"sync", "bar", "barrier", "aligned"})


def _groups(sources: list[Array], mask: Array) -> list[tuple[int, int, Array]]:
    """Lanes by (barrier number, thread count); the count is 0 where none is given."""
    number = np.broadcast_to(sources[0], mask.shape).astype(np.int64)
    count = np.broadcast_to(sources[1], mask.shape).astype(np.int64) if len(sources) > 1 else np.zeros_like(number)
    keys = number * (1 << 32) + count
    return [(int(key) >> 32, int(key) & 0xFFFF_FFFF, mask & (keys == key)) for key in np.unique(keys[mask])]
