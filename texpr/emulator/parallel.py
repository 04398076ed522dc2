"""The batches of a launch, one after the other or in several processes: with the same result either way.

Programs of one launch are meant to be independent, but a wrong kernel's need not be, and the checks must see what
happens then.  So parallel execution is speculative.  Workers run consecutive batches on copies of the memory and
record what they read and wrote.  If all of them end without a fault and none touched what another one wrote, they
have done exactly what one process would have done, warnings and statistics included, and their writes are made real.
Otherwise all they did is dropped, and the batches run in this process, in order: that run decides which fault there
is, and what memory holds afterwards.  A kernel whose programs touched each other's memory is not tried again.

Kernels whose programs communicate by design (atomics and strong accesses in global memory) or look at the clock run
in one process from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

from texpr.emulator.footprint import Changes, Footprint, apply, collide
from texpr.emulator.kernel import Kernel, Operation
from texpr.emulator.memory import GlobalMemory
from texpr.emulator.ordering import ordering_of
from texpr.emulator.statistics import LaunchStats
from texpr.emulator.workers import CannotForkError, run_in_children

FORK_SECONDS = 0.05
FORK_SECONDS_PER_BYTE = 7e-9
"""What running in several processes costs: forking, and per byte of writable buffers, copying the pages that are
touched, noting who touched them, and merging.  (Measured with buffers used in full; taken for all that exist.)"""

WIDE = 2048
"""Lanes of a batch below which an instruction takes about the same time however few they are."""

_LOOP_TURNS = 16
"""How often a loop is taken to turn as long as nothing is known."""

_SECONDS = {"mma": 60e-6, "wgmma": 300e-6, "cp": 30e-6, "ldmatrix": 30e-6, "ld": 15e-6, "st": 15e-6}
_USUAL_SECONDS = 2.5e-6
"""What an instruction takes for `WIDE` lanes, roughly, by the first word of its opcode."""


@dataclass(slots=True)
class Nature:
    """What is known about how the programs of a kernel concern each other.

    `independent`: nothing in the code lets them communicate.  `collided`: they have touched each other's memory.
    `seconds`: what `WIDE` lanes may take, before anything has run.
    """

    independent: bool
    seconds: float
    collided: bool = False


def run_batches(
    run: Callable[[Sequence[Sequence[int]]], LaunchStats],
    batches: Sequence[Sequence[int]],
    memory: GlobalMemory,
    workers: int,
    nature: Nature,
    lanes: int,
) -> LaunchStats:
    """Run all batches of a launch, of `lanes` lanes each; `run` runs some of them in this process.

    `nature` takes note if programs of different workers touched each other's memory.  Raises what `run` raises.
    """
    if workers < 2 or len(batches) < 2 or nature.collided or not nature.independent:
        return run(batches)
    done = LaunchStats.nothing()
    left = batches
    if not _is_worth_it(nature.seconds * max(lanes, WIDE) / WIDE * len(left), memory):
        # Loops may make it worth while yet: see what the first batch takes.
        start = perf_counter()
        done, left = run(left[:1]), left[1:]
        if len(left) < 2 or not _is_worth_it((perf_counter() - start) * len(left), memory):
            return done + run(left)
    tasks = [_task(run, share, memory) for share in _shares(left, workers)]
    try:
        parts = run_in_children(tasks)
    except CannotForkError:
        return done + run(left)
    if parts is None or collide([changes for changes, _ in parts]):
        done += run(left)
        # No fault when they run in order: it came from running apart.
        nature.collided = True
        return done
    for changes, stats in parts:
        apply(memory, changes)
        done = done + stats
    return done


def _is_worth_it(seconds: float, memory: GlobalMemory) -> bool:
    """Whether work of so many seconds in one process gains enough from a second one."""
    buffers = sum(allocation.size for allocation in memory.live() if not allocation.read_only)
    return seconds / 2 > 2 * (FORK_SECONDS + FORK_SECONDS_PER_BYTE * buffers)


def _shares(batches: Sequence[Sequence[int]], workers: int) -> list[Sequence[Sequence[int]]]:
    """Consecutive batches for each worker, evenly."""
    count = min(workers, len(batches))
    bounds = [len(batches) * number // count for number in range(count + 1)]
    return [batches[start:end] for start, end in pairwise(bounds)]


def _task(
    run: Callable[[Sequence[Sequence[int]]], LaunchStats], share: Sequence[Sequence[int]], memory: GlobalMemory
) -> Callable[[], tuple[Changes, LaunchStats]]:
    """What a worker does, in its own copy of everything."""

    def work() -> tuple[Changes, LaunchStats]:
        footprint = memory.footprint = Footprint()
        stats = run(share)
        return footprint.changes(memory), stats

    return work


def nature_of(kernel: Kernel) -> Nature:
    """What the kernel's code tells."""
    communicates = any(_communicates(operation) or _reads_clock(operation) for operation in kernel.operations)
    return Nature(not communicates, _guess_seconds(kernel))


def _communicates(operation: Operation) -> bool:
    """With programs of other clusters: those of one cluster are in one batch."""
    words = operation.instruction.opcode.split(".")
    local = {"shared", "shared::cta", "shared::cluster", "local", "param", "const"} & set(words)
    match words[0]:
        case "atom" | "red" | "multimem":
            return not local
        case "ld" | "st":
            return not local and ordering_of(words).strong
        case "fence" | "membar":
            return not {"proxy", "cta", "cluster", "mbarrier_init"} & set(words)
        case "cp":
            return words[1] == "reduce" and "global" in words
        case _:
            return False


def _reads_clock(operation: Operation) -> bool:
    text = operation.instruction.text
    return "%clock" in text or "%globaltimer" in text


def _guess_seconds(kernel: Kernel) -> float:
    """Every block once, and the blocks of a loop several times."""
    turns = [1] * len(kernel.blocks)
    for number, block in enumerate(kernel.blocks):
        for target in (*block.transfer.targets, block.transfer.following):
            if 0 <= target <= number:
                turns[target : number + 1] = [_LOOP_TURNS] * (number + 1 - target)
    seconds = 0.0
    for block, times in zip(kernel.blocks, turns, strict=True):
        heads = [operation.instruction.opcode.split(".", 1)[0] for operation in block.operations]
        seconds += times * sum(_SECONDS.get(head, _USUAL_SECONDS) for head in heads)
    return seconds
