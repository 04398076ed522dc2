"""Scans in the reference and in the error analysis, against loops written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import texpr as te
from texpr.lang.errorbound import error_bounds
from texpr.lang.show import def_text


def scanned(values: Any, starts: Any, exclusive: bool, reverse: bool, combine: Any, identity: Any) -> list[Any]:
    """One line, point after point in scan order."""
    order = range(len(values))[:: -1 if reverse else 1]
    result: list[Any] = [None] * len(values)
    state = identity
    for i in order:
        if starts[i]:
            state = identity
        after = combine(state, values[i])
        result[i] = state if exclusive else after
        state = after
    return result


@pytest.mark.parametrize("n", [0, 1, 2, 7, 16, 33])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("op", ["+", "max", "xor"])
def test_a_scan_is_the_loop(op: str, exclusive: bool, reverse: bool, n: int) -> None:
    @te.algorithm("x: i32[N, M], f: bool[N] -> y: i32[N, M], z: i32[N, M]")
    def scan(x: Any, f: Any, y: Any, z: Any) -> None:
        i, j = te.axes(i="N", j="M")
        y[i, j] = te.scan(op, x[i, j], along=i, exclusive=exclusive, reverse=reverse)
        z[i, j] = te.scan(op, x[i, j], along=i, exclusive=exclusive, reverse=reverse, reset=f[i])

    rng = np.random.default_rng(n)
    x = rng.integers(-(2**31), 2**31, (n, 3)).astype(np.int32)
    f = rng.random(n) < 0.3
    found = te.reference(scan)(x=x, f=f)
    operations: dict[str, tuple[Any, Any]] = {
        "+": (lambda a, b: np.int32((int(a) + int(b) + 2**31) % 2**32 - 2**31), np.int32(0)),
        "max": (max, np.int32(-(2**31))),
        "xor": (lambda a, b: a ^ b, np.int32(0)),
    }
    combine, identity = operations[op]
    for j in range(3):
        for name, starts in (("y", np.zeros(n, bool)), ("z", f)):
            wanted = scanned(x[:, j], starts, exclusive, reverse, combine, identity)
            assert found[name][:, j].tolist() == [int(v) for v in wanted]


@te.algorithm("a: f32[B, L], b: f32[B, L] -> h: f32[B, L], back: f32[B, L]")
def recurrence(a: Any, b: Any, h: Any, back: Any) -> None:
    n, t = te.axes(n="B", t="L")
    compose = te.monoid(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), identity=(1.0, 0.0), name="compose")
    factor, last = te.funcs("factor last")
    factor[n, t], h[n, t] = te.scan(compose, (a[n, t], b[n, t]), along=t)
    _, last[n, t] = te.scan(compose, (a[n, t], b[n, t]), along=t, reverse=True, exclusive=True)
    back[n, t] = last[n, t]


def test_the_left_operand_is_earlier_in_scan_order() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 13)).astype(np.float32) for _ in range(2))
    found = te.reference(recurrence)(a=a, b=b)
    state, behind = np.zeros(2), np.zeros(2)
    for t in range(13):
        state = a[:, t] * state + b[:, t]
        assert np.allclose(found["h"][:, t], state, rtol=1e-5, atol=1e-5)
    for t in reversed(range(13)):
        assert np.allclose(found["back"][:, t], behind, rtol=1e-5, atol=1e-5)
        behind = a[:, t] * behind + b[:, t]


def test_sums_in_single_precision_are_within_the_bound_and_wrong_ones_are_not() -> None:
    @te.algorithm("x: f32[N] -> y: f32[N], z: f32[N], p: f32[N]")
    def sums(x: Any, y: Any, z: Any, p: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.scan("+", x[i], along=i)
        z[i] = te.scan("+", x[i], along=i, reverse=True, exclusive=True)
        p[i] = te.scan("*", 1.0 + x[i] * 0.01, along=i)

    x = np.random.default_rng(3).standard_normal(1000).astype(np.float32)
    bounds = error_bounds(sums)(x=x)
    line = np.cumsum(x, dtype=np.float32)
    behind = np.concatenate([np.cumsum(x[::-1], dtype=np.float32)[::-1][1:], [np.float32(0)]])
    product = np.cumprod(np.float32(1) + x * np.float32(0.01), dtype=np.float32)
    for name, values in (("y", line), ("z", behind), ("p", product)):
        assert bounds[name].ratios(values.astype(np.float64)).max() <= 1
        assert bounds[name].ratios(values.astype(np.float64) + 0.01).max() > 1


def test_a_recurrence_is_within_its_bound_in_either_order() -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.standard_normal((3, 64)).astype(np.float32) for _ in range(2))
    bound = error_bounds(recurrence)(a=a, b=b)["h"]
    state = np.zeros(3, np.float32)
    line = np.empty_like(a)
    for t in range(64):
        state = a[:, t] * state + b[:, t]
        line[:, t] = state
    assert bound.ratios(line.astype(np.float64)).max() <= 1
    assert bound.ratios(line.astype(np.float64) * 1.01).max() > 1


def test_scans_inside_expressions_become_funcs() -> None:
    @te.algorithm("x: f32[M, N], f: bool[N] -> y: f32[M]")
    def best(x: Any, f: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i] = te.max(te.scan("+", x[i, j], along=j, reset=f[j]) * 2.0, over=j)

    assert [def_text(d) for d in best.bind().defs] == [
        "y.r1[i, j] = scan(sum, x[i, j], along=j, reset=f[j])",
        "y[i] = max(y.r1[i, j] * 2.0, over=j)",
    ]
    found = te.reference(best)(x=np.float32([[1, 2, -1, 4]]), f=np.array([0, 0, 1, 0], bool))["y"]
    assert found.tolist() == [6.0]
