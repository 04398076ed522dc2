"""The other side of a race: which earlier instruction, by which thread, accessed the same place.

The shadow of shared memory remembers who accessed a place, not where in the code, because that would cost every
access. So when a fault concerns a place, the batch runs once more, with the same schedule, and every access to that
place is noted. The second run starts from the memory that the first one left. If a kernel changes what it reads, the
fault may not come back; then nothing is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.faults import Access, Fault
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch


@dataclass(frozen=True, slots=True)
class Conflict:
    """The place of a fault: `size` bytes at `index` of all shared memories; the other side `verb` ("read" or "wrote")
    it."""

    index: int
    size: int
    verb: str


@dataclass(frozen=True, slots=True)
class _Event:
    verb: str
    site: Instruction
    lane: int
    call: int


@dataclass(slots=True)
class Watch:
    """Notes the accesses to one place of shared memory."""

    conflict: Conflict
    events: list[_Event] = field(default_factory=list)
    _calls: int = 0

    def note(self, verb: str, site: Instruction, lanes: Array | None, index: Array, size: int) -> None:
        """Lanes access `size` bytes at `index` each."""
        self._calls += 1
        wanted = self.conflict
        here = np.flatnonzero((index < wanted.index + wanted.size) & (index + size > wanted.index))
        for position in here:
            lane = int(position) if lanes is None else int(lanes[position])
            self.events.append(_Event(verb, site, lane, self._calls))

    def other_side(self) -> _Event | None:
        """The last access by another instruction or thread before the last one, which is the fault's own."""
        if not self.events:
            return None
        last = self.events[-1]
        own = {event.lane for event in self.events if event.call == last.call}
        earlier = [event for event in self.events if event.call != last.call and event.verb == self.conflict.verb]
        foreign = [event for event in earlier if event.lane not in own]
        return next(reversed(foreign or earlier), None)


def with_other_side(fault: Fault, batch: Batch, run_again: Callable[[], object]) -> Fault:
    """The fault with the access that it conflicts with, if a second run of the batch finds it. The device's memory is
    left as it was."""
    conflict = batch.shared_space.conflict
    if conflict is None:
        return fault
    memory = [(allocation, allocation.data.copy(), allocation.written.copy()) for allocation in batch.memory.live()]
    watch = Watch(conflict)
    batch.shared_space.watch = watch
    try:
        run_again()
        return fault
    except Fault as again:
        other = watch.other_side()
        if _identity(again) != _identity(fault) or other is None:
            return fault
        notes = tuple(note for note in fault.notes if " in this region: " not in note)  # less than what is known now
        return fault.changed(others=(_access(other, batch),), notes=notes)
    finally:
        batch.shared_space.watch = None
        for allocation, data, written in memory:
            allocation.data[:] = data
            allocation.written[:] = written


def _identity(fault: Fault) -> tuple[object, ...]:
    return fault.kind, fault.ptx_line, fault.program, fault.thread


def _access(event: _Event, batch: Batch) -> Access:
    x, y, z = batch.thread_index(event.lane)
    what = f"thread ({x}, {y}, {z}) {event.verb} there earlier"
    return Access(what, event.site.line, event.site.text, event.site.source)
