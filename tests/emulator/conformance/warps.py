"""Lanes of a warp that exchange values: the formulas of the PTX manual, lane by lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import reduce

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output, lanes
from tests.emulator.conformance.floats import limit
from tests.emulator.conformance.formats import F32, patterns
from tests.emulator.conformance.integers import signed

WARP = 32
rng = np.random.default_rng(23)


def warps(
    opcode: str,
    sources: list[Array],
    outputs: Mapping[str, str],
    function: Callable[..., list[tuple[int, ...]]],
    body: str,
    *,
    name: str = "",
    registers: str = "",
    form: str = "",
    also: tuple[str, ...] = (),
) -> Case:
    """`function` takes the values of a warp's lanes and gives a tuple of results for each lane."""
    results = {key: Output(dtype, 0, form) for key, dtype in outputs.items()}
    case = lanes(opcode, sources, results, lambda *row: 0, body=body, name=name, registers=registers, also=also)

    def expect() -> dict[str, Array]:
        arrays = [array.tolist() for array in case.inputs.values()]
        rows: list[tuple[int, ...]] = []
        for start in range(0, len(arrays[0]), WARP):
            rows += function(*(array[start : start + WARP] for array in arrays))
        columns = zip(*rows, strict=True)
        return {
            key: np.array(column, np.uint64).astype(output.dtype)
            for (key, output), column in zip(case.outputs.items(), columns, strict=True)
        }

    return Case(case.name, case.opcodes, case.body, case.inputs, case.outputs, expect, grid=case.grid, also=also)


def shuffled(mode: str, values: list[int], b: list[int], c: int) -> list[tuple[int, ...]]:
    rows = []
    for lane in range(WARP):
        clamp, segment, step = c & 31, (c >> 8) & 31, b[lane] & 31
        last, first = (lane & segment) | (clamp & ~segment & 31), lane & segment
        source = {"up": lane - step, "down": lane + step, "bfly": lane ^ step, "idx": first | (step & ~segment & 31)}
        inside = source[mode] >= last if mode == "up" else source[mode] <= last
        rows.append((values[source[mode] if inside else lane], int(inside)))
    return rows


