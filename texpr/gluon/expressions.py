"""Tile expressions as Gluon code in the current block of a :class:`Function`.

A value used once is printed where it is used, as long as the line stays short; a value used more often, or one that an
enclosing loop does not change, becomes a local.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from texpr.dtypes import DType, Kind
from texpr.gluon.casts import cast
from texpr.gluon.function import Block, Function
from texpr.gluon.helpers import MMA, WARPGROUP_MMA
from texpr.gluon.integers import narrow_text, power_of_two, wide_text
from texpr.gluon.layouts import is_canonical_after_reduce
from texpr.gluon.memory import address, buffer_view, from_storage, gathered
from texpr.gluon.names import Hint, suggestions
from texpr.gluon.operations import choose, elementwise, power
from texpr.gluon.ranges import tile_range
from texpr.gluon.reductions import combine_helper, define_monoid, reduce_text, reduce_with, scan_with
from texpr.gluon.shapes import lift, shape_of, spread
from texpr.gluon.text import Level, Text, call, constant, infix, method
from texpr.gluon.tile_calls import check_of, leaving, tile_call
from texpr.gluon.types import plain_constant, typed_constant
from texpr.lang.ir import Monoid, OpName
from texpr.math.expr import Const, IntExpr
from texpr.tile.ir import (
    Argument,
    Cast,
    Choose,
    DotStep,
    Elementwise,
    Expr,
    Full,
    Half,
    InlinePtx,
    Lane,
    Literal,
    Load,
    Rank,
    Reduce,
    Relayout,
    Scan,
    SharedGather,
    SharedTile,
    TileCall,
    Uniform,
    Var,
)
from texpr.tile.layouts import MmaV3

_LONG_UNIFORM = 30
_WORTH_A_NAME = 16


def value(f: Function, expr: Expr, hint: Hint) -> Text:
    """The code of ``expr``; ``hint`` names what it is for, in case a local must be made."""
    atom = _atom(f, expr)
    if atom is not None:
        return atom
    number = f.values.number(expr)
    known = f.find(number)
    if known is not None:
        return known
    home = f.block if number in f.values.mutable else f.home(f.values.names[number])
    if isinstance(expr, Reduce | Scan) and len(expr.args) > 1:
        return _bind_tuple(f, expr, home, hint)
    if isinstance(expr, InlinePtx) and len(expr.dtypes) > 1:
        return _bind_results(f, expr, home, hint)
    if isinstance(expr, TileCall):
        return _bind_call(f, expr, home, hint)
    if home is not f.block or f.values.uses[number] > 1:
        return bind(f, expr, home, hint)
    return render(f, expr, hint)


def root(f: Function, expr: Expr, hint: Hint) -> Text:
    """The code of an expression that a statement gives a name or a place of its own."""
    number = f.values.number(expr)
    known = f.find(number)
    if known is not None:
        return known
    if _has_several_results(expr):
        return value(f, expr, hint)
    return _atom(f, expr) or render(f, expr, hint)


def _has_several_results(expr: Expr) -> bool:
    match expr:
        case Reduce(args=args) | Scan(args=args):
            return len(args) > 1
        case InlinePtx(dtypes=dtypes):
            return len(dtypes) > 1
        case TileCall():
            return True
        case _:
            return False


def bind(f: Function, expr: Expr, home: Block, hint: Hint) -> Text:
    """Give the value a local of its own in ``home``."""
    with f.inside(home):
        code = render(f, expr, hint).code
        name = f.identifiers.fresh(*suggestions(expr, hint))
        f.emit(f"{name} = {code}")
        number = f.values.number(expr)
        f.keep(number, number, Text(name))
    return Text(name)


def combined(
    f: Function,
    parts: Sequence[tuple[Expr, Hint]],
    build: Callable[[list[Text]], Text],
    place: Callable[[Expr, Text], Text],
) -> Text:
    """Code made of several values (each with a hint for its name); values move to locals while the line is too long."""
    texts = [value(f, expr, hint) for expr, hint in parts]
    while True:
        result = build([place(expr, text) for (expr, _), text in zip(parts, texts, strict=True)])
        longest = max(range(len(texts)), key=lambda n: len(texts[n].code), default=None)
        if len(result.code) <= f.room() or longest is None:
            return result
        expr, hint = parts[longest]
        if len(texts[longest].code) < _WORTH_A_NAME or texts[longest].is_name or isinstance(expr, Uniform | Literal):
            return result
        texts[longest] = bind(f, expr, f.block, hint)


def _atom(f: Function, expr: Expr) -> Text | None:
    """Values that are printed wherever they are used."""
    match expr:
        case Literal(value=number, dtype=dtype):
            return constant(plain_constant(number, dtype, f.dialect))
        case Uniform():
            return _uniform(f, expr)
        case Argument(name=name, dtype=dtype):
            text = Text(f.scalars[name])
            return infix(text, "!=", Level.COMPARE, constant("0")) if dtype is DType.BOOL else text
        case Var(name=name):
            return Text(f.variables[name])
        case Full(value=fill, dims=(), dtype=dtype):
            number_text = plain_constant(fill.value, fill.dtype, f.dialect)
            return call("gl.full", "[]", number_text, f.dialect.register(dtype))
        case Full(value=fill, space=space, dims=dims, dtype=dtype):
            number_text = plain_constant(fill.value, fill.dtype, f.dialect)
            shape = str(shape_of(space, dims))
            return call("gl.full", shape, number_text, f.dialect.register(dtype), f.layout(space, dims))
        case _:
            return None


def _uniform(f: Function, expr: Uniform) -> Text:
    number = f.values.number(expr)
    known = f.find(number)
    if known is not None:
        return known
    text = _integer(f, expr.value, expr.dtype)
    if len(text.code) < _LONG_UNIFORM or f.values.uses[number] < 2 or text.static:
        return text
    with f.inside(f.home(f.values.names[number])):
        name = f.identifiers.fresh("offset")
        f.emit(f"{name} = {text.code}")
        f.keep(number, number, Text(name))
    return Text(name)


def _integer(f: Function, e: IntExpr, dtype: DType) -> Text:
    return wide_text(e, f.symbols()) if dtype is DType.I64 else narrow_text(e, f.symbols())


def render(f: Function, expr: Expr, hint: Hint) -> Text:
    """The code of the outermost operation over the values of its operands."""
    inner = hint.inner
    match expr:
        case Lane(space=space, dim=dim):
            return call("gl.arange", "0", str(space.dims[dim].size), f.layout(space, (dim,)))
        case Elementwise():
            return _elementwise(f, expr, inner)
        case Choose(condition=condition, then=then, otherwise=otherwise):
            parts = [(condition, inner), (then, inner), (otherwise, inner)]
            return combined(f, parts, lambda texts: _choose(f, expr, texts), _lifted(f, expr))
        case Cast(value=source):
            return combined(f, [(source, inner)], lambda texts: _cast(f, expr, texts[0]), _lifted(f, expr))
        case InlinePtx(args=args):
            parts = [(arg, inner) for arg in args]
            return combined(f, parts, lambda texts: _inline_ptx(f, expr, texts), _spread(f, expr))
        case Load():
            return loaded(f, expr)
        case SharedTile():
            return _shared_tile(f, expr)
        case SharedGather(index=index, buffer=buffer):
            name = f"{buffer.removesuffix('_shared')}_at"
            parts = [(index, Hint(name, name))]
            return combined(f, parts, lambda texts: gathered(f, expr, texts[0]), _spread(f, expr))
        case Reduce():
            return _reduce(f, expr, inner)
        case Rank():
            return _rank(f, expr, inner)
        case TileCall():
            return _bind_call(f, expr, f.block, inner)
        case Scan():
            return _scan(f, expr, inner)
        case Relayout():
            return _relayout(f, expr, inner)
        case Half():
            return _half(f, expr, inner)
        case DotStep():
            return _dot(f, expr, inner)
        case Uniform() | Argument() | Literal() | Var() | Full():
            atom = _atom(f, expr)
            assert atom is not None
            return atom


def _lifted(f: Function, node: Expr) -> Callable[[Expr, Text], Text]:
    """Place operands so that they broadcast to the node's dims."""
    return lambda expr, text: lift(f, expr, text, node.dims)


