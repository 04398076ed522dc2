"""Tile programs written by hand, and short names for building them."""

from __future__ import annotations

from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import COMPARISONS, OpName, ReduceOp
from texpr.math.expr import ONE, ZERO, IntExpr, ceildiv, const, sym
from texpr.tile.declarations import Buffer, Dims, IntParam, Parameter, PhysicalDim, PointerParam, Space
from texpr.tile.ir import (
    Assign,
    Cast,
    Commit,
    CopyAsync,
    DotStep,
    Elementwise,
    Expr,
    For,
    Full,
    Lane,
    Literal,
    Load,
    Reduce,
    Relayout,
    SharedTile,
    Statement,
    Store,
    TileProgram,
    Uniform,
    Var,
    Wait,
)
from texpr.tile.layouts import Blocked, Layout, MmaV2, Operand, Swizzled
from texpr.tile.uniform import ProgramId, Scalar

PID, M, N, K = (sym(name) for name in ("pid", "M", "N", "K"))


def space(name: str, layout: Layout, *dims: tuple[str, int] | tuple[tuple[str, int], ...]) -> Space:
    """``space("rows", layout, ("i", 4), (("k", 2), ("j", 64)))``."""
    physical = []
    for dim in dims:
        first = dim[0]
        physical.append(PhysicalDim(dim if isinstance(first, tuple) else (dim,)))  # type: ignore[arg-type]
    return Space(name, tuple(physical), layout)


def joined(*args: Expr | None) -> tuple[Space | None, Dims]:
    present = [arg for arg in args if arg is not None]
    found = next((arg.space for arg in present if arg.space is not None), None)
    return found, tuple(sorted({dim for arg in present for dim in arg.dims}))


def op(name: OpName, *args: Expr) -> Elementwise:
    dtype = DType.BOOL if name in COMPARISONS else args[0].dtype
    return Elementwise(name, args, dtype, *joined(*args))


def add(*args: Expr) -> Elementwise:
    return op(OpName.ADD, *args)


def mul(*args: Expr) -> Elementwise:
    return op(OpName.MUL, *args)


def below(left: Expr, right: Expr) -> Elementwise:
    return op(OpName.LT, left, right)


def both(*args: Expr) -> Elementwise:
    return op(OpName.AND, *args)


def uni(value: IntExpr | int, dtype: DType = DType.I32) -> Uniform:
    return Uniform(const(value) if isinstance(value, int) else value, dtype)


def lit(value: int | float | bool, dtype: DType) -> Literal:
    return Literal(value, dtype)


def cast(value: Expr, dtype: DType) -> Cast:
    return Cast(value, dtype, value.space, value.dims)


def load(
    tensor: str, dtype: DType, offset: Expr | None, mask: Expr | None = None, base: IntExpr = ZERO, other: float = 0
) -> Load:
    filler = Literal(float(other) if dtype.is_float else int(other), dtype)
    return Load(tensor, base, offset, mask, filler, dtype, *joined(offset, mask))


def reduced(name: ReduceOp, value: Expr, dim: int) -> Reduce:
    assert value.space is not None
    return Reduce(name, (value,), dim, 0, value.dtype, value.space, tuple(d for d in value.dims if d != dim))


def pointer(name: str, dtype: DType, alignment: int = 16) -> PointerParam:
    return PointerParam(name, dtype, alignment)


def size(name: str, divisor: int = 1) -> IntParam:
    return IntParam(name, sym(name), divisor)


def program(
    name: str, parameters: Sequence[Parameter], body: Sequence[Statement], *, warps: int = 4,
    buffers: Sequence[Buffer] = (), grid: IntExpr = ONE,
) -> TileProgram:  # fmt: skip
    return TileProgram(name, warps, tuple(parameters), tuple(buffers), tuple(body), grid)


def softmax() -> TileProgram:
    """Rows of at most 1024 f16, four rows per program, a warp per row."""
    rows = space("rows", Blocked((1, 8), (1, 32), (4, 1), (1, 0)), ("i", 4), ("j", 1024))
    i, j = Lane(rows, 0), Lane(rows, 1)
    i0 = sym("i0")
    inside = both(below(add(uni(i0), i), uni(M)), below(j, uni(N)))
    offset = add(mul(i, uni(N)), j)
    x = cast(load("x", DType.F16, offset, inside, i0 * N, -float("inf")), DType.F32)
    top = reduced(ReduceOp.MAX, x, 1)
    shifted = op(OpName.SUB, x, Var("m", DType.F32, rows, (0,)))
    e = op(OpName.EXP, shifted)
    total = reduced(ReduceOp.SUM, Var("e", DType.F32, rows, (0, 1)), 1)
    y = op(OpName.DIV, Var("e", DType.F32, rows, (0, 1)), total)
    body = [
        ProgramId("pid"),
        Scalar("i0", PID * 4, "first row of the tile"),
        Assign("m", top, "greatest of each row", "m @ softmax.yaml:9"),
        Assign("e", e, "", "e @ softmax.yaml:10"),
        Store("y", i0 * N, offset, inside, cast(y, DType.F16), "y @ softmax.yaml:11"),
    ]
    return program(
        "softmax", [pointer("x", DType.F16), pointer("y", DType.F16), size("M"), size("N", 8)], body, grid=ceildiv(M, 4)
    )


