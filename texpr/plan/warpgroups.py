"""What a warpgroup's matrix instruction needs around it: operands where the instruction reads them, and products that
go on while the next step begins.

Operand B, and A if it is staged, are read straight from shared memory. A staged tile must then hold what the
contraction multiplies: zeros at points that do not exist, and where a guard of the operand fails (``zeroed``); its copy
sees to that. Everything else goes through registers, which only operand A can come from.

Some steps, n, may still be multiplied when the next one begins if no copy overwrites what they read. A copy that starts
in step t fills the tile that step t + ahead - depth has read. A barrier comes before it, and all warps that are there
have waited for the product of step t - n - 1; so depth - ahead >= n + 1 is what it takes. Registers of operand A are
written again in the next step: with those there is nothing in flight.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from texpr.instructions import WARPGROUP_WARPS, warpgroup_form
from texpr.lang.ir import Axis, Expr, Func, Read, Tensor
from texpr.lang.show import expr_text
from texpr.plan import checks
from texpr.plan.attach import computed_by, node_loops
from texpr.plan.checks import nodes_of
from texpr.plan.consumers import computed_sizes
from texpr.plan.contraction import NoDot, warpgroup_unit
from texpr.plan.errors import NoInstruction
from texpr.plan.inline import Key, key_of
from texpr.plan.ir import AxisTile, Dot, Group, KernelPlan, Node, Reduction, Stage, Unit, Write
from texpr.plan.resolve import Context
from texpr.schedule.places import Place
from texpr.schedule.words import Memory, MmaOp


@dataclass(slots=True)
class _Decisions:
    """What was found for the nodes of a tree, by their identity."""

    dots: dict[int, Dot] = field(default_factory=dict)
    multiplied: dict[int, tuple[Axis, ...]] = field(default_factory=dict)
    aheads: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Operand:
    """Operand ``"A"`` or ``"B"`` of a contraction: its axes but for the reduced ones, its guards, and what to try
    where it cannot be read from shared memory."""

    letter: str
    expr: Expr
    axes: tuple[Axis, ...]
    where: tuple[Expr, ...]
    instead: str


@dataclass(frozen=True, slots=True)
class _Tiles:
    """A contraction with its reduced axes, and the tiles that lie in shared memory where it is."""

    node: Reduction
    dot: Dot
    reduced: tuple[Axis, ...]
    stages: Mapping[Key, Stage]
    plan: KernelPlan

    def computed(self) -> set[object]:
        """The funcs whose values the kernel holds, each at one place only."""
        return {func for node in nodes_of(self.plan.nodes) for func in computed_by(node)}


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why an instruction cannot read an operand from shared memory."""

    why: str
    hint: str


def with_warpgroups(context: Context, plan: KernelPlan) -> KernelPlan:
    """The plan with every contraction on a warpgroup settled: where operand A is read, what is in flight, and what
    holds of the tiles that are read. Raises ``NoInstruction`` for what no instruction can read."""
    decisions = _Decisions()
    sizes = computed_sizes(plan.record, plan.tile)
    _visit(context, plan, (*plan.prologue, *plan.body), {}, sizes, decisions)
    if not decisions.dots:
        return plan
    return dataclasses.replace(
        plan, prologue=_replaced(plan.prologue, decisions), body=_replaced(plan.body, decisions)
    )


def _visit(
    context: Context,
    plan: KernelPlan,
    nodes: Sequence[Node],
    stages: Mapping[Key, Stage],
    sizes: Mapping[Axis, int],
    decisions: _Decisions,
) -> None:
    """Nodes in order; ``stages`` are the tiles that lie in shared memory where they begin."""
    seen = dict(stages)
    for node in nodes:
        if isinstance(node, Stage) and node.memory is Memory.SHARED and isinstance(node.form, AxisTile):
            seen[key_of(node.form.read)] = node
        local = {**sizes, **{loop.axis: loop.size for loop in node_loops(node)}}
        if isinstance(node, Reduction | Write | Group):
            _visit(context, plan, node.body, seen, local, decisions)
        if isinstance(node, Reduction) and node.dot is not None:
            own = {key_of(s.form.read): s for s in node.body if isinstance(s, Stage) and isinstance(s.form, AxisTile)}
            if node.dot.unit is Unit.WGMMA:
                problem = _settle(context, plan, node, node.dot, {**seen, **own}, local, decisions)
                if problem is not None:
                    at = context.record.place[node.funcs[0].name].location_of("mma")
                    raise NoInstruction(func=node.funcs[0].name, why=problem.why, hint=problem.hint, at=at)
            elif node.dot.unit is Unit.MMA and plan.target.has_wgmma and _is_open(context, node):
                _choose(context, plan, node, node.dot, {**seen, **own}, local, decisions)


def _is_open(context: Context, node: Reduction) -> bool:
    """Whether the schedule asks for whatever instruction is best: ``mma: auto``."""
    place = context.record.place.get(node.funcs[0].name, Place())
    return place.mma is not None and place.mma.op is MmaOp.AUTO


