"""The checker end to end: what is right passes, and every way to be wrong is caught and told."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.check.algorithms import SCALED, bundle, picked, scaled, schedule
from texpr.aot.manifest import load_manifest, mark_checked
from texpr.check import BundleMismatch, NothingToCheck, Selection, check_bundle, representative, run_check
from texpr.checking.report import CheckReport, Row, Trouble, as_json, table
from texpr.checking.rows import Effort
from texpr.emulator.counters import Level

FEW = Effort(calls=6)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of ``scaled`` for f16 on sm_80."""
    return bundle(tmp_path_factory.mktemp("built"), scaled, schedule(SCALED), ["sm_80"], {"T": "f16"})


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "scaled"))


def change_ptx(folder: Path, variant: str, change: Callable[[str], str]) -> None:
    """Edit the PTX of a variant's kernel, as a compiler bug would."""
    for kernel in load_manifest(folder)["kernels"]:
        if f"_{variant}_" in kernel["name"]:
            file = folder / kernel["images"][0]["ptx"]
            text = change(file.read_text())
            assert text != file.read_text()
            file.write_text(text)


def only(report: CheckReport, variant: str) -> Row:
    (row,) = (row for row in report.rows if row.variant == variant)
    return row


def test_what_is_right_passes_and_is_recorded(copied: Path) -> None:
    report = check_bundle(copied, scaled, effort=FEW)
    assert report.ok, table(report)
    assert [(row.variant, row.target, row.calls) for row in report.rows] == [("wide", "sm_80", 6), ("any", "sm_80", 6)]
    assert all(0 <= row.worst <= 1 for row in report.rows)
    images = [image for kernel in load_manifest(copied)["kernels"] for image in kernel["images"]]
    assert [image["checked"] for image in images] == [True, True]


def test_an_error_within_the_bound_passes(copied: Path) -> None:
    """One ulp of f32 is nothing beside the rounding to f16."""
    change_ptx(copied, "any", lambda text: text.replace("0f40400000", "0f40400001"))
    assert only(check_bundle(copied, scaled, effort=Effort(calls=20)), "any").verdict == "ok"


def test_a_wrong_number_is_found_and_not_recorded_as_checked(copied: Path) -> None:
    mark_checked(copied, [("scaled_any_scaled", "sm_80")])
    change_ptx(copied, "any", lambda text: text.replace("0f40400000", "0f40408000"))
    report = check_bundle(copied, scaled, effort=Effort(calls=20))
    row = only(report, "any")
    assert row.verdict == "WRONG" and row.worst > 1
    assert re.search(r"y\[\d+, \d+\] is .* the reference .* \(bound", row.failures[0].text)
    assert only(report, "wide").verdict == "ok"
    checked = {k["name"]: k["images"][0]["checked"] for k in load_manifest(copied)["kernels"]}
    assert checked == {"scaled_wide_scaled": True, "scaled_any_scaled": False}


def test_a_store_beyond_the_end_is_a_fault_that_names_the_source(copied: Path) -> None:
    change_ptx(copied, "any", lambda text: re.sub(r"@%p\d+ (st\.global)", r"\1", text))
    row = only(check_bundle(copied, scaled, effort=FEW), "any")
    assert row.verdict == "FAULT"
    told = row.failures[0].text
    assert "out of bounds" in told and "kernel.py:" in told and "gl.store" in told
    assert "(in func y)" in told and "this is y[" in told


def test_an_output_that_is_not_written_is_found(copied: Path) -> None:
    change_ptx(copied, "any", lambda text: re.sub(r"@%p\d+ st\.global[^;]*;", "", text))
    row = only(check_bundle(copied, scaled, effort=FEW), "any")
    assert row.failures[0].trouble is Trouble.UNWRITTEN
    assert "elements of y are not written" in row.failures[0].text


def test_a_bundle_of_another_algorithm_is_refused(built: Path) -> None:
    with pytest.raises(BundleMismatch, match="takes"):
        check_bundle(built, picked)


def test_a_target_that_is_not_there_is_refused(built: Path) -> None:
    with pytest.raises(NothingToCheck, match="sm_90a"):
        check_bundle(built, scaled, Selection(targets=("sm_90",)))


def test_one_target_stands_for_each_family() -> None:
    every = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90a", "sm_100a", "sm_110a", "sm_120a")
    assert representative(every, everything=False) == ("sm_80", "sm_90a", "sm_120a")
    assert representative(every, everything=True) == every
    assert representative(("sm_89", "sm_90a"), everything=False) == ("sm_89", "sm_90a")
    assert representative(("sm_100a",), everything=False) == ("sm_100a",)


def test_the_command_prints_a_table_or_json_and_exits_by_the_verdict(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"{Path(__file__).with_name('algorithms.py')}:scaled"
    assert run_check(source, None, Selection(), bundle=copied, effort=FEW, quiet=True) == 0
    assert "scaled: PASS, 12 calls" in capsys.readouterr().out

    change_ptx(copied, "any", lambda text: text.replace("0f40400000", "0f40408000"))
    moved = Path(shutil.copytree(copied, tmp_path / "again" / "scaled"))
    assert run_check(source, None, Selection(), bundle=moved, effort=FEW, quiet=True, json_output=True) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [row["verdict"] for row in found["rows"]] == ["ok", "WRONG"]


def test_counters_are_of_one_call_and_name_it(copied: Path) -> None:
    report = check_bundle(copied, scaled, effort=Effort(calls=6, counters=True))
    for row in report.rows:
        assert row.counters is not None and row.counters.traffic(Level.GLOBAL).bytes > 0
        assert [launched.launches for launched in row.counters.launched.values()] == [1]
        assert f"{row.target}, with {row.counted_call}" in table(report)
    assert only(check_bundle(copied, scaled, effort=FEW), "any").counters is None


def test_counters_are_written_as_json(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"{Path(__file__).parent}/algorithms.py:scaled"
    file = tmp_path / "counters.json"
    effort = Effort(calls=4, counters=True)
    assert run_check(source, None, Selection(), bundle=copied, effort=effort, counters_file=file, quiet=True) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["variant"], row["kernels"][0]["launches"]) for row in rows] == [("wide", 1), ("any", 1)]
    assert "counters of scaled" in capsys.readouterr().out
    nowhere = tmp_path / "missing" / "file"
    assert run_check(source, None, Selection(), bundle=copied, effort=effort, counters_file=nowhere, quiet=True) == 1


def test_an_infinite_error_is_written_as_text() -> None:
    row = Row("y", "", "any", "sm_80", ("k",), calls=1, worst=float("inf"))
    assert as_json(CheckReport("y", (row,)))["rows"][0]["worst"] == "inf"


def test_nothing_checked_is_no_success() -> None:
    assert not CheckReport("y", ()).ok


def test_what_the_emulator_has_not_got_is_refused_and_not_recorded_as_checked(copied: Path) -> None:
    mark_checked(copied, [("scaled_any_scaled", "sm_80")])
    change_ptx(copied, "any", lambda text: text.replace("ret;", "tcgen05.wait::ld.sync.aligned;\nret;", 1))
    row = only(check_bundle(copied, scaled, effort=FEW), "any")
    assert row.failures[0].trouble is Trouble.REFUSED
    assert "'tcgen05.wait::ld.sync.aligned'" in row.failures[0].text and "not emulated" in row.failures[0].text
    checked = {k["name"]: k["images"][0]["checked"] for k in load_manifest(copied)["kernels"]}
    assert checked == {"scaled_wide_scaled": True, "scaled_any_scaled": False}
