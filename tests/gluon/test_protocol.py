"""Emitted barriers, tensor copies and roles, compiled and run on the emulator."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.gluon.ring_programs import BK, specialised, straight
from tests.gluon.toolbox import Built, build, run
from texpr.tile.ir import TileProgram
from texpr.tile.show import show
from texpr.tile.verify import verify

TARGETS = ["sm_90a", "sm_120a"]
DEPTH = 3


def _check(built: Built, m: int, n: int, k: int, seed: int | None = None, **scalars: int) -> None:
    random = np.random.default_rng(k)
    x, w = (random.integers(-8, 9, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    y = np.full((m, n), np.nan, np.float16)
    run(built, {"x": x, "w": w, "y": y}, seed, M=m, N=n, K=k, **scalars)
    np.testing.assert_array_equal(y, (x.astype(np.float32) @ w.astype(np.float32)).astype(np.float16))


def _built(program: TileProgram, target: str) -> Built:
    verify(program)
    return build(program, target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_ring_of_tensor_copies_feeds_every_step(target: str) -> None:
    built = _built(straight(DEPTH), target)
    assert built.count("cp.async.bulk.tensor.2d") > 0
    for steps in (1, DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 1):
        _check(built, 64, 64, steps * BK)
    _check(built, 72, 136, 40, seed=1)


@pytest.mark.parametrize("target", TARGETS)
def test_roles_hand_over_slots_across_tiles(target: str) -> None:
    built = _built(specialised(DEPTH), target)
    assert built.warps == 8
    assert built.count("cp.async.bulk.tensor.2d.global") > 0
    for steps, seed in ((1, None), (DEPTH - 1, 1), (DEPTH, 2), (DEPTH + 1, 3), (2 * DEPTH + 1, 4)):
        _check(built, 130, 136, steps * BK, seed, programs=3)


def test_registers_of_roles_are_those_declared() -> None:
    built = _built(specialised(DEPTH), "sm_90a")
    found = set(re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", built.ptx))
    assert built.source.registers == 128
    assert {"216", "40"} <= found


def test_the_text_of_a_program_names_roles_barriers_and_boxes() -> None:
    text = show(specialised(DEPTH))
    assert "role load   1 warps   40 registers" in text
    assert "barriers full : 3 of 1 arrival" in text
    assert "wait full[(done + step) % 3] phase" in text
    assert "copy tensor x_map[i0, 32*step] -> x_shared" in text
