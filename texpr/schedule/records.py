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
from enum import Enum
from typing import Annotated, ClassVar, Final

from texpr.dtypes import DType
from texpr.math.expr import TRUE, BoolExpr, IntExpr
from texpr.schedule.base import (
    Alike,
    Assumption,
    AxisName,
    BufferType,
    Constant,
    Count,
    FileName,
    FuncName,
    LaneCount,
    Limits,
    LoopStep,
    Map,
    NodeName,
    Only,
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


class RelaxKind(Enum):
    """A way to depart from 'exact up to reassociation inside one fixed order'."""

    ROUNDING = "rounding"
    ORDER = "order"
    APPROX = "approx"


class OrderKind(Enum):
    GROUP = "group"
    REVERSE = "reverse"
    HILBERT = "hilbert"


class Start(Enum):
    """When a kernel may start: after those before it in the stream have ended, or while the last one still runs."""

    AFTER = "after"
    EARLY = "early"


class Memory(Enum):
    REGISTERS = "registers"
    SHARED = "shared"
    GLOBAL = "global"


class MmaOp(Enum):
    """Who multiplies. ``AUTO`` takes the best instruction that fits, else ``FMA``; ``MMA`` is the warp-level
    instruction of sm_80 on, ``WGMMA`` that of a warpgroup on sm_90a."""

    AUTO = "auto"
    FMA = "fma"
    MMA = "mma"
    WGMMA = "wgmma"
    TCGEN05 = "tcgen05"


class Base(Enum):
    """How the rows of a tile walk through a ragged axis, whose points differ from row to row."""

    TILE = "tile"  # together: from the first point of the first row to the last one of the last row
    ROW = "row"  # each from its own first point, for as many steps as the longest row takes


class Copy(Enum):
    SYNC = "sync"
    ASYNC = "async"
    TMA = "tma"


class Combine(Enum):
    TWO_PASS = "two_pass"
    ATOMIC = "atomic"
    TURNSTILE = "turnstile"
    CLUSTER = "cluster"


class SplitBy(Enum):
    PROGRAM = "program"


class Aggregate(Enum):
    WARP = "warp"


class TrimMode(Enum):
    """How a trimmed loop treats steps in which the guard holds at some points only. ``MASK``: one loop that tests it
    in every step. ``SPLIT``: a loop without the test over the steps where it holds everywhere, and loops with it."""

    SPLIT = "split"
    MASK = "mask"


class SkipTest(Enum):
    """How a loop finds the steps that it leaves out. ``MASK``: all of them before the loop, a bit each. ``STEP``: one
    after the other, in the loop."""

    MASK = "mask"
    STEP = "step"


class Across(Enum):
    LOOP = "loop"
    TWO_PASS = "two_pass"
    LOOKBACK = "lookback"


NOT_LOWERED: Final[frozenset[Enum]] = frozenset(
    {MmaOp.TCGEN05, Combine.ATOMIC, Combine.TURNSTILE, Combine.CLUSTER}
)
"""Words that are understood and refused with "not lowered yet"."""

OnChip = Annotated[Memory, Only((Memory.REGISTERS, Memory.SHARED))]
SharedOnly = Annotated[Memory, Only((Memory.SHARED,))]


@dataclass(frozen=True, slots=True)
class Program:
    """Once per program, before its loop over tiles."""

    def __str__(self) -> str:
        return "program"


@dataclass(frozen=True, slots=True)
class Tile:
    """Once per tile of the grid."""

    def __str__(self) -> str:
        return "tile"


@dataclass(frozen=True, slots=True)
class LoopOf:
    """In every iteration of the loop in which ``func`` runs over ``axis``."""

    func: str
    axis: str

    def __str__(self) -> str:
        return f"{self.func}.{self.axis}"


Position = Program | Tile | LoopOf


@dataclass(frozen=True, slots=True)
class Num(Record):
    """A number that may be known only at launch. An integer or an expression alone is short for `{value: ...}`."""

    SPELLING: ClassVar[Spelling] = Spelling.SHORT

    value: IntExpr = field(
        metadata=about(
            """The number: an integer, or an expression over dims, statics and `sms` (the device's multiprocessors,
            read once at init) with `+ - * // %`, `min`, `max`, `clamp`, `ceil`.""",
            "clamp(4 * sms // B, 1, 64)",
        )
    )
    max: Count | None = field(
        default=None,
        metadata=about("The largest value it can take, known at build time: it sizes workspace and loops.", "64"),
    )


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
    """The order in which programs take tiles, spelled `{group: axis, by: n}`, `{reverse: axis}` or `{hilbert: [axis,
    axis], by: n}`."""

    SPELLING: ClassVar[Spelling] = Spelling.TAGGED
    LATER: ClassVar[Mapping[str, str]] = {
        "flatten": "one program order over several axes, in pieces of equal size",
        "pieces": "the size of the pieces of `flatten`",
    }

    kind: OrderKind = field(
        metadata=about(
            """`group`: walk `by` tiles of the axis before moving on along the others, so that neighbours meet in L2.
            `hilbert`: squares of `by` x `by` tiles of two axes, each along a Hilbert curve, so that also the last few
            programs started are neighbours along both. `reverse`: from the last tile of the axis to the first (longest
            rows first under a causal guard).""",
            "group",
        )
    )
    axes: tuple[AxisName, ...] = field(metadata=about("An axis of the grid; two for `hilbert`.", "i", bare=True))
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
class Mma(Record):
    """How a contraction is multiplied. `mma: auto` and `mma: fma` are short for `mma: {op: auto}` and `mma: {op:
    fma}`."""

    SPELLING: ClassVar[Spelling] = Spelling.SHORT

    op: MmaOp = field(
        default=MmaOp.AUTO,
        metadata=about(
            """`auto`: the best tensor-core instruction that fits the types and tile, else `fma`. `fma`: ordinary
            multiply-add. `mma`: the warp-level tensor-core instruction (sm_80 on). `wgmma`: that of four warps
            together, which reads staged tiles in shared memory itself (sm_90a; `warps` a multiple of 4, 64 rows or
            more). The last two are refused, with the reason, where none fits.""",
            "mma",
        ),
    )
    rows: tuple[AxisName, ...] = field(
        default=(),
        metadata=about(
            "The axis or axes that form the rows of the instruction. Left out: chosen by the compiler.", "i", bare=True
        ),
    )
    cols: tuple[AxisName, ...] = field(
        default=(),
        metadata=about("The axis or axes that form its columns. Left out: chosen by the compiler.", "j", bare=True),
    )
    a: OnChip | None = field(
        default=None,
        metadata=about(
            """Where `wgmma` reads its A operand; B is read from shared memory. Left out: from shared memory if A is
            staged there as it is, else from registers.""",
            "shared",
        ),
    )


@dataclass(frozen=True, slots=True)
class Skip(Record):
    """A loop that leaves out the steps in which the reduction's guard holds nowhere in the tile, whatever the guard
    is. It has one of these keys."""

    test: SkipTest | None = field(
        default=None,
        metadata=about(
            """`mask`: the guard is tested for all steps before the loop, which then runs over those that are left: at
            most 64 steps, each a bit of a word. Copies run ahead along them. `step`: the guard is tested in each step,
            any number of them; nothing may run ahead in the loop.""",
            "mask",
        ),
    )
    list_: TensorName | None = field(
        default=None,
        metadata=about(
            """An input with a row per tile of the grid's axis that the guard depends on: how many points are left, then
            these points in ascending order, among them all at which the guard holds anywhere in the tile. It has the
            contract `lists` of the axis' extent, and steps are of one point.""",
            "live",
            key="list",
        ),
    )


@dataclass(frozen=True, slots=True)
class Place(Record):
    """Where a func or an output is computed, in what steps, and where its values are kept."""

    LATER: ClassVar[Mapping[str, str]] = {
        "combine": "how inverted updates of several programs meet; they are atomic, and for two passes there is "
        "`split_reduction`",
    }

    at: Position | None = field(
        default=None,
        metadata=about(
            """The level of the loop nest at which it is computed: `program` (once per program), `tile` (once per tile
            of the grid) or `func.axis` (in every iteration of the loop in which func runs over axis).""",
            "tile",
        ),
    )
    where: Memory | None = field(
        default=None, metadata=about("The memory that holds its tile. Left out: registers.", "registers", key="in")
    )
    loop: Map[AxisName, LoopStep] = field(
        default=Map(),
        metadata=about(
            """The loops in which it is computed, outermost first, with the size of one step: its reduction axes, or
            for an output axes that are neither in `grid` nor in `whole`.""",
            "{k: 32}",
        ),
    )
    base: Map[AxisName, Base] = field(
        default=Map(),
        metadata=about(
            """How the loop over a ragged axis goes where the tile has several of its groups. `tile`: once over the
            points of all of them. `row`: each group from its own first point, as many steps as the longest takes. Left
            out: `tile`.""",
            "{p: tile}",
        ),
    )
    by: Map[AxisName, TileSize] = field(
        default=Map(),
        metadata=about(
            """The tile in which it is computed and written, where it is not the whole footprint at once: an epilogue in
            slices, or a footprint such as 34 x 128 that is no power of two.""",
            "{j: 64}",
        ),
    )
    unroll: tuple[AxisName, ...] = field(
        default=(),
        metadata=about(
            """Axes whose values become separate copies of the code: loops with a constant extent, or axes of a
            contraction that nothing else covers, which get an accumulator per point.""",
            "[q]",
        ),
    )
    with_: FuncName | None = field(
        default=None,
        metadata=about("Compute it in the same loops as this func, which is placed already.", "acc", key="with"),
    )
    into: FuncName | None = field(
        default=None, metadata=about("Continue this func's accumulator: the sum of both is kept in one place.", "gx")
    )
    mma: Mma | None = field(
        default=None,
        metadata=about("How its contraction is multiplied. Left out: `auto`.", "{op: mma, rows: i, cols: j}"),
    )
    trim: Annotated[Map[AxisName, TrimMode], Alike(TrimMode.MASK)] = field(
        default=Map(),
        metadata=about(
            """Loops shortened to the part where the reduction's guard can hold: its conjuncts `a*k <= e` and `a*k >= e`
            (also `<`, `>`, `==`), where `e` does not depend on `k`, bound the loop, and `(a*k + e) % c == 0` makes it
            step by `c`, one point at a time; in wider steps, split `k` by `c` into `[ko, ki]` and trim `ki`. `mask`
            tests the guard in every step, `split` only in those where it may fail.""",
            "{k: split}",
        ),
    )
    skip: Map[AxisName, Skip] = field(
        default=Map(),
        metadata=about(
            """Loops that leave out the steps in which the reduction's guard holds nowhere in the tile. Its conjuncts
            that mention the axis, and no other loop of the reduction, decide; they may depend on anything that is known
            outside of the loop. What is left out adds nothing, so results are the same.""",
            "{v: {test: mask}}",
        ),
    )
    invert: tuple[AxisName, ...] = field(
        default=(),
        metadata=about(
            """Run over the axes that a written func reduces over, all of them, and update the func at the index that
            its guard names: `where=key[i] == b`. Updates are atomic: `in: global` one by one, `in: shared` in a copy
            per program (`at: program`, or `at: tile` one per tile), which is added to the memory in the end. Needs
            `fill:` with the value of no points, unless the reduced axes are not in `grid` (but in `loop`) and the copy
            in shared memory is stored. Floats need `relax: [{order: func}]`, unless their order is fixed: one program
            has all points of an element (`split_reduction` gives each its own part), in steps of one point of the
            reduced axes, or with `aggregate: warp` and `warps: 1` in steps of 32 points. Where no two keys are the
            same, because an input with the contract `unique` or `permutation` says so, updates are stores, of any
            type.""",
            "[i]",
            bare=True,
        ),
    )
    aggregate: Aggregate | None = field(
        default=None,
        metadata=about(
            """`warp`: the lanes of a warp that update the same element of an inverted func combine what they have
            (`match.any`, shuffles), and one of them updates it: for keys of which many are the same.""",
            "warp",
        ),
    )
    once: tuple[AxisName, ...] = field(
        default=(),
        metadata=about(
            "Axes of the grid that an inverted func does not run over: only their first point contributes.",
            "[c]",
            bare=True,
        ),
    )
    via: SharedOnly | None = field(
        default=None,
        metadata=about(
            "Pass the tile through this memory on its way out, so that it is written in long rows.", "shared"
        ),
    )
    copy: Annotated[Copy, Only((Copy.SYNC, Copy.TMA))] = field(
        default=Copy.SYNC,
        metadata=about(
            """How an output goes from shared memory to its place. `tma`: boxes that the copy engine moves while the
            program goes on (sm_90a and newer), under the same conditions as in a stage.""",
            "tma",
        ),
    )
    depth: Count = field(
        default=1, metadata=about("How many pieces of an output are on their way at once, with `copy: tma`.", "2")
    )


@dataclass(frozen=True, slots=True)
class Stage(Record):
    """A tile of a tensor or func that is read is held close by. How much of it is inferred from the reads."""

    LATER: ClassVar[Mapping[str, str]] = {"multicast": "fetch a tile once for several programs of a cluster"}

    at: Position = field(
        metadata=about(
            "The level of the loop nest at which the tile is fetched: `program`, `tile` or `func.axis`.", "acc.k"
        )
    )
    where: OnChip = field(
        metadata=about(
            "`shared`: seen by all threads of the program. `registers`: loaded once, used many times.",
            "shared",
            key="in",
        )
    )
    copy: Copy = field(
        default=Copy.SYNC,
        metadata=about(
            "`sync`: through registers. `async`: cp.async, which needs `in: shared` and runs beside the computation. "
            "`tma`: boxes that the copy engine moves by itself (sm_90a and newer), of tensors whose address and pitch "
            "are proved to be multiples of 16 bytes.",
            "async",
        ),
    )
    depth: Count = field(
        default=1,
        metadata=about("How many tiles are held at once: 3 means that two are on their way while one is used.", "3"),
    )
    ahead: Annotated[int, Limits(0)] | None = field(
        default=None,
        metadata=about(
            """How many iterations ahead the tile is fetched. Left out: `depth` - 1, or `depth` - 2 where `wgmma` reads
            it and its product may still be going on in the next iteration.""",
            "1",
        ),
    )
    by: Map[AxisName, TileSize] = field(
        default=Map(),
        metadata=about("The tile of one copy, where the inferred footprint is no power of two.", "{i: 2, j: 256}"),
    )
    swizzle: Annotated[int, Limits(1, 64, power_of_two=True, auto=True)] | None = field(
        default=None,
        metadata=about(
            """After how many rows the exclusive-or pattern of the shared buffer repeats; 1 stores rows as they are.
            `auto` (or left out): derived from the accesses and proved free of bank conflicts.""",
            "8",
        ),
    )


@dataclass(frozen=True, slots=True)
class SplitReduction(Record):
    """Reductions over one axis in several pieces: one grid position each, or what each program of a persistent kernel
    comes across. A later kernel combines `func.part` over the axis `axis.part`."""

    of: tuple[FuncName, ...] = field(metadata=about("The reductions that are split together.", "[acc]"))
    over: AxisName = field(metadata=about("The reduction axis that is divided.", "k"))
    parts: Num | None = field(
        default=None,
        metadata=about(
            "How many pieces. Needs a `max` unless it is a plain number. Left out with `by`.",
            '{value: "2 * sms", max: 64}',
        ),
    )
    by: SplitBy | None = field(
        default=None,
        metadata=about(
            "`program`: a piece is what lies in the tiles of one program of a persistent kernel, whose grid has the "
            "axis. The partial results stay in registers from tile to tile.",
            "program",
        ),
    )
    combine: Combine = field(
        default=Combine.TWO_PASS,
        metadata=about(
            "`two_pass`: the partial results go through workspace to a later kernel; deterministic.", "two_pass"
        ),
    )


@dataclass(frozen=True, slots=True)
class Group(Record):
    """Reductions over the same points that share one pass. Their loop is that of each of them: `at: m.j` is in it."""

    LATER: ClassVar[Mapping[str, str]] = {"rule": "choose between hoisting and rescaling"}

    funcs: tuple[FuncName, ...] = field(metadata=about("The reductions, all over the same axes.", "[m, l]"))
    at: Position = field(metadata=about("The level of the loop nest at which the pass is made.", "tile"))
    loop: Map[AxisName, LoopStep] = field(
        metadata=about("The loops over the reduced axes, outermost first, with the size of one step.", "{j: 4096}")
    )
    trim: Annotated[Map[AxisName, TrimMode], Alike(TrimMode.MASK)] = field(
        default=Map(),
        metadata=about("Loops shortened to the part where the members' guard can hold, as in `place`.", "{j: split}"),
    )
    skip: Map[AxisName, Skip] = field(
        default=Map(),
        metadata=about(
            "Loops that leave out the steps in which the members' guard holds nowhere in the tile, as in `place`.",
            "{j: {test: step}}",
        ),
    )


@dataclass(frozen=True, slots=True)
class TileTrim(Record):
    """Tiles in which the guards of reductions hold nowhere: they get what a reduction of no points is, and nothing is
    computed for them."""

    grid: tuple[AxisName, ...] = field(
        metadata=about(
            """Axes of the grid. The conjuncts that mention one of them, and no axis of a loop, tell which tiles are
            live: affine ones by their extrema over the tile, others by a test of all its points.""",
            "w",
            bare=True,
        )
    )


@dataclass(frozen=True, slots=True)
class Scan(Record):
    """How a scan goes from one tile of its axis to the next. A scan whose axis is in `whole` needs none of this."""

    across: Across = field(
        metadata=about(
            """`loop`: one program takes the tiles one after the other, in scan order, and keeps the state in registers.
            `two_pass`: a program takes one tile; an earlier kernel reduces every tile to `func.part`, another scans
            these along the axis `axis.part` to `func.carry`. `lookback`: a program takes one tile, and learns from
            those before it what they come to: one pass, in which what is scanned is read once. Sums of floats need
            `relax: [{order: func}]`.""",
            "loop",
        )
    )
    by: Map[AxisName, TileSize] = field(metadata=about("The scan's axis, with the size of a tile.", "{i: 1024}"))
    window: TileSize | None = field(
        default=None,
        metadata=about("For `lookback`: how many earlier tiles are looked at together. Left out: 32.", "32"),
    )


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

    LATER: ClassVar[Mapping[str, str]] = {
        "times": "several roles alike, each with a part of the tile",
        "split": "the axis along which they divide the tile",
    }

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


@dataclass(frozen=True, slots=True)
class Kernel(Record):
    """One launch: what it writes, how its tiles cover the outputs, and where everything it needs is computed."""

    LATER: ClassVar[Mapping[str, str]] = {
        "ctas": "programs that share a cluster",
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
    grid: Map[AxisName, TileSize] = field(
        default=Map(),
        metadata=about(
            """The tile that one program computes at a time; the grid covers these axes. Tiles of a ragged axis lie in
            one group each.""",
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