def _spread(f: Function, node: Expr) -> Callable[[Expr, Text], Text]:
    """Place operands with all of the node's dims."""
    return lambda expr, text: spread(f, expr, text, node.space, node.dims)


def typed(f: Function, expr: Expr, text: Text) -> Text:
    """A Python number made to carry its type; anything else as it is."""
    if isinstance(expr, Literal):
        return constant(typed_constant(expr.value, expr.dtype, f.dialect))
    if text.static and expr.dtype is not DType.I32 and expr.dtype is not DType.BOOL:
        return call("gl.full", "[]", text, f.dialect.register(expr.dtype))
    return text


# ---- operations ----------------------------------------------------------------------------------------------------


def _elementwise(f: Function, node: Elementwise, hint: Hint) -> Text:
    if node.op is OpName.POW and (exponent := _whole(node.args[1])) is not None:
        base = value(f, node.args[0], hint)
        if not base.is_name and exponent >= 1:
            base = bind(f, node.args[0], f.block, hint)
        unrolled = power(base, exponent)
        if unrolled is not None:
            return unrolled
    return combined(f, [(arg, hint) for arg in node.args], lambda texts: _operate(f, node, texts), _lifted(f, node))


def _operate(f: Function, node: Elementwise, texts: list[Text]) -> Text:
    operand = node.args[0].dtype
    if node.op in (OpName.FLOORDIV, OpName.MOD) and operand.is_int:
        return _divide(f, node, texts)
    if all(text.static for text in texts):
        texts = [typed(f, arg, text) for arg, text in zip(node.args, texts, strict=True)]
    return elementwise(node.op, operand, tuple(texts), False, f.preamble)


