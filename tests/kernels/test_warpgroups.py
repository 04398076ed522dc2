"""Products of warpgroups on sm_90a: how their code divides work (for its steps see test_gates.py), and odd schedules on
the emulator."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, halves, worst
from tests.kernels.sass import compiled, disassembled
from texpr.check import check
from texpr.checking.report import table
from texpr.checking.rows import Effort
from texpr.compile import find_schedule, load_algorithm
from texpr.lang.accuracy import Accuracy
from texpr.schedule import dump_schedule

KERNELS = Path(__file__).parents[2] / "kernels"
LINEAR = f"{KERNELS}/linear.py"
ATTENTION = f"{KERNELS}/attention.py:attention"


def test_groups_that_divide_a_tile_have_code_and_registers_of_their_own() -> None:
    """Two roles of 64 x 256 each, of which a step is that of one role of 128 x 256; barriers are those of 128 threads,
    with other numbers. The registers of all roles together are those of the program: 3 x 168 = 240 + 240 + 24."""
    kernel = compiled(f"{LINEAR}:matmul_nn", "fetched", "sm_90a", T="bf16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.ptx.count("wgmma.mma_async.sync.aligned.m64n256k16.") == 2 * 4
    steps = [loop for loop in disassembled(kernel).innermost() if loop.count("HGMMA")]
    assert [(step.count("HGMMA"), step.count("SYNCS"), step.count("BAR")) for step in steps] == [(4, 2, 1)] * 2
    named = set(re.findall(r"bar\.sync\s+(\d+), 128;", kernel.ptx))
    assert len(named) == 2 and not re.search(r"bar\.sync\s+\d+, (?!128)", kernel.ptx)
    moved = {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", kernel.ptx)}
    assert {240, 24} <= moved and kernel.registers == 168


def test_groups_that_take_turns_multiply_whole_tiles_and_have_slots_of_their_own_to_store() -> None:
    """128 x 128 by one group, eight products a step; two pieces of a tile are stored by each."""
    kernel = compiled(f"{LINEAR}:matmul_nn", "in_turn", "sm_90a", T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    products = "wgmma.mma_async.sync.aligned.m64n128k16."
    assert kernel.ptx.count(products) == kernel.ptx.count("wgmma.mma_async") == 2 * 8
    code = disassembled(kernel)
    steps = [loop for loop in code.innermost() if loop.count("HGMMA")]
    assert [(step.count("HGMMA"), step.count("SYNCS"), step.count("BAR")) for step in steps] == [(8, 2, 1)] * 2
    assert code.count("UTMASTG") == 2 * 2
    moved = {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", kernel.ptx)}
    assert {240, 24} <= moved and kernel.registers == 168


@pytest.mark.parametrize(("name", "groups"), [("matmul_nn", 2), ("linear_gelu", 1)])
def test_an_epilogue_in_pieces_leaves_products_wide_and_registers_where_they_are(name: str, groups: int) -> None:
    """Four products of 256 columns a step, four pieces of 64 columns that go to shared memory as matrices and from
    there by the copy engine: no value of the accumulator moves to another thread. Groups that divide the tile have
    code each."""
    kernel = compiled(f"{LINEAR}:{name}", "fetched", "sm_90a", T="bf16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.shared_bytes < 225 * 1024  # a ring of 4 x 48 KB and two pieces of 16 KB
    products = "wgmma.mma_async.sync.aligned.m64n256k16."
    assert kernel.ptx.count(products) == kernel.ptx.count("wgmma.mma_async") == 4 * groups
    code = disassembled(kernel)
    assert (code.count("UTMASTG"), code.count("STSM")) == (4 * groups, groups * 128 * 256 // (8 * 32 * 8))
    assert code.count("LDSM") == code.count("SHFL") == code.count("STG") == 0
    assert code.count("STS") <= 2  # by which roles are started


@pytest.mark.parametrize("size", [64, 128])
def test_the_softmax_of_a_step_is_computed_while_p_v_of_the_one_before_is_multiplied(size: int) -> None:
    """Both products of a step are started; the first is waited for with the second still in flight; every exponential
    comes before the wait for that one."""
    kernel = compiled(ATTENTION, f"d{size}_fetched", "sm_90a", statics={"D": size}, T="f16")
    step = disassembled(kernel).shortest_loop("HGMMA")
    last_product = max(n for n, opcode in enumerate(step.opcodes) if opcode.startswith("HGMMA"))
    waits = [n for n, opcode in enumerate(step.opcodes) if opcode.startswith("WARPGROUP.DEPBAR")]
    assert [re.findall(r"0x\w+", step.operands[n])[-1] for n in waits] == ["0x1", "0x0"]
    assert last_product < waits[0]
    exponentials = [n for n, opcode in enumerate(step.opcodes) if opcode == "MUFU.EX2"]
    assert len(exponentials) >= 64 and all(waits[0] < n < waits[1] for n in exponentials)


@pytest.mark.parametrize(("variant", "target"), [("d64_fetched", "sm_90a"), ("d64_boxes", "sm_120a")])
def test_attention_between_two_roles_is_right_where_tiles_and_rings_end(
    variant: str, target: str, tmp_path: Path
) -> None:
    """Queries and keys that end inside of a tile, rows that see no key, more steps than the ring has slots."""
    definition = load_algorithm(ATTENTION)
    schedule = find_schedule(ATTENTION, definition, None, None)
    fetched = tuple(one for one in schedule.variants if one.name in (variant, "small"))
    path = tmp_path / "fetched.yaml"
    path.write_text(dump_schedule(dataclasses.replace(schedule, variants=fetched)))
    run = bundle(definition, path, tmp_path, {"T": "f16"}, target)
    rng = np.random.default_rng(0)
    calls = ((1, 1, 2), 130, 300, [300]), ((2, 1, 1), 64, 129, [0, 129]), ((1, 2, 1), 200, 128, [77])
    for heads, s, keys, n in calls:
        b, g, r = heads
        arrays = {"q": halves(rng, b, g * r, s, 64)} | {name: halves(rng, b, g, keys, 64) for name in "kv"}
        arrays |= {"n": np.array(n, np.int32), "scale": np.float32(0.125)}
        assert worst(run, definition, arrays, {"T": "f16"}, Accuracy(relaxed=frozenset(["p"]))) <= 1, (heads, s, keys)


@dataclass(frozen=True)
class Odd:
    """A schedule of a product, in parts: the tile, the warps, what the instruction is told, how operands are copied."""

    grid: str
    mma: str
    copy: str
    warps: int = 4
    pieces: str = ""


ODD = {
    "columns as rows": Odd("{i: 8, j: 128}", "rows: j", "depth: 4, copy: async"),
    "a from registers": Odd("{i: 64, j: 64}", "rows: i, a: registers", "depth: 3, copy: async"),
    "warps along both sides": Odd("{i: 64, j: 64}", "rows: i", "depth: 3, copy: async", warps=8),
    "no step ahead, in pieces": Odd("{i: 64, j: 32}", "rows: i", "depth: 2, ahead: 0, copy: async", 4, ", by: {j: 16}"),
    "cut where it is": Odd("{i: 64, j: 64}", "rows: i", "depth: 3, copy: async", 4, ", by: {j: 8}"),
    "pieces of two groups": Odd("{i: 64, j: 64}", "rows: i", "depth: 3, copy: async", 8, ", by: {j: 32}"),
    "copied through registers": Odd("{i: 64, j: 32}", "rows: i", "depth: 3"),
    "columns in two parts": Odd("{i: 64, j: 96}", "rows: i", "depth: 3, copy: async"),
    "two steps in flight": Odd("{i: 64, j: 64}", "rows: i, in_flight: 2", "depth: 4, copy: async"),
    "two steps in flight, in parts": Odd("{i: 64, j: 96}", "rows: i, in_flight: 2", "depth: 5, copy: async"),
    "rows in two parts, columns in pieces": Odd("{i: 192, j: 32}", "rows: i", "depth: 2", 4, ", by: {j: 8}"),
}  # fmt: skip


@pytest.mark.parametrize("how", ODD)
def test_odd_schedules_are_right(how: str, tmp_path: Path) -> None:
    odd = ODD[how]
    path = tmp_path / "odd.yaml"
    path.write_text(f"""
