"""What the ahead-of-time layer is given: kernels as Gluon text plus everything a launcher must know, and nothing else.

    Package ::= name  Entry+  KernelSource+                     one bundle
    Entry   ::= binding  Argument*  dims  facts  Variant+       one C function family (one binding of types and statics)
    Variant ::= guard  targets  limits  workspace  Launch+      first whose guard holds wins
    Launch  ::= source  grid  KernelParam*  zero fills          one kernel launch, in order

Integer expressions range over the entry's dims (free and derived), integer scalar arguments, stride arguments
``<x>_stride_<d>`` and ``sms`` (the multiprocessor count, read once at init). Sizes are in bytes and computed in 64
bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from texpr.domains import Domain
from texpr.dtypes import DType
from texpr.lang.ir import Contract
from texpr.math.expr import BoolExpr, IntExpr


@dataclass(frozen=True, slots=True)
class TensorArgument:
    """A device pointer. ``shape`` is logical and row-major; ``strided`` maps a storage dim to its stride argument
    (elements).

    ``elements`` is the number of addressable elements (for overlap and range checks); the pointer must be aligned to
    the element size. ``low``/``high`` (half-open; only in ``domain``, if there is one) and ``contracts`` are the
    caller's obligations: nothing checks them on a GPU. A ``hint`` changes how fast results come, not what they are, as
    long as its contracts are kept. ``valid`` are the extents of the part that has values, where dims of the device
    bound it.
    """

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]
    groups: tuple[int, ...]
    output: bool
    optional: bool = False
    may_alias: str | None = None
    strided: tuple[tuple[int, str], ...] = ()
    elements: IntExpr | None = None
    low: IntExpr | None = None
    high: IntExpr | None = None
    domain: Domain | None = None
    contracts: tuple[Contract, ...] = ()
    hint: bool = False
    valid: tuple[IntExpr, ...] | None = None


@dataclass(frozen=True, slots=True)
class ScalarArgument:
    """A scalar passed by value. ``low``/``high`` (half-open) are checked by the launcher for integers."""

    name: str
    dtype: DType
    low: IntExpr | None = None
    high: IntExpr | None = None


Argument = TensorArgument | ScalarArgument


@dataclass(frozen=True, slots=True)
class TensorPointer:
    """Pass the device pointer of a tensor argument (0 when an optional one is absent)."""

    argument: str


@dataclass(frozen=True, slots=True)
class WorkspacePointer:
    """Pass the address of a workspace buffer."""

    buffer: str


@dataclass(frozen=True, slots=True)
class ScalarValue:
    """Pass a scalar argument in its own type."""

    argument: str


@dataclass(frozen=True, slots=True)
class IntValue:
    """Pass an integer computed at launch, as i32 (range-checked by the launcher) or i64."""

    value: IntExpr
    wide: bool = False


@dataclass(frozen=True, slots=True)
class PresentFlag:
    """Pass 1 as i32 when the optional tensor argument was given, else 0."""

    argument: str


@dataclass(frozen=True, slots=True)
class TensorMap:
    """Pass a tensor map, encoded at launch, of the memory at ``target``, then its shape (i32) and its strides (i64):
    ``shape`` and ``strides`` in elements, outermost first, the last stride 1. The kernel moves ``box`` elements at a
    time, ``swizzle`` bytes wide in shared memory (0: not swizzled; 32, 64, 128)."""

    target: TensorPointer | WorkspacePointer
    dtype: DType
    shape: tuple[IntExpr, ...]
    strides: tuple[IntExpr, ...]
    box: tuple[int, ...]
    swizzle: int


KernelValue = TensorPointer | WorkspacePointer | ScalarValue | IntValue | PresentFlag | TensorMap


@dataclass(frozen=True, slots=True)
class KernelParam:
    """A parameter of the Gluon function: its name there, the Triton signature type (``*fp16``, ``i32``), the known
    divisibility of its value (for pointers: of the address in bytes; 1 = unknown) and what the launcher passes."""

    name: str
    type: str
    value: KernelValue
    divisibility: int = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a line of generated Gluon came from: a func or stage of the algorithm, and the schedule line that asked
    for it."""

    node: str
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class KernelSource:
    """One Gluon function. ``text`` is the function alone (``@gluon.jit`` included), after those of its roles;
    ``preamble`` holds its layouts and helpers and is shared, deduplicated, by all kernels of the bundle's
    ``kernel.py``. ``origins`` is keyed by 0-based line within ``text``. ``registers``: what a thread is compiled for
    (None: the assembler finds it). ``ctas``: the programs of a cluster, which a launch counts as one."""

    name: str
    text: str
    preamble: tuple[str, ...]
    params: tuple[KernelParam, ...]
    warps: int
    targets: tuple[str, ...]
    origins: tuple[tuple[int, Origin], ...] = ()
    registers: int | None = None
    ctas: int = 1


