"""Writes the generated parts of the documentation: ``docs/errors.md``, ``docs/instructions.md``, and
``docs/schedule.md`` below its marker.

    python -m docs.generate            write them
    python -m docs.generate --check    only say whether they are up to date; exit status 1 if not
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import pkgutil
import string
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

import texpr
from texpr.emulator.listing import markdown as instructions_markdown
from texpr.errors import TExprError, all_error_classes
from texpr.plan.errors import NotLowered
from texpr.schedule.reference import reference_markdown
from texpr.schedule.schema import KEYS, Choice, Form, Pair, Several, Table, title_of
from texpr.schedule.words import NOT_LOWERED

FOLDER: Final = Path(__file__).parent
MARKER: Final = "<!-- Generated from here on by 'python -m docs.generate'; edits below are lost. -->"

SECTIONS: Final = {
    "TX00": ("Sources and targets", "Finding the algorithm, the schedule and the architectures."),
    "TX01": ("Algorithms", "Signatures, bodies, bindings, and calls of the reference."),
    "TX02": ("Schedules", "What is wrong with a schedule whatever its algorithm is."),
    "TX03": ("Plans", "A schedule that does not fit its algorithm."),
    "TX04": ("Hardware", "A schedule that the architecture, or a tile program, cannot hold."),
    "TX05": ("Generated code", "Tile programs and Gluon."),
    "TX06": ("Bundles", "Compiling kernels and writing bundles."),
    "TX07": ("Running bundles from Python", "What `texpr.runtime` and the launcher refuse."),
    "TX08": ("Packs", "Making a pack with `texpr pack`, and running one."),
}
"""By the first four characters of a code: a title, and what the errors are about."""

_ERRORS_HEAD: Final = """\
# Error index

This page is generated from the error classes by `python -m docs.generate`.

Every mistake that TExpr reports has a code, says where it is, and ends with a line that begins with `try:`. A code
keeps its meaning from version to version. Words in angle brackets stand for names and values of yours.

