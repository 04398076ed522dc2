"""A pipelined kernel without one of its barriers or waits must not pass the check: these bugs hide on real GPUs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import texpr as te
from tests.integration.test_gathering import picked
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.manifest import load_manifest
from texpr.check import Selection, check_bundle
from texpr.checking.report import table
from texpr.checking.rows import Effort
from texpr.compile import find_schedule, load_algorithm, package_of
from texpr.schedule import load_schedule

SOURCE = f"{Path(__file__).parents[2]}/kernels/linear.py:batched_matmul"
SYNCHRONISATION = re.compile(r"\s*(bar\.sync|barrier\.sync|cp\.async\.wait_group)\b.*")
TYPES = {"T": "f16"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    definition = load_algorithm(SOURCE)
    schedule = find_schedule(SOURCE, definition, None, None)
    package = package_of(definition, schedule, ["sm_80"], TYPES, {}, with_example=False)
    folder = tmp_path_factory.mktemp("built") / "batched_matmul"
    write_bundle(package, folder, BuildOptions(targets=("sm_80",)))
    return folder


def pipelined(folder: Path) -> Path:
    """The PTX of the kernel with asynchronous copies."""
    (kernel,) = (kernel for kernel in load_manifest(folder)["kernels"] if "_aligned_" in kernel["name"])
    return folder / kernel["images"][0]["ptx"]


def test_every_barrier_and_wait_is_needed(built: Path, tmp_path: Path) -> None:
    lines = pipelined(built).read_text().split("\n")
    places = [n for n, line in enumerate(lines) if SYNCHRONISATION.fullmatch(line)]
    assert len(places) >= 3
    missed = []
    for place in places:
        copy = Path(shutil.copytree(built, tmp_path / str(place) / "batched_matmul"))
        pipelined(copy).write_text("\n".join([*lines[:place], "", *lines[place + 1 :]]))
        report = check_bundle(copy, load_algorithm(SOURCE), Selection(types=TYPES), Effort(calls=8))
        if report.ok:
            missed.append(lines[place].strip())
    assert not missed


def test_with_all_of_them_it_passes(built: Path) -> None:
    report = check_bundle(built, load_algorithm(SOURCE), Selection(types=TYPES), Effort(calls=8))
    assert report.ok, table(report)


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]", require=["K % 8 == 0", "N % 8 == 0"])
def product(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k)


CUT = "writes: [y], grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}"
STAGES = "x: {at: y.k, in: shared, copy: async, depth: 3}, w: {at: y.k, in: shared, copy: async, depth: 4}"
DISTANCES = f"""
texpr: 1
algorithm: product
variants:
- name: aligned
  target: [sm_80]
  when: aligned(x, w, 16)
  kernels:
  - {{name: k, {CUT}, stage: {{{STAGES}}}}}
- name: rest
  target: [sm_80]
  kernels:
  - {{name: k, {CUT}}}
"""


def test_the_wait_of_copies_at_different_distances_is_exact(tmp_path: Path) -> None:
    """One more group in flight, and the nearer operand has not landed."""
    built = tmp_path / "right" / "product"
    package = package_of(product, load_schedule(DISTANCES, "product.yaml"), ["sm_80"], {}, {}, with_example=False)
    write_bundle(package, built, BuildOptions(targets=("sm_80",)))
    assert check_bundle(built, product, Selection(), Effort(calls=8)).ok
    wrong = Path(shutil.copytree(built, tmp_path / "wrong" / "product"))
    path = pipelined(wrong)
    text = re.sub(r"cp\.async\.wait_group\s+1\b", "cp.async.wait_group 2", path.read_text())
    assert text != path.read_text()
    path.write_text(text)
    assert not check_bundle(wrong, product, Selection(), Effort(calls=8)).ok


GATHERED = """
texpr: 1
algorithm: picked
variants:
- name: aligned
  target: [sm_90a]
  when: aligned(x, w, 16)
  assume: [finite(w)]
  kernels:
  - name: k
    writes: [y]
    grid: {i: 64, j: 32}
    persistent: {programs: 2}
    place: {y: {loop: {k: 32}, mma: {op: wgmma, rows: i, cols: j, a: shared}}}
    stage: {x: {at: y.k, in: shared, copy: async, depth: 2}, w: {at: y.k, in: shared, copy: tma, depth: 2}}
    roles: {gather: {warps: 2, runs: [stage.x, stage.w]}, compute: {warps: 4, runs: [y]}}
- name: rest
  target: [sm_90a]
  kernels:
  - {name: k, writes: [y], grid: {i: 32, j: 32}, place: {y: {loop: {k: 16}}}}
"""
ARRIVAL = r"cp\.async\.mbarrier\.arrive\.noinc(\S*)\s+(\[.*\]);"
GATHERING = {
    "copies that nobody hears of": (ARRIVAL, r""),
    "arrivals before the copies have landed": (ARRIVAL, r"mbarrier.arrive.shared::cta.b64 _, \2;"),
    "arrivals that raise the count": (ARRIVAL, r"cp.async.mbarrier.arrive\1 \2;"),
    "products of what is not fenced": (r"(try_wait(?:.|\n)*?)fence\.proxy\.async\S*;", r"\1"),
    "slots that are never free": (r"(wgmma\.wait_group[^@]*?bar\.sync[^@]*?)@\S+ mbarrier\.arrive\S+ _, .*;", r"\1"),
    "slots that are free before all warps have read them": (r"(wgmma\.wait_group[^@]*?)bar\.sync.*;", r"\1"),
}


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gathered") / "picked"
    package = package_of(picked, load_schedule(GATHERED, "picked.yaml"), ["sm_90a"], {}, {}, with_example=False)
    write_bundle(package, folder, BuildOptions(targets=("sm_90a",)))
    assert check_bundle(folder, picked, Selection(), Effort(calls=10)).ok
    return folder


@pytest.mark.parametrize("what", GATHERING)
def test_what_a_role_that_gathers_and_its_reader_say_to_each_other_is_needed(
    what: str, gathered: Path, tmp_path: Path
) -> None:
    wrong = Path(shutil.copytree(gathered, tmp_path / "picked"))
    path = pipelined(wrong)
    text, count = re.subn(*GATHERING[what], path.read_text(), count=1)
    assert count == 1
    path.write_text(text)
    assert not check_bundle(wrong, picked, Selection(), Effort(calls=10)).ok
