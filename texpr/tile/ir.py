"""The tile program: a small typed IR between the plan and Gluon.

    TileProgram ::= Parameter*  Buffer*  Barriers*  Statement*
    Statement   ::= Scalar | ScalarOf | FindGroup | Assign | For | If | CopyAsync | Barrier | Commit | Wait
                  | StoreShared | Store
                  | Atomic | AtomicShared | Ticket | Publish | LookBack | AwaitTurn | PassTurn | Receive
                  | Protocol | Specialise
    Specialise  ::= Role*                                      Role ::= Statement*
    Expr        ::= Uniform | Argument | Literal | Lane | Var | Elementwise | Choose | Convert to dtype | InlinePtx
                  | Load | SharedTile | SharedGather | Reduce | Scan | Rank | TileCall | Relayout | Half | Dot | Full

A *space* is an ordered list of physical dims with a distributed layout; each dim fuses one or more named axes
row-major. An expression lives on a subset ``dims`` of its space (a slice of the layout); the empty subset is a scalar
that all threads hold. Operands of one node agree on the space; broadcasting over missing dims is implicit. Integers
over scalars (tile origins, loop counters, dims) are ``math`` expressions whose symbols name parameters and ``Scalar``
statements.

Expressions are hash-consed: equal expressions are one object, and are printed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from texpr.dtypes import DType
from texpr.lang.ir import Monoid, OpName, ReduceOp
from texpr.lang.user_code import TileOp
from texpr.math.expr import IntExpr
from texpr.tile.communicate import Communication, exprs_of_communication
from texpr.tile.declarations import Barriers, Buffer, Conflict, Dims, Parameter, Space
from texpr.tile.protocol import Protocol
from texpr.tile.sharing import Shared
from texpr.tile.uniform import FindGroup, ProgramId, Scalar

# ---- expressions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Uniform(Shared):
    """An integer that is the same for all threads. ``dtype`` is I32 or I64."""

    value: IntExpr
    dtype: DType = DType.I32
    space: None = None
    dims: Dims = ()


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Shared):
    """A scalar kernel parameter."""

    name: str
    dtype: DType
    space: None = None
    dims: Dims = ()


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Shared):
    """A constant. ``value`` may be an infinity or NaN."""

    value: int | float | bool
    dtype: DType
    space: None = None
    dims: Dims = ()


@dataclass(frozen=True, slots=True, eq=False)
class Lane(Shared):
    """The position along one physical dim: 0 .. size, as i32."""

    space: Space
    dim: int

    @property
    def dtype(self) -> DType:
        return DType.I32

    @property
    def dims(self) -> Dims:
        return (self.dim,)


@dataclass(frozen=True, slots=True, eq=False)
class Var(Shared):
    """The current value of a name that an ``Assign`` set."""

    name: str
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Elementwise(Shared):
    """A scalar operation at every point. Comparisons yield BOOL."""

    op: OpName
    args: tuple[Expr, ...]
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Choose(Shared):
    """``then`` where ``condition`` else ``otherwise``."""

    condition: Expr
    then: Expr
    otherwise: Expr
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Cast(Shared):
    """A conversion, with the language's rounding."""

    value: Expr
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class InlinePtx(Shared):
    """Result number ``component`` of a user's scalar PTX operation, whose results have ``dtypes``."""

    template: str
    constraints: str
    args: tuple[Expr, ...]
    dtypes: tuple[DType, ...]
    component: int
    space: Space | None
    dims: Dims

    @property
    def dtype(self) -> DType:
        return self.dtypes[self.component]


@dataclass(frozen=True, slots=True, eq=False)
class Load(Shared):
    """``tensor[base + offset]`` where ``mask`` holds, else ``other``. ``base`` (elements) is uniform and computed in
    64 bits; ``offset`` is a tile of element offsets from it. Loads are of read-only memory for the whole kernel, so
    they may move."""

    tensor: str
    base: IntExpr
    offset: Expr | None
    mask: Expr | None
    other: Literal
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class SharedTile(Shared):
    """A whole stage of a shared buffer. ``order`` permutes the buffer's dims into the space's."""

    buffer: str
    stage: IntExpr | None
    order: tuple[int, ...]
    dtype: DType
    space: Space
    dims: Dims
    slices: tuple[tuple[int, int, int], ...] = ()  # (buffer dim, start, length)


