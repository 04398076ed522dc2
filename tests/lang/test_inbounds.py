"""Reads that are in bounds, and why; the refused ones are in tests/errors/lang."""

from __future__ import annotations

from typing import Any

import pytest

import texpr as te
from texpr.lang.errors import EmptySourceError, OutOfRangeError


def accepts(signature: str, index: Any, **options: Any) -> bool:
    """Whether ``y[i] = x[index(i, ...)]`` traces; ``index`` gets the axis and the other inputs."""

    def body(x: Any, m: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        index(x, m, y, i)

    try:
        te.algorithm(signature, **options)(body).bind()
    except (OutOfRangeError, EmptySourceError):
        return False
    return True


GATHER = "x: f32[P], m: {} -> y: f32[N]"
BOUNDARIES = ("clamped", "wrapped", "mirrored")


def gather(x: Any, m: Any, y: Any, i: Any) -> None:
    y[i] = x[m[i]]


def test_range_contract_of_a_gather_counts() -> None:
    assert accepts(GATHER.format("i32[N] in [0, P)"), gather)
    assert not accepts(GATHER.format("i32[N] in [0, P]"), gather)
    assert not accepts(GATHER.format("i32[N]"), gather)


def test_the_type_s_own_range_counts() -> None:
    assert accepts("x: f32[256], m: u8[N] -> y: f32[N]", gather)
    assert not accepts("x: f32[255], m: u8[N] -> y: f32[N]", gather)
    assert accepts("x: f32[P], m: u16[N] -> y: f32[N]", gather, require=["P >= 65536"])


def test_a_widening_cast_keeps_the_range() -> None:
    def widened(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[m[i].to("i32")]

    def widened_below(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[m[i].to("i16").to("i64") + 128]

    assert accepts("x: f32[256], m: u8[N] -> y: f32[N]", widened)
    assert accepts("x: f32[65536], m: u16[N] -> y: f32[N]", widened)
    assert accepts("x: f32[P], m: i16[N] in [0, P) -> y: f32[N]", widened)
    assert accepts("x: f32[256], m: i8[N] -> y: f32[N]", widened_below)
    assert not accepts("x: f32[255], m: u8[N] -> y: f32[N]", widened)
    assert not accepts("x: f32[256], m: i8[N] -> y: f32[N]", widened)


def test_a_cast_that_may_wrap_keeps_no_range() -> None:
    def unsigned(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[m[i].to("u32")]

    def narrowed(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[m[i].to("i8")]

    assert not accepts("x: f32[P], m: i32[N] in [-1, P) -> y: f32[N]", unsigned)
    assert not accepts("x: f32[P], m: i32[N] in [0, P) -> y: f32[N]", narrowed)


def masked(x: Any, m: Any, y: Any, i: Any) -> None:
    y[i] = x[m[i] & 15]


def test_masks_and_shifts_bound_a_value() -> None:
    assert accepts("x: f32[16], m: i32[N] -> y: f32[N]", masked)
    assert not accepts("x: f32[15], m: i32[N] -> y: f32[N]", masked)

    def shifted(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[m[i] >> 28]

    assert accepts("x: f32[16], m: u32[N] -> y: f32[N]", shifted)
    assert not accepts("x: f32[16], m: i32[N] -> y: f32[N]", shifted)


def test_min_and_max_bound_a_value() -> None:
    def clipped(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[te.minimum(te.maximum(m[i], 0), te.dim("P") - 1)]

    assert accepts(GATHER.format("i32[N]"), clipped, require=["P >= 1"])
    assert not accepts(GATHER.format("i32[N]"), clipped)


def test_require_is_a_fact() -> None:
    def double(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = x[2 * i + 1]

    assert accepts(GATHER.format("i32[N]"), double, require=["P >= 2 * N"])
    assert not accepts(GATHER.format("i32[N]"), double, require=["P >= 2 * N - 1"])


def test_an_understood_guard_must_be_enough() -> None:
    def before(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = te.where(i > 0, x[i - 1], 0) + te.where(i == 0, 0, x[i - 1])

    def beyond(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = te.where(i > 0, x[i + 1], 0)

    assert accepts("x: f32[N], m: i32[N] -> y: f32[N]", before)
    assert not accepts("x: f32[N], m: i32[N] -> y: f32[N]", beyond)


def test_a_guard_on_data_is_trusted() -> None:
    def trusted(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = te.where((m[i] >= 0) & (m[i] < 7), x[m[i]], 0)

    assert accepts(GATHER.format("i32[N]"), trusted)


def test_guard_of_a_reduction_reaches_its_terms_only() -> None:
    def reduced(x: Any, m: Any, y: Any, i: Any) -> None:
        (k,) = te.axes(k=5)
        y[i] = te.sum(x[i + k], over=k, where=i + k < te.dim("N"))

    assert accepts("x: f32[N], m: i32[N] -> y: f32[N]", reduced)

    def in_the_guard(x: Any, m: Any, y: Any, i: Any) -> None:
        (k,) = te.axes(k=5)
        y[i] = te.sum(x[i], over=k, where=(i + k < te.dim("N")) & (m[i + k] > 0))

    assert not accepts("x: f32[N], m: i32[N] -> y: f32[N]", in_the_guard)


def test_pooling_needs_no_guard() -> None:
    def pool(x: Any, m: Any, y: Any, i: Any) -> None:
        p, r = te.axes(p="P // 2", r=2)
        half = te.func("half")
        half[p] = te.max(x[2 * p + r], over=r)
        y[i] = half.padded(0)[i]

    assert accepts(GATHER.format("i32[N]"), pool)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_boundaries_allow_any_index(boundary: str) -> None:
    def anywhere(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = getattr(x, boundary)()[m[i] - 3]

    assert accepts("x: f32[N], m: i32[N] -> y: f32[N]", anywhere)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_boundary_needs_a_source_that_is_not_empty(boundary: str) -> None:
    def near(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = getattr(x, boundary)()[i + 1]

    def guarded(x: Any, m: Any, y: Any, i: Any) -> None:
        y[i] = te.where(te.dim("P") > 0, getattr(x, boundary)()[i + 1], 0)

    def reduced(x: Any, m: Any, y: Any, i: Any) -> None:
        (p,) = te.axes(p="P")
        y[i] = te.sum(getattr(x, boundary)()[p - i], over=p)

    assert not accepts(GATHER.format("i32[N]"), near)
    assert accepts(GATHER.format("i32[N]"), guarded)
    assert accepts(GATHER.format("i32[N]"), reduced)
    assert accepts("x: f32[5], m: i32[N] -> y: f32[N]", near)
    assert accepts("x: f32[N + 2], m: i32[N] -> y: f32[N]", near)


def test_message_names_a_point_and_the_missing_fact() -> None:
    def body(x: Any, m: Any, y: Any) -> None:
        (i,) = te.axes(i="N")
        y[i] = x[i]

    with pytest.raises(OutOfRangeError) as caught:
        te.algorithm("x: f32[P], m: i32[N] -> y: f32[N]")(body).bind()
    assert "outside 0 .. P" in caught.value.message
    assert "Not proved: i < P" in caught.value.hint
