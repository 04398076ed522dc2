"""Tiles as wholes, run on the emulator: broadcasting between slices, reductions, changes of layout, shared memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gluon.programs import (
    add,
    below,
    cast,
    lit,
    load,
    mul,
    op,
    pointer,
    program,
    reduced,
    size,
    space,
    uni,
)
from tests.gluon.toolbox import Array, build, run, storage_dtype
from texpr.dtypes import DType
from texpr.lang import ir
from texpr.lang.ir import OpName, ReduceOp
from texpr.math.expr import const, sym
from texpr.tile.declarations import Buffer, PresentParam, ScalarParam, Space
from texpr.tile.ir import (
    Argument,
    Assign,
    Choose,
    Expr,
    For,
    Full,
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
    Var,
)
from texpr.tile.layouts import Blocked, Layout, Linear, MmaV2, Swizzled
from texpr.tile.uniform import Scalar
from texpr.tile.verify import verify

CUBE = Blocked((1, 2, 2), (2, 4, 4), (2, 2, 1), (2, 1, 0))
SQUARE_BLOCKED = Blocked((1, 4), (4, 8), (4, 1), (1, 0))
SQUARE_LINEAR = Linear(
    ((0, 1), (0, 2), (8, 0), (16, 0)), ((0, 4), (0, 8), (0, 16), (1, 0), (2, 0)), ((4, 0), (32, 0)), (64, 32)
)
SQUARE_MMA = MmaV2((2, 2))


def flat_index(where: Space, dims: tuple[int, ...]) -> Expr:
    """The row-major position over ``dims``."""
    result: Expr = Lane(where, dims[0])
    for dim in dims[1:]:
        result = add(mul(result, uni(where.dims[dim].size)), Lane(where, dim))
    return result


def stored(name: str, value: Expr) -> Store:
    """``name[...] = value``, row-major over the value's dims."""
    offset = None if not value.dims else flat_index(value.space, value.dims)  # type: ignore[arg-type]
    return Store(name, const(0), offset, None, value)


def launch(made: TileProgram, tensors: dict[str, Array], **scalars: float) -> dict[str, Array]:
    verify(made)
    copies = {name: array.copy() for name, array in tensors.items()}
    run(build(made), copies, **scalars)
    return copies


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_slices_of_rank_three_broadcast_into_each_other() -> None:
    cube = space("cube", CUBE, ("i", 8), ("j", 16), ("k", 8))
    a, b, c = (load(name, DType.F32, Lane(cube, dim)) for dim, name in enumerate("abc"))
    value = add(mul(add(a, b), add(b, c)), mul(add(a, c), op(OpName.SUB, c, a)))
    made = program("slices", [pointer(n, DType.F32) for n in "abcy"], [stored("y", value)])
    va, vb, vc = floats(8), floats(16, seed=1), floats(8, seed=2)
    got = launch(made, {"a": va, "b": vb, "c": vc, "y": np.zeros((8, 16, 8), np.float32)})["y"]
    va, vb, vc = va[:, None, None], vb[None, :, None], vc[None, None, :]
    np.testing.assert_allclose(got, (va + vb) * (vb + vc) + (va + vc) * (vc - va), rtol=1e-5, atol=1e-5)


