"""Tiles of the grid that are sums of two powers of two."""

from __future__ import annotations

from typing import Any

import texpr as te
from texpr.math.bounds import Facts
from texpr.math.expr import TRUE
from texpr.plan.build import plan_variant
from texpr.plan.divided import parts_of, starts_of
from texpr.plan.ir import AxisTile, KernelPlan, Reduction, Stage
from texpr.plan.show import show_kernel
from texpr.schedule import kernel, mma, place, stage, variant
from texpr.targets import TARGETS


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f16[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]


def planned(target: str, op: str, by: dict[str, int] | None = None) -> KernelPlan:
    copied = stage(at="acc.k", in_="shared", copy="async", depth=3)
    record = kernel(
        "product",
        writes=["y"],
        grid={"i": 128, "j": 192},
        warps=8,
        place={"acc": place(at="tile", loop={"k": 32}, mma=mma(op)), "y": place(at="tile", by=by or {})},
        stage={"x": copied, "w": copied},
    )
    one = variant("any", target=target, when="aligned(x, w, 16)", kernels=[record])
    return plan_variant(product.bind({}), one, TARGETS[target]).kernels[0]


def test_a_sum_of_powers_of_two_has_them_as_parts() -> None:
    assert parts_of(192) == (128, 64)
    assert parts_of(64) == (64,)
    assert starts_of(192, 192) == [(0, 128), (128, 64)]
    assert starts_of(192, 64) == [(0, 64), (64, 64), (128, 64)]
    assert starts_of(96, 64) == [(0, 64), (64, 32)]


def test_what_lies_along_the_axis_is_staged_part_by_part() -> None:
    (node,) = (one for one in planned("sm_90a", "wgmma").body if isinstance(one, Reduction))
    stages = [one for one in node.body if isinstance(one, Stage)]
    assert [one.name for one in stages] == ["w", "w.128", "x"]
    assert [[size for _, size in one.form.axes] for one in stages if isinstance(one.form, AxisTile)] == [
        [32, 128], [32, 64], [128, 32],
    ]  # fmt: skip
    assert all(one.multiplied and one.ahead == 1 for one in stages)


def test_the_loop_nest_shows_the_parts() -> None:
    text = show_kernel(planned("sm_90a", "wgmma"), TRUE, Facts())
    assert "j:192 = 128 + 64" in text
    assert "load w.128  [k:32, j:64] f16 -> shared 3 x 4 KB" in text
    assert "wgmma m64n128k16 and m64n64k16 f16 x f16, [128 x 32] x [32 x 192]: 2 + 2 a warpgroup" in text
    assert "w 1x, staged" in text
    assert "mma m16n8k16" in show_kernel(planned("sm_80", "auto", {"j": 64}), TRUE, Facts())
