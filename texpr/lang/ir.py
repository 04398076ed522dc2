"""The algorithm IR: what a kernel computes, and nothing of how.

    Algorithm ::= Param*  Dim*  Def*  fact*       (monomorphic: type variables and statics are already bound)
    Param     ::= Tensor | Scalar
    Def       ::= Func+ [ Axis* ] = Top           (each point of each func is defined once; several funcs = a tuple)
    Top       ::= Expr+ | Reduce | Scan | Extern
    Reduce    ::= (op | Monoid | Ranking)(Expr+, over Axis+, where Expr?)
    Scan      ::= (op | Monoid)(Expr+, along Axis, exclusive, reverse, reset Expr?) | TileOp(Expr+, along Axis)
    Axis      ::= 0 .. extent, or the points offsets[group] .. offsets[group + 1] of it (ragged)
    Expr      ::= Const | ScalarRef | AxisRef | DimRef | Read | Op | Select | Cast | Ptx | Present

Every expression carries its dtype, and conversions are explicit ``Cast`` nodes: an ``Op`` on floats has f32 or f64
operands, so a rounding happens exactly where a ``Cast``, a func's declared dtype or an output says so. Integers wrap
at their dtype. Index arithmetic has dtype ``INDEX`` and is exact. Nodes compare by identity; only the tracing surface
overloads operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, assert_never

from texpr.contracts import ContractKind, contract_text
from texpr.domains import Domain as NamedDomain
from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.opnames import COMPARISONS as COMPARISONS
from texpr.lang.opnames import OpName as OpName
from texpr.lang.user_code import ExternCall, TileOp
from texpr.math.expr import BoolExpr, IntExpr, evaluate, substitute

INDEX: Final = DType.I64
"""The dtype of axis references, dims and arithmetic on them: mathematically exact, never wraps."""


class Role(Enum):
    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Contract:
    """What the caller promises of a tensor's elements. ``limit`` is the ``Z`` of ``offsets(Z)``."""

    kind: ContractKind
    limit: IntExpr | None = None

    def __str__(self) -> str:
        return contract_text(self.kind, self.limit)


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The elements that a range of values is promised of: those where ``where`` holds. ``axes`` stand for the indices
    along the logical dims; ``named`` is the condition as written, for what knows nothing of expressions."""

    axes: tuple[Axis, ...]
    where: Expr
    named: NamedDomain


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor argument.

    ``shape`` lists the *logical* dims in order; ``groups`` says how many consecutive logical dims form each storage
    dim (a composite dim ``(G, R)`` is one storage dim of two logical ones). Storage is dense row-major except for the
    storage dims in ``strided``, whose element stride is the free integer argument ``<name>_stride_<d>``.
    ``low``/``high`` bound the values (half-open, exclusive high), all of them or those in ``domain``; ``contracts`` say
    more of them. ``may_alias`` names an input that this output is allowed to overlap exactly. A ``packed`` tensor is
    one of bytes, each with two elements of the 4-bit type ``element`` that are neighbours along that logical dim,
    which ``shape`` has halved. A ``hint`` is read by no definition: schedules may use it, and results are the same
    without it. ``valid`` are the extents of the part that has values, if dims known on the device only bound it;
    ``shape`` is then what there is room for.
    """

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]
    groups: tuple[int, ...]
    role: Role
    optional: bool = False
    may_alias: str | None = None
    strided: tuple[int, ...] = ()
    packed: int | None = None
    element: DType | None = None
    low: IntExpr | None = None
    high: IntExpr | None = None
    domain: Domain | None = None
    contracts: tuple[Contract, ...] = ()
    hint: bool = False
    location: Location | None = None
    valid: tuple[IntExpr, ...] | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def extents(self) -> tuple[IntExpr, ...]:
        """What indices stay below: the extents of the part that has values."""
        return self.shape if self.valid is None else self.valid

    def contract(self, kind: ContractKind) -> Contract | None:
        """The contract of this kind, if the tensor has it."""
        return next((contract for contract in self.contracts if contract.kind is kind), None)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A scalar argument. ``low``/``high`` bound an integer's values (half-open)."""

    name: str
    dtype: DType
    low: IntExpr | None = None
    high: IntExpr | None = None
    location: Location | None = None


