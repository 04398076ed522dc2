"""Instructions in which the 32 lanes of a warp exchange values: shfl, vote, match, redux, elect, ...

All of them name the participating lanes in a member mask.  Every lane named (that has not exited) must be
executing the instruction, and every executing lane must be named; anything else is a fault.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from texpr.emulator.batch import WARP, Batch
from texpr.emulator.bind import per_lane, source, store
from texpr.emulator.effects import CROSS_LANE
from texpr.emulator.faults import FaultKind
from texpr.emulator.ptx import Instruction, Integer, Operand, Pair
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, Mask, Modifiers, Row, Step, special
from texpr.emulator.types import PREDICATE, TYPES, Kind

U32 = np.uint32
_BIT = (np.uint64(1) << np.arange(WARP, dtype=np.uint64)).astype(np.uint32)
_FULL = 0xFFFF_FFFF


def lane_bits(flags: Array) -> Array:
    """A boolean per lane -> for each lane, its warp's flags as a 32-bit mask."""
    bits = (flags.reshape(-1, WARP) * _BIT).sum(axis=1, dtype=np.uint32)
    return np.repeat(bits, WARP)


def bind_members(batch: Batch, instruction: Instruction, operand: Operand) -> Callable[[Mask], Array]:
    """A function that checks who executes the instruction, and gives each lane its member mask."""
    members = per_lane(batch, operand, TYPES["b32"])
    own_bit = np.tile(_BIT, batch.warps)
    everyone = isinstance(operand, Integer) and bool((members == _FULL).all())

    def check(mask: Mask) -> Array:
        if mask is None and everyone and batch.all_alive:
            return members
        active = np.ones(batch.lanes, np.bool_) if mask is None else mask
        executing = lane_bits(active)
        missing = members & lane_bits(batch.alive) & ~executing
        bad = active & ((missing != 0) | (members & own_bit == 0))
        if bad.any():
            lane = int(np.flatnonzero(bad)[0])
            wrong = int(missing[lane])
            if wrong:
                absent = [number for number in range(WARP) if wrong >> number & 1]
                message = f"lanes {_ranges(absent)} are named in the member mask but do not execute this"
            else:
                message = f"the member mask 0x{int(members[lane]):08x} leaves out the lane that executes this"
            raise batch.fault(FaultKind.DIVERGENT_WARP, message, instruction, lane)
        return members & executing

    return check


def missing_lanes(mask: Mask, needed: Array) -> tuple[int, str] | None:
    """Where a mask holds some but not all of a warp's `needed` lanes: an executing lane, and who is missing."""
    if mask is None:
        return None
    executes = mask.reshape(-1, WARP)
    absent = needed.reshape(-1, WARP) & ~executes
    partial = executes.any(axis=1) & absent.any(axis=1)
    if not partial.any():
        return None
    warp = int(np.flatnonzero(partial)[0])
    lane = warp * WARP + int(np.flatnonzero(executes[warp])[0])
    return lane, f"lanes {_ranges([int(number) for number in np.flatnonzero(absent[warp])])} of the warp are missing"


def require_whole_warps(batch: Batch, instruction: Instruction, mask: Mask) -> None:
    """Fault unless every warp either executes an `.aligned` instruction with all its lanes or not at all."""
    if mask is not None and (missing := missing_lanes(mask, np.ones(batch.lanes, np.bool_))) is not None:
        lane, who = missing
        raise batch.fault(
            FaultKind.DIVERGENT_WARP, f"an .aligned instruction is executed by part of a warp: {who}", instruction, lane
        )


def _ranges(numbers: list[int]) -> str:
    parts: list[str] = []
    start = previous = numbers[0]
    for number in [*numbers[1:], -1]:
        if number != previous + 1:
            parts.append(str(start) if start == previous else f"{start}-{previous}")
            start = number
        previous = number
    return ", ".join(parts)


# Shuffle ----------------------------------------------------------------------------------------------------