def _divide(f: Function, node: Elementwise, texts: list[Text]) -> Text:
    """Floor division and remainder: as Triton does them where neither operand is negative, by bits for a power of two,
    else by a helper."""
    dtype = node.args[0].dtype
    lows = [tile_range(f, arg).lo for arg in node.args]
    truncates = all(low is not None and low >= 0 for low in lows) or all(text.static for text in texts)
    divisor = _whole(node.args[1])
    shift = None if divisor is None else power_of_two(Const(divisor))
    if not truncates and dtype.kind is Kind.SIGNED and shift is not None:
        if node.op is OpName.FLOORDIV:
            return infix(texts[0], ">>", Level.SHIFT, constant(str(shift)))
        return infix(texts[0], "&", Level.AND, constant(str((1 << shift) - 1)))
    return elementwise(node.op, dtype, tuple(texts), truncates, f.preamble)


def _whole(expr: Expr) -> int | None:
    match expr:
        case Literal(value=number) if float(number).is_integer():
            return int(number)
        case Uniform(value=Const(number)):
            return number
        case _:
            return None


def _cast(f: Function, node: Cast, text: Text) -> Text:
    return cast(typed(f, node.value, text), node.value.dtype, node.dtype, f.dialect, f.preamble)


def _choose(f: Function, node: Choose, texts: list[Text]) -> Text:
    condition, then, otherwise = texts
    if then.static and otherwise.static:
        then, otherwise = typed(f, node.then, then), typed(f, node.otherwise, otherwise)
    return choose(condition, then, otherwise)


def _inline_ptx(f: Function, node: InlinePtx, texts: list[Text]) -> Text:
    """The call, whose value is a tuple if the operation has several results. What has 8 bits takes a register of 32."""
    given = [_widened(f, arg, typed(f, arg, text)) for arg, text in zip(node.args, texts, strict=True)]
    operands = ", ".join(text.code for text in given)
    template = '"' + node.template.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    types = [_ptx_register(f, dtype) for dtype in node.dtypes]
    result = call(
        "gl.inline_asm_elementwise", template, f'"{node.constraints}"', f"[{operands}]",
        f"dtype={types[0] if len(types) == 1 else '(' + ', '.join(types) + ')'}", "is_pure=True", "pack=1",
    )  # fmt: skip
    return _narrowed(f, node.dtype, result) if len(types) == 1 else result


def _ptx_register(f: Function, dtype: DType) -> str:
    """The type of the register that a value is in while it is an operand or result of inline PTX."""
    if dtype.bits == 8:
        return "gl.int32" if dtype.kind is Kind.SIGNED else "gl.uint32"
    return f.dialect.register(dtype)


