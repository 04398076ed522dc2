"""``into``: a reduction that continues the accumulator of another instead of starting its own.

    place: {gx: {loop: {k: 64}}, gh: {into: gx, loop: {l: 64}}}        where the algorithm reads gx and gh only as gx
        + gh

The sum costs nothing then, and one accumulator is held. Legal if both are contractions over the same rows and columns
that are read nowhere but in their sum; rounding at either func would have to happen in between, so both must be
unrounded accumulators.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from texpr.lang.ir import Expr, Func, Op, OpName, Read
from texpr.plan.attach import node_exprs
from texpr.plan.checks import nodes_of
from texpr.plan.errors import IntoNotSum
from texpr.plan.inline import key_of, reads_of, rewrite
from texpr.plan.ir import Compute, Group, Node, Prefixes, Reduction, Stage, Write
from texpr.plan.resolve import Context


def continue_accumulators(context: Context, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Apply every ``into`` of the kernel."""
    result = tuple(nodes)
    for name, place in context.record.place.items():
        if place.into is not None:
            result = _continue(context, result, name, place.into)
    return result


def _continue(context: Context, nodes: tuple[Node, ...], name: str, into: str) -> tuple[Node, ...]:
    reductions = {n.funcs[0].name: n for n in nodes if isinstance(n, Reduction) and n.dot is not None}
    later, earlier = reductions.get(name), reductions.get(into)

    def refuse(why: str) -> IntoNotSum:
        place = context.record.place[name]
        return IntoNotSum(func=name, into=into, why=why, at=place.location_of("into"))

    if later is None or earlier is None:
        raise refuse("both must be contractions on a matrix unit at the tile")
    if nodes.index(earlier) > nodes.index(later):
        raise refuse(f"{into} is computed after {name}")
    if later.keep != earlier.keep or later.copies != earlier.copies:
        raise refuse("they have different axes, or unroll different ones")
    if later.dot is None or earlier.dot is None or later.dot.unit is not earlier.dot.unit:
        raise refuse("different units multiply them")
    if later.dot.where:
        raise refuse(f"a guard of {name} decides over its sums as a whole")
    if any(node.exprs[0].dtype is not node.funcs[0].dtype for node in (earlier, later)):
        raise refuse("one of them is rounded to its own type before the sum")
    first, second = earlier.funcs[0], later.funcs[0]
    replaced = tuple(_without_sum(node, first, second) for node in nodes)
    for node in nodes_of(replaced):
        if any(read.source is first for expr in node_exprs(node) for read in reads_of(expr)):
            raise refuse(f"{into} is read on its own as well")
    return tuple(dataclasses.replace(n, into=first) if n is later else n for n in replaced)


def _same_point(first: Read, second: Read) -> bool:
    return [key_of(index) for index in first.indices] == [key_of(index) for index in second.indices]


def _without_sum(node: Node, first: Func, second: Func) -> Node:
    """``first + second`` becomes ``second``, which holds the sum."""

    def change(expr: Expr) -> Expr | None:
        if isinstance(expr, Op) and expr.name is OpName.ADD:
            reads = [arg for arg in expr.args if isinstance(arg, Read)]
            sources = [read.source for read in reads]
            if len(reads) == 2 and set(sources) == {first, second} and _same_point(*reads):
                return expr.args[sources.index(second)]
        return None

    match node:
        case Compute(expr=expr):
            return dataclasses.replace(node, expr=rewrite(expr, change))
        case Write(expr=expr, body=body):
            return dataclasses.replace(
                node, expr=rewrite(expr, change), body=tuple(_without_sum(n, first, second) for n in body)
            )
        case Reduction(funcs=funcs) if first in funcs or second in funcs:
            return node
        case Reduction(exprs=exprs, where=where, body=body):
            return dataclasses.replace(
                node,
                exprs=tuple(rewrite(e, change) for e in exprs),
                where=None if where is None else rewrite(where, change),
                body=tuple(_without_sum(n, first, second) for n in body),
            )
        case Group(body=body):
            return dataclasses.replace(node, body=tuple(_without_sum(n, first, second) for n in body))
        case Prefixes(exprs=exprs, reset=reset):
            return dataclasses.replace(
                node,
                exprs=tuple(rewrite(e, change) for e in exprs),
                reset=None if reset is None else rewrite(reset, change),
            )
        case Stage():
            return node
