"""What installed packages add to TExpr, found by their entry points when it is asked for.

A distribution offers an object under a group and a name::

    [project.entry-points."texpr.ops"]
    popcount = "my_package.ops:popcount"

Nothing is imported before somebody asks for that name; nothing has to register itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from texpr.errors import TExprError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OPS: Final = "texpr.ops"
INSTRUCTIONS: Final = "texpr.instructions"


class PluginConflict(TExprError):
    code = "TX0013"
    title = "two packages that offer the same thing"
    template = "{what} is offered by {first} and by {second}"
    default_hint = "uninstall one of them, or use the one that you mean by importing it"


class PluginBroken(TExprError):
    code = "TX0014"
    title = "entry point that cannot be used"
    template = "{group} '{name}' of {distribution}: {why}"
    default_hint = "its entry point says {value}"


def offered(group: str) -> dict[str, EntryPoint]:
    """What installed distributions offer, by name; nothing is imported. Raises ``PluginConflict``."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            what = f"{group} '{entry.name}'"
            raise PluginConflict(what=what, first=distribution_of(other), second=distribution_of(entry))
    return found


def distribution_of(entry: EntryPoint) -> str:
    """The package that an entry point belongs to, with its version."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def broken(group: str, entry: EntryPoint, why: str) -> PluginBroken:
    """The error about an entry point that is not what it should be."""
    return PluginBroken(
        group=group, name=entry.name, distribution=distribution_of(entry), why=why, value=entry.value
    )


def loaded(group: str, entry: EntryPoint) -> object:
    """The object that an entry point names. Raises ``PluginBroken``."""
    try:
        return entry.load()
    except Exception as error:
        raise broken(group, entry, f"importing it failed with {type(error).__name__}: {error}") from error


def everything(group: str) -> Iterator[tuple[EntryPoint, object]]:
    """All objects of a group, in the order of their names."""
    for _, entry in sorted(offered(group).items()):
        yield entry, loaded(group, entry)
