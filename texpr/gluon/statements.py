"""Statements of a tile program as lines of the function."""

from __future__ import annotations

import dataclasses
import math
from pathlib import PurePath
from typing import Final, assert_never

from texpr.aot.ir import Origin
from texpr.gluon.aggregate import aggregated
from texpr.gluon.expressions import access_parts, combined, root, typed
from texpr.gluon.expressions import value as computed
from texpr.gluon.function import INDENT, WIDTH, Block, Function
from texpr.gluon.helpers import ASYNC_COPY
from texpr.gluon.integers import NONNEGATIVE, narrow_text, range_of
from texpr.gluon.lookback import look_back, publish, ticket
from texpr.gluon.memory import address, buffer_view, to_storage
from texpr.gluon.names import Hint
from texpr.gluon.protocol import protocol
from texpr.gluon.roles import specialise
from texpr.gluon.shapes import lift, shape_of, spread
from texpr.gluon.text import Text, call, method
from texpr.gluon.turnstile import await_turn, pass_turn, receive
from texpr.lang.ir import ReduceOp
from texpr.math.expr import Const, IntExpr, Sym, free_symbols
from texpr.math.intervals import ANY, Bounds
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.declarations import Space
from texpr.tile.ir import (
    Assign,
    Atomic,
    AtomicShared,
    Barrier,
    Commit,
    CopyAsync,
    Expr,
    For,
    Full,
    If,
    Literal,
    ScalarOf,
    Specialise,
    Statement,
    Store,
    StoreShared,
    Wait,
    walk,
)
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    StoreTensor,
    WaitBarrier,
    WaitStores,
)
from texpr.tile.uniform import FindGroup, ProgramId, Scalar
from texpr.tile.uses import changed_by

_ATOMICS: Final = {
    ReduceOp.SUM: "add",
    ReduceOp.MIN: "min",
    ReduceOp.MAX: "max",
    ReduceOp.AND: "and",
    ReduceOp.OR: "or",
    ReduceOp.XOR: "xor",
}


def statement(f: Function, item: Statement) -> None:
    """Append the code of one statement, and of the locals it needs, to the current block."""
    f.moment.clear()
    match item:
        case Scalar(name=name, value=value, note=note):
            code = f"{f.scalars[name]} = {narrow_text(value, f.symbols()).code}"
            fits = len(code) + len(note) + len(INDENT) * f.block.depth < WIDTH
            if note and not fits:
                f.emit(f"# {note}")
            f.emit(f"{code}  # {note}" if note and fits else code)
            _settle(f, name, range_of(value, f.ranges))
            if not isinstance(value, Const | Sym) and name not in free_symbols(value):
                f.remember(value, Text(f.scalars[name]), free_symbols(value) | {name})
        case ScalarOf(name=name, value=value, note=note):
            text = typed(f, value, root(f, value, Hint(f.scalars[name])))
            f.emit(f"{f.scalars[name]} = {text.code}" + (f"  # {note}" if note else ""))
            _settle(f, name, NONNEGATIVE)
        case FindGroup(name=name, offsets=offsets, groups=groups, slot=slot, size=size, note=note):
            integers = [narrow_text(e, f.symbols()) for e in (groups, slot)]
            found = call(f.preamble.use("find_group"), Text(f.pointers[offsets]), *integers, Text(str(size)))
            f.emit(f"{f.scalars[name]} = {found.code}" + (f"  # {note}" if note else ""))
            _settle(f, name, NONNEGATIVE)
        case ProgramId(name=name):
            f.emit(f"{f.scalars[name]} = gl.program_id(0)")
            _settle(f, name, NONNEGATIVE)
        case Ticket(name=name):
            f.emit(f"{f.scalars[name]} = {ticket(f, item)}  # in the order in which programs start")
            _settle(f, name, NONNEGATIVE)
        case Publish(final=final, origin=origin):
            _announce(f, "what everything up to the tile comes to" if final else "what the tile comes to", origin)
            f.emit(publish(f, item))
        case LookBack(names=names, origin=origin):
            _announce(f, "what the tiles before come to", origin)
            f.emit(f"{', '.join(f.variables[name] for name in names)} = {look_back(f, item)}")
            f.assigned(frozenset(names))
        case AwaitTurn(origin=origin):
            _announce(f, "what the parts before come to", origin)
            f.emit(await_turn(f, item))
        case PassTurn():
            f.emit(pass_turn(f, item))
        case Receive(name=name):
            f.emit(f"{f.variables[name]} = {receive(f, item).code}")
            f.assigned(frozenset([name]))
        case Assign(note=note, origin=origin):
            _announce(f, note, origin)
            _assign(f, item)
        case For():
            _loop(f, item)
        case If():
            _branch(f, item)
        case CopyAsync(origin=origin):
            _announce(f, "", origin)
            f.preamble.use_import(ASYNC_COPY)
            f.emit(_copy_async(f, item).code)
        case Barrier(note=note):
            f.emit(f"gl.barrier()  # {note}" if note else "gl.barrier()")
        case Commit():
            f.preamble.use_import(ASYNC_COPY)
            f.emit("async_copy.commit_group()")
        case Wait(pending=pending):
            f.preamble.use_import(ASYNC_COPY)
            f.emit(f"async_copy.wait_group({pending})")
        case StoreShared(origin=origin):
            _announce(f, "", origin)
            f.emit(_store_shared(f, item).code)
        case Store(origin=origin):
            _announce(f, "", origin)
            f.emit(_store(f, item).code)
        case Atomic(origin=origin):
            _announce(f, "", origin)
            f.emit(_atomic(f, item).code)
        case AtomicShared(origin=origin):
            _announce(f, "", origin)
            f.emit(_atomic_shared(f, item).code)
        case CopyTensor(origin=origin) | StoreTensor(origin=origin):
            _announce(f, "", origin)
            protocol(f, item)
        case Expect() | WaitBarrier() | Arrive() | ArriveCopies() | WaitStores() | FenceAsync() | DotWait() | Advance():
            protocol(f, item)
        case MeetCluster():
            protocol(f, item)
        case Specialise():
            specialise(f, item, statement)
        case _:
            assert_never(item)


