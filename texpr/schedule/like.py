"""``like``: a kernel that takes the directives of another, written out."""

from __future__ import annotations

import dataclasses

from texpr.schedule.records import Kernel, Variant
from texpr.schedule.schema import KEYS

_OWN = ("name", "writes", "like")


def written_out_kernels(variant: Variant) -> Variant:
    """The variant without ``like``: such a kernel has every directive of the one it names that it does not give
    itself, except for what it writes and the fills of that. Reading has checked that the other kernel comes earlier."""
    done: dict[str, Kernel] = {}
    for kernel in variant.kernels:
        done[kernel.name] = kernel if kernel.like is None else _merged(kernel, done[kernel.like])
    return dataclasses.replace(variant, kernels=tuple(done.values()))


def _merged(kernel: Kernel, other: Kernel) -> Kernel:
    taken = {
        key.field: getattr(other, key.field)
        for key in KEYS[Kernel]
        if key.name not in _OWN and getattr(kernel, key.field) == key.default
    }
    if "fill" in taken:
        of_scratch = {name: value for name, value in other.fill.items() if name not in other.writes}
        taken["fill"] = dataclasses.replace(other.fill, pairs=tuple(of_scratch.items()))
    return dataclasses.replace(kernel, like=None, **taken)
