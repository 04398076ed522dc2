"""Tile programs as text."""

from __future__ import annotations

from tests.gluon.programs import add, matmul, mul, pointer, program, size, softmax, space
from texpr.dtypes import DType
from texpr.math.expr import const, sym
from texpr.tile.ir import Assign, For, Full, Lane, Literal, Store, Var
from texpr.tile.layouts import Blocked
from texpr.tile.show import show, type_text


def test_a_program_is_one_statement_per_line() -> None:
    lines = show(softmax()).splitlines()
    assert lines[0] == "tile program softmax   4 warps   grid (M + 3)//4"
    assert "param N : i32 = N, a multiple of 8" in lines
    assert "space rows (i:4, j:1024)  blocked each (1, 8) lanes (1, 32) warps (4, 1) order (1, 0)" in lines
    assert "m : f32 rows(i:4) = max[j:1024](t5)   # greatest of each row; m @ softmax.yaml:9" in lines
    assert lines[-1].startswith("y[N*i0 + t4] = f16((e / sum[j:1024](e))) : f16 rows(i:4, j:1024) where t3")


def test_nesting_and_shared_memory_are_shown() -> None:
    text = show(matmul())
    assert "shared x_shared : 4 stages of f16[128 x 32]  swizzle 8/2/4 order (1, 0)  32768 bytes" in text
    assert "\nunrolled for s in 0 .. 3   # fill the pipeline\n| t1 : " in text
    assert "\n| acc : f32 acc(i:128, j:128) = acc + mma(x_shared[k % 4], w_shared[k % 4])" in text
    assert "\nwait until 0 groups are in flight\n" in text


def test_names_of_values_end_when_what_they_depend_on_changes() -> None:
    line = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
    acc = Var("acc", DType.F32, line, (0,))
    square = mul(acc, acc)
    body = [
        Assign("acc", Full(Literal(2.0, DType.F32), DType.F32, line, (0,))),
        Store("y", const(0), Lane(line, 0), None, add(square, square)),
        For("k", const(0), sym("n"), const(1), (Assign("acc", add(square, square)),)),
    ]
    text = show(program("squares", [pointer("y", DType.F32), size("n")], body))
    assert text.count("= (acc * acc)") == 2
    assert type_text(square) == "f32 line(i:128)"
