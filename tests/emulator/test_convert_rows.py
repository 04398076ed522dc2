"""Every cvt form against exact references: table search for floats, Python integers for the rest."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tests.emulator.exact import BF16, E4M3, E5M2, F16, ValueTable
from tests.emulator.snippets import Array, run_lanes, run_one

TABLES = {"f16": F16, "bf16": BF16, "e5m2": E5M2, "e4m3": E4M3}
rng = np.random.default_rng(7)
# Signalling NaNs among the random patterns make NumPy complain.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def floats_around(table: ValueTable, count: int = 150) -> Array:
    """float32 values where rounding to the table's format is delicate: values, midpoints, their neighbours."""
    picks = rng.choice(len(table.values) - 1, count)
    low = np.array([table.values[i] for i in picks])
    high = np.array([table.values[i + 1] for i in picks])
    middle = ((low + high) / 2).astype(np.float32)
    largest = np.float32(table.values[-1])
    with np.errstate(over="ignore"):
        beyond = [largest * np.float32(factor) for factor in (1, 1.01, 1.05, 1.2)]
    edges = np.array([0, *beyond, 1e-45, 3e38, np.inf, np.nan], np.float32)
    near = [middle, np.nextafter(middle, np.float32(np.inf)), np.nextafter(middle, np.float32(0)), low, edges]
    values = np.concatenate(near).astype(np.float32)
    return np.concatenate([values, -values])


def is_nan_pattern(bits: Array, name: str) -> Array:
    table = TABLES[name]
    magnitude = bits & (table.sign - 1)
    return magnitude == table.nan if name == "e4m3" else magnitude > table.infinity


def assert_rounded(bits: Array, values: Array, name: str, mode: str, **options: bool) -> None:
    table = TABLES[name]
    expected = np.array([table.round(float(value), mode, **options) for value in values], np.uint64)
    nan = np.isnan(values)
    assert is_nan_pattern(bits[nan], name).all()
    wrong = np.flatnonzero((bits.astype(np.uint64) != expected) & ~nan)
    assert not len(wrong), f"{values[wrong[0]]!r} -> {bits[wrong[0]]:#x}, expected {expected[wrong[0]]:#x}"


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_f32_rounds_to_16_bit_floats_in_every_mode(name: str, mode: str) -> None:
    values = floats_around(TABLES[name])
    assert_rounded(run_one(f"cvt.{mode}.{name}.f32", [("b32", values)], "b16"), values, name, mode)


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize(("flags", "options"), [
    ("relu", {"relu": True}), ("satfinite", {"saturate": True}), ("relu.satfinite", {"relu": True, "saturate": True}),
])
def test_relu_and_satfinite_of_16_bit_floats(name: str, flags: str, options: dict[str, bool]) -> None:
    values = floats_around(TABLES[name], 40)
    for mode in ("rn", "rz"):
        bits = run_one(f"cvt.{mode}.{flags}.{name}.f32", [("b32", values)], "b16")
        assert_rounded(bits, values, name, mode, **options)


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz"])
def test_pairs_put_the_first_operand_in_the_upper_half(name: str, mode: str) -> None:
    upper = floats_around(TABLES[name], 40)
    lower = np.roll(upper, 3)
    bits = run_one(f"cvt.{mode}.{name}x2.f32", [("b32", upper), ("b32", lower)], "b32")
    assert_rounded(bits >> 16, upper, name, mode)
    assert_rounded(bits & 0xFFFF, lower, name, mode)


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
@pytest.mark.parametrize("relu", [False, True])
def test_f32_pairs_round_to_fp8_and_saturate(name: str, relu: bool) -> None:
    upper = floats_around(TABLES[name])
    lower = np.roll(upper, 5)
    opcode = f"cvt.rn.satfinite{'.relu' if relu else ''}.{name}x2.f32"
    bits = run_one(opcode, [("b32", upper), ("b32", lower)], "b16")
    assert_rounded(bits >> 8, upper, name, "rn", saturate=True, relu=relu)
    assert_rounded(bits & 0xFF, lower, name, "rn", saturate=True, relu=relu)


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
@pytest.mark.parametrize("given", ["f16x2", "bf16x2"])
def test_packed_halves_round_to_fp8(name: str, given: str) -> None:
    bits = rng.integers(0, 1 << 32, 600, dtype=np.uint32)
    result = run_one(f"cvt.rn.satfinite.{name}x2.{given}", [("b32", bits)], "b16")
    for half, part in ((bits & 0xFFFF, result & 0xFF), (bits >> 16, result >> 8)):
        if given == "f16x2":
            values = half.astype(np.uint16).view(np.float16).astype(np.float64)
        else:
            values = (half << 16).astype(np.uint32).view(np.float32).astype(np.float64)
        assert_rounded(part, values, name, "rn", saturate=True)


