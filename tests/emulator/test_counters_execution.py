"""Counters of instructions: classes, predicates, divergence, barriers, matrix operations; sums of counters."""

from __future__ import annotations

import pickle

import pytest

from tests.emulator.counting import count, find
from tests.emulator.test_table import expansions
from texpr.emulator import Device, Fault
from texpr.emulator.counters import Channel, Counters, Executed, Launched, Level, Traffic, Way
from texpr.emulator.instruction_classes import InstructionClass, class_of
from texpr.emulator.isa import TABLE

NOTHING = [0] * 32
DIVERGE = """
setp.lt.u32 %p, %t, 8; @%p bra low;
mul.lo.u32 %r0, %t, 3; bra join;
low: shl.b32 %r0, %t, 1;
join: xor.b32 %r1, %r0, 1;
"""
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"


def test_a_device_does_not_count_unless_asked() -> None:
    with pytest.raises(AssertionError):
        count("", NOTHING, device=Device(sm=120))


@pytest.mark.parametrize(("opcode", "expected"), [
    ("add.s32", InstructionClass.INTEGER), ("mad.wide.u32", InstructionClass.INTEGER),
    ("fma.rn.ftz.f32", InstructionClass.FLOAT32), ("add.rn.f32x2", InstructionClass.FLOAT32),
    ("fma.rn.f16x2", InstructionClass.HALF), ("max.NaN.bf16x2", InstructionClass.HALF),
    ("fma.rn.f64", InstructionClass.FLOAT64), ("cvt.rn.f16x2.f32", InstructionClass.CONVERSION),
    ("ex2.approx.ftz.f32", InstructionClass.SPECIAL), ("div.full.f32", InstructionClass.SPECIAL),
    ("div.s32", InstructionClass.INTEGER), ("mov.b32", InstructionClass.MOVE), ("and.pred", InstructionClass.MOVE),
    ("setp.lt.f32", InstructionClass.MOVE), ("and.b32", InstructionClass.INTEGER),
    ("ld.global.nc.v4.b32", InstructionClass.GLOBAL), ("st.shared::cta.b32", InstructionClass.SHARED),
    ("ld.param.b64", InstructionClass.PARAMETER), ("ld.b32", InstructionClass.GENERIC),
    ("st.local.b32", InstructionClass.LOCAL),
    ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", InstructionClass.SHARED), (MMA, InstructionClass.TENSOR),
    ("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16", InstructionClass.TENSOR),
    ("wgmma.wait_group.sync.aligned", InstructionClass.BARRIER), ("bar.sync", InstructionClass.BARRIER),
    ("bar.warp.sync", InstructionClass.BARRIER), ("cp.async.wait_group", InstructionClass.BARRIER),
    ("cp.async.cg.shared.global", InstructionClass.COPY), ("atom.global.add.u32", InstructionClass.ATOMIC),
    ("red.shared.add.u32", InstructionClass.ATOMIC), ("redux.sync.add.s32", InstructionClass.WARP),
    ("shfl.sync.bfly.b32", InstructionClass.WARP), ("bra.uni", InstructionClass.CONTROL),
])
def test_class_of_an_opcode(opcode: str, expected: InstructionClass) -> None:
    assert class_of(opcode) is expected


def test_every_row_of_the_instruction_table_has_a_class() -> None:
    for row in TABLE:
        assert not [opcode for opcode in expansions(row.pattern)[::29] if class_of(opcode) is InstructionClass.OTHER]


def test_instructions_by_class() -> None:
    body = "cvt.rn.f32.u32 %r0, %t; fma.rn.f32 %r0, %r0, %r0, %r0; add.u32 %r1, %t, 1; add.u32 %r1, %r1, 1;"
    found = count(body, [0] * 64, programs=3).by_class()
    assert found[InstructionClass.FLOAT32] == Executed(warps=6, threads=192)
    assert found[InstructionClass.PARAMETER].warps == 12
    assert found[InstructionClass.INTEGER].warps == 6 * 5  # mad, add and add of the prologue are three of these
    assert found[InstructionClass.CONTROL] == Executed(warps=6, threads=192)  # ret


