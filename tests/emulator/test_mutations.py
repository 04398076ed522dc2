"""Do the checks see missing synchronisation?  Each barrier and wait of a compiled kernel is removed in turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.compiled import Compiled, compiled_copy, compiled_gemm, compiled_softmax, run_compiled
from texpr.emulator import Device, Fault

pytest.importorskip("triton")

BARRIER = re.compile(r"^\s*(?:bar|barrier)(?:\.warp)?\.sync\b[^;]*;", re.M)
WAIT = re.compile(r"^\s*cp\.async\.wait_group[^;]*;", re.M)
GROUPS = re.compile(r"(cp\.async\.wait_group\s+)(\d+)")


def without(compiled: Compiled, places: list[re.Match[str]]) -> Compiled:
    """The kernel with these pieces of text blanked (lines keep their numbers)."""
    text = compiled.ptx
    for place in places:
        text = text[: place.start()] + " " * len(place[0].rstrip()) + text[place.start() + len(place[0].rstrip()) :]
    return replace(compiled, ptx=text)


def is_caught(run: Callable[[Compiled, int | None], bool], mutant: Compiled) -> bool:
    """Reported as a fault, or the result is wrong, in lockstep or under a random schedule."""
    for seed in (None, 1, 2):
        try:
            if not run(mutant, seed):
                return True
        except Fault:
            return True
    return False


def run_gemm(compiled: Compiled, seed: int | None) -> bool:
    rng = np.random.default_rng(37)
    # Eight steps of three stages: the last copies (all masked) go to the stage that the epilogue reuses.
    rows, columns, depth = 64, 64, 32 * 8
    a, b = (rng.integers(-4, 5, shape).astype(np.float16) for shape in ((rows, depth), (depth, columns)))
    arguments = {"a": a, "b": b, "c": 0, "M": rows, "N": columns, "K": depth}
    got, _ = run_compiled(compiled, arguments, (1, 1), outputs={"c": ((rows, columns), np.float32)},
                          device=Device(sm=80, seed=seed))
    return bool((got["c"] == a.astype(np.float32) @ b.astype(np.float32)).all())


def run_softmax(compiled: Compiled, seed: int | None) -> bool:
    x = np.random.default_rng(41).standard_normal((2, 1024)).astype(np.float32)
    got, _ = run_compiled(compiled, {"x": x, "y": 0, "columns": 1024, "stride": 1024}, (2,),
                          outputs={"y": ((2, 1024), np.float32)}, device=Device(sm=80, seed=seed))
    value = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return bool(np.allclose(got["y"], value / value.sum(1, keepdims=True), atol=1e-6))


KERNELS: dict[str, tuple[Callable[[], Compiled], Callable[[Compiled, int | None], bool]]] = {
    "gemm": (lambda: compiled_gemm(80, "fp16", "fp32"), run_gemm),
    "softmax": (lambda: compiled_softmax(80), run_softmax),
}


def survivors(name: str, pattern: re.Pattern[str]) -> list[str]:
    """The lines whose removal nobody notices; the unmutated kernel must be clean first."""
    make, run = KERNELS[name]
    compiled = make()
    assert run(compiled, None) and run(compiled, 1)
    places = list(pattern.finditer(compiled.ptx))
    assert places
    return [place[0].strip() for place in places if not is_caught(run, without(compiled, [place]))]


@pytest.mark.parametrize("name", list(KERNELS))
def test_no_barrier_can_be_removed_unnoticed(name: str) -> None:
    assert survivors(name, BARRIER) == []


def test_no_wait_can_be_removed_unnoticed() -> None:
    assert survivors("gemm", WAIT) == []


def test_waiting_for_one_group_too_few_is_noticed() -> None:
    make, run = KERNELS["gemm"]
    compiled = make()
    for place in WAIT.finditer(compiled.ptx):
        weaker = GROUPS.sub(lambda match: f"{match[1]}{int(match[2]) + 1}", place[0])
        mutant = replace(compiled, ptx=compiled.ptx[: place.start()] + weaker + compiled.ptx[place.end() :])
        assert is_caught(run, mutant), place[0]


def test_a_store_whose_mask_is_dropped_is_out_of_bounds() -> None:
    """Masks guard the ragged edge: without them the last program writes behind its buffer."""
    compiled = compiled_copy(80, False)
    unguarded = replace(compiled, ptx=re.sub(r"@%p\d+ (st\.global)", r"\1", compiled.ptx))
    x = np.arange(700, dtype=np.float32)

    def run(kernel: Compiled) -> None:
        run_compiled(kernel, {"x": x, "y": 0, "n": 700}, (2,), outputs={"y": ((700,), np.float32)})

    run(compiled)
    with pytest.raises(Fault, match="'y'"):
        run(unguarded)
