"""What the machine code of two kernels must look like, read from the cubins: no GPU needed, no time measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.sass import Code, compiled, disassembled, parse
from texpr.aot.cubin import compile_kernels
from texpr.compile import build_package, load_algorithm
from texpr.plan.default import default_schedule
from texpr.schedule import dump_schedule

ROOT = Path(__file__).parents[2]
ROWS = f"{ROOT}/kernels/rows.py:softmax"
ATTENTION = f"{ROOT}/kernels/attention.py:attention"
LINEAR = f"{ROOT}/kernels/linear.py:linear_gelu"


def test_linear_gelu_keeps_the_tensor_cores_busy_with_one_barrier_per_step() -> None:
    """128 x 128 x 32 in four stages on sm_80: 64 HMMA of 16 x 8 x 16 are one step of a warp's 64 x 64 share."""
    kernel = compiled(LINEAR, "tile128", "sm_80", T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.shared_bytes == 4 * (128 + 128) * 32 * 2
    step = disassembled(kernel).main_loop()
    assert step.count("HMMA", "16816") == 64
    assert step.count("BAR") == 1
    assert step.count("LDGSTS", "128") == 8  # 16 KB by 128 threads
    assert step.count("LDGSTS") == 8
    assert step.count("LDG") == step.count("STS") == 0
    assert step.count("LDSM") == 16


@pytest.mark.parametrize(("target", "dtype", "vectors"), [("sm_80", "f16", 4), ("sm_90a", "f32", 8)])
def test_softmax_of_short_rows_stays_in_registers(target: str, dtype: str, vectors: int) -> None:
    """A warp owns a row of 1024: 32 elements per thread in 16-byte pieces, two butterflies of five shuffles."""
    kernel = compiled(ROWS, "rows_1024", target, T=dtype)
    assert kernel.shared_bytes == 0
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert code.memory_accesses() == {"LDG.E.128": vectors, "STG.E.128": vectors}
    assert code.count("SHFL") == 10
    assert code.count("BAR") == 0


@pytest.mark.parametrize(("size", "shared"), [(64, 48), (128, 96)])
def test_attention_keeps_everything_but_keys_and_values_in_registers(size: int, shared: int) -> None:
    """128 queries x 64 keys a step: each of the two products is 128 x 64 x D, so 2 x 64 HMMA for a warp of four at
    D = 64 and of eight at D = 128. The probabilities go from the first product to the second in registers, and the row
    maxima and sums stay inside of a warp: nothing is stored to shared memory but the copies of the next step."""
    kernel = compiled(ATTENTION, f"d{size}", "sm_80", statics={"D": size}, T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.shared_bytes == shared * 1024
    step = disassembled(kernel).shortest_loop("HMMA")
    assert step.count("HMMA", "16816") == 128
    assert step.count("ISETP") < 16  # no masks: they are tested in the steps at the causal edge only
    assert step.count("STS") == step.count("STG") == step.count("LDG") == 0
    assert step.count("BAR") == 1
    assert step.count("LDGSTS", "128") == step.count("LDGSTS") == 8


def test_attention_by_default_has_no_spills_and_at_most_twice_the_instructions(tmp_path: Path) -> None:
    """In three kernels and without relaxing anything, for pointers without alignment."""
    chosen = tmp_path / "default.yaml"
    chosen.write_text(dump_schedule(default_schedule(load_algorithm(ATTENTION), ["sm_80"])))
    found = [
        compiled(ATTENTION, "any", "sm_80", {"D": 64}, chosen, kernel=kernel, T="f16") for kernel in ("_s", "_m", "_o")
    ]
    assert [(kernel.spill_store_bytes, kernel.spill_load_bytes) for kernel in found] == [(0, 0)] * 3
    by_hand = compiled(ATTENTION, "small", "sm_80", {"D": 64}, T="f16")
    total = sum(len(disassembled(kernel).opcodes) for kernel in found)
    assert total <= 2 * len(disassembled(by_hand).opcodes)


@pytest.mark.parametrize(("kernel", "products"), [("keys", 64), ("queries", 96)])
def test_the_backward_pass_of_attention_keeps_its_products_in_registers(kernel: str, products: int) -> None:
    """A step of four warps is 64 keys x 32 queries in four products, or 64 queries x 64 keys in three, each over
    D = 64. Scores go from one product to the next in registers."""
    backward = f"{ROOT}/kernels/attention.py:attention_backward"
    found = compiled(backward, "d64", "sm_80", statics={"D": 64}, kernel=kernel, T="f16")
    assert (found.spill_store_bytes, found.spill_load_bytes, found.stack_bytes) == (0, 0, 0)
    step = disassembled(found).shortest_loop("HMMA")
    assert step.count("HMMA", "16816") == products
    assert step.count("STS") == step.count("STG") == 0
    assert step.count("BAR") == 1


def test_the_backward_pass_of_layernorm_reads_its_rows_once() -> None:
    """4096 elements for 256 threads are two pieces of 16 bytes of x and of dy for each, in every turn; g comes before
    the first one, and the sums over rows stay in registers until the last."""
    kernel = compiled(f"{ROOT}/kernels/rows.py:layernorm_backward", "rows_4096", "sm_80", T="f16", kernel="rows")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    code = disassembled(kernel)
    turn = code.main_loop()
    assert turn.count("LDG", "128") == 2 * 2
    assert turn.count("STG", "128") == turn.count("STG") == 2
    assert code.count("LDG", "128") == turn.count("LDG", "128") + 2
    assert code.count("STG", "128") == turn.count("STG", "128") + 2 * 4


@pytest.mark.parametrize(("dtype", "most"), [("u32", 1.2 * 736), ("u64", 1.5 * 736)])
def test_a_pass_of_the_radix_sort_ranks_with_one_match_and_one_atomic_per_key(dtype: str, most: float) -> None:
    """16 keys a thread. A pass over keys alone, written for Gluon by itself, has 736 instructions; this one carries
    values and finds the first place of each digit. Keys of 64 bits are words of two registers."""
    package = build_package(f"{ROOT}/kernels/sorting.py:radix_sort", None, ["sm_80"], {"K": dtype})
    (source,) = (kernel for kernel in package.kernels if "_pass2" in kernel.name)
    (kernel,) = compile_kernels([source], ["sm_80"])
    code = disassembled(kernel)
    assert (code.count("MATCH"), code.count("ATOMS")) == (16, 16)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    assert len(code.opcodes) <= most


def test_a_listing_is_read_with_its_loops() -> None:
    """The tests above would be worth nothing if the reader missed instructions."""
    listing = """
.L_x_0:
        /*0100*/              @P1 LDG.E.128 R4, [R2] ;
        /*0110*/                  HMMA.16816.F32 R4, R8, R12, R4 ;
        /*0120*/              @!P0 BRA `(.L_x_0) ;
.L_x_1:
        /*0130*/                  BRA `(.L_x_1);
"""
    code = parse(listing)
    assert code.opcodes == ("LDG.E.128", "HMMA.16816.F32", "BRA", "BRA")
    assert code.loops == ((0, 2),)
    assert code.main_loop() == Code(("LDG.E.128", "HMMA.16816.F32", "BRA"), ())
    assert (code.count("LDG", "128"), code.count("LDG", "64")) == (1, 0)


@pytest.mark.parametrize("dtype", ["i32", "f32"])
@pytest.mark.parametrize("name", ["cumsum", "cumsum_exclusive"])
def test_a_scan_of_4096_numbers_takes_few_shuffles(name: str, dtype: str) -> None:
    """Every thread adds up 32 neighbours; only the 128 totals go between lanes."""
    kernel = compiled(f"{ROOT}/kernels/scans.py:{name}", "aligned", "sm_80", T=dtype)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert code.count("SHFL") <= 10
    assert (code.count("LDG", "128"), code.count("STG", "128")) == (8, 8)
    assert code.count("LDG") == code.count("STG") == 8


def test_a_scan_of_wide_numbers_looks_back_through_two_words() -> None:
    kernel = compiled(f"{ROOT}/kernels/scans.py:cumsum", "lookback_wide", "sm_80", T="i64")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert (code.count("LDG", "64", "STRONG"), code.count("STG", "64", "STRONG")) == (2, 4)
    assert (code.count("LDG", "128"), code.count("STG", "128")) == (16, 16)
    assert code.count("MEMBAR") == 0


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_scan_that_looks_back_takes_no_more_shuffles(target: str) -> None:
    """Two of them give out the ticket. The look-back itself has none: two reductions of a window in its loop, and two
    for the tile's total; the window is one load, tickets and words one access each."""
    kernel = compiled(f"{ROOT}/kernels/scans.py:cumsum", "lookback_wide", target, T="i32")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert code.count("SHFL") <= 10
    assert (code.count("LDG", "128"), code.count("STG", "128")) == (8, 8)
    assert (code.count("REDUX"), code.count("ATOMG")) == (4, 1)
    assert (code.count("LDG", "64", "STRONG"), code.count("STG", "64", "STRONG")) == (1, 2)
    assert code.count("MEMBAR") == 0


def test_a_recurrence_with_lanes_along_another_axis_takes_none() -> None:
    kernel = compiled(f"{ROOT}/kernels/scans.py:linear_recurrence", "any", "sm_80")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    step = disassembled(kernel).main_loop()
    assert step.count("SHFL") == step.count("BAR") == step.count("STS") == 0
    assert (step.count("LDG"), step.count("STG")) == (2 * 16, 16)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_histogram_counts_by_shared_atomics_without_loops_that_retry(target: str) -> None:
    """2048 values by 128 threads are 16 counts per thread and turn; what was counted is added once per bin."""
    kernel = compiled(f"{ROOT}/kernels/scatter.py:histogram", "any", target, T="u8")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes) == (0, 0)
    code = disassembled(kernel)
    assert code.count("ATOMS") == 16
    assert code.count("ATOMS", "CAS") == code.count("ATOMG") == 0
    assert code.count("RED") + code.count("REDG") == 2  # 256 bins by 128 threads
    assert len(code.loops) == 1


@pytest.mark.parametrize("memory", ["shared", "global"])
def test_a_histogram_over_warps_matches_keys_and_has_no_loops_that_retry(memory: str, tmp_path: Path) -> None:
    """Counts need no shuffles: the first lane of each key adds how many lanes have it."""
    schedule = tmp_path / "histogram.yaml"
    schedule.write_text(
        "texpr: 1\nalgorithm: histogram\nvariants:\n- name: warps\n  target: sm_80\n  kernels:\n  - name: histogram\n"
        "    writes: [h]\n    fill: {h: 0}\n    grid: {i: 512}\n    warps: 4\n"
        f"    place: {{h: {{invert: i, in: {memory}, aggregate: warp}}}}\n"
    )
    kernel = compiled(f"{ROOT}/kernels/scatter.py:histogram", "warps", "sm_80", schedule=schedule, T="u8")
    code = disassembled(kernel)
    assert code.count("MATCH", "ANY") == 4
    assert code.count("ATOMS") == (4 if memory == "shared" else 0)
    assert code.count("RED") == (2 if memory == "shared" else 4)
    assert code.count("ATOMS", "CAS") == code.count("ATOMG") == code.count("SHFL") == len(code.loops) == 0
