"""Mbarrier objects: phases, arrivals, expected bytes, and the threads that wait for them.

An mbarrier is a 64-bit word of shared memory.  What it means is kept here; the word itself holds a pattern that
changes with the state, so that a program that overwrites it is found out.  A phase is complete when no arrivals are
pending and as many bytes have arrived as were expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.async_checks import ACTORS
from texpr.emulator.checks import WARP
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

LARGEST_COUNT = (1 << 20) - 1
LARGEST_BYTES = (1 << 20) - 1
_BYTES = 8


@dataclass(slots=True)
class Mbarrier:
    """One object. `place` is its byte in `shared_space.data`; `missing` counts arrivals, `bytes` expected data.

    `published` collects what those who arrived in this phase had done, `completed` is that of the last whole phase.
    `announced` are warps of the batch that have fenced its initialisation; one of them has arrived at the cluster's
    barrier since if it is `carried`.
    `waited` is the number of phases that somebody knows to be complete; `load` the last copy that reports here, and
    the phase it belongs to; `armed` the last instruction that announced bytes.
    """

    site: Instruction
    slot: int
    place: int
    actor: int
    count: int
    missing: int
    maker: tuple[int, int]
    visible: bool = False
    announced: set[int] = field(default_factory=set)
    carried: bool = False
    bytes: int = 0
    phase: int = 0
    waited: int = 0
    load: tuple[Instruction, int, int] | None = None
    armed: Instruction | None = None
    published: NDArray[np.int32] | None = None
    completed: NDArray[np.int32] | None = None

    @property
    def word(self) -> int:
        """What the object looks like in memory."""
        return (self.phase & 1) << 63 | self.missing << 40 | self.count << 20 | 0xB1


@dataclass(frozen=True, slots=True)
class _Waiter:
    """Lanes that wait for phase number `phase` of an mbarrier; `result` is where they want to read true."""

    site: Instruction
    barrier: Mbarrier
    phase: int
    lanes: Array
    result: Array | None
    acquires: bool


@dataclass(frozen=True, slots=True)
class Promise:
    """Lanes that will arrive at an mbarrier when their copies have landed, and what they had done when they said so."""

    site: Instruction
    barrier: Mbarrier
    lanes: Array
    published: NDArray[np.int32] | None


class Mbarriers:
    """The mbarriers of all programs of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._objects: dict[int, Mbarrier] = {}
        self._waiters: list[_Waiter] = []
        self._made = np.zeros(batch.shape.programs, np.int64)

    def clear(self) -> None:
        self._objects.clear()
        self._waiters.clear()
        self._made.fill(0)

    # Life ---------------------------------------------------------------------------------------------------

    def init(self, site: Instruction, lanes: Array, addresses: Array, counts: Array) -> None:
        space = self.batch.shared_space
        zeros = np.zeros((len(lanes), 1), np.uint64)
        space.store(site, lanes, addresses, zeros)
        for lane, place, count in zip(lanes, space.places(lanes, addresses), counts, strict=True):
            if not 1 <= count <= LARGEST_COUNT:
                raise self._misuse(site, int(lane), f"an mbarrier for {int(count)} arrivals (1 to {LARGEST_COUNT})")
            if int(place) in self._objects:
                known = self._objects[int(place)]
                raise self._misuse(site, int(lane), f"{self._name(known)} is already initialised (invalidate it first)")
            slot = int(self.batch.slot[lane])
            shadow = space.async_shadow
            maker = shadow.position(int(lane)) if shadow is not None else (0, 0)
            actor = int(self._made[slot]) % ACTORS + ACTORS * int(self.batch.rank[slot])
            self._made[slot] += 1
            made = Mbarrier(site, slot, int(place), actor, int(count), int(count), maker)
            if shadow is not None:
                made.published = np.zeros(shadow.columns(), np.int32)
            self._objects[made.place] = made
            self._show(made)

    def invalidate(self, site: Instruction, lanes: Array, addresses: Array) -> None:
        for barrier, group in self._groups(site, lanes, addresses):
            lane = int(group[0])
            if any(waiter.barrier is barrier for waiter in self._waiters):
                raise self._misuse(site, lane, f"{self._name(barrier)} is invalidated while threads wait for it")
            if barrier.bytes:
                message = f"{self._name(barrier)} is invalidated while {barrier.bytes} bytes are expected"
                raise self._misuse(site, lane, message)
            if any(load.barrier is barrier for load in self.batch.bulk.loads):
                raise self._misuse(site, lane, f"{self._name(barrier)} is invalidated while copies are to report to it")
            self._require_waited(barrier)
            del self._objects[barrier.place]
        space = self.batch.shared_space
        space.store(site, lanes, addresses, np.zeros((len(lanes), 1), np.uint64))
        space.forget(lanes, addresses, _BYTES)

    def forget_epochs(self, past: int) -> None:
        """Epochs are counted anew; the first `past` of them are over for everybody."""
        shadow = self.batch.shared_space.shadow
        assert shadow is not None
        for barrier in self._objects.values():
            warp, epoch = barrier.maker
            barrier.maker = (warp, max(epoch - past, 0))
            for kept in (barrier.published, barrier.completed):
                shadow.forget_published(kept, past)

    def make_visible(self, lanes: Array) -> None:
        """fence.mbarrier_init: initialisations that the fencing threads know of become visible to the async proxy."""
        shadow = self.batch.shared_space.async_shadow
        one_per_warp = {int(lane) // WARP: int(lane) for lane in lanes}
        for barrier in self._objects.values():
            for warp, lane in one_per_warp.items():
                if self.batch.slot[lane] == barrier.slot and (shadow is None or shadow.knows(lane, *barrier.maker)):
                    barrier.visible = True
                    barrier.announced.add(warp)

    def carry(self, lanes: Array) -> None:
        """Lanes arrive at the barrier of their cluster: what they have announced will be known behind it."""
        if self.batch.shape.cluster_size > 1:
            warps = set((lanes // WARP).tolist())
            for barrier in self._objects.values():
                barrier.carried |= not barrier.announced.isdisjoint(warps)

    def settle(self, programs: NDArray[np.bool_]) -> None:
        """The barriers of these programs' clusters are complete."""
        space = self.batch.shared_space
        for barrier in self._objects.values():
            if barrier.carried and programs[barrier.slot] and space.shadow is not None:
                space.shadow.settle(np.array([barrier.place]), _BYTES)
            barrier.carried &= not programs[barrier.slot]

    def finish(self) -> None:
        """All programs have ended: every copy must have been waited for, and no bytes be expected."""
        for barrier in self._objects.values():
            self._require_waited(barrier)
            if barrier.bytes and self.batch.shape.checks:
                message = f"the program ends while {self._name(barrier)} {_expects(barrier)}"
                lane = barrier.slot * self.batch.shape.padded_threads
                raise self.batch.fault(
                    FaultKind.ASYNC_NOT_WAITED, message, barrier.armed or barrier.site, lane, buffer="shared memory"
                )

    # Arrivals -----------------------------------------------------------------------------------------------

    def arrive(
        self,
        site: Instruction,
        lanes: Array,
        addresses: Array,
        counts: Array,
        expected: Array | None = None,
        *,
        releases: bool = True,
        drops: bool = False,
        cluster: bool = False,
    ) -> Array:
        """Arrivals, `counts` per lane (0: only `expected` bytes are announced); gives the phases arrived in.

        `cluster`: addresses may belong to other programs of the cluster.
        """
        phases = np.zeros(len(lanes), np.uint64)
        position = {int(lane): number for number, lane in enumerate(lanes)}
        for barrier, group in self._groups(site, lanes, addresses, cluster=cluster):
            where = np.array([position[int(lane)] for lane in group])
            phases[where] = barrier.phase
            if expected is not None:
                barrier.armed = site
                self._count_bytes(site, int(group[0]), barrier, int(expected[where].astype(np.int64).sum()))
            coming = int(counts[where].astype(np.int64).sum())
            if coming > barrier.missing:
                message = f"{coming} arrivals at {self._name(barrier)}, whose phase misses {barrier.missing}"
                raise self._misuse(site, int(group[0]), message)
            if releases and barrier.published is not None and coming:
                published = self._publish(group)
                if published is not None:
                    np.maximum(barrier.published, published, out=barrier.published)
            barrier.missing -= coming
            if drops:
                barrier.count -= coming
            self._step(barrier)
        return phases

    def find(self, site: Instruction, lane: int, address: Array, *, cluster: bool = False) -> Mbarrier:
        """The mbarrier at an address (an array of one), for a copy that one lane issues."""
        barrier, _ = next(self._groups(site, np.array([lane]), address, cluster=cluster, reports=True))
        shadow = self.batch.shared_space.async_shadow
        if shadow is not None and not barrier.visible and not shadow.is_fenced(lane, *barrier.maker):
            message = (
                f"a copy reports to {self._name(barrier)}, whose initialisation ({barrier.site.where}) is not "
                "fenced for the async proxy"
            )
            raise self.batch.fault(FaultKind.MISSING_FENCE, message, site, lane, buffer="shared memory")
        return barrier

    def reported(self, site: Instruction, lanes: Array, addresses: Array) -> Iterator[tuple[Mbarrier, Array]]:
        """The mbarriers of the cluster to which asynchronous stores of these lanes report, each with positions of its
        lanes in the list."""
        for barrier, group in self._groups(site, lanes, addresses, cluster=True, reports=True):
            yield barrier, np.searchsorted(lanes, group)

    def complete_bytes(self, site: Instruction, lane: int, barrier: Mbarrier, size: int) -> None:
        """Data has arrived."""
        self._count_bytes(site, lane, barrier, -size)
        self._step(barrier)

    def _count_bytes(self, site: Instruction, lane: int, barrier: Mbarrier, change: int) -> None:
        barrier.bytes += change
        if abs(barrier.bytes) > LARGEST_BYTES:
            message = f"{self._name(barrier)} counts {barrier.bytes} bytes (at most {LARGEST_BYTES} either way)"
            raise self._misuse(site, lane, message)

    def promise(self, site: Instruction, lanes: Array, addresses: Array, *, extra: bool) -> list[Promise]:
        """Lanes will arrive later, in the name of copies of theirs; `extra`: those arrivals are not counted yet.

        What the lanes have done by now is published when they arrive.
        """
        promises: list[Promise] = []
        for barrier, group in self._groups(site, lanes, addresses):
            if extra:
                if barrier.missing + len(group) > LARGEST_COUNT:
                    raise self._misuse(site, int(group[0]), f"{self._name(barrier)} counts more than {LARGEST_COUNT}")
                barrier.missing += len(group)
                self._show(barrier)
            promises.append(Promise(site, barrier, group, self._publish(group)))
        return promises

    def keep(self, promise: Promise) -> None:
        """The arrivals of a promise."""
        barrier = promise.barrier
        if len(promise.lanes) > barrier.missing:
            message = f"{len(promise.lanes)} arrivals at {self._name(barrier)}, whose phase misses {barrier.missing}"
            raise self._misuse(promise.site, int(promise.lanes[0]), message)
        if barrier.published is not None and promise.published is not None:
            np.maximum(barrier.published, promise.published, out=barrier.published)
        barrier.missing -= len(promise.lanes)
        self._step(barrier)

    def _step(self, barrier: Mbarrier) -> None:
        if self.batch.observer is not None:
            self.batch.observer.changed = True
        if barrier.missing == 0 and barrier.bytes == 0:
            self._complete(barrier)
        self._show(barrier)

    def _complete(self, barrier: Mbarrier) -> None:
        barrier.phase += 1
        barrier.missing = barrier.count
        shadow = self.batch.shared_space.async_shadow
        if shadow is not None and barrier.published is not None:
            shadow.finish_phase(barrier.slot, barrier.actor, barrier.published)
            barrier.completed = barrier.published.copy()
        still: list[_Waiter] = []
        for waiter in self._waiters:
            if waiter.barrier is barrier and waiter.phase < barrier.phase:
                self._pass(waiter.barrier, waiter.lanes, waiter.result, waiter.acquires)
                self.batch.wake(self._mask(waiter.lanes))
            else:
                still.append(waiter)
        self._waiters = still

    # Waiting ------------------------------------------------------------------------------------------------

    def wait(
        self,
        site: Instruction,
        lanes: Array,
        addresses: Array,
        wanted: Array,
        result: Array | None,
        *,
        parity: bool,
        blocks: bool,
        acquires: bool = True,
    ) -> Array:
        """Which of the lanes must go on waiting; the others read true in `result`.

        `wanted` is a phase's parity, or the phase number that an arrival gave.  Lanes that may not block read false.
        """
        still: list[Array] = []
        number = wanted.astype(np.int64)
        for value in np.unique(number):
            some = number == value
            for barrier, group in self._groups(site, lanes[some], addresses[some]):
                phase = barrier.phase
                if parity:
                    phase -= int(phase & 1 != int(value) & 1)
                else:
                    phase = int(value)
                if phase < barrier.phase:
                    self._pass(barrier, group, result, acquires)
                elif blocks:
                    self._waiters.append(_Waiter(site, barrier, phase, group, result, acquires))
                    still.append(group)
                else:
                    self.batch.bulk.polled(barrier)
                    if result is not None:
                        result[group] = False
        return np.concatenate(still) if still else np.empty(0, np.int64)

    def awaited(self) -> set[int]:
        """The places of mbarriers that somebody waits for."""
        return {waiter.barrier.place for waiter in self._waiters}

    def _pass(self, barrier: Mbarrier, lanes: Array, result: Array | None, acquires: bool) -> None:
        if result is not None:
            result[lanes] = True
        barrier.waited = barrier.phase
        shadow = self.batch.shared_space.async_shadow
        if shadow is not None and acquires and barrier.completed is not None:
            shadow.acquire_row(self._mask(lanes), barrier.slot, barrier.completed)

    # Details ------------------------------------------------------------------------------------------------

    def _groups(
        self, site: Instruction, lanes: Array, addresses: Array, *, cluster: bool = False, reports: bool = False
    ) -> Iterator[tuple[Mbarrier, Array]]:
        """The lanes by the mbarrier they address."""
        space = self.batch.shared_space
        places = space.mbarrier_places(site, lanes, addresses, cluster=cluster, reports=reports)
        missing = np.flatnonzero([int(place) not in self._objects for place in places])
        if len(missing):
            message = f"there is no mbarrier at {space.name_of(int(places[missing[0]]))} (initialise it)"
            raise self._misuse(site, int(lanes[missing[0]]), message)
        space.touch_mbarriers(site, lanes, places)
        for place in np.unique(places):
            group = lanes[places == place]
            barrier = self._objects[int(place)]
            if int(space.data[barrier.place : barrier.place + _BYTES].view(np.uint64)[0]) != barrier.word:
                raise self._misuse(site, int(group[0]), f"{self._name(barrier)} has been overwritten")
            yield barrier, group

    def _publish(self, lanes: Array) -> NDArray[np.int32] | None:
        """What lanes, of one program or of several of a cluster, have done."""
        published = self.batch.shared_space.release(self._mask(lanes))
        if published is None:
            return None
        slots = np.unique(self.batch.slot[lanes])
        return np.asarray(published[slots[0]] if len(slots) == 1 else published[slots].max(axis=0))

    def _show(self, barrier: Mbarrier) -> None:
        word = np.array([barrier.word], np.uint64)
        self.batch.shared_space.data[barrier.place : barrier.place + _BYTES] = word.view(np.uint8)

    def _mask(self, lanes: Array) -> Array:
        mask = np.zeros(self.batch.lanes, np.bool_)
        mask[lanes] = True
        return mask

    def _name(self, barrier: Mbarrier) -> str:
        return f"the mbarrier at {self.batch.shared_space.name_of(barrier.place)}"

    def _misuse(self, site: Instruction, lane: int, message: str) -> Fault:
        return self.batch.fault(FaultKind.BARRIER_MISUSE, message, site, lane, buffer="shared memory")

    def _require_waited(self, barrier: Mbarrier) -> None:
        if barrier.load is None or not self.batch.shape.checks:
            return
        site, lane, phase = barrier.load
        if barrier.waited <= phase:
            message = f"nobody has waited for {self._name(barrier)}, to which this copy reports"
            raise self.batch.fault(FaultKind.ASYNC_NOT_WAITED, message, site, lane, buffer="shared memory")

    def waiting_site(self) -> Instruction | None:
        """An instruction at which somebody waits for an mbarrier."""
        return self._waiters[0].site if self._waiters else None

    def describe(self) -> list[str]:
        """One line per mbarrier that somebody waits for: what its phase misses."""
        lines: list[str] = []
        for waiter in self._waiters[:4]:
            barrier = waiter.barrier
            lane = int(waiter.lanes[0])
            threads = self.batch.thread[waiter.lanes]
            first, last = int(threads.min()), int(threads.max())
            who = f"thread {first}" if first == last else f"threads {first} to {last}"
            missing = f"{barrier.missing} of {barrier.count} arrivals "
            missing += (
                f"are missing, and it {_expects(barrier)},"
                if barrier.bytes < 0
                else f"and {barrier.bytes} bytes are missing"
            )
            lines.append(
                f"program {self.batch.program_index(lane)}: {who} wait at {waiter.site.where} for phase "
                f"{waiter.phase} of {self._name(barrier)} (initialised at {barrier.site.where}): {missing} in "
                f"phase {barrier.phase}"
            )
        return lines


def _expects(barrier: Mbarrier) -> str:
    if barrier.bytes < 0:
        return f"has got {-barrier.bytes} bytes more than it was told to expect"
    return f"expects {barrier.bytes} more bytes"
