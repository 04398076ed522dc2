"""Reductions by keys of which no two are the same are stores: of every type, in no order that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle, worst
from tests.integration.test_invert import kernel
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.ir import Write
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


@te.algorithm("at: i32[N] unique, x: T[N, C], like: u8[B] -> y: T[B, C]", T=("f16", "f32", "i8", "f64", "u16"))
def scattered(at: Any, x: Any, like: Any, y: Any) -> None:
    i, b, c = te.axes(i="N", b="B", c="C")
    y[b, c] = te.sum(x[i, c], over=i, where=(at[i] == b) & (i != 2))


@te.algorithm("p: u32[N] permutation(N), x: f32[N] -> y: f32[N], hi: f16[N], lo: i16[N], t: f32[N]")
def permuted(p: Any, x: Any, y: Any, hi: Any, lo: Any, t: Any) -> None:
    """The inverse permutation, by every reduction of one point; a rounding on the way."""
    i, k = te.axes(i="N", k="N")
    y[k] = te.sum(x[i], over=i, where=p[i] == k)
    hi[k] = te.max(x[i] * 3, over=i, where=p[i] == k)
    lo[k] = te.min(i.to("i16"), over=i, where=(p[i] == k) & (x[i] > 0))
    t[k] = te.prod(x[i] + 1, over=i, where=p[i] == k)


@pytest.mark.parametrize("dtype", ["f16", "f32", "i8", "f64", "u16"])
def test_rows_of_every_type_go_where_the_keys_say(dtype: str, tmp_path: Path) -> None:
    text = kernel("y", "grid: {i: 16, c: 8}", "fill: {y: 0}", "place: {y: {invert: i, in: global}}")
    built = bundle(scattered, text, tmp_path, {"T": dtype})
    rng = np.random.default_rng(1)
    for n, b, c in [(0, 3, 2), (1, 1, 1), (50, 70, 9), (70, 20, 8)]:
        keys = rng.permutation(np.arange(-3, max(n, b) + 3, dtype=np.int32))[:n]
        x = rng.integers(0, 50, (n, c)).astype(f"{dtype[0]}{int(dtype[1:]) // 8}")
        assert worst(built, scattered, {"at": keys, "x": x, "like": np.zeros(b, np.uint8)}, {"T": dtype}) == 0


@pytest.mark.parametrize("schedule", ["by hand", "default"])
def test_a_permutation_is_inverted(schedule: str, tmp_path: Path) -> None:
    fills = "fill: {y: 0, hi: -inf, lo: 32767, t: 1}"
    places = ", ".join(f"{name}: {{invert: i, in: global}}" for name in ("y", "hi", "lo", "t"))
    text = kernel("y, hi, lo, t", "grid: {i: 64}", fills, f"place: {{{places}}}")
    record: Any = text
    if schedule == "default":
        from texpr.schedule import dump_schedule

        record = dump_schedule(default_schedule(permuted, ["sm_80"]))
    built = bundle(permuted, record, tmp_path)
    rng = np.random.default_rng(2)
    for n in (0, 1, 63, 200):
        x = rng.standard_normal(n).astype(np.float32)
        x[: n // 50] = np.nan
        assert worst(built, permuted, {"p": rng.permutation(n).astype(np.uint32), "x": x}) <= 1


def test_nothing_is_atomic_and_the_order_does_not_matter() -> None:
    text = kernel("y", "grid: {i: 16, c: 8}", "fill: {y: 0}", "place: {y: {invert: i, in: global}}")
    head = "texpr: 1\nalgorithm: scattered\nvariants:\n- name: only\n  target: [sm_80]\n  kernels:\n"
    (variant,) = load_schedule(head + text, "s.yaml").variants
    plan = plan_variant(scattered.bind({"T": "f32"}, {}), variant, TARGETS["sm_80"])
    (write,) = plan.kernels[0].nodes
    assert isinstance(write, Write) and write.update is not None and write.update.single
    assert plan.reproducible
