"""Do the checks see missing synchronisation of asynchronous operations?  Each piece is removed in turn.

The kernel `tile` was not used while the checks were developed; the others were.
"""

from __future__ import annotations

import pytest

from tests.emulator.hopper_mutants import (
    KERNELS,
    MUTATIONS,
    OF_CLUSTERS,
    SEEDS,
    WITH_CLUSTERS,
    how_noticed,
    mutants,
)
from texpr.emulator import FaultKind

pytest.importorskip("triton")

# Barriers that may go one at a time: another one stands between the same accesses ("add_one", "gemm"); or they are in
# an idle branch, or let workers ask for the next task, which is behind the next barrier too ("specialised").
REDUNDANT_BARRIERS = {"add_one": 5, "gemm": 7, "specialised": 3}


@pytest.mark.parametrize("name", list(KERNELS))
def test_unmutated_kernels_are_clean(name: str) -> None:
    make, run = KERNELS[name]
    assert all(run(make(), seed) for seed in SEEDS)


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.parametrize("mutation", [mutation for mutation in MUTATIONS if mutation != "barrier removed"])
def test_a_mutant_is_noticed(name: str, mutation: str) -> None:
    make, run = KERNELS[name]
    assert [(line, text) for line, text, mutant in mutants(make(), mutation) if not how_noticed(run, mutant)] == []


@pytest.mark.parametrize("name", list(KERNELS))
def test_a_removed_barrier_is_noticed(name: str) -> None:
    make, run = KERNELS[name]
    unnoticed = [line for line, _, mutant in mutants(make(), "barrier removed") if not how_noticed(run, mutant)]
    assert len(unnoticed) <= REDUNDANT_BARRIERS.get(name, 0), unnoticed


# The whole barrier of the last step stands between the last use of the other program's memory and the end; and where
# only the warps of one role arrive relaxed, those of the other know of what they did, and release it.
REDUNDANT_IN_CLUSTERS = {("shared", "cluster barrier removed"): 1, ("shared", "cluster barrier relaxed"): 1,
                         ("shared by roles", "cluster barrier relaxed"): 2}  # fmt: skip


@pytest.mark.parametrize("name", list(WITH_CLUSTERS))
@pytest.mark.parametrize("mutation", list(OF_CLUSTERS))
def test_a_mutant_with_clusters_is_noticed(name: str, mutation: str) -> None:
    make, run = WITH_CLUSTERS[name]
    unnoticed = [(line, text) for line, text, mutant in mutants(make(), mutation) if not how_noticed(run, mutant)]
    assert len(unnoticed) <= REDUNDANT_IN_CLUSTERS.get((name, mutation), 0), unnoticed


@pytest.mark.parametrize(("mutation", "kind"), [
    ("proxy fence removed", FaultKind.MISSING_FENCE),
    ("wgmma fence removed", FaultKind.MISSING_FENCE),
    ("expectation removed", FaultKind.DEADLOCK),
    ("bulk wait removed", FaultKind.ASYNC_NOT_WAITED),
])
def test_the_fault_says_what_is_missing(mutation: str, kind: FaultKind) -> None:
    make, run = KERNELS["gemm"]
    assert {how_noticed(run, mutant) for _, _, mutant in mutants(make(), mutation)} == {kind}
