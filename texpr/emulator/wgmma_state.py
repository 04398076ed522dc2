"""What is in flight of a batch's wgmma instructions: the shared memory they read, the registers they use.

A wgmma computes at once here; that its result is not there yet for the program is a matter of marks.  Each warp has
groups, as in PTX.  Until the group of a wgmma has been waited for,

- nobody may overwrite the shared memory it reads;
- its accumulators must not be touched, except by further wgmmas and by moves, which take the mark along: compilers
  copy and unpack accumulators so before the wait, and the assembler puts both into one register;
- its A registers must not be written.

So no program without a fault can tell when the products were computed, or when the operands were read.

Before a warp's first wgmma, and before one that uses a register that something else has read or written since, there
must be a `wgmma.fence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.faults import FaultKind
from texpr.emulator.kernel import Operation
from texpr.emulator.ptx import Address, Instruction, Operand, Pair, Register, Vector
from texpr.emulator.rows import Array, Mask, Step

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

_WARP = 32
MULTIPLY = "wgmma.mma_async."


@dataclass(frozen=True, slots=True)
class _Read:
    """Shared memory that a wgmma of one warp reads; `lane` is the warp's first."""

    site: Instruction
    lane: int
    group: int
    granules: Array


class WgmmaState:
    """Groups, pending reads and register marks of a batch. Nothing is recorded without checks."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._committed = np.zeros(batch.warps, np.int32)
        self._reads: list[_Read] = []
        multiplies = [
            operation.instruction
            for operation in batch.kernel.operations
            if operation.instruction.opcode.startswith(MULTIPLY)
        ]
        names = dict.fromkeys(name for site in multiplies for part in matrices(site) for name in registers_of(part))
        moves = [operation for operation in batch.kernel.operations if _is_move(operation)]
        _add_copies(names, [operation.instruction for operation in moves] if names else [])
        self._number = {name: number for number, name in enumerate(names)} if batch.shape.checks else {}
        shape = (len(self._number), batch.warps)
        self._results = np.zeros(shape, np.int32)
        """Per tracked register and warp: 1 + the group of the wgmma whose result it awaits, or 0."""
        self._inputs = np.zeros(shape, np.int32)
        """The same for registers that a wgmma still reads."""
        self._accessed = np.zeros(shape, np.bool_)
        """Whether something else has used the register since the last wgmma.fence."""
        self._fenced = np.zeros(batch.warps, np.bool_)
        """Whether the warp has executed a wgmma.fence."""
        self._flying = False

    def clear(self) -> None:
        self._committed.fill(0)
        self._reads.clear()
        self._results.fill(0)
        self._inputs.fill(0)
        self._accessed.fill(False)
        self._fenced.fill(False)
        self._flying = False

    # The instructions themselves ----------------------------------------------------------------------------

    def fence(self, mask: Mask) -> None:
        warps = self._warps(mask)
        self._accessed[:, warps] = False
        self._fenced[warps] = True

    def issue(self, site: Instruction, mask: Mask, reads: Callable[[], list[tuple[int, Array]]]) -> None:
        """A wgmma begins for the warps of the mask; `reads()` lists the granules of shared memory that it reads, by the
        first lane of each warp.
        """
        warps = self._warps(mask)
        accumulators, sources = ([self._number[n] for n in registers_of(part)] for part in matrices(site))
        used = accumulators + sources
        first = warps[~self._fenced[warps]]
        if len(first):
            message = "no wgmma.fence comes before the first wgmma"
            raise self.batch.fault(FaultKind.MISSING_FENCE, message, site, int(first[0]) * _WARP)
        self._require(site, used, warps, self._accessed, "used since the last wgmma.fence", FaultKind.MISSING_FENCE)
        others = self._tracked(site.operands[2 if sources else 1 :])
        self._require(site, sources + others, warps, self._results, "the result of an earlier wgmma, not waited for")
        group = self._committed + 1
        self._results[_cells(accumulators, warps)] = group[warps]
        if sources:
            self._inputs[_cells(sources, warps)] = group[warps]
        self._flying = True
        shadow = self.batch.shared_space.async_shadow
        if shadow is None:
            return
        for lane, covered in reads():
            shadow.begin_async_read(site, lane, covered)
            self._reads.append(_Read(site, lane, int(self._committed[lane // _WARP]), covered))

    def commit(self, mask: Mask) -> None:
        self._committed[self._warps(mask)] += 1

    def wait(self, mask: Mask, allowed: int) -> None:
        """Warps wait for all their groups but the `allowed` most recent ones."""
        warps = self._warps(mask)
        waits = np.zeros(self.batch.warps, np.bool_)
        waits[warps] = True
        finished = np.where(waits, self._committed - allowed, 0)
        for marks in (self._results, self._inputs):
            marks[(marks > 0) & (marks <= finished)] = 0
        still: list[_Read] = []
        shadow = self.batch.shared_space.async_shadow
        for read in self._reads:
            if read.group < finished[read.lane // _WARP]:
                assert shadow is not None
                shadow.end_async_read(read.lane, read.granules)
            else:
                still.append(read)
        self._reads = still
        self._flying = bool(self._results.any() or self._inputs.any())

    def finish(self) -> None:
        """All programs have ended."""
        if self._reads:
            read = self._reads[0]
            lost = read.group >= self._committed[read.lane // _WARP]
            reason = "it was never committed to a group" if lost else "wait for its group"
            message = f"the program ends while this wgmma may still read its shared memory ({reason})"
            raise self.batch.fault(FaultKind.ASYNC_NOT_WAITED, message, read.site, read.lane, buffer="shared memory")

    # Other instructions -------------------------------------------------------------------------------------

    def watch(self, operation: Operation, step: Step) -> Step:
        """A step that also checks and marks the tracked registers it uses (the step itself if it uses none)."""
        site = operation.instruction
        if not self._number or site.opcode.startswith("wgmma."):
            return step
        outputs = len(operation.row.signature.outputs)
        writes = self._tracked(site.operands[:outputs])
        reads = self._tracked(site.operands[outputs:])
        if not writes and not reads:
            return step
        if _is_move(operation):
            return self._watch_move(site, writes, reads, step)

        def run(mask: Mask) -> None:
            warps = self._warps(mask)
            if self._flying:
                message = "the result of a wgmma that has not been waited for"
                self._require(site, reads + writes, warps, self._results, message)
                self._require(site, writes, warps, self._inputs, "still read by a wgmma that has not been waited for")
            step(mask)
            self._accessed[_cells(reads + writes, warps)] = True

        return run

    def watch_transfer(self, operation: Operation, leave: Step) -> Step:
        """The same for control instructions, which only read registers."""
        site = operation.instruction
        reads = self._tracked(site.operands)
        if not self._number or not reads:
            return leave

        def run(mask: Mask) -> None:
            if self._flying:
                message = "the result of a wgmma that has not been waited for"
                self._require(site, reads, self._warps(mask), self._results, message)
            leave(mask)

        return run

    def _watch_move(self, site: Instruction, writes: list[int], reads: list[int], step: Step) -> Step:
        def run(mask: Mask) -> None:
            warps = self._warps(mask)
            awaited = self._results[_cells(reads, warps)].max(axis=0, initial=0)
            if self._flying:
                known = warps[awaited == 0]
                message = "the result of a wgmma that has not been waited for"
                self._require(site, writes, known, self._results, message)
                self._require(site, writes, warps, self._inputs, "still read by a wgmma that has not been waited for")
            self._results[_cells(writes, warps)] = awaited
            # A copy of an accumulator in flight is the accumulator, for the assembler.
            self._accessed[_cells(reads + writes, warps)] = awaited == 0
            step(mask)

        return run

    def _tracked(self, operands: tuple[Operand, ...]) -> list[int]:
        names = (name for operand in operands for name in registers_of(operand))
        return [self._number[name] for name in names if name in self._number]

    def _warps(self, mask: Mask) -> Array:
        if mask is None:
            return np.arange(self.batch.warps)
        return np.flatnonzero(mask.reshape(-1, _WARP).any(axis=1))

    def _require(
        self,
        site: Instruction,
        numbers: list[int],
        warps: Array,
        marks: Array,
        what: str,
        kind: FaultKind = FaultKind.ACCUMULATOR,
    ) -> None:
        if not numbers:
            return
        found = np.argwhere(marks[_cells(numbers, warps)])
        if len(found):
            register = list(self._number)[numbers[int(found[0][0])]]
            lane = int(warps[int(found[0][1])]) * _WARP
            raise self.batch.fault(kind, f"register {register} is {what}", site, lane)


def _cells(numbers: list[int], warps: Array) -> tuple[Array, Array]:
    """Indices of the marks of some registers in some warps."""
    return np.array(numbers, np.int64)[:, None], warps[None, :]


def _is_move(operation: Operation) -> bool:
    return operation.instruction.opcode.startswith("mov.")


def _add_copies(names: dict[str, None], moves: list[Instruction]) -> None:
    """Add the registers that tracked registers are moved to, directly or by way of others."""
    grows = True
    while grows:
        before = len(names)
        for move in moves:
            if any(name in names for source in move.operands[1:] for name in registers_of(source)):
                names.update(dict.fromkeys(registers_of(move.operands[0])))
        grows = len(names) > before


def matrices(multiply: Instruction) -> tuple[Operand, Operand]:
    """The register lists of D and A of a wgmma; A is an empty list if it lies in shared memory."""
    d, a = multiply.operands[:2]
    return d, a if isinstance(a, Vector) else Vector(())


def registers_of(operand: Operand) -> Iterator[str]:
    """Names of the registers in a list, a pair, an address or a single operand."""
    match operand:
        case Register(name, _):
            yield name
        case Vector(items):
            for item in items:
                yield from registers_of(item)
        case Pair(first, second):
            yield from registers_of(first)
            yield from registers_of(second)
        case Address(base, _, extra):
            for item in (base, *extra):
                yield from registers_of(item)
