"""Rankings in registers: keys and positions become one unsigned word per point, the least words are found, and they
are taken apart again.

The order of words is that of the ranking: the high half is the key with its bits arranged so that unsigned comparison
orders it (negative floats inverted, the sign flipped; everything inverted where the greatest come first), the low half
the position, so that no two words are equal and ties go to the lower position. All ones stand for a point that does not
count: no key has a position of all ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from texpr.dtypes import DType, Kind
from texpr.lang.ir import Axis, OpName, Ranking, ReduceOp
from texpr.math.bounds import bounds
from texpr.plan.errors import NotLowered
from texpr.plan.ir import Reduction
from texpr.plan.monoids import identity
from texpr.plan.ranking import in_rounds
from texpr.tile import build as tile
from texpr.tile.declarations import Space
from texpr.tile.evaluate import evaluate, live
from texpr.tile.ir import Assign, Full, Literal, Rank, Reduce, Var
from texpr.tile.ir import Expr as TileExpr
from texpr.tile.kernel import Block, Kernel, LowerNodes, assign, origin, space_for
from texpr.tile.loops import emit_loops
from texpr.tile.scope import Scope
from texpr.tile.spaces import blocked_space

_NARROW_POSITIONS = 1 << 16


@dataclass(frozen=True, slots=True)
class Words:
    """How a key and a position share a word: ``half`` bits each."""

    key: DType
    descending: bool
    half: int

    @property
    def dtype(self) -> DType:
        return DType.U32 if self.half == 16 else DType.U64

    @property
    def nothing(self) -> Literal:
        """The word of a point that does not count."""
        return tile.literal((1 << 2 * self.half) - 1, self.dtype)

    @property
    def key_bits(self) -> int:
        return 16 if self.key.bits <= 16 else 32


def lower_ranking(
    node: Reduction, op: Ranking, kernel: Kernel, scope: Scope, block: Block, lower: LowerNodes
) -> Scope:
    """Words of all keys at hand, the least of them in order, and from these the keys and positions by rank."""
    (over,) = node.axes
    looped = bool(node.loops)
    steps = {loop.axis: loop.size for loop in node.loops}
    width = steps.get(over) or scope.lanes(over)
    count = scope.lanes(op.into)
    kept = {axis: scope.lanes(axis) for axis in node.keep if axis in scope.axes}
    exprs = [*node.exprs, *([node.where] if node.where is not None else [])]
    space = space_for(exprs, {**kept, over: width}, kernel, scope, whole=True)
    target = blocked_space(kernel.plan, kernel.grouping, {**kept, op.into: count}, "ranks")
    _check_dims(node, space, target, over, width, op.into, count)
    farthest = bounds(over.extent, scope.facts).hi
    narrow = node.exprs[0].dtype.bits <= 16 and farthest is not None and farthest < _NARROW_POSITIONS
    words = Words(node.exprs[0].dtype, op.descending, 16 if narrow else 32)
    if not narrow:
        kernel.needs.limits[over.extent] = None

    def read(at: Scope) -> TileExpr:
        key, position = (evaluate(expr, at, space, kernel.needs) for expr in node.exprs)
        word = _word(words, key, position)
        conditions = live([over] if over in at.axes else [], at, space)
        if node.where is not None:
            conditions.append(evaluate(node.where, at, space, kernel.needs))
        guard = tile.both(conditions)
        return word if guard is None else tile.choose(guard, word, words.nothing)

    rounds = in_rounds(count, width, looped)
    name = node.funcs[0].name
    if not looped:
        word = read(lower(node.body, kernel, scope, block))
        best = _least(word, None, space, target, over, width, op.into, count, rounds)
    else:
        dims = tuple(range(len(target.dims))) if target is not None else ()
        state = Var(kernel.name(f"{name}_best"), words.dtype, target, dims)
        initial: TileExpr = words.nothing if target is None else Full(words.nothing, words.dtype, target, dims)
        block.add(Assign(state.name, initial, origin=origin(name, node.schedule)))

        def body(at: Scope, inner: Block) -> None:
            least = _least(read(at), state, space, target, over, width, op.into, count, rounds)
            inner.add(Assign(state.name, least, origin=origin(name, node.schedule)))

        emit_loops(node.loops, node.body, body, kernel, scope, block, lower)
        best = state
    best = assign(f"{name}_words", best, kernel, block, node.schedule)
    for func, value in zip(node.funcs, _parts(words, best), strict=True):
        scope = scope.with_value(func, assign(func.name, tile.cast(value, func.dtype), kernel, block, node.schedule))
    return scope


def _check_dims(
    node: Reduction, space: Space | None, target: Space | None, over: Axis, width: int, into: Axis, count: int
) -> None:
    """Keys and ranks each have a dim of their own."""
    for where, axis, size in ((space, over, width), (target, into, count)):
        own = where is not None and any(dim.axes == ((axis.name, size),) for dim in where.dims)
        if size > 1 and not own:
            raise NotLowered(
                what=f"{node.funcs[0].name}, whose axis {axis.name} is joined with others",
                instead="tiles of 1 along the other axes",
            )


def _least(
    word: TileExpr,
    best: TileExpr | None,
    space: Space | None,
    target: Space | None,
    over: Axis,
    width: int,
    into: Axis,
    count: int,
    rounds: bool,
) -> TileExpr:
    """The ``count`` least words along ``over`` (and of ``best``), in order."""
    if width > 1 and count > 1:
        assert space is not None and target is not None
        dim = space.dim_of(over.name)
        assert dim is not None
        everywhere = tuple(range(len(target.dims)))
        return Rank(tile.spread(word, space, dim), best, dim, rounds, word.dtype, target, everywhere)
    if width > 1:
        assert space is not None
        dim = space.dim_of(over.name)
        assert dim is not None
        spread = tile.spread(word, space, dim)
        dims = tuple(d for d in spread.dims if d != dim)
        word = Reduce(ReduceOp.MIN, (spread,), dim, 0, word.dtype, space, dims)
    moved = word if target is None else tile.relayout(word, target)
    if count == 1:
        return moved if best is None else tile.op(OpName.MIN, best, moved)
    assert target is not None
    nothing = tile.literal((1 << word.dtype.bits) - 1, word.dtype)
    first = tile.op(OpName.EQ, tile.lane(target, into.name), tile.uniform(0))
    return tile.choose(first, moved, nothing)


# ---- words ----------------------------------------------------------------------------------------------------------


def _word(words: Words, key: TileExpr, position: TileExpr) -> TileExpr:
    ordered = _ordered(words, key)
    if words.key_bits == 16:
        high = tile.cast(tile.op(OpName.ADD, ordered, tile.literal(1 << 15, DType.I32)), DType.U32)
    else:
        high = tile.op(OpName.XOR, tile.cast(ordered, DType.U32), tile.literal(1 << 31, DType.U32))
    low = tile.cast(tile.cast(position, DType.I32), DType.U32)
    shift = tile.literal(words.half, words.dtype)
    shifted = tile.op(OpName.SHL, tile.cast(high, words.dtype), shift)
    return tile.op(OpName.OR, shifted, tile.cast(low, words.dtype))


def _ordered(words: Words, key: TileExpr) -> TileExpr:
    """An i32 in the order of the ranking; of 16 bits for narrow keys."""
    if key.dtype.is_float:
        wide = key.dtype is DType.F32
        template, constraints = ("mov.b32 $0, $1;", "=r,f") if wide else ("cvt.s32.s16 $0, $1;", "=r,h")
        bits = tile.inline_ptx(template, constraints, [key], (DType.I32,))
        number = tile.cast(key, DType.F32)
        nan = tile.op(OpName.NE, number, number)
        ordered = tile.choose(nan, tile.literal(_NAN[key.dtype], DType.I32), _folded(words, bits))
    elif key.dtype is DType.U32:
        ordered = tile.op(OpName.XOR, tile.cast(key, DType.I32), tile.literal(-(1 << 31), DType.I32))
    elif key.dtype.kind is Kind.UNSIGNED:
        ordered = tile.op(OpName.SUB, tile.cast(key, DType.I32), tile.literal(1 << 15, DType.I32))
    else:
        ordered = tile.cast(key, DType.I32)
    return tile.op(OpName.NOT, ordered) if words.descending else ordered


_NAN = {DType.F16: 0x7E00, DType.BF16: 0x7FC0, DType.F32: 0x7FC00000}
"""The pattern that stands for every NaN, above that of infinity."""


def _folded(words: Words, bits: TileExpr) -> TileExpr:
    """Sign and magnitude to two's complement order and back: negative numbers have all bits but the sign inverted."""
    sign = tile.op(OpName.SHR, bits, tile.literal(31, DType.I32))
    mask = tile.literal((1 << (words.key_bits - 1)) - 1, DType.I32)
    return tile.op(OpName.XOR, bits, tile.op(OpName.AND, sign, mask))