@dataclass(frozen=True, slots=True, eq=False)
class SharedGather(Shared):
    """One element of a flat shared buffer per point, at ``index``."""

    buffer: str
    stage: IntExpr | None
    index: Expr
    dtype: DType
    space: Space | None
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Shared):
    """``args`` reduced over dim ``dim`` of their space; a tuple reduction yields component ``component``."""

    op: ReduceOp | Monoid
    args: tuple[Expr, ...]
    dim: int
    component: int
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Rank(Shared):
    """The least of ``words`` along dim ``dim`` of their space (and of ``best``, which lies in ``space``), in order: as
    many as the dim of ``space`` that ``words`` lack has points. No two words are equal but those of all ones, which
    stand for nothing. ``rounds``: the least word is taken out so many times; else all words are sorted."""

    words: Expr
    best: Expr | None
    dim: int
    rounds: bool
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Scan(Shared):
    """Every inclusive prefix of ``args`` along dim ``dim`` of their space, which has a blocked layout; they vary along
    all of its dims. A tuple scan yields component ``component``. The left operand of ``op`` is earlier in the order
    of the scan: from the last position to the first if ``reverse``."""

    op: ReduceOp | Monoid
    args: tuple[Expr, ...]
    dim: int
    reverse: bool
    component: int
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class TileCall(Shared):
    """Result number ``component`` of a user's function over tiles. It runs in the space ``inner``: rows, which are all
    dims of the operands' space but ``dim``, by the line, which is that one. Operands vary along those of the dims that
    they are declared to, results along all dims, or those of the rows."""

    op: TileOp
    args: tuple[Expr, ...]
    dim: int
    inner: Space
    component: int
    space: Space | None
    dims: Dims

    @property
    def dtype(self) -> DType:
        return self.op.results[self.component].dtype


@dataclass(frozen=True, slots=True, eq=False)
class Relayout(Shared):
    """The same tile in another space (same axes per dim). Free or a trip through shared memory."""

    value: Expr
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Half(Shared):
    """The first or ``second`` half of the columns of a warpgroup's accumulator, in the registers that hold them: every
    thread has as many of either half."""

    value: Expr
    second: bool
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class DotStep(Shared):
    """``acc + a @ b`` on a matrix unit; ``a``/``b`` live in operand spaces of ``acc``'s layout. A warpgroup's unit
    reads an operand that is a ``SharedTile`` where it lies, and has its result only after a ``DotWait``."""

    a: Expr
    b: Expr
    acc: Expr
    tensor_core: bool
    dtype: DType
    space: Space
    dims: Dims


@dataclass(frozen=True, slots=True, eq=False)
class Full(Shared):
    """A tile filled with a constant."""

    value: Literal
    dtype: DType
    space: Space
    dims: Dims


Expr = (
    Uniform
    | Argument
    | Literal
    | Lane
    | Var
    | Elementwise
    | Choose
    | Cast
    | InlinePtx
    | Load
    | SharedTile
    | SharedGather
    | Reduce
    | Rank
    | Scan
    | TileCall
    | Relayout
    | Half
    | DotStep
    | Full
)


# ---- statements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScalarOf:
    """``name = value``: a uniform integer found in data, i32 and not negative, with a name that integer expressions
    may mention."""

    name: str
    value: Expr
    note: str = ""


@dataclass(frozen=True, slots=True)
class Assign:
    """``name = value``. A name assigned again inside a loop is carried by it; its type never changes."""

    name: str
    value: Expr
    note: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class For:
    """``for counter in range(start, stop, step)``. ``static`` loops are unrolled and have literal bounds."""

    counter: str
    start: IntExpr
    stop: IntExpr
    step: IntExpr
    body: tuple[Statement, ...]
    note: str = ""
    static: bool = False