Param = Tensor | Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """An iteration axis ``0 .. extent``. Compared by identity; names are unique inside one algorithm.

    A ragged axis takes of these the points of its group. A reduction over it says so in its ``where`` as well, so that
    a pass that knows nothing of ragged axes is right. On the left of a definition it takes all points, and its group,
    which is not there, is the one that each point belongs to.
    """

    name: str
    extent: IntExpr
    ragged: Ragged | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """The points ``offsets[group] <= m < offsets[group + 1]``. ``offsets`` has the contract of that name."""

    offsets: Tensor
    group: Axis


@dataclass(frozen=True, slots=True, eq=False)
class Func:
    """A named tensor over axes. ``dtype`` is its rounding point. ``output`` is the argument that it is stored to, if
    any.

    ``automatic`` funcs were made by the front end for a reduction that stood inside a larger expression (``y.r1``).
    """

    name: str
    dtype: DType
    axes: tuple[Axis, ...]
    output: Tensor | None = None
    automatic: bool = False
    location: Location | None = None


class BoundaryMode(Enum):
    """What a read outside the source yields."""

    NONE = "none"  # the read must be in bounds or guarded
    FILL = "fill"  # a constant
    CLAMP = "clamp"  # nearest element
    WRAP = "wrap"  # index modulo extent
    MIRROR = "mirror"  # reflect without repeating the edge element: -1 -> 1


@dataclass(frozen=True, slots=True)
class Boundary:
    mode: BoundaryMode = BoundaryMode.NONE
    fill: int | float | bool = 0


NO_BOUNDARY: Final = Boundary()


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    value: int | float | bool
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class ScalarRef:
    scalar: Scalar

    @property
    def dtype(self) -> DType:
        return self.scalar.dtype


@dataclass(frozen=True, slots=True, eq=False)
class AxisRef:
    axis: Axis
    dtype: DType = INDEX


@dataclass(frozen=True, slots=True, eq=False)
class DimRef:
    """The value of an integer expression over dims; ``name`` is what it is called where it is printed."""

    value: IntExpr
    dtype: DType = INDEX
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """``source[indices]``: one index per *logical* dim, each of integer dtype. A func is read at its own dtype.

    ``absent`` is the value of a read of an optional tensor that was not given (``b.get(j, 0)``), None for a tensor
    that is required.
    """

    source: Tensor | Func
    indices: tuple[Expr, ...]
    boundary: Boundary = NO_BOUNDARY
    absent: Expr | None = None
    location: Location | None = None

    @property
    def dtype(self) -> DType:
        return self.source.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    name: OpName
    args: tuple[Expr, ...]
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    condition: Expr
    then: Expr
    otherwise: Expr

    @property
    def dtype(self) -> DType:
        return self.then.dtype


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """Conversion. Float to narrower float rounds to nearest even (tf32: ties away); f8e4m3 saturates to finite; float
    to int truncates and saturates (NaN gives 0); int to int wraps."""

    value: Expr
    dtype: DType


@dataclass(frozen=True, slots=True, eq=False)
class Ptx:
    """Result number ``component`` of an inline-PTX scalar operation. ``template`` uses ``$0 ..`` for the results, which
    have ``dtypes``, and the numbers after them for the operands; ``reference`` is its NumPy meaning (a tuple, if there
    are several results); ``max_ulp`` its stated error."""

    template: str
    constraints: str
    args: tuple[Expr, ...]
    dtypes: tuple[DType, ...]
    reference: Callable[..., object]
    max_ulp: float = 0.0
    component: int = 0

    @property
    def dtype(self) -> DType:
        return self.dtypes[self.component]


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """Whether an optional tensor was given."""

    tensor: Tensor
    dtype: DType = DType.BOOL


@dataclass(frozen=True, slots=True, eq=False)
class Var:
    """A formal parameter of a monoid's combine function; appears nowhere else."""

    name: str
    dtype: DType


Expr = Const | ScalarRef | AxisRef | DimRef | Read | Op | Select | Cast | Ptx | Present | Var


class ReduceOp(Enum):
    SUM = "sum"
    PROD = "prod"
    MIN = "min"
    MAX = "max"
    ANY = "any"
    ALL = "all"
    AND = "and"
    OR = "or"
    XOR = "xor"
    ARGMIN = "argmin"  # a tuple (value, position): ties take the lowest position, a NaN wins over every number
    ARGMAX = "argmax"


