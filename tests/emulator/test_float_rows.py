"""Floating-point arithmetic against exact rational results, approximations within their documented error."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.exact import BF16, F16, ValueTable
from tests.emulator.snippets import Array, run_lanes, run_one

rng = np.random.default_rng(17)
# Signalling NaNs among the random patterns make NumPy complain.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
MODES = ("rn", "rz", "rm", "rp")


def singles(count: int = 300) -> Array:
    """float32 of many magnitudes, with close pairs, subnormals and corners among them."""
    values = rng.standard_normal(count) * 2.0 ** rng.integers(-20, 20, count)
    corners = [0.0, -0.0, 1.0, -1.0, 3.0, 1e-40, -3e-39, 1.5e-38, 1e38, 3.4e38, np.inf, -np.inf]
    return np.concatenate([values, corners]).astype(np.float32)


def round_fraction(exact: Fraction, mode: str, mantissa: int, smallest: int, largest: Fraction) -> Fraction | float:
    """An exact value rounded to a binary format (infinities as floats)."""
    if exact == 0:
        return exact
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** (max(exponent, smallest) - mantissa)
    units, rest = divmod(magnitude, quantum)
    up = {"rn": rest * 2 > quantum or (rest * 2 == quantum and units % 2 == 1), "rz": False,
          "rm": exact < 0 and rest > 0, "rp": exact > 0 and rest > 0}[mode]
    rounded = (units + up) * quantum
    if rounded > largest:
        rounded_up = mode == "rn" or mode == ("rp" if exact > 0 else "rm")
        return math.copysign(math.inf, 1 if exact > 0 else -1) if rounded_up else (largest if exact > 0 else -largest)
    return rounded if exact > 0 else -rounded


F32 = (23, -126, Fraction(float(np.finfo(np.float32).max)))
F64 = (52, -1022, Fraction(np.finfo(np.float64).max))


def check_exact(got: Array, exact: list[Fraction | None], mode: str, form: tuple[int, int, Fraction]) -> None:
    """Compare where the exact result exists (finite operands, no division by zero)."""
    compared = 0
    for value, reference in zip(got, exact, strict=True):
        if reference is None:
            continue
        expected = round_fraction(reference, mode, *form)
        assert float(value) == float(expected), f"{float(value)!r}, expected {float(expected)!r}"
        compared += 1
    assert compared > 100


def fractions(array: Array) -> list[Fraction | None]:
    return [Fraction(float(value)) if np.isfinite(value) else None for value in array]


def apply(function: Callable[..., Fraction], *arrays: Array) -> list[Fraction | None]:
    columns = [fractions(array) for array in arrays]
    results: list[Fraction | None] = []
    for row in zip(*columns, strict=True):
        try:
            results.append(None if None in row else function(*row))
        except ZeroDivisionError:
            results.append(None)
    return results


@pytest.mark.parametrize("mode", MODES)
def test_f32_arithmetic_rounds_once(mode: str) -> None:
    a, b, c = singles(), np.roll(singles(), 1), np.roll(singles(), 2)
    b[:60] = -a[:60] * np.float32(1.0000001)
    sources = [("b32", a), ("b32", b)]
    for name, function in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y), ("mul", lambda x, y: x * y),
                           ("div", lambda x, y: x / y)):
        got = run_one(f"{name}.{mode}.f32", sources, "b32").view(np.float32)
        check_exact(got, apply(function, a, b), mode, F32)
    c[:100] = -(a[:100].astype(np.float64) * b[:100]).astype(np.float32)
    got = run_one(f"fma.{mode}.f32", [*sources, ("b32", c)], "b32").view(np.float32)
    check_exact(got, apply(lambda x, y, z: x * y + z, a, b, c), mode, F32)


def test_fma_rounds_once_at_halfway_points() -> None:
    """a * b + c just beside the middle of two floats, where rounding twice goes wrong."""
    a = np.full(64, 1 + 2.0**-12, np.float32)
    b = (1 + rng.integers(1, 1 << 11, 64) * 2.0**-12).astype(np.float32)
    c = ((-1) ** np.arange(64) * 2.0**-60 * rng.integers(1, 9, 64)).astype(np.float32)
    got = run_one("fma.rn.f32", [("b32", a), ("b32", b), ("b32", c)], "b32").view(np.float32)
    exact = [Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c, strict=True)]
    for value, reference in zip(got, exact, strict=True):
        assert float(value) == float(round_fraction(reference, "rn", *F32))


@pytest.mark.parametrize("mode", MODES)
def test_f32_roots_and_reciprocals_round_once(mode: str) -> None:
    a = np.abs(singles())
    a[:50] = np.float32(1) + np.arange(50, dtype=np.float32) * np.float32(2.0**-23)
    roots = run_one(f"sqrt.{mode}.f32", [("b32", a)], "b32").view(np.float32)
    for value, root in zip(a, roots, strict=True):
        if not np.isfinite(value):
            continue
        exact = Fraction(float(value))
        low, high = np.nextafter(root, np.float32(-1)), np.nextafter(root, np.float32(np.inf))
        square = Fraction(float(root)) ** 2
        if mode == "rn":
            middle = (Fraction(float(root)) + Fraction(float(high))) / 2
            below = (Fraction(float(root)) + Fraction(float(low))) / 2
            assert below <= 0 or below**2 <= exact
            assert exact <= middle**2
        elif mode == "rp":
            assert square >= exact and (low <= 0 or Fraction(float(low)) ** 2 < exact or exact == 0)
        else:
            assert square <= exact < Fraction(float(high)) ** 2
    got = run_one(f"rcp.{mode}.f32", [("b32", a)], "b32").view(np.float32)
    check_exact(got, apply(lambda x: 1 / x, a), mode, F32)


@pytest.mark.parametrize("mode", MODES)
def test_f64_arithmetic_rounds_once(mode: str) -> None:
    a = rng.standard_normal(300) * 2.0 ** rng.integers(-30, 30, 300)
    a = np.concatenate([a, [1e308, 5e-324, 1e-310, 1.0, 1e-200, 1e200]])
    b, c = np.roll(a, 1), np.roll(a, 2)
    c[:100] = -a[:100] * b[:100]
    sources = [("b64", a), ("b64", b)]
    for name, function in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y), ("mul", lambda x, y: x * y),
                           ("div", lambda x, y: x / y)):
        got = run_one(f"{name}.{mode}.f64", sources, "b64").view(np.float64)
        check_exact(got, apply(function, a, b), mode, F64)
    if mode == "rn":
        got = run_one("fma.rn.f64", [*sources, ("b64", c)], "b64").view(np.float64)
        check_exact(got, apply(lambda x, y, z: x * y + z, a, b, c), mode, F64)


def half_patterns(count: int = 300) -> Array:
    return rng.integers(0, 1 << 16, count, dtype=np.uint16)


def half_values(bits: Array, name: str) -> Array:
    if name == "f16":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


@pytest.mark.parametrize(("name", "table"), [("f16", F16), ("bf16", BF16)])
@pytest.mark.parametrize(("opcode", "function"), [
    ("add", lambda x, y, z: x + y), ("sub.rn", lambda x, y, z: x - y), ("mul", lambda x, y, z: x * y),
    ("fma.rn", lambda x, y, z: x * y + z),
])
def test_half_arithmetic_rounds_once(
    name: str, table: ValueTable, opcode: str, function: Callable[..., Fraction]
) -> None:
    a, b, c = half_patterns(), half_patterns(), half_patterns()
    arrays = [a, b, c] if "fma" in opcode else [a, b]
    scalar = run_one(f"{opcode}.{name}", [("b16", array) for array in arrays], "b16")
    pairs = [(array[0::2].astype(np.uint32) | array[1::2].astype(np.uint32) << 16) for array in arrays]
    packed = run_one(f"{opcode}.{name}x2", [("b32", array) for array in pairs], "b32")
    np.testing.assert_array_equal(packed, scalar[0::2].astype(np.uint32) | scalar[1::2].astype(np.uint32) << 16)
    x, y, z = (half_values(array, name) for array in (a, b, c))
    for i, bits in enumerate(scalar):
        if all(map(math.isfinite, (x[i], y[i], z[i]))):
            exact = function(Fraction(x[i]), Fraction(y[i]), Fraction(z[i]))
            expected = nearest_pattern(exact, table)
            assert bits & 0x7FFF == expected & 0x7FFF and (expected == 0 or bits == expected), (x[i], y[i], z[i])


def nearest_pattern(exact: Fraction, table: ValueTable) -> int:
    """Round a rational to nearest even by bisection in the table."""
    low, high = 0, len(table.values)
    magnitude = abs(exact)
    while high - low > 1:
        middle = (low + high) // 2
        if Fraction(table.values[middle]) <= magnitude:
            low = middle
        else:
            high = middle
    below = Fraction(table.values[low])
    step = Fraction(table.values[low]) - Fraction(table.values[low - 1]) if low + 1 == len(table.values) else (
        Fraction(table.values[low + 1]) - below
    )
    rest = (magnitude - below) / step
    bits = low + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1))
    return bits | (table.sign if exact < 0 else 0)


def test_packed_f32_work_separately() -> None:
    a, b, c = singles(100), np.roll(singles(100), 1), np.roll(singles(100), 3)
    a, b, c = a[:100], b[:100], c[:100]
    pairs = [("b64", array.view(np.uint64)) for array in (a, b, c)]
    got = run_one("fma.rn.f32x2", pairs, "b64").view(np.float32)
    single = run_one("fma.rn.f32", [("b32", a), ("b32", b), ("b32", c)], "b32").view(np.float32)
    np.testing.assert_array_equal(got, single)
    total = run_one("add.rn.f32x2", pairs[:2], "b64").view(np.float32)
    np.testing.assert_array_equal(total, a + b)


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_mixed_precision_sums(name: str) -> None:
    bits = half_patterns()
    a = half_values(bits, name).astype(np.float32)
    c = rng.standard_normal(len(bits)).astype(np.float32)
    finite = np.isfinite(a)
    got = run_one(f"add.rn.f32.{name}", [("b16", bits), ("b32", c)], "b32").view(np.float32)
    np.testing.assert_array_equal(got[finite], (a + c)[finite])
    other = np.roll(bits, 1)
    b = half_values(other, name).astype(np.float64)
    got = run_one(f"fma.rn.f32.{name}", [("b16", bits), ("b16", other), ("b32", c)], "b32").view(np.float32)
    both = finite & np.isfinite(b)
    check_exact(got[both], apply(lambda x, y, z: x * y + z, a[both].astype(np.float64), b[both], c[both]), "rn", F32)


def test_ftz_flushes_inputs_and_results() -> None:
    a = np.array([1e-39, -1e-39, 1.2e-38, 2.0, 0.0], np.float32)
    b = np.array([1.0, 1.0, 0.5, 1e-39, -0.0], np.float32)
    got = run_one("mul.ftz.f32", [("b32", a), ("b32", b)], "b32")
    np.testing.assert_array_equal(got, np.array([0, 0x8000_0000, 0, 0, 0x8000_0000], np.uint32))
    kept = run_one("mul.f32", [("b32", a), ("b32", b)], "b32").view(np.float32)
    np.testing.assert_array_equal(kept, a * b)


def test_saturation_clamps_and_maps_nan_to_zero() -> None:
    a = np.array([-2, 0.25, 3, np.nan, np.inf], np.float32)
    got = run_one("add.sat.f32", [("b32", a), ("b32", np.zeros(5, np.float32))], "b32").view(np.float32)
    np.testing.assert_array_equal(got, np.array([0, 0.25, 1, 0, 1], np.float32))


@pytest.mark.parametrize(("scalar", "bits"), [("f32", 32), ("f64", 64), ("f16", 16)])
def test_extrema_order_zeros_and_treat_nan_as_missing(scalar: str, bits: int) -> None:
    dtype = np.dtype(f"f{bits // 8}")
    a = np.array([1, -0.0, 0.0, np.nan, np.nan, -5, np.inf], dtype)
    b = np.array([2, 0.0, -0.0, 3, np.nan, -4, 1], dtype)
    sources = [(f"b{bits}", a), (f"b{bits}", b)]
    low = run_one(f"min.{scalar}", sources, f"b{bits}").view(dtype)
    high = run_one(f"max.{scalar}", sources, f"b{bits}").view(dtype)
    np.testing.assert_array_equal(low, np.array([1, -0.0, -0.0, 3, np.nan, -5, 1], dtype))
    np.testing.assert_array_equal(high, np.array([2, 0.0, 0.0, 3, np.nan, -4, np.inf], dtype))
    assert list(np.signbit(low[1:3])) == [True, True] and list(np.signbit(high[1:3])) == [False, False]


def test_nan_propagates_and_signs_combine_on_request() -> None:
    a = np.array([1, np.nan, -3, 2], np.float32)
    b = np.array([np.nan, 2, 2, -5], np.float32)
    got = run_one("max.NaN.f32", [("b32", a), ("b32", b)], "b32").view(np.float32)
    np.testing.assert_array_equal(got, np.array([np.nan, np.nan, 2, 2], np.float32))
    got = run_one("min.xorsign.abs.f32", [("b32", a), ("b32", b)], "b32").view(np.float32)
    np.testing.assert_array_equal(got[2:], np.array([-2, -2], np.float32))
    c = np.array([0, 0, 9, 1], np.float32)
    got = run_one("max.f32", [("b32", a), ("b32", b), ("b32", c)], "b32").view(np.float32)
    np.testing.assert_array_equal(got, np.array([1, 2, 9, 2], np.float32))


@pytest.mark.parametrize(("scalar", "bits"), [("f32", 32), ("f64", 64), ("f16", 16), ("bf16", 16)])
def test_signs(scalar: str, bits: int) -> None:
    patterns = rng.integers(0, (1 << bits) - 1, 50, dtype=f"u{bits // 8}", endpoint=True)
    # Not NaNs: their payload may be anything.
    patterns &= ~patterns.dtype.type(1 << (bits - 2))
    sign = patterns.dtype.type(1 << (bits - 1))
    np.testing.assert_array_equal(run_one(f"neg.{scalar}", [(f"b{bits}", patterns)], f"b{bits}"), patterns ^ sign)
    np.testing.assert_array_equal(run_one(f"abs.{scalar}", [(f"b{bits}", patterns)], f"b{bits}"), patterns & ~sign)
    if bits > 16:
        other = np.roll(patterns, 1)
        got = run_one(f"copysign.{scalar}", [(f"b{bits}", patterns), (f"b{bits}", other)], f"b{bits}")
        np.testing.assert_array_equal(got, (other & ~sign) | (patterns & sign))


@pytest.mark.parametrize(("opcode", "function", "low", "high", "error"), [
    ("ex2.approx.f32", np.exp2, -100, 100, 2.0**-22),
    ("ex2.approx.ftz.f32", np.exp2, -100, 100, 2.0**-22),
    ("rsqrt.approx.f32", lambda x: 1 / np.sqrt(x), 1e-3, 1e6, 2.0**-22),
    ("rcp.approx.ftz.f32", lambda x: 1 / x, 1e-3, 1e6, 2.0**-22),
    ("sqrt.approx.f32", np.sqrt, 1e-3, 1e6, 2.0**-22),
    ("tanh.approx.f32", np.tanh, -5, 5, 2.0**-10.9),
    ("div.full.f32", None, 1e-3, 1e3, 2.0**-22),
])
def test_approximations_are_within_their_documented_relative_error(
    opcode: str, function: Callable[[Array], Array] | None, low: float, high: float, error: float
) -> None:
    a = rng.uniform(low, high, 200).astype(np.float32)
    exact = a.astype(np.float64)
    if function is None:
        b = rng.uniform(low, high, 200).astype(np.float32)
        got, reference = run_one(opcode, [("b32", a), ("b32", b)], "b32"), exact / b
    else:
        got, reference = run_one(opcode, [("b32", a)], "b32"), function(exact)
    assert np.max(np.abs(got.view(np.float32) / reference - 1)) < error


@pytest.mark.parametrize(("opcode", "function"), [
    ("sin.approx.f32", np.sin), ("cos.approx.f32", np.cos), ("lg2.approx.f32", np.log2),
])
def test_approximations_are_within_their_documented_absolute_error(
    opcode: str, function: Callable[[Array], Array]
) -> None:
    a = rng.uniform(0.5, 2.0, 200).astype(np.float32)
    got = run_one(opcode, [("b32", a)], "b32").view(np.float32)
    assert np.max(np.abs(got - function(a.astype(np.float64)))) < 2.0**-20.9


def test_half_approximations() -> None:
    a = rng.uniform(-4, 4, 200).astype(np.float16)
    got = run_one("ex2.approx.f16", [("b16", a)], "b16").view(np.float16)
    assert np.max(np.abs(got / np.exp2(a.astype(np.float64)) - 1)) < 2.0**-9.9
    pairs = a.view(np.uint32)
    got = run_one("tanh.approx.f16x2", [("b32", pairs)], "b32").view(np.float16)
    assert np.max(np.abs(got - np.tanh(a.astype(np.float64)))) < 2.0**-10
    brain = (a.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    got = run_one("ex2.approx.ftz.bf16", [("b16", brain)], "b16")
    reference = np.exp2(half_values(brain, "bf16"))
    assert np.max(np.abs(half_values(got, "bf16") / reference - 1)) < 2.0**-7


def test_f64_approximations_keep_the_upper_word() -> None:
    a = rng.uniform(0.1, 100, 50)
    got = run_one("rcp.approx.ftz.f64", [("b64", a)], "b64")
    assert (got & 0xFFFF_FFFF == 0).all()
    assert np.max(np.abs(got.view(np.float64) * a - 1)) < 2.0**-19


@pytest.mark.parametrize(("scalar", "bits"), [("f32", 32), ("f64", 64), ("f16", 16), ("bf16", 16)])
def test_ordered_and_unordered_comparisons(scalar: str, bits: int) -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, np.nan, np.inf], np.float32)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(values, values))
    if scalar == "bf16":
        encode: Callable[[Array], Array] = lambda x: (x.view(np.uint32) >> 16).astype(np.uint16)  # noqa: E731
    else:
        encode = lambda x: x.astype(f"f{bits // 8}")  # noqa: E731
    nan = np.isnan(a) | np.isnan(b)
    with np.errstate(invalid="ignore"):
        plain = {"eq": a == b, "ne": (a != b) & ~nan, "lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}
    expected = plain | {f"{name}u": holds | nan for name, holds in plain.items()} | {"num": ~nan, "nan": nan}
    for name, holds in expected.items():
        got = run_lanes(
            f"setp.{name}.{scalar} %p, %a, %b; selp.b32 %d, 1, 0, %p;",
            {"a": (f"b{bits}", encode(a)), "b": (f"b{bits}", encode(b))},
            {"d": "b32"},
            registers=".reg .pred %p;",
        )["d"]
        np.testing.assert_array_equal(got, holds, err_msg=name)


def test_packed_comparisons_set_one_predicate_per_half() -> None:
    a = np.array([1, 5, 2, 2], np.float16).view(np.uint32)
    b = np.array([3, 4, 2, 9], np.float16).view(np.uint32)
    got = run_lanes(
        "setp.lt.f16x2 %p|%q, %a, %b; selp.b32 %d, 1, 0, %p; selp.b32 %e, 1, 0, %q;"
        "set.lt.f16x2.f16x2 %f, %a, %b;",
        {"a": ("b32", a), "b": ("b32", b)},
        {"d": "b32", "e": "b32", "f": "b32"},
        registers=".reg .pred %p, %q;",
    )
    assert list(got["d"]) == [1, 0] and list(got["e"]) == [0, 1]
    np.testing.assert_array_equal(got["f"].view(np.float16), [1, 0, 0, 1])


def test_comparisons_may_give_values() -> None:
    a, b = np.array([1, 5, np.nan], np.float32), np.array([3, 4, 2], np.float32)
    sources = [("b32", a), ("b32", b)]
    np.testing.assert_array_equal(run_one("set.lt.u32.f32", sources, "b32"), [0xFFFF_FFFF, 0, 0])
    np.testing.assert_array_equal(run_one("set.ltu.f32.f32", sources, "b32").view(np.float32), [1, 0, 1])
    brain = [("b32", (values.view(np.uint32) >> 16).astype(np.uint32) * 0x10001) for values in (a, b)]
    np.testing.assert_array_equal(run_one("set.gt.bf16x2.bf16x2", brain, "b32"), [0, 0x3F803F80, 0])


def test_old_and_double_precision_forms() -> None:
    a, b, c = singles(50), np.roll(singles(50), 1), np.roll(singles(50), 2)
    sources = [("b32", array) for array in (a, b, c)]
    np.testing.assert_array_equal(run_one("mad.rn.f32", sources, "b32"), run_one("fma.rn.f32", sources, "b32"))
    x = rng.uniform(0.1, 100, 50)
    got = run_one("rsqrt.approx.f64", [("b64", x)], "b64").view(np.float64)
    np.testing.assert_allclose(got, 1 / np.sqrt(x), rtol=1e-15)


def test_number_classes() -> None:
    a = np.array([0, 1, 1e-40, np.inf, np.nan], np.float32)
    for name, expected in (("finite", [1, 1, 1, 0, 0]), ("infinite", [0, 0, 0, 1, 0]), ("subnormal", [0, 0, 1, 0, 0]),
                           ("normal", [0, 1, 0, 0, 0]), ("notanumber", [0, 0, 0, 0, 1])):
        got = run_lanes(f"testp.{name}.f32 %p, %a; selp.b32 %d, 1, 0, %p;", {"a": ("b32", a)}, {"d": "b32"},
                        registers=".reg .pred %p;")["d"]
        assert list(got) == expected, name


@pytest.mark.parametrize(("opcode", "bits", "constants", "function"), [
    ("add.f32", 32, "0f40000000", lambda x: x + 2), ("sub.rz.f32", 32, "0f40000000", lambda x: x - 2),
    ("div.rn.f32", 32, "0f40400000", lambda x: x / 3),
    ("fma.rn.f32", 32, "0f40000000, 0f3F800000", lambda x: 2 * x + 1),
    ("add.f64", 64, "0d4000000000000000", lambda x: x + 2), ("mul.rm.f64", 64, "0d4008000000000000", lambda x: 3 * x),
    ("fma.rn.f64", 64, "0d4000000000000000, 0d3FF0000000000000", lambda x: 2 * x + 1),
    ("max.f32", 32, "0f40000000", lambda x: max(x, 2)), ("div.full.f32", 32, "0f40000000", lambda x: x / 2),
    ("add.f16", 16, "0x4000", lambda x: x + 2), ("fma.rn.bf16", 16, "0x4000, 0x3F80", lambda x: 2 * x + 1),
])
def test_operands_may_be_constants(opcode: str, bits: int, constants: str, function: Callable[[float], float]) -> None:
    values = np.array([1.5, -3, 1e-3, 96, 0], np.float32)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16)
    given: Array = brain if "bf16" in opcode else values.astype(f"f{bits // 8}")
    exact = half_values(given, "bf16") if "bf16" in opcode else given.astype(np.float64)
    got = run_one(opcode, [(f"b{bits}", given)], f"b{bits}", constants=constants)
    result = half_values(got, "bf16") if "bf16" in opcode else got.view(f"f{bits // 8}")
    precision = {"f32": 2.0**-22, "f64": 2.0**-51, "f16": 2.0**-10, "bf16": 2.0**-7}[opcode.split(".")[-1]]
    np.testing.assert_allclose(result, [function(x) for x in exact], rtol=precision)


def test_all_operands_may_be_constants() -> None:
    one = np.zeros(3, np.uint32)
    body = """
        add.f32 %a, 0f3F800000, 0f40000000; fma.rn.f32 %b, 0f3F800000, 0f40000000, 0f3F800000;
        fma.rn.f64 %c, 0d3FF0000000000000, 0d4000000000000000, 0d3FF0000000000000; cvt.rn.f16.f32 %h, 0f3F800000;
        cvt.rzi.s32.f32 %e, 0f40600000; max.f32 %f, 0f3F800000, 0f40000000;
        cvt.rn.satfinite.e4m3x2.f32 %g, 0f3F800000, 0f00000000;
    """
    outputs = {"a": "b32", "b": "b32", "c": "b64", "h": "b16", "e": "b32", "f": "b32", "g": "b16"}
    got = run_lanes(body, {"x": ("b32", one)}, outputs)
    assert list(got["a"].view(np.float32)) == [3] * 3 and list(got["b"].view(np.float32)) == [3] * 3
    assert list(got["c"].view(np.float64)) == [3] * 3 and list(got["h"].view(np.float16)) == [1] * 3
    assert list(got["e"]) == [3] * 3 and list(got["f"].view(np.float32)) == [2] * 3 and list(got["g"]) == [0x3800] * 3
