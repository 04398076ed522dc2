"""How the members of a group are kept between its steps, as it is printed and as it is lowered."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.plan.build import plan_variant
from texpr.plan.show import show_variant
from texpr.schedule import kernel, mma, place, variant
from texpr.targets import TARGETS


@te.algorithm("x: f16[M, K], w: f16[N, K] -> y: f32[M]", require=["K % 8 == 0"])
def partition(x: Any, w: Any, y: Any) -> None:
    """Sums of exponentials of a product's rows."""
    i, j, k = te.axes(i="M", j="N", k="K")
    s, m, t = te.funcs("s m t")
    s[i, j] = te.sum(x[i, k] * w[j, k], over=k)
    m[i] = te.max(s[i, j], over=j)
    t[i] = te.sum(te.exp(s[i, j] - m[i]), over=j)
    y[i] = te.log(t[i]) + m[i]


def nest(op: str) -> list[str]:
    record = kernel(
        "partition",
        writes=["y"],
        grid={"i": 64},
        whole={"k": 32},
        warps=4,
        online={"funcs": ["m", "t"], "at": "tile", "loop": {"j": 64}},
        place={"s": place(at="t.j", mma=mma(op=op, rows="i", cols="j"))},
    )
    one = variant("any", target="sm_80", when="K <= 32 and aligned(x, w, 16)", kernels=[record])
    algorithm = partition.bind({})
    plan = plan_variant(algorithm, one, TARGETS["sm_80"])
    return show_variant(plan, algorithm).splitlines()


def line_of(lines: list[str], start: str) -> str:
    (line,) = (line for line in lines if line.lstrip("| ").startswith(start))
    return line


@pytest.mark.parametrize(("op", "shape"), [("mma", "[i:64]"), ("fma", "[i:64, j:64]")])
def test_a_sum_over_what_a_matrix_unit_leaves_is_kept_by_rows(op: str, shape: str) -> None:
    assert f"   {shape} f32" in line_of(nest(op), "t = 0")


def test_a_sum_by_rows_is_reduced_in_every_step() -> None:
    assert line_of(nest("mma"), "t +=").endswith("across j in every step")
    assert not any("of its lanes" in line for line in nest("mma"))


def test_partial_results_of_lanes_are_reduced_once() -> None:
    assert "across" not in line_of(nest("fma"), "t +=")
    assert "of its lanes along j" in line_of(nest("fma"), "t = sum")
