"""Small algorithms for the tests of the checker, and bundles made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import texpr as te
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import package_of
from texpr.lang.algorithm import AlgorithmDef
from texpr.schedule.files import load_schedule
from texpr.schedule.records import Schedule


@te.algorithm("x: T[M, N], b: T[N]? -> y: T[M, N]", T=("f16", "f32"), require=["N % 4 == 0"])
def scaled(x: Any, b: Any, y: Any) -> None:
    """y = 3 x + b."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 3 + b.get(j, 0)


SCALED = """
texpr: 1
algorithm: scaled
variants:
- name: wide
  target: [sm_80, sm_90a]
  when: M >= 8 and aligned(x, y, 16)
  kernels:
  - {name: scaled, writes: [y], grid: {i: 8, j: 32}, warps: 1}
- name: any
  target: [sm_80, sm_90a]
  kernels:
  - {name: scaled, writes: [y], grid: {i: 4, j: 16}, warps: 1}
"""


@te.algorithm("x: T[P, N], at: i32[M] in [0, P) -> y: T[M, N]", T=("f16",))
def picked(x: Any, at: Any, y: Any) -> None:
    """y = x[at]."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[at[i], j]


@te.algorithm("x: f32[M*, N], n: i32 in [1, N) -> y: f32[M*, N] alias(x)")
def clipped(x: Any, n: Any, y: Any) -> None:
    """The first n columns of x, and zero."""
    i, j = te.axes(i="M", j="N")
    y[i, j] = te.where(j < n, x[i, j], 0)


@te.algorithm("x: f32[H, W] -> y: f32[P, Q]", dims=dict(P="(H - 1) // 2 + 1", Q="W - 2"), require=["H >= 1", "W >= 2"])
def shrunk(x: Any, y: Any) -> None:
    """Every other row, without the border columns."""
    p, q = te.axes(p="P", q="Q")
    y[p, q] = x[2 * p, q + 1]


def schedule(text: str) -> Schedule:
    return load_schedule(text, "test.yaml")


def bundle(
    folder: Path, definition: AlgorithmDef, record: Schedule, targets: Sequence[str], types: Mapping[str, str]
) -> Path:
    """A bundle in ``folder/<name>``."""
    package = package_of(definition, record, targets, types, {}, with_example=False)
    write_bundle(package, folder / definition.name, BuildOptions(targets=tuple(targets)))
    return folder / definition.name
