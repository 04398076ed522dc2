"""Use of another program's shared memory: it must come behind that program's beginning and before its end.

A program of a cluster that has ended has no shared memory any more.  So whoever uses it must be ordered before the
end, not only happen to be earlier: the owner must know of the use when its last thread exits.  Copies that report to
an mbarrier of the owner are not looked at here: `mbarriers.py` wants them to be waited for.  A program has begun when
somebody knows of something it did, or when the cluster has met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

_WARP = 32


class Visits:
    """The last use of each program's shared memory by each warp of the other programs of its cluster."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._last: dict[tuple[int, int], tuple[int, Instruction, int]] = {}
        """By slot of the owner and warp of the batch: when, where in the code, and which lane."""

    def clear(self) -> None:
        self._last.clear()

    def note(self, site: Instruction, lanes: Array, owners: Array, *, reports: bool = False) -> None:
        """Lanes use the shared memory of programs (slots). `reports`: the use ends with an arrival at an mbarrier
        there."""
        batch = self.batch
        alive: NDArray[np.bool_] = np.asarray(batch.alive.reshape(batch.shape.programs, -1).any(axis=1))
        gone = np.flatnonzero(~alive[owners])
        if len(gone):
            first = int(gone[0])
            message = f"{self._program(int(owners[first]))} has ended, and its shared memory with it"
            notes = ("all programs of a cluster must meet (barrier.cluster) behind the last use, and only then exit",)
            raise batch.fault(
                FaultKind.ENDED_PROGRAM, message, site, int(lanes[first]), buffer="shared memory", notes=notes
            )
        shadow = batch.shared_space.shadow
        if shadow is None:
            return
        for owner, warp in {(int(o), int(lane) // _WARP) for o, lane in zip(owners, lanes, strict=True)}:
            lane = int(lanes[lanes // _WARP == warp][0])
            if not batch.cluster_barriers.have_met(owner) and not shadow.knows_of_program(lane, owner):
                message = f"nothing says that {self._program(owner)}, whose shared memory this uses, has begun"
                notes = ("all programs of a cluster must meet (barrier.cluster) before the first use",)
                raise batch.fault(FaultKind.RACE, message, site, lane, buffer="shared memory", notes=notes)
            if not reports:
                self._last[owner, warp] = (shadow.epoch_of(lane), site, lane)

    def ended(self, ending: NDArray[np.bool_], site: Instruction) -> None:
        """These lanes have exited: programs without others have ended."""
        if not self._last:
            return
        batch, shadow = self.batch, self.batch.shared_space.shadow
        assert shadow is not None
        shape = (batch.shape.programs, -1)
        ended: NDArray[np.bool_] = np.asarray(
            ending.reshape(shape).any(axis=1) & ~batch.alive.reshape(shape).any(axis=1)
        )
        for (owner, warp), (epoch, use, lane) in list(self._last.items()):
            if not ended[owner]:
                continue
            del self._last[owner, warp]
            if epoch < shadow.known_to_program(owner, warp * _WARP):
                continue
            x, y, z = batch.thread_index(lane)
            message = f"the program ends, and nothing orders that behind this use of its shared memory: {use.text}"
            notes = (
                f"{use.where}: thread ({x}, {y}, {z}) of program {batch.program_index(lane)} uses it",
                "missing is a barrier.cluster behind the last use",
            )
            last = int(np.flatnonzero(ending & (batch.slot == owner))[-1])
            raise batch.fault(FaultKind.ENDED_PROGRAM, message, site, last, buffer="shared memory", notes=notes)

    def forget_epochs(self, past: int) -> None:
        """Epochs are counted anew; the first `past` of them are over for everybody."""
        self._last = {who: (max(epoch - past, 0), use, lane) for who, (epoch, use, lane) in self._last.items()}

    def _program(self, slot: int) -> str:
        return f"program {self.batch.rank[slot]} of the cluster"
