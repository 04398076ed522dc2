"""Hash-consing: building the same node twice gives the same object, so structural equality is identity."""

from __future__ import annotations

from typing import Any, Final, TypeVar, cast

Node = TypeVar("Node")
_interned: Final[dict[tuple[object, ...], Any]] = {}


class _HashConsing(type):
    """Metaclass of all nodes: a call returns the one existing instance with these fields."""

    def __call__(cls: type[Node], *fields: Any) -> Node:
        key = (cls, *fields)
        found = _interned.get(key)
        if found is None:
            found = _interned.setdefault(key, type.__call__(cls, *fields))
        return cast(Node, found)


class Interned(metaclass=_HashConsing):
    """Base of frozen slotted dataclasses with ``eq=False``: interned, also after a copy or a trip through pickle."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self}>"

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        fields: tuple[str, ...] = tuple(self.__slots__)
        return type(self), tuple(getattr(self, name) for name in fields)