The command line prints an error on standard error and exits with status 1. In Python every class below is a
`texpr.TExprError` with the attributes `code`, `message`, `hint`, `at` (file and line) and `excerpt`. Statuses of the C
launcher are in [c-api.md](c-api.md); faults of the emulator are in [emulator.md](emulator.md).
"""


# ---- the error index


def errors_markdown() -> str:
    """The text of ``docs/errors.md``. ValueError if a code is used twice or belongs to no section."""
    import_everything()
    shipped = [cls for cls in all_error_classes() if cls.__module__.startswith("texpr.")]  # not those of a test
    classes = [cls for cls in shipped if cls.template != TExprError.template]
    codes = [cls.code for cls in classes]
    twice = sorted({code for code in codes if codes.count(code) > 1})
    if twice:
        raise ValueError(f"codes used twice: {', '.join(twice)}")
    homeless = sorted({code for code in codes if code[:4] not in SECTIONS})
    if homeless:
        raise ValueError(f"codes without a section in docs/generate.py: {', '.join(homeless)}")
    parts = [_ERRORS_HEAD]
    for prefix, (title, about) in SECTIONS.items():
        own = [cls for cls in classes if cls.code.startswith(prefix)]
        if own:
            parts += [f"## {title} ({prefix}xx)\n\n{about}\n", *(_error(cls) for cls in own)]
    return "\n".join(parts)


def import_everything() -> None:
    """Import every module of the package, so that every error class exists."""
    for module in pkgutil.walk_packages(texpr.__path__, "texpr."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _error(cls: type[TExprError]) -> str:
    lines = [f"{cls.code} {_filled(cls.template)}"]
    if cls.default_hint:
        lines.append(f"  try: {_filled(cls.default_hint)}")
    text = "\n".join(lines)
    title = cls.title[0].upper() + cls.title[1:]
    return f"### {cls.code}\n\n{title}. `{cls.__module__}.{cls.__name__}`\n\n```text\n{text}\n```\n"


def _filled(template: str) -> str:
    """A format template with ``<name>`` for each field."""
    pieces: list[str] = []
    for literal, field, _, _ in string.Formatter().parse(template):
        pieces.append(literal)
        if field is not None:
            pieces.append(f"<{field}>")
    return "".join(pieces)


# ---- the schedule reference


def schedule_markdown() -> str:
    """The text of ``docs/schedule.md``: what is written there by hand down to the marker, then the reference."""
    introduction, marker, _ = schedule_file().read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise ValueError(f"{schedule_file()} lacks the line {MARKER}")
    return f"{introduction}{MARKER}\n\n{demoted(reference_markdown())}\n{not_lowered_markdown()}"


def schedule_file() -> Path:
    return FOLDER / "schedule.md"


def demoted(markdown: str) -> str:
    """Every heading one level deeper; code blocks stay as they are."""
    lines: list[str] = []
    inside = False
    for line in markdown.splitlines():
        if line.startswith("```"):
            inside = not inside
        lines.append(f"#{line}" if line.startswith("#") and not inside else line)
    return "\n".join(lines) + "\n"


def not_lowered_markdown() -> str:
    """Everything that the grammar knows and the compiler refuses."""
    lines = [
        "## Not lowered yet",
        "",
        "Known to the grammar, and refused with [TX0210](errors.md#tx0210) when the schedule is read:",
        "",
    ]
    for record, keys in KEYS.items():
        lines += [f"- `{title_of(record)}`: `{name}` ({purpose})" for name, purpose in record.LATER.items()]
        for key in keys:
            words = [word.value for word in words_of(key.form) if word in NOT_LOWERED]
            if words:
                listed = ", ".join(f"`{word}`" for word in words)
                lines.append(f"- `{title_of(record)}.{key.name}`: the value{'s' if len(words) > 1 else ''} {listed}")
    lines += ["", "Refused with [TX0319](errors.md#tx0319) when it is planned for an algorithm:", ""]
    lines += [f"- {what}; instead: {instead}" for what, instead in refused_plans()]
    return "\n".join(lines) + "\n"


def refused_plans() -> list[tuple[str, str]]:
    """What the planner says that it cannot lower, and what it proposes: read from where it says so."""
    found: dict[tuple[str, str], None] = {}
    package = Path(texpr.__path__[0])
    for layer in ("plan", "tile"):
        for path in sorted((package / layer).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == NotLowered.__name__:
                    fields = {keyword.arg: _template_of(keyword.value) for keyword in node.keywords}
                    found[fields["what"], fields["instead"]] = None
    return list(found)


def _template_of(node: ast.expr) -> str:
    """The text of a literal, with ``<name>`` for what an f-string fills in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template_of(part) for part in parts)
        case ast.FormattedValue(value=ast.Attribute(attr=name) | ast.Name(id=name)):
            return f"<{name}>"
        case ast.FormattedValue():
            return "..."
        case _:
            return f"<{ast.unparse(node)}>"


def words_of(form: Form) -> tuple[Enum, ...]:
    """The words that a form itself takes; those of nested records are listed with the record."""
    match form:
        case Choice(words):
            return words
        case Several(item) | Pair(item) | Table(value=item):
            return words_of(item)
        case _:
            return ()


# ---- writing


GENERATED: Final[dict[str, Callable[[], str]]] = {
    "errors.md": errors_markdown,
    "instructions.md": instructions_markdown,
    "schedule.md": schedule_markdown,
}
"""What makes each generated file of this folder."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write the generated parts of the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file would change")
    options = parser.parse_args(arguments)
    stale = False
    for name, generate in GENERATED.items():
        path = FOLDER / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = generate()
        if before == after:
            continue
        stale = True
        if options.check:
            difference = difflib.unified_diff(before.splitlines(), after.splitlines(), name, "generated", lineterm="")
            print("\n".join(difference))
        else:
            path.write_text(after, encoding="utf-8")
            print(f"wrote {path}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
