"""Packs of kernels with tensor maps, roles and launches that begin early: all that a GPU would be asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packing.packs import ROOT, results_of
from texpr.packing.cases import Effort
from texpr.packing.pack import Request, write_pack
from texpr.packing.requests import parse_size
from texpr.packing.runner.records import read_pack
from texpr.packing.sizes import Limits
from texpr.runtime.manifest import read_manifest

KERNEL = '''
import texpr as te


@te.algorithm("x: T[M, K], w: T[K, N] -> y: T[M, N]", T=("f16",))
def product(x, w, y):
    """``y = x w``."""
    i, j, k = te.axes(i="M", j="N", k="K")
    acc = te.func("acc")
    acc[i, j] = te.sum(x[i, k] * w[k, j], over=k)
    y[i, j] = acc[i, j]
'''
SCHEDULE = """
texpr: 1
algorithm: product
variants:
- name: parts
  target: sm_90a
  when: K >= 96 and 64 <= sms
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
- name: fetched
  target: sm_90a
  when: M >= 1 and N >= 1 and K >= 1 and K % 8 == 0 and N % 8 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: matmul
    writes: [y]
    grid: {i: 64, j: 128}
    cluster: {i: 2}
    persistent: true
    place: {acc: {at: tile, loop: {k: 64}, mma: {op: wgmma, rows: i, cols: j}}}
    stage:
      x: {at: acc.k, in: shared, depth: 3, copy: tma}
      w: {at: acc.k, in: shared, depth: 3, copy: tma}
    roles:
      load: {warps: 1, registers: 40, runs: [stage.x, stage.w]}
      compute: {warps: 4, registers: 232, runs: [acc, y]}
- name: any
  target: sm_90a
  kernels:
  - name: matmul
    writes: [y]
    grid: {i: 32, j: 32}
    warps: 2
    place: {acc: {at: tile, loop: {k: 16}}}
"""
SIZES = ("product:M=72,N=136,K=264", "product:M=200,N=264,K=72")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("hopper")
    (folder / "product.py").write_text(KERNEL)
    (folder / "product.yaml").write_text(SCHEDULE)
    effort = Effort(calls=2, work=60_000, limits=Limits(bytes=64 << 10, work=1 << 16))
    request = Request(
        (f"{folder / 'product.py'}:product",), schedule=folder / "product.yaml", targets=("sm_90a",), effort=effort,
        sizes=tuple(parse_size(size) for size in SIZES),
    )  # fmt: skip
    write_pack(request, folder / "pack")
    return folder / "pack"


@pytest.fixture
def hopper(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "pack"))


def test_it_asks_for_much_shared_memory_and_whole_warp_groups(packed: Path) -> None:
    """A role of one warp takes the room of four: registers are handed over by groups."""
    kernels = read_manifest(packed / "bundles" / "product").kernels
    kernel = next(kernel for kernel in kernels if kernel.name == "product_fetched_matmul")
    assert kernel.cluster == 2
    (fetched,) = kernel.cubins
    assert fetched.threads == 32 * (4 + 4)
    assert 48 << 10 < fetched.shared_bytes <= 227 << 10


def test_the_emulator_runs_them(hopper: Path) -> None:
    command = [sys.executable, str(hopper / "run.py"), "--device", "emulator", "--sm", "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    results = results_of(hopper)
    assert set(results) == {case.id for case in read_pack(hopper).cases}
    assert all(results[f"product/fetched/sm_90a/{size}"]["compared"] > 0 for size in ("72x136x264", "200x264x72"))


@pytest.mark.parametrize("multiprocessors", [2, 132])
def test_the_driver_path_takes_the_variant_for_its_multiprocessors(hopper: Path, multiprocessors: int) -> None:
    """The code for GPUs on a libcuda.so.1 that emulates: maps are encoded by the driver, and a variant that only large
    GPUs take is what is right there, though the pack was made where another takes the call."""
    command = [
        sys.executable, "-m", "texpr.cli", "emulate", "--bundle", str(hopper / "bundles" / "product"), "--sm", "90",
        "--multiprocessors", str(multiprocessors), "--", sys.executable, str(hopper / "run.py"), "--no-time",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(result["failures"] == [] for result in results_of(hopper).values())


def test_a_case_knows_what_takes_it_where(packed: Path) -> None:
    cases = {case.id: case for case in read_pack(packed).cases}
    case = cases["product/fetched/sm_90a/72x136x264"]
    assert case.variant == "fetched" and case.chosen == ((1, "fetched"), (64, "parts"))
    assert [case.variant_on(count) for count in (1, 2, 63, 64, 132)] == ["fetched"] * 3 + ["parts"] * 2
    assert cases["product/fetched/sm_90a/200x264x72"].chosen == ((1, "fetched"),)
    large = cases["product/parts/sm_90a/large"]
    assert large.variant_on(2) != "parts" and large.variant_on(108) == "parts"


def test_the_wrong_variant_is_still_found(hopper: Path) -> None:
    file = hopper / "pack.json"
    value = json.loads(file.read_text())
    case = next(case for case in value["cases"] if case["id"] == "product/fetched/sm_90a/72x136x264")
    case["chosen"] = [[1, "any"]]
    file.write_text(json.dumps(value))
    command = [sys.executable, str(hopper / "run.py"), "--device", "emulator", "--sm", "90", "--only", case["id"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (failure,) = results_of(hopper)[case["id"]]["failures"]
    assert failure["text"] == "the launcher chose 'fetched', the guards say 'any'"
