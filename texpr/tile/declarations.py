"""What a tile program declares before its statements: spaces, parameters and shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.math.expr import IntExpr
from texpr.tile.layouts import Layout, Nvmma, SharedLayout, part_of


@dataclass(frozen=True, slots=True)
class PhysicalDim:
    """One dim of a space: the named axes fused into it, outermost first. The product of sizes is a power of two."""

    axes: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        total = 1
        for _, size in self.axes:
            total *= size
        return total

    def has(self, axis: str) -> bool:
        return any(name == axis for name, _ in self.axes)

    def __str__(self) -> str:
        return "*".join(f"{name}:{size}" for name, size in self.axes)


@dataclass(frozen=True, slots=True)
class Space:
    """Where a tile value lives. ``name`` is used in the generated code's identifiers."""

    name: str
    dims: tuple[PhysicalDim, ...]
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.size for dim in self.dims)

    def dim_of(self, axis: str) -> int | None:
        return next((d for d, dim in enumerate(self.dims) if dim.has(axis)), None)


Dims = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PointerParam:
    """A pointer to a tensor or workspace buffer; ``alignment`` in bytes is known."""

    name: str
    dtype: DType
    alignment: int


@dataclass(frozen=True, slots=True)
class IntParam:
    """An i32 computed by the launcher; ``divisor`` divides it."""

    name: str
    value: IntExpr
    divisor: int


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A scalar argument in its own type."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class PresentParam:
    """1 if the optional tensor was given, else 0 (i32)."""

    name: str
    tensor: str


@dataclass(frozen=True, slots=True)
class TensorMapParam:
    """A tensor map of ``tensor``, encoded by the launcher for each call: what the copy engine must know to move boxes
    of ``box`` elements between it and shared memory of ``layout``.

    ``shape`` and ``strides`` are the tensor's, in elements, outermost first; the last stride is 1 and the others are
    multiples of 16 bytes. A ``box`` has an extent per dim, at most 256 each in the part of one program of a cluster;
    elements of a box outside of the tensor are read as zero and not written.
    """

    name: str
    tensor: str
    dtype: DType
    box: tuple[int, ...]
    layout: Nvmma
    shape: tuple[IntExpr, ...]
    strides: tuple[IntExpr, ...]

    @property
    def part(self) -> tuple[int, ...]:
        """The box of one program of a cluster."""
        return part_of(self.box, self.layout.ctas)


Parameter = PointerParam | IntParam | ScalarParam | PresentParam | TensorMapParam


@dataclass(frozen=True, slots=True)
class Buffer:
    """Explicit shared memory: ``depth`` stages (0: not staged) of ``shape``, of which each program of a cluster has its
    part; ``bytes`` are those of a program."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    depth: int
    layout: SharedLayout
    note: str = ""

    @property
    def bytes(self) -> int:
        total = self.dtype.bits // 8 * max(self.depth, 1)
        for extent in part_of(self.shape, self.layout.ctas):
            total *= extent
        return total


@dataclass(frozen=True, slots=True)
class Conflict:
    """A claim the emitted code asserts at compile time: reading or writing ``buffer`` from ``space`` has no bank
    conflicts."""

    buffer: str
    space: Space
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Barriers:
    """An array of ``count`` mbarriers, one per stage of a ring. A phase of a slot completes after ``arrivals``
    arrivals, and when all bytes expected in it have landed; then the next one begins. Phase 0 is the first.

    Programs of a cluster whose numbers differ in the bits ``across`` only have one array, in the shared memory of the
    first of them. All arrive there, each ``arrivals`` times; the first one alone waits.
    """

    name: str
    count: int
    arrivals: int
    note: str = ""
    across: tuple[int, ...] = ()
