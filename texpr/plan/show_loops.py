"""The lines of loops in a printed loop nest: what they run over, and what shortens them."""

from __future__ import annotations

from texpr.plan.ir import LoopAxis, Skip, Trim
from texpr.plan.show_text import ceil_text, shortened
from texpr.schedule.words import Base, SkipTest, TrimMode


def loop_line(name: str, loop: LoopAxis) -> str:
    """The line of a loop of the node ``name``."""
    if loop.base is not None and loop.axis.ragged is not None:
        offsets, group = loop.axis.ragged.offsets.name, loop.axis.ragged.group.name
        bounds = f"{offsets}[{group}] .. {offsets}[{group} + 1]"
        return f"for {name}.{loop.axis.name} by {loop.size} in {bounds}   base: {loop.base.value}"
    steps = ceil_text(loop.axis.extent, loop.size)
    how = f"unrolled: {steps} copies" if loop.unrolled else f"{steps} steps"
    if loop.trim is not None:
        how = _trim_text(loop, loop.trim)
    if loop.skip is not None:
        how = _skip_text(loop.skip)
    how += ", from the last to the first" if loop.reverse else ""
    how += "   base: row, each with a cursor of its own" if loop.base is Base.ROW else ""
    return f"for {name}.{loop.axis.name} by {loop.size} in 0 .. {loop.axis.extent}   {how}"


def _trim_text(loop: LoopAxis, trim: Trim) -> str:
    """What shortens a loop: the guard's conjuncts, and whether they are tested in the steps that are left."""
    parts = [half.conjunct for half in trim.halves] + ([] if trim.congruence is None else [trim.congruence.conjunct])
    texts = ", ".join(shortened(part) for part in dict.fromkeys(parts))
    split = trim.halves and trim.mode is TrimMode.SPLIT
    return f"trim: {texts}" + ("; tested in the steps at the edge only" if split else "")


def _skip_text(skip: Skip) -> str:
    """Which steps a loop leaves out, and how they are found."""
    guard = " & ".join(shortened(part) for part in skip.guard)
    if skip.listed is not None:
        rows = f"{skip.listed.tensor.name}[{skip.listed.axis.name} // {skip.listed.size}]"
        return f"skip: the points that {rows} lists, all where {guard} holds anywhere"
    how = "tested in each step" if skip.test is SkipTest.STEP else f"a mask of at most {skip.most} steps"
    return f"skip: steps where {guard} holds nowhere, {how}"
