"""Records of what stands in a loop nest: where funcs are computed, what is staged, which reductions go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from texpr.schedule.base import (
    Alike,
    AxisName,
    Count,
    FuncName,
    Limits,
    LoopStep,
    Map,
    Only,
    Record,
    Spelling,
    TensorName,
    TileSize,
    about,
)
from texpr.schedule.words import (
    Across,
    Aggregate,
    Base,
    Combine,
    Copy,
    Memory,
    MmaOp,
    Num,
    OnChip,
    Position,
    SharedOnly,
    SkipTest,
    SplitBy,
    TrimMode,
)


@dataclass(frozen=True, slots=True)
class Mma(Record):
    """How a contraction is multiplied. `mma: auto` and `mma: fma` are short for `mma: {op: auto}` and `mma: {op:
    fma}`."""

    SPELLING: ClassVar[Spelling] = Spelling.SHORT

    op: MmaOp = field(
        default=MmaOp.AUTO,
        metadata=about(
            """`auto`: the best tensor-core instruction that fits the types and tile (`wgmma` where the operands are
            staged for it, else `mma`), else `fma`. `fma`: ordinary multiply-add. `mma`: the warp-level tensor-core
            instruction (sm_80 on). `wgmma`: that of four warps together, which reads staged tiles in shared memory
            itself (sm_90a; `warps` a multiple of 4, 64 rows or more). The last two are refused, with the reason, where
            none fits.""",
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
    in_flight: Annotated[int, Limits(0, 6)] | None = field(
        default=None,
        metadata=about(
            """How many steps `wgmma` may still be multiplying when the next one begins: their tiles are held so much
            longer, and `depth` must have room for them, one tile that is on its way, and the one in use. Left out: 1
            where `depth` allows it, else 0.""",
            "2",
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
            it and its product may still be going on in the next iteration. In registers: how many iterations before
            its copies a role that gathers loads the indices by which it finds their points, at most 8.""",
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
    keep: tuple[FuncName, ...] = field(
        default=(),
        metadata=about(
            """Funcs and outputs whose own loops over the same axis, in steps of the same size, read the tiles again:
            those of all steps stay in shared memory, so that a row that registers cannot hold is fetched once. `depth`
            is the number of tiles that there is room for; the guard must prove that the axis has no more. Needs
            `copy: async`.""",
            "[l, y]",
            bare=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class SplitReduction(Record):
    """Reductions over one axis in several pieces: one grid position each, along the axis `axis.part`, or what each
    program of a persistent kernel comes across. A later kernel combines `func.part` over the axis `axis.part`, or the
    programs of this one do."""

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
            "axis. The partial results stay in registers from tile to tile. With `combine: turnstile`, what lies in "
            "the share that `order: {flatten: ..}` gives to the program.",
            "program",
        ),
    )
    combine: Combine = field(
        default=Combine.TWO_PASS,
        metadata=about(
            """`two_pass`: the partial results go through workspace to a later kernel. `turnstile`: the programs of a
            tile combine them, in one kernel. Each reduces its part as if it were all, waits for its turn, combines what
            the parts before it come to, which it finds in workspace, with its own, and leaves that to the next one; the
            last one has the result and goes on with it. `axis.part` is in `grid`, in tiles of 1; all else is written as
            without parts: the reductions keep their names and loops. Parts are taken in ascending order either way, so
            that results are the same from run to run, for the same number of parts.""",
            "turnstile",
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
    overlap: tuple[FuncName, ...] = field(
        default=(),
        metadata=about(
            """Members, products of warpgroups (`op: wgmma`), that lag one step behind: they multiply what the step
            before has left in registers, while this step computes what they will multiply next. A step then begins with
            the products of warpgroups that read nothing but staged tiles, and both kinds are in flight at once. The
            tiles that lagging products read stay for another step: `depth: 2` at least, 3 where no role fetches them.
            Results are the same to the last bit.""",
            "u",
            bare=True,
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
