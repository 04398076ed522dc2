"""Running a pack on the emulator: right results pass, damaged ones are found, and a run goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packing.packs import EMULATOR, records_of, results_of, run
from texpr.packing.runner import main as runner
from texpr.packing.runner.execute import Failure, Result, Trouble
from texpr.packing.runner.records import read_pack

_ALONE = """
import sys
sys.argv[0] = sys.argv[1] + "/run.py"
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from texpr.packing.runner.main import main
status = main(Path(sys.argv[1]), sys.argv[2:])
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"triton", "islpy", "yaml", "torch"}, loaded
places = [module.__file__ for name, module in sys.modules.items() if name.startswith("texpr")]
assert all(place.startswith(sys.argv[1]) for place in places), places
sys.exit(status)
"""


def test_a_pack_runs_by_itself(pack: Path, tmp_path: Path) -> None:
    """In a fresh process that sees no other TExpr: large cases by samples, small ones bit for bit."""
    command = [sys.executable, "-I", "-c", _ALONE, str(pack), *EMULATOR]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS" in done.stdout
    results = results_of(pack)
    cases = read_pack(pack).cases
    assert set(results) == {case.id for case in cases}
    assert all(results[case.id]["compared"] > 0 for case in cases if case.large)
    assert any(sum(pair[1] for pair in result["bits"].values()) for result in results.values() if result["bits"])
    header = records_of(pack)[0]["run"]
    assert header["cubins"]["copy"].keys() == {"copy_aligned_copy", "copy_any_copy"}
    assert header["device"] == {"name": "emulator", "capability": 80, "multiprocessors": 4}


def test_run_py_is_the_command(pack: Path) -> None:
    command = [sys.executable, str(pack / "run.py"), *EMULATOR, "--list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(read_pack(pack).cases)
    assert not list(pack.rglob("__pycache__"))


def test_a_second_run_skips_what_is_done(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pack, "--only", "copy/any/*") == 0
    before = len(records_of(pack))
    assert run(pack, "--only", "copy/*") == 0
    assert len([record for record in records_of(pack)[before:] if "case" in record]) == 3
    assert "3 done before" in capsys.readouterr().out
    lines = len(records_of(pack))
    assert run(pack, "--only", "copy/*") == 0
    assert len(records_of(pack)) == lines


def test_a_time_slice_ends_between_cases(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pack, "--slice", "0s") == 3
    assert f"{len(read_pack(pack).cases)} cases are left" in capsys.readouterr().out
    assert run(pack, "--slice", "9m") == 0


def test_a_line_cut_off_is_done_again(pack: Path) -> None:
    assert run(pack, "--only", "copy/any/*") == 0
    (journal,) = (pack / "results").iterdir()
    text = journal.read_text()
    journal.write_text(text[:-20])
    assert run(pack, "--only", "copy/any/*") == 0
    assert results_of(pack)["copy/any/sm_80/large"]["failures"] == []


def test_a_case_that_takes_the_process_with_it_is_given_up(pack: Path) -> None:
    assert run(pack, "--only", "copy/any/sm_80/0") == 0
    (journal,) = (pack / "results").iterdir()
    head, started, _ = journal.read_text().splitlines()
    journal.write_text(f"{head}\n{started}\n{started}\n")
    assert run(pack, "--only", "copy/any/*") == 1
    results = results_of(pack)
    assert results["copy/any/sm_80/0"]["failures"][0]["trouble"] == "CRASHED"
    assert results["copy/any/sm_80/large"]["failures"] == []


def test_a_lost_device_is_left_behind(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: Any, **options: Any) -> Result:
        return Result((Failure(Trouble.FAULT, "illegal address"),), lost=True)

    class Restarted(Exception):
        pass

    def restart(program: str, words: list[str]) -> None:
        raise Restarted(words)

    monkeypatch.setattr(runner, "run_case", lost)
    monkeypatch.setattr(runner.os, "execv", restart)
    with pytest.raises(Restarted) as raised:
        run(pack, "--slice", "9m")
    words = raised.value.args[0]
    assert words[2:6] == [*EMULATOR]
    assert words[-1].startswith("--until=")
    assert runner.parse(words[2:]).until == float(words[-1].partition("=")[2])


# ---- what goes wrong is found


def change_arrays(pack: Path, case: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = pack / "cases" / f"{case.replace('/', '.')}.npz"
    with np.load(path) as file:
        arrays = {name: values.copy() for name, values in file.items()}
    change(arrays)
    np.savez(path, **arrays)


def filled_case(pack: Path, bundle: str, *, large: bool = False) -> str:
    cases = (case for case in read_pack(pack).cases if case.bundle == bundle and case.large == large)
    return next(case.id for case in cases if all(output.layout.shape[0] for output in case.outputs))


@pytest.mark.parametrize("large", [False, True])
def test_a_wrong_result_is_found(pack: Path, large: bool) -> None:
    case = filled_case(pack, "copy", large=large)

    def change(arrays: dict[str, Any]) -> None:
        arrays["y.value"][-1, -1] = 77.5

    change_arrays(pack, case, change)
    assert run(pack, "--only", case) == 1
    (failure,) = results_of(pack)[case]["failures"]
    assert failure["trouble"] == "WRONG"
    assert "the reference 77.5" in failure["text"]


def test_other_bits_are_found(pack: Path) -> None:
    """One unit in the last place of a sum: within the bound, but not the emulator's bits."""
    case = filled_case(pack, "sum_rows")

    def change(arrays: dict[str, Any]) -> None:
        arrays["y.bits.sm_80"].view(np.uint32)[0] ^= 1

    change_arrays(pack, case, change)
    assert run(pack, "--only", case) == 1
    (failure,) = results_of(pack)[case]["failures"]
    assert failure["trouble"] == "BITS"
    assert "the emulator has 0x" in failure["text"]