def origin_of(text: str) -> Origin | None:
    """``acc @ linear.yaml:12`` is node ``acc``, asked for by that line of the schedule."""
    node, _, schedule = text.partition(" @ ")
    return Origin(node.strip(), schedule.strip()) if text else None


def _announce(f: Function, note: str, origin: str) -> None:
    """A comment on what the next lines are for, unless it is the one they already stand under."""
    f.origin = origin_of(origin)
    comment = _comment(note, f.origin)
    if comment == f.block.announced:
        return
    f.block.announced = comment
    if comment:
        f.blank()
        f.emit(comment)


def _comment(note: str, origin: Origin | None) -> str:
    """``# acc: what is done  [linear.yaml:12]``, without the schedule's folder: the text must be the same anywhere."""
    if origin is None:
        return f"# {note}" if note else ""
    text = f"# {origin.node}: {note}" if note else f"# {origin.node}"
    return f"{text}  [{PurePath(origin.schedule).name}]" if origin.schedule else text


def _settle(f: Function, name: str, bounds: Bounds) -> None:
    f.define(name, f.scalars[name], bounds)
    f.assigned(frozenset([name]))


def _assign(f: Function, item: Assign) -> None:
    variable = f.variables[item.name]
    text = typed(f, item.value, root(f, item.value, Hint(variable)))
    if text.code != variable:
        f.emit(f"{variable} = {text.code}")
    f.assigned(frozenset([item.name]))
    number = f.values.number(item.value)
    names = f.values.names[number]
    fixed = number not in f.values.mutable and item.name not in names
    if fixed and not isinstance(item.value, Literal | Full):
        f.remember(number, Text(variable), names | {item.name})


def _loop(f: Function, loop: For) -> None:
    f.origin = None
    header = _header(f, loop)
    outer, changing = f.block, changed_by(loop)
    f.block = Block(outer, changing, outer.depth + 1)
    f.assigned(changing)
    for name in _advanced_in(loop):
        f.define(name, f.scalars[name], NONNEGATIVE)
    steps_up = range_of(loop.step, f.ranges)
    first, last = range_of(loop.start, f.ranges), range_of(loop.stop, f.ranges)
    bounds = Bounds(first.lo, None if last.hi is None else last.hi - 1)
    forward = steps_up.lo is not None and steps_up.lo >= 0
    f.define(loop.counter, f.counters[loop.counter, loop.static], bounds if forward else ANY, loop.static)
    for item in loop.body:
        statement(f, item)
    body, f.block = f.block.lines, outer
    f.origin = None
    f.blank()
    if loop.note:
        f.emit(f"# {loop.note}")
    f.emit(header)
    outer.lines += body
    if not body:
        f.emit(INDENT + "pass")
    f.blank()
    f.assigned(changing)
    outer.announced = ""