def test_reductions_of_rank_three_leave_slices_that_fit() -> None:
    cube = space("cube", CUBE, ("i", 8), ("j", 16), ("k", 8))
    x = load("x", DType.F32, flat_index(cube, (0, 1, 2)))
    sums = {dim: reduced(ReduceOp.SUM, x, dim) for dim in range(3)}
    pairs = {(a, b): reduced(ReduceOp.SUM, sums[a], b) for a in range(3) for b in range(3) if a != b}
    body: list[Statement] = [stored(f"s{dim}", value) for dim, value in sums.items()]
    body += [stored(f"p{a}{b}", value) for (a, b), value in pairs.items()]
    centred = op(OpName.SUB, x, pairs[2, 1])
    body.append(stored("centred", add(centred, sums[1])))
    values = floats(8, 16, 8)
    tensors = {"x": values, "centred": np.zeros_like(values)}
    tensors |= {f"s{dim}": np.zeros_like(values.sum(dim)) for dim in sums}
    tensors |= {f"p{a}{b}": np.zeros_like(values.sum((a, b))) for a, b in pairs}
    got = launch(program("reductions", [pointer(n, DType.F32) for n in tensors], body), tensors)
    for dim in sums:
        np.testing.assert_allclose(got[f"s{dim}"], values.sum(dim), rtol=1e-4, atol=1e-5)
    for a, b in pairs:
        np.testing.assert_allclose(got[f"p{a}{b}"], values.sum((a, b)), rtol=1e-4, atol=1e-4)
    want = values - values.sum((1, 2), keepdims=True) + values.sum(1, keepdims=True)
    np.testing.assert_allclose(got["centred"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [SQUARE_BLOCKED, SQUARE_LINEAR, SQUARE_MMA], ids=["blocked", "linear", "mma"])
def test_rows_and_columns_of_any_layout(layout: Layout) -> None:
    square = space("square", layout, ("i", 64), ("j", 32))
    x = load("x", DType.F32, flat_index(square, (0, 1)))
    rows, columns = reduced(ReduceOp.MAX, x, 1), reduced(ReduceOp.SUM, x, 0)
    total = reduced(ReduceOp.SUM, columns, 1)
    body = [stored("rows", rows), stored("columns", columns), stored("y", op(OpName.SUB, x, rows)), stored("t", total)]
    values = floats(64, 32)
    values[3, 4] = np.nan
    shapes = {"rows": 64, "columns": 32, "y": (64, 32), "t": 1}
    tensors = {"x": values, **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()}}
    got = launch(program("square", [pointer(n, DType.F32) for n in tensors], body), tensors)
    np.testing.assert_array_equal(got["rows"], values.max(1))
    np.testing.assert_allclose(got["columns"], values.sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(got["y"], values - values.max(1)[:, None])
    assert np.isnan(got["t"][0])


def test_change_of_layout_may_turn_dims_round() -> None:
    here = space("here", SQUARE_BLOCKED, ("i", 64), ("j", 32))
    there = space("there", Blocked((1, 4), (2, 16), (4, 1), (1, 0)), ("j", 32), ("i", 64))
    x = load("x", DType.F32, flat_index(here, (0, 1)))
    row = reduced(ReduceOp.SUM, x, 1)
    moved = Relayout(x, DType.F32, there, (0, 1))
    moved_row = Relayout(row, DType.F32, there, (1,))
    values = floats(64, 32)
    made = program("turned", [pointer(n, DType.F32) for n in "xy"], [stored("y", add(moved, moved_row))])
    got = launch(made, {"x": values, "y": np.zeros((32, 64), np.float32)})["y"]
    np.testing.assert_allclose(got, values.T + values.sum(1), rtol=1e-4, atol=1e-4)


REDUCTIONS = {
    (ReduceOp.SUM, DType.I8): lambda x: x.sum(1, dtype=np.int8),
    (ReduceOp.PROD, DType.I32): lambda x: x.prod(1, dtype=np.int32),
    (ReduceOp.MIN, DType.F32): lambda x: x.min(1), (ReduceOp.MAX, DType.F64): lambda x: x.max(1),
    (ReduceOp.MAX, DType.U8): lambda x: x.max(1), (ReduceOp.MIN, DType.I64): lambda x: x.min(1),
    (ReduceOp.AND, DType.U32): lambda x: np.bitwise_and.reduce(x, 1),
    (ReduceOp.OR, DType.I16): lambda x: np.bitwise_or.reduce(x, 1),
    (ReduceOp.XOR, DType.U64): lambda x: np.bitwise_xor.reduce(x, 1), (ReduceOp.ANY, DType.BOOL): lambda x: x.any(1),
    (ReduceOp.ALL, DType.BOOL): lambda x: x.all(1),
}  # fmt: skip


def test_every_reduction_in_its_own_type() -> None:
    square = space("square", SQUARE_BLOCKED, ("i", 64), ("j", 32))
    rng = np.random.default_rng(4)
    parameters, body, tensors, wanted = [], [], {}, {}
    for n, ((reduction, dtype), reference) in enumerate(REDUCTIONS.items()):
        kind = storage_dtype(dtype)
        if dtype.is_float:
            values = rng.standard_normal((64, 32)).astype(kind)
            values[5, 6] = np.nan
        elif dtype is DType.BOOL:
            values = rng.random((64, 32)) < np.linspace(0, 1, 64)[:, None]
        else:
            values = rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, (64, 32), dtype=kind)
        x = load(f"x{n}", dtype, flat_index(square, (0, 1)))
        parameters += [pointer(f"x{n}", dtype), pointer(f"y{n}", dtype)]
        body.append(stored(f"y{n}", reduced(reduction, x, 1)))
        tensors |= {f"x{n}": values, f"y{n}": np.zeros(64, kind)}
        wanted[f"y{n}"] = reference(values)
    got = launch(program("every_reduction", parameters, body), tensors)
    for name, want in wanted.items():
        np.testing.assert_array_equal(got[name], want, name)


