"""Synchronisation statements as lines of the function, and the barriers they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from texpr.gluon.conditions import condition_text
from texpr.gluon.function import Function
from texpr.gluon.helpers import ASYNC_COPY, CLUSTER, FENCE_ASYNC, MBARRIER, TENSOR_COPY, WARPGROUP_WAIT
from texpr.gluon.integers import NONNEGATIVE, narrow_text
from texpr.gluon.layouts import barrier_layout_text, shared_layout_text
from texpr.gluon.memory import buffer_view
from texpr.gluon.text import method
from texpr.math.expr import TRUE, BoolExpr, IntExpr
from texpr.tile.declarations import Barriers
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


def protocol(f: Function, item: Protocol) -> None:
    """Append the code of one statement to the current block."""
    match item:
        case Expect(barrier=barrier, slot=slot, bytes=count, when=when):
            f.preamble.use_import(MBARRIER)
            f.emit(f"mbarrier.expect({_slot(f, barrier, slot)}, {count}{_predicate(f, when)})")
        case CopyTensor(buffer=buffer, stage=stage, descriptor=descriptor, at=at, barrier=barrier, slot=slot):
            f.preamble.use_import(TENSOR_COPY)
            target = f"{_slot(f, barrier, slot)}, {_box_view(f, buffer, stage, descriptor)}{_predicate(f, item.when)}"
            target += ", multicast=True" if item.multicast else ""
            f.emit(f"tma.async_load({f.maps[descriptor].identifier}, {_coordinates(f, at)}, {target})")
        case WaitBarrier(barrier=barrier, slot=slot, phase=phase, note=note):
            f.preamble.use_import(MBARRIER)
            parity = narrow_text(phase, f.symbols()).code
            f.emit(f"mbarrier.wait({_slot(f, barrier, slot)}, {parity})" + (f"  # {note}" if note else ""))
        case Arrive(barrier=barrier, slot=slot, when=when):
            f.preamble.use_import(MBARRIER)
            f.emit(f"mbarrier.arrive({_slot(f, barrier, slot)}, count=1{_predicate(f, when)})")
        case ArriveCopies(barrier=barrier, slot=slot):
            f.preamble.use_import(ASYNC_COPY)
            f.emit(f"async_copy.mbarrier_arrive({_slot(f, barrier, slot)}, increment_count=False)")
        case MeetCluster(note=note):
            f.preamble.use_import(CLUSTER)
            f.emit("cluster.barrier()" + (f"  # {note}" if note else ""))
        case StoreTensor(descriptor=descriptor, at=at, buffer=buffer, stage=stage):
            f.preamble.use_import(TENSOR_COPY)
            source = _box_view(f, buffer, stage, descriptor)
            f.emit(f"tma.async_store({f.maps[descriptor].identifier}, {_coordinates(f, at)}, {source})")
        case WaitStores(pending=pending):
            f.preamble.use_import(TENSOR_COPY)
            f.emit(f"tma.store_wait({pending})")
        case FenceAsync(note=note):
            f.preamble.use_import(FENCE_ASYNC)
            f.emit("fence_async_shared()" + (f"  # {note}" if note else ""))
        case DotWait(pending=pending, names=names):
            f.preamble.use_import(WARPGROUP_WAIT)
            variables = ", ".join(f.variables[name] for name in names)
            handed = f"{variables}," if len(names) == 1 else variables
            f.emit(f"{variables} = warpgroup_mma_wait({pending}, deps=({handed}))")
            f.assigned(frozenset(names))
        case Advance(name=name, by=by):
            f.emit(f"{f.scalars[name]} += {narrow_text(by, f.symbols()).code}")
            f.define(name, f.scalars[name], NONNEGATIVE)
            f.assigned(frozenset([name]))
        case _:
            assert_never(item)


def start_barriers(f: Function, declared: Sequence[Barriers], programs: int) -> None:
    """Lines that make the barriers ready before the first statement. Triton multiplies the arrivals at a barrier of
    several programs of a cluster by their number, and lets them meet before one of them can use it."""
    if not declared:
        return
    f.preamble.use_import(MBARRIER)
    f.preamble.use_import(FENCE_ASYNC)
    for barriers in declared:
        if barriers.note:
            f.emit(f"# {barriers.note}")
        made = f"mbarrier.allocate_mbarrier(batch={barriers.count})"
        if barriers.across:
            count, layout = barrier_layout_text(barriers.across, programs)
            made = f"gl.allocate_shared_memory(gl.int64, [{barriers.count}, {count}], {layout})"
        f.emit(f"{f.barriers[barriers.name]} = {made}")
    for barriers in declared:
        name, arrivals = f.barriers[barriers.name], barriers.arrivals
        for slot in range(barriers.count):
            f.emit(f"mbarrier.init({name}.index({slot}), count={arrivals})")
    f.emit("fence_async_shared()  # the asynchronous proxy sees the barriers as they are now")
    f.blank()


def end_barriers(f: Function, declared: Sequence[Barriers]) -> None:
    """Lines that give the barriers' memory back after the last statement."""
    f.origin = None
    f.blank()
    for barriers in declared:
        for slot in range(barriers.count):
            f.emit(f"mbarrier.invalidate({f.barriers[barriers.name]}.index({slot}))")


def _slot(f: Function, barrier: str, slot: IntExpr) -> str:
    return f"{f.barriers[barrier]}.index({narrow_text(slot, f.symbols()).code})"


def _predicate(f: Function, when: BoolExpr) -> str:
    return "" if when is TRUE else f", pred={condition_text(when, f.symbols()).code}"


def _coordinates(f: Function, at: tuple[IntExpr, ...]) -> str:
    return "[" + ", ".join(narrow_text(e, f.symbols()).code for e in at) + "]"


def _box_view(f: Function, buffer: str, stage: IntExpr | None, descriptor: str) -> str:
    """A stage of a buffer in the shape of the map's box, which may have dims of one element that the tile lacks."""
    view = buffer_view(f, buffer, stage)
    box, layout = f.maps[descriptor].box, f.maps[descriptor].layout
    if box == f.shapes[buffer]:
        return view.code
    if layout.ctas:  # parts of a cluster: Triton does not see that the layout is still the copy engine's
        element = f.dialect.storage(f.maps[descriptor].dtype)
        return method(view, f"reinterpret({element}, {list(box)}, {shared_layout_text(layout)})").code
    return method(view, f"reshape({list(box)})").code