def _parts(words: Words, word: TileExpr) -> tuple[TileExpr, TileExpr]:
    """The key and the position of a word."""
    high = tile.cast(tile.op(OpName.SHR, word, tile.literal(words.half, words.dtype)), DType.U32)
    if words.half == 16:
        low = tile.cast(tile.op(OpName.AND, word, tile.literal(0xFFFF, DType.U32)), DType.I32)
    else:
        low = tile.cast(tile.cast(word, DType.U32), DType.I32)
    if words.key_bits == 16:
        ordered = tile.op(OpName.SUB, tile.cast(high, DType.I32), tile.literal(1 << 15, DType.I32))
    else:
        ordered = tile.cast(tile.op(OpName.XOR, high, tile.literal(1 << 31, DType.U32)), DType.I32)
    if words.descending:
        ordered = tile.op(OpName.NOT, ordered)
    missing = tile.op(OpName.EQ, word, words.nothing)
    (none,) = identity(ReduceOp.MAX if words.descending else ReduceOp.MIN, (words.key,))
    key = tile.choose(missing, tile.literal(none.value, words.key), _key(words, ordered))
    return key, tile.choose(missing, tile.literal(-1, DType.I32), low)


def _key(words: Words, ordered: TileExpr) -> TileExpr:
    key = words.key
    if key.is_float:
        bits = _folded(words, ordered)
        template, constraints = ("mov.b32 $0, $1;", "=f,r") if key is DType.F32 else ("cvt.u16.u32 $0, $1;", "=h,r")
        return tile.inline_ptx(template, constraints, [bits], (key,))
    if key is DType.U32:
        return tile.cast(tile.op(OpName.XOR, ordered, tile.literal(-(1 << 31), DType.I32)), key)
    if key.kind is Kind.UNSIGNED:
        return tile.cast(tile.op(OpName.ADD, ordered, tile.literal(1 << 15, DType.I32)), key)
    return tile.cast(ordered, key)
