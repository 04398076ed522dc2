"""``split_reduction: {combine: turnstile}``: the programs of a tile combine their parts of a reduction, in one kernel.

    split_reduction: {of: [acc], over: k, parts: P, combine: turnstile}        grid: {i: 128, j: 128, k.part: 1}

The axis is cut in two for this kernel (``parts``), and the grid has a program for every part of a tile. A program
reduces its part as if there were no others. Then it waits for its turn, takes over what the parts before it come to,
and either leaves the two combined to the next one or, as the last one, goes on with the nodes that follow. Turns are
in the order of the parts: results do not depend on timing. They are a chain, one hand-over after the other, which
is for a few parts of a tile.

Programs number themselves in the order in which they start, and parts of a tile are numbered in ascending order, so
those that a program waits for are running or done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import Axis, Expr
from texpr.math.expr import IntExpr, const
from texpr.math.integer import product
from texpr.plan import ragged
from texpr.plan.attach import node_body, node_exprs, node_names
from texpr.plan.errors import NotLowered, SplitNotAssociative, TurnstileInvalid
from texpr.plan.flatten import check_flattened, shared_loop, steps_in_turn
from texpr.plan.ir import Cover, Group, LoopAxis, Node, Prefixes, Reduction, Scratch, TileAxis, Turnstile, Write
from texpr.plan.monoids import kept_as
from texpr.plan.parts import by_turns, check_in_turns, part_axis
from texpr.plan.resolve import Context, constant, mentioned
from texpr.plan.shares import programs_of
from texpr.schedule.places import SplitReduction
from texpr.schedule.words import OrderKind


def turnstile_of(context: Context, nodes: Sequence[Node], tile: Sequence[TileAxis]) -> Turnstile | None:
    """How the programs of a kernel take turns; ``nodes`` are those of a tile, in order. Raises ``TurnstileInvalid`` and
    ``NotLowered``."""
    record = by_turns(context.record)
    if record is None:
        return None
    node = _one_node(context, record, nodes)
    axis = part_axis(context)
    shared = None if axis is not None else shared_loop(context, record, node, nodes)
    axis = axis if shared is None else shared.axis
    assert axis is not None
    _check_order(context, record, axis, shared)
    _check_kernel(context, record, nodes, shared)
    _check_after(context, record, axis, node, nodes)
    rows = product(t.count for t in tile if t.cover is Cover.GRID and t.axis is not axis)
    if shared is not None:
        rows = programs_of(context.record, steps_in_turn(context, rows), context.algorithm.statics)
    words = Scratch(f"{context.record.name}.turns", DType.U64, (1 + rows,))
    return Turnstile(node.funcs, axis, words, tuple(_states(context, node, tile, rows)), shared)


def check_parts_of_grid(context: Context, tile: Sequence[TileAxis]) -> None:
    """Programs that take turns have a part of a tile each."""
    record = by_turns(context.record)
    check_flattened(context, record)
    if record is None:
        return
    name, axis = f"{record.over}.part", part_axis(context)
    computed = {func.name for definition in context.needed for func in definition.funcs}
    absent = next((func for func in record.of if func not in computed), None)
    if absent is not None:
        why = f"kernel {context.record.name} does not compute it"
        raise TurnstileInvalid(func=absent, why=why, hint="remove split_reduction", at=record.location)
    own = next((t for t in tile if t.axis is axis), None)
    if record.parts is not None and (own is None or own.cover is not Cover.GRID or own.size != 1):
        why = f"a program has one part of a tile, and the grid does not say so of {name}"
        at = context.record.grid.location_of(name) or record.location
        raise TurnstileInvalid(func=record.of[0], why=why, hint=f"grid: {{{name}: 1}}", at=at)
    for t in tile:
        if t.cover is Cover.GRID and ragged.knows_its_group(context, t.axis):
            why = f"tiles along {t.axis.name} lie in groups, and their number is not known before"
            at = context.record.grid.location_of(t.axis.name)
            raise TurnstileInvalid(func=record.of[0], why=why, hint="combine: two_pass", at=at)


def _one_node(context: Context, record: SplitReduction, nodes: Sequence[Node]) -> Reduction | Group:
    """The reduction, or the group of reductions, that has all that is combined in turn."""
    first = record.of[0]
    for node in nodes:
        if not isinstance(node, Reduction | Group):
            continue
        own = [func.name for func in node.funcs]
        if first not in own:
            continue
        other = next((name for name in record.of if name not in own), None)
        if other is not None:
            why = f"{other} is reduced in another loop, and programs take turns once"
            hint = f"merge: {{funcs: [{', '.join(record.of)}], at: tile, loop: {{{record.over}: 64}}}}"
            raise TurnstileInvalid(func=first, why=why, hint=hint, at=record.location_of("of"))
        for func in node.funcs:
            check_in_turns(context, context.algorithm.definition(func))
        if isinstance(node, Group):
            _check_sums(node, record)
        if isinstance(node, Reduction) and node.into is not None:
            raise NotLowered(
                what=f"combine: turnstile of {first}, which continues {node.into.name},",
                instead="no into",
                at=record.location_of("combine"),
            )
        return node
    why = "it is not reduced once for every tile"
    raise TurnstileInvalid(func=first, why=why, hint=f"place: {{{first}: {{at: tile}}}}", at=record.location_of("of"))


def _check_sums(group: Group, record: SplitReduction) -> None:
    """Members have no sums beside their own: those of a mean, which is not that of the points of a part."""
    members = [one.carried for one in group.body if isinstance(one, Reduction) and one.carried is not None]
    for member in members:
        if group.seen is not None or len(member.parts) > len(member.definition.funcs):
            why = "it is a polynomial in an earlier reduction; parts of helper sums are not lowered yet"
            raise SplitNotAssociative(func=member.func.name, why=why, at=record.location)


def _check_order(context: Context, record: SplitReduction, axis: Axis, shared: LoopAxis | None) -> None:
    """Parts of a tile are numbered in ascending order."""
    order = context.record.order
    if shared is not None or order is None or axis.name not in order.axes or order.kind is OrderKind.GROUP:
        return
    way = "comes to some of them later" if order.kind is OrderKind.HILBERT else "begins with the last"
    why = f"programs wait for the parts before theirs, and this order {way}"
    at = context.record.location_of("order")
    raise TurnstileInvalid(func=record.of[0], why=why, hint=f"an order without {axis.name}", at=at)


def _check_kernel(context: Context, record: SplitReduction, nodes: Sequence[Node], shared: LoopAxis | None) -> None:
    first = record.of[0]
    if shared is None and context.record.persistent is not None:
        why = "a program that loops over tiles would wait for tiles of its own"
        at = context.record.location_of("persistent")
        raise TurnstileInvalid(func=first, why=why, hint="remove persistent", at=at)
    if context.record.cluster:
        why = "programs of a cluster start together, and take their numbers in any order"
        at = context.record.location_of("cluster")
        raise TurnstileInvalid(func=first, why=why, hint="remove cluster", at=at)
    for node in nodes:
        if isinstance(node, Prefixes) and node.look_back is not None:
            raise NotLowered(
                what=f"combine: turnstile of {first} in a kernel that looks back",
                instead="a kernel of its own",
                at=record.location_of("combine"),
            )
        if isinstance(node, Write) and node.update is not None:
            raise NotLowered(
                what=f"combine: turnstile of {first} in a kernel with updates of {node.func.name}",
                instead="a kernel of its own",
                at=record.location_of("combine"),
            )


def _check_after(
    context: Context, record: SplitReduction, axis: Axis, node: Reduction | Group, nodes: Sequence[Node]
) -> None:
    """What the last program goes on with is the same for all parts."""
    for func in context.writes:
        if axis in func.axes:
            why = f"{func.name} has a part of its own for every program, and the last one of a tile stores"
            at = context.record.location_of("writes")
            raise TurnstileInvalid(func=record.of[0], why=why, hint="another kernel for it", at=at)
    after = nodes[next(n for n, one in enumerate(nodes) if one is node) + 1 :]
    for other in after:
        if axis in mentioned(_every_expr(other)):
            why = f"{node_names(other)[0]} depends on {axis.name}, and the last program of a tile has one part"
            raise TurnstileInvalid(func=record.of[0], why=why, hint="another kernel for it", at=record.location)


def _every_expr(node: Node) -> list[Expr]:
    return [*node_exprs(node), *(expr for inner in node_body(node) for expr in _every_expr(inner))]


def _states(
    context: Context, node: Reduction | Group, tile: Sequence[TileAxis], tiles: IntExpr
) -> list[Scratch]:
    """A row for every tile, for each component of what is combined."""
    sizes = {t.axis: t.size for t in tile}
    members = [node] if isinstance(node, Reduction) else [
        one for one in node.body if isinstance(one, Reduction) and one.carried is not None
    ]
    found: list[Scratch] = []
    for member in members:
        elements = math.prod(sizes.get(axis) or constant(axis.extent) or 1 for axis in member.keep)
        if member.carried is not None:
            dtypes = [part.dtype for part in member.carried.parts]
        else:
            dtypes = [kept_as(expr, func) for expr, func in zip(member.exprs, member.funcs, strict=True)]
        names = [func.name for func in member.funcs]
        names += [f"{names[0]}.{n}" for n in range(1, 1 + len(dtypes) - len(names))]
        for name, dtype in zip(names, dtypes, strict=True):
            found.append(Scratch(f"{context.record.name}.{name}", dtype, (tiles, const(elements))))
    return found

