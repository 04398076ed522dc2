"""The bound covers every result that the stated errors allow, and is not much larger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.lang import examples
from texpr.dtypes import DType
from texpr.lang import evaluate, reduce
from texpr.lang.accuracy import Accuracy, OpError
from texpr.lang.arrays import decode
from texpr.lang.bounded import Bounded
from texpr.lang.errorbound import error_bounds
from texpr.lang.ir import OpName, ReduceOp

RNG = np.random.default_rng(11)


def halves(*shape: int, scale: float = 1.0) -> Any:
    return (RNG.standard_normal(shape) * scale).astype(np.float16)


def singles(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture
def sloppy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the reference as wrong as a kernel may be: operations err at random up to their stated error, and sums run
    in f32 in a random order."""
    accuracy = Accuracy()
    generator = np.random.default_rng(5)

    def wrong(name: OpName) -> Any:
        exact = evaluate.OPERATIONS[name]

        def compute(*args: Any) -> Any:
            value = np.asarray(exact(*args))
            if value.dtype.kind != "f":
                return value
            error = accuracy.of(name)
            ulps = error.ulps + error.per_argument * np.abs(np.asarray(args[0], np.float64))
            ulp = np.spacing(np.abs(value).astype(np.float32)).astype(np.float64)
            off = generator.uniform(-1, 1, value.shape) * (ulps * ulp + error.absolute)
            return np.where(np.isfinite(value), value + off, value)

        return compute

    exact_reduce = reduce._reduce_named

    def wrong_reduce(op: ReduceOp, flat: Any, kept: Any, dtype: DType) -> Any:
        if op is not ReduceOp.SUM or not dtype.is_float:
            return exact_reduce(op, flat, kept, dtype)
        terms = np.where(kept, flat[0], 0.0)
        shuffled = terms[..., generator.permutation(terms.shape[-1])].astype(np.float32)
        return (np.add.accumulate(shuffled, axis=-1)[..., -1].astype(np.float64),)

    monkeypatch.setattr(evaluate, "OPERATIONS", {name: wrong(name) for name in evaluate.OPERATIONS})
    monkeypatch.setattr(reduce, "_reduce_named", wrong_reduce)
    monkeypatch.setattr(reduce, "FACTOR_LIMIT", -1)


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear_gelu": (examples.linear_gelu, dict(x=halves(9, 64), w=halves(64, 8, scale=0.2), b=halves(8))),
    "softmax": (examples.softmax, dict(x=singles(7, 50) * 5)),
    "layernorm": (examples.layernorm, dict(x=halves(6, 40), g=halves(40), b=halves(40), eps=1e-5)),
    "attention": (
        examples.attention,
        dict(q=halves(2, 6, 4, 8), k=halves(2, 3, 7, 8), v=halves(2, 3, 7, 8), n=np.array([7, 2], np.int32), scale=0.3),
    ),
    "conv2d": (examples.conv2d, dict(x=singles(1, 6, 5, 4), w=singles(2, 3, 3, 2, 3))),
    "cross_entropy": (
        examples.cross_entropy,
        dict(x=singles(5, 9), t=np.array([1, -1, 0, 8, 3], np.int32), gout=singles(5)),
    ),
    "sparse_conv": (
        examples.sparse_conv,
        dict(x=halves(5, 4), w=halves(3, 4, 2), map=RNG.integers(-1, 5, (3, 6)).astype(np.int32)),
    ),
    "last_of_recurrence": (examples.last_of_recurrence, dict(a=singles(3, 20), b=singles(3, 20))),
    "blur": (examples.blur, dict(x=RNG.integers(0, 256, (6, 7)).astype(np.uint8))),
}


def bounds_of(name: str) -> dict[str, Bounded]:
    definition, arguments = CASES[name]
    return error_bounds(definition)(**arguments)


BOUNDS = {name: bounds_of(name) for name in CASES}


