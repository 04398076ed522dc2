"""Products in flight across the steps of a loop, on the emulator: the same bits as one step after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, halves, worst
from tests.tile.overlapped import ATTENTION, schedule
from texpr.compile import load_algorithm
from texpr.lang.accuracy import Accuracy

CALLS = [  # queries, keys, keys in use
    (1, 1, [1]),
    (64, 64, [64]),
    (65, 129, [0]),
    (64, 128, [127]),
    (127, 257, [257, 63]),
    (64, 331, [331]),
]


@pytest.mark.parametrize(
    ("how", "trim"),
    [
        ("fetched by a role", "split"),
        ("fetched for two groups", "mask"),
        ("keys with fewer slots", "mask"),
        ("boxes of its own", "mask"),
        ("cp.async", "split"),
    ],
)
def test_results_are_those_of_one_step_after_the_other(how: str, trim: str, tmp_path: Path) -> None:
    """No step, one, and more than the ring has slots; queries that see no key; steps at the edge that test the guard.
    """
    definition = load_algorithm(ATTENTION)
    runs = {}
    for overlap in (True, False):
        folder = tmp_path / str(overlap)
        folder.mkdir()
        runs[overlap] = bundle(definition, schedule(how, trim, overlap), folder, {"T": "f16"}, "sm_90a")
    rng = np.random.default_rng(0)
    for s, keys, n in CALLS:
        arrays = {"q": halves(rng, len(n), 1, s, 64)} | {name: halves(rng, len(n), 1, keys, 64) for name in "kv"}
        for name in "kv":
            for row, used in zip(arrays[name], n, strict=True):
                row[:, used:] = np.nan  # nobody may look there
        arrays |= {"n": np.array(n, np.int32), "scale": np.float32(0.125)}
        found = {overlap: run(**arrays) for overlap, run in runs.items()}
        for one, other in zip(found[True], found[False], strict=True):
            assert np.array_equal(one, other, equal_nan=True), (how, trim, s, keys, n)
        error = worst(runs[True], definition, arrays, {"T": "f16"}, Accuracy(relaxed=frozenset(["p"])))
        assert error <= 1, (how, trim, s, keys, n)
