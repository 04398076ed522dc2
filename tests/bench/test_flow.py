"""From case files to a report, on the emulator in the GPU's place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from bench.measure.main import UNFINISHED, against, main
from bench.sweep import packer
from bench.sweep.casefile import read_case
from bench.sweep.packer import Request, write_bench_pack
from bench.sweep.report import write_report
from bench.sweep.yaml_lines import BenchError
from texpr.errors import TExprError
from texpr.packing.runner.records import read_pack
from texpr.packing.sources import Source
from texpr.plan.errors import NotLowered

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "bench" / "result.schema.json").read_text())
EMULATED = ["--device", "emulator", "--sm", "80"]
COPY = """\
bench: 1
kernel: copy
title: a copy
asked: 2026-11-20
targets: [sm_80]
types: {T: f16}
peers: {copy: bytes, torch: x.clone(), cub: "scan(x, y)"}
goal: {against: [copy], ratio: 0.9}
shapes: [{M: 64, N: 96}]
small: {M: 3, N: 40}
"""
SPACE = """\
bench: 1
kernel: copy
asked: 2026-11-21
targets: [sm_80]
types: {T: u8}
space: space.yaml
peers: {copy: y}
shapes: [{M: 64, N: 96}]
small: {M: 5, N: 20}
"""
SCHEDULES = """\
texpr: 1
algorithm: copy
variants:
- name: all
  target: [sm_80]
  kernels:
  - {name: copy, writes: [y], grid: {i: [1, 4], j: [32, 33]}, warps: 2}
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "first.yaml").write_text(COPY)
    (folder / "second.yaml").write_text(SPACE)
    (folder / "space.yaml").write_text(SCHEDULES)
    said: list[str] = []
    cases = tuple(read_case(folder / f"{name}.yaml") for name in ("first", "second"))
    request = Request(cases, ROOT / "kernels", calls=1, emulate=False)
    report = write_bench_pack(request, folder / "pack", said=said.append)
    assert [question.id for question in report.questions] == [
        "first/f16/64x96", "first/f16/3x40", "second/u8/64x96", "second/u8/5x20",
    ]  # fmt: skip
    assert any("4 schedules, 2 are legal" in text for text in said)
    assert report.questions[0].bytes == 2 * 2 * 64 * 96
    return folder / "pack"


@pytest.fixture(scope="module")
def result(pack: Path) -> dict[str, Any]:
    assert main(pack, EMULATED) == 0
    value: dict[str, Any] = json.loads((pack / "results" / "emulator-sm80.json").read_text())
    return value


def test_results_have_the_form_that_is_documented(result: dict[str, Any]) -> None:
    jsonschema.validate(result, SCHEMA)
    assert result["measurement"] is False
    assert result["runs"][0]["absent"]["cub"].startswith("cub/libtexpr_cub.so was not built")
    assert len(result["runs"][0]["cubins"]) == 3, "two schedules of one kernel are two bundles"


def test_the_newest_question_is_answered_first(result: dict[str, Any]) -> None:
    assert [answer["case"] for answer in result["answers"]] == ["second/u8/5x20", "first/f16/3x40"]


def test_everybody_was_timed_in_the_same_rounds(result: dict[str, Any]) -> None:
    space, plain = (answer["contestants"] for answer in result["answers"])
    assert list(space) == ["i=1 j=32", "i=4 j=32", "copy"]
    assert {len(each["samples"]) for each in space.values()} == {3}
    assert space["i=4 j=32"]["kernels"] == ["copy_all_copy"]
    assert plain["cub"]["absent"] and "samples" not in plain["cub"]


def test_peers_can_be_left_out(pack: Path, result: dict[str, Any]) -> None:
    text = (pack / "results" / "emulator-sm80.json").read_text()
    journal = pack / "results" / "emulator-sm80.bench.jsonl"
    kept = journal.read_text()
    assert main(pack, [*EMULATED, "--no-check", "--again", "--only", "first/*", "--without", "copy"]) == 0
    value = json.loads((pack / "results" / "emulator-sm80.json").read_text())
    jsonschema.validate(value, SCHEMA)
    first = next(answer for answer in value["answers"] if answer["case"].startswith("first"))
    assert first["contestants"]["copy"]["absent"] == "left out (--without)"
    journal.write_text(kept)
    (pack / "results" / "emulator-sm80.json").write_text(text)