@dataclass(frozen=True, slots=True, eq=False)
class Monoid:
    """A user's reduction operator on tuples: ``combine`` maps ``left + right`` to one expression per component.

    Associativity was tested on random exact inputs at trace time ("checked, not proved"). ``commutative``: to the last
    bit, so that lanes that combine two values in either order hold the same.
    """

    name: str
    left: tuple[Var, ...]
    right: tuple[Var, ...]
    combine: tuple[Expr, ...]
    identity: tuple[Const, ...]
    commutative: bool


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Argmin for every rank: the definition has the axis ``into`` besides those that it keeps, and its point ``r`` is
    the key (and the position) with exactly ``r`` points before it.

    Keys are in ascending order, or in ``descending`` order; -0.0 is less than 0.0, a NaN is greater than every number,
    and of equal keys the lower position comes first. A rank beyond the number of points has what a reduction of no
    points has: the greatest value (ascending) or the least one, and the position -1.
    """

    into: Axis
    descending: bool

    @property
    def name(self) -> str:
        return "topk" if self.descending else "sort"


def has_position(op: ReduceOp | Monoid | Ranking) -> bool:
    """Whether the operator's second component is the position of a point."""
    return isinstance(op, Ranking) or op in (ReduceOp.ARGMIN, ReduceOp.ARGMAX)


