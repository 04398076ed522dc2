"""Dims from shapes, and the layouts that are accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.runtime.arrays import view
from texpr.runtime.errors import (
    DimValueError,
    LayoutError,
    RankError,
    ShapeError,
    UnknownArgumentError,
    UnknownDimError,
)
from texpr.runtime.expressions import parse
from texpr.runtime.manifest import Entry, Tensor
from texpr.runtime.shapes import solve_dims, storage_shape, stride_arguments


def tensor(name: str, *dims: str, groups: tuple[int, ...] | None = None, strided: tuple[int, ...] = ()) -> Tensor:
    return Tensor(
        name=name,
        dtype=DType.F32,
        variable=None,
        shape=tuple(parse(dim) for dim in dims),
        text=dims,
        groups=groups or (1,) * len(dims),
        output=False,
        optional=False,
        may_alias=None,
        strided=tuple((dim, f"{name}_stride_{dim}") for dim in strided),
    )


def entry(dims: str, *tensors: Tensor, derived: tuple[tuple[str, str], ...] = ()) -> Entry:
    return Entry(
        symbol="f",
        types=(),
        statics=(),
        arguments=tensors,
        dims=tuple(dims.split()),
        derived=tuple((name, parse(text)) for name, text in derived),
        facts=(),
        variants=(),
        context_words=1,
        max_launches=1,
    )


def solve(
    dims: str, *given: tuple[Tensor, tuple[int, ...]], derived: tuple[tuple[str, str], ...] = (), **explicit: Any
) -> dict[str, int]:
    arrays = [(t, view(t.name, np.zeros(shape, np.float32))) for t, shape in given]
    return solve_dims(entry(dims, *(t for t, _ in given), derived=derived), arrays, explicit)


def test_dims_of_a_contraction() -> None:
    x, w = tensor("x", "M", "K"), tensor("w", "K", "N")
    assert solve("M N K", (x, (3, 4)), (w, (4, 5))) == {"M": 3, "N": 5, "K": 4}


def test_contradiction_says_where_the_value_came_from() -> None:
    x, w = tensor("x", "M", "K"), tensor("w", "K", "N")
    with pytest.raises(ShapeError, match=r"w has shape \(6, 5\); its dim 0 should be K = 4 \(with K = 4 from x\)"):
        solve("M N K", (x, (3, 4)), (w, (6, 5)))


def test_composite_dim_with_one_known_factor() -> None:
    q, k = tensor("q", "B", "G", "R", groups=(1, 2)), tensor("k", "B", "G")
    assert solve("B G R", (q, (2, 12)), (k, (2, 3)))["R"] == 4


def test_composite_dim_in_logical_rank() -> None:
    q = tensor("q", "B", "G", "R", groups=(1, 2))
    assert solve("B G R", (q, (2, 3, 4))) == {"B": 2, "G": 3, "R": 4}


def test_composite_dim_needs_a_factor() -> None:
    q = tensor("q", "B", "G", "R", groups=(1, 2))
    with pytest.raises(UnknownDimError, match="TX0723 the value of dim G") as caught:
        solve("B G R", (q, (2, 12)))
    assert "dims={'G': ...}" in str(caught.value)
    assert solve("B G R", (q, (2, 12)), G=3)["R"] == 4


def test_composite_dim_that_the_factor_does_not_divide() -> None:
    q = tensor("q", "B", "G", "R", groups=(1, 2))
    with pytest.raises(ShapeError, match=r"its dim 1 is G \* R, and no R makes that 12 \(with G = 5 from dims=\)"):
        solve("B G R", (q, (2, 12)), G=5)


def test_derived_dims_and_shifted_shapes() -> None:
    x, y = tensor("x", "H + 2"), tensor("y", "P")
    assert solve("H", (x, (9,)), (y, (4,)), derived=(("P", "H // 2 + 1"),)) == {"H": 7, "P": 4}
    with pytest.raises(ShapeError, match=r"y has shape \(3,\); its dim 0 should be P = 4"):
        solve("H", (x, (9,)), (y, (3,)), derived=(("P", "H // 2 + 1"),))


def test_literal_dims_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"its dim 0 should be 7 = 7"):
        solve("C", (tensor("w", "7", "C"), (5, 3)))


def test_rank() -> None:
    with pytest.raises(RankError, match=r"x has shape \(3,\); it should have 2 dims: \[M, K\]"):
        solve("M K", (tensor("x", "M", "K"), (3,)))
    with pytest.raises(RankError, match=r"should have 2 or 3 dims: \[B, \(G, R\)\]"):
        solve("B G R", (tensor("q", "B", "G", "R", groups=(1, 2)), (3,)))


def test_explicit_dims_are_checked() -> None:
    with pytest.raises(UnknownArgumentError, match="no dim 'Q'"):
        solve("M", (tensor("x", "M"), (3,)), Q=1)
    with pytest.raises(DimValueError, match=r"M = 3\.0 is not an integer"):
        solve("M", (tensor("x", "M"), (3,)), M=3.0)


def strides(t: Tensor, array: np.ndarray[Any, Any]) -> dict[str, int]:
    return stride_arguments(t, view(t.name, array))


def test_dense_arrays_need_no_stride_arguments() -> None:
    assert strides(tensor("x", "M", "K"), np.zeros((3, 4), np.float32)) == {}


def test_dense_is_required_where_declared() -> None:
    with pytest.raises(LayoutError, match=r"strides \(1, 4\).*dim 1 should have stride 1") as caught:
        strides(tensor("x", "M", "K"), np.zeros((3, 4), np.float32).T)
    assert "ascontiguousarray(x)" in str(caught.value)
    with pytest.raises(LayoutError, match="so dim 0 should have stride 4"):
        strides(tensor("x", "M", "K"), np.zeros((3, 8), np.float32)[:, :4])


def test_free_strides() -> None:
    wide = np.zeros((2, 3, 8), np.float32)
    t = tensor("x", "B", "M", "K", strided=(1,))
    assert strides(t, wide[:, :, :4]) == {"x_stride_1": 8}
    with pytest.raises(LayoutError, match="dim 0 should have stride 16"):
        strides(t, wide[:, :2, :4])
    with pytest.raises(LayoutError, match="any stride from 4 on, not -8"):
        strides(t, wide[:, ::-1, :4])
    with pytest.raises(LayoutError, match="any stride from 4 on, not 0"):
        strides(t, np.broadcast_to(np.zeros((1, 1, 4), np.float32), (1, 3, 4)))


def test_extent_one_and_empty_arrays_have_dense_strides() -> None:
    t = tensor("x", "M", "K", strided=(0,))
    assert strides(t, np.zeros((8, 4), np.float32)[::8]) == {"x_stride_0": 4}
    assert strides(t, np.zeros((0, 4), np.float32)) == {"x_stride_0": 4}


def test_composite_dims_must_be_dense_inside() -> None:
    t = tensor("q", "B", "G", "R", groups=(1, 2), strided=(0,))
    base = np.zeros((2, 5, 4), np.float32)
    assert strides(t, base[:, :3]) == {"q_stride_0": 20}
    with pytest.raises(LayoutError, match="the dims of a composite dim must be dense"):
        strides(t, np.zeros((2, 3, 8), np.float32)[:, :, :4])


def test_storage_shape_multiplies_composite_dims() -> None:
    assert storage_shape(tensor("q", "B", "G", "R + 1", groups=(1, 2)), {"B": 2, "G": 3, "R": 4}) == (2, 15)