def _shuffle_source(mode: str, lane: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """The lane each lane reads from, and whether it is inside the segment (the PTX manual's formulas)."""
    step, clamp, segment = b & 31, c & 31, (c >> 8) & 31
    last = (lane & segment) | (clamp & ~segment & 31)
    match mode:
        case "idx":
            chosen = (lane & segment) | (step & ~segment & 31)
            inside = chosen <= last
        case "up":
            chosen = lane - step
            inside = chosen >= last
        case "down":
            chosen = lane + step
            inside = chosen <= last
        case _:
            chosen = lane ^ step
            inside = chosen <= last
    return np.where(inside, chosen, lane), inside


def _shuffle(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    word = TYPES["b32"]
    to, value_operand, b_operand, c_operand, member_operand = instruction.operands
    places = (to.first, to.second) if isinstance(to, Pair) else (to,)
    destination = batch.registers.destination(places[0], word)
    found = batch.registers.destination(places[1], PREDICATE) if len(places) == 2 else None
    value = per_lane(batch, value_operand, word)
    b, c = source(batch, b_operand, word), source(batch, c_operand, word)
    members = bind_members(batch, instruction, member_operand)
    lane = np.tile(np.arange(WARP), batch.warps)
    base = np.arange(batch.lanes) - lane
    mode = modifiers["mode"]

    def resolve() -> tuple[Array, Array]:
        chosen, inside = _shuffle_source(mode, lane, b.astype(np.int64), c.astype(np.int64))
        return base + chosen, inside

    fixed = resolve() if not b.ndim and not c.ndim else None

    def run(mask: Mask) -> None:
        members(mask)
        chosen, inside = resolve() if fixed is None else fixed
        if destination is not None:
            store(destination, value.take(chosen), mask)
        if found is not None:
            store(found, inside, mask)

    return run


# Votes and matches ------------------------------------------------------------------------------------------


def _vote(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    to, given, member_operand = instruction.operands
    mode = modifiers["mode"]
    destination = batch.registers.destination(to, TYPES["b32"] if mode == "ballot" else PREDICATE)
    prologue: list[Callable[[], None]] = []
    flags = batch.registers.source(given, PREDICATE, prologue)
    members = bind_members(batch, instruction, member_operand)

    def run(mask: Mask) -> None:
        named = members(mask)
        for prepare in prologue:
            prepare()
        votes = lane_bits(np.broadcast_to(flags, batch.lanes)) & named
        match mode:
            case "ballot":
                result = votes
            case "any":
                result = votes != 0
            case "all":
                result = votes == named
            case _:
                result = (votes == 0) | (votes == named)
        if destination is not None:
            store(destination, result, mask)

    return run


def _match(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    to, given, member_operand = instruction.operands
    places = (to.first, to.second) if isinstance(to, Pair) else (to,)
    destination = batch.registers.destination(places[0], TYPES["b32"])
    found = batch.registers.destination(places[1], PREDICATE) if len(places) == 2 else None
    value = per_lane(batch, given, modifiers.type("type"))
    members = bind_members(batch, instruction, member_operand)

    def run(mask: Mask) -> None:
        named = members(mask)
        warps = value.reshape(-1, WARP)
        equal = warps[:, :, None] == warps[:, None, :]
        same = (equal * _BIT).sum(axis=2, dtype=np.uint32).reshape(-1) & named
        result = same
        if modifiers["mode"] == "all":
            agree = same == named
            result = np.where(agree, named, U32(0))
            if found is not None:
                store(found, agree, mask)
        if destination is not None:
            store(destination, result, mask)

    return run


# Reductions -------------------------------------------------------------------------------------------------

_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def _reduce(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    scalar = modifiers.type("type")
    to, given, member_operand = instruction.operands
    destination = batch.registers.destination(to, scalar)
    value = per_lane(batch, given, scalar)
    members = bind_members(batch, instruction, member_operand)
    function = _REDUCTIONS[modifiers["op"]]
    if scalar.kind is Kind.FLOAT and "NaN" not in modifiers:
        function = np.fmin if function is np.minimum else np.fmax
    lane = np.arange(batch.lanes)

    def run(mask: Mask) -> None:
        named = members(mask)
        operand = np.abs(value) if "abs" in modifiers else value
        if bool((named == _FULL).all()):
            result = np.repeat(function.reduce(operand.reshape(-1, WARP), axis=1, dtype=operand.dtype), WARP)
        else:
            result = operand.copy()
            for start in lane if mask is None else np.flatnonzero(mask):
                warp = start // WARP * WARP
                chosen = [warp + number for number in range(WARP) if int(named[start]) >> number & 1]
                result[start] = function.reduce(operand[chosen], dtype=operand.dtype)
        if destination is not None:
            store(destination, result, mask)

    return run


# Who is here ------------------------------------------------------------------------------------------------


def _active_mask(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    destination = batch.registers.destination(instruction.operands[0], TYPES["b32"])

    def run(mask: Mask) -> None:
        if destination is not None:
            store(destination, lane_bits(np.ones(batch.lanes, np.bool_) if mask is None else mask), mask)

    return run


def _elect(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """The lowest member is elected."""
    to, member_operand = instruction.operands
    if not isinstance(to, Pair):
        raise OperandError("elect.sync needs a destination pair d|p")
    leader = batch.registers.destination(to.first, TYPES["b32"])
    elected = batch.registers.destination(to.second, PREDICATE)
    members = bind_members(batch, instruction, member_operand)
    own_bit = np.tile(_BIT, batch.warps)

    def run(mask: Mask) -> None:
        named = members(mask)
        lowest = named & (~named + U32(1))
        if leader is not None:
            store(leader, np.bitwise_count(lowest - U32(1)).astype(U32), mask)
        if elected is not None:
            store(elected, lowest == own_bit, mask)

    return run


def _sync_warp(batch: Batch, instruction: Instruction, modifiers: Modifiers) -> Step:
    """bar.warp.sync: orders the memory accesses of the member lanes."""
    members = bind_members(batch, instruction, instruction.operands[0])

    def run(mask: Mask) -> None:
        members(mask)
        batch.shared_space.warp_barrier(mask)

    return run


ROWS: tuple[Row, ...] = (
    special("shfl.sync.mode:(up|down|bfly|idx).b32", "any = b32 u32 u32 u32", _shuffle,
            effects=CROSS_LANE),
    special("vote.sync.mode:(all|any|uni).pred", "pred = pred u32", _vote,
            effects=CROSS_LANE),
    special("vote.sync.mode:ballot.b32", "b32 = pred u32", _vote,
            effects=CROSS_LANE),
    special("match.mode:(any|all).sync.type:(b32|b64)", "any = type u32", _match,
            effects=CROSS_LANE),
    special("redux.sync.op:(add|min|max).type:INT32", "type = type u32", _reduce,
            effects=CROSS_LANE),
    special("redux.sync.op:(and|or|xor).type:b32", "type = type u32", _reduce,
            effects=CROSS_LANE),
    special("redux.sync.op:(min|max).abs?.NaN?.type:f32", "type = type u32", _reduce,
            effects=CROSS_LANE, since="sm_100a sm_103a ptx8.6"),
    special("activemask.b32", "b32 =", _active_mask,
            effects=CROSS_LANE),
    special("elect.sync", "any = u32", _elect,
            effects=CROSS_LANE, since="sm_90 ptx8.0"),
    special("bar.warp.sync", "u32", _sync_warp,
            effects=CROSS_LANE),
)
