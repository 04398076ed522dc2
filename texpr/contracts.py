"""What a signature may promise of a tensor's elements beyond its type, and the check of it on NumPy values.

The compiler believes a contract and the emulated path checks it; on a GPU it is the caller's obligation, which the
manifest lists. NumPy is imported on first use.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt


class ContractKind(Enum):
    """``offsets(Z)``, ``permutation(N)`` and ``lists(V)`` take a limit, the others none."""

    OFFSETS = "offsets"  # starts at 0, never decreases, ends at the limit: the bounds of consecutive groups
    SORTED = "sorted"  # never decreases
    PERMUTATION = "permutation"  # every number below the limit, once
    LISTS = "lists"  # rows: how many, then so many ascending numbers below the limit, then any from 0 to the limit
    UNIQUE = "unique"  # no value twice
    FINITE = "finite"  # neither NaN nor infinite

    @property
    def has_limit(self) -> bool:
        return self in (ContractKind.OFFSETS, ContractKind.PERMUTATION, ContractKind.LISTS)


def contract_text(kind: ContractKind, limit: object) -> str:
    """As the signature spells it: ``offsets(Z)``, ``sorted``."""
    return kind.value if limit is None else f"{kind.value}({limit})"


def position_text(position: tuple[int, ...]) -> str:
    """``3``, or ``(0, 3)`` in a tensor of several dims."""
    return str(position[0]) if len(position) == 1 else str(position)


def violation(kind: ContractKind, values: npt.NDArray[Any], limit: int | None) -> tuple[tuple[int, ...], str] | None:
    """The first element that breaks a contract and what is wrong with it, or None. ``values`` are numbers (float64
    for floats); LISTS take two dims, all other kinds but FINITE one."""
    import numpy as np

    match kind:
        case ContractKind.FINITE:
            bad = ~np.isfinite(values)
            if not bad.any():
                return None
            position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad.reshape(-1))), values.shape))
            return position, f"is {values[position]}, which is not finite"
        case ContractKind.SORTED:
            return _falls(values)
        case ContractKind.OFFSETS:
            assert limit is not None
            if values.size == 0:
                return (0,), "is missing: offsets have at least one element"
            if int(values[0]) != 0:
                return (0,), f"is {values[0]}; offsets start at 0"
            if (found := _falls(values)) is not None:
                return found
            if int(values[-1]) != limit:
                return (values.size - 1,), f"is {values[-1]}; the last offset is {limit}"
            return None
        case ContractKind.UNIQUE:
            return _repeats(values)
        case ContractKind.PERMUTATION:
            assert limit is not None
            outside = (values < 0) | (values >= limit)
            if outside.any():
                first = int(np.argmax(outside))
                return (first,), f"is {values[first]}, outside [0, {limit})"
            return _repeats(values)
        case ContractKind.LISTS:
            assert limit is not None
            return _unlisted(values, limit)


def _unlisted(rows: npt.NDArray[Any], limit: int) -> tuple[tuple[int, ...], str] | None:
    """What is wrong with rows of a count and so many ascending numbers below ``limit``."""
    import numpy as np

    used = np.arange(limit) < rows[:, :1]
    listed = rows[:, 1:]
    wrong = (rows < 0) | (rows > limit)
    wrong[:, 1:] |= used & (listed == limit)
    wrong[:, 2:] |= used[:, 1:] & (listed[:, 1:] <= listed[:, :-1])
    if not wrong.any():
        return None
    row, column = (int(i) for i in np.unravel_index(int(np.argmax(wrong.reshape(-1))), wrong.shape))
    value = rows[row, column]
    if column == 0:
        return (row, 0), f"is {value}; a row lists 0 to {limit} numbers"
    if not 0 <= value < limit:
        return (row, column), f"is {value}, outside [0, {limit})"
    return (row, column), f"is {value}, not greater than {rows[row, column - 1]} before it"


def _falls(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], str] | None:
    import numpy as np

    falling = values[1:] < values[:-1]
    if not falling.any():
        return None
    first = int(np.argmax(falling)) + 1
    return (first,), f"is {values[first]}, less than {values[first - 1]} before it"


def _repeats(values: npt.NDArray[Any]) -> tuple[tuple[int, ...], str] | None:
    import numpy as np

    _, first = np.unique(values, return_index=True)
    if first.size == values.size:
        return None
    again = np.ones(values.size, np.bool_)
    again[first] = False
    position = int(np.argmax(again))
    earlier = int(np.argmax(values == values[position]))
    return (position,), f"is {values[position]}, which element {earlier} is already"