def _advanced_in(loop: For) -> set[str]:
    """The integers that a loop carries: they have another value in each of its turns."""
    found: set[str] = set()

    def visit(item: Statement) -> None:
        if isinstance(item, Advance):
            found.add(item.name)

    walk(loop.body, visit)
    return found


def _branch(f: Function, branch: If) -> None:
    f.origin = None
    condition = computed(f, branch.condition, Hint("condition"))
    outer, changing = f.block, changed_by(branch)
    f.block = Block(outer, changing, outer.depth + 1, conditional=True)
    for item in branch.body:
        statement(f, item)
    body, f.block = f.block.lines, outer
    f.origin = None
    f.blank()
    if branch.note:
        f.emit(f"# {branch.note}")
    f.emit(f"if {condition.code}:")
    outer.lines += body
    if not body:
        f.emit(INDENT + "pass")
    f.blank()
    f.assigned(changing)
    outer.announced = ""


def _header(f: Function, loop: For) -> str:
    start, stop, step = (_bound(f, e) for e in (loop.start, loop.stop, loop.step))
    bounds = f"{start}, {stop}, {step}" if step != "1" else f"{start}, {stop}" if start != "0" else stop
    kind = "gl.static_range" if loop.static else "range"
    return f"for {f.counters[loop.counter, loop.static]} in {kind}({bounds}):"


def _bound(f: Function, e: IntExpr) -> str:
    return narrow_text(e, f.symbols()).code


# ---- memory --------------------------------------------------------------------------------------------------------


def _copy_async(f: Function, item: CopyAsync) -> Text:
    load = item.load
    assert load.space is not None, "a copy without a space has no pointers"
    every = tuple(range(len(load.space.dims)))
    points = dataclasses.replace(load, dims=every)
    view = buffer_view(f, item.buffer, item.stage)

    def build(texts: list[Text]) -> Text:
        where = address(f, load.tensor, load.base, texts[0] if load.offset is not None else None, points)
        if load.mask is None:
            return call("async_copy.async_load", view, where)
        mask = call("gl.to_tensor", texts[-1]) if texts[-1].static else texts[-1]
        return call("async_copy.async_load", view, where, f"mask={mask.code}")

    def place(expr: Expr, text: Text) -> Text:
        """The pointers fix the shape of the copy, the mask only has to broadcast to it."""
        return spread(f, expr, text, load.space, every) if expr is load.offset else lift(f, expr, text, every)

    return combined(f, access_parts(load.tensor, load.offset, load.mask), build, place)


def _store_shared(f: Function, item: StoreShared) -> Text:
    view = buffer_view(f, item.buffer, item.stage)
    if item.slice is not None:
        start, length = item.slice
        view = method(view, f"slice({narrow_text(start, f.symbols()).code}, {length}, 0)")
    space = item.value.space
    assert space is not None, "a value without a space has no layout to be stored from"
    every = tuple(range(len(space.dims))) if item.dims is None else item.dims
    dtype = item.value.dtype
    return combined(
        f,
        [(item.value, Hint(item.buffer, f"{item.buffer}_value"))],
        lambda texts: method(view, f"store({to_storage(f, texts[0], dtype).code})"),
        lambda expr, text: spread(f, expr, text, space, every),
    )


def _store(f: Function, item: Store) -> Text:
    frame = item.offset or item.value
    dims = tuple(sorted({*frame.dims, *item.value.dims}))  # a dim of one element may be in the value alone

    def build(texts: list[Text]) -> Text:
        stored = to_storage(f, typed(f, item.value, texts[-1]), item.value.dtype)
        where = address(f, item.tensor, item.base, texts[0] if item.offset is not None else None, frame)
        mask = [] if item.mask is None else [f"mask={texts[-2].code}"]
        return call("gl.store", where, stored, *mask)

    parts = [*access_parts(item.tensor, item.offset, item.mask), (item.value, Hint(item.tensor, f"{item.tensor}_tile"))]
    return combined(f, parts, build, lambda expr, text: lift(f, expr, text, dims))


