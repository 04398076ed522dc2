"""The barrier of a cluster: barrier.cluster.arrive and .wait.

A thread arrives, goes on, and waits later; the barrier completes when every thread of the cluster that has not exited
has arrived.  What those who arrive have done is known to those who wait.  Of those who arrive `.relaxed` only what they
did before a fence is known, and initialisations of mbarriers that a `fence.mbarrier_init` has announced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.checks import WARP
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


class ClusterBarriers:
    """One barrier per cluster of a batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._clusters = batch.shape.programs // batch.shape.cluster_size
        self._arrived = np.zeros(batch.lanes, np.bool_)
        """Who has arrived in the phase under way."""
        self._owes = np.zeros(batch.lanes, np.bool_)
        """Who has arrived and not waited since."""
        self._waiting = np.zeros(batch.lanes, np.bool_)
        self._published: NDArray[np.int32] | None = None
        """Per program: what those who arrived in the phase under way had done."""
        self._completed: NDArray[np.int32] | None = None
        """Per program: what its cluster's programs had done before the last phase."""
        self._acquires = np.zeros(batch.lanes, np.bool_)
        self._sites: dict[int, Instruction] = {}
        self._used = False

        self._met = np.zeros(self._clusters, np.bool_)
        """Which clusters have been behind a barrier."""
        self._fenced: dict[int, NDArray[np.int32]] = {}
        """By warp of the batch: what it knew and had done at its last fence that releases to the cluster."""

    def clear(self) -> None:
        self._met.fill(False)
        self._fenced.clear()
        self._arrived.fill(False)
        self._owes.fill(False)
        self._waiting.fill(False)
        self._acquires.fill(False)
        self._published = self._completed = None
        self._sites.clear()
        self._used = False

    # Operations ---------------------------------------------------------------------------------------------

    def arrive(self, site: Instruction, lanes: Array, *, releases: bool) -> None:
        """The lanes of a mask arrive."""
        again = lanes & self._owes
        if again.any():
            message = "a thread arrives again at the cluster's barrier before it has waited"
            raise self._misuse(site, int(np.flatnonzero(again)[0]), message)
        self._used = True
        self._arrived |= lanes
        self._owes |= lanes
        for cluster in np.unique(self._cluster_of(np.flatnonzero(lanes))).tolist():
            self._sites[cluster] = site
        self.batch.mbarriers.carry(np.flatnonzero(lanes))
        if releases:
            self._publish(self.batch.shared_space.release(lanes))
        else:
            self._publish_fenced(lanes)
        self.complete()

    def fence(self, lanes: Array | None) -> None:
        """Lanes (as indices; None: all) release to the cluster by a fence: an arrival behind it need not release."""
        shadow = self.batch.shared_space.shadow
        if self.batch.shape.cluster_size == 1 or shadow is None:
            return
        every = np.arange(self.batch.lanes) if lanes is None else lanes
        mask = np.zeros(self.batch.lanes, np.bool_)
        mask[every] = True
        shadow.release(mask)
        for warp in np.unique(every // WARP).tolist():
            self._fenced[warp] = shadow.row_of(warp * WARP).copy()

    def _publish_fenced(self, lanes: Array) -> None:
        arriving = np.flatnonzero(lanes.reshape(-1, WARP).any(axis=1)).tolist()
        rows = {warp: self._fenced[warp] for warp in arriving if warp in self._fenced}
        if rows:
            published = np.zeros((self.batch.shape.programs, len(next(iter(rows.values())))), np.int32)
            for warp, row in rows.items():
                own = published[warp // self.batch.warps_per_program]
                np.maximum(own, row, out=own)
            self._publish(published)

    def _publish(self, published: NDArray[np.int32] | None) -> None:
        if published is not None:
            known = self._published
            self._published = published if known is None else np.maximum(known, published)

    def forget_epochs(self, past: int) -> None:
        """Epochs are counted anew; the first `past` of them are over for everybody."""
        shadow = self.batch.shared_space.shadow
        assert shadow is not None
        for kept in (self._published, self._completed, *self._fenced.values()):
            shadow.forget_published(kept, past)

    def have_met(self, slot: int) -> bool:
        """Whether a program's cluster has been behind a barrier."""
        return bool(self._met[slot // self.batch.shape.cluster_size])

    def wait(self, site: Instruction, lanes: Array, *, acquires: bool) -> Array:
        """Lanes (as indices) wait; gives those that cannot go on yet."""
        early = lanes[~self._owes[lanes]]
        if len(early):
            raise self._misuse(site, int(early[0]), "a thread waits at the cluster's barrier without having arrived")
        still = lanes[self._arrived[lanes]]
        self._waiting[still] = True
        self._acquires[still] = acquires
        for cluster in np.unique(self._cluster_of(still)).tolist():
            self._sites[cluster] = site
        self._pass(lanes[~self._arrived[lanes]], acquires)
        return still

    def complete(self) -> None:
        """Let those go on whose cluster has arrived; called when threads arrive or exit."""
        if not self._used:
            return
        arrived, alive = (lanes.reshape(self._clusters, -1) for lanes in (self._arrived, self.batch.alive))
        done: NDArray[np.bool_] = np.asarray(arrived.any(axis=1) & (arrived | ~alive).all(axis=1))
        if not done.any():
            return
        finished = np.repeat(done, self.batch.lanes // self._clusters)
        self._finish(done)
        self._arrived &= ~finished
        free = self._waiting & finished
        self._waiting &= ~finished
        for acquires in (False, True):
            self._pass(np.flatnonzero(free & (self._acquires == acquires)), acquires)
        self.batch.wake(free)

    def _finish(self, done: NDArray[np.bool_]) -> None:
        """What was published in these clusters becomes what those who wait learn."""
        self._met |= done
        programs = np.repeat(done, self.batch.shape.cluster_size)
        self.batch.mbarriers.settle(programs)
        if self.batch.observer is not None:
            self.batch.observer.changed = True
        if self._published is None:
            if self._completed is not None:
                self._completed[programs] = 0
            return
        together = self._published.reshape(self._clusters, self.batch.shape.cluster_size, -1).max(axis=1)
        known = np.repeat(together, self.batch.shape.cluster_size, axis=0)
        if self._completed is None:
            self._completed = np.zeros_like(known)
        self._completed[programs] = known[programs]
        self._published[programs] = 0

    def _pass(self, lanes: Array, acquires: bool) -> None:
        """Lanes go on behind the barrier."""
        self._owes[lanes] = False
        if len(lanes) and acquires and self._completed is not None:
            mask = np.zeros(self.batch.lanes, np.bool_)
            mask[lanes] = True
            self.batch.shared_space.acquire(mask, self._completed)

    # Reports ------------------------------------------------------------------------------------------------

    def _cluster_of(self, lanes: Array) -> Array:
        return np.asarray(self.batch.slot[lanes] // self.batch.shape.cluster_size)

    def _misuse(self, site: Instruction, lane: int, message: str) -> Fault:
        return self.batch.fault(FaultKind.BARRIER_MISUSE, message, site, lane)

    def waiting_site(self) -> Instruction | None:
        """An instruction at which somebody waits."""
        clusters = self._cluster_of(np.flatnonzero(self._waiting))
        return self._sites[int(clusters[0])] if len(clusters) else None

    def describe(self) -> list[str]:
        """For each cluster in which somebody waits: which programs have not arrived."""
        lines: list[str] = []
        batch = self.batch
        for cluster in np.unique(self._cluster_of(np.flatnonzero(self._waiting))).tolist()[:4]:
            site = self._sites[cluster]
            missing: list[str] = []
            for rank in range(batch.shape.cluster_size):
                slot = cluster * batch.shape.cluster_size + rank
                own = slice(slot * batch.shape.padded_threads, (slot + 1) * batch.shape.padded_threads)
                absent = int(np.count_nonzero(batch.alive[own] & ~self._arrived[own]))
                if absent:
                    missing.append(f"{absent} threads of program {rank}")
            first = batch.program_index(cluster * batch.shape.cluster_size * batch.shape.padded_threads)
            lines.append(
                f"cluster of program {first}: the barrier at {site.where} misses {' and '.join(missing) or 'nobody'}"
            )
        return lines