def test_a_predicate_that_is_false_everywhere_does_not_execute() -> None:
    body = "setp.lt.u32 %p, %t, 32; @%p add.u32 %r0, %t, 1; @!%p sub.u32 %r0, %t, 1; @!%p mul.lo.u32 %r0, %t, 64;"
    counters = count(body, [0] * 64)
    assert find(counters, "add.u32").executed == Executed(warps=1, threads=32)
    assert find(counters, "sub.u32").executed == Executed(warps=1, threads=32)


def test_part_of_a_warp_is_partial() -> None:
    counters = count("setp.lt.u32 %p, %t, 33; @%p xor.b32 %r0, %t, 1;", [0] * 64)
    assert find(counters, "xor.b32").executed == Executed(warps=2, threads=33, partial=1)
    assert counters.divergence().partial == 1


def test_a_warp_that_was_launched_with_fewer_threads_is_whole() -> None:
    counters = count("xor.b32 %r0, %t, 1;", [0] * 40)
    assert find(counters, "xor.b32").executed == Executed(warps=2, threads=40)
    assert counters.divergence().active == 20


def test_a_branch_that_splits_a_warp_runs_both_sides() -> None:
    counters = count(DIVERGE, [0] * 64)
    assert find(counters, "mul.lo.u32").executed == Executed(warps=2, threads=56, partial=1)
    assert find(counters, "shl.b32").executed == Executed(warps=1, threads=8, partial=1)
    assert find(counters, "xor.b32").executed == Executed(warps=2, threads=64)  # together again
    first = next(e for e in counters.instructions if e.site.opcode == "bra")
    assert first.executed == Executed(warps=2, threads=64, splits=1)
    divergence = counters.divergence()
    assert (divergence.branches, divergence.splits, divergence.partial) == (4, 1, 3)  # the inner jump is partial too


def test_the_order_of_warps_does_not_change_what_is_counted() -> None:
    straight = count(DIVERGE, [0] * 64, programs=5)
    permuted = count(DIVERGE, [0] * 64, programs=5, device=Device(sm=120, counters=True, seed=3))
    for opcode in ("mul.lo.u32", "shl.b32", "bra"):
        assert find(straight, opcode).executed == find(permuted, opcode).executed


