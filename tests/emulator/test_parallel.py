"""Batches in several processes give what one process gives: results, statistics, warnings, faults."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.emulator.compiled_hopper import run_hopper
from tests.emulator.snippets import kernel
from tests.emulator.test_hopper_kernels import gemm
from texpr.emulator import Device, Fault, FaultKind, LaunchStats, load_ptx, parallel, workers
from texpr.emulator.conflicts import EQUAL_STORES

PROGRAMS = 12
PER_PROGRAM = 32

PLACE = """
.reg .b64 %x, %y, %offset, %at; .reg .b32 %t, %c, %i, %v; .reg .pred %p;
ld.param.u64 %x, [x]; ld.param.u64 %y, [y];
mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mad.lo.u32 %i, %c, 32, %t;
mul.wide.u32 %offset, %i, 4; add.u64 %x, %x, %offset; add.u64 %at, %y, %offset;
"""
"""%i is the index of the thread's element, %x and %at are its addresses in the two buffers, %y the second buffer."""

DOUBLE = "ld.global.u32 %v, [%x]; add.u32 %v, %v, %v; st.global.u32 [%at], %v;"


@dataclass
class Outcome:
    """All that a launch leaves behind."""

    memory: list[bytes]
    unwritten: list[int]
    stats: LaunchStats | None
    fault: str


@pytest.fixture(autouse=True)
def always_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_is_worth_it", lambda seconds, memory: True)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes, for each attempt to run in children, whether all of them came to an end without a fault."""
    attempts: list[bool] = []

    def noting(tasks: Sequence[Callable[[], Any]]) -> list[Any] | None:
        results = workers.run_in_children(tasks)
        attempts.append(results is not None)
        return results

    monkeypatch.setattr(parallel, "run_in_children", noting)
    return attempts


def outcome(
    body: str, count: int, *, batch: int = 2, launches: int = 1, seed: int | None = None, checks: bool = True,
    inputs_written: bool = True, counters: bool = False, cluster: int = 1,
) -> Outcome:
    """Launch with buffers x (0, 1, 2, ...) and y of 12 x 32 elements."""
    module = load_ptx(kernel(PLACE + body, ".param .u64 x, .param .u64 y"), "test.ptx")
    device = Device(sm=120, batch=batch, workers=count, seed=seed, checks=checks, counters=counters)
    size = 4 * PROGRAMS * PER_PROGRAM
    x, y = device.alloc(size, "x"), device.alloc(size, "y")
    if inputs_written:
        device.write(x, np.arange(PROGRAMS * PER_PROGRAM, dtype=np.uint32))
    stats, fault = None, ""
    try:
        for _ in range(launches):
            stats = device.launch(
                module, "test", [PROGRAMS], [PER_PROGRAM], params=[a.to_bytes(8, "little") for a in (x, y)],
                cluster=[cluster],
            )
    except Fault as error:
        fault = str(error)
    memory, unwritten = [device.read(a, size) for a in (x, y)], [device.unwritten(a, size) for a in (x, y)]
    return Outcome(memory, unwritten, stats, fault)


def same(body: str, **how: Any) -> Outcome:
    """Run in one process and in several; the outcome must be one."""
    serial = outcome(body, 1, **how)
    for count in (2, 3):
        assert outcome(body, count, **how) == serial
    return serial


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("checks", [True, False])
def test_independent_programs(forks: list[bool], seed: int | None, checks: bool) -> None:
    got = same(DOUBLE, seed=seed, checks=checks)
    assert np.frombuffer(got.memory[1], np.uint32).tolist() == list(range(0, 2 * PROGRAMS * PER_PROGRAM, 2))
    assert got.stats is not None and got.stats.programs == PROGRAMS and got.unwritten == [0, 0]
    assert forks == [True, True]


def test_programs_of_a_cluster_communicate_inside_of_a_batch(forks: list[bool]) -> None:
    """Each thread gives twice its element to the thread beside it in the other program."""
    meet = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"
    body = f"""
        .shared .align 4 .b8 room[128]; .reg .b32 %r, %s; mov.u32 %r, %cluster_ctarank; xor.b32 %r, %r, 1;
        mov.u32 %s, room; mad.lo.u32 %s, %t, 4, %s; st.shared.u32 [%s], 0; ld.global.u32 %v, [%x]; {meet}
        mapa.shared::cluster.u32 %r, %s, %r; red.shared::cluster.add.u32 [%r], %v; fence.acq_rel.cluster;
        red.shared::cluster.add.u32 [%r], %v; {meet} ld.shared.u32 %v, [%s]; st.global.u32 [%at], %v;
    """
    got = same(body, cluster=2)
    swapped = np.arange(PROGRAMS * PER_PROGRAM).reshape(-1, 2, PER_PROGRAM)[:, ::-1].reshape(-1)
    assert np.frombuffer(got.memory[1], np.uint32).tolist() == (2 * swapped).tolist()
    assert forks == [True, True]


