"""Lowering of scans that look back: where programs meet, and what they tell each other there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from texpr.lang.ir import Monoid, ReduceOp
from texpr.math.expr import IntExpr, const, sym
from texpr.plan.access import memory_of
from texpr.plan.ir import Cover, LookBack, Prefixes
from texpr.plan.monoids import scan_monoid
from texpr.plan.resolve import constant
from texpr.plan.words import word_count
from texpr.tile.communicate import LookBack as LookBackStatement
from texpr.tile.communicate import Publish
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.ir import Var
from texpr.tile.kernel import Block, Kernel, assign, origin
from texpr.tile.monoids import combine
from texpr.tile.scope import Scope
from texpr.tile.uniform import Scalar


@dataclass(frozen=True, slots=True)
class Told:
    """What a program has told others: ``total``, in a word of a line that begins at ``start``; ``tile`` tiles of the
    line come before its own."""

    node: Prefixes
    look_back: LookBack
    words: str
    start: IntExpr
    tile: IntExpr
    total: tuple[Var, ...]


def publish_tile(
    node: Prefixes, look_back: LookBack, total: Sequence[TileExpr], kernel: Kernel, scope: Scope, block: Block
) -> Told:
    """Tell other programs what this tile comes to: ``total``, preceded by whether the scan starts anew in it (1 or 0)
    if it may; every component a scalar."""
    name = node.funcs[0].name
    words = memory_of(look_back.words, scope.guard).name
    kernel.needs.tensors[words] = look_back.words
    kernel.needs.limits[look_back.words.shape[0]] = None
    number, line = _number(node, look_back, kernel, scope)
    tile = sym(kernel.name(f"{node.axis.name}_tile"))
    block.add(Scalar(tile.name, number, "tiles before this one"))
    start = look_back.first + line * (word_count(look_back.widths) * look_back.tiles)
    if constant(start) is None:
        words_name = kernel.name(f"{name}_words")
        block.add(Scalar(words_name, start, "where the words of its line begin"))
        start = sym(words_name)
    own = tuple(assign(f"{name}_total", value, kernel, block, node.schedule) for value in total)
    at = origin(name, node.schedule)
    block.add(Publish(words, start + tile, look_back.tiles, False, own, look_back.widths, at))
    return Told(node, look_back, words, start, tile, own)


def before_the_tile(told: Told, kernel: Kernel, block: Block) -> tuple[TileExpr, ...]:
    """What the tiles before this one come to. Others are told what that comes to with this one."""
    node, look_back = told.node, told.look_back
    name, op = node.funcs[0].name, _state_operator(node)
    at = origin(name, node.schedule)
    dtypes = tuple(value.dtype for value in told.total)
    before = tuple(Var(kernel.name(f"{name}_before"), dtype, None, ()) for dtype in dtypes)
    names = tuple(var.name for var in before)
    stride, window, widths = look_back.tiles, look_back.window, look_back.widths
    block.add(LookBackStatement(names, told.words, told.start, stride, told.tile, window, op, dtypes, widths, at))
    upto = tuple(
        assign(f"{name}_upto", value, kernel, block, node.schedule) for value in combine(op, before, told.total)
    )
    block.add(Publish(told.words, told.start + told.tile, stride, True, upto, widths, at))
    return before[-len(node.funcs) :]


def _state_operator(node: Prefixes) -> ReduceOp | Monoid:
    if node.reset is None:
        return node.operator
    return scan_monoid(node.operator, tuple(expr.dtype for expr in node.exprs), flagged=True, exclusive=False)


def _number(node: Prefixes, look_back: LookBack, kernel: Kernel, scope: Scope) -> tuple[IntExpr, IntExpr]:
    """The number of the tile in its line, in scan order, and that of the line: row-major over the rest of the grid."""
    line: IntExpr = const(0)
    number: IntExpr = const(0)
    for t in kernel.plan.tile:
        if t.cover is not Cover.GRID:
            continue
        position = scope.axes[t.axis].origin // t.size
        if t.axis is node.axis:
            number = look_back.tiles - 1 - position if node.reverse else position
        else:
            line = line * t.count + position
    return number, line
