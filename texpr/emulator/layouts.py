"""What tensor lies in a buffer, so that a bad address can be told as an element: which index of which dim is too
large.

A layout comes from whoever knows the shape: ``texpr check`` and the runtime know all of it; of a C program's buffers
only the kernel's parameters are known, so the first extent may be missing.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor ``name`` of ``item`` bytes an element whose element at index 0 is at byte ``start`` of its buffer.

    ``strides`` are in elements, in descending order as of row-major tensors. The first of the ``extents`` may be None:
    as many rows as the buffer holds.
    """

    name: str
    item: int
    extents: tuple[int | None, ...]
    strides: tuple[int, ...]
    start: int = 0

    def describe(self, offset: int, size: int) -> str:
        """What byte ``offset`` of a buffer of ``size`` bytes is: an element, or how far beside the tensor; "" if
        there is nothing to say."""
        if not self.extents or 0 in self.extents or self.item == 0:
            return ""
        element = (offset - self.start) // self.item
        extents = self._extents(size)
        shape = " x ".join(str(extent) for extent in extents)
        if element < 0:
            return f"{_plural(-element, 'element')} before {self.name}[{', '.join('0' for _ in extents)}]"
        index = self._index(element)
        text = f"{self.name}[{', '.join(str(position) for position in index)}]"
        needed = self.item * (1 + sum((e - 1) * s for e, s in zip(extents, self.strides, strict=True)))
        if self.start + needed > size:
            return f"this is {text}; {self.name} is {shape} and needs {needed} bytes"
        for dim, (position, extent) in enumerate(zip(index, extents, strict=True)):
            if position >= extent:
                if dim == len(index) - 1 and len(index) > 1 and position < self.strides[dim - 1]:
                    return f"this is {text}, beyond the {extent} elements of the row ({self.name} is {shape})"
                what = "row" if dim == 0 and len(index) > 1 else "element"
                beyond = position - extent + 1
                if what == "row" and self.extents[0] is None:
                    rest = " x ".join(str(extent) for extent in extents[1:])
                    return f"this is {text}; the buffer holds {_plural(extent, 'row')} of {rest}"
                if what == "row":
                    return f"this is {text}, {_plural(beyond, 'row')} past the end ({self.name} is {shape})"
                return f"this is {text}, {beyond} past the end of dim {dim} ({self.name} is {shape})"
        return f"this is {text} ({self.name} is {shape})"

    def _extents(self, size: int) -> list[int]:
        """The extents, with as many rows as the buffer holds where their number is not known."""
        known: list[int] = []
        for extent, stride in zip(self.extents, self.strides, strict=True):
            rows = (size - self.start) // (self.item * max(stride, 1))
            known.append(rows if extent is None else extent)
        return known

    def _index(self, element: int) -> list[int]:
        index: list[int] = []
        for stride in self.strides:
            index.append(element // stride if stride > 0 else 0)
            element -= index[-1] * stride
        return index


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@dataclass(frozen=True, slots=True)
class TensorParameter:
    """A kernel parameter that points to a tensor, as a manifest describes it.

    ``shape`` are expressions over names; ``groups`` says how many of them form each stored dim; ``strides`` names the
    strides of stored dims that have one.
    """

    position: int
    name: str
    bits: int
    shape: tuple[str, ...]
    groups: tuple[int, ...]
    strides: Mapping[int, str]

    def layout(self, names: Mapping[str, int]) -> Layout | None:
        """The layout if these names have these values; None if they are not enough."""
        extents = [evaluate(extent, names) for extent in self.shape]
        if any(extent is None for extent in extents[1:]) or not extents or self.bits % 8:
            return None
        strides: list[int] = []
        step: int | None = 1
        dim = len(extents)
        for stored in reversed(range(len(self.groups))):
            if stored in self.strides:
                step = names.get(self.strides[stored])
            for _ in range(self.groups[stored]):
                dim -= 1
                if step is None:
                    return None
                strides.insert(0, step)
                extent = extents[dim]
                step = None if extent is None else step * extent
        return Layout(self.name, self.bits // 8, tuple(extents), tuple(strides)) if dim == 0 else None


_OPERATORS: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Final[dict[str, Callable[[Sequence[int]], int]]] = {"min": min, "max": max}


def evaluate(text: str, names: Mapping[str, int]) -> int | None:
    """The value of a manifest's integer expression; None if it needs a name that has no value."""
    try:
        return _value(ast.parse(text, mode="eval").body, names)
    except (KeyError, ZeroDivisionError, SyntaxError):
        return None


def _value(node: ast.expr, names: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name):
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=function), args=arguments):
            return _FUNCTIONS[function]([_value(argument, names) for argument in arguments])
        case _:
            raise KeyError(ast.unparse(node))


def dense(name: str, item: int, extents: Sequence[int], strides: Sequence[int] | None = None, start: int = 0) -> Layout:
    """A layout whose extents are known; row-major without gaps unless strides (in elements) are given."""
    steps = [prod(extents[dim + 1 :]) for dim in range(len(extents))] if strides is None else strides
    return Layout(name, item, tuple(extents), tuple(steps), start)