def test_counters_add_up(forks: list[bool]) -> None:
    got = same(DOUBLE, counters=True)
    assert got.stats is not None and got.stats.counters is not None
    launched = got.stats.counters.launched["test"]
    assert (launched.launches, launched.programs, launched.threads) == (1, PROGRAMS, PROGRAMS * PER_PROGRAM)
    assert forks == [True, True]


def test_in_place_updates_are_independent(forks: list[bool]) -> None:
    same("ld.global.u32 %v, [%x]; add.u32 %v, %v, 1; st.global.u32 [%x], %v;")
    assert forks == [True, True]


@pytest.mark.parametrize("width", [8, 16, 32])
def test_what_is_not_written_stays_unwritten(forks: list[bool], width: int) -> None:
    """Each thread writes a part of its element only."""
    got = same(f".reg .b16 %h; cvt.u16.u32 %h, %i; st.global.b{width} [%at], {'%i' if width == 32 else '%h'};")
    assert got.unwritten[1] == PROGRAMS * PER_PROGRAM * (4 - width // 8)
    assert forks == [True, True]


def test_wide_accesses(forks: list[bool]) -> None:
    same("""
    .reg .b32 %a, %b, %d, %e; .reg .b64 %o, %ix, %iy; and.b32 %v, %t, 3; setp.eq.u32 %p, %v, 0;
    @%p ld.global.v4.b32 {%a, %b, %d, %e}, [%x]; @%p st.global.v4.b32 [%at], {%e, %d, %b, %a};
    """)
    assert forks == [True, True]


def test_interleaved_stores(forks: list[bool]) -> None:
    """Neighbouring elements are written by different programs."""
    place = "mad.lo.u32 %v, %t, 12, %c; mul.wide.u32 %offset, %v, 4; add.u64 %at, %y, %offset;"
    got = same(place + "st.global.u32 [%at], %v;")
    assert np.frombuffer(got.memory[1], np.uint32).tolist() == list(range(PROGRAMS * PER_PROGRAM))
    assert forks == [True, True]


@pytest.mark.parametrize("neighbour", [-1, 1])
def test_in_place_with_a_look_at_the_neighbour(neighbour: int) -> None:
    """What a program finds depends on whether its neighbour has run."""
    same(f"""
    add.u32 %v, %c, {neighbour}; setp.lt.u32 %p, %v, 12; @!%p mov.u32 %v, 0;
    @%p ld.global.u32 %v, [%x+{4 * PER_PROGRAM * neighbour}]; add.u32 %v, %v, 1; st.global.u32 [%x], %v;
    """, batch=1)


@pytest.mark.parametrize("first", [0, 3, 9, 11])
def test_the_fault_is_the_first_one_of_a_serial_run(first: int) -> None:
    """Programs from `first` on go out of bounds; memory is as if the later ones had never begun."""
    got = same(f"setp.ge.u32 %p, %c, {first}; @%p add.u64 %at, %at, 65536;" + DOUBLE)
    assert "out of bounds" in got.fault and f"program ({first}, 0, 0)" in got.fault
    assert got.unwritten[1] == 4 * PER_PROGRAM * (PROGRAMS - first // 2 * 2)


def test_an_uninitialised_read() -> None:
    assert "uninitialised" in same(DOUBLE, inputs_written=False).fault


def test_programs_of_different_workers_store_different_values(forks: list[bool]) -> None:
    """Every program stores its number to the first element."""
    got = same("st.global.u32 [%y], %c;")
    assert FaultKind.GLOBAL_CONFLICT.value in got.fault


def test_only_the_last_program_meddles(forks: list[bool]) -> None:
    """It overwrites what the first one wrote: two workers apart."""
    got = same(DOUBLE + "setp.eq.u32 %p, %c, 11; add.u32 %v, %t, 7; @%p st.global.u32 [%at+-1408], %v;")
    assert FaultKind.GLOBAL_CONFLICT.value in got.fault and "program (0, 0, 0)" in got.fault
    assert forks == [True, True]


def test_equal_stores_are_counted_alike(forks: list[bool]) -> None:
    got = same("mov.u32 %v, 3; st.global.u32 [%y], %v;")
    assert got.stats is not None and got.stats.warnings[EQUAL_STORES] > PROGRAMS // 2 - 1


def test_programs_that_read_what_others_wrote(forks: list[bool]) -> None:
    """Each adds up what the program before left: only one order gives this result. No parallel run is kept, and a
    second launch does not even try."""
    body = """
    setp.eq.u32 %p, %c, 0; mov.u32 %v, 0; @!%p ld.global.u32 %v, [%at+-128]; .reg .b32 %w; ld.global.u32 %w, [%x];
    add.u32 %v, %v, %w; st.global.u32 [%at], %v;
    """
    chained = outcome(body, 1, batch=1)
    if not chained.fault:  # the check of the order of programs may object
        values = np.frombuffer(chained.memory[1], np.uint32).reshape(PROGRAMS, PER_PROGRAM)
        assert values[-1].tolist() == np.arange(PROGRAMS * PER_PROGRAM).reshape(values.shape).sum(axis=0).tolist()
    for count in (2, 3):
        assert outcome(body, count, batch=1, launches=2) == outcome(body, 1, batch=1, launches=2)
    assert len(forks) == 2


@pytest.mark.parametrize("seed", [None, 3])
def test_tensor_copies_and_warpgroup_products(forks: list[bool], seed: int | None) -> None:
    pytest.importorskip("triton")
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((2, 128, 128)).astype(np.float16)
    results = []
    for count in (1, 2):
        device = Device(sm=90, batch=1, workers=count, seed=seed)
        arguments = {"a": a, "b": b, "c": np.empty((128, 128), np.float32), "K": 128}
        results.append(run_hopper(gemm(), arguments, (2, 2), maps=("a", "b", "c"), outputs=("c",), device=device))
    np.testing.assert_array_equal(results[0][0]["c"], results[1][0]["c"])
    assert results[0][1] == results[1][1] and forks == [True]


@pytest.mark.parametrize(
    "body",
    [
        "red.global.add.u32 [%y], 1;",
        "atom.global.max.u32 %v, [%y], %i;",
        "ld.volatile.global.u32 %v, [%x]; st.global.u32 [%at], %v;",
        "ld.relaxed.gpu.global.u32 %v, [%x]; st.global.u32 [%at], %v;",
        "mov.u32 %v, %clock; st.global.u32 [%at], %v;",
        "st.global.u32 [%at], %i; membar.gl;",
    ],
)
def test_communicating_kernels_run_in_one_process(forks: list[bool], body: str) -> None:
    same("setp.eq.u32 %p, %i, 0; mov.u32 %v, 5; st.global.u32 [%at], %v;" + body)
    assert forks == []


def test_small_launches_run_in_one_process(forks: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    attempts: list[object] = []
    monkeypatch.setattr(parallel, "run_in_children", attempts.append)
    outcome(DOUBLE, 2)
    assert attempts == []


def test_the_size_of_a_batch_does_not_depend_on_the_workers() -> None:
    module = load_ptx(kernel(PLACE + DOUBLE, ".param .u64 x, .param .u64 y"), "test.ptx")
    blocks = set()
    for count in (1, 2, 3):
        device = Device(sm=120, workers=count)
        buffers = [device.alloc(4 * 32 * 300, name) for name in "xy"]
        device.fill(buffers[0], 1, 4 * 32 * 300)
        params = [a.to_bytes(8, "little") for a in buffers]
        blocks.add(device.launch(module, "test", [300], [32], params=params).blocks)
    assert len(blocks) == 1


# The processes themselves --------------------------------------------------------------------------------------------


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert workers.run_in_children([lambda: "first", lambda: np.arange(3).tolist()]) == ["first", [0, 1, 2]]


def test_a_child_has_its_own_memory() -> None:
    seen = [0]

    def change() -> int:
        seen[0] += 1
        return seen[0]

    assert workers.run_in_children([change, change]) == [1, 1]
    assert seen == [0]


def test_a_child_may_launch() -> None:
    """The parent's locks are not the child's."""
    first = outcome(DOUBLE, 1)
    assert workers.run_in_children([lambda: outcome(DOUBLE, 1), lambda: outcome(DOUBLE, 2)]) == [first, first]


def test_large_results_arrive_whole() -> None:
    results = workers.run_in_children([lambda: bytes(3_000_000), lambda: b"x" * 5_000_000])
    assert results is not None and [len(result) for result in results] == [3_000_000, 5_000_000]


@pytest.mark.parametrize(
    "end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: 1 / 0, lambda: lambda: None]
)
def test_a_child_that_fails_stops_the_others(end: Callable[[], Any]) -> None:
    """It exits, dies, raises, or has a result that cannot be sent; the other one would wait for ever."""
    assert workers.run_in_children([threading.Event().wait, end]) is None


def test_no_fork_while_another_thread_is_in_a_launch() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with workers.launching():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    try:
        with workers.launching(), pytest.raises(workers.CannotForkError, match="another thread"):
            workers.run_in_children([lambda: 1])
    finally:
        leave.set()
        thread.join()
    with workers.launching():
        assert workers.run_in_children([lambda: 1]) == [1]


def test_the_environment_says_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workers.WORKERS_VARIABLE, "5")
    assert Device().workers == 5
    monkeypatch.setenv(workers.WORKERS_VARIABLE, "none")
    with pytest.raises(ValueError, match="TEXPR_EMULATOR_WORKERS='none'"):
        Device()
    monkeypatch.delenv(workers.WORKERS_VARIABLE)
    assert 1 <= Device().workers <= 8
    with pytest.raises(ValueError, match="at least one"):
        Device(workers=0)
