"""Each rule of the tile verifier, by a program that breaks just that rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tests.gluon.programs import (
    add,
    below,
    cast,
    lit,
    load,
    matmul,
    mul,
    op,
    pointer,
    program,
    size,
    softmax,
    space,
    uni,
)
from texpr.dtypes import DType
from texpr.lang import ir
from texpr.lang.ir import OpName, ReduceOp
from texpr.math.expr import const, sym
from texpr.tile.declarations import Buffer, Conflict, Space
from texpr.tile.ir import (
    Argument,
    Assign,
    Cast,
    Choose,
    Commit,
    CopyAsync,
    DotStep,
    Elementwise,
    Expr,
    For,
    Full,
    Half,
    If,
    Lane,
    Load,
    Reduce,
    Relayout,
    SharedGather,
    SharedTile,
    Statement,
    Store,
    StoreShared,
    TileProgram,
    Uniform,
    Var,
    Wait,
)
from texpr.tile.layouts import Blocked, Linear, MmaV2, MmaV3, Operand, Swizzled
from texpr.tile.uniform import Scalar
from texpr.tile.verify import TileError, verify

LAYOUT = Blocked((1, 4), (4, 8), (4, 1), (1, 0))
TILE = space("tile", LAYOUT, ("i", 64), ("j", 32))
LINE = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
ROW, COLUMN, LANE = Lane(TILE, 0), Lane(TILE, 1), Lane(LINE, 0)
X = load("x", DType.F32, add(mul(ROW, uni(32)), COLUMN))
ZERO = lit(0.0, DType.F32)
ACC = Var("acc", DType.F32, LINE, (0,))
CLEAR = Assign("acc", Full(ZERO, DType.F32, LINE, (0,)))
FLAT = Buffer("flat", DType.F32, (128,), 0, Swizzled(1, 1, 1, (0,)))
RING = Buffer("ring", DType.F32, (128,), 3, Swizzled(1, 1, 1, (0,)))
SOMETIMES = op(OpName.GT, uni(sym("n")), uni(const(3)))
COPY = CopyAsync("ring", const(0), load("x", DType.F32, LANE))


def made(*body: Statement, buffers: tuple[Buffer, ...] = (FLAT, RING), **changes: object) -> TileProgram:
    pointers = [pointer("x", DType.F32), pointer("y", DType.F32), pointer("h", DType.F16)]
    base = program("broken", [*pointers, size("n")], body, buffers=buffers)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def out(value: Expr, offset: Expr | None = LANE, mask: Expr | None = None, tensor: str = "y") -> Store:
    return Store(tensor, const(0), offset, mask, value)


def over(value: Expr) -> Assign:
    return Assign("value", value)


def with_layout(layout: object) -> Lane:
    return Lane(Space("odd", TILE.dims, layout), 0)  # type: ignore[arg-type]


MMA = MmaV2((2, 2))
MMA_ACC = space("mma", MMA, ("i", 64), ("j", 32))
OPERAND_A = space("a", Operand(0, MMA, 2), ("i", 64), ("k", 16))
OPERAND_B = space("b", Operand(1, MMA, 2), ("k", 16), ("j", 32))
A_TILE = Full(lit(0.0, DType.F16), DType.F16, OPERAND_A, (0, 1))
B_TILE = Full(lit(0.0, DType.F16), DType.F16, OPERAND_B, (0, 1))
MMA_ZERO = Full(ZERO, DType.F32, MMA_ACC, (0, 1))
WIDE_8 = space("wide", MmaV3((4, 2), (16, 32, 16)), ("i", 64), ("j", 64))
NARROW_8 = space("narrow", MmaV3((4, 2), (16, 32, 16)), ("i", 64), ("j", 32))


def full(where: Space) -> Full:
    return Full(ZERO, DType.F32, where, (0, 1))


ORDERED = ir.Monoid("ordered", (ir.Var("a", DType.F32),), (ir.Var("b", DType.F32),), (), (), commutative=False)

BROKEN: dict[str, tuple[Callable[[], TileProgram], str]] = {
    "warps": (lambda: made(warps=3), "3 warps"),
    "parameters": (lambda: made(parameters=(pointer("x", DType.F32), size("x"))), "share a name"),
    "buffers": (lambda: made(buffers=(FLAT, FLAT)), "share a name"),
    "buffer shape": (lambda: made(buffers=(Buffer("b", DType.F32, (96,), 0, FLAT.layout),)), "no powers of two"),
    "buffer order": (lambda: made(buffers=(Buffer("b", DType.F32, (4, 8), 0, FLAT.layout),)), "another rank"),
    "conflict": (lambda: made(conflicts=(Conflict("flat", TILE, (0,)),)), "not accessed as tile"),
    "lanes": (lambda: made(over(with_layout(Blocked((1, 1), (4, 4), (4, 1), (1, 0))))), "16 lanes"),
    "layout warps": (lambda: made(over(with_layout(Blocked((1, 1), (4, 8), (2, 1), (1, 0))))), "for 2 warps"),
    "layout rank": (lambda: made(over(with_layout(Blocked((1,), (32,), (4,), (0,))))), "another rank"),
    "linear shape": (lambda: made(over(with_layout(Linear((), ((0, 1),) * 5, ((1, 0),) * 2, (8, 8))))), "for shape"),
    "dim size": (lambda: made(over(Lane(space("odd", LINE.layout, ("i", 96)), 0))), "no power of two"),
    "undefined tile": (lambda: made(out(ACC)), "acc is used before it has a value"),
    "undefined scalar": (lambda: made(Scalar("a", sym("b") + 1)), "b is used before it has a value"),
    "undefined offset": (lambda: made(out(X, add(LANE, uni(sym("q"))))), "q is used before"),
    "inside a loop only": (
        lambda: made(For("k", const(0), sym("n"), const(1), (CLEAR,)), out(ACC)),
        "acc is used before it has a value, or outside of its loop",
    ),
    "counter after the loop": (
        lambda: made(For("k", const(0), sym("n"), const(1), ()), Scalar("a", sym("k"))),
        "k is used",
    ),
    "counter taken": (lambda: made(Scalar("k", const(1)), For("k", const(0), sym("n"), const(1), ())), "name in use"),
    "changing type": (lambda: made(CLEAR, Assign("acc", LANE)), "acc was f32 line"),
    "carried type": (
        lambda: made(CLEAR, For("k", const(0), sym("n"), const(1), (Assign("acc", ZERO),))),
        "becomes f32",
    ),
    "inside a condition only": (
        lambda: made(If(SOMETIMES, (CLEAR,)), out(ACC)),
        "acc is used before it has a value, or outside of its loop",
    ),
    "scalar of a condition": (
        lambda: made(If(SOMETIMES, (Scalar("a", sym("n")),)), Scalar("b", sym("a"))),
        "a is used",
    ),
    "condition that varies": (lambda: made(If(op(OpName.GT, LANE, uni(const(3))), ())), "a condition is bool"),
    "condition that is a number": (lambda: made(If(uni(sym("n")), ())), "a condition is i32"),
    "copies under a condition": (lambda: made(If(SOMETIMES, (COPY, Commit())), Wait(0)), "outside of it"),
    "copies uncommitted under a condition": (lambda: made(If(SOMETIMES, (COPY,)), Commit(), Wait(0)), "outside of it"),
    "wrong var": (lambda: made(CLEAR, out(Var("acc", DType.I32, LINE, (0,)))), "acc is read as i32"),
    "tile and integer": (lambda: made(Scalar("acc", const(1)), CLEAR), "already an integer"),
    "parameter assigned": (lambda: made(Scalar("n", const(1))), "parameter n is assigned"),
    "unrolled bounds": (lambda: made(For("k", const(0), sym("n"), const(1), (), static=True)), "not literal"),
    "backward loop": (lambda: made(For("k", const(8), const(0), const(-1), ())), "steps of -1"),
    "no pointer": (lambda: made(over(load("z", DType.F32, LANE))), "no pointer parameter z"),
    "pointer type": (lambda: made(over(load("h", DType.F32, LANE))), "h has f16 elements"),
    "offset type": (lambda: made(over(load("x", DType.F32, cast(LANE, DType.F32)))), "offset is no i32"),
    "mask type": (lambda: made(over(load("x", DType.F32, LANE, LANE))), "mask is no bool"),
    "filler type": (
        lambda: made(over(Load("x", const(0), LANE, None, lit(0, DType.I32), DType.F32, LINE, (0,)))),
        "masked elements",
    ),
    "loaded and stored": (lambda: made(out(load("y", DType.F32, LANE))), "loaded from and stored to"),
    "stored type": (lambda: made(out(LANE)), "y has f32 elements, not i32"),
    "value wider than addresses": (lambda: made(out(X, mul(ROW, uni(2)))), "varies where its addresses do not"),
    "store of two spaces": (lambda: made(out(cast(ROW, DType.F32), LANE)), "two spaces"),
    "mixed types": (
        lambda: made(over(Elementwise(OpName.ADD, (LANE, lit(1.0, DType.F32)), DType.I32, LINE, (0,)))),
        "mixes",
    ),
    "mixed spaces": (
        lambda: made(over(Elementwise(OpName.ADD, (LANE, ROW), DType.I32, LINE, (0,)))),
        "operands live in tile",
    ),
    "result type": (lambda: made(over(Elementwise(OpName.LT, (LANE, LANE), DType.I32, LINE, (0,)))), "gives bool"),
    "half arithmetic": (lambda: made(over(op(OpName.ADD, *[load("h", DType.F16, LANE)] * 2))), "computes in f16"),
    "bits of a float": (lambda: made(over(op(OpName.AND, X, X))), "& of f32"),
    "root of an integer": (lambda: made(over(op(OpName.SQRT, LANE))), "sqrt of i32"),
    "bool sum": (lambda: made(over(op(OpName.ADD, below(LANE, LANE), below(LANE, LANE)))), "+ of bool"),
    "operand count": (lambda: made(over(op(OpName.ADD, LANE))), "has 1 operands"),
    "dims": (lambda: made(over(Cast(ROW, DType.F32, TILE, (0, 1)))), "operands vary along dims"),
    "dims without a space": (lambda: made(over(Uniform(const(1), DType.I32, None, (0,)))), "without a space"),
    "uniform type": (lambda: made(over(uni(1, DType.U8))), "has type u8"),
    "argument": (lambda: made(over(Argument("n", DType.F32))), "no scalar parameter"),
    "choice": (lambda: made(over(Choose(LANE, LANE, LANE, DType.I32, LINE, (0,)))), "condition of a choice"),
    "choice types": (
        lambda: made(over(Choose(below(LANE, LANE), LANE, ZERO, DType.I32, LINE, (0,)))),
        "between i32 and f32",
    ),
    "no buffer": (lambda: made(over(SharedTile("none", None, (0,), DType.F32, LINE, (0,)))), "no buffer none"),
    "missing stage": (lambda: made(over(SharedTile("ring", None, (0,), DType.F32, LINE, (0,)))), "has 3 stages"),
    "tile shape": (lambda: made(over(SharedTile("flat", None, (0,), DType.F32, TILE, (1,)))), "gives a tile of shape"),
    "slice start": (
        lambda: made(over(SharedTile("flat", None, (0,), DType.F32, TILE, (1,), ((0, 16, 32),)))),
        "no multiple of 32",
    ),
    "gather of a matrix": (
        lambda: made(
            over(SharedGather("square", None, LANE, DType.F32, LINE, (0,))),
            buffers=(Buffer("square", DType.F32, (8, 8), 0, Swizzled(1, 1, 1, (1, 0))),),
        ),
        "is not flat",
    ),
    "stage number": (lambda: made(StoreShared("ring", const(3), load("x", DType.F32, LANE))), "no stage 3"),
    "stored shape": (lambda: made(StoreShared("flat", None, X)), "for buffer flat of shape"),
    "stored uniform": (lambda: made(StoreShared("flat", None, ZERO)), "has no layout"),
    "slice not known": (
        lambda: made(
            Scalar("s", const(0)), StoreShared("flat", None, load("x", DType.F32, LANE), (sym("s") * 128, 128))
        ),
        "not known while compiling",
    ),
    "reduced dim": (lambda: made(over(Reduce(ReduceOp.SUM, (X,), 1, 0, DType.F32, TILE, (0, 1)))), "keeps the dim"),
    "reduced nowhere": (
        lambda: made(over(Reduce(ReduceOp.SUM, (ROW,), 1, 0, DType.I32, TILE, (0,)))),
        "along a dim that no operand has",
    ),
    "arg-reduction of one": (lambda: made(over(Reduce(ReduceOp.ARGMAX, (X,), 1, 0, DType.F32, TILE, (0,)))), "on 2"),
    "ordered monoid": (lambda: made(over(Reduce(ORDERED, (X,), 1, 0, DType.F32, TILE, (0,)))), "not commutative"),
    "relayout of other dims": (lambda: made(over(Relayout(X, DType.F32, LINE, (0,)))), "change of layout from dims"),
    "relayout of a uniform": (lambda: made(over(Relayout(uni(1), DType.I32, LINE, (0,)))), "no layout to change"),
    "half of a tile": (lambda: made(over(Half(X, False, DType.F32, TILE, (0, 1)))), "no warpgroup has computed"),
    "half in several warps": (
        lambda: made(over(Half(full(WIDE_8), False, DType.F32, NARROW_8, (0, 1))), warps=8),
        "columns lie in several warps",
    ),
    "a quarter": (
        lambda: made(over(Half(full(space("wide", MmaV3((4, 1), (16, 64, 16)), ("i", 64), ("j", 64))), False,
                               DType.F32, space("half", MmaV3((4, 1), (16, 16, 16)), ("i", 64), ("j", 16)), (0, 1)))),
        "half of 64 x 64 values is 64 x 16",
    ),
    "half elsewhere": (
        lambda: made(over(Half(full(space("wide", MmaV3((4, 1), (16, 16, 16)), ("i", 64), ("j", 64))), True,
                               DType.F32, space("half", MmaV3((4, 1), (16, 32, 16)), ("i", 64), ("j", 32)), (0, 1)))),
        "columns change their threads",
    ),
    "product layout": (
        lambda: made(over(DotStep(MMA_ZERO, B_TILE, MMA_ZERO, True, DType.F32, MMA_ACC, (0, 1)))),
        "not in an operand layout",
    ),
    "product unit": (
        lambda: made(over(DotStep(A_TILE, B_TILE, MMA_ZERO, False, DType.F32, MMA_ACC, (0, 1)))),
        "another unit",
    ),
    "product type": (
        lambda: made(over(DotStep(A_TILE, B_TILE, MMA_ZERO, True, DType.F64, MMA_ACC, (0, 1)))),
        "shape (16, 8)",
    ),
    "copies never committed": (lambda: made(COPY), "never committed"),
    "copies in flight": (lambda: made(COPY, Commit()), "still in flight"),
    "copies of a loop in flight": (
        lambda: made(For("k", const(0), sym("n"), const(1), (COPY, Commit(), Wait(0), COPY, Commit()))),
        "still in flight",
    ),
    "copies committed outside": (
        lambda: made(For("k", const(0), sym("n"), const(1), (COPY,)), Commit(), Wait(0)),
        "outside of it",
    ),
    "read before a wait": (
        lambda: made(COPY, Commit(), over(SharedTile("ring", const(0), (0,), DType.F32, LINE, (0,))), Wait(0)),
        "read before any wait",
    ),
    "copy with a filler": (
        lambda: made(
            CopyAsync("ring", const(0), load("x", DType.F32, LANE, below(LANE, LANE), other=1.0)), Commit(), Wait(0)
        ),
        "are zero",
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_programs_are_refused(rule: str) -> None:
    build, message = BROKEN[rule]
    with pytest.raises(TileError) as caught:
        verify(build())
    assert message in caught.value.problem, caught.value.problem


def test_whole_programs_pass() -> None:
    verify(softmax())
    verify(matmul())
    verify(made(CLEAR, For("k", const(0), sym("n"), const(1), (Assign("acc", add(ACC, ACC)),)), out(ACC)))


def test_error_shows_the_statement() -> None:
    with pytest.raises(TileError, match=r"in: y\[0 \+ lane\(i:128\)\] = acc"):
        verify(made(out(ACC)))