def cases() -> Iterator[Case]:
    values = rng.integers(0, 1 << 32, 64, dtype=np.uint32)
    flag = "selp.b32 %e, 1, 0, %p;"
    for mode in ("up", "down", "bfly", "idx"):
        for width in (32, 8):
            c = (32 - width) << 8 | (0 if mode == "up" else 31)
            for b in (0, 1, 3, 9, 31):
                yield warps(
                    f"shfl.sync.{mode}.b32",
                    [values],
                    {"d": "u4", "e": "u4"},
                    lambda a, m=mode, b=b, c=c: shuffled(m, a, [b] * WARP, c),
                    f"shfl.sync.{mode}.b32 %d|%p, %s0, {b}, {c}, -1; {flag}",
                    name=f"shfl.sync.{mode}.b32 by {b} of {width}",
                    registers=".reg .pred %p;",
                )
        if mode == "idx":
            steps = (np.arange(64, dtype=np.uint32) * 7) % 32
            yield warps(
                "shfl.sync.idx.b32",
                [values, steps],
                {"d": "u4", "e": "u4"},
                lambda a, b: shuffled("idx", a, b, 31),
                f"shfl.sync.idx.b32 %d|%p, %s0, %s1, 31, -1; {flag}",
                name="shfl.sync.idx.b32 by registers",
                registers=".reg .pred %p;",
            )
    bits = rng.integers(0, 2, 128).astype(np.uint32)
    bits[32:64], bits[64:96] = 1, 0
    for mode, vote in (("any", any), ("all", all), ("uni", lambda flags: all(flags) or not any(flags))):
        yield warps(
            f"vote.sync.{mode}.pred",
            [bits],
            {"d": "u4"},
            lambda a, vote=vote: [(int(vote([bool(x) for x in a])),)] * WARP,
            f"setp.ne.u32 %p, %s0, 0; vote.sync.{mode}.pred %q, %p, -1; selp.b32 %d, 1, 0, %q;",
            registers=".reg .pred %p, %q;",
        )
    yield warps(
        "vote.sync.ballot.b32",
        [bits],
        {"d": "u4"},
        lambda a: [(sum(1 << i for i, x in enumerate(a) if x),)] * WARP,
        "setp.ne.u32 %p, %s0, 0; vote.sync.ballot.b32 %d, %p, -1;",
        registers=".reg .pred %p;",
    )
    yield warps("activemask.b32", [bits], {"d": "u4"}, lambda a: [(0xFFFF_FFFF,)] * WARP, "activemask.b32 %d;")
    for width in (32, 64):
        few = rng.integers(0, 4, 64).astype(f"u{width // 8}") << np.uint64(width - 8).astype(f"u{width // 8}")
        few[32:] = 5
        yield warps(
            f"match.any.sync.b{width}",
            [few],
            {"d": "u4"},
            lambda a: [(sum(1 << i for i, x in enumerate(a) if x == y),) for y in a],
            f"match.any.sync.b{width} %d, %s0, -1;",
        )
        yield warps(
            f"match.all.sync.b{width}",
            [few],
            {"d": "u4", "e": "u4"},
            lambda a: [(0xFFFF_FFFF, 1) if len(set(a)) == 1 else (0, 0)] * WARP,
            f"match.all.sync.b{width} %d|%p, %s0, -1; {flag}",
            registers=".reg .pred %p;",
        )
    reductions: dict[str, Callable[[list[int]], int]] = {
        "add.u32": lambda a: sum(a) % 2**32,
        "add.s32": lambda a: sum(a) % 2**32,
        "min.u32": min,
        "max.u32": max,
        "min.s32": lambda a: min(a, key=lambda x: signed(x, 32)),
        "max.s32": lambda a: max(a, key=lambda x: signed(x, 32)),
        "and.b32": lambda a: reduce(int.__and__, a),
        "or.b32": lambda a: reduce(int.__or__, a),
        "xor.b32": lambda a: reduce(int.__xor__, a),
    }
    for operation, function in reductions.items():
        yield warps(
            f"redux.sync.{operation}",
            [values],
            {"d": "u4"},
            lambda a, f=function: [(f(a),)] * WARP,
            f"redux.sync.{operation} %d, %s0, -1;",
        )
        # Each half of the warp is a group of its own.
        yield warps(
            f"redux.sync.{operation}",
            [values],
            {"d": "u4"},
            lambda a, f=function: [(f(a[:16]),)] * 16 + [(f(a[16:]),)] * 16,
            f"""setp.lt.u32 %p, %lane, 16; @%p bra LOW; redux.sync.{operation} %d, %s0, 0xffff0000; bra DONE;
                    LOW: redux.sync.{operation} %d, %s0, 0x0000ffff; DONE:""",
            name=f"redux.sync.{operation} of halves",
            registers=LANE,
        )
    floats = np.resize(patterns(F32, 128, 6), 128)
    floats[:32] = rng.standard_normal(32).astype(np.float32).view(np.uint32)
    for operation in ("min", "max"):
        for flags in ("", ".abs", ".NaN", ".abs.NaN"):
            best = limit(F32, operation == "max", flags)
            yield warps(
                f"redux.sync.{operation}{flags}.f32",
                [floats],
                {"d": "u4"},
                lambda a, f=best: [(f(*a),)] * WARP,
                f"redux.sync.{operation}{flags}.f32 %d, %s0, -1;",
                form="f32",
            )
    yield warps(
        "elect.sync",
        [values],
        {"d": "u4", "e": "u4"},
        lambda a: [(0, 1)] + [(0, 0)] * 31,
        f"elect.sync %d|%p, -1; {flag}",
        registers=".reg .pred %p;",
    )
    yield warps(
        "bar.warp.sync", [values], {"d": "u4"}, lambda a: [(x,) for x in a], "bar.warp.sync -1; mov.b32 %d, %s0;"
    )


LANE = ".reg .pred %p; .reg .b32 %lane; mov.u32 %lane, %laneid;"
