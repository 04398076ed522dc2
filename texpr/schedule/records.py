"""Schedule records: how an algorithm is computed, as plain frozen data keyed by names.

YAML files and Python calls are two spellings of exactly these records. A record never refers to an algorithm: funcs,
axes and tensors are names, and ``texpr.plan`` checks them. Every record knows where it was written (``location``, and
``location_of(key)`` for one of its keys); places do not take part in equality.

The fields are also the reference: the annotation says which values a directive takes, ``about(...)`` what it means.
Reader, writer, JSON Schema and ``docs/schedule.md`` follow from them (``schema.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from texpr.dtypes import DType
from texpr.math.expr import TRUE, BoolExpr, IntExpr
from texpr.schedule.base import (
    Assumption,
    AxisName,
    BufferType,
    ClusterSize,
    Constant,
    Count,
    FileName,
    FuncName,
    GridTile,
    LaneCount,
    Limits,
    Map,
    NodeName,
    PlainName,
    Record,
    SourceName,
    Spelling,
    TargetName,
    TensorName,
    TileSize,
    TypeName,
    WarpCount,
    about,
)
from texpr.schedule.places import Group, Place, Scan, SplitReduction, Stage, TileTrim
from texpr.schedule.words import Num, OrderKind, RelaxKind, Start


@dataclass(frozen=True, slots=True)
class Relax(Record):
    """One declared departure from exact arithmetic, spelled `{kind: name}`."""

    SPELLING: ClassVar[Spelling] = Spelling.TAGGED

    kind: RelaxKind = field(
        metadata=about(
            """`rounding`: intermediate values of the func may be rounded elsewhere than the algorithm says. `order`:
            its sums may be taken in an order that differs from run to run. `approx`: the named operation may use the
            coarser hardware instruction.""",
            "rounding",
        )
    )
    name: FuncName = field(metadata=about("The func, or for `approx` the operation.", "p"))


@dataclass(frozen=True, slots=True)
class Order(Record):
    """The order in which programs take tiles, spelled `{group: axis, by: n}`, `{reverse: axis}`, `{hilbert: [axis,
    axis], by: n}` or `{flatten: [axis+]}`."""

    SPELLING: ClassVar[Spelling] = Spelling.TAGGED
    LATER: ClassVar[Mapping[str, str]] = {
        "pieces": "`flatten` in pieces of a given size instead of one for every program",
    }

    kind: OrderKind = field(
        metadata=about(
            """`group`: walk `by` tiles of the axis before moving on along the others, so that neighbours meet in L2.
            `hilbert`: squares of `by` x `by` tiles of two axes, each along a Hilbert curve, so that also the last few
            programs started are neighbours along both. `reverse`: from the last tile of the axis to the first (longest
            rows first under a causal guard). `flatten`: the steps of a reduction's loop in all tiles as one sequence,
            the last axis fastest, which is that of the loop; the others are those of the grid. A persistent program
            has an equal share of it (stream-K), and goes from its last tile to its first: what it has of the last one
            is for the next program, and what it lacks of the first one comes from the program before. Goes with
            `split_reduction: {by: program, combine: turnstile}`.
            Shares depend on how many programs there are: sums of floats are the same from run to run on a device, and
            may be rounded otherwise on one with another number of multiprocessors.""",
            "group",
        )
    )
    axes: tuple[AxisName, ...] = field(
        metadata=about(
            "An axis of the grid; two for `hilbert`, all of them and that of the loop for `flatten`.", "i", bare=True
        )
    )
    by: Count | None = field(
        default=None, metadata=about("Tiles per group, or per side of a square (a power of two).", "8")
    )

    @property
    def axis(self) -> str:
        """The first axis, for most kinds the only one."""
        return self.axes[0]


@dataclass(frozen=True, slots=True)
class Persistent(Record):
    """Programs that loop over tiles. `persistent: true` is one wave: as many programs as fit on the device at once."""

    SPELLING: ClassVar[Spelling] = Spelling.SWITCH

    programs: Num | None = field(
        default=None, metadata=about("How many programs are launched. Left out: one wave.", "2 * sms")
    )


@dataclass(frozen=True, slots=True)
class AxisMap(Record):
    """How one tile axis is spread over the threads of a program: `each` elements in a row per thread, then lanes,
    then warps."""

    each: TileSize = field(
        default=1, metadata=about("Neighbouring elements held by one thread: the vector width.", "8")
    )
    lanes: LaneCount = field(
        default=1, metadata=about("Lanes of a warp along the axis. Over all axes at most 32.", "32")
    )
    warps: WarpCount = field(
        default=1, metadata=about("Warps along the axis. Over all axes at most the kernel's `warps`.", "4")
    )


@dataclass(frozen=True, slots=True)
class Split(Record):
    """An axis becomes two: `axis == outer * by + inner`."""

    into: tuple[AxisName, AxisName] = field(metadata=about("The names of the outer and the inner axis.", "[ko, ki]"))
    by: Count = field(metadata=about("The extent of the inner axis.", "64"))


@dataclass(frozen=True, slots=True)
class Extern(Record):
    """A kernel written by hand: a Gluon or Triton function that computes what the kernel writes. It is checked, packed
    and shipped like the compiler's own; the algorithm stays its reference."""

    source: SourceName = field(
        metadata=about(
            """The function, decorated with `@gluon.jit` or `@triton.jit`, in a Python file whose path is relative to
            the schedule's folder. What it mentions in that file comes along, but for imports of what is not
            Triton.""",
            "../kernels/onesweep.py:ranking_pass",
        )
    )
    programs: IntExpr = field(
        metadata=about("How many programs are launched: over dims, statics and `sms`.", '"ceil(N / 4096)"')
    )
    arguments: Map[PlainName, IntExpr] = field(
        default=Map(),
        metadata=about(
            """What the function's parameters are given: a tensor, a func that the kernel writes or that an earlier one
            stored, scratch, a scalar, `has_x` for an optional tensor, or an integer expression; a constant is known
            when the function is compiled. Parameters that are not named here are given what has their own name. Where
            the algorithm calls a `te.extern`, the names of its signature come first, here and in `programs` and
            `scratch`.""",
            "{keys: k1, values: v1, shift: 8}",
        ),
    )


