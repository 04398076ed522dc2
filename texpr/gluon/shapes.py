"""Values on some dims of a space, given more dims: by subscripts that broadcast, or spread out over all elements."""

from __future__ import annotations

from texpr.gluon.function import Function
from texpr.gluon.layouts import expand_index, expands_directly, sliced_from
from texpr.gluon.text import Level, Text, call, method
from texpr.tile.declarations import Dims, Space
from texpr.tile.ir import Expr


def shape_of(space: Space, dims: Dims) -> list[int]:
    return [space.dims[dim].size for dim in dims]


def lift(f: Function, expr: Expr, text: Text, target: Dims) -> Text:
    """A value with the rank of ``target``: dims it lacks have one element. Scalars stay scalars."""
    if not expr.dims or expr.dims == target or expr.space is None:
        return text
    rank = len(expr.space.dims)
    if not expands_directly(rank, expr.dims, target):
        layout = sliced_from(f.space_name(expr.space), rank, expr.dims, target)
        text = call("gl.convert_layout", text, layout, "assert_trivial=True")
    return Text(text.within(Level.ATOM) + expand_index(expr.dims, target))


def spread(f: Function, expr: Expr, text: Text, space: Space | None, target: Dims) -> Text:
    """A value with an element of its own at every point of ``target``."""
    if space is None or expr.dims == target:
        return text
    if not expr.dims:
        shape = str(shape_of(space, target))
        return call("gl.full", shape, text, f.dialect.register(expr.dtype), f.layout(space, target))
    return method(lift(f, expr, text, target), f"broadcast_to({shape_of(space, target)})")
