"""Tile programs written by hand whose operands arrive by tensor copies."""

from __future__ import annotations

import dataclasses

from tests.gluon.programs import (
    PID,
    K,
    M,
    N,
    add,
    below,
    both,
    cast,
    lit,
    mul,
    pointer,
    program,
    size,
    space,
    uni,
)  # fmt: skip
from texpr.dtypes import DType
from texpr.math.expr import IntExpr, ceildiv, const, lt, sym
from texpr.tile.declarations import Barriers, Buffer, Parameter, TensorMapParam
from texpr.tile.ir import (
    Assign,
    DotStep,
    Expr,
    For,
    Full,
    Lane,
    Relayout,
    Role,
    SharedTile,
    Specialise,
    Statement,
    Store,
    StoreShared,
    TileProgram,
    Var,
)
from texpr.tile.layouts import Blocked, MmaV2, Nvmma, Operand
from texpr.tile.protocol import (
    Advance,
    Arrive,
    CopyTensor,
    Expect,
    FenceAsync,
    StoreTensor,
    WaitBarrier,
    WaitStores,
)
from texpr.tile.uniform import ProgramId, Scalar

F16, F32 = DType.F16, DType.F32
BM, BN, BK = 64, 64, 32
X_LAYOUT, W_LAYOUT, Y_LAYOUT = Nvmma(64, 16, False, 2), Nvmma(128, 16, False, 2), Nvmma(128, 16, False, 2)
BYTES = 2 * (BM * BK + BK * BN)
ACC = space("acc", MmaV2((2, 2)), ("i", BM), ("j", BN))
A_SPACE = space("acc_x", Operand(0, MmaV2((2, 2)), 2), ("i", BM), ("k", BK))
B_SPACE = space("acc_w", Operand(1, MmaV2((2, 2)), 2), ("k", BK), ("j", BN))
ACCUMULATOR = Var("acc", F32, ACC, (0, 1))


def _maps() -> list[Parameter]:
    return [
        TensorMapParam("x_map", "x", F16, (BM, BK), X_LAYOUT, (M, K), (K, const(1))),
        TensorMapParam("w_map", "w", F16, (BK, BN), W_LAYOUT, (K, N), (N, const(1))),
    ]


def _ring(depth: int) -> list[Buffer]:
    return [
        Buffer("x_shared", F16, (BM, BK), depth, X_LAYOUT),
        Buffer("w_shared", F16, (BK, BN), depth, W_LAYOUT),
    ]


def _copies(step: IntExpr, slot: IntExpr, guarded: bool) -> list[Statement]:
    when = {"when": lt(step, sym("steps"))} if guarded else {}
    k0 = step * BK
    return [
        Expect("full", slot, BYTES, **when),
        CopyTensor("x_shared", slot, "x_map", (sym("i0"), k0), "full", slot, origin="stage.x @ ring.yaml:7", **when),
        CopyTensor("w_shared", slot, "w_map", (k0, sym("j0")), "full", slot, origin="stage.w @ ring.yaml:8", **when),
    ]


def _multiply(slot: IntExpr) -> Statement:
    a: Expr = SharedTile("x_shared", slot, (0, 1), F16, A_SPACE, (0, 1))
    b: Expr = SharedTile("w_shared", slot, (0, 1), F16, B_SPACE, (0, 1))
    return Assign("acc", DotStep(a, b, ACCUMULATOR, True, F32, ACC, (0, 1)), "", "acc @ ring.yaml:5")


def _start() -> Statement:
    return Assign("acc", Full(lit(0.0, F32), F32, ACC, (0, 1)), "", "acc")


