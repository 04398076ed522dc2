"""Programs that communicate through global memory: right kernels are clean, every weakened version is a fault."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.communicating_ptx import KERNELS, THREADS, run
from texpr.emulator import Fault, FaultKind

SEEDS = [None, 1, 2, 3]
ORDER = {FaultKind.GLOBAL_RACE, FaultKind.GLOBAL_CONFLICT, FaultKind.RACE, FaultKind.UNINITIALISED}
WEAKENED = [
    (name, weakness) for name, case in KERNELS.items() for weakness in case.weakened if weakness not in case.by_luck
]
BY_LUCK = [(name, weakness) for name, case in KERNELS.items() for weakness in case.by_luck]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", list(KERNELS))
def test_right_kernels_are_clean(name: str, seed: int | None) -> None:
    case = KERNELS[name]
    _, stats = run(case.body, case.programs, seed)
    assert stats.warnings == {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "weakness"), WEAKENED)
def test_weakened_kernels_are_faults_under_every_schedule(name: str, weakness: str, seed: int | None) -> None:
    case = KERNELS[name]
    old, new = case.weakened[weakness]
    assert old in case.body
    with pytest.raises(Fault) as caught:
        run(case.body.replace(old, new), case.programs, seed)
    assert caught.value.kind in ORDER, str(caught.value)


@pytest.mark.parametrize(("name", "weakness"), BY_LUCK)
def test_some_weakened_kernels_need_several_schedules(name: str, weakness: str) -> None:
    case = KERNELS[name]
    body = case.body.replace(*case.weakened[weakness])
    kinds = set()
    for seed in range(1, 7):
        try:
            run(body, case.programs, seed)
        except Fault as fault:
            kinds.add(fault.kind)
    assert kinds and kinds <= ORDER
