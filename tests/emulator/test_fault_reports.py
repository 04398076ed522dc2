"""What a fault in a bundle's kernel prints: kernel, func, Gluon line, schedule line, PTX line, thread, element."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest

from tests.emulator.faulty_ptx import CASES
from tests.emulator.handmade_bundle import GLUON, SCHEDULE, launch, write_bundle
from tests.emulator.test_faults import run_body
from texpr.emulator import Fault, FaultKind
from texpr.emulator.cuda import CudaError, Result
from texpr.emulator.layouts import Layout, TensorParameter, dense, evaluate
from texpr.emulator.watch import with_other_side


def fault_of(folder: Path, body: str, threads: int = 64) -> Fault:
    cubin = write_bundle(folder, body, threads)
    with pytest.raises(CudaError) as caught:
        launch(folder, cubin, threads)
    assert caught.value.result is Result.LAUNCH_FAILED
    fault = caught.value.__cause__
    assert isinstance(fault, Fault)
    return fault


@pytest.mark.parametrize("name", list(CASES))
def test_every_fault_names_func_gluon_line_schedule_line_and_ptx_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    fault = fault_of(tmp_path / "dense", case.bad, case.threads)
    assert fault.kind is case.kind
    assert fault.func == "acc"
    report = str(fault).splitlines()
    assert report[0].startswith(f"test: fault: {case.kind.value}: ")
    assert report[1] == "  --> dense/kernel.py:5  (in func acc)"
    assert report[2] == f"        5 | {GLUON[4].strip()}"
    assert report[3] == "          | ^^^^^^^^"
    assert report[4] == "  --> dense.yaml:12"
    assert report[5] == f"       12 | {SCHEDULE.strip()}"
    assert report[6] == "          | ^^^"
    assert report[7].startswith("  --> dense/ptx/") and report[7].endswith(f".ptx:{fault.ptx_line}")
    assert report[8].endswith(f"| {fault.ptx_text}") and set(report[9].split("|")[1].strip()) == {"^"}
    assert report[10].startswith("  by: program (0, 0, 0), thread (")


INIT = "mov.u32 %r0, buffer; add.u32 %r1, %r0, 512; setp.eq.u32 %p, %t, 0; @%p mbarrier.init.shared::cta.b64 [%r1], 1;"
FENCE = "fence.proxy.async.shared::cta; bar.sync 0;"
EXPECT = "@%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 256;"
LOAD = "@%p cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r0], [%in], 256, [%r1];"
TENSOR = "@%p cp.async.bulk.tensor.1d.shared::cta.global.tile.mbarrier::complete_tx::bytes [%r0], [%in, {%t}], [%r1];"
WAIT = "W: mbarrier.try_wait.parity.shared::cta.b64 %q, [%r1], 0; @!%q bra W;"
HOPPER = {
    "no fence between an mbarrier and a copy": (FaultKind.MISSING_FENCE, INIT + EXPECT + LOAD + WAIT),
    "a copy that the program's end leaves behind": (FaultKind.ASYNC_NOT_WAITED, INIT + FENCE + EXPECT + LOAD),
    "bytes that are no tensor map": (FaultKind.TENSOR_MAP, INIT + FENCE + EXPECT + TENSOR + WAIT),
    "a phase that never completes": (FaultKind.DEADLOCK, INIT + FENCE + WAIT),
    "an mbarrier that is not initialised": (
        FaultKind.BARRIER_MISUSE, INIT.replace("mbarrier.init.shared::cta.b64 [%r1], 1", "st.shared.b64 [%r1], %in") +
        FENCE + WAIT),
    "a bulk copy out of bounds": (
        FaultKind.OUT_OF_BOUNDS, INIT + FENCE + EXPECT + "add.u64 %in, %in, 16;" + LOAD + WAIT),
}  # fmt: skip


@pytest.mark.parametrize("name", list(HOPPER))
def test_faults_of_asynchronous_copies_do_too(name: str, tmp_path: Path) -> None:
    kind, body = HOPPER[name]
    fault = fault_of(tmp_path / "dense", body)
    report = str(fault)
    assert (fault.kind, fault.func) == (kind, "acc"), report
    assert "(in func acc)" in report and f"   {GLUON[4].strip()}"[3:] in report and SCHEDULE.strip() in report
    assert "  by: program (0, 0, 0), thread (" in report
    if kind is FaultKind.DEADLOCK:
        assert "1 of 1 arrivals" in report and fault.ptx_text.startswith("mbarrier.try_wait")


RACES = [name for name, case in CASES.items() if case.kind is FaultKind.RACE]


@pytest.mark.parametrize("name", RACES)
def test_a_race_shows_both_sides(name: str, tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "dense", CASES[name].bad, CASES[name].threads)
    if "at once" in fault.message:
        return  # both sides are one instruction
    (other,) = fault.others
    assert other.source == fault.source
    verb = "read" if " read, with" in fault.message else "wrote"
    assert f"{verb} there earlier" in other.what
    assert (other.ptx_text.startswith(("ld", "ldmatrix"))) == (verb == "read")
    report = str(fault)
    assert report.count("(in func acc)") == 2 and other.ptx_text in report


def test_memory_is_as_the_first_run_left_it_after_the_search_for_the_other_side(tmp_path: Path) -> None:
    body = "red.global.add.u32 [%in], 1;" + CASES["read of another thread's store"].bad
    device: list[bytes] = []

    def spy(fault: Fault, batch: object, again: object) -> Fault:
        memory = batch.memory  # type: ignore[attr-defined]
        before = memory.live()[0].data.tobytes()
        found = with_other_side(fault, batch, again)  # type: ignore[arg-type]
        device.extend([before, memory.live()[0].data.tobytes()])
        return found

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Fault):
        patch.setattr("texpr.emulator.machine.with_other_side", spy)
        run_body(body)
    assert device[0] == device[1]


def test_a_buffer_that_is_too_small_is_told_by_element(tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "dense", CASES["store behind the end"].bad)
    assert "past the end of buffer 'y' (4096 bytes); this is y[16, 0]; the buffer holds 16 rows of 64" in str(fault)
    fault = fault_of(tmp_path / "rows", CASES["load before the start"].bad)
    assert "before the start of buffer 'x' (256 bytes); 1 element before x[0, 0]" in str(fault)
    fault = fault_of(tmp_path / "unwritten", CASES["output read before it is written"].bad)
    assert "of buffer 'y' (this is y[0, " in str(fault)


@pytest.mark.parametrize(("layout", "offset", "size", "text"), [
    (dense("x", 4, [200, 320]), 200 * 1280, 256000, "this is x[200, 0], 1 row past the end (x is 200 x 320)"),
    (dense("x", 4, [200, 320]), 202 * 1280 + 20, 256000, "this is x[202, 5], 3 rows past the end (x is 200 x 320)"),
    (dense("v", 2, [7]), 20, 14, "this is v[10], 4 past the end of dim 0 (v is 7)"),
    (dense("x", 4, [4, 10], [12, 1]), 44, 184, "this is x[0, 11], beyond the 10 elements of the row (x is 4 x 10)"),
    (dense("x", 4, [5, 12]), 232, 232, "this is x[4, 10]; x is 5 x 12 and needs 240 bytes"),
    (dense("x", 4, [2, 3], None, 16), 8, 40, "2 elements before x[0, 0]"),
    (Layout("x", 4, (None, 8), (8, 1)), 128, 128, "this is x[4, 0]; the buffer holds 4 rows of 8"),
    (dense("x", 4, [0, 8]), 0, 0, ""),
])
def test_places_are_told_as_elements(layout: Layout, offset: int, size: int, text: str) -> None:
    assert layout.describe(offset, size) == text


def test_layouts_from_the_parameters_of_a_launch() -> None:
    image = TensorParameter(0, "x", 16, ("M", "H // 2", "C"), (1, 2), {0: "x_stride_0"})
    assert image.layout({"H": 6, "C": 4, "x_stride_0": 16}) == Layout("x", 2, (None, 3, 4), (16, 4, 1))
    assert image.layout({"H": 6, "C": 4}) is None
    assert image.layout({"H": 6, "x_stride_0": 16}) is None
    assert evaluate("max(A - 1, 2) * -3 % 7", {"A": 5}) == 2
    assert evaluate("A // B", {"A": 5, "B": 0}) is None
    assert evaluate("aligned(A)", {"A": 5}) is None


def test_faults_travel_between_processes(tmp_path: Path) -> None:
    fault = fault_of(tmp_path / "dense", CASES["read of another thread's store"].bad)
    for twin in (pickle.loads(pickle.dumps(fault)), copy.copy(fault)):
        assert (str(twin), twin.kind, twin.others, twin.func) == (str(fault), fault.kind, fault.others, "acc")


def test_an_instruction_without_a_line_gets_the_one_above(tmp_path: Path) -> None:
    cubin = write_bundle(tmp_path / "dense", CASES["load behind the end"].bad, 64)
    record = next((tmp_path / "dense" / "ptx").glob("*.json"))
    lines = json.loads(record.read_text())
    lines["lines"] = lines["lines"][:1]
    record.write_text(json.dumps(lines))
    with pytest.raises(CudaError, match=r"kernel\.py:5  \(in func acc\)"):
        launch(tmp_path / "dense", cubin, 64)
