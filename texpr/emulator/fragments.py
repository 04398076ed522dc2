"""Matrices that several instructions of a block read from the same registers.

A tile's matrix products use each fragment of A with several of B and the reverse, and decoding a fragment costs more
than multiplying it.  Within a block, all instructions run one after the other for the same lanes; so what the first
one decoded holds for the others until an instruction in between writes one of the registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from texpr.emulator.kernel import Operation
from texpr.emulator.ptx import Instruction, Operand, Pair, Register, Vector
from texpr.emulator.rows import Array

Matrix = Callable[[], Array]
"""Decodes a fragment, or gives what has been decoded in this block."""


@dataclass(slots=True)
class _Kept:
    registers: frozenset[str]
    value: Array | None = None


class FragmentCache:
    """What is known while the instructions of a block are bound, in their order."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], _Kept] = {}

    def begin_block(self) -> None:
        """Lanes arrive here from anywhere: nothing is known."""
        self._kept.clear()

    def bound(self, operation: Operation) -> None:
        """This operation comes next: forget what it writes."""
        outputs = len(operation.row.signature.outputs)
        written = {name for operand in operation.instruction.operands[:outputs] for name in _names(operand)}
        self._kept = {key: kept for key, kept in self._kept.items() if not kept.registers & written}

    def share(self, site: Instruction, operand: Operand, form: tuple[object, ...], decode: Matrix) -> Matrix:
        """`decode` reads the registers of `operand`, in a way that `form` names.

        Instructions with guards decode for themselves: it is not known whether they, or others, run.
        """
        if site.guard is not None:
            return decode
        names = _names(operand)
        key = (*names, *form)
        if key in self._kept:
            known = self._kept[key]

            def reuse() -> Array:
                assert known.value is not None
                return known.value

            return reuse
        kept = self._kept[key] = _Kept(frozenset(names))

        def keep() -> Array:
            kept.value = decode()
            return kept.value

        return keep


def _names(operand: Operand) -> list[str]:
    match operand:
        case Register(name, _):
            return [name]
        case Vector(items):
            return [name for item in items for name in _names(item)]
        case Pair(first, second):
            return [*_names(first), *_names(second)]
        case _:
            return []