def _widened(f: Function, operand: Expr, text: Text) -> Text:
    if operand.dtype.bits != 8:
        return text
    bits = method(text, "to(gl.uint8, bitcast=True)") if operand.dtype.is_float else text
    return method(bits, f"to({_ptx_register(f, operand.dtype)})")


def _narrowed(f: Function, dtype: DType, text: Text) -> Text:
    if dtype.bits != 8:
        return text
    if not dtype.is_float:
        return method(text, f"to({f.dialect.register(dtype)})")
    return method(method(text, "to(gl.uint8)"), f"to({f.dialect.register(dtype)}, bitcast=True)")


def _bind_results(f: Function, node: InlinePtx, home: Block, hint: Hint) -> Text:
    """Inline PTX with several results: every one gets a local, all in one statement."""
    numbers = tuple(f.values.number(arg) for arg in node.args)
    key = ("InlinePtx", node.template, node.constraints, node.dtypes, numbers)
    found = f.find((*key, node.component))
    if found is None:
        with f.inside(home):
            parts = [(arg, hint.inner) for arg in node.args]
            result = combined(f, parts, lambda texts: _inline_ptx(f, node, texts), _spread(f, node))
            names = [f.identifiers.fresh(f"{hint.stem}_{n}") for n in range(len(node.dtypes))]
            f.emit(f"{', '.join(names)} = {result.code}")
            for n, (name, dtype) in enumerate(zip(names, node.dtypes, strict=True)):
                f.keep((*key, n), f.values.number(node), _narrowed(f, dtype, Text(name)))
        found = f.find((*key, node.component))
    assert found is not None
    return found


def _bind_call(f: Function, node: TileCall, home: Block, hint: Hint) -> Text:
    """A user's function: every result gets a local, checked, in the space of the tile."""
    numbers = tuple(f.values.number(arg) for arg in node.args)
    key = ("TileCall", id(node.op), numbers, node.dim, node.inner)
    found = f.find((*key, node.component))
    if found is None:
        with f.inside(home):
            parts = [(arg, Hint(operand.name)) for arg, operand in zip(node.args, node.op.operands, strict=True)]
            result = combined(f, parts, lambda texts: tile_call(f, node, texts), lambda _, text: text)
            names = [f.identifiers.fresh(f"{node.op.name}_{result.name}") for result in node.op.results]
            f.emit(f"{', '.join(names)} = {result.code}")
            for n, name in enumerate(names):
                f.emit(check_of(f, node, n, name))
                f.keep((*key, n), f.values.number(node), leaving(f, node, n, Text(name)))
        found = f.find((*key, node.component))
    assert found is not None
    return found


# ---- memory --------------------------------------------------------------------------------------------------------


def loaded(f: Function, node: Load) -> Text:
    """The code of an access to global memory."""

    def build(texts: list[Text]) -> Text:
        where = address(f, node.tensor, node.base, texts[0] if node.offset is not None else None, node)
        arguments = [where.code]
        if node.mask is not None:
            other = plain_constant(node.other.value, node.other.dtype, f.dialect)
            fill = str(int(node.other.value)) if node.dtype is DType.BOOL else other
            arguments += [f"mask={texts[-1].code}", f"other={fill}"]
        return from_storage(call("gl.load", *arguments), node.dtype)

    return combined(f, access_parts(node.tensor, node.offset, node.mask), build, _lifted(f, node))


def access_parts(tensor: str, offset: Expr | None, mask: Expr | None) -> list[tuple[Expr, Hint]]:
    """The offset and mask of a global access, with the names they get if they need one."""
    parts = [] if offset is None else [(offset, Hint(f"{tensor}_offset", f"{tensor}_offset"))]
    return parts if mask is None else [*parts, (mask, Hint(tensor, f"{tensor}_mask"))]


def _shared_tile(f: Function, node: SharedTile) -> Text:
    view = _tile_view(f, node)
    return from_storage(method(view, f"load({f.layout(node.space, node.dims)})"), node.dtype)


def _tile_view(f: Function, node: SharedTile) -> Text:
    """A stage of a buffer, or the part of it that is meant, with the dims in the space's order."""
    view = buffer_view(f, node.buffer, node.stage)
    for dim, start, length in node.slices:
        view = method(view, f"slice({start}, {length}, {dim})")
    if node.order != tuple(range(len(node.order))):
        view = method(view, f"permute({node.order})")
    return view