@pytest.mark.parametrize("name", ["e4m3", "e5m2"])
@pytest.mark.parametrize("to", ["f16x2", "bf16x2"])
def test_fp8_widens_exactly(name: str, to: str) -> None:
    table = TABLES[name]
    low = np.arange(256)
    bits = (low | (low[::-1] << 8)).astype(np.uint16)
    result = run_one(f"cvt.rn.{to}.{name}x2", [("b16", bits)], "b32")
    for part, half in ((low, result & 0xFFFF), (low[::-1], result >> 16)):
        if to == "f16x2":
            values = half.astype(np.uint16).view(np.float16).astype(np.float64)
        else:
            values = (half << 16).astype(np.uint32).view(np.float32).astype(np.float64)
        for pattern, value in zip(part, values, strict=True):
            magnitude = pattern & 0x7F
            if magnitude < len(table.values):
                assert value == (-1 if pattern & 0x80 else 1) * table.values[magnitude]
            elif name == "e5m2" and magnitude == table.infinity:
                assert np.isinf(value)
            else:
                assert np.isnan(value)


@pytest.mark.parametrize("mode", ["rn", "rz", "rna"])
def test_f32_rounds_to_tf32(mode: str) -> None:
    bits = rng.integers(0, 0x7F7F_0000, 400, dtype=np.uint32)
    bits[:100] = (bits[:100] & 0xFFFF_E000) | 0x1000
    result = run_one(f"cvt.{mode}.tf32.f32", [("b32", np.concatenate([bits, bits | 0x8000_0000]))], "b32")
    quotient, rest = bits.astype(np.int64) >> 13, bits.astype(np.int64) & 0x1FFF
    half = 0x1000
    up = {"rz": rest < 0, "rna": rest >= half, "rn": (rest > half) | ((rest == half) & (quotient & 1 == 1))}[mode]
    expected = (quotient + up) << 13
    np.testing.assert_array_equal(result, np.concatenate([expected, expected | 0x8000_0000]))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_f64_rounds_to_f32_in_every_mode(mode: str) -> None:
    values = np.concatenate([rng.standard_normal(100) * 10.0 ** rng.integers(-44, 38, 100), [1e-46, 3.5e38, 0.1, 1.0]])
    values = np.concatenate([values, -values])
    result = run_one(f"cvt.{mode}.f32.f64", [("b64", values)], "b32").view(np.float32)
    for value, got in zip(values, result, strict=True):
        nearest = np.float32(value)
        low = nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))
        high = nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))
        toward_zero = low if value > 0 else high
        assert got == {"rn": nearest, "rm": low, "rp": high, "rz": toward_zero}[mode]


def test_halves_widen_exactly() -> None:
    bits = rng.integers(0, 1 << 16, 500, dtype=np.uint16)
    as_f32 = run_one("cvt.f32.f16", [("b16", bits)], "b32").view(np.float32)
    np.testing.assert_array_equal(as_f32, bits.view(np.float16).astype(np.float32))
    from_bf16 = run_one("cvt.f32.bf16", [("b16", bits)], "b32")
    finite = (bits & 0x7F80) != 0x7F80
    np.testing.assert_array_equal(from_bf16[finite], bits[finite].astype(np.uint32) << 16)


@pytest.mark.parametrize(("opcode", "function"), [
    ("cvt.rni.f32.f32", np.rint), ("cvt.rzi.f32.f32", np.trunc),
    ("cvt.rmi.f32.f32", np.floor), ("cvt.rpi.f32.f32", np.ceil),
])
def test_rounding_to_integral_floats(opcode: str, function: np.ufunc) -> None:
    values = np.array([0.5, 1.5, -0.5, -2.5, 2.49, -2.51, 1e10, -0.0, np.inf], np.float32)
    np.testing.assert_array_equal(run_one(opcode, [("b32", values)], "b32").view(np.float32), function(values))


def test_ftz_flushes_and_sat_clamps() -> None:
    values = np.array([1e-40, -1e-40, 0.25, 7, -3, np.nan], np.float32)
    flushed = run_one("cvt.ftz.f32.f32", [("b32", values)], "b32")
    assert flushed[0] == 0 and flushed[1] == 0x8000_0000
    clamped = run_one("cvt.sat.f32.f32", [("b32", values)], "b32").view(np.float32)
    np.testing.assert_array_equal(clamped[2:], np.array([0.25, 1, 0, 0], np.float32))


