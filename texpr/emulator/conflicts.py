"""Races in global memory, between programs and between the warps of a program.

Every granule of a buffer (the smallest piece that one access has covered) remembers which warp wrote it last and
which warps have read it since.  Two accesses to a granule race if one of them writes, one of them is plain (not an
atomic, nor volatile, relaxed, ...), and neither is ordered before the other; see `global_clocks.py` for what orders
them.  The order in which programs happen to run never counts.  Stores that change nothing are only counted as
a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.checks import SharedShadow
from texpr.emulator.global_clocks import GlobalClocks, Published
from texpr.emulator.global_shadow import (
    ATOMIC,
    CONSTANT,
    MANY_PROGRAMS,
    MANY_WARPS,
    MOST_PROGRAMS,
    NO_TIME,
    PROGRAM,
    READER_FLAGS,
    SCOPE,
    TIME,
    WARP,
    WHO,
    WHOSE_PROGRAM,
    GlobalShadow,
    Stamps,
    ascending,
    cover,
)
from texpr.emulator.memory import Allocation
from texpr.emulator.ordering import Ordering, Scope
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

EQUAL_STORES = "several programs store equal values to one global address"
"""A warning: the result does not depend on their order."""

_MOST_WAITING = 1 << 22
_NOBODY = np.empty(0, np.int64)

Same = Callable[[], Array]
"""Tells, per access, whether memory already holds what it stores."""


@dataclass(frozen=True, slots=True)
class Race:
    """An access that races, by its position, with an earlier one. `what` is "wrote" or "read".

    `broken_promise`: one of them is a load of constant memory (`.nc`), which nothing can put in order.
    """

    position: int
    what: str
    program: int
    warp: int
    time: int
    scope: Scope
    broken_promise: bool = False


class GlobalConflicts:
    """Who accessed what during one launch of `programs` programs of `warps` warps.

    `synchronises`: the kernel has instructions that acquire or release; in others nothing can order programs.
    """

    def __init__(self, programs: int, warps: int, *, synchronises: bool) -> None:
        if programs > MOST_PROGRAMS:
            raise OverflowError(f"the race check is made for at most {MOST_PROGRAMS} programs, not {programs}")
        self.clocks = GlobalClocks(programs, warps)
        self.synchronises = synchronises
        self._shadows: dict[int, GlobalShadow] = {}
        self._shared: SharedShadow | None = None

    def begin(self, batch: Batch, shadow: SharedShadow) -> None:
        """A batch of programs starts."""
        for known in self._shadows.values():  # lanes are those of the batch that ends
            self._record_reads(known)
        self._batch = batch
        if self._shared is not None:
            shadow.time = self._shared.time
        self._shared = shadow
        self._warp = batch.thread // 32
        self._who = ((batch.programs[batch.slot] << PROGRAM) | (self._warp << WARP)).astype(np.int64)
        self.clocks.begin(batch, shadow)

    # Accesses -----------------------------------------------------------------------------------------------

    def read(
        self, lanes: Array | None, allocation: Allocation, index: Array, size: int, ordering: Ordering, by_copy: bool
    ) -> Race | None:
        """Lanes read `size` bytes at `index`; gives an access that races.

        A bulk copy (`by_copy`) reads at a time of its own; `async_checks.py` orders it inside of its program.
        """
        shadow = self._shadow(allocation, size)
        granules, lane, count = cover(shadow, lanes, index, size)
        who = self._who if lane is None else self._who[lane]
        if shadow.writers is not None:
            race = self._judge_read(shadow, granules, lane, who, ordering)
            if race is not None:
                return _per_access(race, count)
        if ordering.strong:
            if self.synchronises and shadow.published is not None:
                self._receive(shadow.published, granules, lane, ordering)
            if shadow.writers is not None:
                if shadow.seen is None:
                    shadow.seen = shadow.blank(np.int64)
                shadow.seen[granules] = who | np.int64(self._time() << TIME)
            return None
        if not allocation.read_only:
            # Bulk copies read at time 0, which is known to everybody in the program.
            time = 0 if by_copy else self._time()
            mine = who | np.int64((time << TIME) | (CONSTANT if ordering.constant else 0))
            shadow.pending.append((granules, mine, lane))
            shadow.waiting += len(granules)
            if self.synchronises or shadow.writers is not None or shadow.waiting > _MOST_WAITING:
                self._record_reads(shadow)
        return None

    def write(
        self,
        lanes: Array | None,
        allocation: Allocation,
        index: Array,
        size: int,
        ordering: Ordering,
        same: Same | None,
        *,
        atomic: bool = False,
    ) -> Race | None:
        """Lanes are about to write (`atomic`: to read, change and write); gives an access that races."""
        shadow = self._shadow(allocation, size)
        self._record_reads(shadow)
        granules, lane, count = cover(shadow, lanes, index, size)
        who = self._who if lane is None else self._who[lane]
        if shadow.writers is None:
            shadow.writers = shadow.blank(np.int64)
        before = shadow.writers[granules]
        now = self._time()
        race = self._judge_write(shadow, granules, lane, who, before, ordering, count, same)
        if race is not None:
            return race
        if ordering.strong and self.synchronises:
            self._exchange(shadow, granules, lane, ordering, atomic)
        elif shadow.published is not None:
            shadow.published[granules] = None
        # What a release publishes includes the write itself, so this is of the time before it.
        mine = who | np.int64((now << TIME) | int(ordering.scope) | (ATOMIC if atomic else 0))
        self._record_write(shadow, granules, mine, before, ordering)
        return None

    def fence(self, lanes: Array | None, ordering: Ordering) -> None:
        """Lanes execute a fence."""
        if not self.synchronises:
            return
        for slot, warp, _ in self._warps(lanes):
            self.clocks.fence(slot, warp, ordering)
        assert self._shared is not None
        self._shared.learnt()

    # Communication ------------------------------------------------------------------------------------------

    def _warps(self, lane: Array | None) -> list[tuple[int, int, Array]]:
        """The warps among these lanes in the order of their numbers, each with the positions of its lanes."""
        every = np.arange(self._batch.lanes) if lane is None else lane
        warp = every // 32
        order = np.argsort(warp, kind="stable")
        starts = np.flatnonzero(np.diff(warp[order], prepend=-1))
        per_program = self._batch.warps_per_program
        return [
            (int(warp[some[0]]) // per_program, int(warp[some[0]]) % per_program, some)
            for some in np.split(order, starts[1:])
            if len(some)
        ]

    def _receive(self, published: NDArray[Any], granules: Array, lane: Array | None, ordering: Ordering) -> None:
        for slot, warp, some in self._warps(lane):
            found = _distinct(published[granules[some]])
            if found:
                self.clocks.read(slot, warp, found, ordering)
        if ordering.acquires:
            assert self._shared is not None
            self._shared.learnt()

    def _exchange(
        self, shadow: GlobalShadow, granules: Array, lane: Array | None, ordering: Ordering, atomic: bool
    ) -> None:
        """Strong writes by warp after warp: each finds what those before it have published."""
        published = shadow.published
        if published is None:
            published = shadow.published = np.full(-(-shadow.size // shadow.granule), None, object)
        for slot, warp, some in self._warps(lane):
            cells = granules[some]
            before = published[cells]
            found = _distinct(before)
            if atomic and found:
                self.clocks.read(slot, warp, found, ordering)
            new = self.clocks.written(slot, warp, ordering)
            after = {id(old): self.clocks.carried_on(old, new, atomic=atomic) for old in found}
            after[id(None)] = self.clocks.carried_on(None, new, atomic=atomic)
            if len(found) == 0:
                published[cells] = after[id(None)]
                continue
            for cell, old in zip(cells, before, strict=True):
                published[cell] = after[id(old)]
        assert self._shared is not None
        self._shared.learnt()

    # Judgement ----------------------------------------------------------------------------------------------

    def _ordered(self, lane: Array, stamps: Stamps) -> Array:
        """Which of these earlier accesses are ordered before what the lanes do now."""
        time = stamps >> TIME
        warp = (stamps >> WARP) & 31
        slot, own = self._batch.slot[lane], self._warp[lane]
        program = (stamps >> PROGRAM) & (MOST_PROGRAMS - 1)
        inside = program == self._batch.programs[slot]
        ordered = inside & ((warp == own) | (time < self.clocks.known_inside(slot, own, warp % self.clocks.warps)))
        if self._batch.shape.cluster_size > 1 and not inside.all():
            inside = self._order_in_cluster(ordered, slot, own, program, warp, time) | inside
        if self.synchronises and not inside.all():
            outside = np.flatnonzero(~inside)
            for one_slot, one_warp, some in self._warps(lane[outside]):
                known = self.clocks.known_of_others(one_slot, one_warp)
                if known is not None:
                    which = outside[some]
                    ordered[which] = time[which] < known[program[which] * self.clocks.warps + warp[which]]
        return np.asarray(ordered)

    def _order_in_cluster(
        self, ordered: Array, slot: Array, own: Array, program: Array, warp: Array, time: Array
    ) -> Array:
        """Fill in which accesses by other programs of the same cluster are ordered; gives which are by such."""
        near = np.zeros(len(slot), np.bool_)
        first = slot - self._batch.rank[slot]
        for rank in range(self._batch.shape.cluster_size):
            here = (self._batch.programs[first + rank] == program) & (first + rank != slot)
            known = self.clocks.known_in_cluster(slot, own, np.full(len(slot), rank), warp % self.clocks.warps)
            ordered |= here & (time < known)
            near |= here
        return near

    def _unordered_writers(
        self, lane: Array | None, who: Stamps, stamps: Stamps, ordering: Ordering, seen: Stamps | None = None
    ) -> Array:
        """Positions at which the last writer is another warp that is not ordered before the access. `seen`: strong
        readers of what it wrote.
        """
        alien = (stamps ^ who) & WHO != 0
        alien &= stamps != 0
        if not alien.any():
            return _NOBODY
        if ordering.strong:
            inside = (stamps ^ who) & WHOSE_PROGRAM == 0
            weaker = np.minimum(stamps & SCOPE, int(ordering.scope))
            alien &= weaker < np.where(inside, int(Scope.PROGRAM), int(Scope.GPU))
        suspects = np.flatnonzero(alien)
        if len(suspects):
            suspects = suspects[~self._ordered(suspects if lane is None else lane[suspects], stamps[suspects])]
        if len(suspects) and seen is not None:
            lanes = suspects if lane is None else lane[suspects]
            by, wide = seen[suspects], stamps[suspects] & SCOPE == int(Scope.GPU)
            suspects = suspects[~(wide & (by != 0) & self._ordered(lanes, by))]
        return suspects

    def _judge_read(
        self, shadow: GlobalShadow, granules: Array, lane: Array | None, who: Stamps, ordering: Ordering
    ) -> Race | None:
        assert shadow.writers is not None
        before = shadow.writers[granules]
        seen = None if shadow.seen is None else shadow.seen[granules]
        if ordering.constant and before.any():
            position = int(np.flatnonzero(before)[0])
            return _race(position, "wrote", int(before[position]), broken_promise=True)
        racing = self._unordered_writers(lane, who, before, ordering, seen)
        if not len(racing) and shadow.others is not None:
            before = shadow.others[granules]
            racing = self._unordered_writers(lane, who, before, ordering)
        if not len(racing):
            return None
        return _race(int(racing[0]), "wrote", int(before[racing[0]]))

    def _judge_write(
        self,
        shadow: GlobalShadow,
        granules: Array,
        lane: Array | None,
        who: Stamps,
        before: Stamps,
        ordering: Ordering,
        count: int,
        same: Same | None,
    ) -> Race | None:
        found: list[tuple[Array, Stamps, str]] = []
        seen = None if shadow.seen is None else shadow.seen[granules]
        racing = self._unordered_writers(lane, who, before, ordering, seen)
        if len(racing):
            found.append((racing, before[racing], "wrote"))
        if shadow.others is not None:
            # Atomics have seen the write before theirs. (Reads do count it: which atomic came last is chance.)
            others = np.where(before & ATOMIC, 0, shadow.others[granules])
            racing = self._unordered_writers(lane, who, others, ordering)
            if len(racing):
                found.append((racing, others[racing], "wrote"))
        if shadow.readers is not None:
            readers = shadow.readers[granules]
            broken = np.flatnonzero(readers & CONSTANT)
            if len(broken):
                first = int(broken[0])
                return _per_access(_race(first, "read", int(readers[first]), broken_promise=True), count)
            positions, stamps = self._unordered_readers(shadow, granules, lane, who, readers)
            if len(positions):
                found.append((positions, stamps, "read"))
        if not found:
            return None
        equal = None if same is None else same()
        for positions, stamps, what in found:
            differs = np.arange(len(positions)) if equal is None else np.flatnonzero(~equal[positions // count])
            if len(differs):
                first = int(differs[0])
                return _per_access(_race(int(positions[first]), what, int(stamps[first])), count)
        self._batch.warn(EQUAL_STORES)
        return None

    def _unordered_readers(
        self, shadow: GlobalShadow, granules: Array, lane: Array | None, who: Stamps, readers: Stamps
    ) -> tuple[Array, Stamps]:
        """Accesses (positions) and earlier readers (stamps) that they are not ordered behind."""
        alien = (readers != 0) & (((readers ^ who) & WHO != 0) | (readers & READER_FLAGS != 0))
        suspects = np.flatnonzero(alien)
        if not len(suspects):
            return suspects, readers[suspects]
        positions, stamps = [suspects], [readers[suspects]]
        which, by = self._expand_warps(shadow, granules[suspects], readers[suspects])
        positions.append(suspects[which])
        stamps.append(by)
        many = suspects[readers[suspects] & MANY_PROGRAMS != 0]
        if len(many) and shadow.log:
            logged = np.concatenate([entry[0] for entry in shadow.log])
            by = np.concatenate([entry[1] for entry in shadow.log])
            order = np.argsort(logged, kind="stable")
            first = np.searchsorted(logged[order], granules[many], "left")
            counts = np.searchsorted(logged[order], granules[many], "right") - first
            rank = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            positions.append(np.repeat(many, counts))
            stamps.append(by[order][np.repeat(first, counts) + rank])
        position, stamp = np.concatenate(positions), np.concatenate(stamps)
        lanes = position if lane is None else lane[position]
        racing = ~self._ordered(lanes, stamp)
        if not self.synchronises:
            # Several programs: at least one of them is another one.
            racing |= stamp & MANY_PROGRAMS != 0
        return position[racing], stamp[racing]

    # Records ------------------------------------------------------------------------------------------------

    def _record_write(
        self, shadow: GlobalShadow, granules: Array, mine: Stamps, before: Stamps, ordering: Ordering
    ) -> None:
        assert shadow.writers is not None
        shadow.writers[granules] = mine
        several = False
        if not ascending(granules):
            lost = shadow.writers[granules] != mine
            several = bool(lost.any())
        if ordering.strong:
            elsewhere = (before != 0) & ((before ^ mine) & WHOSE_PROGRAM != 0)
            if several or elsewhere.any():
                if shadow.others is None:
                    shadow.others = shadow.blank(np.int64)
                shadow.others[granules[elsewhere]] = before[elsewhere]
                if several:
                    shadow.others[granules[lost]] = mine[lost]
        else:
            if several:
                # If the values differ, the caller sees it afterwards.
                self._batch.warn(EQUAL_STORES)
            if shadow.others is not None:
                shadow.others[granules] = 0
        for stale in (shadow.readers, shadow.seen):
            if stale is not None:
                stale[granules] = 0

    def _record_reads(self, shadow: GlobalShadow) -> None:
        for granules, mine, lane in shadow.pending:
            self._record_read(shadow, granules, lane, mine)
        shadow.pending.clear()
        shadow.waiting = 0

    def _record_read(self, shadow: GlobalShadow, granules: Array, lane: Array | None, mine: Stamps) -> None:
        if shadow.readers is None:
            shadow.readers = shadow.blank(np.int64)
            before = None
        else:
            before = shadow.readers[granules]
        readers = shadow.readers
        readers[granules] = mine
        if before is not None:
            differs = (before != 0) & ((before ^ mine) & (WHO | READER_FLAGS) != 0)
            if differs.any():
                self._keep_earlier(shadow, granules, lane, mine, before, np.flatnonzero(differs))
        if ascending(granules):
            return
        now = readers[granules]
        together = np.flatnonzero((now ^ mine) & WHO)
        if len(together):
            self._keep_together(shadow, granules, mine, now, together)

    def _keep_earlier(
        self, shadow: GlobalShadow, granules: Array, lane: Array | None, mine: Stamps, before: Stamps, where: Array
    ) -> None:
        """Readers replaced by `mine` count on unless they are ordered before the new ones."""
        readers = shadow.readers
        assert readers is not None
        old, new, cells = before[where], mine[where], granules[where]
        elsewhere = (old ^ new) & WHOSE_PROGRAM != 0
        if self.synchronises:
            ordered = self._ordered(where if lane is None else lane[where], old)
            logs = np.flatnonzero((elsewhere & ~ordered) | (old & MANY_PROGRAMS != 0))
            if len(logs):
                shadow.note(cells[logs], old[logs])
                shadow.note(cells[logs], new[logs])
            elsewhere &= ~ordered
        else:
            ordered = None
        sticky = (old & (MANY_PROGRAMS | CONSTANT)) | np.where(elsewhere, MANY_PROGRAMS, 0)
        readers[cells] |= sticky
        inside = np.flatnonzero(((old ^ new) & WHOSE_PROGRAM == 0) & ((old ^ new) & (WHO | MANY_WARPS) != 0))
        if len(inside):
            lanes = where[inside] if lane is None else lane[where[inside]]
            known = self._ordered(lanes, old[inside]) if ordered is None else ordered[inside]
            positions, stamps = self._expand_warps(shadow, cells[inside], old[inside])
            known[positions] &= self._ordered(lanes[positions], stamps)
            unordered = inside[~known]
            self._several_warps(shadow, cells[unordered], old[unordered], new[unordered])

    def _keep_together(
        self, shadow: GlobalShadow, granules: Array, mine: Stamps, now: Stamps, where: Array
    ) -> None:
        """Several lanes of this very instruction read one granule."""
        readers = shadow.readers
        assert readers is not None
        new, winner, cells = mine[where], now[where], granules[where]
        elsewhere = (winner ^ new) & WHOSE_PROGRAM != 0
        if elsewhere.any():
            if self.synchronises:
                shadow.note(cells[elsewhere], new[elsewhere])
                shadow.note(cells[elsewhere], winner[elsewhere])
            readers[cells[elsewhere]] |= MANY_PROGRAMS
        inside = np.flatnonzero(~elsewhere)
        if len(inside):
            self._several_warps(shadow, cells[inside], winner[inside], new[inside])

    def _expand_warps(self, shadow: GlobalShadow, cells: Array, readers: Stamps) -> tuple[Array, Stamps]:
        """For granules that several warps of a program have read: a position and a stamp for each of these."""
        where = np.flatnonzero(readers & MANY_WARPS)
        if not len(where) or shadow.masks is None:
            return where[:0], readers[:0]
        masks = shadow.masks[cells[where]]
        warps = [where[(masks >> np.uint32(warp)) & np.uint32(1) != 0] for warp in range(self.clocks.warps)]
        stamps = [(readers[some] & ~np.int64(31 << WARP)) | np.int64(n << WARP) for n, some in enumerate(warps)]
        return np.concatenate(warps), np.concatenate(stamps)

    def _several_warps(self, shadow: GlobalShadow, cells: Array, one: Stamps, other: Stamps) -> None:
        """Two warps of one program read a granule, in no order. The earlier time counts, so as not to blame readers of
        that time for reads of later ones.
        """
        readers = shadow.readers
        assert readers is not None
        if shadow.masks is None:
            shadow.masks = shadow.blank(np.uint32)
        masks = shadow.masks
        fresh = (one | readers[cells]) & MANY_WARPS == 0
        masks[cells[fresh]] = 0
        for stamps in (one, other):
            warps = (stamps >> WARP) & 31
            for warp in np.unique(warps):
                masks[cells[warps == warp]] |= np.uint32(1 << int(warp))
        readers[cells] = (readers[cells] & NO_TIME) | (one & ~np.int64(NO_TIME)) | MANY_WARPS

    def _shadow(self, allocation: Allocation, size: int) -> GlobalShadow:
        shadow = self._shadows.get(allocation.address)
        if shadow is None:
            shadow = self._shadows[allocation.address] = GlobalShadow(len(allocation.data), size)
        if size < shadow.granule:
            self._record_reads(shadow)
            shadow.refine(size)
        return shadow

    def _time(self) -> int:
        assert self._shared is not None
        return self._shared.time.now


def _distinct(published: NDArray[Any]) -> list[Published]:
    """Different publications among those of some places."""
    return list({id(one): one for one in published if one is not None}.values())


def _race(position: int, what: str, stamp: int, *, broken_promise: bool = False) -> Race:
    program, warp = (stamp >> PROGRAM) & (MOST_PROGRAMS - 1), (stamp >> WARP) & 31
    scope = Scope(stamp & SCOPE) if what == "wrote" else Scope.WEAK
    return Race(position, what, program, warp, stamp >> TIME, scope, broken_promise)


def _per_access(race: Race, count: int) -> Race:
    """Positions count granules until now."""
    return replace(race, position=race.position // count)
