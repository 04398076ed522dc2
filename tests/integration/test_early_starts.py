"""Kernels that start while the one before them still runs: nothing in memory is touched before that has ended."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import texpr as te
from tests.integration.running import halves, worst
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import chosen_targets, package_of
from texpr.runtime import load
from texpr.schedule import load_schedule


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N]", T=("f16",))
def product(x, w, y):  # type: ignore[no-untyped-def]
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]


SCHEDULE = """
texpr: 1
algorithm: product
variants:
- name: parts
  target: sm_90a
  kernels:
  - name: pieces
    writes: [acc.part]
    grid: {i: 32, j: 32, k.part: 1}
    split_reduction: {of: [acc], over: k, parts: 4}
    place: {acc.part: {loop: {k: 16}, mma: {op: mma, rows: i, cols: j}}}
    stage: {x: {at: acc.part.k, in: shared}, w: {at: acc.part.k, in: shared}}
  - name: sum
    writes: [y]
    grid: {i: 8, j: 32}
    whole: {k.part: 4}
    start: early
"""


def test_a_kernel_that_starts_early_waits_before_it_touches_memory(tmp_path: Path) -> None:
    record = load_schedule(SCHEDULE, "product.yaml")
    package = package_of(product, record, chosen_targets(record, None), {}, {})
    write_bundle(package, tmp_path / "product", BuildOptions())
    source = (tmp_path / "product" / "product.c").read_text()
    assert source.count("product_start(&call->") == 1 and source.count("product_start_early(&call->") == 1

    waited = []
    for path in (tmp_path / "product" / "ptx").glob("*.ptx"):
        instructions = [line.strip() for line in path.read_text().splitlines()]
        assert "griddepcontrol.launch_dependents;" in instructions
        touched = [n for n, line in enumerate(instructions) if re.match(r"(@\S+ )?(ld|st|red|atom)\.\S*global", line)]
        if "griddepcontrol.wait;" in instructions:
            waited.append(path)
            assert instructions.index("griddepcontrol.wait;") < min(touched)
    assert len(waited) == 1

    bundle = load(str(tmp_path / "product"), device="emulator", sm=90)
    rng = np.random.default_rng(0)
    for m, k, n in ((33, 80, 40), (1, 7, 3), (64, 0, 32), (0, 8, 8)):
        assert worst(bundle, product, {"x": halves(rng, m, k), "w": halves(rng, k, n)}) <= 1, (m, k, n)
