"""Index expressions as integer expressions."""

from __future__ import annotations

from typing import Any

import texpr as te
from tests.lang import examples
from texpr.lang.index import conjuncts, to_bool_expr, to_int_expr
from texpr.lang.ir import Read, Reduce, top_exprs, walk
from texpr.math.expr import sym
from texpr.math.parse import parse_bool, parse_int


def reads(definition: Any, name: str, **binding: Any) -> Read:
    algorithm = definition.bind(**binding)
    roots = [root for d in algorithm.defs for root in top_exprs(d.top)]
    return next(n for root in roots for n in walk(root) if isinstance(n, Read) and n.source.name == name)


def test_affine_index() -> None:
    x = reads(examples.conv2d, "x", types={"T": "f16"}, statics={"sh": 2, "dh": 3, "ph": 4})
    assert [to_int_expr(index) for index in x.indices][1] is parse_int("2*p + 3*r - 4")


def test_floor_division() -> None:
    x = reads(examples.conv2d_transposed, "x")
    assert to_int_expr(x.indices[1]) is parse_int("(p + 1 - r) // 2")


def test_data_is_none_unless_a_leaf_stands_in() -> None:
    x = reads(examples.sparse_conv, "x", types={"T": "f16"})
    assert to_int_expr(x.indices[0]) is None
    assert to_int_expr(x.indices[0], lambda expr: sym("row") if isinstance(expr, Read) else None) is sym("row")


def test_wrapping_arithmetic_is_not_translated() -> None:
    @te.algorithm("n: i32, x: f32[N] -> y: f32[N]")
    def wrapping(n: Any, x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x.clamped()[i + (n + 1)]

    index = reads(wrapping, "x").indices[0]
    assert to_int_expr(index) is None
    assert (
        to_int_expr(index, lambda expr: sym("n") if expr.dtype.value == "i32" and not hasattr(expr, "args") else None)
        is None
    )


def test_conditions() -> None:
    algorithm = examples.attention.bind({"T": "f16"}, {"D": 8})
    top = next(d.top for d in algorithm.defs if d.name == "u")
    assert isinstance(top, Reduce) and top.where is not None
    first, second = conjuncts(top.where)
    stand_in = {"i32": sym("len")}
    assert to_bool_expr(first) is None
    assert to_bool_expr(first, lambda e: stand_in.get(e.dtype.value)) is parse_bool("j < len")
    assert to_bool_expr(second, lambda e: stand_in.get(e.dtype.value)) is parse_bool("j <= i + len - S")
