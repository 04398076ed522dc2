"""Conversions between all element types, run on the emulator, against the language's own definition of rounding."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gluon.programs import cast, load, pointer, program, space
from tests.gluon.toolbox import Array, build, decode, encode, run, storage_dtype
from texpr.dtypes import DType
from texpr.lang.arrays import round_float, to_integer
from texpr.math.expr import const
from texpr.tile.ir import Lane, Statement, Store
from texpr.tile.layouts import Blocked

POINTS = 512
LINE = space("points", Blocked((1,), (32,), (4,), (0,)), ("i", POINTS))
LANE = Lane(LINE, 0)

FLOATS = (DType.F8E4M3, DType.F8E5M2, DType.F16, DType.BF16, DType.TF32, DType.F32, DType.F64)
INTEGERS = (DType.I8, DType.I16, DType.I32, DType.I64, DType.U8, DType.U16, DType.U32, DType.U64)
LOADED = tuple(t for t in (*FLOATS, *INTEGERS, DType.BOOL) if t is not DType.TF32)


def samples(dtype: DType) -> Array:
    """Storage of awkward values: halfway between neighbours of every narrower type, ends of every range, NaN."""
    if dtype is DType.BOOL:
        return np.arange(POINTS) % 2 == 1
    rng = np.random.default_rng(5)
    if dtype.is_int:
        info = np.iinfo(storage_dtype(dtype))
        bits = rng.integers(0, info.bits + 1, POINTS)
        spread = rng.integers(info.min, info.max, POINTS, endpoint=True, dtype=info.dtype)
        spread >>= (bits // 2).astype(info.dtype)
        edges = [info.min, info.max, 0, 1] + [(1 << n) + d for n in range(3, info.bits - 2) for d in (-1, 0, 1)]
        spread[: len(edges)] = np.array(edges).astype(info.dtype)
        spread[-6:] = [v & info.max for v in TIES]
        return spread
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 448.0, 464.0, 480.0, -465.0, 57344.0, 61439.0, 61440.0, 65519.0]
    ends += [65520.0, 127.5, 128.0, -128.9, -129.0, 255.5, 256.0, 32767.5, 65535.5, 2.0**31, 2.0**32, -(2.0**31)]
    ends += [2.0**63, 2.0**64, 2.0**-9, 2.0**-10, 2.0**-10 * 1.001, 2.0**-16, 2.0**-17, 3 * 2.0**-17, 2.0**-24]
    ends += [2.0**-25, 1e-40, 3.4e38, 1e300]
    ties = [(1 + m / 2048) * 2.0**e for e in range(-12, 12, 4) for m in range(0, 64, 5)]
    near = [t * (1 + 2.0**-40) for t in ties[:40]] + [t * (1 - 2.0**-40) for t in ties[:40]]
    values = np.concatenate([ends, ties, near, rng.standard_normal(POINTS) * 100])[:POINTS]
    return encode(values, dtype)


TIES = ((1 << 40) + (1 << 32), (1 << 40) + (1 << 32) + 1, (1 << 40) + (1 << 31) - 1, 0x1010001, 0x1018000, 0x1017FFF)


def expected(values: Array, source: DType, target: DType) -> Array:
    """By the language's definition; exact integers are rounded by way of Python integers."""
    if target is DType.BOOL:
        return values != 0
    if not target.is_float:
        if source.is_float:
            return to_integer(values, target)
        return values.astype(storage_dtype(target))
    if source.is_float:
        return round_float(values, target)
    return np.array([_round_integer(int(v), target) for v in values])


def _round_integer(value: int, target: DType) -> float:
    """To nearest, ties to even, for integers that float64 cannot hold: a sticky bit stands for what is cut off."""
    if target is DType.F64:
        return float(value)
    cut = max(0, abs(value).bit_length() - 50)
    magnitude = abs(value) >> cut << cut
    sticky = (1 << cut) >> 1 if magnitude != abs(value) else 0
    exact = float(magnitude) + float(sticky)
    return float(round_float(np.array(exact if value >= 0 else -exact), target))


def build_and_run(source: DType, targets: tuple[DType, ...], arch: str) -> tuple[Array, dict[DType, Array]]:
    raw = samples(source)
    x = load("x", source, LANE)
    stored = {t: DType.F32 if t is DType.TF32 else t for t in targets}
    body: list[Statement] = []
    parameters = [pointer("x", source)]
    tensors: dict[str, Array] = {"x": raw.copy()}
    for target in targets:
        name = f"y_{target}"
        value = cast(x, target)
        body.append(Store(name, const(0), LANE, None, value if target is stored[target] else cast(value, DType.F32)))
        parameters.append(pointer(name, stored[target]))
        tensors[name] = np.zeros(POINTS, storage_dtype(stored[target]))
    run(build(program(f"from_{source}", parameters, body), arch), tensors)
    return decode(raw, source), {t: decode(tensors[f"y_{t}"], stored[t]) for t in targets}


@pytest.mark.parametrize("source", LOADED)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_casts_round_as_the_language_says(source: DType, arch: str) -> None:
    targets = tuple(t for t in (*FLOATS, *INTEGERS, DType.BOOL) if t is not source)
    values, results = build_and_run(source, targets, arch)
    for target in targets:
        if target is DType.TF32:
            continue
        want = expected(values, source, target)
        got = results[target]
        same = (got == want) | (np.isnan(got) & np.isnan(want)) if target.is_float else got == want
        wrong = np.flatnonzero(~same)[:3]
        assert not wrong.size, f"{source} to {target}: {values[wrong]} gives {got[wrong]}, should be {want[wrong]}"


@pytest.mark.parametrize("source", [DType.F32, DType.F64])
def test_tf32_rounds_to_nearest_ties_away(source: DType) -> None:
    values, results = build_and_run(source, (DType.TF32,), "sm_80")
    finite = np.isfinite(values) & (np.abs(values) < 3.3e38) & (np.abs(values) > 1e-30)
    exponent = np.frexp(values[finite])[1]
    scaled = np.ldexp(values[finite], 11 - exponent)
    want = np.ldexp(np.copysign(np.floor(np.abs(scaled) + 0.5), scaled), exponent - 11)
    np.testing.assert_array_equal(results[DType.TF32][finite], want)
