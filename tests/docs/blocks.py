"""Code blocks of Markdown files, and how documentation says what the tests do with each.

The word after the opening fence is the language; ``key=value`` pairs after it are for the tests and invisible in a
rendered page:

    python                run, in order, in one namespace per file; ``>>>`` blocks as doctests (``...``: anything)
    python title=a/b.py   also written to that file first
    yaml                  a whole schedule: read
    yaml kernel           directives of a kernel (or ``variant``): read within one
    yaml title=a/b.yaml   a whole schedule: written to that file and read
    c                     compiled, with -Wall -Wextra -Werror, as a translation unit of its own
    c title=a.c           written to that file and compiled
    json part=a.json      everything in it stands in that file; "..." stands for the rest of a list or a text
    console               lines after ``$`` are run; what follows a command is its output, where a line ``...`` stands
                          for any lines and ``...`` within a line for any text. An output that begins with ``error:``
                          means exit status 1. ``make`` runs as ``make -n`` in the repository.
    from=a/b              (any language) an excerpt of that file; a line ``...`` stands for what is left out
    text, ebnf            shown only

Blocks run in a folder of their own per file, in which ``kernels`` and ``schedules`` are the repository's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`]*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """``line`` is the 1-based line of the first line of ``text``; ``words`` the info string's words without ``=``."""

    file: Path
    line: int
    language: str
    words: tuple[str, ...]
    options: Mapping[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}"


def blocks_of(file: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown file in order. ValueError for one that is not closed."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    info, indent = "", ""
    for number, line in enumerate(lines, start=1):
        match = _FENCE.match(line)
        if match is None:
            continue
        if start is None:
            start, info, indent = number, match["info"], match["indent"]
            continue
        if match["info"].strip():
            raise ValueError(f"{file}:{start}: the code block is not closed before line {number}")
        inner = [each.removeprefix(indent) for each in lines[start : number - 1]]
        yield _block(file, start + 1, info, "\n".join(inner) + "\n")
        start = None
    if start is not None:
        raise ValueError(f"{file}:{start}: the code block is not closed")


def _block(file: Path, line: int, info: str, text: str) -> Block:
    language, *rest = info.split() or [""]
    options = dict(word.split("=", 1) for word in rest if "=" in word)
    return Block(file, line, language, tuple(word for word in rest if "=" not in word), options, text)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and the output shown below it, None if none is shown."""

    line: int
    text: str
    output: str | None

    @property
    def fails(self) -> bool:
        """Whether the output shown is that of a failure."""
        return self.output is not None and self.output.lstrip().startswith("error:")


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block. ValueError if it does not begin with one."""
    commands: list[Command] = []
    lines = block.text.splitlines()
    position = 0
    while position < len(lines):
        if not lines[position].startswith("$ "):
            raise ValueError(f"{block}: a console block begins with '$ '")
        first = position
        text = lines[position][2:]
        while text.endswith("\\"):
            position += 1
            text = f"{text}\n{lines[position].removeprefix('> ')}"
        position += 1
        output: list[str] = []
        while position < len(lines) and not lines[position].startswith("$ "):
            output.append(lines[position])
            position += 1
        shown = "\n".join(output).rstrip("\n") if any(line.strip() for line in output) else None
        commands.append(Command(block.line + first, text, shown))
    return commands


def pattern_of(shown: str) -> re.Pattern[str]:
    """What an output shown in the documentation matches: a line ``...`` any lines, ``...`` within a line any text."""
    pieces: list[str] = []
    for line in shown.splitlines():
        if line.strip() == "...":
            pieces.append(r"(?:[^\n]*\n)*?")
        else:
            text = "[^\n]*".join(re.escape(part) for part in re.sub(r"\s+", " ", line.rstrip()).split("..."))
            pieces.append(text.replace(r"\ ", r"[ \t]+") + r"[ ]*\n")
    return re.compile("".join(pieces))


def matches(shown: str, found: str) -> bool:
    """Whether ``found`` is the output ``shown``, up to the amount of white space within lines."""
    return pattern_of(shown).fullmatch(found.rstrip("\n") + "\n") is not None


def is_excerpt(shown: str, text: str) -> bool:
    """Whether the lines of ``shown`` stand in ``text`` in this order, one after the other except at ``...``."""
    pieces: list[str] = []
    for line in shown.rstrip("\n").splitlines():
        pieces.append(r"(?:[^\n]*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()) + r"[ ]*\n")
    return re.search("^" + "".join(pieces), text.rstrip("\n") + "\n", re.MULTILINE) is not None
