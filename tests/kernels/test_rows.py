"""Row kernels on rows that nobody's shared memory holds, checked with values: a call of theirs costs too much for
``texpr check`` to make many."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, halves, worst
from tests.kernels.sass import compiled, disassembled
from texpr.compile import find_schedule, load_algorithm
from texpr.schedule import dump_schedule

ROOT = Path(__file__).parents[2]
COLUMNS = 40000


@pytest.mark.parametrize("kernel", ["rows.py:softmax", "loss.py:cross_entropy"])
def test_a_second_reading_of_long_rows_is_right(kernel: str, tmp_path: Path) -> None:
    """The rows are in L2 then, as few of them are read at a time."""
    source = f"{ROOT}/kernels/{kernel}"
    definition = load_algorithm(source)
    schedule = find_schedule(source, definition, None, None)
    chosen = tuple(one for one in schedule.variants if one.name in ("long_aligned", "long", "any"))
    path = tmp_path / "long.yaml"
    path.write_text(dump_schedule(dataclasses.replace(schedule, variants=chosen)))
    run = bundle(definition, path, tmp_path, {"T": "f16"}, "sm_90a")
    rng = np.random.default_rng(0)
    rows = 5
    arrays = {"x": halves(rng, rows, COLUMNS)}
    if kernel.endswith("cross_entropy"):
        arrays |= {"t": np.array([0, -1, COLUMNS - 1, 8192, 32767], np.int32), "gout": np.ones(rows, np.float32)}
    assert worst(run, definition, arrays, {"T": "f16"}) <= 1


@pytest.mark.parametrize(
    ("kernel", "loads"), [("rows.py:softmax", 0), ("rows.py:layernorm", 4), ("loss.py:cross_entropy", 0)]
)
def test_all_of_a_row_is_on_its_way_before_any_of_it_is_read(kernel: str, loads: int) -> None:
    """Eight pieces of 4096 elements, 16 bytes a copy. Loads fetch what belongs to columns alone."""
    built = compiled(f"{ROOT}/kernels/{kernel}", "rows_32768", "sm_90a", T="bf16")
    assert (built.spill_store_bytes, built.spill_load_bytes, built.stack_bytes) == (0, 0, 0)
    code = disassembled(built)
    assert code.count("LDGSTS", "128") == code.count("LDGSTS") == 16
    first_read = next(n for n, opcode in enumerate(code.opcodes) if opcode == "LDS.128")
    assert sum(opcode.startswith("LDGSTS") for opcode in code.opcodes[:first_read]) == 16
    assert code.count("LDG", "128") == loads