@pytest.mark.parametrize("dtype", [DType.F32, DType.I32])
@pytest.mark.parametrize("index", [DType.I32, DType.I64])
def test_arg_reductions_take_the_lowest_index_and_nan_first(dtype: DType, index: DType) -> None:
    square = space("square", SQUARE_BLOCKED, ("i", 64), ("j", 32))
    key = load("x", dtype, flat_index(square, (0, 1)))
    live = load("live", DType.BOOL, flat_index(square, (0, 1)))
    lowest = -np.inf if dtype is DType.F32 else np.iinfo(np.int32).min
    highest = np.inf if dtype is DType.F32 else np.iinfo(np.int32).max
    body: list[Statement] = []
    for name, end in ((ReduceOp.ARGMAX, lowest), (ReduceOp.ARGMIN, highest)):
        masked = Choose(live, key, lit(end, dtype), dtype, square, (0, 1))
        position = Choose(live, cast(Lane(square, 1), index), lit(-1, index), index, square, (0, 1))
        for component, kind in enumerate((dtype, index)):
            value = Reduce(name, (masked, position), 1, component, kind, square, (0,))
            body.append(stored(f"{name.value}{component}", value))
    rng = np.random.default_rng(8)
    values = rng.integers(-3, 4, (64, 32)).astype(storage_dtype(dtype))
    if dtype is DType.F32:
        values[::3, 7] = values[::3, 20] = np.nan
        values[5] = -np.inf
        values[6] = np.inf
    alive = rng.random((64, 32)) < 0.7
    alive[9] = False
    tensors = {"x": values, "live": alive}
    for name in ("argmax", "argmin"):
        tensors |= {f"{name}0": np.zeros(64, values.dtype), f"{name}1": np.zeros(64, storage_dtype(index))}
    kinds = {"x": dtype, "live": DType.BOOL} | {f"{name}1": index for name in ("argmax", "argmin")}
    parameters = [pointer(name, kinds.get(name, dtype)) for name in tensors]
    got = launch(program("arg", parameters, body), tensors)
    for name, sign in (("argmax", 1), ("argmin", -1)):
        for row in range(64):
            chosen = [j for j in range(32) if alive[row, j]]
            nan = [j for j in chosen if np.isnan(values[row, j])]
            best = nan[0] if nan else max(chosen, key=lambda j: (sign * float(values[row, j]), -j), default=-1)
            assert got[f"{name}1"][row] == best, (name, row)