def _choose(
    context: Context,
    plan: KernelPlan,
    node: Reduction,
    dot: Dot,
    stages: Mapping[Key, Stage],
    sizes: Mapping[Axis, int],
    decisions: _Decisions,
) -> None:
    """A warpgroup's instruction if it can read the operands as they are staged, the other way round if it must and the
    schedule leaves that open; else the instruction of a warp, with the reason."""
    asked = context.record.place[node.funcs[0].name].mma
    assert asked is not None
    cut = {name for one in nodes_of(plan.nodes) if isinstance(one, Write) for name, _ in one.chunk}
    fixed = asked.rows or asked.cols or any(axis.name in cut for axis in dot.cols)
    reasons = []
    for one in (dot,) if fixed else (dot, _turned_round(dot)):
        extents = [math.prod(sizes.get(axis, 1) for axis in axes) for axes in (one.rows, one.cols, node.axes)]
        unit = warpgroup_unit(one.a, one.b, node.exprs[0].dtype, extents, plan.target)
        form = warpgroup_form(one.a.dtype, one.b.dtype, plan.target)
        if isinstance(unit, NoDot):
            reasons.append(unit.why)
            continue
        if form is not None and form.coarse:
            reasons.append(f"{form.accuracy}; op: wgmma asks for it")
            continue
        if isinstance(one.a, Read) and key_of(one.a) not in stages and isinstance(one.a.source, Tensor):
            reasons.append(f"{expr_text(one.a)} is not staged")
            continue
        problem = _settle(context, plan, node, dataclasses.replace(one, unit=unit), stages, sizes, decisions)
        if problem is None:
            return
        reasons.append(problem.why)
    decisions.dots[id(node)] = dataclasses.replace(dot, instead=reasons[0])


def _turned_round(dot: Dot) -> Dot:
    """The transposed product, which has the same sums."""
    return dataclasses.replace(
        dot, rows=dot.cols, cols=dot.rows, a=dot.b, b=dot.a, a_where=dot.b_where, b_where=dot.a_where
    )


def _settle(
    context: Context,
    plan: KernelPlan,
    node: Reduction,
    dot: Dot,
    stages: Mapping[Key, Stage],
    sizes: Mapping[Axis, int],
    decisions: _Decisions,
) -> _Problem | None:
    """Decide how a warpgroup multiplies a contraction; or what is in the way, and nothing is decided."""
    place = context.record.place.get(node.funcs[0].name, Place())
    asked = None if place.mma is None else place.mma.a
    wanted = None if place.mma is None else place.mma.in_flight
    if plan.warps % WARPGROUP_WARPS:
        why = f"wgmma takes groups of {WARPGROUP_WARPS} warps; the program has {plan.warps}"
        return _Problem(why, f"warps: {WARPGROUP_WARPS}")
    reduced, rows, cols = (_wide(axes, sizes) for axes in (node.axes, dot.rows, dot.cols))
    tiles = _Tiles(node, dot, reduced, stages, plan)
    second = _Operand("B", dot.b, cols, _needed(context, tiles), _turned(dot, cols))
    b = _stage_of(second, tiles)
    if isinstance(b, _Problem):
        return b
    direct = [(second, b)]
    first = _Operand("A", dot.a, rows, dot.a_where, "a: registers")
    a = None if asked is Memory.REGISTERS else _stage_of(first, tiles)
    if isinstance(a, _Problem) and asked is Memory.SHARED:
        return a
    in_flight: int | _Problem = 0
    a_in = Memory.REGISTERS
    if isinstance(a, Stage):
        direct.append((first, a))
        in_flight, a_in = _in_flight(context, node, wanted, (a, b), decisions), Memory.SHARED
    elif wanted:
        why = f"the registers of operand A are written again in the next step, and {wanted} would still be multiplied"
        in_flight = _Problem(why, "in_flight: 0, or a: shared")
    if isinstance(in_flight, _Problem):
        return in_flight
    for _, stage in direct:
        known = decisions.multiplied.get(id(stage), ())
        decisions.multiplied[id(stage)] = tuple(dict.fromkeys((*known, *reduced)))
    decisions.dots[id(node)] = dataclasses.replace(dot, a_in=a_in, in_flight=in_flight)
    return None


def _needed(context: Context, tiles: _Tiles) -> tuple[Expr, ...]:
    """The guards of operand B without those that zero operand A as well, if B is finite: zero times it is zero."""
    copied = tiles.stages.get(key_of(tiles.dot.a))
    of_a = {key_of(guard) for guard in (*tiles.dot.a_where, *(copied.where if copied is not None else ()))}
    finite = checks.is_finite(context, tiles.dot.b)
    return tuple(guard for guard in tiles.dot.b_where if not (finite and key_of(guard) in of_a))


