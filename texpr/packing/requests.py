"""Sizes that a user wants timed: ``dense:M=4096,N=4096,K=4096``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from texpr.packing.errors import SizeRefused


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """``text`` as given; ``dims`` are sizes by name. What the command line does not offer: integer tensors that are one
    number all over (``constants``), tensors that are arrays of the pack (``arrays``: files with the array under
    ``value``), values of scalars, optional tensors that are left out (``absent``), a name for the case (``label``, else
    its sizes), and no ``reference``, where that takes too long."""

    text: str
    name: str
    dims: Mapping[str, int]
    constants: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, str] = field(default_factory=dict)
    scalars: Mapping[str, int | float] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    label: str = ""
    reference: bool = True


def parse_size(text: str) -> SizeRequest:
    """Raises SizeRefused."""
    name, colon, rest = text.partition(":")
    pairs = [re.fullmatch(r"(\w+)=(\d+)", part) for part in rest.split(",")]
    if not (name.isidentifier() and colon) or not all(pairs):
        raise SizeRefused(text=text, why="it is not understood", dims="M=4096,N=4096")
    return SizeRequest(text, name, {pair[1]: int(pair[2]) for pair in pairs if pair is not None})
