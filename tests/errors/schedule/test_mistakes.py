"""One tiny file per mistake in a schedule: each names its error's code and line, and what the message says to try."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from texpr.errors import TExprError
from texpr.schedule import errors, load_schedule

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
HEADER = re.compile(r"# expect: (TX\d{4}) line (\d+)\n# try: (.+)\n")


def expected(path: Path) -> tuple[str, int, str]:
    """The code, line (0: the file as a whole) and remedy of the header of a file."""
    header = HEADER.match(path.read_text())
    assert header, f"{path.name} needs a header: # expect: TX0203 line 7, then # try: ..."
    return header[1], int(header[2]), header[3]


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_mistake_is_reported_where_it_is(path):
    code, line, remedy = expected(path)
    with pytest.raises(TExprError) as caught:
        load_schedule(path)
    error = caught.value
    assert (error.code, error.at.file, error.at.line, error.hint) == (code, str(path), line, remedy)
    assert str(error).startswith(f"{code} {error.message}  {path}")
    assert str(error).endswith(f"\n  try: {remedy}")
    if line and code.startswith("TX02"):
        written = path.read_text().splitlines()[line - 1]
        assert error.excerpt.splitlines()[0] == f"{line} | {written}".replace("\t", " ")


def test_every_kind_of_mistake_has_a_file():
    kinds = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    seen = {expected(path)[0] for path in FILES}
    # A file that cannot be read is tested with the reader; the base class has no code of its own.
    assert kinds - seen == {errors.CannotRead.code, errors.ScheduleError.code}


def test_codes_are_unique():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.title and kind.template and kind.default_hint for kind in kinds if kind is not errors.ScheduleError)
