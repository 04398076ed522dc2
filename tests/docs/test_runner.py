"""A page whose blocks do not do what it says fails: one wrong page per kind of block."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.runner import Page, missing
from texpr.errors import TExprError

WRONG = {
    "doctest": "```python\n>>> 1 + 1\n3\n```\n",
    "statement": "```python\nassert False\n```\n",
    "schedule": "```yaml\ntexpr: 1\nalgorithm: a\nvariants: []\n```\n",
    "directive": "```yaml kernel\ngrids: {i: 1}\n```\n",
    "output": "```console\n$ echo one\ntwo\n```\n",
    "status": "```console\n$ false\n```\n",
    "failure that succeeds": "```console\n$ echo error: no\nerror: no\n```\n",
    "make": "```console\n$ make no_such_target\n```\n",
    "excerpt": "```c from=texpr/aot/texpr_abi.h\n#define TEXPR_OK 1\n```\n",
    "file that is not there": "```c from=no/such/file.h\nint x;\n```\n",
    "language": "```fortran\nend\n```\n",
}


def run(folder: Path, text: str) -> None:
    path = folder / "page.md"
    path.write_text(text)
    page = Page(folder)
    for block in blocks_of(path):
        page.run(block)


@pytest.mark.parametrize("kind", WRONG)
def test_a_page_that_is_wrong_fails(kind: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, TExprError)):
        run(tmp_path, WRONG[kind])


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_c_that_does_not_compile_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unused"):
        run(tmp_path, "```c\nstatic int unused;\n```\n")


def test_blocks_of_a_page_see_what_came_before(tmp_path: Path) -> None:
    run(
        tmp_path,
        "```python title=a/b.py\nx = 2\n```\n```python\n>>> x + 1\n3\n```\n"
        "```console\n$ cd a\n$ python -c 'import b; print(b.x)'\n2\n```\n",
    )


@pytest.mark.parametrize(
    ("shown", "whole", "problem"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, ""),
        ({"a": 1}, {"a": 2}, ".a is 2, not 1"),
        ({"c": 1}, {"a": 2}, ".c does not exist"),
        ([1, "..."], [1, 2, 3], ""),
        ([1], [1, 2], " has 2 items, not 1"),
        ([{"a": 1}], [{"a": 2}], "[0].a is 2, not 1"),
        ("x...", "xyz", ""),
        ("y...", "xyz", " is 'xyz'"),
    ],
)
def test_parts_of_json(shown: object, whole: object, problem: str) -> None:
    assert missing(shown, whole) == problem
