"""How values are put into 64-bit words that programs publish: 62 bits of fields, and two that say how much is known.

A component lies in one field, one of 64 bits in two. Whoever reads the words of a value takes them only if all say that
the same is known: then all of them come from one publication, since a program publishes either thing once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WORD_BITS: Final = 62
MOST_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class Field:
    """Bits ``shift`` to ``shift + width`` of a component, from bit ``start`` of a word on."""

    component: int
    shift: int
    width: int
    word: int
    start: int


def fields_of(widths: Sequence[int]) -> tuple[Field, ...]:
    """The fields of components of these widths, one after the other; a word is left when the next field is too wide."""
    found: list[Field] = []
    word, start = 0, 0
    for component, width in enumerate(widths):
        parts = [(0, width)] if width <= WORD_BITS else [(0, 32), (32, width - 32)]
        for shift, bits in parts:
            if start + bits > WORD_BITS:
                word, start = word + 1, 0
            found.append(Field(component, shift, bits, word, start))
            start += bits
    return tuple(found)


def word_count(widths: Sequence[int]) -> int:
    """How many words hold components of these widths."""
    return fields_of(widths)[-1].word + 1
