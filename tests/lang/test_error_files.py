"""Every file under tests/errors/lang holds one mistake: its code, its line (``# here``) and part of its "try:" line."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from texpr.errors import TExprError
from texpr.lang.algorithm import AlgorithmDef

FILES = sorted((Path(__file__).parent.parent / "errors" / "lang").glob("*.py"))


def trace_everything(path: Path) -> None:
    for value in runpy.run_path(str(path)).values():
        if isinstance(value, AlgorithmDef):
            for types in value.bindings():
                value.bind(types)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_mistake_is_reported_at_its_line(path: Path) -> None:
    text = path.read_text()
    code = re.search(r"^# expect: (\w+)", text, re.MULTILINE)
    hint = re.search(r"^# try: (.+)", text, re.MULTILINE)
    line = next(number for number, content in enumerate(text.splitlines(), 1) if content.endswith("# here"))
    with pytest.raises(TExprError) as caught:
        trace_everything(path)
    error = caught.value
    assert code is not None
    assert error.code == code.group(1), str(error)
    assert error.at is not None
    assert (Path(error.at.file).name, error.at.line) == (path.name, line), str(error)
    assert hint is not None
    assert hint.group(1) in error.hint, str(error)


def test_every_error_class_of_the_language_has_a_file() -> None:
    from texpr.lang import errors

    tested = {match for path in FILES for match in re.findall(r"expect: (\w+)", path.read_text())}
    defined = {
        value.code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, TExprError) and value is not TExprError
    }
    of_the_reference = {"TX0181", "TX0182", "TX0183"}
    assert defined - tested - of_the_reference == set()
