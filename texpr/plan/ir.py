"""The loop tree of one kernel.

    KernelPlan ::= tile axes, order, persistence, Node+          (the body of one tile, in execution order)
    Node       ::= Stage | Compute | Reduction | Prefixes | Group | Write
    Stage      ::= a tile of a tensor held in registers or shared memory, as an axis tile or as a window (box) of the
        tensor
    Compute    ::= an elementwise func kept in registers, or over a window in shared memory
    Reduction  ::= a reduction with its loops; its body runs before each step; a Dot when it is a contraction on a
        matrix unit
    Group      ::= reductions that share loops: each is carried through them by its own Reduction in the body
    Prefixes   ::= a scan: every prefix along one axis of the tile, going on from the tile before if it is carried, or
        from the tiles of programs before it if it looks back
    Write      ::= an output or workspace tensor stored tile by tile

Expressions are ``lang.ir`` expressions in which funcs that the schedule does not place have been inlined; a ``Read``
of a func refers to a value some earlier node holds. Axes are the algorithm's own; ``TileAxis``/``LoopAxis`` say how
each one is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from texpr.dtypes import DType
from texpr.lang.ir import (
    NO_BOUNDARY,
    Axis,
    Boundary,
    Def,
    DeviceDim,
    Expr,
    Func,
    Monoid,
    Present,
    Ragged,
    Ranking,
    Read,
    ReduceOp,
    Scalar,
    Tensor,
    Var,
)
from texpr.lang.user_code import TileOp
from texpr.math.expr import BoolExpr, IntExpr, ceildiv
from texpr.plan.online import Member
from texpr.plan.readings import Reading as Reading
from texpr.plan.turns import Turnstile as Turnstile
from texpr.schedule.records import Kernel as KernelRecord
from texpr.schedule.records import Order
from texpr.schedule.words import Base, Copy, Memory, Position, SkipTest, TrimMode
from texpr.targets import Target


class Cover(Enum):
    """How the tiles of an axis come about."""

    GRID = "grid"  # different programs (or turns of a persistent loop)
    WHOLE = "whole"  # one tile covers the axis
    GROUP = "group"  # the group that a tile of a ragged axis lies in
    PROGRAM = "program"  # a point per program of a persistent kernel


@dataclass(frozen=True, slots=True)
class TileAxis:
    """An axis cut into tiles of ``size``. ``full``: every tile lies inside the axis, proved; otherwise ``missing`` is
    a fact that would prove it. ``grouped`` are the groups that no tile crosses. The ``programs`` of a cluster along the
    axis work on as many neighbouring tiles, which are numbered and cut off at the end as one."""

    axis: Axis
    size: int
    cover: Cover
    full: bool
    missing: str = ""
    grouped: Ragged | None = None
    programs: int = 1

    @property
    def together(self) -> int:
        """The points along the axis of all programs of a cluster."""
        return self.size * self.programs

    @property
    def count(self) -> IntExpr:
        """How many tiles there are, those of a cluster as one. Of a grouped axis: numbers of tiles, some of which stand
        for none: group e has those from ``offsets[e] // size + e`` on, enough wherever it begins."""
        if self.grouped is not None:
            return self.axis.extent // self.size + self.grouped.group.extent
        return ceildiv(self.axis.extent, self.together)


@dataclass(frozen=True, slots=True)
class HalfSpace:
    """A guard's conjunct as a bound of an axis: with ``edge = bound / slope`` rounded up, or the next whole number
    ``after`` it, the conjunct says ``axis < edge`` (``below``) or ``axis >= edge``. ``slope`` is positive, ``bound``
    an index expression free of the axis. Where the conjunct depends on other loops of the nest as well, ``bound`` is
    the one at their first points, and ``beside`` has their extents and by how much it grows with each."""

    conjunct: Expr
    slope: int
    bound: Expr
    below: bool
    after: bool
    beside: tuple[tuple[int, IntExpr], ...] = ()


@dataclass(frozen=True, slots=True)
class Congruence:
    """A guard's conjunct that says ``axis % modulus == residue``; the residue is the same all over a tile."""

    conjunct: Expr
    modulus: int
    residue: IntExpr


