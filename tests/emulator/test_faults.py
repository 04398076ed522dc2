"""Every kind of fault: a kernel that commits it, and a near twin that is clean."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.faulty_ptx import CASES, MODULE, PARAMS, REGISTERS, START
from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, Fault, FaultKind, LaunchError, PtxError, SourceLine, load_ptx
from texpr.emulator.checks import StampFormat


def run_body(
    body: str, *, threads: int = 64, grid: tuple[int, ...] = (1,), out: int = 4096, seed: int | None = None,
    checks: bool = True, step_limit: int = 5000,
) -> dict[str, int]:
    """Run with 256 bytes in `in` and an unwritten `out`; gives the warnings."""
    text = kernel(START + body, PARAMS, declarations=REGISTERS, threads=threads, module=MODULE)
    device = Device(sm=120, seed=seed, checks=checks, step_limit=step_limit)
    data = np.arange(64, dtype=np.uint32)
    return dict(run_kernel(text, {"in": data, "out": out}, threads=threads, grid=grid, device=device)[2].warnings)


def fault_of(body: str, **options: object) -> Fault:
    with pytest.raises(Fault) as caught:
        run_body(body, **options)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("name", list(CASES))
def test_a_fault_is_reported(name: str) -> None:
    case = CASES[name]
    fault = fault_of(case.bad, threads=case.threads)
    assert fault.kind is case.kind, str(fault)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("seed", [None, 5])
def test_its_near_twin_is_clean(name: str, seed: int | None) -> None:
    run_body(CASES[name].good, seed=seed, threads=CASES[name].threads)


def test_every_kind_of_fault_is_covered() -> None:
    # These are in test_wgmma_rows.py, test_bulk_rows.py and test_clusters.py.
    of_hopper = {FaultKind.MISSING_FENCE, FaultKind.ACCUMULATOR, FaultKind.TENSOR_MAP, FaultKind.ENDED_PROGRAM}
    assert {case.kind for case in CASES.values()} | of_hopper == set(FaultKind)


def test_programs_that_store_different_values_to_one_place_conflict() -> None:
    own = "mov.u32 %r0, %ctaid.x; mad.wide.u32 %a, %r0, 4, %out; st.global.b32 [%a], %r0;"
    run_body(own, threads=32, grid=(40,))
    shared = "mov.u32 %r0, %ctaid.x; shr.u32 %r1, %r0, 1; mad.wide.u32 %a, %r1, 4, %out; st.global.b32 [%a], %r0;"
    fault = fault_of(shared, threads=32, grid=(40,))
    assert fault.kind is FaultKind.GLOBAL_CONFLICT and fault.buffer == "out"
    assert "program (1, 0, 0) stores another value" in fault.message and fault.program == (0, 0, 0)


def test_programs_in_different_batches_conflict_too() -> None:
    body = "mov.u32 %r0, %ctaid.x; st.global.b32 [%out], %r0;"
    assert fault_of(body, threads=32, grid=(17,)).kind is FaultKind.GLOBAL_CONFLICT


def test_equal_values_from_several_programs_are_only_counted() -> None:
    warnings = run_body("mov.u32 %r0, 3; st.global.b32 [%out], %r0;", threads=32, grid=(4,))
    assert list(warnings) == ["several programs store equal values to one global address"]


def test_programs_that_synchronise_may_overwrite_each_other() -> None:
    """A lock around the output: what split reductions do."""
    body = """
        mov.u32 %r0, %ctaid.x;
        WAIT: ld.acquire.gpu.global.b32 %r1, [%in]; setp.ne.u32 %p, %r1, %r0; @%p bra WAIT;
        st.global.b32 [%out], %r0; fence.acq_rel.gpu;
        bar.warp.sync 0xffffffff; setp.eq.u32 %q, %t, 0; @%q red.release.gpu.global.add.u32 [%in], 1;
    """
    run_body(body, threads=32, grid=(8,))


def test_equal_stores_from_replicated_threads_are_only_counted() -> None:
    warnings = run_body("mov.u32 %r0, 9; st.shared.b32 [buffer], %r0; bar.sync 0; ld.shared.b32 %r1, [buffer];")
    assert list(warnings) == ["threads store equal values to one shared address without synchronisation"]


@pytest.mark.parametrize("lanes", ["xor.b32 %r1, %t, %t;", "and.b32 %r1, %t, 31;", "shr.u32 %r1, %t, 1;"])
def test_threads_that_store_different_values_to_one_place_race(lanes: str) -> None:
    """All threads, lanes of two warps, and lanes of one warp, in one instruction."""
    fault = fault_of(lanes + "mad.lo.u32 %r1, %r1, 4, buffer; st.shared.b32 [%r1], %t;")
    assert fault.kind is FaultKind.RACE and any("the values are 0x000000" in note for note in fault.notes)


@pytest.mark.parametrize("order", ["", "setp.lt.u32 %p, %t, 32; @!%p bra B; st.shared.b32 [buffer], %r1; B: @!%p "])
def test_a_race_of_nearly_equal_floats_is_explained(order: str) -> None:
    """Replicated lanes whose sums were rounded differently: which value stays depends on chance."""
    value = "shr.u32 %r1, %t, 5; add.u32 %r1, %r1, {}; " + order + "st.shared.b32 [buffer], %r1;"
    for bits, near in ((0x3F800000, True), (0, False)):
        fault = fault_of(value.format(bits))
        assert fault.kind is FaultKind.RACE
        assert any("as f32 they differ in the last places" in note for note in fault.notes) == near


def test_without_checks_only_bounds_and_alignment_are_tested() -> None:
    run_body(CASES["read of another thread's store"].bad, checks=False)
    run_body(CASES["output read before it is written"].bad, checks=False)
    with pytest.raises(Fault):
        run_body(CASES["load behind the end"].bad, checks=False)


@pytest.mark.parametrize("barrier", ["bar.sync 0;", ""])
def test_races_are_seen_when_epochs_are_counted_anew(barrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = StampFormat(0x3FF, 0x800, 0x7FF, 12, last_epoch=7)
    monkeypatch.setattr(StampFormat, "for_threads", lambda threads: few)
    body = f"""
        st.shared.b32 [%s], %t; mov.u32 %r1, 0; bar.sync 0;
        LOOP: xor.b32 %r2, %s, 128; ld.shared.b32 %r0, [%r2]; bar.sync 0; st.shared.b32 [%s], %r1; bar.sync 0;
        add.u32 %r1, %r1, 1; setp.lt.u32 %p, %r1, 20; @%p bra LOOP;
        st.shared.b32 [%s], %r1; {barrier} ld.shared.b32 %r0, [%r2];
    """
    if barrier:
        run_body(body)
    else:
        assert fault_of(body).kind is FaultKind.RACE


def test_use_after_free_names_the_freed_buffer() -> None:
    device = Device(sm=120)
    old = device.alloc(64, "old")
    device.write(old, bytes(64))
    device.free(old)
    body = "ld.param.u64 %a, [p]; ld.global.b32 %r0, [%a];"
    module = load_ptx(kernel(body, ".param .u64 p", declarations=REGISTERS))
    with pytest.raises(Fault, match=r"'old'.*freed") as caught:
        device.launch(module, "test", (1,), (32,), params=[old.to_bytes(8, "little")])
    assert caught.value.buffer == "old"


def test_a_fault_says_what_where_and_who() -> None:
    text = kernel(
        "mov.u32 %t, %tid.x; ld.param.u64 %a, [p]; mad.wide.u32 %a, %t, 4, %a;\nld.global.b32 %r0, [%a];",
        ".param .u64 p", declarations=REGISTERS)
    line = next(i for i, content in enumerate(text.split("\n"), 1) if content.startswith("ld.global"))
    module = load_ptx(text, "k.ptx", {line: 42}, source="kernel.py")
    device = Device(sm=120)
    address = device.alloc(100, "weights")
    device.write(address, bytes(100))
    with pytest.raises(Fault) as caught:
        device.launch(module, "test", (3, 2), (32,), params=[address.to_bytes(8, "little")])
    fault = caught.value
    assert (fault.kind, fault.kernel, fault.buffer) == (FaultKind.OUT_OF_BOUNDS, "test", "weights")
    assert fault.ptx_line == line
    assert fault.source == SourceLine("kernel.py", 42)
    assert (fault.program, fault.thread) == ((0, 0, 0), (25, 0, 0))
    report = str(fault)
    for part in ("out of bounds", "'weights' (100 bytes)", "kernel.py:42", f"k.ptx:{line}", "ld.global.b32 %r0, [%a]",
                 "program (0, 0, 0), thread (25, 0, 0)"):
        assert part in report, report


def test_a_race_names_the_other_side() -> None:
    fault = fault_of(CASES["read of another thread's store"].bad)
    assert "thread 1 wrote" in fault.message and fault.thread == (0, 0, 0)
    (other,) = fault.others
    assert other.what == "thread (1, 0, 0) wrote there earlier" and other.ptx_text.startswith("st.shared.b32")


def test_a_deadlock_says_who_waits_where() -> None:
    fault = fault_of(CASES["two groups wait at different barriers"].bad)
    notes = "\n".join(fault.notes)
    assert "barrier 1: 32 of 64 threads have arrived" in notes and "barrier 2: 32 of 64" in notes


@pytest.mark.parametrize(("body", "message"), [
    ("frobnicate.u32 %r0, %r1;", "unknown instruction 'frobnicate.u32'"),
    ("add.u32 %r0, %r1;", "3 operands expected, 2 given"),
    ("add.u32 %r0, [%r1], 2;", "operand 2"),
    ("bra NOWHERE;", "'NOWHERE' is not a label"),
    ("@%z mov.u32 %r0, 1;", "predicate '%z' is not declared"),
    ("ld.global.b32 %r0, [%a*4];", "cannot read"),
])
def test_broken_ptx_is_refused_with_its_line(body: str, message: str) -> None:
    text = kernel("\n" + body, PARAMS, declarations=REGISTERS)
    line = text.split("\n").index(body) + 1
    with pytest.raises(PtxError) as caught:
        load_ptx(text, "bad.ptx")
    assert message in str(caught.value) and caught.value.line == line
    assert f"bad.ptx:{line}" in str(caught.value) and body in str(caught.value)


@pytest.mark.parametrize(("body", "message"), [
    ("add.u64 %x0, %x1, %t;", "too narrow"),
    ("mov.u32 %r0, nosuch;", "'nosuch' is not declared"),
    ("setp.eq.u32 %r0, %t, 1;", "a .pred is needed"),
    ("mov.u32 %r0, %nosuchregister;", "%nosuchregister is not emulated"),
])
def test_operands_that_do_not_fit_are_refused_before_anything_runs(body: str, message: str) -> None:
    with pytest.raises(PtxError, match=message):
        run_body(body)


def launch(device: Device, **changes: object) -> None:
    module = load_ptx(kernel("ret;", ".param .u64 p, .param .u32 n", declarations=REGISTERS, target="sm_90a"), "k.ptx")
    arguments = {"kernel": "test", "grid": (1,), "block": (32,), "params": [bytes(8), bytes(4)]} | changes
    device.launch(module, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "message"), [
    ({"kernel": "other"}, "no kernel 'other'"),
    ({"block": (64,)}, "requires"),
    ({"grid": (0,)}, "positive"),
    ({"params": [bytes(8)]}, "takes 2 parameters, 1 given"),
    ({"params": [bytes(8), bytes(8)]}, "has 4 bytes, 8 given"),
])
def test_wrong_launches_are_refused(changes: dict[str, object], message: str) -> None:
    launch(Device(sm=90))
    with pytest.raises(LaunchError, match=message):
        launch(Device(sm=90), **changes)


def test_a_module_for_another_architecture_is_refused() -> None:
    for sm in (80, 100):
        with pytest.raises(LaunchError, match="sm_90a"):
            launch(Device(sm=sm))