def test_a_loop_whose_threads_leave_one_by_one() -> None:
    body = "mov.u32 %r0, 0; again: add.u32 %r0, %r0, 1; setp.le.u32 %p, %r0, %t; @%p bra again;"
    counters = count(body, NOTHING)
    assert find(counters, "setp.le.u32").executed == Executed(warps=32, threads=32 * 33 // 2, partial=31)
    assert find(counters, "bra").executed.splits == 31


def test_an_exit_of_some_threads_is_a_split() -> None:
    counters = count("setp.lt.u32 %p, %t, 4; @%p exit; xor.b32 %r0, %t, 1;", NOTHING)
    assert find(counters, "exit").executed == Executed(warps=1, threads=32, splits=1)
    assert find(counters, "xor.b32").executed == Executed(warps=1, threads=28, partial=1)


def test_a_branch_through_a_table_splits_by_target() -> None:
    body = """
    shr.u32 %r0, %t, 4; targets: .branchtargets one, two; brx.idx %r0, targets;
    one: add.u32 %r1, %t, 1; two: xor.b32 %r1, %t, 2;
    """
    counters = count(body, [0] * 32)
    assert find(counters, "brx.idx").executed.splits == 1


def test_barriers_by_kind() -> None:
    body = """
    bar.sync 0; bar.sync 0; membar.gl; bar.warp.sync -1;
    setp.lt.u32 %p, %t, 32; @%p bar.arrive 1, 64; @!%p bar.sync 1, 64;
    """
    counters = count(body, [0] * 64, programs=2)
    found = counters.barriers()
    assert found["bar.sync"].warps == 4 + 4 + 2
    assert found["bar.arrive"].warps == 2
    assert found["membar.gl"].warps == found["bar.warp.sync"].warps == 4
    assert found["bar.sync"].threads == 32 * 10


def test_matrix_instructions_and_their_operations() -> None:
    registers = "{%r0, %r1, %r2, %r3}"
    body = f"{MMA} {registers}, {registers}, {{%r4, %r5}}, {registers};" * 3
    counters = count(body, [0] * 64, programs=2)
    assert counters.tensor()[MMA] == Executed(warps=12, threads=384, flops=12 * 2 * 16 * 8 * 16)
    assert counters.flops == 12 * 4096


def test_wgmma_counts_operations_and_operands_per_group_of_warps() -> None:
    name = "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16"
    accumulators = "{" + ", ".join(f"%r{i}" for i in range(8)) + "}"
    body = f"""
    and.b32 %r0, %r0, 0; cvt.u64.u32 %x0, %s; shr.u64 %x0, %x0, 4; setp.ne.u32 %p, %t, %t;
    wgmma.fence.sync.aligned; {name} {accumulators}, %x0, %x0, %p, 1, 1, 0, 0;
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    """
    device = Device(sm=90, checks=False, counters=True)
    counters = count(body, [0] * 256, device=device, target="sm_90a")
    assert counters.tensor()[name] == Executed(warps=8, threads=256, flops=2 * 2 * 64 * 16 * 16)
    assert counters.memory()[Channel(Level.SHARED, Way.TENSOR_CORE, 0)] == Traffic(
        requests=2, accesses=256, bytes=2 * (64 + 16) * 16 * 2)


# Sums -------------------------------------------------------------------------------------------------------

def test_launches_add_up_and_a_launch_counts_only_itself() -> None:
    device = Device(sm=120, checks=False, counters=True, batch=4)
    first = count("st.global.b32 [%at], %t;", [4 * i for i in range(32)], programs=10, device=device)
    again = count("st.global.b32 [%at], %t;", [4 * i for i in range(32)], programs=10, device=device)
    assert first == again
    both = first + again
    assert both.launched == {"test": Launched(launches=2, programs=20, warps=20, threads=640)}
    assert both.executed == Executed(2 * first.executed.warps, 2 * first.executed.threads)
    assert len(both.instructions) == len(first.instructions)
    assert both.traffic(Level.GLOBAL).bytes == 20 * 256
    assert Counters.total([first, again]) == both and first + Counters() == first


def test_what_a_launch_counted_before_its_fault_is_forgotten() -> None:
    device = Device(sm=120, checks=False, counters=True)
    body, good = "ld.global.b32 %r0, [%at];", [4 * i for i in range(32)]
    before = count(body, good, device=device)
    with pytest.raises(Fault):
        count(body, [1 << 20] * 32, device=device)
    assert count(body, good, device=device) == before


def test_counters_of_a_launch_survive_a_trip_to_another_process() -> None:
    counters = count(DIVERGE, NOTHING)
    assert pickle.loads(pickle.dumps(counters)) == counters


def test_kernels_stay_apart_in_a_sum() -> None:
    one, two = count("add.u32 %r0, %t, 1;", NOTHING), count("sub.u32 %r0, %t, 1;", NOTHING)
    assert one != two
    assert (one + two).of("test").launched["test"].launches == 2


def test_lines_add_up_to_the_whole() -> None:
    counters = count(DIVERGE, NOTHING)
    lines = counters.by_line()
    assert sum(entry.executed.warps for entries in lines.values() for entry in entries) == counters.executed.warps
    assert all(entry.site.line == line for (_, line), entries in lines.items() for entry in entries)


def test_thread_instructions_agree_with_the_machine_where_nothing_is_predicated() -> None:
    device = Device(sm=120, checks=False, counters=True)
    counters = count("add.u32 %r0, %t, 1; bar.sync 0; xor.b32 %r0, %r0, %t;", [0] * 96, programs=5, device=device)
    assert counters.executed.threads == 96 * 5 * len(counters.instructions)
