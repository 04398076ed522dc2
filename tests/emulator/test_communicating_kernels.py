"""Compiled kernels whose programs communicate: clean as Triton makes them, faults once an order is taken away."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.emulator.compiled import Compiled, compile_kernel, run_compiled
from texpr.emulator import Device, Fault, FaultKind

pytest.importorskip("triton")

ROWS, BLOCK = 20, 256
X = np.random.default_rng(53).integers(-9, 9, (ROWS, BLOCK)).astype(np.int32)
ORDER = {FaultKind.GLOBAL_RACE, FaultKind.GLOBAL_CONFLICT}
FENCE = re.compile(r"fence\.acq_rel\.gpu;")
ACQ_REL = re.compile(r"(?<=\.)acq_rel(?=\.add|\.gpu\.add)|(?<=gpu\.)acq_rel(?=\.add)")


def counter(values: int = 1) -> np.ndarray:
    return np.zeros(values, np.int32)


def turnstile() -> Compiled:
    return compile_kernel("turnstile", 80, (("x", "*i32"), ("y", "*i32"), ("turn", "*i32")), (("BLOCK", BLOCK),))


def run_turnstile(compiled: Compiled, device: Device) -> bool:
    arguments = {"x": X, "y": counter(BLOCK), "turn": counter()}
    got, _ = run_compiled(compiled, arguments, (8,), outputs={"y": ((BLOCK,), np.int32)}, device=device)
    return bool((got["y"] == X[:8].sum(axis=0)).all())


def last_program() -> Compiled:
    signature = (("x", "*i32"), ("parts", "*i32"), ("counter", "*i32"), ("y", "*i32"))
    return compile_kernel("last_program", 80, signature, (("BLOCK", BLOCK),))


def run_last_program(compiled: Compiled, device: Device) -> bool:
    arguments = {"x": X, "parts": 0, "counter": counter(), "y": 0}
    outputs = {"parts": (X.shape, np.int32), "y": ((BLOCK,), np.int32)}
    got, _ = run_compiled(compiled, arguments, (ROWS,), outputs=outputs, device=device)
    return bool((got["y"] == 2 * X.sum(axis=0)).all())


def persistent() -> Compiled:
    signature = (("x", "*i32"), ("y", "*i32"), ("ticket", "*i32"), ("tiles", "i32"))
    return compile_kernel("persistent", 80, signature, (("BLOCK", BLOCK),))


def run_persistent(compiled: Compiled, device: Device) -> bool:
    arguments = {"x": X, "y": 0, "ticket": counter(), "tiles": ROWS}
    got, _ = run_compiled(compiled, arguments, (3,), outputs={"y": (X.shape, np.int32)}, device=device)
    return bool((got["y"] == X + 1).all())


Run = Callable[[Compiled, Device], bool]
KERNELS: dict[str, tuple[Callable[[], Compiled], Run]] = {
    "turnstile": (turnstile, run_turnstile),
    "last program": (last_program, run_last_program),
    "persistent": (persistent, run_persistent),
}


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("name", list(KERNELS))
def test_compiled_kernels_are_clean_and_right(name: str, seed: int | None) -> None:
    make, run = KERNELS[name]
    assert run(make(), Device(sm=80, seed=seed))


@pytest.mark.parametrize("seed", [None, 1])
def test_no_fence_can_be_removed(seed: int | None) -> None:
    compiled = turnstile()
    places = list(FENCE.finditer(compiled.ptx))
    assert len(places) == 2
    for place in places:
        mutant = replace(compiled, ptx=compiled.ptx[: place.start()] + compiled.ptx[place.end() :])
        with pytest.raises(Fault, match="buffer 'y'") as caught:
            run_turnstile(mutant, Device(sm=80, seed=seed))
        assert caught.value.kind in ORDER


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("weaker", ["relaxed", "acquire", "release"])
def test_the_ticket_must_acquire_and_release(weaker: str, seed: int | None) -> None:
    compiled = last_program()
    assert len(ACQ_REL.findall(compiled.ptx)) == 1
    with pytest.raises(Fault, match="buffer 'parts'") as caught:
        run_last_program(replace(compiled, ptx=ACQ_REL.sub(weaker, compiled.ptx)), Device(sm=80, seed=seed))
    assert caught.value.kind in ORDER


@pytest.mark.parametrize("name", list(KERNELS))
def test_atomics_of_the_programs_own_scope_reach_nobody_else(name: str) -> None:
    make, run = KERNELS[name]
    compiled = make()
    # The scope of atomics follows the space, that of loads and stores precedes it.
    narrow = re.sub(r"^(\s*(?:@!?%p\d+ )?(?:atom|ld|st|fence)\b[^;]*?)\.gpu\b", r"\1.cta", compiled.ptx, flags=re.M)
    assert narrow != compiled.ptx
    with pytest.raises(Fault) as caught:
        run(replace(compiled, ptx=narrow), Device(sm=80))
    assert caught.value.kind in ORDER
