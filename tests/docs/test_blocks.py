"""What counts as matching: documentation that shows something else than what happens is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of, commands_of, is_excerpt, matches


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_blocks_have_their_language_options_and_line(tmp_path: Path) -> None:
    path = written(tmp_path, "# Title\n\n```python title=a.py once\nx = 1\n```\ntext\n```\nplain\n```\n")
    first, second = blocks_of(path)
    assert (first.language, first.words, first.options) == ("python", ("once",), {"title": "a.py"})
    assert first.text == "x = 1\n"
    assert (first.line, second.line, second.language) == (4, 8, "")


def test_a_block_that_is_not_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not closed"):
        list(blocks_of(written(tmp_path, "```python\nx\n")))
    with pytest.raises(ValueError, match="not closed"):
        list(blocks_of(written(tmp_path, "```python\nx\n```yaml\n")))


def test_commands_and_their_outputs(tmp_path: Path) -> None:
    (block,) = blocks_of(written(tmp_path, "```console\n$ one \\\n>  two\nout\nput\n$ three\n$ four\nerror: no\n```\n"))
    one, three, four = commands_of(block)
    assert (one.text, one.output, one.line) == ("one \\\n two", "out\nput", 2)
    assert (three.text, three.output, three.fails) == ("three", None, False)
    assert four.fails


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ("a b", "a    b\n", True),
        ("a b", "a c\n", False),
        ("a\n...\nd", "a\nb\nc\nd\n", True),
        ("a\n...\nd", "a\nd\n", True),
        ("a\n...\nd", "a\nb\nc\n", False),
        ("took ... s", "took 1.5 s\n", True),
        ("took ... s", "took 1.5 h\n", False),
        ("a", "a\nb\n", False),
        ("x (1)", "x (1)\n", True),
    ],
)
def test_outputs_match(shown: str, found: str, same: bool) -> None:
    assert matches(shown, found) is same


def test_excerpts_keep_their_order() -> None:
    text = "a\nb\nc\nd\n"
    assert is_excerpt("b\nc\n", text)
    assert is_excerpt("a\n...\nd\n", text)
    assert not is_excerpt("a\nc\n", text)
    assert not is_excerpt("d\n...\na\n", text)