@dataclass(frozen=True, slots=True)
class Trim:
    """A loop shortened to the points that its guard can hold at."""

    halves: tuple[HalfSpace, ...]
    congruence: Congruence | None
    mode: TrimMode


@dataclass(frozen=True, slots=True)
class PointList:
    """``tensor`` has a row for each tile of ``size`` points of ``axis``: how many points are left, then the points."""

    tensor: Tensor
    axis: Axis
    size: int


@dataclass(frozen=True, slots=True)
class Skip:
    """A loop that leaves out the steps in which ``guard``, conjuncts of its reduction's, holds nowhere in the tile.
    They are found as ``test`` says, at most ``most`` of them (0: any number), or listed."""

    guard: tuple[Expr, ...]
    test: SkipTest | None
    most: int
    listed: PointList | None = None


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """A loop over an axis in steps of ``size``, from the last one to the first if ``reverse``; ``unrolled`` loops have
    literal indices and must have a constant extent. ``trim`` bounds it to what a guard leaves of the axis, ``skip``
    leaves out steps in between; with a ``base`` it runs over the points of the groups that the tile is at."""

    axis: Axis
    size: int
    full: bool
    unrolled: bool
    missing: str = ""
    trim: Trim | None = None
    reverse: bool = False
    base: Base | None = None
    skip: Skip | None = None

    @property
    def tested(self) -> tuple[Expr, ...]:
        """What is evaluated to find out which steps there are."""
        bounds = () if self.trim is None else tuple(half.bound for half in self.trim.halves)
        return bounds if self.skip is None or self.skip.listed is not None else (*bounds, *self.skip.guard)


@dataclass(frozen=True, slots=True)
class AxisTile:
    """A staged tile with one element per point of ``axes`` (buffer order, contiguous axis last): element = ``read``
    at that point."""

    axes: tuple[tuple[Axis, int], ...]
    read: Read


@dataclass(frozen=True, slots=True)
class Window:
    """A staged box of the source: per dim the first index (over tile origins and outer loop variables) and a constant
    extent. ``boundary`` is what its reads do outside of the source, ``edges`` says in which dims they may be there."""

    lo: tuple[IntExpr, ...]
    extent: tuple[int, ...]
    boundary: Boundary = NO_BOUNDARY
    edges: tuple[bool, ...] = ()

    @property
    def points(self) -> int:
        total = 1
        for extent in self.extent:
            total *= extent
        return total


@dataclass(frozen=True, slots=True)
class Stage:
    """A tile of a tensor (or of a func that an earlier kernel has stored) fetched once and read from ``memory``:
    ``depth`` tiles are held, and copies run ``ahead`` steps before their use. ``reads`` are the reads it serves; every
    point of ``copies`` has a tile of its own. The tile is zero where not all of ``where`` hold. A matrix unit
    multiplies it where it lies along the axes of ``multiplied``: it is zero at points of these that do not exist.
    ``kept``: the tiles of all steps stay until the tile of the program is done, and loops over this axis in steps of
    this size read them again. ``part``: the first points, along these axes, of the part of the program's tile that it
    has."""

    source: Tensor | Func
    position: Position
    memory: Memory
    form: AxisTile | Window
    copy: Copy
    depth: int
    ahead: int
    reads: tuple[Read, ...]
    by: tuple[tuple[str, int], ...] = ()
    schedule: str = ""
    copies: tuple[Axis, ...] = ()
    where: tuple[Expr, ...] = ()
    multiplied: tuple[Axis, ...] = ()
    reading: Reading = Reading.STEP
    part: tuple[tuple[Axis, int], ...] = ()
    kept: tuple[Axis, int] | None = None

    @property
    def name(self) -> str:
        """That of the tensor, with where it begins for a part of its tile."""
        starts = [start for _, start in self.part]
        return ".".join([self.source.name, *map(str, starts)]) if any(starts) else self.source.name