def test_another_variant_is_found(pack: Path) -> None:
    file = pack / "pack.json"
    value = json.loads(file.read_text())
    case = next(case for case in value["cases"] if case["id"] == "copy/aligned/sm_80/large")
    case["inputs"][0]["layout"]["offset"] = 2
    file.write_text(json.dumps(value))
    assert run(pack, "--only", case["id"]) == 1
    (failure,) = results_of(pack)[case["id"]]["failures"]
    assert failure["text"] == "the launcher chose 'any', the guards say 'aligned'"


def test_what_the_emulator_stops_is_found(pack: Path) -> None:
    """An input that is shorter than the kernel is told."""
    file = pack / "pack.json"
    value = json.loads(file.read_text())
    case = next(case for case in value["cases"] if case["id"] == "copy/any/sm_80/large")
    case["inputs"][0]["layout"]["shape"][0] //= 2
    file.write_text(json.dumps(value))
    assert run(pack, "--only", case["id"]) == 1
    (failure,) = results_of(pack)[case["id"]]["failures"]
    assert failure["trouble"] == "FAULT"
    assert "out of bounds" in failure["text"]


# ---- what cannot run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sm", "75"), "TX0813 emulator has compute capability 7.5; the pack has kernels for sm_80"),
        (("--only", "nothing*"), "TX0814"),
        (("--slice", "soon"), "TX0815 --slice soon"),
    ],
)
def test_what_cannot_run_is_said(
    pack: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(pack, *words) == 2
    assert message in capsys.readouterr().err
    assert not (pack / "results").exists()


def test_a_damaged_pack_is_no_pack(pack: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("{", "[]", '{"texpr_pack": 99}', '{"texpr_pack": 1, "cases": [{}]}'):
        (pack / "pack.json").write_text(text)
        assert run(pack) == 2
        assert "TX0811" in capsys.readouterr().err
    (pack / "pack.json").unlink()
    assert run(pack) == 2
