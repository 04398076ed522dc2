"""Addresses, shared buffers and stored element types."""

from __future__ import annotations

from texpr.dtypes import DType
from texpr.gluon.casts import cast
from texpr.gluon.function import Function
from texpr.gluon.integers import narrow_text, wide_text
from texpr.gluon.shapes import shape_of
from texpr.gluon.text import Level, Text, call, constant, infix, method
from texpr.math.expr import Const, IntExpr, free_symbols
from texpr.tile.ir import Expr, SharedGather


def address(f: Function, tensor: str, base: IntExpr, offset: Text | None, access: Expr) -> Text:
    """The pointers of a global access at ``access``'s dims: ``x_ptr + offset``."""
    start = pointer(f, tensor, base)
    if offset is not None:
        return infix(start, "+", Level.SUM, offset)
    if not access.dims or access.space is None:
        return start
    shape = str(shape_of(access.space, access.dims))
    zeros = call("gl.full", shape, "0", "gl.int32", f.layout(access.space, access.dims))
    return infix(start, "+", Level.SUM, zeros)


def pointer(f: Function, tensor: str, base: IntExpr) -> Text:
    """``tensor + base``, as a local unless there is nothing to compute."""
    start = Text(f.pointers[tensor])
    if base == Const(0):
        return start
    if isinstance(base, Const):
        return infix(start, "+", Level.SUM, constant(str(base.value)))
    key = ("pointer", tensor, base)
    known = f.find(key)
    if known is not None:
        return known
    names = free_symbols(base)
    with f.inside(f.home(names)):
        code = infix(start, "+", Level.SUM, wide_text(base, f.symbols())).code
        local = f.identifiers.fresh(f"{tensor}_ptr")
        f.emit(f"{local} = {code}")
        f.remember(key, Text(local), names)
    return Text(local)


def buffer_view(f: Function, buffer: str, stage: IntExpr | None) -> Text:
    """A buffer, or one stage of it."""
    name = Text(f.buffers[buffer])
    return name if stage is None else method(name, f"index({narrow_text(stage, f.symbols()).code})")


def from_storage(stored: Text, dtype: DType) -> Text:
    """A value as it is computed with: a stored bool is a byte."""
    return infix(stored, "!=", Level.COMPARE, constant("0")) if dtype is DType.BOOL else stored


def to_storage(f: Function, value: Text, dtype: DType) -> Text:
    """A value as it is stored."""
    return cast(value, DType.BOOL, DType.U8, f.dialect, f.preamble) if dtype is DType.BOOL else value


def gathered(f: Function, node: SharedGather, index: Text) -> Text:
    """Elements of a flat buffer at ``index``, which must be one-dimensional in Gluon: other ranks are flattened and
    restored, both of which move no data."""
    view = buffer_view(f, node.buffer, node.stage)
    if node.space is None or not node.dims:
        return from_storage(_single(f, view, index, node.dtype), node.dtype)
    if len(node.dims) == 1:
        return from_storage(method(view, f"gather({index.code}, 0)"), node.dtype)
    shape = shape_of(node.space, node.dims)
    points = 1
    for size in shape:
        points *= size
    flat = call("gl.reshape", index, f"[{points}]")
    tile = call("gl.reshape", method(view, f"gather({flat.code}, 0)"), str(shape))
    layout = f.layout(node.space, node.dims)
    return from_storage(call("gl.convert_layout", tile, layout, "assert_trivial=True"), node.dtype)


def _single(f: Function, view: Text, index: Text, dtype: DType) -> Text:
    """One element for all threads, by way of a tile of one element."""
    layout = f"gl.BlockedLayout([1], [32], [{f.warps}], [0])"
    tile = method(view, f"gather({call('gl.full', '[1]', index, 'gl.int32', layout).code}, 0)")
    total = call("gl.sum", tile, "0")
    narrow = dtype is DType.BOOL or (dtype.is_int and dtype.bits < 32)
    return method(total, f"to({f.dialect.storage(dtype)})") if narrow else total