@dataclass(frozen=True, slots=True)
class Compute:
    """``func`` evaluated once per tile: in registers over its own axes, or over a window in shared memory, ``by``
    points at a time."""

    func: Func
    axes: tuple[Axis, ...]
    expr: Expr
    memory: Memory
    window: Window | None = None
    by: tuple[tuple[str, int], ...] = ()
    schedule: str = ""


class Unit(Enum):
    """What multiplies in a contraction."""

    MMA = "mma"  # warp-level tensor core instruction (mma.sync)
    WGMMA = "wgmma"  # the instruction of a warpgroup, which reads shared memory itself (sm_90a)
    FMA = "fma"  # scalar fused multiply-add on register tiles


@dataclass(frozen=True, slots=True)
class Dot:
    """A contraction ``sum(a * b)``: ``a`` varies over rows and reduction axes, ``b`` over columns and reduction axes.

    ``a``/``b`` are the operand expressions in the unit's operand type (conversions up to the accumulator type
    stripped), ``a_where`` and ``b_where`` the guards that zero them. ``where`` zeroes sums as a whole: it depends on no
    axis that is reduced. The accumulator is kept in column pieces of ``piece`` columns (0: in one). ``a_in``: where a
    warpgroup's instruction reads operand A; B it reads from shared memory. ``in_flight``: how many steps are still
    being multiplied when the next one begins. ``instead``: why it is not a warpgroup that multiplies, where the
    schedule leaves that open.
    """

    unit: Unit
    rows: tuple[Axis, ...]
    cols: tuple[Axis, ...]
    a: Expr
    b: Expr
    a_where: tuple[Expr, ...] = ()
    b_where: tuple[Expr, ...] = ()
    where: tuple[Expr, ...] = ()
    piece: int = 0
    a_in: Memory = Memory.REGISTERS
    in_flight: int = 0
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Reduction:
    """``funcs`` = reduction of ``exprs`` over ``axes`` where ``where``. Reduction axes are looped (``loops``) or
    whole in the tile. The axis that a ``Ranking`` makes is not among the axes that are kept.

    ``into`` continues the accumulator of an earlier reduction of the same shape instead of starting at the identity.
    ``carried``: the reduction is a member of the ``Group`` in whose body it stands; the group has the loops and the
    accumulators, and ``exprs`` are the summands of all the member's components.
    ``copies`` are kept axes of which every point has an accumulator of its own. ``through_tiles``: the accumulators go
    on from tile to tile of a persistent program, whose epilogue has the result. ``live``: conjuncts of the guard
    without which nothing is computed in tiles where they hold nowhere.
    """

    funcs: tuple[Func, ...]
    keep: tuple[Axis, ...]
    axes: tuple[Axis, ...]
    op: ReduceOp | Monoid | Ranking
    exprs: tuple[Expr, ...]
    where: Expr | None
    loops: tuple[LoopAxis, ...]
    body: tuple[Node, ...]
    dot: Dot | None
    into: Func | None = None
    schedule: str = ""
    carried: Member | None = None
    copies: tuple[Axis, ...] = ()
    through_tiles: bool = False
    live: tuple[Expr, ...] = ()

    @property
    def result(self) -> tuple[Axis, ...]:
        """The axes of the values that it leaves behind."""
        return self.funcs[0].axes if isinstance(self.op, Ranking) else self.keep


@dataclass(frozen=True, slots=True)
class Group:
    """Reductions over ``axes`` that share ``loops``. ``body`` runs in every step, in order: stages, values that the
    members need, and for each member a ``Reduction`` that carries it on. ``live`` is that of every member. ``old`` are
    the variables that hold the values from before the step, ``seen`` the func that counts the points seen so far, with
    its variable. ``lagging`` members multiply in every step what the step before has made, while the reductions
    ``leading`` in the body, which read staged tiles only, are started before anything else."""

    funcs: tuple[Func, ...]
    axes: tuple[Axis, ...]
    loops: tuple[LoopAxis, ...]
    body: tuple[Node, ...]
    old: tuple[tuple[Func, Var], ...]
    seen: tuple[Func, Var] | None
    directive: str
    schedule: str = ""
    live: tuple[Expr, ...] = ()
    lagging: tuple[Func, ...] = ()
    leading: tuple[Func, ...] = ()