@dataclass(frozen=True, slots=True)
class WorkspaceBuffer:
    """Scratch memory inside the caller's workspace; every buffer starts at a multiple of 256 bytes. Buffers of one
    ``slot``, which are never needed at the same time, start at the same byte; None: a slot of its own."""

    name: str
    bytes: IntExpr
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """Memory set to a constant in stream order: ``count`` numbers of ``bits`` (8, 16 or 32) bits, each ``pattern``."""

    target: TensorPointer | WorkspacePointer
    bits: int
    pattern: int
    count: IntExpr


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch: ``grid`` programs, or clusters of a kernel that has some (one-dimensional; nothing is launched when
    it is 0), after its ``fills``, which are done in any case. ``early``: while the kernel before it in the stream still
    runs, for whose end it waits."""

    kernel: str
    grid: IntExpr
    fills: tuple[Fill, ...] = ()
    early: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """``limits`` must hold as well for this variant's 32-bit index arithmetic to be exact; when only they fail the
    status is RANGE."""

    name: str
    targets: tuple[str, ...]
    guard: BoolExpr
    launches: tuple[Launch, ...]
    workspace: tuple[WorkspaceBuffer, ...] = ()
    limits: tuple[BoolExpr, ...] = ()
    flops: IntExpr | None = None
    bytes_moved: IntExpr | None = None
    reproducible: bool = True


@dataclass(frozen=True, slots=True)
class CountedDim:
    """A dim that kernels read from the tensor ``source`` on the device; more than ``room`` counts as ``room``."""

    name: str
    source: str
    room: IntExpr


@dataclass(frozen=True, slots=True)
class Entry:
    """One binding: ``<symbol>_init/query/launch/close`` in C. ``types``/``statics`` record the binding for Python's
    choice by dtype."""

    symbol: str
    types: tuple[tuple[str, DType], ...]
    statics: tuple[tuple[str, int], ...]
    arguments: tuple[Argument, ...]
    dims: tuple[str, ...]
    derived: tuple[tuple[str, IntExpr], ...]
    facts: tuple[BoolExpr, ...]
    variants: tuple[Variant, ...]
    counts: tuple[CountedDim, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs and the expected result of one call, for ``demo.c`` and self-tests: raw little-endian bytes per
    argument, dims by name.

    ``expected`` holds, per output, the float64 (or int64) reference and the allowed absolute error per element, both as
    raw bytes.
    """

    entry: str
    dims: tuple[tuple[str, int], ...]
    scalars: tuple[tuple[str, int | float], ...]
    inputs: tuple[tuple[str, bytes], ...]
    expected: tuple[tuple[str, bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Package:
    """All of one bundle. ``schedule`` is the resolved schedule's YAML text; ``algorithm`` the source text it came
    from. ``schedule_lines`` are texts of lines of the schedule that the user wrote, by the place that origins name."""

    name: str
    entries: tuple[Entry, ...]
    kernels: tuple[KernelSource, ...]
    schedule: str
    algorithm: str
    example: Example | None = None
    schedule_lines: Mapping[str, str] = field(default_factory=dict)
