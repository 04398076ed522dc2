"""A call that is checked and bound: what a backend needs to run it, and nothing it must look up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from texpr.runtime.arrays import ArrayView
from texpr.runtime.errors import OverlapError
from texpr.runtime.library import EntryFunctions, QueryResult, RawCall
from texpr.runtime.manifest import Entry, Tensor

EMPTY_ADDRESS = 256
"""Passed for an array that is present but empty: aligned, never dereferenced, and not null, so that it counts as
present.
"""


@dataclass(frozen=True, slots=True)
class BoundCall:
    """Arrays that are absent are missing from ``arrays``; ``strides`` holds every stride argument (0 for absent
    tensors).
    """

    functions: EntryFunctions
    arrays: Mapping[str, ArrayView]
    scalars: Mapping[str, int | float]
    dims: Mapping[str, int]
    strides: Mapping[str, int]

    @property
    def entry(self) -> Entry:
        return self.functions.entry

    def raw(self, addresses: Mapping[str, int]) -> RawCall:
        """The argument struct's content with these addresses; an absent tensor is null, an empty one is not."""
        complete = {
            tensor.name: (addresses.get(tensor.name, 0) or EMPTY_ADDRESS) if tensor.name in self.arrays else 0
            for tensor in self.entry.tensors
        }
        return RawCall(complete, self.scalars, self.dims, self.strides)


class Backend(Protocol):
    """A place to run bundles."""

    def create(self, tensor: Tensor, shape: tuple[int, ...], inputs: Sequence[ArrayView]) -> ArrayView:
        """A new array for an output."""

    def query(self, call: BoundCall) -> QueryResult:
        """What :meth:`run` would do."""

    def run(self, call: BoundCall, stream: object) -> None:
        """Run the call; ``stream`` is what the user gave, None for the backend's default."""

    def close(self) -> None:
        """Release what was loaded."""


def check_overlaps(call: BoundCall) -> dict[str, str]:
    """Refuse outputs that share memory with another array, as the launcher does; returns output -> input for permitted
    exact aliases.

    Used where the arrays are copied before the launcher could see that they overlap. Raises OverlapError.
    """
    aliases: dict[str, str] = {}
    for output in call.entry.outputs:
        for other in call.entry.tensors:
            a, b = call.arrays.get(output.name), call.arrays.get(other.name)
            if other.name == output.name or a is None or b is None or not _overlap(a, b):
                continue
            permitted = output.may_alias == other.name or other.may_alias == output.name
            if permitted and (a.address, a.span, a.strides) == (b.address, b.span, b.strides):
                aliases[output.name] = other.name
                continue
            same = " (it may alias that input only as the very same array)" if permitted else ""
            raise OverlapError(output=output.name, other=other.name, alias=same)
    return aliases


def _overlap(a: ArrayView, b: ArrayView) -> bool:
    if a.empty or b.empty:
        return False
    return a.address < b.address + b.span * b.dtype.bytes and b.address < a.address + a.span * a.dtype.bytes
