"""Kernels of the repository leave the same bytes, statistics and warnings behind in one process and in two."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kernels.test_kernels_on_emulator import NAMES, SOURCES, offered
from texpr.check import check
from texpr.checking.report import table
from texpr.checking.rows import Effort
from texpr.emulator import Device, LaunchStats, parallel, workers

SOME = ["linear_gelu", "softmax", "gather_rows", "layernorm", "transpose"]


def launching_twice(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every launch run in one process first, and then, from the same memory, in two, in batches of two programs.

    Gives the list of the kernels that ran in two, filled as they do.
    """
    launch = Device.launch
    parted: list[str] = []

    def both(device: Device, module: Any, kernel: str, *rest: Any, **named: Any) -> LaunchStats:
        live = device.memory.live()
        before = [(a.data.copy(), a.written.copy(), a.complete) for a in live]
        device.batch, device.workers = 2, 1
        expected = launch(device, module, kernel, *rest, **named)
        after = [(a.data.copy(), a.written.copy()) for a in live]
        for allocation, (data, written, complete) in zip(live, before, strict=True):
            allocation.data[:], allocation.written[:], allocation.complete = data, written, complete
        device.workers = 2
        got = launch(device, module, kernel, *rest, **named)
        assert got == expected
        for allocation, (data, written) in zip(live, after, strict=True):
            assert (allocation.data == data).all() and (allocation.written == written).all(), allocation.name
        return got

    def noting(tasks: Any) -> Any:
        results = workers.run_in_children(tasks)
        parted.append("kept" if results is not None else "dropped")
        return results

    monkeypatch.setattr(parallel, "_is_worth_it", lambda seconds, memory: True)
    monkeypatch.setattr(parallel, "run_in_children", noting)
    monkeypatch.setattr(Device, "launch", both)
    return parted


@pytest.mark.parametrize("name", SOME)
def test_two_processes_give_what_one_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parted = launching_twice(monkeypatch)
    report = check(SOURCES[name], None, offered(name)[:1], effort=Effort(calls=5))
    assert report.ok, table(report)
    assert set(parted) == {"kept"}


@pytest.mark.matrix
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_give_what_one_gives_for_every_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parted = launching_twice(monkeypatch)
    report = check(SOURCES[name], None, offered(name), effort=Effort(calls=12))
    assert report.ok, table(report)
    assert "dropped" not in parted
