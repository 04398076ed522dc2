"""How many registers a thread needs at least, found before anything is compiled: tiles that are alive at once.

Counted are the accumulators of contractions and of loops, tiles staged in registers, funcs kept in registers and the
operands that a warpgroup reads from registers. A tile is alive from the node that makes it to the last one that reads
it; what is made element by element takes the place of what is read there for the last time. Nothing else is counted,
neither addresses nor what an expression needs on the way, so that no kernel is refused that could be compiled well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Func
from texpr.plan.attach import node_body, node_exprs, node_loops
from texpr.plan.consumers import computed_sizes
from texpr.plan.copies import count_of
from texpr.plan.errors import RegistersNeeded
from texpr.plan.inline import reads_of
from texpr.plan.ir import AxisTile, Compute, Group, KernelPlan, Node, Prefixes, Reduction, Stage, Unit
from texpr.plan.resolve import Context
from texpr.schedule.words import Memory

_GRANULE = 8  # registers are given to warps in groups of eight per thread


@dataclass(frozen=True, slots=True)
class Tile:
    """Values that a thread keeps: ``registers`` of them, for ``what``."""

    what: str
    registers: int


def check_register_budget(context: Context, plan: KernelPlan) -> None:
    """Raise ``RegistersNeeded`` if the tiles that are alive at once do not fit the registers of a thread."""
    limit = registers_of_thread(plan)
    most = most_tiles(plan)
    needed = sum(tile.registers for tile in most)
    if needed > limit:
        parts = [tile for tile in most if tile.registers]
        widest = max(len(tile.what) for tile in parts)
        raise RegistersNeeded(
            kernel=plan.name,
            needed=needed,
            warps=plan.warps,
            limit=limit,
            excerpt="\n".join(f"{tile.what:{widest}}  {tile.registers:4d} registers" for tile in parts),
            at=context.record.location,
        )


def most_tiles(plan: KernelPlan) -> list[Tile]:
    """The tiles that are alive where a thread keeps most registers."""
    return _most(plan.nodes, (), frozenset(), computed_sizes(plan.record, plan.tile), plan)


def registers_of_thread(plan: KernelPlan) -> int:
    """How many registers a thread that computes has: as its role says, or its share of a multiprocessor."""
    given = next((role.registers for role in plan.roles if role.default), None)
    if given is not None:
        return given
    share = plan.target.registers_per_sm // (32 * plan.warps) // _GRANULE * _GRANULE
    return min(plan.target.registers_per_thread, share)


def _most(
    nodes: Sequence[Node], alive: Sequence[Tile], after: frozenset[object], sizes: Mapping[Axis, int], plan: KernelPlan
) -> list[Tile]:
    """The tiles alive where most are, among nodes in order. ``alive`` outlive them; what ``after`` names is read when
    they are done."""
    held: dict[Func, Tile] = {}
    staged: list[Tile] = []
    most: list[Tile] = list(alive)
    for n, node in enumerate(nodes):
        local = {**sizes, **{loop.axis: loop.size for loop in node_loops(node)}}
        later = after.union(*(_read_below(other) for other in nodes[n + 1 :]))
        dying = sum(tile.registers for func, tile in held.items() if func not in later)
        around = [*alive, *staged, *held.values()]
        own = _accumulators(node, local, plan)
        inside = frozenset(read.source for expr in node_exprs(node) for read in reads_of(expr))
        body = node_body(node)
        candidates = [_most(body, [*around, *own], inside, local, plan)] if body else []
        made = own if isinstance(node, Compute) else _operand(node, local, plan)
        kept = [] if isinstance(node, Compute) else own
        candidates.append([*around, *kept, *_in_place(made, dying)])
        most = max([most, *candidates], key=lambda tiles: sum(tile.registers for tile in tiles))
        held = {func: tile for func, tile in held.items() if func in later}
        held |= {func: tile for func, tile in _left(node, own).items() if func in later}
        if isinstance(node, Stage):
            staged += own
    return most


def _in_place(made: Sequence[Tile], dying: int) -> list[Tile]:
    """What is made element by element, as far as it needs more registers than what is read for the last time."""
    more = [Tile(tile.what, max(0, tile.registers - dying)) for tile in made]
    return [tile for tile in more if tile.registers]


def _accumulators(node: Node, sizes: Mapping[Axis, int], plan: KernelPlan) -> list[Tile]:
    """What a node keeps while it runs."""
    match node:
        case Group(body=body, lagging=lagging):
            kept = [tile for one in body if _is_member(one) for tile in _own_accumulators(one, sizes, plan)]
            behind = [one for one in body if isinstance(one, Reduction) and one.funcs[0] in lagging]
            return [*kept, *(_of_the_step_before(tile) for one in behind for tile in _operand(one, sizes, plan))]
        case _:
            return [] if _is_member(node) else _own_accumulators(node, sizes, plan)


def _of_the_step_before(operand: Tile) -> Tile:
    """What a lagging product reads while the step makes what it will read next."""
    return Tile(f"{operand.what}, of the step before", operand.registers)


def _is_member(node: Node) -> bool:
    """Whether the group that a node stands in keeps its accumulators, through all of the loop."""
    return isinstance(node, Reduction) and node.carried is not None


def _own_accumulators(node: Node, sizes: Mapping[Axis, int], plan: KernelPlan) -> list[Tile]:
    match node:
        case Stage(memory=Memory.REGISTERS) if plan.role_of(node) is not None:
            return []
        case Stage(memory=Memory.REGISTERS, form=AxisTile(axes=axes), source=source):
            count = _count((min(size, sizes.get(axis, size)) for axis, size in axes), plan)
            return [Tile(f"stage of {source.name}", -(-count * source.dtype.bits // 32))]
        case Reduction(into=None, dot=dot, funcs=funcs) if dot is not None:
            axes = (*dot.rows, *dot.cols)
            count = _count((sizes.get(axis, 1) for axis in axes), plan) * count_of(node.copies)
            many = f", {count_of(node.copies)} of them" if node.copies else ""
            return [Tile(f"accumulator of {funcs[0].name}{many}", count * _width(node.exprs[0].dtype))]
        case Reduction(dot=None, funcs=funcs, keep=keep, axes=axes):
            looped = node.loops and node.carried is None
            count = _count((sizes.get(axis, 1) for axis in (*keep, *(axes if looped else ()))), plan)
            return [Tile(func.name, count * _width(func.dtype)) for func in funcs]
        case Compute(memory=Memory.REGISTERS, func=func, axes=axes):
            return [Tile(func.name, _count((sizes.get(axis, 1) for axis in axes), plan) * _width(func.dtype))]
        case Prefixes(funcs=funcs, axes=axes):
            count = _count((sizes.get(axis, 1) for axis in axes), plan)
            return [Tile(func.name, count * _width(func.dtype)) for func in funcs]
        case _:
            return []


def _operand(node: Node, sizes: Mapping[Axis, int], plan: KernelPlan) -> list[Tile]:
    """Operand A of a warpgroup in registers, which all of its instructions read until they are done."""
    if not isinstance(node, Reduction) or node.dot is None or node.dot.unit is not Unit.WGMMA:
        return []
    if node.dot.a_in is not Memory.REGISTERS:
        return []
    count = _count((sizes.get(axis, 1) for axis in (*node.dot.rows, *node.axes)), plan)
    return [Tile(f"operand A of {node.funcs[0].name}", count * node.dot.a.dtype.bits // 32)]


def _left(node: Node, own: Sequence[Tile]) -> dict[Func, Tile]:
    """The values that a node leaves to those after it."""
    match node:
        case Reduction(funcs=funcs) | Prefixes(funcs=funcs):
            return dict(zip(funcs, own, strict=False))
        case Compute(func=func):
            return dict(zip((func,), own, strict=False))
        case Group(body=body):
            members = [func for one in body if isinstance(one, Reduction) and _is_member(one) for func in one.funcs]
            return dict(zip(members, own, strict=False))
        case _:
            return {}


def _read_below(node: Node) -> frozenset[object]:
    own = frozenset(read.source for expr in node_exprs(node) for read in reads_of(expr))
    into = frozenset([node.into]) if isinstance(node, Reduction) and node.into is not None else frozenset()
    return own.union(into, *(_read_below(inner) for inner in node_body(node)))


def _count(sizes: Iterable[int], plan: KernelPlan) -> int:
    """Values per thread of a tile: fewer than one counts as none."""
    total = 1
    for size in sizes:
        total *= size
    return total // (32 * plan.warps)


def _width(dtype: DType) -> int:
    return max(1, dtype.compute.bits // 32)
