"""Mutants of compiled kernels of sm_90a: one piece of synchronisation removed or weakened."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.emulator.compiled_hopper import Hopper, compile_hopper, run_hopper
from tests.emulator.test_cluster_kernels import plain
from tests.emulator.test_cluster_kernels import specialised as shared_by_roles
from tests.emulator.test_hopper_kernels import add_one, gemm, specialised
from texpr.emulator import Device, Fault, FaultKind

SEEDS = (None, 1, 2)


def _halve(match: re.Match[str]) -> str:
    return f"{match[1]}{int(match[2]) // 2};"


def _nothing(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


Edit = Callable[[re.Match[str]], str]
MUTATIONS: dict[str, tuple[str, Edit]] = {
    "barrier removed": (r"(?:bar|barrier)\.sync\b[^;]*;", _nothing),
    "proxy fence removed": (r"fence\.proxy\.async[^;]*;", _nothing),
    "mbarrier wait removed": (r"mbarrier\.try_wait[^;]*;", lambda match: "setp.eq.u32 complete, 0, 0;"),
    "arrival removed": (r"@%p\d+\s+mbarrier\.arrive\.shared[^;]*;", _nothing),
    "expected bytes halved": (r"(mbarrier\.arrive\.expect_tx[^,]*,[^,]*, )(\d+);", _halve),
    "expectation removed": (r"@%p\d+\s+mbarrier\.arrive\.expect_tx[^;]*;", _nothing),
    "initialisation removed": (r"@%p\d+\s+mbarrier\.init[^;]*;", _nothing),
    "tensor copy removed": (r"@%p\d+\s+cp\.async\.bulk\.tensor[^;]*;", _nothing),
    "bulk commit removed": (r"cp\.async\.bulk\.commit_group\s*;", _nothing),
    "bulk wait removed": (r"cp\.async\.bulk\.wait_group[^;]*;", _nothing),
    "wgmma fence removed": (r"wgmma\.fence[^;]*;", _nothing),
    "wgmma wait removed": (r"wgmma\.wait_group[^;]*;", _nothing),
    "wgmma commit removed": (r"wgmma\.commit_group[^;]*;", _nothing),
    "wgmma wait weakened": (
        r"(wgmma\.wait_group\.sync\.aligned )(\d);", lambda match: f"{match[1]}{int(match[2]) + 1};"),
}  # fmt: skip
OF_CLUSTERS: dict[str, tuple[str, Edit]] = {
    "arrival removed": MUTATIONS["arrival removed"],
    "mbarrier wait removed": MUTATIONS["mbarrier wait removed"],
    "cluster barrier removed": (r"barrier\.cluster\.arrive[^;]*;\s*barrier\.cluster\.wait[^;]*;", _nothing),
    "cluster barrier relaxed": (
        r"barrier\.cluster\.arrive\.aligned;", lambda match: "barrier.cluster.arrive.relaxed.aligned;"),
    "initialisation not announced": (r"@%p\d+\s+fence\.mbarrier_init[^;]*;", _nothing),
    "remote arrival stays": (
        r"(mbarrier\.arrive)(\.shared::cluster[^;]*;)", lambda match: f"{match[1]}.relaxed.cluster{match[2]}"),
    "multicast to fewer": (r"(mov\.b16\s+%rs\d+, )3;", lambda match: f"{match[1]}1;"),
    "multicast becomes a copy": (
        r"\.shared::cluster(\.global\.mbarrier::complete_tx::bytes)\.multicast::cluster ([^;]*), %rs\d+;",
        lambda match: f".shared::cluster{match[1]} {match[2]};"),
}  # fmt: skip

Run = Callable[[Hopper, int | None], bool]


def run_add_one(kernel: Hopper, seed: int | None) -> bool:
    x = np.random.default_rng(1).standard_normal((64, 32)).astype(np.float32)
    got, _ = run_hopper(kernel, {"source": x, "target": np.empty_like(x)}, (2, 1), maps=("source", "target"),
                        outputs=("target",), device=Device(sm=90, seed=seed, step_limit=60_000))
    return bool((got["target"] == x + 1).all())


def run_gemm(kernel: Hopper, seed: int | None) -> bool:
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((64, 384), (384, 64)))
    arguments = {"a": a, "b": b, "c": np.empty((64, 64), np.float32), "K": 384}
    got, _ = run_hopper(kernel, arguments, (1,), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed, step_limit=60_000))
    return bool((got["c"] == a.astype(np.float32) @ b.astype(np.float32)).all())


def run_specialised(kernel: Hopper, seed: int | None) -> bool:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-2, 3, shape).astype(np.float16) for shape in ((128, 320), (320, 64)))
    arguments = {"a": a, "b": b, "c": np.empty((128, 64), np.float16), "M": 128, "N": 64, "K": 320}
    got, _ = run_hopper(kernel, arguments, (1,), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed, step_limit=60_000))
    return bool((got["c"] == (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)).all())


def tile() -> Hopper:
    """Operands stored by the threads: the proxy fence and the barrier are all that orders them before the product."""
    from triton.experimental.gluon import language as gl

    layout = gl.NVMMASharedLayout(swizzle_byte_width=64, element_bitwidth=16, rank=2)
    constants = (("BM", 64), ("BN", 32), ("BK", 32), ("WARPS", 4), ("A_LAYOUT", layout), ("B_LAYOUT", layout),
                 ("A_REGISTERS", True), ("B_TURNED", False))
    signature = (("a", "*fp16"), ("b", "*fp16"), ("c", "*fp32"))
    return compile_hopper("wgmma_tile", signature, constants, divisible=("a", "b", "c"))


def run_tile(kernel: Hopper, seed: int | None) -> bool:
    rng = np.random.default_rng(4)
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((64, 32), (32, 32)))
    got, _ = run_hopper(kernel, {"a": a, "b": b, "c": np.empty((64, 32), np.float32)}, (1,), outputs=("c",),
                        device=Device(sm=90, seed=seed))
    return bool((got["c"] == a.astype(np.float32) @ b.astype(np.float32)).all())


def run_shared(kernel: Hopper, seed: int | None) -> bool:
    """Two programs that share B, in a ring that is filled several times."""
    rng = np.random.default_rng(5)
    a, b = (rng.integers(-2, 3, shape).astype(np.float16) for shape in ((128, 320), (320, 64)))
    arguments: dict[str, np.ndarray | int] = {"a": a, "b": b, "c": np.empty((128, 64), np.float16)}
    arguments |= {"M": 128, "N": 64, "K": 320} if "specialised" in kernel.compiled.name else {"K": 320}
    got, _ = run_hopper(kernel, arguments, (1, 1), maps=("a", "b", "c"), outputs=("c",),
                        device=Device(sm=90, seed=seed, step_limit=60_000))
    return bool((got["c"] == (a.astype(np.float32) @ b.astype(np.float32)).astype(np.float16)).all())


KERNELS: dict[str, tuple[Callable[[], Hopper], Run]] = {
    "add_one": (add_one, run_add_one),
    "gemm": (gemm, run_gemm),
    "specialised": (specialised, run_specialised),
    "tile": (tile, run_tile),
}
WITH_CLUSTERS: dict[str, tuple[Callable[[], Hopper], Run]] = {
    "shared": (plain, run_shared),
    "shared by roles": (shared_by_roles, run_shared),
}


def mutants(kernel: Hopper, mutation: str) -> list[tuple[int, str, Hopper]]:
    """Line, text and kernel of every place that a mutation applies to."""
    pattern, edit = (MUTATIONS | OF_CLUSTERS)[mutation]
    text = kernel.compiled.ptx
    found: list[tuple[int, str, Hopper]] = []
    for place in re.finditer(pattern, text):
        changed = text[: place.start()] + edit(place) + text[place.end() :]
        line = text.count("\n", 0, place.start()) + 1
        found.append((line, place[0][:70], replace(kernel, compiled=replace(kernel.compiled, ptx=changed))))
    return found


def how_noticed(run: Run, mutant: Hopper) -> FaultKind | str:
    """The fault, "wrong result", or "" if nobody notices, in lockstep and under random schedules."""
    for seed in SEEDS:
        try:
            if not run(mutant, seed):
                return "wrong result"
        except Fault as fault:
            return fault.kind
    return ""
