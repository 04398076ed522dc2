"""What is said about a race in global memory: who, where, and what kind of order is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from texpr.emulator.conflicts import GlobalConflicts, Race
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.memory import Part
from texpr.emulator.ordering import Ordering, Scope
from texpr.emulator.ptx import Instruction

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

_VERBS = {"read": "reads", "write": "writes", "update": "updates"}


def report(
    batch: Batch,
    conflicts: GlobalConflicts,
    site: Instruction,
    lane: int,
    part: Part,
    size: int,
    ordering: Ordering,
    race: Race,
    action: str,
    touched: Sequence[tuple[Instruction, str]],
) -> Fault:
    """The fault for a race that `lane` completes at `site`; `touched` are instructions that used the buffer before."""
    name = part.allocation.name
    own = int(batch.programs[batch.slot[lane]])
    inside = race.program == own
    first = int(part.index[race.position])
    place = part.allocation.place(first)
    other = f"warp {race.warp}" if inside else f"program {batch.index_of_program(race.program)}"
    if inside and race.warp == int(batch.thread[lane]) // 32:
        other = "another program" if race.what == "read" else other
    earlier = ("read",) if race.what == "read" else ("write", "update")
    notes = [f"line {other_site.line}: {other_site.text} {_VERBS[what]} this buffer"
             for other_site, what in touched if what in earlier and other_site is not site][:4]
    if race.broken_promise:
        message = (
            f"{place}: ld.global.nc promises that nobody writes there during the launch, and {other} has "
            f"{'written' if race.what == 'wrote' else 'read it so'}"
        )
        return batch.fault(FaultKind.NOT_CONSTANT, message, site, lane, buffer=name, notes=tuple(notes))
    kind = FaultKind.GLOBAL_RACE
    if action == "read":
        message = f"{place}: this reads what {other} wrote, and nothing orders the two"
    elif race.what == "read":
        message = f"{place}: this overwrites what {other} read, and nothing orders the two"
    elif action == "write" and not ordering.strong:
        kind = FaultKind.GLOBAL_CONFLICT
        message = f"{place}: {other} has already written another value there, and nothing orders the two"
    else:
        message = f"{place}: {other} wrote there, and nothing orders the two"
    notes.insert(0, _missing(conflicts, ordering, race, inside))
    return batch.fault(kind, message, site, lane, buffer=name, notes=tuple(notes))


def _missing(conflicts: GlobalConflicts, ordering: Ordering, race: Race, inside: bool) -> str:
    """What would have ordered the two accesses."""
    if inside:
        return "missing is a barrier, or a release by the one warp that the other acquires"
    clocks = conflicts.clocks
    warp = race.program * clocks.warps + race.warp
    if ordering.scope is Scope.PROGRAM:
        return "this access has a scope (.cta or .cluster) that other programs are not in: .gpu would be right"
    if ordering.strong and race.scope is Scope.PROGRAM:
        return "the other access has a scope (.cta or .cluster) that this program is not in: .gpu would be right"
    if race.time < clocks.released[warp]:
        return (
            "the other program has released its access, but this one has not acquired it: missing is ld.acquire, "
            "atom.acquire or a fence (.gpu) behind the strong read that saw it, or a barrier behind that"
        )
    if race.time < clocks.released_inside[warp]:
        return "the other program has released its access at a scope (.cta) that this program is not in: .gpu is needed"
    return (
        "the other program has not released its access: missing is st.release, red.release, atom.acq_rel or a fence "
        "(.gpu) before the strong write that tells of it, or a barrier before that"
    )
