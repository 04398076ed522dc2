"""Every scalar operation: the emitted code run on the emulator against NumPy, on values chosen to be awkward."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gluon.programs import cast, lit, load, op, pointer, program, space
from tests.gluon.toolbox import Array, build, decode, encode, run, storage_dtype
from texpr.dtypes import DType
from texpr.instructions import op_error
from texpr.lang.ir import OpName
from texpr.math.expr import const
from texpr.tile.ir import Choose, Expr, InlinePtx, Lane, Statement, Store
from texpr.tile.layouts import Blocked

POINTS = 256
LINE = space("points", Blocked((1,), (32,), (4,), (0,)), ("i", POINTS))
LANE = Lane(LINE, 0)


def outputs(name: str, dtype: DType, exprs: dict[str, Expr], *inputs: tuple[str, Array], of: DType) -> dict[str, Array]:
    """Run one kernel that stores every expression to an output of its name."""
    parameters = [*(pointer(tensor, of) for tensor, _ in inputs)]
    body: list[Statement] = []
    tensors = {tensor: array.copy() for tensor, array in inputs}
    for output, expr in exprs.items():
        parameters.append(pointer(output, expr.dtype))
        body.append(Store(output, const(0), LANE, None, expr))
        tensors[output] = np.zeros(POINTS, storage_dtype(expr.dtype))
    run(build(program(f"{name}_{dtype}", parameters, body)), tensors)
    return {output: decode(tensors[output], exprs[output].dtype) for output in exprs}


def floats(dtype: DType, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 1e-3, -1e-3, 0.54, 0.56, -0.56, 8.5, -8.5, 100.25, 1e-30]
    values = np.concatenate([special, [np.inf, -np.inf, np.nan], rng.standard_normal(POINTS - len(special) - 3) * 4])
    return encode(values, dtype)


UNARY = {
    OpName.EXP: np.exp, OpName.EXP2: np.exp2, OpName.LOG: np.log, OpName.LOG2: np.log2, OpName.SQRT: np.sqrt,
    OpName.RSQRT: lambda x: 1 / np.sqrt(x), OpName.SIN: np.sin, OpName.COS: np.cos, OpName.TANH: np.tanh,
    OpName.FLOOR: np.floor, OpName.CEIL: np.ceil, OpName.ABS: np.abs, OpName.NEG: np.negative,
}  # fmt: skip


def assert_close(op_name: OpName, dtype: DType, got: Array, want: Array, first: Array) -> None:
    error = op_error(op_name, dtype)
    with np.errstate(all="ignore"):
        finest = np.ldexp(1.0, -149 if dtype is DType.F32 else -1074)
        ulp = np.maximum(np.abs(want) * np.ldexp(1.0, -dtype.mantissa_bits), finest)
        allowed = (error.ulp + 0.5) * ulp + error.absolute + error.per_input * np.abs(first) * np.abs(want)
        largest = float(np.finfo(np.float32).max) if dtype is DType.F32 else np.inf
        exact = (got == want) | (np.isnan(got) & np.isnan(want)) | (np.isinf(got) & (np.abs(want) > largest))
        wrong = ~(exact | (np.abs(got - want) <= allowed))
    assert not wrong.any(), f"{op_name}: x={first[wrong][:4]} got {got[wrong][:4]} want {want[wrong][:4]}"


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_unary_float_operations_are_as_exact_as_stated(dtype: DType) -> None:
    raw = floats(dtype)
    x = load("x", dtype, LANE)
    exprs: dict[str, Expr] = {f"y_{name.name.lower()}": op(name, x) for name in UNARY}
    results = outputs("unary", dtype, exprs, ("x", raw), of=dtype)
    first = decode(raw, dtype)
    for name, reference in UNARY.items():
        with np.errstate(all="ignore"):
            want = reference(first.astype(np.longdouble)).astype(np.float64)
        assert_close(name, dtype, results[f"y_{name.name.lower()}"], want, first)


def test_erf_is_as_exact_as_stated() -> None:
    import math

    for dtype in (DType.F32, DType.F64):
        raw = floats(dtype)
        x = load("x", dtype, LANE)
        results = outputs("erf", dtype, {"y": op(OpName.ERF, x)}, ("x", raw), of=dtype)
        first = decode(raw, dtype)
        assert_close(OpName.ERF, dtype, results["y"], np.array([math.erf(v) for v in first]), first)


@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_binary_float_operations(dtype: DType) -> None:
    left, right = floats(dtype), floats(dtype, 1)[::-1].copy()
    x, z = load("x", dtype, LANE), load("z", dtype, LANE)
    names = {
        OpName.ADD: np.add, OpName.SUB: np.subtract, OpName.MUL: np.multiply, OpName.DIV: np.divide,
        OpName.MIN: np.minimum, OpName.MAX: np.maximum,
    }  # fmt: skip
    exprs: dict[str, Expr] = {f"y_{name.name.lower()}": op(name, x, z) for name in names}
    exprs |= {f"y_{name.name.lower()}": op(name, x, z) for name in COMPARE}
    exprs["y_pow3"] = op(OpName.POW, x, lit(3.0, dtype))
    exprs["y_pow"] = op(OpName.POW, op(OpName.ABS, x), z)
    exprs["y_choose"] = Choose(op(OpName.LT, x, z), x, lit(2.5, dtype), dtype, LINE, (0,))
    results = outputs("binary", dtype, exprs, ("x", left), ("z", right), of=dtype)
    a, b = decode(left, dtype), decode(right, dtype)
    with np.errstate(all="ignore"):
        for name, reference in names.items():
            want = reference(a.astype(np.longdouble), b.astype(np.longdouble)).astype(np.float64)
            assert_close(name, dtype, results[f"y_{name.name.lower()}"], want, a)
        for name, compare in COMPARE.items():
            np.testing.assert_array_equal(results[f"y_{name.name.lower()}"], compare(a, b))
        np.testing.assert_array_equal(results["y_choose"], np.where(a < b, a, 2.5))
        assert_close(OpName.POW, dtype, results["y_pow3"], a**3, a)
        assert_close(OpName.POW, dtype, results["y_pow"], np.abs(a) ** b, a)


COMPARE = {
    OpName.LT: np.less, OpName.LE: np.less_equal, OpName.GT: np.greater, OpName.GE: np.greater_equal,
    OpName.EQ: np.equal, OpName.NE: np.not_equal,
}  # fmt: skip


def test_fma_rounds_once() -> None:
    rng = np.random.default_rng(3)
    raw = [rng.standard_normal(POINTS).astype(np.float32) for _ in range(3)]
    x, z, c = (load(name, DType.F32, LANE) for name in "xzc")
    got = outputs("fma", DType.F32, {"y": op(OpName.FMA, x, z, c)}, *zip("xzc", raw, strict=True), of=DType.F32)["y"]
    a, b, d = (array.astype(np.float64) for array in raw)
    np.testing.assert_array_equal(got, (a * b + d).astype(np.float32))


def integers(dtype: DType, seed: int) -> Array:
    info = np.iinfo(storage_dtype(dtype))
    rng = np.random.default_rng(seed)
    special = [info.min, info.max, 0, 1, 2, 3, 5, 7, 8, info.max - 1]
    if info.min < 0:
        special += [-1, -2, -3, -7, -8]
    spread = rng.integers(info.min, info.max, POINTS - len(special), endpoint=True, dtype=info.dtype)
    values = np.concatenate([np.array(special, info.dtype), spread])
    return rng.permutation(values) if seed else values


@pytest.mark.parametrize("dtype", [DType.I8, DType.U8, DType.I16, DType.I32, DType.U32, DType.I64, DType.U64])
def test_integer_operations_wrap_and_round_down(dtype: DType) -> None:
    left, right = integers(dtype, 0), integers(dtype, 1)
    divisor = np.where(right == 0, 3, right).astype(right.dtype)
    if dtype.value[0] == "i":
        divisor = np.where((left == np.iinfo(left.dtype).min) & (divisor == -1), 3, divisor).astype(right.dtype)
    x, z, d = (load(name, dtype, LANE) for name in "xzd")
    names = {
        OpName.ADD: np.add, OpName.SUB: np.subtract, OpName.MUL: np.multiply, OpName.MIN: np.minimum,
        OpName.MAX: np.maximum, OpName.AND: np.bitwise_and, OpName.OR: np.bitwise_or, OpName.XOR: np.bitwise_xor,
    } | COMPARE  # fmt: skip
    exprs: dict[str, Expr] = {f"y_{name.name.lower()}": op(name, x, z) for name in names}
    exprs["y_floordiv"] = op(OpName.FLOORDIV, x, d)
    exprs["y_mod"] = op(OpName.MOD, x, d)
    exprs["y_div8"] = op(OpName.FLOORDIV, x, lit(8, dtype))
    exprs["y_mod8"] = op(OpName.MOD, x, lit(8, dtype))
    exprs["y_div7"] = op(OpName.FLOORDIV, x, lit(7, dtype))
    exprs["y_shl"] = op(OpName.SHL, x, lit(3, dtype))
    exprs["y_shr"] = op(OpName.SHR, x, lit(3, dtype))
    exprs["y_neg"], exprs["y_abs"], exprs["y_not"] = op(OpName.NEG, x), op(OpName.ABS, x), op(OpName.NOT, x)
    exprs["y_pow5"] = op(OpName.POW, x, lit(5, dtype))
    exprs["y_pow"] = op(OpName.POW, x, op(OpName.AND, z, lit(15, dtype)))
    inputs = (("x", left), ("z", right), ("d", divisor))
    results = outputs("integer", dtype, exprs, *inputs, of=dtype)
    with np.errstate(all="ignore"):
        for name, reference in names.items():
            np.testing.assert_array_equal(results[f"y_{name.name.lower()}"], reference(left, right), str(name))
        three = left.dtype.type(3)
        wanted = {
            "floordiv": left // divisor, "mod": left % divisor, "div8": left // 8, "mod8": left % 8, "div7": left // 7,
            "shl": left << three, "shr": left >> three, "neg": -left, "abs": np.abs(left), "not": ~left,
            "pow5": left**5, "pow": left ** (right & 15),
        }  # fmt: skip
        for output, want in wanted.items():
            np.testing.assert_array_equal(results[f"y_{output}"], want.astype(left.dtype), output)


def test_operations_on_bools() -> None:
    raw = np.arange(POINTS) % 4
    x, z = cast(load("x", DType.U8, LANE), DType.BOOL), cast(load("z", DType.U8, LANE), DType.BOOL)
    exprs: dict[str, Expr] = {
        "y_and": op(OpName.AND, x, z), "y_or": op(OpName.OR, x, z), "y_xor": op(OpName.XOR, x, z),
        "y_not": op(OpName.NOT, x), "y_eq": op(OpName.EQ, x, z), "y_min": op(OpName.MIN, x, z),
        "y_max": op(OpName.MAX, x, z),
    }  # fmt: skip
    left, right = (raw & 1).astype(np.uint8), (raw >> 1).astype(np.uint8)
    results = outputs("bools", DType.BOOL, exprs, ("x", left), ("z", right), of=DType.U8)
    a, b = left.astype(bool), right.astype(bool)
    wanted = {"and": a & b, "or": a | b, "xor": a ^ b, "not": ~a, "eq": a == b, "min": a & b, "max": a | b}
    for output, want in wanted.items():
        np.testing.assert_array_equal(results[f"y_{output}"], want, output)


def test_bool_tensors_are_bytes() -> None:
    raw = (np.arange(POINTS) % 3 == 0).astype(np.uint8)
    x = load("x", DType.BOOL, LANE)
    results = outputs("bytes", DType.BOOL, {"y": op(OpName.NOT, x)}, ("x", raw), of=DType.BOOL)
    np.testing.assert_array_equal(results["y"], raw == 0)


def test_user_ptx() -> None:
    raw = np.arange(POINTS, dtype=np.int32) * 77
    x = load("x", DType.I32, LANE)
    ptx = InlinePtx("popc.b32 $0, $1;", "=r,r", (x,), (DType.I32,), 0, LINE, (0,))
    got = outputs("popc", DType.I32, {"y": ptx}, ("x", raw), of=DType.I32)["y"]
    np.testing.assert_array_equal(got, [int(v).bit_count() for v in raw])