texpr: 1
algorithm: matmul_nn
variants:
- name: odd
  target: sm_90a
  when: K % 8 == 0 and N % 8 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: product
    writes: [y]
    grid: {odd.grid}
    warps: {odd.warps}
    place:
      acc: {{at: tile, loop: {{k: 32}}, mma: {{op: wgmma, {odd.mma}}}}}
      y: {{at: tile{odd.pieces}}}
    stage:
      x: {{at: acc.k, in: shared, {odd.copy}}}
      w: {{at: acc.k, in: shared, {odd.copy}}}
- name: rest
  target: sm_90a
  kernels:
  - name: product
    writes: [y]
    grid: {{i: 16, j: 16}}
    warps: 4
    place:
      acc: {{at: tile, loop: {{k: 16}}, mma: fma}}
""")
    source = f"{LINEAR}:matmul_nn"
    definition = load_algorithm(source)
    binding = next(one for one in definition.bindings() if str(one["T"]) == "bf16")
    schedule = find_schedule(source, definition, path, None)
    report = check(source, schedule, ["sm_90a"], binding, effort=Effort(calls=8, schedules=(1,)))
    assert report.ok, table(report)


ROLES = """
texpr: 1
algorithm: matmul_nn
variants:
- name: parts
  target: sm_90a
  when: K % 8 == 0 and N % 8 == 0 and M >= 1 and N >= 1 and K >= 1 and aligned(x, w, y, 16)
  kernels:
  - name: product
    writes: [y]
    grid: {i: 128, j: 192}
    persistent: {programs: 2}
    place:
      acc: {at: tile, loop: {k: 64}, mma: auto}
      y: {at: tile, by: {j: 64}, via: shared, copy: tma, depth: 2}
    stage:
      x: {at: acc.k, in: shared, depth: 3, copy: tma}
      w: {at: acc.k, in: shared, depth: 3, copy: tma}
    roles:
      load: {warps: 1, registers: 40, runs: [stage.x, stage.w]}
      compute: {warps: 8, registers: 232, runs: [acc, y]}
