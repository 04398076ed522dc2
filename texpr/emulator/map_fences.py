"""Checks of tensor maps that a kernel builds itself: a copy sees a new map only behind a `fence.proxy.tensormap` that
acquires it, executed by a thread that knows of the map, and on the way to the copy.

Looked at inside of one program; maps that another program or the host has made are taken as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from texpr.emulator.async_checks import AsyncShadow
from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction
from texpr.emulator.rows import Array

if TYPE_CHECKING:
    from texpr.emulator.batch import Batch

Moment = tuple[int, int, int]
"""A program's slot, a warp of it, and the warp's epoch."""


class MapFences:
    """When the maps of a batch were written, and when they were acquired, by global address."""

    def __init__(self, batch: Batch, shadow: AsyncShadow) -> None:
        self._batch = batch
        self._shadow = shadow
        self._made: dict[int, tuple[Instruction, Moment]] = {}
        self._acquired: dict[int, list[Moment]] = {}
        shadow.followers.append(self._forget_epochs)

    def clear(self) -> None:
        self._made.clear()
        self._acquired.clear()

    def publish(self, site: Instruction, lane: int, address: int) -> None:
        """The lane has written (a part of) a map."""
        self._made[address] = (site, self._now(lane))
        self._acquired[address] = []

    def acquire(self, lanes: Array, addresses: Array) -> None:
        """Lanes acquire the maps at these addresses."""
        for place in np.unique(addresses).tolist():
            if place in self._made:
                _, made = self._made[place]
                for lane in lanes[addresses == place].tolist():
                    if self._knows(lane, made):
                        self._acquired[place].append(self._now(lane))
                        break

    def require(self, site: Instruction, lane: int, address: int) -> None:
        """A copy issued by the lane uses a map."""
        if address not in self._made:
            return
        writer, made = self._made[address]
        if made[0] != self._batch.slot[lane] or any(self._knows(lane, fence) for fence in self._acquired[address]):
            return
        message = (
            f"the tensor map at 0x{address:x}, made at line {writer.line}, was not acquired by a fence.proxy.tensormap "
            "on the way to this copy"
        )
        raise self._batch.fault(FaultKind.MISSING_FENCE, message, site, lane)

    def _now(self, lane: int) -> Moment:
        return int(self._batch.slot[lane]), *self._shadow.position(lane)

    def _knows(self, lane: int, moment: Moment) -> bool:
        slot, warp, epoch = moment
        return slot == self._batch.slot[lane] and self._shadow.knows(lane, warp, epoch)

    def _forget_epochs(self, past: int) -> None:
        def earlier(moment: Moment) -> Moment:
            return moment[0], moment[1], max(moment[2] - past, 0)

        self._made = {place: (site, earlier(made)) for place, (site, made) in self._made.items()}
        self._acquired = {place: [earlier(one) for one in fences] for place, fences in self._acquired.items()}
