"""The rules of one synchronisation statement, whatever surrounds it: what it names exists and fits together.

Whether the statements of a program wait for each other as they must is for the checker of protocols to say.
"""

from __future__ import annotations

import math
from typing import assert_never

from texpr.math.expr import Const, IntExpr
from texpr.tile.check_types import Context, check_stage, require
from texpr.tile.declarations import Barriers, TensorMapParam
from texpr.tile.layouts import Nvmma
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    Protocol,
    StoreTensor,
    WaitBarrier,
    WaitStores,
)

_MOST_DIMS = 5
_MOST_EXTENT = 256
_LEAST_BYTES = 16


def check_tensor_map(param: TensorMapParam) -> None:
    """Raise TypeProblem unless the copy engine can have such a map."""
    name, rank = param.name, len(param.box)
    require(1 <= rank <= _MOST_DIMS, f"tensor map {name} has {rank} dims")
    require(len(param.shape) == len(param.strides) == rank, f"shape, strides and box of {name} differ in rank")
    require(param.layout.rank == rank, f"the layout of tensor map {name} is for {param.layout.rank} dims")
    require(param.layout.element_bits == 8 * param.dtype.bytes, f"the layout of {name} is for other elements")
    require(param.strides[-1] == Const(1), f"the last dim of tensor map {name} is not contiguous")
    extents = all(0 < n <= _MOST_EXTENT and n & (n - 1) == 0 for n in param.part)
    require(extents, f"the box of tensor map {name} is {param.box}")
    require(param.part[-1] * param.dtype.bytes >= _LEAST_BYTES, f"rows of the box of {name} have less than 16 bytes")


def check_barriers(barriers: Barriers, programs: int) -> None:
    """Raise TypeProblem unless an array of barriers has barriers, and arrivals to wait for."""
    require(barriers.count > 0, f"{barriers.name} has no barriers")
    require(barriers.arrivals > 0, f"{barriers.name} waits for no arrivals")
    bits = all(bit >= 0 and 1 << bit < programs for bit in barriers.across)
    require(bits, f"{barriers.name} lies across bits {barriers.across} of {programs} programs")


def check_protocol(item: Protocol, context: Context) -> None:
    """Raise TypeProblem unless what a statement names exists and fits."""
    match item:
        case Expect(barrier=barrier, slot=slot, bytes=count):
            _slot(barrier, slot, context)
            require(count > 0, f"{count} bytes are expected")
        case CopyTensor(buffer=buffer, stage=stage, descriptor=descriptor, at=at, barrier=barrier, slot=slot):
            _slot(barrier, slot, context)
            _box(descriptor, at, buffer, stage, context)
            _reaches(item, context)
        case WaitBarrier(barrier=barrier, slot=slot, phase=phase):
            _slot(barrier, slot, context)
            require(not isinstance(phase, Const) or phase.value in (0, 1), f"a wait for phase {phase}")
        case Arrive(barrier=barrier, slot=slot) | ArriveCopies(barrier=barrier, slot=slot):
            _slot(barrier, slot, context)
        case StoreTensor(descriptor=descriptor, at=at, buffer=buffer, stage=stage):
            _box(descriptor, at, buffer, stage, context)
        case WaitStores(pending=pending) | DotWait(pending=pending):
            require(pending >= 0, f"a wait for {pending}")
        case FenceAsync() | Advance() | MeetCluster():
            pass
        case _:
            assert_never(item)


def _reaches(item: CopyTensor, context: Context) -> None:
    """A copy to several programs goes to such as have the same part, and each has a slot for its bytes."""
    require(not context.barriers[item.barrier].across, f"bytes are reported to {item.barrier} of another program")
    same = any(not any(basis) for basis in context.buffers[item.buffer].layout.ctas)
    require(same or not item.multicast, f"no two programs have the same part of {item.buffer}")


def _slot(name: str, slot: IntExpr, context: Context) -> None:
    require(name in context.barriers, f"no barriers {name}")
    count = context.barriers[name].count
    require(not isinstance(slot, Const) or 0 <= slot.value < count, f"{name} has {count} barriers, none is {slot}")


def _box(descriptor: str, at: tuple[IntExpr, ...], name: str, stage: IntExpr | None, context: Context) -> None:
    """The box of a map and the stage of a buffer have the same elements in the same order."""
    require(descriptor in context.maps, f"no tensor map {descriptor}")
    param, buffer = context.maps[descriptor], check_stage(name, stage, context)
    require(len(at) == len(param.box), f"{len(at)} coordinates in tensor map {descriptor} of {len(param.box)} dims")
    require(buffer.dtype is param.dtype, f"buffer {name} holds {buffer.dtype}, {descriptor} has {param.dtype}")
    same = param.box[-1] == buffer.shape[-1] and math.prod(param.box) == math.prod(buffer.shape)
    require(same, f"a box of {param.box} for buffer {name} of shape {buffer.shape}")
    layout = buffer.layout
    same = isinstance(layout, Nvmma) and layout.swizzle_bytes == param.layout.swizzle_bytes
    require(same, f"the copy engine does not know the layout of buffer {name}")
