"""The GPU's side of the bench, call by call, on a driver that only keeps a record."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from bench.measure.contest import Ready, piece_of
from bench.measure.devices import CannotCapture, GpuBench
from bench.measure.rounds import Rules
from texpr.packing.runner.devices import LaunchFailed


class FakeCuda:
    """Hands out numbers for handles, and says that the time between two events is 0.25 ms."""

    def __init__(self, refuse: str = "") -> None:
        self.calls: list[str] = []
        self.refuse = refuse
        self._next = 100

    def call(self, name: str, *arguments: Any) -> None:
        self.calls.append(name)
        if name == self.refuse:
            raise LaunchFailed(f"{name}: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED (900)")
        for argument in arguments:
            target = getattr(argument, "_obj", None)
            if isinstance(target, ctypes.c_float):
                target.value = 0.25
            elif isinstance(target, ctypes.c_void_p):
                self._next += 1
                target.value = self._next

    def l2_bytes(self) -> int:
        return 50 << 20

    def allocate(self, size: int) -> int:
        assert size == 128 << 20
        return 1 << 30

    def synchronize(self) -> None:
        self.calls.append("synchronize")


def gpu(refuse: str = "") -> tuple[GpuBench, FakeCuda]:
    cuda = FakeCuda(refuse)
    device: Any = cuda
    bench = GpuBench(device)
    cuda.calls.clear()
    return bench, cuda


def test_events_stand_around_the_work_alone() -> None:
    bench, cuda = gpu()
    assert bench.elapsed(lambda: cuda.calls.append("work"), hide=True) == 250.0
    assert cuda.calls == [
        "cuMemsetD8Async", "cuEventRecord", "work", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime"
    ]  # fmt: skip
    cuda.calls.clear()
    bench.elapsed(lambda: None, hide=False)
    assert "cuMemsetD8Async" not in cuda.calls


def test_a_graph_is_made_once_and_launched() -> None:
    bench, cuda = gpu()
    replay = bench.captured(lambda: cuda.calls.append("work"))
    assert cuda.calls == [
        "synchronize", "cuStreamBeginCapture_v2", "work", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
    ]  # fmt: skip
    cuda.calls.clear()
    replay()
    assert cuda.calls == ["cuGraphLaunch"]


def test_what_cannot_be_captured_leaves_no_capture_behind() -> None:
    bench, cuda = gpu()

    def refused() -> None:
        raise LaunchFailed("cuLaunchKernelEx: not permitted (900)")

    with pytest.raises(CannotCapture, match="not permitted"):
        bench.captured(refused)
    assert cuda.calls[-1] == "cuStreamEndCapture"


def test_a_lost_device_is_no_matter_of_graphs() -> None:
    bench, _ = gpu()

    def lost() -> None:
        raise LaunchFailed("illegal address (700)", lost=True)

    with pytest.raises(LaunchFailed):
        bench.captured(lost)


def test_pieces_go_round_the_sets_in_a_graph_or_call_by_call() -> None:
    used: list[int] = []
    bench, _ = gpu()
    piece, why = piece_of(bench, "a", Ready(run=used.append), 3, Rules(piece=0.001))
    assert used[:6] == [0, 1, 2, 0, 1, 2], "each set once, then the times of three calls"
    assert used[6:] == [0, 1, 2, 0, 1, 2] and piece.calls == 6, "four calls last 1 ms; sets are used alike"
    assert piece.graph and not why
    refusing, _ = gpu("cuStreamEndCapture")
    used.clear()
    piece, why = piece_of(refusing, "a", Ready(run=used.append), 3, Rules(piece=0.001))
    assert not piece.graph and "UNSUPPORTED" in why
    used.clear()
    piece.work()
    assert used == [0, 1, 2, 0, 1, 2]


def test_memory_information_is_read() -> None:
    bench, cuda = gpu()
    assert bench.free_bytes() == 0 and cuda.calls == ["cuMemGetInfo_v2"]
    assert bench.cache_bytes() == 50 << 20
