"""Sorting in registers: which of two methods a ranking uses, and what it needs from the schedule.

All ranks of a short row come out of a bitonic network, whose steps number log2(n) (log2(n) + 1) / 2; a few ranks of a
row of any length come out of as many rounds, each of which takes the least key that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from texpr.errors import Location
from texpr.lang.ir import Axis, Def, Ranking, Reduce
from texpr.plan.errors import NotLowered
from texpr.plan.ir import LoopAxis

MOST_SORTED: Final = 256
"""Keys of a row that a network sorts: the code of larger ones takes seconds to compile."""

MOST_ROUNDS: Final = 32
"""Ranks that are found in rounds."""

_STEPS_PER_ROUND: Final = 3  # what a round costs, in steps of the network


def in_rounds(count: int, width: int, looped: bool) -> bool:
    """Whether the first ``count`` ranks of ``width`` keys are found in rounds rather than by sorting all keys."""
    bits = (width - 1).bit_length()
    return looped or width > MOST_SORTED or _STEPS_PER_ROUND * count <= bits * (bits + 1) // 2


def rank_axes(definitions: Iterable[Def]) -> frozenset[Axis]:
    """The axes that rankings make."""
    tops = [definition.top for definition in definitions]
    return frozenset(top.op.into for top in tops if isinstance(top, Reduce) and isinstance(top.op, Ranking))


def check_ranking(
    definition: Def,
    top: Reduce,
    op: Ranking,
    sizes: Mapping[Axis, int],
    loops: Sequence[LoopAxis],
    whole: Mapping[str, int],
    at: Location | None,
) -> None:
    """One tile holds all ranks, and either all keys or a step of a loop over them. Raises NotLowered."""
    text = f"{definition.name}, a ranking along {', '.join(axis.name for axis in top.axes)}"
    if len(top.axes) != 1 or op.into not in definition.axes:
        raise NotLowered(what=f"a cut of the axes of {text}", instead="no split or fuse of its axes", at=at)
    (over,) = top.axes
    if op.into.name not in whole:
        fix = f"whole: {{{op.into.name}: N}}, with N a power of two that is at least {op.into.extent}"
        raise NotLowered(what=f"the ranks {op.into.name} of {text}, in pieces", instead=fix, at=at)
    if top.exprs[0].dtype.bits > 32:
        fix = "keys of at most 32 bits; 64-bit keys in two rankings, by the low half first"
        raise NotLowered(what=f"{text} by keys of type {top.exprs[0].dtype}", instead=fix, at=at)
    count, width = sizes[op.into], sizes.get(over, 1)
    if in_rounds(count, width, bool(loops)):
        if count > MOST_ROUNDS:
            where = f"in a loop over {over.name}" if loops else f"of {width} keys"
            fix = f"at most {MOST_ROUNDS} ranks, or rows of at most {MOST_SORTED} keys: whole: {{{over.name}: N}}"
            raise NotLowered(what=f"{text}, with {count} ranks {where}", instead=fix, at=at)
        if loops and width < 2 <= count:
            fix = f"loop: {{{over.name}: 32}} or more"
            raise NotLowered(what=f"{text}, in a loop by one key", instead=fix, at=at)
    elif count > width:
        fix = f"whole: {{{op.into.name}: {width}}}, or a larger tile of {over.name}"
        raise NotLowered(what=f"{text}, with {count} ranks of {width} keys", instead=fix, at=at)