# ---- whole tiles ---------------------------------------------------------------------------------------------------


def _reduce(f: Function, node: Reduce, hint: Hint) -> Text:
    """A reduction of one value."""
    (argument,) = node.args
    source = tuple(sorted((*node.dims, node.dim)))
    axis = source.index(node.dim)

    def build(texts: list[Text]) -> Text:
        if isinstance(node.op, Monoid):
            result = reduce_with(monoid_name(f, node.op), tuple(texts), axis)
        else:
            result = reduce_text(node.op, argument.dtype, tuple(texts), axis, f.dialect, f.preamble)
        return _canonical(f, node, result)

    return combined(f, [(argument, hint)], build, lambda expr, text: spread(f, expr, text, node.space, source))


def _scan(f: Function, node: Scan, hint: Hint) -> Text:
    """A scan of one value."""
    (argument,) = node.args
    combine = _scan_operator(f, node)
    return combined(
        f,
        [(argument, hint)],
        lambda texts: scan_with(combine, tuple(texts), node.dim, node.reverse),
        lambda expr, text: spread(f, expr, text, node.space, node.dims),
    )


def _scan_operator(f: Function, node: Scan) -> str:
    if isinstance(node.op, Monoid):
        return monoid_name(f, node.op)
    return f.preamble.use(combine_helper(node.op, node.args[0].dtype))


def _canonical(f: Function, node: Reduce, result: Text) -> Text:
    """The result in the layout that values on its dims have: a reduction slices its own dim away last."""
    source = tuple(sorted((*node.dims, node.dim)))
    if not node.dims or is_canonical_after_reduce(len(node.space.dims), source, node.dim):
        return result
    return call("gl.convert_layout", result, f.layout(node.space, node.dims), "assert_trivial=True")


def _bind_tuple(f: Function, node: Reduce | Scan, home: Block, hint: Hint) -> Text:
    """A reduction or scan of several values at once: every component gets a local, all in one statement."""
    numbers = tuple(f.values.number(arg) for arg in node.args)
    key = (type(node).__name__, isinstance(node, Scan) and node.reverse, id(node.op), numbers, node.dim)
    found = f.find((*key, node.component))
    if found is not None:
        return found
    source = tuple(sorted({*node.dims, node.dim}))
    with f.inside(home):
        operands = tuple(spread(f, arg, value(f, arg, hint.inner), node.space, source) for arg in node.args)
        if isinstance(node, Scan):
            result = scan_with(_scan_operator(f, node), operands, node.dim, node.reverse)
        elif isinstance(node.op, Monoid):
            result = reduce_with(monoid_name(f, node.op), operands, source.index(node.dim))
        else:
            dtype = node.args[0].dtype
            result = reduce_text(node.op, dtype, operands, source.index(node.dim), f.dialect, f.preamble)
        components = [f.identifiers.fresh(f"{hint.stem}_{n}") for n in range(len(node.args))]
        f.emit(f"{', '.join(components)} = {result.code}")
        for n, component in enumerate(components):
            text = Text(component)
            f.keep((*key, n), f.values.number(node), text if isinstance(node, Scan) else _canonical(f, node, text))
    found = f.find((*key, node.component))
    assert found is not None
    return found


def _rank(f: Function, node: Rank, hint: Hint) -> Text:
    """The least words in order: rounds of taking the least out, or a bitonic network and its first elements."""
    words, source = node.words, node.words.space
    assert source is not None
    axis = words.dims.index(node.dim)
    shape = shape_of(source, words.dims)
    kept = [source.dims[dim] for dim in words.dims if dim != node.dim]
    made = next(dim for dim in node.dims if node.space.dims[dim] not in kept)
    target, count = f.layout(node.space, node.dims), node.space.dims[made].size
    order = [n for n in range(len(shape)) if n != axis]
    order.insert(made, axis)
    if node.rounds:
        first = Text("None") if node.best is None else value(f, node.best, hint)
        ranks = Lane(node.space, made)
        at = spread(f, ranks, value(f, ranks, hint), node.space, node.dims)
        arguments = [str(axis), str(made), f.layout(source, words.dims), target]
        helper = f.preamble.use("least_words")
        return combined(f, [(words, hint)], lambda texts: call(helper, texts[0], first, at, *arguments), lambda _, t: t)
    lane = Lane(source, node.dim)
    at = spread(f, lane, value(f, lane, hint), source, words.dims)
    sizes = [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), count]
    helper = f.preamble.use("sorted_words")
    ordered = combined(
        f, [(words, hint)], lambda texts: call(helper, texts[0], at, *map(str, sizes)), lambda _, text: text
    )
    shape[axis] = count
    result = call("gl.reshape", ordered, str(shape))
    if order != sorted(order):
        result = call("gl.permute", result, str(tuple(order)))
    return call("gl.convert_layout", result, target)