@dataclass(frozen=True, slots=True)
class If:
    """``body`` if ``condition`` holds, which is the same for all threads. What the body assigns again has a value
    before it; loads of the body are not made without it."""

    condition: Expr
    body: tuple[Statement, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class CopyAsync:
    """Start copying ``tensor[base + offset]`` (zero where the mask is false) into one stage of a buffer (cp.async)."""

    buffer: str
    stage: IntExpr | None
    load: Load
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Barrier:
    """All threads of the program have come here; what they have read until then may be overwritten."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Commit:
    """Close the group of async copies started since the last commit."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Until at most ``pending`` groups are in flight."""

    pending: int


@dataclass(frozen=True, slots=True)
class StoreShared:
    """Write a tile to a whole stage of a buffer (or to a slice of a flat one). The buffer has the ``dims`` of the
    value's space (None: all of them); along those that the value does not vary along it is repeated."""

    buffer: str
    stage: IntExpr | None
    value: Expr
    slice: tuple[IntExpr, int] | None = None  # (start, length) of a flat buffer
    origin: str = ""
    dims: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """``tensor[base + offset] = value`` where ``mask`` holds."""

    tensor: str
    base: IntExpr
    offset: Expr | None
    mask: Expr | None
    value: Expr
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Atomic:
    """``tensor[base + offset]`` combined with ``value`` by ``op`` where ``mask`` holds, each element at once.
    ``aggregate``: the lanes of a warp with the same element combine their values first, in the order of the lanes;
    no two lanes hold the same point."""

    op: ReduceOp
    tensor: str
    base: IntExpr
    offset: Expr | None
    mask: Expr | None
    value: Expr
    origin: str = ""
    aggregate: bool = False


@dataclass(frozen=True, slots=True)
class AtomicShared:
    """The element at ``index`` of a flat buffer combined with ``value`` by ``op`` where ``mask`` holds, each element
    at once. Index, mask and value vary along the dims of ``index``. ``aggregate``: as of ``Atomic``."""

    op: ReduceOp
    buffer: str
    index: Expr
    mask: Expr | None
    value: Expr
    origin: str = ""
    aggregate: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """Warps of a program that do their own work: ``warps`` of them (a power of two), with ``registers`` each thread
    (None: what the assembler finds). The ``default`` role has the program's own warps."""

    name: str
    warps: int
    registers: int | None
    body: tuple[Statement, ...]
    default: bool


@dataclass(frozen=True, slots=True)
class Specialise:
    """The roles at once; all have ended where the next statement begins. A role knows the integers, parameters,
    buffers and barriers of the program, but no tiles, and leaves none behind. The default role comes first."""

    roles: tuple[Role, ...]


Statement = (
    Scalar
    | ScalarOf
    | ProgramId
    | FindGroup
    | Assign
    | For
    | If
    | CopyAsync
    | Barrier
    | Commit
    | Wait
    | StoreShared
    | Store
    | Atomic
    | AtomicShared
    | Protocol
    | Specialise
    | Communication
)


# ---- programs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TileProgram:
    """One Gluon function. ``limits`` are the offsets that must stay below 2**31 (checked by the launcher). ``warps``
    are those of the default role, if there are roles. ``early``: kernels before it in the stream may still run, and it
    waits for them before it touches memory; ``makes_room``: the kernel after it may start when its programs have.
    ``cluster``: the programs that compute its tiles together, how many along each axis; ``grid`` counts clusters."""

    name: str
    warps: int
    parameters: tuple[Parameter, ...]
    buffers: tuple[Buffer, ...]
    body: tuple[Statement, ...]
    grid: IntExpr
    limits: tuple[IntExpr, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    header: tuple[str, ...] = field(default=())
    barriers: tuple[Barriers, ...] = ()
    early: bool = False
    makes_room: bool = False
    cluster: tuple[tuple[str, int], ...] = ()

    @property
    def programs(self) -> int:
        """The programs of a cluster."""
        return math.prod(count for _, count in self.cluster)


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions."""
    match expr:
        case Uniform() | Argument() | Literal() | Lane() | Var() | SharedTile() | Full():
            return ()
        case Elementwise(args=args) | InlinePtx(args=args) | Reduce(args=args) | Scan(args=args) | TileCall(args=args):
            return args
        case Choose(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case Cast(value=value) | Relayout(value=value) | Half(value=value):
            return (value,)
        case Load(offset=offset, mask=mask):
            return tuple(e for e in (offset, mask) if e is not None)
        case Rank(words=words, best=best):
            return (words,) if best is None else (words, best)
        case SharedGather(index=index):
            return (index,)
        case DotStep(a=a, b=b, acc=acc):
            return (a, b, acc)
        case _:
            assert_never(expr)


def statement_exprs(statement: Statement) -> tuple[Expr, ...]:
    """The expressions a statement evaluates itself (not those of its body)."""
    if isinstance(statement, Protocol):
        return ()
    if isinstance(statement, Communication):
        return exprs_of_communication(statement)
    match statement:
        case Scalar() | ProgramId() | FindGroup() | For() | Barrier() | Commit() | Wait() | Specialise():
            return ()
        case Assign(value=value) | StoreShared(value=value) | ScalarOf(value=value):
            return (value,)
        case CopyAsync(load=load):
            return (load,)
        case If(condition=condition):
            return (condition,)
        case Store(offset=offset, mask=mask, value=value) | Atomic(offset=offset, mask=mask, value=value):
            return tuple(e for e in (offset, mask, value) if e is not None)
        case AtomicShared(index=index, mask=mask, value=value):
            return tuple(e for e in (index, mask, value) if e is not None)
        case _:
            assert_never(statement)


def walk(statements: tuple[Statement, ...], visit: Callable[[Statement], None]) -> None:
    """Call ``visit`` on every statement, outermost first."""
    for statement in statements:
        visit(statement)
        match statement:
            case For(body=body) | If(body=body):
                walk(body, visit)
            case Specialise(roles=roles):
                for role in roles:
                    walk(role.body, visit)
            case _:
                pass