def _wide(axes: Sequence[Axis], sizes: Mapping[Axis, int]) -> tuple[Axis, ...]:
    return tuple(axis for axis in axes if sizes.get(axis, 1) > 1)


def _turned(dot: Dot, cols: Sequence[Axis]) -> str:
    """What to try where operand B cannot be read from shared memory: the other side as B, if that can be."""
    return f"rows: {', '.join(axis.name for axis in cols)}" if isinstance(dot.a, Read) else "op: mma"


def _stage_of(operand: _Operand, tiles: _Tiles) -> Stage | _Problem:
    """The staged tile that is the operand as it lies in shared memory."""
    expr = operand.expr
    what = f"operand {operand.letter}, {expr_text(expr)},"
    if not isinstance(expr, Read):
        return _Problem(f"{what} is computed, and wgmma reads it from shared memory as it is", operand.instead)
    name = expr.source.name
    stage = tiles.stages.get(key_of(expr))
    if stage is None:
        why = f"{what} is not staged as one tile in shared memory, where wgmma reads it"
        held = isinstance(expr.source, Func) and expr.source in tiles.computed()
        staged = f"stage: {{{name}: {{at: {_position(tiles.node)}, in: shared}}}}"
        return _Problem(why, operand.instead if held else staged)
    assert isinstance(stage.form, AxisTile)
    axes = [axis for axis, _ in stage.form.axes]
    missing = [axis.name for axis in (*operand.axes, *tiles.reduced) if axis not in axes]
    if missing:
        why = f"{what} is the same along {', '.join(missing)}, so that its tile is not the matrix that wgmma reads"
        return _Problem(why, operand.instead)
    form = warpgroup_form(tiles.dot.a.dtype, tiles.dot.b.dtype, tiles.plan.target)
    if form is not None and not form.any_major and axes[-1] not in tiles.reduced:
        along = ", ".join(axis.name for axis in tiles.reduced)
        why = f"{what} lies contiguous along {axes[-1].name}; {expr.dtype} is read contiguous along {along} only"
        return _Problem(why, operand.instead if operand.letter == "A" else "op: mma")
    if operand.where:
        guards = " & ".join(expr_text(guard) for guard in operand.where)
        why = f"{what} is zero unless {guards}, and its copy cannot see to that"
        return _Problem(why, f"copy: sync of {name}, or {operand.instead}")
    return stage


def _position(node: Reduction) -> str:
    return f"{node.funcs[0].name}.{node.loops[-1].axis.name}" if node.loops else "tile"


def _in_flight(
    context: Context, node: Reduction, wanted: int | None, operands: Sequence[Stage], decisions: _Decisions
) -> int | _Problem:
    """How many steps may still be multiplied when the next one begins: those ``wanted``, or else one if every tile that
    the instruction reads outlasts the next step. Copies whose distance the schedule leaves open run less ahead for
    that."""
    count = 1 if wanted is None else wanted
    moving = [stage for stage in operands if any(stage is one for one in node.body)]
    if node.carried is not None or not moving or all(loop.unrolled for loop in node.loops):
        why = "its sums are read in every step" if node.carried is not None else "no step follows another"
        return _Problem(f"{count} steps in flight, but {why}", "in_flight: 0") if wanted else 0
    aheads = {id(stage): _ahead(context, stage, count) for stage in moving}
    for stage in moving if count else ():
        ahead = aheads[id(stage)]
        if ahead >= 1 and stage.depth - ahead >= count + 1:
            continue
        if wanted is None:
            return 0
        why = (
            f"{count} steps in flight, one in use and one on its way need {count + 2} tiles of {stage.name}, which has "
            f"depth {stage.depth}" + (f" and runs {ahead} ahead" if stage.depth >= count + 2 else "")
        )
        return _Problem(why, f"depth: {count + 2} of {stage.name}, or in_flight: {max(stage.depth - 2, 0)}")
    decisions.aheads.update(aheads)
    return count


def _ahead(context: Context, stage: Stage, count: int) -> int:
    """How far ahead a stage is copied that so many steps in flight still read."""
    given = context.record.stage[stage.source.name].ahead
    return stage.ahead if given is not None or not count else min(stage.ahead, max(stage.depth - count - 1, 1))


def _replaced(nodes: Sequence[Node], decisions: _Decisions) -> tuple[Node, ...]:
    result: list[Node] = []
    for node in nodes:
        known = id(node)
        if isinstance(node, Stage) and known in decisions.multiplied:
            ahead = decisions.aheads.get(known, node.ahead)
            node = dataclasses.replace(node, multiplied=decisions.multiplied[known], ahead=ahead)
        elif isinstance(node, Reduction):
            dot = decisions.dots.get(known, node.dot)
            node = dataclasses.replace(node, dot=dot, body=_replaced(node.body, decisions))
        elif isinstance(node, Write | Group):
            node = dataclasses.replace(node, body=_replaced(node.body, decisions))
        result.append(node)
    return tuple(result)