@dataclass(frozen=True, slots=True)
class Role(Record):
    """Warps of a program that run some nodes of the loop nest, beside other roles."""

    warps: WarpCount = field(metadata=about("Warps of the role.", "8"))
    runs: tuple[NodeName, ...] = field(
        metadata=about(
            "What it runs: stages as `stage.x`, everything else by the name of its func. Every node is in one role.",
            "[acc, y]",
        )
    )
    registers: Annotated[int, Limits(24, 256)] | None = field(
        default=None,
        metadata=about(
            """Registers of each of its threads, a multiple of 8. In the sum over roles, the warps of those that only
            fetch are rounded up to groups of four.""",
            "232",
        ),
    )
    times: Annotated[int, Limits(1, 8)] = field(
        default=1,
        metadata=about(
            """How many groups of so many warps compute: each a part of the tile along `split`, or each a tile of its
            own, in turn.""",
            "2",
        ),
    )
    split: AxisName | None = field(
        default=None, metadata=about("The axis along which the groups of `times` divide the tile.", "i")
    )


@dataclass(frozen=True, slots=True)
class Kernel(Record):
    """One launch: what it writes, how its tiles cover the outputs, and where everything it needs is computed."""

    LATER: ClassVar[Mapping[str, str]] = {
        "programs": "a bound on the programs of a ragged grid",
    }

    name: PlainName = field(metadata=about("The kernel's name in generated code and in reports.", "linear_gelu"))
    writes: tuple[FuncName, ...] = field(
        metadata=about(
            """The outputs and funcs that this kernel stores in global memory. A func that a later kernel reads lives in
            workspace.""",
            "[y]",
        )
    )
    grid: Map[AxisName, GridTile] = field(
        default=Map(),
        metadata=about(
            """The tile that one program computes at a time; the grid covers these axes. Tiles of a ragged axis lie in
            one group each. A tile such as 192, 128 + 64, comes in two parts: two accumulators, and two staged tiles of
            what lies along the axis.""",
            "{i: 128, j: 128}",
        ),
    )
    whole: Map[AxisName, TileSize] = field(
        default=Map(),
        metadata=about(
            "Axes that one tile covers entirely, with the size of that tile; the guard must prove that the axis fits.",
            "{j: 1024}",
        ),
    )
    cluster: Map[AxisName, ClusterSize] = field(
        default=Map(),
        metadata=about(
            """Programs that run together and work on neighbouring tiles along axes of `grid`: how many along each, at
            most 8 in all (sm_90a, sm_100a, sm_110a). A box that a role fetches and that is the same for several of them
            comes from memory once and goes to all. `order` and the grid count the tiles of a cluster as one.""",
            "{i: 2}",
        ),
    )
    order: Order | None = field(
        default=None,
        metadata=about("The order of tiles. Left out: the last axis of `grid` fastest.", "{group: i, by: 8}"),
    )
    persistent: Persistent | None = field(
        default=None,
        metadata=about("Launch few programs, each of which loops over tiles. `true`: one wave.", "true"),
    )
    warps: WarpCount | None = field(
        default=None, metadata=about("Warps per program. Left out: chosen by the compiler and printed.", "4")
    )
    roles: Map[PlainName, Role] = field(
        default=Map(),
        metadata=about(
            """Groups of warps that do different things at once, in place of `warps` (sm_90a and newer). One computes,
            others fetch what it reads from shared memory.""",
            "{load: {warps: 1, runs: [stage.x, stage.w]}, compute: {warps: 8, runs: [acc, y]}}",
        ),
    )
    start: Start = field(
        default=Start.AFTER,
        metadata=about(
            """`after`: when the kernel before it in the stream has ended. `early`: its programs start where that one
            leaves room, and wait for its end before they touch memory (programmatic dependent launch, sm_90a and
            newer).""",
            "early",
        ),
    )
    map: Map[AxisName, AxisMap] = field(
        default=Map(),
        metadata=about(
            """How tile axes are spread over the elements, lanes and warps of a program. Axes not named: chosen by the
            compiler.""",
            "{i: {warps: 4}, j: {lanes: 32, each: 8}}",
        ),
    )
    split: Map[AxisName, Split] = field(
        default=Map(),
        metadata=about("Axes cut in two; the new names are used everywhere else.", "{p: {into: [po, pi], by: 2}}"),
    )
    fuse: Map[AxisName, tuple[AxisName, ...]] = field(
        default=Map(),
        metadata=about("A new axis that runs over several, the last fastest.", "{ri: [r, i]}"),
    )
    trim: TileTrim | None = field(
        default=None,
        metadata=about(
            "Leave out the reductions of tiles of the grid in which their guards hold nowhere.", "{grid: w}"
        ),
    )
    visit: Map[AxisName, TensorName] = field(
        default=Map(),
        metadata=about(
            """Axes whose points are taken in the order that an input lists: point `n` of the tiles is point `perm[n]`
            of the axis, in every read and store. The input has the contract `permutation` of the axis' extent; results
            are the same for any. Goes before `split` and `fuse`.""",
            "{i: perm}",
        ),
    )
    reorder: tuple[AxisName, ...] = field(
        default=(), metadata=about("The order of the named loops, outermost first.", "[ko, i, ki]")
    )
    place: Map[FuncName, Place] = field(
        default=Map(),
        metadata=about(
            "Where funcs and outputs are computed. Funcs not named are computed where they are used.",
            "{acc: {at: tile, loop: {k: 32}, mma: auto}}",
        ),
    )
    online: Group | None = field(
        default=None,
        metadata=about(
            """Reductions of which later ones read earlier ones, in one pass: sums are carried over from one running
            value to the next. Refused, with the factor in the way, where that is not exact.""",
            "{funcs: [m, l], at: tile, loop: {j: 4096}}",
        ),
    )
    merge: Group | None = field(
        default=None,
        metadata=about(
            "Reductions that do not read each other, in one pass.", "{funcs: [dv, dk], at: tile, loop: {i: 64}}"
        ),
    )
    stage: Map[TensorName, Stage] = field(
        default=Map(),
        metadata=about(
            "Tiles of tensors and funcs that are held close by.",
            "{x: {at: acc.k, in: shared, depth: 3, copy: async}}",
        ),
    )
    split_reduction: SplitReduction | None = field(
        default=None,
        metadata=about("Divide reductions among programs.", "{of: [acc], over: k, parts: 8}"),
    )
    fill: Map[FuncName, Constant] = field(
        default=Map(),
        metadata=about(
            """Constants to which what the kernel writes, or its scratch, is set before it is launched: a memset in
            stream order. A number is rounded to the element type, as everywhere.""",
            "{s: 0}",
        ),
    )
    scratch: Map[PlainName, BufferType] = field(
        default=Map(),
        metadata=about(
            "Workspace that a hand-written kernel uses while it runs: an element type with a shape over dims.",
            '{state: "u32[2 * N]"}',
        ),
    )
    extern: Extern | None = field(
        default=None,
        metadata=about(
            "The function that computes what this kernel writes, instead of the compiler; with `warps`, `scratch` and "
            "`fill` it is all that such a kernel has.",
            '{source: "mine.py:scan", programs: "ceil(N / 4096)"}',
        ),
    )
    source: FileName | None = field(
        default=None,
        metadata=about(
            """A file that `texpr eject` has written, relative to the schedule's folder: its text is compiled instead of
            what the compiler writes. Refused when the kernel's contract has changed since.""",
            "softmax_rows.py",
        ),
    )
    like: PlainName | None = field(
        default=None,
        metadata=about(
            """An earlier kernel of the variant, whose directives this one takes where it does not give its own; `name`,
            `writes` and the fills of what it writes are its own in any case.""",
            "first_pass",
        ),
    )
    scan: Map[FuncName, Scan] = field(
        default=Map(),
        metadata=about(
            "How scans go on from tile to tile of their axis.", "{s: {across: loop, by: {i: 1024}}}"
        ),
    )