def output_types(name: str) -> dict[str, DType]:
    definition, arguments = CASES[name]
    types = {"T": "f32" if any(np.asarray(a).dtype == np.float32 for a in arguments.values()) else "f16"}
    chosen = {k: v for k, v in types.items() if k in definition.signature.types}
    return {
        tensor.name: tensor.dtype for tensor in definition.bind(chosen, {"D": 8} if name == "attention" else {}).outputs
    }


@pytest.mark.parametrize("name", CASES)
def test_value_is_the_reference(name: str) -> None:
    definition, arguments = CASES[name]
    expected = te.reference(definition)(**arguments)
    for output, dtype in output_types(name).items():
        np.testing.assert_allclose(BOUNDS[name][output].value, decode(expected[output], dtype), rtol=1e-3, atol=1e-7)
        assert BOUNDS[name][output].value.shape == expected[output].shape


@pytest.mark.parametrize("name", CASES)
def test_sloppy_results_are_within_the_bound(name: str, sloppy: None) -> None:
    definition, arguments = CASES[name]
    actual = te.reference(definition)(**arguments)
    for output, dtype in output_types(name).items():
        bound = BOUNDS[name][output]
        ratios = bound.ratios(decode(actual[output], dtype))
        assert ratios.max() <= 1
        assert dtype is not DType.F32 or ratios.max() > 1e-3, "the reference was not sloppy at all"
        assert not bound.ambiguous.any() and np.isfinite(bound.bound).all()


def test_bounds_are_tight_enough_to_notice_mistakes() -> None:
    for name, limit in (("softmax", 3e-5), ("conv2d", 2e-5), ("last_of_recurrence", 1e-4)):
        for result in BOUNDS[name].values():
            size = np.abs(result.value).max()
            assert result.bound.max() <= limit * size
    y = BOUNDS["linear_gelu"]["y"]
    assert y.bound.max() <= 4 * 2.0**-11 * np.abs(y.value).max()
    assert y.ratios(y.value + 0.02).max() > 1


def test_integers_are_exact() -> None:
    y = BOUNDS["blur"]["y"]
    assert not y.bound.any()
    assert np.isinf(y.ratios(y.value + np.uint8(1))).all()


def run(body: Any, signature: str, accuracy: Accuracy | None = None, **arguments: Any) -> dict[str, Bounded]:
    return error_bounds(te.algorithm(signature)(body), accuracy=accuracy)(**arguments)


def test_a_near_tie_is_ambiguous_for_the_position_but_not_for_the_value() -> None:
    def body(x: Any, v: Any, a: Any) -> None:
        i, j = te.axes(i="M", j="N")
        v[i], a[i] = te.argmax(te.exp(x[i, j]), over=j)

    x = np.array([[1, np.nextafter(np.float32(1), np.float32(2)), 0], [1, 2, 0]], np.float32)
    result = run(body, "x: f32[M, N] -> v: f32[M], a: i32[M]", x=x)
    assert result["a"].ambiguous.tolist() == [True, False]
    assert not result["v"].ambiguous.any() and result["v"].bound.max() < 1e-5
    assert result["a"].ratios(np.array([0, 1])).tolist() == [0, 0]
    assert result["a"].ratios(np.array([0, 2])).tolist() == [0, np.inf]


def test_exact_ties_are_not_ambiguous() -> None:
    result = error_bounds(examples.argmax_rows)(x=np.array([[3, 3, 1]], np.float32))
    assert not result["best"].ambiguous.any()


def test_select_on_a_doubtful_condition_reaches_both_branches() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.where(te.exp(x[i]) > 1, 5.0, te.f32(2))

    y = run(body, "x: f32[N] -> y: f32[N]", x=np.array([0, 1], np.float32))["y"]
    assert y.bound[0] >= 3 and y.bound[1] == 0
    assert y.ratios(np.array([5.0, 5.0])).max() <= 1