@dataclass(frozen=True, slots=True, eq=False)
class Reduce:
    """``op`` over ``axes`` of ``exprs`` where ``where`` holds (None: everywhere). Points where it does not hold
    contribute nothing. For ARGMIN/ARGMAX and a Ranking ``exprs`` is (key, position): the row-major position over
    ``axes``.

    ``shares``: an axis of the definition that is divided into as many shares as it has points; every point of ``axes``
    is in one of them, whichever the schedule makes it. The compiler makes such reductions, algorithms do not.

    For no points: SUM 0, PROD 1, MAX and ARGMAX's value -inf or the least integer, MIN and ARGMIN's value inf or the
    greatest integer, ANY/OR/XOR zero, ALL/AND all ones, the position -1, a Monoid its identity.
    """

    op: ReduceOp | Monoid | Ranking
    exprs: tuple[Expr, ...]
    axes: tuple[Axis, ...]
    where: Expr | None = None
    shares: Axis | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Every prefix of ``exprs`` along ``axis``, an axis of the definition, combined by ``op`` in scan order.

    Scan order is ascending, or descending if ``reverse``; the left operand of ``op`` comes earlier in it. A point sees
    itself, or if ``exclusive`` only what comes before it, which for the first point is the identity. Where ``reset``
    holds the scan starts anew at that point: what comes before it is not seen by it nor by later points.

    ``every`` n: the scan also starts anew at each multiple of n, counted from 0 whatever the direction; the compiler
    makes such scans, algorithms do not.

    A ``TileOp`` takes ``exprs`` as operands and gives other results at every point, from whole lines along the axis.
    """

    op: ReduceOp | Monoid | TileOp
    exprs: tuple[Expr, ...]
    axis: Axis
    exclusive: bool = False
    reverse: bool = False
    reset: Expr | None = None
    every: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Extern:
    """Result number ``component`` of a call: the whole func, which only a kernel written by hand can store."""

    call: ExternCall
    component: int


Top = Reduce | Scan | Extern | tuple[Expr, ...]
"""The right-hand side of a definition."""


@dataclass(frozen=True, slots=True, eq=False)
class Def:
    """``funcs[axes] = top``. All funcs of a tuple definition share ``axes``.

    Component ``k`` of ``top`` is converted to ``funcs[k].dtype`` as a ``Cast`` would; there is no explicit node for it.
    """

    funcs: tuple[Func, ...]
    axes: tuple[Axis, ...]
    top: Top
    location: Location | None = None

    @property
    def name(self) -> str:
        return self.funcs[0].name


@dataclass(frozen=True, slots=True)
class Dim:
    """A dim of the signature. A free dim (``value`` None) is an argument of the C function; a derived one is computed
    from others."""

    name: str
    value: IntExpr | None = None


@dataclass(frozen=True, slots=True)
class DeviceDim:
    """A dim that only the device knows: ``min(max(source[], 0), room)``, where ``source`` names an integer tensor
    without dims, an input or an output, and ``room`` is over dims of the call."""

    name: str
    source: str
    room: IntExpr

    def value_of(self, count: int, dims: Mapping[str, int]) -> int:
        """The dim, given what the tensor holds."""
        return min(max(count, 0), evaluate(self.room, dims))


@dataclass(frozen=True, slots=True, eq=False)
class Algorithm:
    """One binding of an algorithm: every type and static is concrete. ``defs`` are in definition order: a def reads
    only earlier ones.

    ``facts`` are the ``require=`` conditions over dims: checked at launch and assumed in proofs. ``counts`` are the
    dims that no call knows; they are not among ``dims``.
    """

    name: str
    params: tuple[Param, ...]
    dims: tuple[Dim, ...]
    axes: tuple[Axis, ...]
    defs: tuple[Def, ...]
    facts: tuple[BoolExpr, ...] = ()
    types: tuple[tuple[str, DType], ...] = ()
    statics: tuple[tuple[str, int], ...] = ()
    doc: str = ""
    location: Location | None = None
    counts: tuple[DeviceDim, ...] = ()

    @property
    def rooms(self) -> dict[str, IntExpr]:
        """The most that each dim known on the device only can be."""
        return {count.name: count.room for count in self.counts}

    def with_room(self, value: IntExpr) -> IntExpr:
        """``value`` for the most that such dims can be."""
        return substitute(value, self.rooms)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(p for p in self.params if isinstance(p, Tensor) and p.role is Role.INPUT)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(p for p in self.params if isinstance(p, Tensor) and p.role is Role.OUTPUT)

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(p for p in self.params if isinstance(p, Scalar))

    def definition(self, func: Func) -> Def:
        """The def of ``func``; raises KeyError if it has none."""
        for definition in self.defs:
            if func in definition.funcs:
                return definition
        raise KeyError(func.name)


def group_conditions(axis: Axis) -> tuple[Expr, Expr]:
    """``m >= offsets[e]`` and ``m < offsets[e + 1]`` of a ragged axis."""
    assert axis.ragged is not None
    group = AxisRef(axis.ragged.group)
    following = Op(OpName.ADD, (group, Const(1, INDEX)), INDEX)

    def offset(index: Expr) -> Expr:
        read = Read(axis.ragged.offsets, (index,))  # type: ignore[union-attr]
        return read if read.dtype is INDEX else Cast(read, INDEX)

    low = Op(OpName.GE, (AxisRef(axis), offset(group)), DType.BOOL)
    high = Op(OpName.LT, (AxisRef(axis), offset(following)), DType.BOOL)
    return low, high


def with_groups(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """``axes`` of the left of a definition and the groups that its ragged ones determine; two of one group do not."""
    groups = [axis.ragged.group for axis in axes if axis.ragged is not None]
    return (*axes, *(group for group in groups if groups.count(group) == 1 and group not in axes))


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct subexpressions, in evaluation order."""
    match expr:
        case Const() | ScalarRef() | AxisRef() | DimRef() | Present() | Var():
            return ()
        case Read(indices=indices, absent=absent):
            return indices if absent is None else (*indices, absent)
        case Op(args=args) | Ptx(args=args):
            return args
        case Select(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case Cast(value=value):
            return (value,)
        case _:
            assert_never(expr)


def map_children(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """``expr`` with every direct subexpression replaced by ``change(sub)``; the same object if nothing changed."""
    old = children(expr)
    new = tuple(change(child) for child in old)
    if all(a is b for a, b in zip(old, new, strict=True)):
        return expr
    match expr:
        case Read(source=source, indices=indices, boundary=boundary, location=location):
            count = len(indices)
            return Read(source, new[:count], boundary, new[count] if len(new) > count else None, location)
        case Op(name=name, dtype=dtype):
            return Op(name, new, dtype)
        case Ptx():
            return replace(expr, args=new)
        case Select():
            return Select(*new)
        case Cast(dtype=dtype):
            return Cast(new[0], dtype)
        case _:
            raise AssertionError(f"leaf {expr} has no children")


def walk(expr: Expr) -> list[Expr]:
    """Every node under ``expr``, itself included, each object once, children before parents."""
    seen: dict[int, Expr] = {}

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        for child in children(node):
            visit(child)
        seen[id(node)] = node

    visit(expr)
    return list(seen.values())


def top_exprs(top: Top) -> tuple[Expr, ...]:
    """The root expressions of a definition's right-hand side, the guard or the condition to start anew last."""
    match top:
        case Reduce(exprs=exprs, where=condition) | Scan(exprs=exprs, reset=condition):
            return exprs if condition is None else (*exprs, condition)
        case Extern(call=call):
            return call.operands
        case _:
            return top


def components(top: Top) -> tuple[Expr, ...]:
    """One expression per func of the definition: what it is made of, before any reduction or scan. A ``Var`` stands for
    a result of the user's code."""
    match top:
        case Scan(op=TileOp(results=results)):
            return results
        case Reduce(exprs=exprs) | Scan(exprs=exprs):
            return exprs
        case Extern(call=call, component=component):
            return (Var(call.results[component], call.dtypes[component]),)
        case _:
            return top