@dataclass(frozen=True, slots=True)
class Variant(Record):
    """One way to compute the algorithm, for some targets, types and sizes. The first whose guard holds is launched."""

    LATER: ClassVar[Mapping[str, str]] = {"algorithm": "another algorithm in the same file"}

    name: PlainName = field(metadata=about("The variant's name.", "wide"))
    target: tuple[TargetName, ...] = field(
        metadata=about("The architectures that it is compiled for.", "[sm_80, sm_90a]", bare=True)
    )
    when: BoolExpr = field(
        default=TRUE,
        metadata=about(
            """The guard: `and`, `or`, `not` over comparisons of dims, statics and `sms` (`+ - * // %`), `aligned(x,
            y, 16)`, `stride(x, 1) == 1`, `present(b)`, `disjoint(x, y)`, `T in [f16, bf16]`. Left out: always.""",
            "M >= 128 and N % 8 == 0 and aligned(x, w, y, 16)",
        ),
    )
    types: Map[TypeName, DType] = field(
        default=Map(), metadata=about("The types that it is for, by type variable. Left out: all.", "{T: f16}")
    )
    relax: tuple[Relax, ...] = field(
        default=(),
        metadata=about(
            "Declared departures from exact arithmetic. A schedule that needs one and does not name it is refused.",
            "[{rounding: p}, {order: h}]",
        ),
    )
    assume: tuple[Assumption, ...] = field(
        default=(),
        metadata=about(
            "Facts about the data that the caller guarantees. `finite(x)`: no NaN or infinity in x, except where a "
            "guard over its own axes leaves it out.",
            "[finite(x)]",
        ),
    )
    kernels: tuple[Kernel, ...] = field(
        default=(), metadata=about("The launches, in order.", "[{name: copy, writes: [y], grid: {i: 1024}}]")
    )


@dataclass(frozen=True, slots=True)
class Schedule(Record):
    """All variants of one algorithm."""

    version: Annotated[int, Limits(1, 1)] = field(
        default=1, kw_only=True, metadata=about("The version of this format.", "1", key="texpr", always=True)
    )
    algorithm: PlainName = field(metadata=about("The name of the algorithm.", "linear_gelu"))
    variants: tuple[Variant, ...] = field(
        metadata=about(
            "The ways to compute it, tried in order.",
            "[{name: any, target: sm_80, kernels: [{name: copy, writes: [y], grid: {i: 1024}}]}]",
        )
    )
