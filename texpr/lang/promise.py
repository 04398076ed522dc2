"""How near a user's code comes to its NumPy reference, as its author declares it, and the bounds that follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from texpr.dtypes import DType
from texpr.lang.accuracy import unit
from texpr.lang.arrays import Array
from texpr.lang.bounded import EXACT, Bounded
from texpr.lang.errors import UndeclaredErrorError, user_location
from texpr.lang.user_code import Promise


def promise_of(what: str, exact: bool, ulps: float | None, error: Callable[..., object] | None) -> Promise:
    """Exactly one of the three ways to declare an error. Raises UndeclaredErrorError."""
    said = {"exact": exact, "ulps": ulps is not None, "error": error is not None}
    given = [name for name, is_so in said.items() if is_so]
    if len(given) != 1:
        problem = f"declares its error twice: {' and '.join(given)}" if given else "declares no error bound"
        raise UndeclaredErrorError(what=what, problem=problem, at=user_location())
    if ulps is not None and not (isinstance(ulps, (int, float)) and 0 <= ulps < math.inf):
        problem = f"declares an error of {ulps!r} ulps"
        raise UndeclaredErrorError(what=what, problem=problem, at=user_location())
    if error is not None and not callable(error):
        raise UndeclaredErrorError(what=what, problem="declares an error= that is no function", at=user_location())
    return Promise(0.0 if ulps is None else float(ulps), error)


def results_with_bounds(
    what: str,
    promise: Promise,
    names: Sequence[str],
    operands: Sequence[Bounded],
    values: Sequence[Array],
    dtypes: Sequence[DType],
    doubts: Sequence[Array],
) -> list[Bounded]:
    """``values``, the reference's results for ``operands`` called ``names``, with the bounds that are promised.
    ``doubts``: where an operand could be another value altogether, for each result.

    What is promised without ``error=`` holds for operands that are exact. Raises UndeclaredErrorError where an operand
    may be off by a rounding.
    """
    doubts = [np.broadcast_to(doubt, value.shape) for doubt, value in zip(doubts, values, strict=True)]
    if promise.error is not None:
        shapes = [np.broadcast_to(operand.bound, operand.value.shape) for operand in operands]
        bounds = _declared(what, promise.error, operands, shapes, values)
        return [Bounded(v, b, d) for v, b, d in zip(values, bounds, doubts, strict=True)]
    for name, operand in zip(names, operands, strict=True):
        if operand.bound.any():
            problem = f"says nothing of an operand {name} that is off by a rounding, as this one is"
            raise UndeclaredErrorError(
                what=what,
                problem=problem,
                hint="error=lambda values, bounds: ..., the error of each result given those of the operands",
            )
    found = []
    for value, dtype, own in zip(values, dtypes, doubts, strict=True):
        if not dtype.is_float or promise.ulps == 0:
            found.append(Bounded(value, EXACT, own))
            continue
        relative = promise.ulps * (unit(dtype) if dtype in (DType.F32, DType.F64) else 2.0**-dtype.mantissa_bits)
        found.append(Bounded(value, relative * np.where(np.isfinite(value), np.abs(value), 0.0), own))
    return found


def _declared(
    what: str,
    error: Callable[..., object],
    operands: Sequence[Bounded],
    bounds: Sequence[Array],
    values: Sequence[Array],
) -> list[Array]:
    """What the user's function says, one array per result."""
    said: Any = error(tuple(operand.value for operand in operands), tuple(bounds))
    parts = said if isinstance(said, tuple) else (said,)
    if len(parts) != len(values):
        problem = f"has an error= that returns {len(parts)} arrays for {len(values)} results"
        raise UndeclaredErrorError(what=what, problem=problem)
    found = []
    for part, value in zip(parts, values, strict=True):
        array = np.asarray(part, np.float64)
        if array.shape not in ((), value.shape):
            problem = f"has an error= that returns shape {array.shape} for a result of shape {value.shape}"
            raise UndeclaredErrorError(what=what, problem=problem)
        found.append(np.broadcast_to(np.where(np.isnan(array), math.inf, array), value.shape))
    return found
