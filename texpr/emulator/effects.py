"""What an instruction form does besides computing a result: memory, ordering, and through which proxy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Memory(Enum):
    """A state space."""

    NAMED = "the space named"
    """The space in the opcode; without one the address is generic."""
    GLOBAL = "global"
    SHARED = "shared"
    PARAMETERS = "parameters"


class Proxy(Enum):
    """The path by which memory is accessed: what one writes the other sees only behind a proxy fence."""

    GENERIC = "generic"
    ASYNC = "async"


class Orders(Enum):
    """What an instruction makes wait or makes visible."""

    WARP = "the lanes of a warp"
    BARRIER = "a named barrier"
    MBARRIER = "an mbarrier"
    CLUSTER = "the barrier of a cluster"
    CP_ASYNC = "cp.async"
    BULK = "bulk copies"
    WGMMA = "wgmma"
    MEMORY = "memory accesses"
    PROXIES = "the generic before the async proxy"


@dataclass(frozen=True, slots=True)
class Effects:
    """`late`: what is accessed is accessed some time after the instruction, until `Orders` of its kind say done."""

    reads: tuple[Memory, ...] = ()
    writes: tuple[Memory, ...] = ()
    orders: tuple[Orders, ...] = ()
    proxy: Proxy = Proxy.GENERIC
    late: bool = False

    def __str__(self) -> str:
        parts = []
        for verb, spaces in (("reads", self.reads), ("writes", self.writes)):
            if spaces:
                parts.append(f"{verb} {' and '.join(space.value for space in spaces)}")
        if self.orders:
            parts.append(f"orders {' and '.join(what.value for what in self.orders)}")
        if self.late:
            parts.append("completes later")
        if self.proxy is Proxy.ASYNC:
            parts.append("async proxy")
        return "; ".join(parts)


NONE = Effects()
CROSS_LANE = Effects(orders=(Orders.WARP,))
"""Lanes of a warp exchange registers."""
