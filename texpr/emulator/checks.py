"""Detection of shared-memory races, uninitialised reads and unfinished asynchronous copies.

Every *granule* (the smallest piece of shared memory that one access of the kernel covers) remembers who wrote it
last and, per warp, who read it last.  Each warp has a vector clock: component v of warp w's clock says up to
which *epoch* of warp v everything is ordered before what w does next (FastTrack, Flanagan and Freund 2009, with
warps as the threads).  A warp's own component is its current epoch.  Barriers release and acquire:

    release   a snapshot of the clocks of those who arrive; each then begins a new epoch
    acquire   those who go on take over the snapshot

An access is ordered behind another if it is by the same thread, or if the other's epoch is less than what the
accessing warp knows of its warp.  Since almost every access is behind the oldest epoch that anyone knows of
anyone, one comparison against that *floor* settles most cases; the rest is looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array, Mask
from texpr.emulator.watch import Conflict

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

# What a bulk copy wrote has a stamp from ASYNC on: ASYNC + (epoch << 10 | actor), where each mbarrier is one actor.
ASYNC = 0x5000_0000
ASYNC_SHIFT = 10
_ACTOR = 0x3FF
IN_FLIGHT = 0x7FFF_FFFE
_SETTLED = np.int32(-(1 << 30))
"""Makes a stamp negative: earlier than any epoch."""
_UNINITIALISED = 0x7FFF_FFFF
WARP = 32
GLOBAL_COLUMNS = 2
"""Columns of a clock that `global_clocks.py` has besides one per warp."""

EQUAL_STORES = "threads store equal values to one shared address without synchronisation"
"""A warning: replicated layouts do this, and it is harmless."""


@dataclass(frozen=True, slots=True)
class StampFormat:
    """How a stamp says who did something and when: epoch << `shift` | atomic | thread.

    `thread` is the mask of the thread's number, `many` stands for several threads of a warp that read a granule in
    one epoch, and is a mask too.  Threads are numbered through all programs of a cluster, from one program to the next
    in whole warps; a program alone has at most 1024.
    """

    thread: int
    atomic: int
    many: int
    shift: int
    last_epoch: int

    @staticmethod
    def for_threads(threads: int) -> StampFormat:
        bits = max(10, (threads - 1).bit_length())
        return StampFormat((1 << bits) - 1, 2 << bits, (2 << bits) - 1, bits + 2, 300_000 >> (bits - 10))

    @property
    def rest(self) -> int:
        """All but the epoch."""
        return (1 << self.shift) - 1

    @property
    def warp_and_epoch(self) -> int:
        return ~(self.atomic | WARP - 1)


@dataclass(slots=True)
class Time:
    """The time of a launch: counts epochs of any warp."""

    now: int = 1


Same = Callable[[Array], Array]
"""Given positions of accesses, whether memory already holds what each of them writes."""

Explain = Callable[[int], tuple[str, ...]]
"""Given the position of an access, what it writes and what memory holds."""


def _nothing(access: int) -> tuple[str, ...]:
    return ()



class SharedShadow:
    """What is known about every granule of the shared memories of a batch."""

    def __init__(self, batch: Batch, window: int, base: int, granule: int, actors: int = 0) -> None:
        """`actors`: how many asynchronous actors there are besides the warps (see `async_checks.py`)."""
        self.batch = batch
        self.granule = granule
        self._base = base
        self._window = window
        programs, rows = batch.shape.programs, batch.warps_per_program
        warps = rows * batch.shape.cluster_size
        self._rows = rows
        self._warps = warps
        self.form = StampFormat.for_threads(warps * WARP)
        granules = window * programs // granule
        self._written = np.empty(granules, np.int32)
        self._read = np.empty((granules, warps), np.int32)
        self.global_from = warps + actors
        self._fenced_from = self.global_from + warps + GLOBAL_COLUMNS
        self._clock = np.empty((programs, rows, self._fenced_from + (2 * warps if actors else 0)), np.int32)
        """What each warp [program, warp] knows: epochs of the warps of its cluster (of its program, if there are no
        clusters), of the actors, what `global_clocks.py` keeps here, and epochs of the warps as far as proxy-fenced
        (twice: for shared and for global memory)."""
        self.time = Time()
        self.followers: list[Callable[[int], None]] = []
        """Told when epochs are counted anew, and how many are forgotten."""
        self._readers: NDArray[np.int16] | None = None
        """Per granule: how many asynchronous operations may still be reading it."""
        slots, own_rows = np.arange(programs)[:, None], np.arange(rows)[None, :]
        columns = batch.rank[:, None] * rows + own_rows
        self._own = (slots, own_rows, columns)
        """Where each warp keeps its own epoch, and its own time."""
        self._own_time = (slots, own_rows, self.global_from + columns)
        self._lane_warp = batch.thread // WARP
        self._lane_thread = batch.thread + batch.rank[batch.slot] * batch.shape.padded_threads
        self._lane_column = self._lane_thread // WARP
        self._stamp = np.empty(batch.lanes, np.int32)
        """Per lane: its warp's epoch and its thread, as a stamp."""
        self._floor = 0
        """A stamp below which everything is ordered before every access from now on."""
        self.clear()

    def clear(self) -> None:
        self._written.fill(_UNINITIALISED)
        self._read.fill(0)
        if self._readers is not None:
            self._readers.fill(0)
        self._clock.fill(0)
        self._clock[self._own] = 1
        self._clock[:, :, self.global_from : self.global_from + self._warps] = 1
        self._clocks_changed()

    # Synchronisation ----------------------------------------------------------------------------------------

    def release(self, participants: Mask) -> NDArray[np.int32]:
        """Those who arrive publish what they did: the joined clocks per program [programs, columns]."""
        published = self._publish(participants)
        self._restamp()  # what they do from now on is not published
        return published

    def _publish(self, participants: Mask) -> NDArray[np.int32]:
        joining = self._participating(participants)
        self._advance(joining)
        return np.asarray(np.where(joining[:, :, None], self._clock, 0).max(axis=1))

    def acquire(self, participants: Mask, published: NDArray[np.int32]) -> None:
        """Those who go on know what was published."""
        joining = self._participating(participants)
        known = np.maximum(self._clock, published[:, None, :])
        self._clock[:] = np.where(joining[:, :, None], known, self._clock)
        self._clocks_changed()

    def barrier(self, participants: Mask) -> None:
        """Everybody arrives and goes on."""
        self.acquire(participants, self._publish(participants))

    def warp_barrier(self, participants: Mask) -> None:
        """Orders accesses inside of each warp: a new epoch is enough."""
        self._advance(self._participating(participants))
        self._clocks_changed()

    def _participating(self, lanes: Mask) -> NDArray[np.bool_]:
        shape = (self.batch.shape.programs, self._rows)
        if lanes is None:
            return np.ones(shape, np.bool_)
        return np.asarray(lanes.reshape(*shape, WARP).any(axis=2))

    def _advance(self, warps: NDArray[np.bool_]) -> None:
        self._clock[self._own] += warps
        self.time.now += 1
        self._clock[self._own_time] = np.where(warps, self.time.now, self._clock[self._own_time])

    def epoch_of(self, lane: int) -> int:
        """The epoch of a lane's warp."""
        return int(self._stamp[lane]) >> self.form.shift

    def knows_of_program(self, lane: int, slot: int) -> bool:
        """Whether a lane knows of anything that a program of its cluster did."""
        first = int(self.batch.rank[slot]) * self._rows
        known = self._clock[int(self.batch.slot[lane]), int(self._lane_warp[lane]), first : first + self._rows]
        return bool(known.any())

    def row_of(self, lane: int) -> NDArray[np.int32]:
        """What a lane's warp knows."""
        row: NDArray[np.int32] = self._clock[int(self.batch.slot[lane]), int(self._lane_warp[lane])]
        return row

    def known_to_program(self, slot: int, lane: int) -> int:
        """Up to which epoch of a lane's warp everything is ordered before what some warp of a program does next."""
        return int(self._clock[slot, :, self._lane_column[lane]].max())

    # Synchronisation through global memory ------------------------------------------------------------------

    @property
    def clock(self) -> NDArray[np.int32]:
        """What each warp knows [programs, warps, columns]; columns from `global_from` on belong to the caller."""
        return self._clock

    def advance(self, slot: int, warps: NDArray[np.int64]) -> None:
        """These warps of a program begin a new epoch: what they did until now can be told apart from what follows."""
        chosen = np.zeros(self._clock.shape[:2], np.bool_)
        chosen[slot, warps] = True
        self._advance(chosen)

    def learn(self, slot: int, warp: int, known: NDArray[np.int32]) -> None:
        """A warp knows what another warp of its program knew; call `learnt` behind the last one."""
        np.maximum(self._clock[slot, warp], known, out=self._clock[slot, warp])

    def learnt(self) -> None:
        self._clocks_changed()

    def _clocks_changed(self) -> None:
        epochs = self._clock[self._own]
        # Programs that have ended need no ordering any more.
        living = self.batch.alive.reshape(len(self._clock), -1).any(axis=1)
        known = self._clock[:, :, : self._warps]
        oldest = int(known[living].min()) if living.any() else int(known.min())
        if int(epochs.max()) > self.form.last_epoch:
            self._begin_epochs_anew(oldest - 1)
            oldest = 1
        self._floor = oldest << self.form.shift
        self._restamp()

    def _restamp(self) -> None:
        epochs = self._clock[self._own]
        self._stamp[:] = (np.repeat(epochs.reshape(-1), WARP) << self.form.shift) | self._lane_thread

    def _begin_epochs_anew(self, past: int) -> None:
        """Stamps hold a limited number of epochs: forget the first `past` of them, which order everything."""
        self._clock[:, :, : self._warps] -= np.int32(past)
        self._forget(self._clock[:, :, self._fenced_from :], past)
        for follow in self.followers:
            follow(past)
        real = self._written < ASYNC
        for stamps, counted in ((self._written, real), (self._read, True)):
            epochs = np.maximum((stamps >> self.form.shift) - past, 0)
            np.copyto(stamps, (epochs << self.form.shift) | (stamps & self.form.rest), where=counted)
        if int(self._clock[:, :, : self._warps].max()) > self.form.last_epoch:
            raise OverflowError("too many barriers that not all warps take part in for the race check")

    def forget_published(self, published: NDArray[np.int32] | None, past: int) -> None:
        """Epochs are counted anew: bring clocks up to date that somebody keeps."""
        if published is not None:
            self._forget(published[..., : self._warps], past)
            self._forget(published[..., self._fenced_from :], past)

    @staticmethod
    def _forget(epochs: NDArray[np.int32], past: int) -> None:
        np.maximum(epochs - np.int32(past), 0, out=epochs)

    # Accesses -----------------------------------------------------------------------------------------------

    def read(self, site: Instruction, lanes: Array | None, index: Array, size: int, *, collective: bool) -> None:
        """Lanes read `size` bytes at `index` (into all shared memories); collectively: as a warp."""
        granules, lane = self._cover(lanes, index, size)
        written = self._written[granules]
        late = written >= self._floor
        if late.any():
            self._judge_read(site, granules, lane, written, np.flatnonzero(late))
        stamp = self._stamp if lane is None else self._stamp[lane]
        cell = granules * self._warps + (self._lane_column if lane is None else self._lane_column[lane])
        readers = self._read.reshape(-1)
        if collective:
            readers[cell] = stamp | self.form.many
            return
        before = readers[cell]
        shared = ((before ^ stamp) >> self.form.shift == 0) & (before != stamp)
        if shared.any():
            stamp = np.where(shared, stamp | self.form.many, stamp)
        readers[cell] = stamp
        lost = readers[cell] != stamp
        if lost.any():
            # Several lanes of this very instruction read the same granule.
            readers[cell[lost]] |= self.form.many

    def write(
        self, site: Instruction, lanes: Array | None, index: Array, size: int, same: Same, explain: Explain
    ) -> Array | None:
        """Lanes are about to write; gives, per access, whether another lane of this instruction writes there too."""
        granules, lane = self._cover(lanes, index, size)
        self._before_write(site, granules, lane, size, same, explain)
        stamp = self._stamp if lane is None else self._stamp[lane]
        self._written[granules] = stamp
        lost = self._written[granules] != stamp
        if not lost.any():
            return None
        per_access = max(1, size // self.granule)
        return np.asarray(lost.reshape(-1, per_access).any(axis=1))

    def begin_copy(self, site: Instruction, lanes: Array | None, index: Array, size: int) -> None:
        """An asynchronous copy to here starts."""
        granules, lane = self._cover(lanes, index, size)
        self._before_write(site, granules, lane, size, None)
        self._written[granules] = IN_FLIGHT

    def settle(self, index: Array, size: int) -> None:
        """What is written here is ordered before everything from now on, for everybody."""
        granules, _ = self._cover(None, index, size)
        self._written[granules] |= _SETTLED

    def end_copy(self, lanes: Array, index: Array, size: int, promised: Array | None) -> None:
        """Copies have landed: from now on these are writes of the issuing lanes, done when the `promised` stamps were
        taken (None, or 0: now).
        """
        granules, _ = self._cover(lanes, index, size)
        stamps = self._stamp[lanes]
        if promised is not None:
            # Stamps that are kept do not follow when epochs are counted anew; none is later than now.
            stamps = np.where(promised > 0, np.minimum(promised, stamps), stamps)
        self._written[granules] = np.repeat(stamps, len(granules) // len(lanes))

    def stamps(self) -> Array:
        """The stamps of writes that lanes do now."""
        return self._stamp.copy()

    def forget(self, index: Array, size: int) -> None:
        """Nothing is written here any more."""
        granules, _ = self._cover(None, index, size)
        self._written[granules] = _UNINITIALISED

    def atomic(
        self, site: Instruction, lanes: Array | None, index: Array, size: int, *, hides: bool = True
    ) -> None:
        """Lanes update atomically; atomics do not race with each other. Unless it `hides`, later ones are still
        compared with the plain write before."""
        granules, lane = self._cover(lanes, index, size)
        atomic = self.form.atomic
        written = self._written[granules]
        late = np.flatnonzero(written >= self._floor)
        if len(late):
            plain = late[(written[late] & atomic == 0) | (written[late] >= ASYNC)]
            self._judge_read(site, granules, lane, written, plain)
        self._require_reads_done(site, granules, lane)
        stamp = self._stamp if lane is None else self._stamp[lane]
        # A plain write of the same warp and epoch: whoever is not ordered behind the one is not behind the other.
        plain_before = (written & atomic == 0) & (written < ASYNC) & (written >= self._floor)
        plain_same = plain_before & ((written ^ stamp) & self.form.warp_and_epoch == 0)
        stamp = np.where(plain_same, stamp, stamp | atomic)
        self._written[granules] = stamp if hides else np.where(plain_before, written, stamp)

    def strong_access(self, site: Instruction, lanes: Array | None, index: Array, size: int) -> None:
        """Volatile and relaxed accesses do not race, but the memory must hold something."""
        granules, lane = self._cover(lanes, index, size)
        written = self._written[granules]
        empty = np.flatnonzero(written >= IN_FLIGHT)
        if len(empty):
            self._judge_read(site, granules, lane, written, empty)

    # Judgement ----------------------------------------------------------------------------------------------

    def _cover(self, lanes: Array | None, index: Array, size: int) -> tuple[Array, Array | None]:
        """The granules of each access, and the lane of each of them (None: lane i for entry i)."""
        first = index // self.granule
        count = max(1, size // self.granule)
        if count == 1:
            return first, lanes
        granules = (first[:, None] + np.arange(count)).reshape(-1)
        every = np.arange(self.batch.lanes) if lanes is None else lanes
        return granules, np.repeat(every, count)

    def _unordered(self, lane: Array, stamps: Array) -> Array:
        """Which of these earlier accesses (stamps with a thread) are not ordered before the lanes' accesses."""
        thread = stamps & self.form.thread
        bulk = stamps >= ASYNC
        column = np.where(bulk, self._warps + (stamps & _ACTOR), thread // WARP) if bulk.any() else thread // WARP
        epoch = np.where(bulk, (stamps - ASYNC) >> ASYNC_SHIFT, stamps >> self.form.shift)
        known = self._clock[self.batch.slot[lane], self._lane_warp[lane], column]
        ordered = (~bulk & (thread == self._lane_thread[lane])) | (epoch < known)
        return np.asarray(~ordered)

    def _judge_read(
        self, site: Instruction, granules: Array, lane: Array | None, written: Array, suspects: Array
    ) -> None:
        lanes = suspects if lane is None else lane[suspects]
        stamps = written[suspects]
        empty = stamps >= IN_FLIGHT
        if empty.any():
            first = int(np.flatnonzero(empty)[0])
            raise self._empty(site, int(granules[suspects[first]]), int(lanes[first]), int(stamps[first]))
        racing = np.flatnonzero(self._unordered(lanes, stamps))
        if len(racing):
            first = int(racing[0])
            place, by = int(granules[suspects[first]]), int(lanes[first])
            if stamps[first] >= ASYNC:
                message = f"{self._place(place)} is read before the mbarrier of the copy to it was waited for"
                raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, by, place, "wrote")
            raise self._race(site, place, by, f"reads what {self._writer(int(stamps[first]), by)} wrote", "wrote")

    def _before_write(
        self,
        site: Instruction,
        granules: Array,
        lane: Array | None,
        size: int,
        same: Same | None,
        explain: Explain = _nothing,
    ) -> None:
        written = self._written[granules]
        suspects = np.flatnonzero((written >= self._floor) & (written != _UNINITIALISED))
        if len(suspects):
            self._judge_overwrite(site, granules, lane, written, suspects, size, same, explain)
        self._require_reads_done(site, granules, lane)

    def _judge_overwrite(
        self,
        site: Instruction,
        granules: Array,
        lane: Array | None,
        written: Array,
        suspects: Array,
        size: int,
        same: Same | None,
        explain: Explain,
    ) -> None:
        lanes = suspects if lane is None else lane[suspects]
        stamps = written[suspects]
        flying = np.flatnonzero(stamps == IN_FLIGHT)
        if len(flying):
            first = int(flying[0])
            place = int(granules[suspects[first]])
            message = f"{self._place(place)} is written while an asynchronous copy to it is in flight"
            raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, int(lanes[first]), place, "wrote")
        racing = np.flatnonzero(self._unordered(lanes, stamps))
        if not len(racing):
            return
        if same is not None:
            access = suspects[racing] // max(1, size // self.granule)
            racing = racing[~same(access)]
            self.batch.warn(EQUAL_STORES)
        if len(racing):
            first = int(racing[0])
            writer = self._writer(int(stamps[first]), int(lanes[first]))
            position = int(suspects[first]) // max(1, size // self.granule)
            raise self._race(
                site,
                int(granules[suspects[first]]),
                int(lanes[first]),
                f"overwrites what {writer} wrote",
                "wrote",
                explain(position),
            )

    def _require_reads_done(self, site: Instruction, granules: Array, lane: Array | None) -> None:
        """Everybody who read this before must be ordered before us."""
        if self._readers is not None and (busy := np.flatnonzero(self._readers[granules])).size:
            first = int(busy[0])
            by = first if lane is None else int(lane[first])
            place = int(granules[first])
            message = f"{self._place(place)} is overwritten while an asynchronous operation may still read it"
            raise self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, by, place, "read")
        reads = self._read[granules]
        late = reads >= max(self._floor, 1)
        if not late.any():
            return
        suspects, warps = np.nonzero(late)
        lanes = suspects if lane is None else lane[suspects]
        stamps = reads[suspects, warps]
        own = (stamps & self.form.many) == self._lane_thread[lanes]
        known = self._clock[self.batch.slot[lanes], self._lane_warp[lanes], warps]
        racing = np.flatnonzero(~own & (stamps >> self.form.shift >= known))
        if len(racing):
            first = int(racing[0])
            who = int(stamps[first]) & self.form.many
            by, place = int(lanes[first]), int(granules[suspects[first]])
            reader = self._warp_name(int(warps[first]), by) if who == self.form.many else self._name(who, by)
            raise self._race(site, place, by, f"overwrites what {reader} read", "read")

    # Reports ------------------------------------------------------------------------------------------------

    def _writer(self, stamp: int, lane: int) -> str:
        """Who left a stamp, as seen by a lane."""
        return "a bulk copy" if stamp >= ASYNC else self._name(stamp & self.form.thread, lane)

    def _name(self, thread: int, lane: int) -> str:
        """A thread of a lane's cluster, by its number there."""
        per_program = self.batch.shape.padded_threads
        return f"thread {thread % per_program}{self._of_program(thread // per_program, lane)}"

    def _warp_name(self, column: int, lane: int) -> str:
        return f"warp {column % self._rows}{self._of_program(column // self._rows, lane)}"

    def _of_program(self, rank: int, lane: int) -> str:
        own = int(self.batch.rank[self.batch.slot[lane]])
        return "" if rank == own else f" of program {rank} of the cluster"

    def _place(self, granule: int) -> str:
        place = granule * self.granule
        return self.batch.shared_space.name_of(place)

    def _empty(self, site: Instruction, granule: int, lane: int, stamp: int) -> Fault:
        if stamp == _UNINITIALISED:
            message = f"{self._place(granule)} is read before anything was written there"
            return self._fault(FaultKind.UNINITIALISED, message, site, lane, None)
        message = f"{self._place(granule)} is read while an asynchronous copy to it is in flight (wait for its group)"
        return self._fault(FaultKind.ASYNC_NOT_WAITED, message, site, lane, granule, "wrote")

    def _race(
        self, site: Instruction, granule: int, lane: int, what: str, verb: str, notes: tuple[str, ...] = ()
    ) -> Fault:
        message = f"{self._place(granule)}: this {what}, with no barrier between"
        return self._fault(FaultKind.RACE, message, site, lane, granule, verb, notes)

    def _fault(
        self,
        kind: FaultKind,
        message: str,
        site: Instruction,
        lane: int,
        granule: int | None,
        verb: str = "",
        notes: tuple[str, ...] = (),
    ) -> Fault:
        if granule is not None and verb:
            space = self.batch.shared_space
            notes += space.earlier_accesses(granule * self.granule % self._window, verb, site)
            space.conflict = Conflict(granule * self.granule, self.granule, verb)
        return self.batch.fault(kind, message, site, lane, buffer="shared memory", notes=notes)
