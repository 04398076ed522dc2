"""Text that loop nests are made of: expressions cut to a length that can be read, and numbers of things."""

from __future__ import annotations

from typing import Final

from texpr.lang.ir import Expr, Read, children, walk
from texpr.lang.show import expr_text
from texpr.math.expr import IntExpr

_WIDEST: Final = 150  # longer expressions are cut in the middle
_MOST_NODES: Final = 2000


def ceil_text(extent: IntExpr, size: int) -> str:
    """``ceil(M/128)``, or just the extent for tiles of one."""
    text = str(extent)
    if size == 1:
        return text if text.isidentifier() or text.isdigit() else f"({text})"
    if text.isdigit():
        return str(-(-int(text) // size))
    return f"ceil({text if text.isidentifier() else f'({text})'}/{size})"


def shortened(expr: Expr) -> str:
    """The text of an expression; a long one is cut in the middle, with the number of its reads. One whose parts are
    shared so often that spelling it out would take forever is only described."""
    nodes = walk(expr)
    spelled: dict[int, int] = {}
    for node in nodes:
        spelled[id(node)] = 1 + sum(spelled[id(child)] for child in children(node))
    if spelled[id(expr)] > _MOST_NODES:
        reads = sum(isinstance(node, Read) for node in nodes)
        return f"... ({count_of_things(len(nodes), 'operation')}, {count_of_things(reads, 'read')})"
    text = expr_text(expr)
    if len(text) <= _WIDEST:
        return text
    reads = text.count("[")
    half = (_WIDEST - 20) // 2
    return f"{text[:half]} ... {text[-half:]} ({count_of_things(reads, 'read')})"


def count_of_things(number: int, noun: str) -> str:
    """``1 read``, ``3 reads``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_text(size: int) -> str:
    """Bytes as people say them: ``64 KB``, ``528 bytes``."""
    if size and size % 1024 == 0:
        return f"{size // 1024} KB"
    return f"{size} bytes" if size < 10_000 else f"{size / 1024:.1f} KB"
