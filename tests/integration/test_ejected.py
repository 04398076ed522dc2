"""Ejected kernels: their file is compiled instead of what the compiler writes, checked like it, refused when stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from texpr.check import check
from texpr.checking.rows import Effort
from texpr.cli import main
from texpr.compile import SourceError, build_package, eject
from texpr.errors import TExprError

ALGORITHM = """import texpr as te


@te.algorithm("x: T[M, N] -> y: T[M, N]", T=("f16", "f32"))
def scaled(x, y):
    i, j = te.axes(i="M", j="N")
    y[i, j] = x[i, j] * 2.0
"""
SCHEDULE = """texpr: 1
algorithm: scaled
variants:
- name: only
  target: [sm_80]
  kernels:
  - name: rows
    writes: [y]
    grid: {i: 2, j: 64}
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A project whose schedule names the ejected kernel."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "schedules").mkdir()
    file = tmp_path / "kernels" / "scaled.py"
    file.write_text(ALGORITHM)
    (tmp_path / "schedules" / "scaled.yaml").write_text(SCHEDULE)
    name = f"{file}:scaled"
    kernel = tmp_path / "schedules" / "mine.py"
    assert main(["eject", name, "--kernel", "rows", "-o", str(kernel)]) == 0
    assert main(["eject", name, "--kernel", "rows", "-o", str(kernel)]) == 2  # it may have been edited
    (tmp_path / "schedules" / "scaled.yaml").write_text(SCHEDULE + "    source: mine.py\n")
    return name


def edited(source: str, file: str, old: str, new: str) -> None:
    path = Path(source.partition(":")[0]).parent.parent / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edited_kernel_is_what_ships(source: str) -> None:
    edited(source, "schedules/mine.py", "    pid = gl.program_id(0)", "    pid = gl.program_id(0)  # by hand")
    package = build_package(source, types={"T": "f16"})
    (kernel,) = package.kernels
    assert "# by hand" in kernel.text
    assert "source: mine.py" in package.schedule
    assert check(source, effort=Effort(calls=4)).ok


def test_an_edit_that_is_wrong_does_not_pass_the_check(source: str) -> None:
    edited(source, "schedules/mine.py", " * 2.0", " * 2.5")
    assert not check(source, None, None, {"T": "f16"}, effort=Effort(calls=4)).ok


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("kernels/scaled.py", "* 2.0", "* 3.0", "+ computes y[i, j] = x[i, j].to('f16').to('f32') * 3"),
        ("schedules/scaled.yaml", "i: 2", "i: 4", "+ grid "),
        ("schedules/scaled.yaml", "  kernels:", "  when: M >= 0 and aligned(x, 16) or M >= 0\n  kernels:", "+ when "),
        ("schedules/scaled.yaml", "grid:", "warps: 8\n    grid:", "+ warps 8"),
    ],
)
def test_a_stale_kernel_is_refused_with_the_difference(source: str, file: str, old: str, new: str, line: str) -> None:
    edited(source, file, old, new)
    with pytest.raises(TExprError) as caught:
        build_package(source)
    assert caught.value.code == "TX0366"
    assert line.split(" = ")[0] in str(caught.value)
    assert eject(source, "rows")  # of the kernel as it would be now


def test_other_bindings_need_kernels_of_their_own(source: str) -> None:
    edited(source, "kernels/scaled.py", '"f32")', '"f32", "bf16")')
    with pytest.raises(TExprError, match=r"parameter x: \*bf16 = x"):
        build_package(source)


def test_a_kernel_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(SourceError, match="there is rows"):
        eject(source, "columns")
