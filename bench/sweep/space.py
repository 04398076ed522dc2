"""Spaces: schedules whose scalars may be lists. Each choice of one item per list is a schedule, written as the file is.

    grid: {i: [64, 128], j: 128}        two schedules
    warps: [4, 8]                       and with this four

A list is a choice where the schedule's form wants one value; where it wants a list, as for targets, it is that list.
Places that are to have the same item share an anchor: ``depth: &depth [3, 4]`` and, elsewhere, ``depth: *depth``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from bench.sweep.yaml_lines import BenchError
from texpr.errors import TExprError
from texpr.schedule.records import Schedule
from texpr.schedule.schema import KEYS, Form, Nested, Pair, Several, Table

MOST: Final = 4096
"""Schedules that a space may hold before any is looked at."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A list in the file: ``path`` names its place, ``spans`` are where in the text (from, to) its item goes."""

    path: str
    items: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One schedule of a space: ``label`` says what was chosen."""

    label: str
    text: str


def choices_in(file: Path) -> tuple[str, list[Choice]]:
    """The text of a space and its choices. Raises BenchError."""
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BenchError(f"{file}:{line}: {error.problem}") from None
    if node is None:
        raise BenchError(f"{file}:1: the file is empty")
    found: dict[tuple[int, int], Choice] = {}
    for choice in _choices(node, Nested(Schedule), "", text, file):
        found.setdefault(choice.spans[0], choice)  # an alias is met as the list that it stands for
    return text, list(found.values())


def _choices(node: yaml.Node, form: Form, path: str, text: str, file: Path) -> Iterator[Choice]:
    """What a wrong schedule has of keys and kinds is left to whoever reads it as one."""
    match form:
        case Nested() if isinstance(node, yaml.SequenceNode):  # of what is short for a record
            yield _choice(node, path, text, file)
        case Nested(record):
            forms = {key.name: key.form for key in KEYS[record]}
            for key, value in _pairs(node):
                if key in forms:
                    yield from _choices(value, forms[key], _below(path, key), text, file)
        case Table(value=item):
            for key, value in _pairs(node):
                yield from _choices(value, item, _below(path, key), text, file)
        case Several(item) | Pair(item):
            if isinstance(node, yaml.SequenceNode):
                for number, each in enumerate(node.value):
                    yield from _choices(each, item, f"{path}[{_named(each, number)}]", text, file)
            else:
                yield from _choices(node, item, path, text, file)
        case _:
            if isinstance(node, yaml.SequenceNode):
                yield _choice(node, path, text, file)


def _pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), value


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(node: yaml.Node, number: int) -> str:
    """Records of a list go by their names, if they have any."""
    names = [value.value for key, value in _pairs(node) if key == "name" and isinstance(value, yaml.ScalarNode)]
    return str(names[0]) if names else str(number)


def _choice(node: yaml.SequenceNode, path: str, text: str, file: Path) -> Choice:
    line = node.start_mark.line + 1
    if not node.flow_style:
        raise BenchError(f"{file}:{line}: {path}: write the choices on one line, in brackets")
    if not node.value or not all(isinstance(each, yaml.ScalarNode) for each in node.value):
        raise BenchError(f"{file}:{line}: {path}: choices are one value or more, each a number or a word")
    items = tuple(text[each.start_mark.index : each.end_mark.index] for each in node.value)
    if len(set(items)) < len(items):
        raise BenchError(f"{file}:{line}: {path}: a choice stands here twice")
    own = (node.start_mark.index, node.end_mark.index)
    return Choice(path, items, (own, *_aliases(text, own[0])))


def _aliases(text: str, start: int) -> list[tuple[int, int]]:
    """Where the aliases of the anchor at ``start`` stand; none if there is no anchor."""
    tokens = list(yaml.scan(text, Loader=yaml.SafeLoader))
    anchors = [t.value for t in tokens if isinstance(t, yaml.AnchorToken) and t.start_mark.index == start]
    return [
        (t.start_mark.index, t.end_mark.index) for t in tokens if isinstance(t, yaml.AliasToken) and t.value in anchors
    ]


def expand(file: Path) -> list[Candidate]:
    """Every schedule of a space, in the order of its lists. Raises BenchError."""
    text, choices = choices_in(file)
    total = 1
    for choice in choices:
        total *= len(choice.items)
    if total > MOST:
        sizes = ", ".join(f"{choice.path}: {len(choice.items)}" for choice in choices)
        raise BenchError(f"{file}: the space has {total} schedules, at most {MOST} are looked at ({sizes})")
    shown = _short_paths(choices)
    found = []
    for items in itertools.product(*(choice.items for choice in choices)):
        made = text
        places = [(span, item) for choice, item in zip(choices, items, strict=True) for span in choice.spans]
        for (start, end), item in sorted(places, reverse=True):
            made = made[:start] + item + made[end:]
        label = " ".join(f"{path}={item}" for path, item in zip(shown, items, strict=True))
        found.append(Candidate(label or "as it is", made))
    return found


def _short_paths(choices: Sequence[Choice]) -> list[str]:
    """The ends of paths, as long as they need to be to tell them apart."""
    split = [choice.path.split(".") for choice in choices]
    for length in range(1, max((len(words) for words in split), default=1) + 1):
        ends = [".".join(words[-length:]) for words in split]
        if len(set(ends)) == len(ends):
            return ends
    return [choice.path for choice in choices]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a space: ``kept``, and how many were refused with which error, with one of each as an example."""

    kept: tuple[Candidate, ...]
    refused: tuple[tuple[str, int, str], ...]

    def text(self, name: str) -> str:
        """For people: the counts."""
        total = len(self.kept) + sum(count for _, count, _ in self.refused)
        lines = [f"{name}: {total} schedules, {len(self.kept)} are legal"]
        lines += [f"  {count} x {code}, e.g. {example}" for code, count, example in self.refused]
        return "\n".join(lines)


def prune(candidates: Sequence[Candidate], legal: Callable[[Candidate], None]) -> Pruned:
    """Those that ``legal`` raises no TExprError for; it compiles nothing."""
    kept: list[Candidate] = []
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for candidate in candidates:
        try:
            legal(candidate)
        except TExprError as error:
            counts[error.code] += 1
            examples.setdefault(error.code, f"{candidate.label}: {error.message}")
        else:
            kept.append(candidate)
    return Pruned(tuple(kept), tuple((code, count, examples[code]) for code, count in counts.most_common()))