def _atomic(f: Function, item: Atomic) -> Text:
    """One relaxed operation per element: what the order of programs leaves open is open."""
    if item.aggregate:
        return _atomic_of_warps(f, item)
    frame = item.offset or item.mask or item.value
    parts = [*access_parts(item.tensor, item.offset, item.mask), (item.value, Hint(item.tensor, f"{item.tensor}_part"))]
    dims = tuple(sorted({d for part, _ in parts for d in part.dims}))
    space = next((part.space for part, _ in parts if part.dims), None)

    def build(texts: list[Text]) -> Text:
        where = address(f, item.tensor, item.base, texts[0] if item.offset is not None else None, frame)
        mask = [] if item.mask is None else [f"mask={texts[-2].code}"]
        return call(f"gl.atomic_{_ATOMICS[item.op]}", where, typed(f, item.value, texts[-1]), *mask, 'sem="relaxed"')

    return combined(f, parts, build, lambda expr, text: spread(f, expr, text, space, dims))


def _atomic_of_warps(f: Function, item: Atomic) -> Text:
    """The same, once per element and warp."""
    parts = [item.mask, item.value] if item.offset is None else [item.offset, item.mask, item.value]
    texts, _, _ = _one_shape(f, [part for part in parts if part is not None], item.tensor)
    offset = None if item.offset is None else texts[item.offset]
    mask = None if item.mask is None else texts[item.mask]
    wide = item.offset is not None and item.offset.dtype.bits == 64
    same = not item.value.dims
    value, mask = aggregated(f, item.op, offset, mask, texts[item.value], item.value.dtype, same=same, wide=wide)
    frame = item.offset or item.mask or item.value
    where = address(f, item.tensor, item.base, offset, frame)
    return call(f"gl.atomic_{_ATOMICS[item.op]}", where, value, f"mask={mask.code}", 'sem="relaxed"')


def _one_shape(f: Function, parts: list[Expr], name: str) -> tuple[dict[Expr, Text], tuple[int, ...], Space | None]:
    """Values as locals with an element at every point of the dims along which any of them varies."""
    dims = tuple(sorted({d for part in parts for d in part.dims}))
    space = next((part.space for part in parts if part.dims), None)
    texts = {}
    for part in parts:
        local = Text(f.identifiers.fresh(f"{name}_part"))
        text = spread(f, part, typed(f, part, computed(f, part, Hint(local.code))), space, dims)
        f.emit(f"{local.code} = {text.code}")
        texts[part] = local
    return texts, dims, space


def _atomic_shared(f: Function, item: AtomicShared) -> Text:
    """Gluon updates along one dim: tiles of other ranks are flattened, which moves no data."""
    if item.aggregate:
        return _atomic_shared_of_warps(f, item)
    parts = [(item.index, Hint(f"{item.buffer}_at")), (item.value, Hint(f"{item.buffer}_part"))]
    if item.mask is not None:
        parts.append((item.mask, Hint(f"{item.buffer}_mask")))
    dims = tuple(sorted({d for part, _ in parts for d in part.dims}))
    space = next((part.space for part, _ in parts if part.dims), None)
    view = buffer_view(f, item.buffer, None)

    def build(texts: list[Text]) -> Text:
        if len(dims) > 1:
            assert space is not None
            points = math.prod(shape_of(space, dims))
            texts = [call("gl.reshape", text, f"[{points}]") for text in texts]
        mask = [] if item.mask is None else [f"mask={texts[2].code}"]
        arguments = ", ".join([texts[1].code, texts[0].code, "0", *mask])
        return method(view, f"atomic_scatter_{_ATOMICS[item.op]}({arguments})")

    return combined(f, parts, build, lambda expr, text: spread(f, expr, typed(f, expr, text), space, dims))


def _atomic_shared_of_warps(f: Function, item: AtomicShared) -> Text:
    """The same, once per element and warp."""
    texts, dims, space = _one_shape(f, [e for e in (item.index, item.mask, item.value) if e is not None], item.buffer)
    index = texts[item.index]
    mask = None if item.mask is None else texts[item.mask]
    same = not item.value.dims
    value, mask = aggregated(f, item.op, index, mask, texts[item.value], item.value.dtype, same=same, wide=False)
    if len(dims) > 1:
        assert space is not None
        points = math.prod(shape_of(space, dims))
        value, index, mask = (call("gl.reshape", text, f"[{points}]") for text in (value, index, mask))
    view = buffer_view(f, item.buffer, None)
    return method(view, f"atomic_scatter_{_ATOMICS[item.op]}({value.code}, {index.code}, 0, mask={mask.code})")