def _tile(index: IntExpr) -> list[Statement]:
    return [
        Scalar("i0", index // sym("tiles_j") * BM, "first row of the tile"),
        Scalar("j0", index % sym("tiles_j") * BN, "first column of the tile"),
    ]


def straight(depth: int) -> TileProgram:
    """y = x @ w, every program a tile: copies run ``depth - 1`` steps ahead in a ring of ``depth`` slots."""
    out = space("y_tile", Blocked((1, 8), (4, 8), (4, 1), (1, 0)), ("i", BM), ("j", BN))
    i, j = Lane(out, 0), Lane(out, 1)
    inside = both(below(add(uni(sym("i0")), i), uni(M)), below(add(uni(sym("j0")), j), uni(N)))
    ahead = depth - 1
    step = sym("step")
    slot = step % depth
    body: list[Statement] = [
        ProgramId("pid"),
        Scalar("tiles_j", ceildiv(N, BN)),
        *_tile(PID),
        Scalar("steps", ceildiv(K, BK)),
        _start(),
        For("early", const(0), const(ahead), const(1), tuple(_copies(sym("early"), sym("early"), True)), "", True),
        For("step", const(0), sym("steps"), const(1), (
            *_copies(step + ahead, (step + ahead) % depth, True),
            WaitBarrier("full", slot, step // depth % 2, "operands of this step"),
            _multiply(slot),
        )),
        Store("y", sym("i0") * N + sym("j0"), add(mul(i, uni(N)), j), inside,
              Relayout(cast(ACCUMULATOR, F16), F16, out, (0, 1)), "y @ ring.yaml:6"),
    ]  # fmt: skip
    parameters = [*_maps(), pointer("y", F16), size("M"), size("N", 8), size("K", 8)]
    made = program("straight", parameters, body, buffers=_ring(depth), grid=ceildiv(M, BM) * ceildiv(N, BN))
    return _with_barriers(made, Barriers("full", depth, 1, "operands have landed"))


def specialised(depth: int) -> TileProgram:
    """y = x @ w by persistent programs: a warp copies, four multiply and store by tensor copies."""
    done, step = sym("done"), sym("step")
    position = done + step
    slot, turn = position % depth, position // depth
    tiles = For("tile", PID, sym("tiles"), sym("programs"), ())

    def over_tiles(*body: Statement) -> tuple[Statement, ...]:
        return (
            Scalar("done", const(0)),
            For(tiles.counter, tiles.start, tiles.stop, tiles.step, (*_tile(sym("tile")), *body)),
        )

    produce = over_tiles(
        For("step", const(0), sym("steps"), const(1), (
            WaitBarrier("empty", slot, (turn + 1) % 2, "the slot has been read"),
            *_copies(step, slot, False),
        )),
        Advance("done", sym("steps")),
    )  # fmt: skip
    consume = (
        *over_tiles(
            _start(),
            For("step", const(0), sym("steps"), const(1), (
                WaitBarrier("full", slot, turn % 2),
                _multiply(slot),
                Arrive("empty", slot),
            )),
            Advance("done", sym("steps")),
            WaitStores(0),
            StoreShared("y_shared", None, cast(ACCUMULATOR, F16), origin="y @ ring.yaml:6"),
            FenceAsync(),
            StoreTensor("y_map", (sym("i0"), sym("j0")), "y_shared", None, "y @ ring.yaml:6"),
        ),
        WaitStores(0),
    )  # fmt: skip
    body: list[Statement] = [
        ProgramId("pid"),
        Scalar("tiles_j", ceildiv(N, BN)),
        Scalar("tiles", ceildiv(M, BM) * sym("tiles_j")),
        Scalar("steps", ceildiv(K, BK)),
        Specialise((Role("compute", 4, 216, consume, True), Role("load", 1, 40, produce, False))),
    ]
    y_map = TensorMapParam("y_map", "y", F16, (BM, BN), Y_LAYOUT, (M, N), (N, const(1)))
    parameters = [*_maps(), y_map, size("M"), size("N", 8), size("K", 8), size("programs")]
    buffers = [*_ring(depth), Buffer("y_shared", F16, (BM, BN), 0, Y_LAYOUT)]
    made = program("specialised", parameters, body, buffers=buffers, grid=sym("programs"))
    return _with_barriers(
        made, Barriers("full", depth, 1, "operands have landed"), Barriers("empty", depth, 1, "operands were read")
    )


def _with_barriers(made: TileProgram, *barriers: Barriers) -> TileProgram:
    return dataclasses.replace(made, barriers=barriers)
