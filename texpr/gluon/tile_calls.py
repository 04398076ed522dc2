"""Calls of a user's functions over tiles: operands are brought into rows and lines, results back, and the function's
text comes along."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from texpr.aot.errors import KernelTextError
from texpr.dtypes import DType
from texpr.gluon.function import Function
from texpr.gluon.helpers import HELPERS
from texpr.gluon.modules import chunks_of, defined_names
from texpr.gluon.text import Level, Text, call, constant, infix, method
from texpr.lang.user_code import Operand, TileOp
from texpr.tile.declarations import Dims
from texpr.tile.ir import Expr, TileCall


def reserve_functions(f: Function, exprs: Iterable[Expr]) -> None:
    """Keep the names that users' functions mean something by from being given to values, and put their texts into the
    preamble. Raises KernelTextError where two functions of one name differ."""
    for op in dict.fromkeys(expr.op for expr in exprs if isinstance(expr, TileCall)):
        for chunk in chunks_of(op.text, op.name):
            names = defined_names(ast.parse(chunk).body[0])
            if chunk.startswith(("import ", "from ")):
                f.preamble.use_import(chunk)
            else:
                _define(f, op, sorted(names), chunk)
            for name in names:
                f.identifiers.taken.add(name)


def _define(f: Function, op: TileOp, names: list[str], chunk: str) -> None:
    text = f"# {op.name}, a function over tiles of {op.file}\n{chunk}" if op.name in names else chunk
    for name in names:
        if name in HELPERS or f.preamble.functions.get(name, text) != text:
            problem = f"'{name}' of {op.file} has the name of another function that the kernel needs"
            raise KernelTextError(kernel=f.name, problem=problem)
        f.preamble.define(name, text)


def tile_call(f: Function, node: TileCall, texts: list[Text]) -> Text:
    """The call, whose value is a tuple if the function has several results."""
    operands = zip(node.op.operands, node.args, texts, strict=True)
    given = [_entering(f, node, operand, arg, text).code for operand, arg, text in operands]
    given += [str(value) for _, value in node.op.statics]
    return call(node.op.name, *given)


def _entering(f: Function, node: TileCall, operand: Operand, arg: Expr, text: Text) -> Text:
    """An operand in the space of the function: rows, then the line."""
    over: Dims = (*([0] if operand.rows and node.op.rows else []), *([1] if operand.line else []))
    shape = [node.inner.dims[dim].size for dim in over]
    layout = f.layout(node.inner, over)
    if not over:
        return text
    if not arg.dims:
        return call("gl.full", str(shape), text, f.dialect.register(arg.dtype), layout)
    if operand.line and arg.dims[-1] != node.dim:
        order = [dim for dim in arg.dims if dim != node.dim] + [node.dim]
        text = call("gl.permute", text, str(tuple(arg.dims.index(dim) for dim in order)))
    if len(arg.dims) != len(over):
        text = call("gl.reshape", text, str(shape))
    return call("gl.convert_layout", text, layout)


def leaving(f: Function, node: TileCall, n: int, text: Text) -> Text:
    """Result number ``n`` in the space of the operands, along the rows' dims and, unless it is per line, the line's."""
    home = next(arg.space for arg in node.args if arg.dims)
    assert home is not None
    rows = [dim for dim in range(len(home.dims)) if dim != node.dim]
    order = rows if node.op.per_line[n] else [*rows, node.dim]
    if not order:
        return _single(f, node, n, text) if node.op.rows else text
    if len(order) != (1 if node.op.rows else 0) + (0 if node.op.per_line[n] else 1):
        text = call("gl.reshape", text, str([home.dims[dim].size for dim in order]))
    if order != sorted(order):
        text = call("gl.permute", text, str(tuple(order.index(dim) for dim in sorted(order))))
    return call("gl.convert_layout", text, f.layout(home, tuple(sorted(order))))


def _single(f: Function, node: TileCall, n: int, text: Text) -> Text:
    """The one number of a tile of one line."""
    dtype = node.op.results[n].dtype
    if dtype is DType.BOOL:
        return infix(call("gl.max", method(text, "to(gl.int32)"), "0"), "!=", Level.COMPARE, constant("0"))
    return method(call("gl.max", text, "0"), f"to({f.dialect.register(dtype)})")


def check_of(f: Function, node: TileCall, n: int, name: str) -> str:
    """The line that makes Triton refuse a result of another type or shape, in the function's own words."""
    result = node.op.results[n]
    dtype = f.dialect.register(result.dtype)
    over = (*((0,) if node.op.rows else ()), *(() if node.op.per_line[n] else (1,)))
    shape = [node.inner.dims[dim].size for dim in over]
    tests = [f"{name}.dtype == {dtype}", *(f"{name}.shape[{k}] == {size}" for k, size in enumerate(shape))]
    said = f"{node.op.name} returns {result.name} as {dtype.removeprefix('gl.')}{shape}"
    return f'gl.static_assert({" and ".join(tests)}, "{said}")'


