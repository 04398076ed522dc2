"""The table against NVIDIA's assembler: it takes every case for the target that the table says, and for none below."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.emulator.conformance.case import TARGETS, VERSIONS, Case
from tests.emulator.conformance.catalogue import all_cases
from tests.emulator.conformance.packing import together
from texpr.emulator.since import has_target, version_problem


@cache
def assembler() -> str:
    """The newest ptxas of the Triton package."""
    triton = pytest.importorskip("triton")
    for name in ("ptxas-blackwell", "ptxas"):
        path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
        if path.exists():
            return str(path)
    pytest.skip("Triton has no ptxas here")


@cache
def one_per_opcode() -> dict[tuple[str, str], list[Case]]:
    """By least target and version: for each set of opcodes a case."""
    chosen = {(case.opcodes, case.target): case for case in all_cases()}
    found: dict[tuple[str, str], list[Case]] = {}
    for (_, target), case in chosen.items():
        found.setdefault(target, []).append(case)
    return found


def refused(cases: list[Case], target: str, version: str, folder: Path) -> dict[str, str]:
    """The cases that ptxas reports errors for, with the first error."""
    text, starts = together(cases, target, version)
    path = folder / "cases.ptx"
    path.write_text(text)
    done = subprocess.run(
        [assembler(), "-arch", target, "-O0", "-o", str(folder / "cases.cubin"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, str] = {}
    for match in re.finditer(r"line (\d+); (?:error|fatal)\s*:\s*(.*)", done.stderr):
        number = sum(start <= int(match[1]) for start in starts) - 1
        found.setdefault(cases[number].name, match[2])
    assert done.returncode == 0 or found, done.stderr
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_every_case_assembles_for_its_target(target: str, tmp_path: Path) -> None:
    for (least, version), cases in one_per_opcode().items():
        if least == target:
            assert refused(cases, target, _version(target, version), tmp_path) == {}


def _version(target: str, version: str) -> str:
    return next(v for v in VERSIONS[VERSIONS.index(version) :] if not version_problem(target, v))


@pytest.mark.parametrize("target", TARGETS[:-1])
def test_a_target_below_refuses_the_case(target: str, tmp_path: Path) -> None:
    newest = VERSIONS[-1]
    beyond = [
        case
        for (least, _), cases in one_per_opcode().items()
        for case in cases
        if not has_target(target, least) and TARGETS.index(least) > TARGETS.index(target)
    ]
    names = {case.name for case in beyond}
    assert names - set(refused(beyond, target, newest, tmp_path)) == set()
