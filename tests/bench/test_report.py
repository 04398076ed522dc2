"""Reports: what they say of numbers, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.sweep.report import write_report
from bench.sweep.yaml_lines import BenchError
from tests.bench.fakes import contestant, question, result


def written(folder: Path, value: Any, name: str = "result.json") -> Path:
    (folder / name).write_text(json.dumps(value))
    return folder / name


def row(text: str, name: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {name}")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_without_results_it_says_so() -> None:
    assert "Nothing has been measured yet" in write_report([], None, None)


def test_ratios_goals_and_the_part_of_the_limit(tmp_path: Path) -> None:
    entrants = {
        "texpr": contestant([10.0, 10.0, 20.0], own=True),
        "torch": contestant([9.0, 9.5, 19.0]),
        "cub": {"own": False, "absent": "not built"},
    }
    fast = question("case/f16/8", bytes=20_000_000)
    text = write_report([written(tmp_path, result([(fast, entrants)]))], None, tmp_path / "out.md")
    assert row(text, "case/f16/8") == [
        ["case/f16/8", "0.9 x torch", "0.950 (0.910-0.950)", "met"],
        ["case/f16/8", "10.00*", "50 %", "0.950 (0.910-0.950)*", "absent"],
    ]
    assert "driver 580.1" in text and "commit c0ffeec0ffee" in text and "Absent: cub (not built)." in text
    assert (tmp_path / "out.md").read_text() == text


def test_operations_bound_as_well_and_nothing_is_guessed(tmp_path: Path) -> None:
    entrants = {"texpr": contestant([10.0], own=True)}
    bound = question("case/f16/8", flops=4_000_000_000, unit="f16")
    unknown = question("case/bf16/8", flops=4_000_000_000, unit="bf16")
    text = write_report([written(tmp_path, result([(bound, entrants), (unknown, entrants)]))], None, None)
    assert [cells[2] for cells in row(text, "case/")[2:]] == ["50 %", "-"]


def test_a_peer_with_other_results_counts_for_nothing(tmp_path: Path) -> None:
    entrants = {
        "texpr": contestant([10.0], own=True),
        "torch": contestant([1.0], check={"worst": 99.0, "agrees": False, "text": "y[0]"}),
    }
    text = write_report([written(tmp_path, result([(question(), entrants)]))], None, None)
    assert row(text, "case/")[0][2:] == ["-", "torch: other results"]
    assert row(text, "case/")[1][3] == "other results"


def test_a_kernel_that_was_wrong_has_no_time(tmp_path: Path) -> None:
    entrants = {"texpr": {"own": True, "wrong": "y[3] is 2"}, "torch": contestant([1.0])}
    text = write_report([written(tmp_path, result([(question(), entrants)]))], None, None)
    assert row(text, "case/")[0][3] == "ours: y[3] is 2"


def test_the_emulator_is_never_mixed_with_a_gpu(tmp_path: Path) -> None:
    entrants = {"texpr": contestant([10.0], own=True)}
    real = written(tmp_path, result([(question(), entrants)]), "real.json")
    fake = written(tmp_path, result([(question(), entrants)], measurement=False), "fake.json")
    with pytest.raises(BenchError, match=r"fake.json: no measurement, and not to be mixed"):
        write_report([real, fake], None, None)
    assert "These are not measurements" in write_report([fake], None, None)
    assert "not measurements" not in write_report([real], None, None)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "it is no result of the bench"),
        ("{}", "it is no result of the bench (KeyError('texpr_bench_result'))"),
        ('{"texpr_bench_result": 7}', "its format is 7"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BenchError) as caught:
        write_report([tmp_path / "x.json"], None, None)
    assert error in str(caught.value)


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    entrants = {"texpr": contestant([10.0, 11.0], own=True), "torch": contestant([9.0, 9.5])}
    path = written(tmp_path, result([(question(), entrants)]))
    text = write_report([path], tmp_path / "plots", tmp_path / "out.md")
    assert "![case](plots/result-case.svg)" in text
    assert (tmp_path / "plots" / "result-case.svg").read_text().startswith("<?xml")
