"""``invert``: a reduction guarded by equality with data, as updates of what it reduces to.

    h[b, ..] = sum over i of e(i, ..) where key(i, ..) == b and rest(i, b, ..)

is computed, instead of point by point of ``b``, point by point of ``i``:

    for every i, ..:   h[key(i, ..), ..] += e(i, ..)   where rest(i, key, ..) and 0 <= key < extent of b

The definition is rewritten to an elementwise one over the points that are visited, stored at indices found in data and
combined with what is there. Every visited point contributes once, so all axes of the grid are its axes, or are named by
``once``. The memory holds the operator's identity before the kernel starts (``fill``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from texpr.contracts import ContractKind
from texpr.dtypes import DType
from texpr.lang.index import to_int_expr
from texpr.lang.ir import (
    INDEX,
    Axis,
    AxisRef,
    Cast,
    Def,
    Expr,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    ReduceOp,
    Tensor,
    top_exprs,
)
from texpr.math.expr import sym
from texpr.plan.errors import InvertInvalid, near
from texpr.plan.inline import axes_of, conjuncts, reads_of, substitute
from texpr.plan.ir import Update
from texpr.plan.monoids import identity
from texpr.plan.recut import Recut, axes_of_algorithm
from texpr.schedule.places import Place
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.words import Aggregate, LoopOf, Memory, Tile

_TYPES: Final = {  # what the hardware combines in one atomic operation
    ReduceOp.SUM: {DType.I32, DType.U32, DType.I64, DType.U64, DType.F32, DType.F64},
    ReduceOp.MIN: {DType.I32, DType.U32, DType.I64, DType.U64},
    ReduceOp.MAX: {DType.I32, DType.U32, DType.I64, DType.U64},
    ReduceOp.AND: {DType.I32, DType.U32, DType.I64, DType.U64},
    ReduceOp.OR: {DType.I32, DType.U32, DType.I64, DType.U64},
    ReduceOp.XOR: {DType.I32, DType.U32, DType.I64, DType.U64},
}


@dataclass(frozen=True, slots=True)
class _Request:
    """One func that is to be inverted, and where that was said."""

    func: Func
    place: Place
    record: Kernel
    variant: Variant

    def refusal(self, why: str, hint: str | None = None, key: str = "invert") -> InvertInvalid:
        return InvertInvalid(func=self.func.name, why=why, hint=hint, at=self.place.location_of(key))


def inverted(
    cut: Recut, record: Kernel, variant: Variant, writes: Sequence[Func]
) -> tuple[Recut, Mapping[Func, Update]]:
    """The algorithm with the inverted definitions of a kernel rewritten, and how each is updated. Raises
    ``InvertInvalid``."""
    updates: dict[Func, Update] = {}
    funcs, indices = dict(cut.funcs), dict(cut.indices)
    defs = list(cut.algorithm.defs)
    axes = {axis.name: axis for axis in axes_of_algorithm(cut.algorithm)}
    for func in writes:
        place = record.place.get(func.name)
        if place is None or not place.invert:
            continue
        request = _Request(func, place, record, variant)
        definition = cut.algorithm.definition(func)
        new, update, at = _invert(request, definition, axes, cut.indices.get(func))
        defs[defs.index(definition)] = new
        (moved,) = new.funcs
        updates[moved], indices[moved] = update, at
        funcs[next((old for old, other in cut.funcs.items() if other is func), func)] = moved
    if not updates:
        return cut, {}
    _check_not_read(cut, record, writes)
    return Recut(dataclasses.replace(cut.algorithm, defs=tuple(defs)), funcs, indices), updates


def _check_not_read(cut: Recut, record: Kernel, writes: Sequence[Func]) -> None:
    """An inverted func has its values when all programs are done, so nothing in its kernel reads it."""
    names = {name for name, place in record.place.items() if place.invert}
    pending = [func for func in writes if func.name not in names]
    seen: set[Func] = set()
    while pending:
        reader = pending.pop()
        if reader in seen:
            continue
        seen.add(reader)
        for read in (read for e in top_exprs(cut.algorithm.definition(reader).top) for read in reads_of(e)):
            if not isinstance(read.source, Func):
                continue
            if read.source.name in names:
                why = f"{reader.name} reads it in the same kernel, before all programs have contributed"
                at = record.place[read.source.name].location_of("invert")
                hint = f"write {reader.name} in a later kernel"
                raise InvertInvalid(func=read.source.name, why=why, hint=hint, at=at)
            if any(read.source in definition.funcs for definition in cut.algorithm.defs):
                pending.append(read.source)


def _invert(
    request: _Request, definition: Def, known: Mapping[str, Axis], stored_at: tuple[Expr, ...] | None
) -> tuple[Def, Update, tuple[Expr, ...]]:
    """The definition over the points that are visited, how it updates, and the indices that it updates at."""
    func, place, top = request.func, request.place, definition.top
    if not isinstance(top, Reduce):
        raise request.refusal("it is not a reduction", "remove invert")
    reduced = ", ".join(axis.name for axis in top.axes)
    if sorted(place.invert) != sorted(axis.name for axis in top.axes):
        raise request.refusal(f"it reduces over {reduced}", f"invert: [{reduced}]")
    keys, rest = _keys(definition, top)
    single = place.where is not Memory.SHARED and has_one_point(top, keys)
    known_op = isinstance(top.op, ReduceOp) and (top.op in _TYPES or (single and top.op is ReduceOp.PROD))
    if not isinstance(top.op, ReduceOp) or len(definition.funcs) != 1 or not known_op:
        name = top.op.value if isinstance(top.op, ReduceOp) else top.op.name
        hint = f"remove invert; {', '.join(op.value for op in _TYPES)} are"
        raise request.refusal(f"{name} is no single atomic operation", hint)
    for axis in top.axes:
        if axis.ragged is not None:
            why = f"{axis.name} is ragged: which of its points belong to a group is not in the guard"
            raise request.refusal(why, "remove invert")
    if not single:
        _check_type(request, top.op, top.exprs[0])
    if not keys:
        kept = ", ".join(axis.name for axis in definition.axes)
        why = f"no part of its guard says that one of its axes ({kept}) equals something read over {reduced}"
        raise request.refusal(why, "remove invert")
    kept_axes = tuple(axis for axis in definition.axes if axis not in keys)
    once = _once(request, known, (*kept_axes, *top.axes))
    _check_meeting(request, top.op)
    axes = (*top.axes, *kept_axes, *once)
    expr = substitute(top.exprs[0], keys)
    conditions = tuple(substitute(part, keys) for part in rest)
    plain = stored_at if stored_at is not None else tuple(AxisRef(axis) for axis in definition.axes)
    indices = tuple(substitute(index, keys) for index in plain)
    moved = dataclasses.replace(func, axes=axes)
    update = Update(
        top.op,
        conditions,
        place.where or Memory.GLOBAL,
        once,
        top.axes,
        tuple((axis, keys.get(axis, AxisRef(axis))) for axis in definition.axes),
        owned=_is_owned(request),
        each_tile=place.at == Tile(),
        single=single,
        aggregate=place.aggregate is Aggregate.WARP,
    )
    if update.memory is Memory.SHARED and stored_at is not None:
        raise request.refusal("its axes are split or fused", "in: global", "in")
    return Def((moved,), axes, (expr, *conditions, *keys.values()), definition.location), update, indices


def keyed_axes(definition: Def) -> Mapping[Axis, Expr]:
    """The axes of a reduction that its guard says are equal to data, with it."""
    return _keys(definition, definition.top)[0] if isinstance(definition.top, Reduce) else {}


def has_one_point(top: Reduce, keys: Mapping[Axis, Expr]) -> bool:
    """Whether an element has at most one point: all that are reduced lie along one axis, and a key differs from point
    to point, because the caller says so of the input that it is read from."""
    return len(top.axes) == 1 and any(_differs(key, top.axes[0]) for key in keys.values())


def _differs(key: Expr, axis: Axis) -> bool:
    while isinstance(key, Cast):
        if key.dtype.is_float or key.dtype.bits < key.value.dtype.bits:
            return False
        key = key.value
    if not isinstance(key, Read) or not isinstance(key.source, Tensor) or key.source.optional:
        return False
    kinds = {contract.kind for contract in key.source.contracts}
    (index,) = key.indices if len(key.indices) == 1 else (None,)
    here = isinstance(index, AxisRef) and index.axis is axis
    return here and bool(kinds & {ContractKind.UNIQUE, ContractKind.PERMUTATION})


def _keys(definition: Def, top: Reduce) -> tuple[dict[Axis, Expr], list[Expr]]:
    """The kept axes that the guard says are equal to data, with it, and the guard's other parts."""
    keys: dict[Axis, Expr] = {}
    rest: list[Expr] = []
    for part in conjuncts(top.where):
        found = _key(part, definition, top, keys)
        if found is None:
            rest.append(part)
        else:
            keys[found[0]] = found[1]
    return keys, rest


