"""The command line: helps that load nothing, exit codes, and what each command prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.aot.gluon_samples import sample_package
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.ir import Package
from texpr.cli import main
from texpr.errors import Location, TExprError

COMMANDS = ("aot", "check", "show", "info", "emulate", "schema", "cache")


class BrokenSchedule(TExprError):
    code = "TX9999"
    template = "no good"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Stands for texpr.compile: records what it is asked and returns the sample package."""
    calls: list[tuple[object, ...]] = []

    def build_package(*arguments: object) -> Package:
        calls.append(arguments)
        if arguments[0] == "broken.py:f":
            raise BrokenSchedule(at=Location("broken.yaml", 3))
        return sample_package()

    def show(*arguments: object, stage: str) -> str:
        calls.append((*arguments, stage))
        return f"the {stage}\n"

    module = ModuleType("texpr.compile")
    module.__dict__.update(build_package=build_package, show=show)
    monkeypatch.setitem(sys.modules, "texpr.compile", module)
    return calls


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom texpr.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as e:\n    assert e.code == 0\n"
        "heavy = {'numpy', 'triton', 'islpy', 'yaml', 'torch'} & set(sys.modules)\nassert not heavy, heavy\n"
        "loaded = [name for name in sys.modules if name.startswith('texpr.')]\nassert len(loaded) < 6, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(f"\n    {command} " in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  texpr {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["aot", "a.py:f"],
        ["aot", "a.py:f", "-o", "b", "--type", "bf16"],
        ["aot", "a.py:f", "-o", "b", "--static", "R=three"],
        ["aot", "a.py:f", "-o", "b", "--max-shared", "lots"],
        ["aot", "a.py:f", "-o", "b", "--jobs", "0"],
        ["show", "a.py:f", "--stage", "sass"],
        ["info"],
    ],
)
def test_wrong_command_line_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: texpr" in capsys.readouterr().err


def test_aot_writes_a_bundle_and_prints_its_resources(
    compiler: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    out = tmp_path / "b"
    words = [
        "aot",
        "k.py:f",
        "-o",
        str(out),
        "--type",
        "T=f32",
        "--static",
        "R=3",
        "--target",
        "sm_90a",
        "--no-library",
    ]
    assert main([*words, "--schedule", "s.yaml"]) == 0
    assert compiler == [("k.py:f", Path("s.yaml"), ("sm_90a",), {"T": "f32"}, {"R": 3})]
    printed = capsys.readouterr()
    assert "[2/2]" in printed.err
    rows = {tuple(line.split()[:2]) for line in printed.out.splitlines()}
    assert {("copy_rows", "sm_90a"), ("row_softmax", "sm_90a")} <= rows
    assert ("copy_rows", "sm_80") not in rows
    assert (out / "manifest.json").exists()


def test_quiet_prints_nothing(
    compiler: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    assert main(["aot", "k.py:f", "-o", str(tmp_path / "b"), "--no-library", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_gate_fails_the_build(
    compiler: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    assert main(["aot", "k.py:f", "-o", str(tmp_path / "b"), "--max-registers", "8"]) == 1
    assert "TX0614" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_mistake_is_printed_with_its_place_and_exits_with_1(
    compiler: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["aot", "broken.py:f", "-o", str(tmp_path / "b")]) == 1
    assert capsys.readouterr().err == "error: TX9999 no good  broken.yaml:3\n"


def test_show_prints_the_stage(compiler: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "k.py:f", "--stage", "tile"]) == 0
    assert capsys.readouterr().out == "the tile\n"
    assert compiler == [("k.py:f", None, None, {}, {}, "tile")]


def test_info_describes_verifies_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    write_bundle(sample_package(), tmp_path / "b", BuildOptions(library=False))
    assert main(["info", str(tmp_path / "b"), "--verify"]) == 0
    text = capsys.readouterr().out
    assert "bundle sample   targets sm_80, sm_90a" in text
    assert "sample_copy (T=f32, R=3)" in text
    assert "when aligned(x, 16)" in text
    assert "as built" in text
    assert main(["info", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "sample"
    (tmp_path / "b" / "kernel.py").write_text("")
    assert main(["info", str(tmp_path / "b"), "--verify"]) == 1
    assert "kernel.py" in capsys.readouterr().err


def test_info_of_another_folder_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 1
    assert "not a bundle" in capsys.readouterr().err


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert "properties" in capsys.readouterr().out
    assert main(["schema", "--manifest"]) == 0
    assert json.loads(capsys.readouterr().out)["title"].startswith("texpr bundle manifest")


def test_cache_shows_and_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from texpr.aot.cache import Cache, cache_key

    monkeypatch.setenv("TEXPR_CACHE_DIR", str(tmp_path))
    Cache(tmp_path).put(cache_key("a"), b"x" * 1000)
    assert main(["cache"]) == 0
    assert "1 kernels" in capsys.readouterr().out
    assert main(["cache", "--clear"]) == 0
    assert "deleted 1 kernels" in capsys.readouterr().out
    assert Cache(tmp_path).statistics().entries == 0


def test_emulate_passes_the_program_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["emulate", "--bundle", "b"])
    assert caught.value.code == 2
    assert "no program given" in capfd.readouterr().err


def test_help_of_the_emulated_program_is_left_to_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(["emulate", "--bundle", str(tmp_path), "--", "program", "--help"])
    assert "usage: texpr emulate" not in capfd.readouterr().out