@dataclass(frozen=True, slots=True)
class LookBack:
    """How a scan goes on from the tiles before: programs publish what their tiles come to in 64-bit ``words``, those of
    this scan from number ``first`` on. A line has ``tiles`` words that follow each other in scan order, then as many
    for the second word of each tile, if there is one; ``window`` of them are read at a time. ``widths``: the bits of
    the components, which are whether the scan has started anew (if it may), and its values."""

    words: Scratch
    first: IntExpr
    tiles: IntExpr
    window: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """``funcs`` over ``axes`` = every prefix of ``exprs`` along ``axis``, as ``lang.ir.Scan`` says, or what a user's
    function makes of them.

    ``carried``: the node stands in a loop over the axis, in scan order, and goes on from where the step before ended.
    With ``look_back`` it goes on from the tiles of other programs. Otherwise the tile holds whole lines, or lines of
    ``every`` points that start anew.
    """

    funcs: tuple[Func, ...]
    axes: tuple[Axis, ...]
    axis: Axis
    op: ReduceOp | Monoid | TileOp
    exprs: tuple[Expr, ...]
    exclusive: bool
    reverse: bool
    reset: Expr | None
    carried: bool
    schedule: str = ""
    look_back: LookBack | None = None

    @property
    def operator(self) -> ReduceOp | Monoid:
        """What combines prefixes; a function has none."""
        assert not isinstance(self.op, TileOp)
        return self.op


