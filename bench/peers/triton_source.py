"""The kernels in Triton's language, written as its users would. Importing this module needs triton.

The product goes through tensor descriptors and is tuned over tiles, stages and warps, with tiles in bands so that
neighbouring programs share operands in L2; a program of the softmax has a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

if TYPE_CHECKING:
    import torch


def _set_boxes(arguments: dict[str, Any]) -> None:
    """The boxes of the tensor maps are the tiles of the configuration that is tried."""
    rows, columns, inner = arguments["ROWS"], arguments["COLUMNS"], arguments["INNER"]
    arguments["x"].block_shape = [rows, inner]
    arguments["w"].block_shape = [inner, columns]
    arguments["y"].block_shape = [rows, columns]


_CONFIGURATIONS = [
    triton.Config(
        {"ROWS": rows, "COLUMNS": columns, "INNER": 64, "BAND": 8}, num_stages=stages, num_warps=warps,
        pre_hook=_set_boxes,
    )
    for rows, columns, warps in ((128, 256, 8), (128, 128, 8), (128, 128, 4), (64, 128, 4), (64, 64, 4))
    for stages in (3, 4)
]  # fmt: skip


@triton.autotune(configs=_CONFIGURATIONS, key=["m", "n", "k"])
@triton.jit
def _matmul(
    x, w, y, m, n, k, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, BAND: tl.constexpr
):  # fmt: skip
    tile = tl.program_id(0)
    high, wide = tl.cdiv(m, ROWS), tl.cdiv(n, COLUMNS)
    first = tile // (BAND * wide) * BAND
    height = min(high - first, BAND)
    inside = tile % (BAND * wide)
    row, column = (first + inside % height) * ROWS, inside // height * COLUMNS
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in range(tl.cdiv(k, INNER)):
        total = tl.dot(x.load([row, step * INNER]), w.load([step * INNER, column]), total)
    y.store([row, column], total.to(y.dtype))


def matmul(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x of M x K times w of K x N, both row-major with rows of a multiple of 16 bytes."""
    (m, k), n = x.shape, w.shape[1]
    y = x.new_empty((m, n))
    maps = [TensorDescriptor.from_tensor(tensor, [64, 64]) for tensor in (x, w, y)]
    _matmul[lambda chosen: (triton.cdiv(m, chosen["ROWS"]) * triton.cdiv(n, chosen["COLUMNS"]),)](*maps, m, n, k)
    return y


@triton.jit
def _softmax(x, y, n, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * n
    column = tl.arange(0, COLUMNS)
    value = tl.load(x + row + column, mask=column < n, other=float("-inf")).to(tl.float32)
    share = tl.exp(value - tl.max(value, 0))
    tl.store(y + row + column, (share / tl.sum(share, 0)).to(y.dtype.element_ty), mask=column < n)


def softmax(x: torch.Tensor) -> torch.Tensor:
    """The softmax of every row of x, which is dense."""
    m, n = x.shape
    y = x.new_empty(x.shape)
    columns = triton.next_power_of_2(n)
    _softmax[(m,)](x, y, n, COLUMNS=columns, num_warps=min(max(columns // 256, 1), 16))
    return y