def test_monoid_of_two_components() -> None:
    """Mean and sum of squared deviations, combined pairwise (Chan)."""
    left = tuple(ir.Var(n, DType.F32) for n in ("n", "mean", "m2"))
    right = tuple(ir.Var(n, DType.F32) for n in ("n2", "mean2", "m22"))

    def make(name: OpName, *args: ir.Expr) -> ir.Expr:
        return ir.Op(name, args, DType.F32)

    count = make(OpName.ADD, left[0], right[0])
    safe = make(OpName.MAX, count, ir.Const(1.0, DType.F32))
    delta = make(OpName.SUB, right[1], left[1])
    mean = make(OpName.ADD, left[1], make(OpName.DIV, make(OpName.MUL, delta, right[0]), safe))
    square = make(OpName.POW, delta, ir.Const(2, DType.F32))
    cross = make(OpName.DIV, make(OpName.MUL, square, make(OpName.MUL, left[0], right[0])), safe)
    m2 = make(OpName.ADD, make(OpName.ADD, left[2], right[2]), cross)
    zero = ir.Const(0.0, DType.F32)
    welford = ir.Monoid("welford", left, right, (count, mean, m2), (zero, zero, zero), True)
    tile = space("tile", SQUARE_BLOCKED, ("i", 64), ("j", 32))
    x = load("x", DType.F32, flat_index(tile, (0, 1)))
    parts = (lit(1.0, DType.F32), x, lit(0.0, DType.F32))
    body = [stored(n, Reduce(welford, parts, 1, c, DType.F32, tile, (0,))) for c, n in ((1, "mean"), (2, "m2"))]
    values = floats(64, 32) + 100
    tensors = {"x": values, "mean": np.zeros(64, np.float32), "m2": np.zeros(64, np.float32)}
    made = program("moments", [pointer(n, DType.F32) for n in tensors], body)
    assert build(made).source.text.count("gl.reduce") == 1
    got = launch(made, tensors)
    np.testing.assert_allclose(got["mean"], values.mean(1, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(got["m2"], values.var(1, dtype=np.float64) * 32, rtol=1e-3)


def test_shared_buffers_are_written_sliced_turned_and_gathered() -> None:
    square = space("square", SQUARE_BLOCKED, ("i", 64), ("j", 32))
    turned = space("turned", Blocked((1, 4), (2, 16), (4, 1), (1, 0)), ("j", 32), ("i", 64))
    half = space("half", Blocked((1, 4), (4, 8), (4, 1), (1, 0)), ("i", 32), ("j", 32))
    line = space("line", Blocked((1,), (32,), (4,), (0,)), ("t", 256))
    cube = space("cube", CUBE, ("i", 8), ("j", 8), ("k", 8))
    x = load("x", DType.F32, flat_index(square, (0, 1)))
    row = load("row", DType.F32, Lane(square, 1))
    piece = load("x", DType.F32, Lane(line, 0))
    later = load("x", DType.F32, add(Lane(line, 0), uni(256)))
    reverse = op(OpName.SUB, uni(2047), flat_index(square, (0, 1)))
    body: list[Statement] = [
        StoreShared("tile", const(0), x),
        StoreShared("tile", const(1), row),
        StoreShared("flat", None, piece, (const(0), 256)),
        StoreShared("flat", None, later, (const(256), 256)),
        StoreShared("flags", None, below(x, lit(0.0, DType.F32))),
        StoreShared("level", None, Full(lit(7.0, DType.F32), DType.F32, line, (0,))),
        stored("turned", SharedTile("tile", const(0), (1, 0), DType.F32, turned, (0, 1))),
        stored("rows", SharedTile("tile", const(1), (0, 1), DType.F32, square, (0, 1))),
        stored("half", SharedTile("tile", const(0), (0, 1), DType.F32, half, (0, 1), ((0, 32, 32),))),
        stored("flags", SharedTile("flags", None, (0, 1), DType.BOOL, square, (0, 1))),
        stored("reverse", SharedGather("flat", None, op(OpName.MOD, reverse, uni(512)), DType.F32, square, (0, 1))),
        stored("cube", SharedGather("flat", None, flat_index(cube, (0, 1, 2)), DType.F32, cube, (0, 1, 2))),
        stored("column", SharedGather("flat", None, mul(Lane(square, 0), uni(8)), DType.F32, square, (0,))),
        stored("one", SharedGather("flat", None, uni(17), DType.F32, None, ())),
        stored("level", SharedTile("level", None, (0,), DType.F32, line, (0,))),
    ]
    swizzled = Swizzled(4, 1, 8, (1, 0))
    buffers = [
        Buffer("tile", DType.F32, (64, 32), 2, swizzled),
        Buffer("flat", DType.F32, (512,), 0, Swizzled(1, 1, 1, (0,))),
        Buffer("flags", DType.BOOL, (64, 32), 0, Swizzled(16, 4, 2, (1, 0))),
        Buffer("level", DType.F32, (256,), 0, Swizzled(1, 1, 1, (0,))),
    ]
    values, vector = floats(64, 32), floats(32, seed=1)
    zeros = {"turned": (32, 64), "rows": (64, 32), "half": (32, 32), "reverse": (64, 32), "cube": (8, 8, 8)}
    zeros |= {"column": (64,)}
    tensors = {"x": values, "row": vector, **{n: np.zeros(s, np.float32) for n, s in zeros.items()}}
    tensors |= {"one": np.zeros(1, np.float32), "level": np.zeros(256, np.float32), "flags": np.zeros((64, 32), bool)}
    parameters = [pointer(n, DType.BOOL if n == "flags" else DType.F32) for n in tensors]
    got = launch(program("shared", parameters, body, buffers=buffers), tensors)
    flat = values.ravel()[:512]
    wanted = {
        "turned": values.T, "rows": np.broadcast_to(vector, (64, 32)), "half": values[32:], "flags": values < 0,
        "reverse": flat[(2047 - np.arange(2048)) % 512].reshape(64, 32), "cube": flat.reshape(8, 8, 8),
        "column": flat[np.arange(64) * 8], "one": flat[17:18], "level": np.full(256, 7.0),
    }  # fmt: skip
    for name, want in wanted.items():
        np.testing.assert_array_equal(got[name], want, name)


def test_loops_carry_values_and_may_not_run_at_all() -> None:
    line = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
    i, turn = Lane(line, 0), sym("k")
    acc, last = Var("acc", DType.F32, line, (0,)), Var("last", DType.F32, line, (0,))
    x = load("x", DType.F32, i, base=turn * 128)
    doubled = mul(acc, lit(2.0, DType.F32))
    body: list[Statement] = [
        Assign("acc", Full(lit(1.0, DType.F32), DType.F32, line, (0,))),
        Assign("last", doubled),
        For("k", const(0), sym("n"), const(1), (
            Scalar("odd", turn % 2),
            Assign("acc", add(acc, x)),
            Assign("last", add(doubled, cast(uni(sym("odd")), DType.F32))),
            Assign("acc", add(acc, last)),
        )),
        stored("y", acc),
        stored("z", last),
    ]  # fmt: skip
    made = program("carried", [*(pointer(n, DType.F32) for n in "xyz"), size("n")], body)
    values = floats(5, 128)
    for n in (0, 1, 5):
        got = launch(made, {"x": values, "y": np.zeros(128, np.float32), "z": np.zeros(128, np.float32)}, n=n)
        want_acc = np.ones(128, np.float32)
        want_last = want_acc * 2
        for k in range(n):
            want_acc = want_acc + values[k]
            want_last = want_acc * 2 + np.float32(k % 2)
            want_acc = want_acc + want_last
        np.testing.assert_allclose(got["y"], want_acc, rtol=1e-5)
        np.testing.assert_allclose(got["z"], want_last, rtol=1e-5)


def test_scalar_arguments_optional_tensors_and_uniform_loads() -> None:
    line = space("line", Blocked((1,), (32,), (4,), (0,)), ("i", 128))
    i = Lane(line, 0)
    present = op(OpName.NE, uni(sym("has_b")), uni(0))
    b = Load("b", const(0), i, present, lit(0.0, DType.F32), DType.F32, line, (0,))
    first = Load("x", const(3), None, None, lit(0.0, DType.F32), DType.F32, None, ())
    repeated = Load("x", const(5), None, below(i, uni(9)), lit(-1.0, DType.F32), DType.F32, line, (0,))
    scaled = mul(cast(Argument("scale", DType.F16), DType.F32), load("x", DType.F32, i))
    chosen = Choose(Argument("flag", DType.BOOL), scaled, repeated, DType.F32, line, (0,))
    large = cast(Argument("big", DType.I64), DType.F32)
    value = add(add(chosen, b), add(first, large))
    parameters = [
        *(pointer(n, DType.F32) for n in "xby"), ScalarParam("scale", DType.F16), ScalarParam("flag", DType.BOOL),
        ScalarParam("big", DType.I64), PresentParam("has_b", "b"),
    ]  # fmt: skip
    made = program("arguments", parameters, [stored("y", value)])
    values, bias = floats(128), floats(128, seed=1)
    for flag, has in ((1, 1), (0, 1), (1, 0)):
        tensors = {"x": values, "b": bias, "y": np.zeros(128, np.float32)}
        got = launch(made, tensors, scale=1.5, flag=flag, big=1 << 40, has_b=has)["y"]
        picked = values * np.float32(1.5) if flag else np.where(np.arange(128) < 9, values[5], np.float32(-1))
        want = picked + (bias if has else 0) + (values[3] + np.float32(1 << 40))
        np.testing.assert_allclose(got, want, rtol=1e-5)