def test_a_report_says_that_nothing_was_measured(pack: Path, result: dict[str, Any]) -> None:
    text = write_report([pack / "results" / "emulator-sm80.json"], None, None)
    assert "These are not measurements" in text and "first/f16/3x40" in text


def test_it_goes_on_where_it_was_killed(pack: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    journal = pack / "results" / "emulator-sm80.bench.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if '"case":"first' in line)
    journal.write_text("".join(lines[:cut]) + lines[cut][:40])
    assert main(pack, [*EMULATED, "--no-check", "--slice", "0"]) == UNFINISHED
    assert "1 questions are left" in capsys.readouterr().out
    assert main(pack, [*EMULATED, "--no-check"]) == 0
    again = json.loads((pack / "results" / "emulator-sm80.json").read_text())
    assert [answer["case"] for answer in again["answers"]] == ["second/u8/5x20", "first/f16/3x40"]
    jsonschema.validate(again, SCHEMA)


def test_a_question_that_kills_the_process_twice_is_given_up(pack: Path, result: dict[str, Any]) -> None:
    journal = pack / "results" / "emulator-sm80.bench.jsonl"
    text = journal.read_text()
    lines = [line for line in text.splitlines(keepends=True) if '"case":"first' not in line]
    started = next(line for line in lines if '"started":"first' in line)
    journal.write_text("".join([*lines, started]))
    assert main(pack, [*EMULATED, "--no-check"]) == 0
    last = json.loads((pack / "results" / "emulator-sm80.json").read_text())["answers"][-1]
    assert last["trouble"] == "the process ended in this question each time"
    journal.write_text(text)


def test_a_kernel_that_is_wrong_is_not_timed(pack: Path, tmp_path: Path) -> None:
    """The expected values of its check are spoiled: whatever the kernel does is wrong then."""
    spoiled = tmp_path / "pack"
    shutil.copytree(pack, spoiled, ignore=shutil.ignore_patterns("results"))
    for path in (spoiled / "cases").glob("copy-f16*0.npz"):
        with np.load(path) as file:
            arrays = {name: np.zeros_like(array) if name.endswith("value") else array for name, array in file.items()}
        np.savez_compressed(path, allow_pickle=False, **arrays)
    assert main(spoiled, [*EMULATED, "--only", "first/*"]) == 1
    (answer,) = json.loads((spoiled / "results" / "emulator-sm80.json").read_text())["answers"]
    assert "samples" not in answer["contestants"]["texpr"] and answer["contestants"]["texpr"]["wrong"]


def test_a_failure_keeps_from_timing_what_the_same_variant_takes_there(pack: Path) -> None:
    """Which variant takes a case may depend on the number of multiprocessors."""
    known = read_pack(pack)
    one, other = (replace(known.cases[0], id=name, variant=name) for name in ("one", "other"))
    cases = (replace(one, chosen=((1, "one"), (64, "other"))), replace(other, chosen=((1, "other"),)))
    changed = replace(known, cases=cases)
    checks = [
        {"pack": known.id, "case": "one", "failures": []},
        {"pack": known.id, "case": "other", "failures": [{"text": "wrong"}]},
    ]
    assert against(changed, checks, 63) == {"other": "wrong"}
    assert against(changed, checks, 64) == {"one": "wrong", "other": "wrong"}


def test_what_was_not_checked_is_not_timed(pack: Path, tmp_path: Path) -> None:
    unchecked = tmp_path / "pack"
    shutil.copytree(pack, unchecked, ignore=shutil.ignore_patterns("results"))
    assert main(unchecked, [*EMULATED, "--only", "first/*", "--no-check"]) == 1
    (answer,) = json.loads((unchecked / "results" / "emulator-sm80.json").read_text())["answers"]
    assert answer["contestants"] == {"texpr": {"own": True, "wrong": "it was not checked"}}


def test_it_needs_numpy_and_its_own_folder_only(pack: Path) -> None:
    """Nothing else is imported, neither from the environment nor from the repository."""
    program = f"""
import runpy, sys
for name in ("yaml", "triton", "islpy", "torch", "matplotlib"):
    sys.modules[name] = None
sys.argv = ["bench.py", "--device", "emulator", "--sm", "80", "--list"]
try:
    runpy.run_path({str(pack / "bench.py")!r}, run_name="__main__")
except SystemExit as end:
    assert end.code == 0
import bench, texpr
assert bench.__file__.startswith({str(pack)!r}) and texpr.__file__.startswith({str(pack)!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=pack.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("2026-11-21  second/u8/5x20")


def test_a_kernel_that_does_not_compile_stops_the_pack_or_is_noted(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(SCHEDULES.replace("[1, 4]", "4").replace("[32, 33]", "33"))
    (tmp_path / "a.yaml").write_text(COPY.replace("title: a copy", "schedule: bad.yaml"))
    (tmp_path / "b.yaml").write_text(COPY)
    cases = tuple(read_case(tmp_path / f"{name}.yaml") for name in "ab")
    request = Request(cases, ROOT / "kernels", calls=1, emulate=False)
    with pytest.raises(TExprError, match="33"):
        write_bench_pack(request, tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    report = write_bench_pack(replace(request, keep_going=True), tmp_path / "pack")
    assert [question.case for question in report.questions] == ["b", "b"]
    assert any("left out: TX" in note for note in report.notes)
    (tmp_path / "pack" / "results").mkdir()
    (tmp_path / "pack" / "results" / "kept").write_text("")
    write_bench_pack(replace(request, cases=cases[1:]), tmp_path / "pack")
    assert (tmp_path / "pack" / "results" / "kept").exists(), "a new pack keeps what was measured with the old one"


def test_a_schedule_of_a_space_that_does_not_compile_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a compiler takes for itself, of shared memory above all, is not known before."""

    def build(source: Source, bundle: Path, schedule: Path | None, *how: Any) -> tuple[str, ...]:
        assert schedule is not None
        if "i: 4" in schedule.read_text():
            raise NotLowered(what="a tile of four rows", instead="one")
        return real(source, bundle, schedule, *how)

    real = packer.build
    monkeypatch.setattr(packer, "build", build)
    (tmp_path / "second.yaml").write_text(SPACE)
    (tmp_path / "space.yaml").write_text(SCHEDULES)
    request = Request((read_case(tmp_path / "second.yaml"),), ROOT / "kernels", calls=1, emulate=False)
    report = write_bench_pack(request, tmp_path / "pack")
    assert [own.label for own in report.questions[0].own if own.cases] == ["i=1 j=32"]
    assert any("a tile of four rows" in note for note in report.notes)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("kernel: copy", "kernel: copie", "a.yaml:2: copie: no algorithm of kernels has this name"),
        ("types: {T: f16}", "types: {U: f16}", "a.yaml:6: types should bind T of copy"),
        ("{M: 64, N: 96}", "{M: 64}", "a.yaml:9: these sizes are not those of copy, which has M, N"),
        ("title: a copy", "flops: M * X", "a.yaml:3: M * X: there is no X"),
        ("title: a copy", "flops: M *", "a.yaml:3: M *: "),
        ("title: a copy", "scalars: {eps: 1.0}", "a.yaml:3: eps is no scalar of copy: none"),
    ],
)
def test_mistakes_that_only_the_kernel_shows(tmp_path: Path, old: str, new: str, error: str) -> None:
    (tmp_path / "a.yaml").write_text(COPY.replace(old, new, 1))
    request = Request((read_case(tmp_path / "a.yaml", Path("a.yaml")),), ROOT / "kernels", calls=1, emulate=False)
    with pytest.raises(BenchError) as caught:
        write_bench_pack(request, tmp_path / "pack")
    assert error.replace("kernels", str(ROOT / "kernels")) in str(caught.value)
    assert not (tmp_path / "pack").exists()