def test_cast_to_integer_is_ambiguous_only_near_a_step() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = (te.exp(x[i]) * 2).to("i32")

    y = run(body, "x: f32[N] -> y: i32[N]", x=np.array([0, 0.1], np.float32))["y"]
    assert y.ambiguous.tolist() == [True, False]


def test_division_by_something_that_may_be_zero_says_nothing() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = 1 / (te.exp(x[i]) - 1)

    y = run(body, "x: f32[N] -> y: f32[N]", x=np.array([0, 1], np.float32))["y"]
    assert np.isinf(y.bound[0]) and y.bound[1] < 1e-5


def test_overflow_in_f32_says_nothing() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.exp(x[i])

    y = run(body, "x: f32[N] -> y: f32[N]", x=np.array([88, 89, -200], np.float32))["y"]
    assert np.isinf(y.bound).tolist() == [False, True, False]


def test_tiny_products_lose_what_lies_below_the_least_number() -> None:
    def product(x: Any, w: Any, y: Any) -> None:
        i, j, k = te.axes(i="M", j="N", k="K")
        y[i, j] = te.sum(x[i, k] * w[k, j], over=k)

    signature = "x: f32[M, K], w: f32[K, N] -> y: f32[M, N]"
    x = RNG.uniform(1e-38, 2e-38, (3, 47)).astype(np.float32)
    w = RNG.uniform(1e-4, 2e-4, (47, 2)).astype(np.float32)
    found = run(product, signature, x=x, w=w)["y"]
    rounded = np.zeros((3, 2), np.float32)
    for k in range(47):
        rounded += x[:, k, None] * w[k]
    assert (found.ratios(rounded) <= 1).all()
    assert (found.bound < 50 * 2.0**-149).all()
    assert (run(product, signature, x=x * 2**20, w=w * 2**20)["y"].bound < 1e-30).all()


def test_what_is_divided_by_an_overflowing_number_is_still_known() -> None:
    """exp(100) is infinite in f32 and finite in the reference: x / (1 + exp(-x)) is 0 either way."""

    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.silu(x[i])

    y = run(body, "x: f32[N] -> y: f32[N]", x=np.array([-100, -600, 2], np.float32))["y"]
    assert (y.bound < 1e-6).all()
    assert y.ratios(np.array([-0.0, 0.0, y.value[2]])).max() <= 1
    assert (y.ratios(np.array([-1e-3, np.nan, 2.0])) > 1).all()


def test_infinities_and_nan_must_be_met() -> None:
    def body(x: Any, y: Any) -> None:
        i, j = te.axes(i="M", j="N")
        y[i] = te.sum(x[i, j], over=j)

    x = np.array([[1, np.inf], [np.inf, -np.inf], [1, 2]], np.float32)
    y = run(body, "x: f32[M, N] -> y: f32[M]", x=x)["y"]
    assert y.ratios(np.array([np.inf, np.nan, 3])).tolist() == [0, 0, 0]
    assert np.isinf(y.ratios(np.array([-np.inf, 0, np.nan]))).all()


def test_accuracy_can_be_replaced() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.tanh(x[i])

    x = np.array([0.5], np.float32)
    coarse = Accuracy({OpName.TANH: OpError(absolute=2.0**-11)})
    fine = run(body, "x: f32[N] -> y: f32[N]", x=x)["y"].bound[0]
    assert run(body, "x: f32[N] -> y: f32[N]", coarse, x=x)["y"].bound[0] > 100 * fine


def test_stated_error_of_inline_ptx() -> None:
    def body(x: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = te.ptx("tanh.approx.f32 $0, $1;", x[i], dtype="f32", reference=np.tanh, max_ulp=1000)

    y = run(body, "x: f32[N] -> y: f32[N]", x=np.array([1.0], np.float32))["y"]
    assert 900 * 2.0**-23 * y.value[0] < y.bound[0] < 1100 * 2.0**-23
