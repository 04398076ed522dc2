"""Counters as tables, as JSON, and on the command lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.emulator.counting import count
from tests.emulator.test_run_ptx import ARGUMENTS, SCALE
from tests.emulator.test_standin import program
from tests.runtime.sample_bundles import bundle
from texpr.cli import main as texpr
from texpr.emulator.counters import Counters, Level
from texpr.emulator.counters_report import as_json, tables
from texpr.emulator.standin import run_program

BODY = """
st.shared.b32 [%s], %t; bar.sync 0; ld.global.b32 %r0, [%at]; setp.lt.u32 %p, %t, 8; @%p add.u32 %r0, %r0, 1;
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r0, %r1, %r2, %r3}, {%r0, %r1, %r2, %r3}, {%r4, %r5},
{%r0, %r1, %r2, %r3};
"""


def rows(text: str) -> dict[str, list[str]]:
    """The lines of a table by their first words."""
    return {line.split("  ")[0]: line.split("  ")[1:] for line in text.splitlines() if "  " in line}


def test_tables_name_everything_that_was_counted() -> None:
    text = tables(count(BODY, [128 * i for i in range(64)], programs=3))
    assert text.splitlines()[0] == "test: 1 launch, 3 programs, 6 warps, 192 threads"
    found = {name: [cell.strip() for cell in cells if cell.strip()] for name, cells in rows(text).items()}
    assert found["global load"] == ["4", "12", "1536", "216", "18.0", "22%"]
    assert found["shared store"] == ["4", "6", "768", "192", "186"]
    assert found["mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"] == ["6", str(6 * 4096)]
    assert found["bar.sync"] == ["6"]
    assert "divergence: 3 of " in text
    assert "32.0   12%  ld.global.b32 %r0, [%at]" in text
    assert "186      32.0  st.shared.b32 [%s], %t" in text


def test_tables_leave_out_what_did_not_happen() -> None:
    text = tables(count("", [4 * i for i in range(32)]))
    for title in ("barriers", "tensor core", "wavefronts", "most"):
        assert title not in text


def test_no_launch_is_no_table() -> None:
    assert tables(Counters()) == "" and as_json(Counters()) == {"kernels": []}


def test_json_has_every_instruction_that_ran() -> None:
    counters = count(BODY, [128 * i for i in range(64)])
    (kernel,) = json.loads(json.dumps(as_json(counters)))["kernels"]
    assert (kernel["kernel"], kernel["launches"], kernel["warps"]) == ("test", 1, 2)
    assert sum(entry["executed"]["warps"] for entry in kernel["instructions"]) == kernel["executed"]["warps"]
    store = next(entry for entry in kernel["instructions"] if entry["text"].startswith("st.shared"))
    assert store["class"] == "shared memory" and store["memory"][0]["wavefronts"] == 64
    assert kernel["divergence"]["partial"] == 1


def test_counters_of_a_ptx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, written = tmp_path / "scale.ptx", tmp_path / "counters.json"
    file.write_text(SCALE)
    words = ["emulate", str(file), "--grid", "2", "--block", "32", *(f"--arg={argument}" for argument in ARGUMENTS)]
    assert texpr([*words, "--counters", "--counters-json", str(written)]) == 0
    assert "test: 1 launch, 2 programs, 2 warps, 64 threads" in capsys.readouterr().out
    memory = json.loads(written.read_text())["kernels"][0]["memory"]
    assert [(m["way"], m["bytes"]) for m in memory] == [("load", 192), ("store", 192)]
    assert texpr(words) == 0
    assert "launch" not in capsys.readouterr().out
    assert texpr([*words, "--counters-json", str(tmp_path / "missing" / "file")]) == 2
    assert "error: cannot write" in capsys.readouterr().err


def test_counters_of_a_program(capfd: pytest.CaptureFixture[str]) -> None:
    """All launches of a kernel together; not counted unless asked."""
    cubin = bundle("affine") / "cubin" / "affine_f32_rows.sm_80.cubin"
    counted: list[Counters] = []
    words = [str(program()), str(cubin), "17", "700", "run"]
    assert run_program(words, [bundle("affine")], counted=counted.append) == 0
    (counters,) = counted
    assert counters.launched["affine_f32_rows"].launches == 1
    assert counters.traffic(Level.GLOBAL).bytes == 3 * 17 * 700 * 4  # two loads and a store
    assert texpr(["emulate", "--bundle", str(bundle("affine")), "--counters", "--", *words]) == 0
    assert "affine_f32_rows: 1 launch" in capfd.readouterr().err
