"""Lives of buffers, the bytes they share, and memsets before kernels."""

from __future__ import annotations

import random
from typing import Any

import pytest

import texpr as te
from texpr.dtypes import DType
from texpr.math.expr import const, sym
from texpr.plan.build import plan_variant
from texpr.plan.errors import FillNotPossible
from texpr.plan.ir import VariantPlan
from texpr.plan.show import show_variant
from texpr.plan.workspace import Life, buffer_bytes, memset_pattern, shared_slots
from texpr.schedule import load_schedule
from texpr.targets import TARGETS

N = sym("N")


@te.algorithm("x: f32[N] -> y: f32[N], n: i32[N]")
def chain(x: Any, y: Any, n: Any) -> None:
    (i,) = te.axes(i="N")
    a, b, c = te.funcs("a b c")
    a[i] = x[i] * 2.0
    b[i] = a.clamped()[i + 1] * 3.0
    c[i] = b.clamped()[i + 1] * 5.0
    y[i] = c.clamped()[i + 1] + a[i]
    n[i] = c.clamped()[i - 1].to("i32")


def planned(fills: str = "{}", last: str = "[y, n]") -> VariantPlan:
    kernels = "\n".join(f"  - {{name: k{f}, writes: [{f}], grid: {{i: 64}}}}" for f in "abc")
    text = (
        "texpr: 1\nalgorithm: chain\nvariants:\n- name: any\n  target: sm_80\n  kernels:\n"
        f"{kernels}\n  - {{name: last, writes: {last}, like: ka, fill: {fills}}}\n"
    )
    (variant,) = load_schedule(text, "chain.yaml").variants
    return plan_variant(chain.bind({}), variant, TARGETS["sm_80"])


def test_a_func_lives_from_the_kernel_that_writes_it_to_the_last_that_reads_it() -> None:
    lives = {space.name: (space.first, space.last) for space in planned().workspace}
    assert lives == {"a": (0, 3), "b": (1, 2), "c": (2, 3)}


def test_buffers_of_disjoint_lives_share_bytes() -> None:
    lives = [Life(name, DType.F32, (N,), first, last) for name, first, last in (("a", 0, 1), ("b", 1, 2), ("c", 2, 3))]
    assert [space.slot for space in shared_slots(lives)] == [0, 1, 0]


@pytest.mark.parametrize("seed", range(20))
def test_slots_are_never_shared_at_the_same_launch_and_are_as_few_as_possible(seed: int) -> None:
    rng = random.Random(seed)
    lives = []
    for n in range(12):
        first = rng.randrange(8)
        lives.append(Life(f"b{n}", DType.F32, (N,), first, first + rng.randrange(4)))
    slots = [space.slot for space in shared_slots(lives)]
    at_once = [[n for n, life in enumerate(lives) if life.first <= launch <= life.last] for launch in range(12)]
    assert all(len({slots[n] for n in alive}) == len(alive) for alive in at_once)
    assert len(set(slots)) == max(len(alive) for alive in at_once)


def test_the_loop_nest_prints_lives_and_fills() -> None:
    plan = planned("{n: -1}")
    lines = show_variant(plan, chain.bind({})).splitlines()
    assert "workspace b [N] f32   4 * N bytes   from kb to kc" in lines
    assert "fill n = -1   memset of 32-bit numbers" in lines


def test_a_kernel_like_another_keeps_its_own_name_and_writes() -> None:
    last = planned().kernels[-1]
    assert (last.name, [f.name for f in last.writes], dict(last.record.grid)) == ("last", ["y", "n"], {"i": 64})


@pytest.mark.parametrize(
    ("dtype", "value", "pattern"),
    [
        (DType.F32, 1.0, (32, 0x3F800000)),
        (DType.F32, float("-inf"), (32, 0xFF800000)),
        (DType.F32, 0.1, (32, 0x3DCCCCCD)),
        (DType.F16, -0.0, (16, 0x8000)),
        (DType.BF16, 1, (16, 0x3F80)),
        (DType.F8E4M3, 448, (8, 0x7E)),
        (DType.I8, -1, (8, 0xFF)),
        (DType.U16, 65535, (16, 0xFFFF)),
        (DType.I64, -1, (32, 0xFFFFFFFF)),
        (DType.F64, 0, (32, 0)),
        (DType.BOOL, 1, (8, 1)),
    ],
)
def test_patterns_of_memsets(dtype: DType, value: float, pattern: tuple[int, int]) -> None:
    assert memset_pattern("s", dtype, value, None) == pattern


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(DType.F64, 1.0), (DType.I64, 1), (DType.I32, 0.5), (DType.I8, 128), (DType.U32, -1), (DType.I32, float("inf"))],
)
def test_values_that_no_memset_sets_are_refused(dtype: DType, value: float) -> None:
    with pytest.raises(FillNotPossible):
        memset_pattern("s", dtype, value, None)


def test_elements_of_less_than_a_byte_are_packed() -> None:
    assert buffer_bytes(const(5), DType.U4) == const(3)
    assert buffer_bytes(const(5), DType.F16) == const(10)