- name: rest
  target: sm_90a
  kernels:
  - name: product
    writes: [y]
    grid: {i: 16, j: 16}
    warps: 4
    place:
      acc: {at: tile, loop: {k: 16}, mma: fma}
"""


def test_a_tile_of_192_columns_is_two_products_side_by_side(tmp_path: Path) -> None:
    """128 and 64 columns: four instructions of either width a step, one wait for the boxes of all parts, one arrival,
    and three equal pieces on their way out."""
    path = tmp_path / "parts.yaml"
    path.write_text(ROLES)
    kernel = compiled(f"{LINEAR}:matmul_nn", "parts", "sm_90a", schedule=path, T="bf16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    counts = [kernel.ptx.count(f"wgmma.mma_async.sync.aligned.m64n{columns}k16.") for columns in (128, 64)]
    assert counts == [4, 4] and kernel.ptx.count("wgmma.mma_async") == 8
    code = disassembled(kernel)
    step = code.shortest_loop("HGMMA")
    assert (step.count("HGMMA"), step.count("SYNCS"), step.count("BAR")) == (8, 2, 1)
    assert code.count("UTMASTG") == 3
    assert code.count("LDSM") == code.count("SHFL") == code.count("STG") == 0


def test_a_tile_of_192_columns_is_right_where_tiles_and_rings_end(tmp_path: Path) -> None:
    """One part or both beyond the last column, fewer steps than the ring has slots and more, several tiles each."""
    path = tmp_path / "parts.yaml"
    path.write_text(ROLES)
    source = f"{LINEAR}:matmul_nn"
    definition = load_algorithm(source)
    types = {"T": "f16"}
    run = bundle(definition, path, tmp_path, types, "sm_90a")
    rng = np.random.default_rng(0)
    for m, n, k in ((1, 8, 8), (127, 128, 64), (128, 136, 128), (129, 192, 192), (257, 200, 256), (40, 584, 448)):
        arrays = {"x": halves(rng, m, k), "w": halves(rng, k, n)}
        assert worst(run, definition, arrays, types) <= 1, (m, n, k)


def test_two_steps_in_flight_wait_for_the_one_before_them(tmp_path: Path) -> None:
    """Nothing but the wait and the slot that is given back differ."""
    path = tmp_path / "flying.yaml"
    path.write_text(ROLES.replace("j: 192", "j: 128").replace("auto", "{in_flight: 2}").replace("depth: 3", "depth: 4"))
    kernel = compiled(f"{LINEAR}:matmul_nn", "parts", "sm_90a", schedule=path, T="bf16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    waits = [kernel.ptx.count(f"wgmma.wait_group.sync.aligned {pending};") for pending in (0, 1, 2)]
    assert waits == [1, 0, 1]
    step = disassembled(kernel).shortest_loop("HGMMA")
    assert (step.count("HGMMA"), step.count("SYNCS"), step.count("BAR")) == (4, 2, 1)
