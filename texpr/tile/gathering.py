"""What a role fetches for another in one step: boxes by the copy engine, and tiles that its own threads gather.

The threads find the addresses themselves, whatever these depend on: rows that an argument lists, points that a guard
leaves out. They copy asynchronously and go on; the barrier of the slot hears from each thread when its copies have
landed (``cp.async.mbarrier.arrive.noinc``). Tiles that go through registers are stored, and the role arrives once.

What threads write, the asynchronous proxy sees after a fence only: the role that waits for the tiles fences, if its
products read them where they lie, since by then all of the writes have happened.
"""

from __future__ import annotations

from collections.abc import Mapping

from texpr.math.expr import IntExpr
from texpr.plan.errors import NotLowered
from texpr.schedule.words import Copy
from texpr.tile.boxes import Ring, await_slot, fetch_boxes
from texpr.tile.declarations import Buffer
from texpr.tile.ir import CopyAsync
from texpr.tile.kernel import Block, Kernel
from texpr.tile.protocol import Arrive, ArriveCopies
from texpr.tile.scope import Scope
from texpr.tile.stages import copy_into


def fetch_step(
    ring: Ring, buffers: Mapping[str, Buffer], step: IntExpr, kernel: Kernel, scope: Scope, block: Block
) -> None:
    """Fill the slot of a step when what was in it has been read; ``scope`` is that of the step."""
    block.add(*await_slot(ring, step))
    fetch_boxes(ring, buffers, step, kernel, scope, block)
    slot = ring.slot(step)
    for stage in ring.copied:
        buffer, copies = buffers[stage.name], Block()
        copy_into(stage, buffer, slot if buffer.depth else None, kernel, scope, copies)
        if stage.copy is Copy.ASYNC and not all(isinstance(one, CopyAsync) for one in copies.statements):
            what = f"copy: async of {stage.name} in a role that fetches, whose tile is not zero where nothing is read,"
            raise NotLowered(what=what, instead="copy: sync")
        block.add(*copies.statements)
    kinds = {stage.copy for stage in ring.copied}
    if Copy.ASYNC in kinds:
        block.add(ArriveCopies(ring.full, slot))
    if Copy.SYNC in kinds:
        block.add(Arrive(ring.full, slot))
