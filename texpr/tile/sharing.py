"""Hash-consing of expression nodes: equal ones are one object."""

from __future__ import annotations

from typing import Any, Final


class _Sharing(type):
    """Metaclass of expressions: a call returns the one existing instance with these fields, so that equality is
    identity and an expression used twice is one object. Floats are told apart by their text: 0.0 and -0.0 are
    different constants."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        values = tuple(getattr(made, name) for name in cls.__dataclass_fields__)  # type: ignore[attr-defined]
        key = (cls, *(repr(value) if isinstance(value, float) else value for value in values))
        return _shared.setdefault(key, made)


_shared: Final[dict[tuple[object, ...], Any]] = {}


class Shared(metaclass=_Sharing):
    """Base of the expression nodes."""

    __slots__ = ()
