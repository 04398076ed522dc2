"""The same call under other schedules: a result that differs from the first depends on an order that nothing fixes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from texpr.lang.arrays import Array, decode
from texpr.lang.ir import Algorithm


def difference(algorithm: Algorithm, first: Mapping[str, Array], other: Mapping[str, Array], seed: int) -> str:
    """How the outputs (in storage form) of a call under the schedule of ``seed`` differ from the first; '' if not.

    All NaNs are one value, zeros of both signs are two.
    """
    for tensor in algorithm.outputs:
        one, two = first[tensor.name], other[tensor.name]
        bits = np.dtype(f"u{one.dtype.itemsize}")
        differs = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
        values, others = decode(one, tensor.dtype), decode(two, tensor.dtype)
        if tensor.dtype.is_float:
            differs &= ~(np.isnan(values) & np.isnan(others))
        if differs.any():
            at = np.unravel_index(int(np.argmax(differs)), differs.shape)
            place = ", ".join(str(int(i)) for i in at)
            return (
                f"{tensor.name}[{place}] is {float(values[at]):.9g} in lockstep and {float(others[at]):.9g} with "
                f"--schedule-seed {seed}; {int(differs.sum())} of {differs.size} elements differ\n"
                "the result depends on the order in which warps or programs run"
            )
    return ""
