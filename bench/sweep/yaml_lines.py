"""YAML whose every value knows its line, and the errors that name it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

_T = TypeVar("_T")


class BenchError(Exception):
    """A mistake that the user can mend; the text says where."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A value of a YAML file: scalars as Python has them, lists of spots, mappings from strings to spots."""

    value: Any
    file: Path
    line: int

    def error(self, text: str) -> BenchError:
        return BenchError(f"{self.file}:{self.line}: {text}")

    def mapping(self, what: str, known: Iterable[str] | None = None) -> dict[str, Spot]:
        """The value as a mapping; with ``known``, of no other keys. Raises BenchError."""
        if not isinstance(self.value, dict):
            raise self.error(f"{what} should be a mapping, not {_shown(self.value)}")
        found: dict[str, Spot] = self.value
        if known is not None:
            names = list(known)
            for key, spot in found.items():
                if key not in names:
                    raise spot.error(f"{what} has no key {key!r}; there are {', '.join(names)}")
        return found

    def items(self, what: str) -> list[Spot]:
        """The value as a list. Raises BenchError."""
        if not isinstance(self.value, list):
            raise self.error(f"{what} should be a list, not {_shown(self.value)}")
        return list(self.value)

    def a(self, kind: type[_T], what: str) -> _T:
        """The value as a string, an int, a float or a bool; ints are floats too. Raises BenchError."""
        value = self.value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{what} should be {_ARTICLES[kind.__name__]}, not {_shown(self.value)}")
        return value


_ARTICLES = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case _:
            return repr(value)


def read_yaml(file: Path, shown: Path | None = None) -> Spot:
    """The document in a file. Raises BenchError for what is no YAML, for keys that are no strings or stand twice."""
    name = shown or file
    try:
        text = file.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise BenchError(f"{name}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BenchError(f"{name}:{line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"{name}: {error}") from None
    if node is None:
        raise BenchError(f"{name}:1: the file is empty")
    return _spot(node, name)


def _spot(node: yaml.Node, file: Path) -> Spot:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Spot] = {}
        for key, value in node.value:
            name = _scalar(key, file)
            place = Spot(name, file, key.start_mark.line + 1)
            if not isinstance(name, str):
                raise place.error(f"the key {name!r} should be a text")
            if name in found:
                raise place.error(f"the key {name!r} stands here for the second time")
            found[name] = _spot(value, file)
        return Spot(found, file, line)
    if isinstance(node, yaml.SequenceNode):
        return Spot([_spot(each, file) for each in node.value], file, line)
    return Spot(_scalar(node, file), file, line)


def _scalar(node: yaml.Node, file: Path) -> Any:
    try:
        return yaml.SafeLoader("").construct_object(node)
    except yaml.YAMLError as error:
        raise BenchError(f"{file}:{node.start_mark.line + 1}: {error}") from None