@dataclass(frozen=True, slots=True)
class Update:
    """A write that is combined with what is in memory by ``op``, one atomic operation per point, where all of ``where``
    hold and the indices lie inside of the memory. ``memory``: each program updates the memory itself, or a copy of its
    own in shared memory that it brings to the memory in the end: of the program, or ``each_tile``. Along axes of
    ``once`` only the first point counts.

    ``reduced`` are the axes whose points meet. ``elements`` are the axes of the func with the index of a point's
    element along each, a key or the axis itself. ``owned``: no two programs update the same element. ``single``: no two
    points do, so that each is stored and nothing is combined. ``aggregate``: lanes of a warp with the same element
    combine first.
    """

    op: ReduceOp
    where: tuple[Expr, ...]
    memory: Memory
    once: tuple[Axis, ...]
    reduced: tuple[Axis, ...]
    elements: tuple[tuple[Axis, Expr], ...]
    owned: bool
    each_tile: bool
    single: bool
    aggregate: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Store ``expr`` (rounded to the func's dtype) as ``func[indices]``, over ``axes``; ``loops`` walk axes that the
    tile does not hold.

    ``chunk`` cuts the store into pieces along axes of the tile, so that less of it is in flight at once; ``via_shared``
    passes each piece through explicit shared memory on its way to coalesced stores, or to boxes that the copy engine
    stores while ``depth`` of them are on their way.
    """

    func: Func
    axes: tuple[Axis, ...]
    indices: tuple[Expr, ...]
    expr: Expr
    loops: tuple[LoopAxis, ...]
    body: tuple[Node, ...] = ()
    chunk: tuple[tuple[str, int], ...] = ()
    via_shared: bool = False
    schedule: str = ""
    update: Update | None = None
    copy: Copy = Copy.SYNC
    depth: int = 1


Node = Stage | Compute | Reduction | Prefixes | Group | Write


@dataclass(frozen=True, slots=True)
class Workspace:
    """Global memory that a variant needs besides its arguments: a func kept between kernels, or scratch; dense and
    row-major. It is alive from launch ``first`` to launch ``last``; buffers of one ``slot`` share bytes."""

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]
    elements: IntExpr
    slot: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """Workspace of one kernel: dense and row-major, without contents unless it is filled. ``name`` is that of the
    kernel and its own, as in ``pass1.state``."""

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """Memory set to ``value`` before a kernel, in stream order: ``count`` numbers of ``bits`` bits, each ``pattern``.
    ``name`` is that of the func or scratch; ``output`` its tensor, if it is an argument."""

    name: str
    output: Tensor | None
    value: int | float
    bits: int
    pattern: int
    count: IntExpr


@dataclass(frozen=True, slots=True)
class Persistence:
    """Programs loop over tiles; ``programs`` is how many are launched (over dims and ``sms``)."""

    programs: IntExpr


class Dialect(Enum):
    """What a function is written in: the decorator says so."""

    GLUON = "gluon"
    TRITON = "triton"


@dataclass(frozen=True, slots=True)
class Extern:
    """A function written by hand in place of nodes. ``arguments`` are what its parameters are given, in order: memory,
    an argument of the call, whether an optional tensor was given, or an integer over dims and ``sms``."""

    file: str
    function: str
    text: str
    dialect: Dialect
    programs: IntExpr
    arguments: tuple[tuple[str, Tensor | Func | Scratch | Scalar | Present | IntExpr], ...]


@dataclass(frozen=True, slots=True)
class Count:
    """A dim that programs read from memory when they start."""

    dim: DeviceDim
    source: Tensor | Func


@dataclass(frozen=True, slots=True)
class RolePlan:
    """Warps that run some nodes of the nest: the ``default`` role all that computes, the others the stages that they
    fetch. ``registers`` of each thread, None: as the assembler finds. ``times`` instances of ``warps`` warps compute:
    each a part of the tile along ``split``, or each every ``times``-th tile of the program."""

    name: str
    warps: int
    registers: int | None
    fetches: tuple[str, ...]
    default: bool
    times: int = 1
    split: Axis | None = None

    @property
    def readers(self) -> int:
        """How many instances read one tile that was fetched for them."""
        return self.times if self.split is not None else 1


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """One kernel of a variant on one target. ``limits`` bound dims so that 32-bit offsets inside a tile are exact.
    ``counts`` are the dims that it may need and that only the device knows: programs are launched for the most that
    these can be, and those without a tile do nothing. ``cluster``: how many programs run together along axes of the
    tile; everything else is said of one program."""

    name: str
    variant: str
    target: Target
    record: KernelRecord
    tile: tuple[TileAxis, ...]
    order: Order | None
    persistence: Persistence | None
    warps: int
    prologue: tuple[Node, ...]
    body: tuple[Node, ...]
    writes: tuple[Func, ...]
    fills: tuple[Fill, ...] = ()
    scratch: tuple[Scratch, ...] = ()
    extern: Extern | None = None
    epilogue: tuple[Node, ...] = ()
    counts: tuple[Count, ...] = ()
    roles: tuple[RolePlan, ...] = ()
    cluster: tuple[tuple[Axis, int], ...] = ()
    turnstile: Turnstile | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Everything at the top of the tree, in execution order: once per program, in every tile, once per program."""
        return (*self.prologue, *self.body, *self.epilogue)

    @property
    def tickets(self) -> Scratch | None:
        """Where programs take their numbers, in the order in which they start, if they wait for each other: the first
        word counts them."""
        if self.turnstile is not None:
            return self.turnstile.words
        waiting = (node.look_back for node in self.body if isinstance(node, Prefixes) and node.look_back is not None)
        return next((look_back.words for look_back in waiting), None)

    def passes_on(self, node: Node) -> bool:
        """Whether a node's values are handed from program to program, and only the last one has the nodes after it."""
        funcs = node.funcs if isinstance(node, Reduction | Group) else ()
        return self.turnstile is not None and bool(funcs) and funcs[0] in self.turnstile.funcs

    def role_of(self, stage: Stage) -> RolePlan | None:
        """The role that fetches a stage for another; None: whoever reads it fetches it."""
        return next((role for role in self.roles if not role.default and stage.source.name in role.fetches), None)

    def tile_axis(self, axis: Axis) -> TileAxis | None:
        return next((t for t in self.tile if t.axis is axis), None)


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """All kernels of one variant on one target, in launch order, with the workspace between them."""

    name: str
    target: Target
    guard: BoolExpr
    kernels: tuple[KernelPlan, ...]
    workspace: tuple[Workspace, ...]
    definitions: tuple[Def, ...]
    reproducible: bool = True