def matmul(
    stages: int = 4, tile: tuple[int, int, int] = (128, 128, 32), dtype: DType = DType.F16, output: DType = DType.F16,
    operand: DType | None = None, k_width: int = 2, accumulator: DType = DType.F32,
) -> TileProgram:  # fmt: skip
    """y = x @ w by tensor cores, operands through a ring of shared buffers filled by asynchronous copies."""
    bm, bn, bk = tile
    mma = MmaV2((2, 2), (8, 8) if accumulator is DType.F64 else (16, 8))
    vector = 16 // dtype.bytes
    lanes_k, lanes_n = bk // vector, min(32, bn // vector)
    acc = space("acc", mma, ("i", bm), ("j", bn))
    a_space = space("acc_x", Operand(0, mma, k_width), ("i", bm), ("k", bk))
    b_space = space("acc_w", Operand(1, mma, k_width), ("k", bk), ("j", bn))
    x_copy = space("x_copy", Blocked((1, vector), (32 // lanes_k, lanes_k), (4, 1), (1, 0)), ("i", bm), ("k", bk))
    w_copy = space("w_copy", Blocked((1, vector), (32 // lanes_n, lanes_n), (4, 1), (1, 0)), ("k", bk), ("j", bn))
    y_tile = space("y_tile", Blocked((1, vector), (32 // lanes_n, lanes_n), (4, 1), (1, 0)), ("i", bm), ("j", bn))
    i0, j0, steps = sym("i0"), sym("j0"), sym("steps")

    def copies(step: IntExpr) -> list[Statement]:
        k0 = step * bk
        i, k = Lane(x_copy, 0), Lane(x_copy, 1)
        x_mask = both(below(add(uni(i0), i), uni(M)), below(add(uni(k0), k), uni(K)))
        x = load("x", dtype, add(mul(i, uni(K)), k), x_mask, i0 * K + k0)
        k, j = Lane(w_copy, 0), Lane(w_copy, 1)
        w_mask = both(below(add(uni(k0), k), uni(K)), below(add(uni(j0), j), uni(N)))
        w = load("w", dtype, add(mul(k, uni(N)), j), w_mask, k0 * N + j0)
        return [
            CopyAsync("x_shared", step % stages, x, "stage.x @ linear.yaml:17"),
            CopyAsync("w_shared", step % stages, w, "stage.w @ linear.yaml:18"),
            Commit(),
        ]

    turn = sym("k")
    a: Expr = SharedTile("x_shared", turn % stages, (0, 1), dtype, a_space, (0, 1))
    b: Expr = SharedTile("w_shared", turn % stages, (0, 1), dtype, b_space, (0, 1))
    if operand is not None:
        a, b = cast(a, operand), cast(b, operand)
    step = DotStep(a, b, Var("acc", accumulator, acc, (0, 1)), True, accumulator, acc, (0, 1))
    loop = For("k", const(0), steps, const(1), (
        Wait(stages - 2),
        *copies(turn + (stages - 1)),
        Assign("acc", step, "m16n8k16", "acc @ linear.yaml:15"),
    ), "for acc.k by 32")  # fmt: skip
    i, j = Lane(y_tile, 0), Lane(y_tile, 1)
    y = Relayout(cast(Var("acc", accumulator, acc, (0, 1)), output), output, y_tile, (0, 1))
    y_mask = both(below(add(uni(i0), i), uni(M)), below(add(uni(j0), j), uni(N)))
    tiles_j = ceildiv(N, bn)
    body: list[Statement] = [
        ProgramId("pid"),
        Scalar("tiles_j", tiles_j),
        Scalar("i0", sym("pid") // sym("tiles_j") * bm, "first row of the tile"),
        Scalar("j0", sym("pid") % sym("tiles_j") * bn, "first column of the tile"),
        Scalar("steps", ceildiv(K, bk)),
        Assign("acc", Full(lit(0.0 if accumulator.is_float else 0, accumulator), accumulator, acc, (0, 1)), "", "acc"),
        For("s", const(0), const(stages - 1), const(1), tuple(copies(sym("s"))), "fill the pipeline", static=True),
        loop,
        Wait(0),
        Store("y", i0 * N + j0, add(mul(i, uni(N)), j), y_mask, y, "y @ linear.yaml:16"),
    ]
    order = (1, 0)
    buffers = [
        Buffer("x_shared", dtype, (bm, bk), stages, Swizzled(vector, max(1, 128 // (bk * dtype.bytes)), 4, order)),
        Buffer("w_shared", dtype, (bk, bn), stages, Swizzled(vector, 1, min(8, bn // vector), order)),
    ]
    sizes = [size("M"), size("N", 16), size("K", 16)]
    parameters = [pointer("x", dtype), pointer("w", dtype), pointer("y", output), *sizes]
    return program("matmul", parameters, body, buffers=buffers, grid=ceildiv(M, bm) * tiles_j)