def monoid_name(f: Function, monoid: Monoid) -> str:
    """The device function that combines two values of a monoid."""
    name = f.monoids.get(id(monoid))
    if name is None:
        name = f.identifiers.fresh(f"{f.name}_{monoid.name}")
        f.monoids[id(monoid)] = define_monoid(name, monoid, f.dialect, f.preamble)
    return name


def _relayout(f: Function, node: Relayout, hint: Hint) -> Text:
    source = node.value
    assert source.space is not None
    order = tuple(source.dims.index(_same_dim(source, node, dim)) for dim in node.dims)

    def build(texts: list[Text]) -> Text:
        tile = texts[0]
        if order != tuple(sorted(order)):
            tile = call("gl.permute", tile, str(order))
        return call("gl.convert_layout", tile, f.layout(node.space, node.dims))

    return combined(f, [(source, hint)], build, lambda _, text: text)


def _half(f: Function, node: Half, hint: Hint) -> Text:
    function = f.preamble.use("half_of_columns")

    def build(texts: list[Text]) -> Text:
        return call(function, texts[0], str(int(node.second)), f.layout(node.space, node.dims))

    return combined(f, [(node.value, hint)], build, lambda _, text: text)


def _same_dim(source: Expr, node: Relayout, dim: int) -> int:
    """The dim of the source's space that has the axes of ``dim``: the same position if it has them."""
    assert source.space is not None
    wanted = node.space.dims[dim]
    candidates = [d for d in source.dims if source.space.dims[d] == wanted]
    return dim if dim in candidates else candidates[0]


def _warpgroup_dot(f: Function, node: DotStep, hint: Hint) -> Text:
    """A product that a warpgroup starts: operands in shared memory are handed over as views."""
    f.space_name(node.space)
    f.preamble.use_import(WARPGROUP_MMA)
    if not isinstance(node.a, SharedTile) and not value(f, node.a, Hint(f"{hint.stem}_a")).is_name:
        bind(f, node.a, f.block, Hint(f"{hint.stem}_a"))
    a, b = (
        _tile_view(f, part) if isinstance(part, SharedTile) else value(f, part, hint) for part in (node.a, node.b)
    )
    precision = ['precision="tf32"'] if node.b.dtype is DType.TF32 else []
    return call("warpgroup_mma", a, b, value(f, node.acc, hint), *precision, "is_async=True")


def _dot(f: Function, node: DotStep, hint: Hint) -> Text:
    if isinstance(node.space.layout, MmaV3):
        return _warpgroup_dot(f, node, hint)
    f.space_name(node.space)  # before the operands' layouts, which mention it
    for operand, stem in ((node.a, f"{hint.stem}_a"), (node.b, f"{hint.stem}_b")):
        if not value(f, operand, Hint(stem)).is_name:
            bind(f, operand, f.block, Hint(stem))

    def build(texts: list[Text]) -> Text:
        a, b, acc = texts
        if not node.tensor_core:
            return call("gl.dot_fma", a, b, acc)
        f.preamble.use_import(MMA)
        precision = ['input_precision="tf32"'] if node.a.dtype is DType.TF32 else []
        return call("mma_v2", a, b, acc, *precision)

    def place(expr: Expr, text: Text) -> Text:
        return spread(f, expr, text, expr.space, tuple(range(len(expr.space.dims)))) if expr.space else text

    parts = [(node.a, hint), (node.b, hint), (node.acc, hint)]
    return combined(f, parts, build, place)