INTEGERS = {name: np.dtype(f"{'i' if name[0] == 's' else 'u'}{int(name[1:]) // 8}") for name in
            ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")}


def integer_samples(dtype: np.dtype[np.generic], count: int = 60) -> Array:
    limits = np.iinfo(dtype)
    edges = [limits.min, limits.max, limits.max - 1, 0, 1, limits.max // 2, limits.max // 2 + 1]
    return np.concatenate([rng.integers(limits.min, limits.max, count, dtype, endpoint=True), np.array(edges, dtype)])


def as_signed(bits: Array, dtype: np.dtype[np.generic]) -> list[int]:
    """Register content (unsigned) read as `dtype`."""
    return [int(value) for value in bits.astype(f"u{dtype.itemsize}").view(dtype)]


@pytest.mark.parametrize("given", list(INTEGERS))
@pytest.mark.parametrize("saturate", ["", ".sat"])
def test_integers_convert_to_each_other(given: str, saturate: str) -> None:
    values = integer_samples(INTEGERS[given])
    for to, dtype in INTEGERS.items():
        bits = run_one(f"cvt{saturate}.{to}.{given}", [(f"b{given[1:]}", values)], f"b{max(int(to[1:]), 16)}")
        limits = np.iinfo(dtype)
        for value, got in zip(values, as_signed(bits, dtype), strict=True):
            exact = int(value)
            if saturate:
                expected = min(max(exact, int(limits.min)), int(limits.max))
            else:
                wrapped = np.array([exact % 2**limits.bits], np.uint64).astype(f"u{dtype.itemsize}")
                expected = int(wrapped.view(dtype)[0])
            assert got == expected, (to, given, exact)


@pytest.mark.parametrize("to", list(INTEGERS))
@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
def test_floats_convert_to_integers_with_clamping(to: str, mode: str) -> None:
    limits = np.iinfo(INTEGERS[to])
    edges = [float(limits.max), float(limits.min), 1e30, -1e30, np.inf]
    values = np.array([0.5, -0.5, 1.5, 2.5, -2.5, 100.75, -7.25, *edges])
    rounded = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[mode](values.astype(np.float32))
    bits = run_one(f"cvt.{mode}.{to}.f32", [("b32", values.astype(np.float32))], f"b{max(int(to[1:]), 16)}")
    for value, got in zip(rounded, as_signed(bits, INTEGERS[to]), strict=True):
        exact = int(value) if np.isfinite(value) else (2**70 if value > 0 else -(2**70))
        assert got == min(max(exact, int(limits.min)), int(limits.max)), (value, to)


def test_nan_converts_to_zero_or_to_the_top_bit() -> None:
    nan32, nan64 = np.array([np.nan], np.float32), np.array([np.nan])
    assert run_one("cvt.rzi.s32.f32", [("b32", nan32)], "b32")[0] == 0
    assert run_one("cvt.rzi.s64.f32", [("b32", nan32)], "b64")[0] == 1 << 63
    assert run_one("cvt.rzi.u32.f64", [("b64", nan64)], "b32")[0] == 1 << 31


@pytest.mark.parametrize("given", list(INTEGERS))
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_integers_convert_to_floats_with_one_rounding(given: str, mode: str) -> None:
    values = integer_samples(INTEGERS[given])
    half = run_one(f"cvt.{mode}.f16.{given}", [(f"b{given[1:]}", values)], "b16")
    brain = run_one(f"cvt.{mode}.bf16.{given}", [(f"b{given[1:]}", values)], "b16")
    single = run_one(f"cvt.{mode}.f32.{given}", [(f"b{given[1:]}", values)], "b32").view(np.float32)
    for i, value in enumerate(values):
        exact = int(value)
        if abs(exact) < 2**53:
            assert half[i] == F16.round(float(exact), mode)
            assert brain[i] == BF16.round(float(exact), mode)
        assert single[i] == round_to_f32(exact, mode), (exact, mode)


def round_to_f32(exact: int, mode: str) -> np.float32:
    magnitude = abs(exact)
    shift = max(magnitude.bit_length() - 24, 0)
    units, rest = divmod(Fraction(magnitude), 1 << shift)
    tie_up = rest * 2 > 1 << shift or (rest * 2 == 1 << shift and units % 2 == 1)
    up = {"rn": tie_up, "rz": False, "rm": exact < 0 and rest > 0, "rp": exact > 0 and rest > 0}[mode]
    value = np.float32((units + up) * (1 << shift))
    return -value if exact < 0 else value


def test_pack_saturates_and_shifts_in() -> None:
    a = np.array([300, -300, 5], np.int32)
    b = np.array([-1, 40000, 100], np.int32)
    c = np.array([0x11223344, 0, 0xFFFF], np.uint32)
    packed = run_lanes("cvt.pack.sat.u8.s32.b32 %d, %a, %b, %c;",
                       {"a": ("b32", a), "b": ("b32", b), "c": ("b32", c)}, {"d": "b32"})["d"]
    np.testing.assert_array_equal(packed, [0x3344FF00, 0x000000FF, 0xFFFF0564])
    pair = run_one("cvt.pack.sat.s16.s32", [("b32", a), ("b32", b)], "b32")
    np.testing.assert_array_equal(pair, [0x012CFFFF, 0xFED47FFF, 0x00050064])