def _key(part: Expr, definition: Def, top: Reduce, known: Mapping[Axis, Expr]) -> tuple[Axis, Expr] | None:
    if not isinstance(part, Op) or part.name is not OpName.EQ:
        return None
    for mine, other in (part.args, part.args[::-1]):
        axis = next((a for a in definition.axes if to_int_expr(mine) == sym(a.name)), None)
        if axis is None or axis in known or not other.dtype.is_int or other.dtype is DType.U64:
            continue
        mentioned = axes_of(other)
        if mentioned & set(top.axes) and not mentioned & {axis, *known}:
            return axis, other if other.dtype is INDEX else Cast(other, INDEX)
    return None


def _check_type(request: _Request, op: ReduceOp, summand: Expr) -> None:
    dtype = request.func.dtype
    if dtype not in _TYPES[op]:
        types = ", ".join(str(known) for known in DType if known in _TYPES[op])
        raise request.refusal(f"there is no atomic {op.value} of {dtype}", f"a func of one of {types}")
    both = dtype.is_int and summand.dtype.is_int
    wraps = op is not ReduceOp.MIN and op is not ReduceOp.MAX and both and dtype.bits <= summand.dtype.bits
    if summand.dtype is not dtype and not wraps:
        why = f"its summands are {summand.dtype} and would be converted to {dtype} one by one"
        raise request.refusal(why, f"te.func('{request.func.name}', '{summand.dtype}')")


def _once(request: _Request, known: Mapping[str, Axis], own: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes of the grid along which only the first point contributes."""
    found = []
    for name in request.place.once:
        if name not in known or name not in request.record.grid:
            choices = [axis for axis in request.record.grid if axis not in {a.name for a in own}]
            raise request.refusal(f"once: {name} is no axis of the grid", near(name, choices), "once")
        if known[name] in own:
            raise request.refusal(f"once: {name} is one of the axes that it runs over", "remove once", "once")
        found.append(known[name])
    return tuple(found)


def _check_meeting(request: _Request, op: ReduceOp) -> None:
    """Updates of several programs meet in memory: it starts at the identity, and the order in which they come does not
    change the result unless the schedule says that it may."""
    func, record = request.func, request.record
    if request.place.via is not None:
        raise request.refusal("it is updated element by element, not stored in rows", "remove via", "via")
    if isinstance(request.place.at, LoopOf):
        raise request.refusal(f"it is updated at {request.place.at}", "at: tile, or at: program", "at")
    if func.output is not None and func.output.may_alias is not None:
        why = f"it may share memory with {func.output.may_alias}, which would be overwritten"
        raise request.refusal(why, "drop the alias")
    (start,) = identity(op, (func.dtype,))
    value = int(start.value) if not func.dtype.is_float else start.value
    if _is_owned(request) and request.place.where is Memory.SHARED:
        if func.name in record.fill:
            why = "all of its elements are stored: what is there before does not matter"
            at = record.fill.location_of(func.name)
            raise InvertInvalid(func=func.name, why=why, hint="drop the fill", at=at)
    elif func.name not in record.fill or record.fill[func.name] != start.value:
        why = f"its memory must hold {value} before the first update"
        at = record.fill.location_of(func.name) if func.name in record.fill else request.place.location_of("invert")
        raise InvertInvalid(func=func.name, why=why, hint=f"fill: {{{func.name}: {value}}}", at=at)


def _is_owned(request: _Request) -> bool:
    """Whether all points of an element are one program's: the grid does not run over the reduced axes."""
    return not any(name in request.record.grid for name in request.place.invert)
