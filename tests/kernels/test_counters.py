"""Counters of shipped kernels against totals that follow from the sizes and the schedule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.kernels.counted import counted
from texpr.checking.hints import list_rows
from texpr.emulator.counters import Channel, Level, Traffic, Way

ROOT = Path(__file__).parents[2]
COPY = f"{ROOT}/kernels/movement.py:copy"
TRANSPOSE = f"{ROOT}/kernels/movement.py:transpose"
SOFTMAX = f"{ROOT}/kernels/rows.py:softmax"
LINEAR = f"{ROOT}/kernels/linear.py:linear_gelu"
LOWER = f"{ROOT}/kernels/linear.py:matmul_lower"
SPARSE = f"{ROOT}/kernels/sparse.py:sparse_conv"
MMA = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"


def test_copy_moves_every_byte_once_in_full_sectors() -> None:
    memory = counted(COPY, "sm_80", {"T": "f32"}, {"M": 9, "N": 1024}, "aligned").memory()
    size = 9 * 1024 * 4
    assert list(memory) == [Channel(Level.GLOBAL, Way.LOAD, 16), Channel(Level.GLOBAL, Way.STORE, 16)]
    for traffic in memory.values():
        assert (traffic.accesses, traffic.bytes, traffic.unique_bytes) == (size // 16, size, size)
        assert traffic.sectors == traffic.ideal_sectors == size // 32


def test_softmax_of_short_rows_shuffles_ten_times_per_row_and_leaves_shared_memory_alone() -> None:
    """A warp has a row: two butterflies over 32 lanes."""
    counters = counted(SOFTMAX, "sm_80", {"T": "f16"}, {"M": 12, "N": 1024}, "rows_1024")
    shuffles = sum(e.executed.warps for e in counters.instructions if e.site.opcode.startswith("shfl.sync.bfly"))
    assert shuffles == 10 * 12
    size = 12 * 1024 * 2
    assert counters.traffic(Level.GLOBAL, Way.LOAD) == Traffic(
        size // 512, size // 16, size, size, size // 32, size // 32)
    assert counters.traffic(Level.SHARED) == Traffic()
    assert counters.divergence().splits == 0


@pytest.mark.parametrize(
    ("kernel", "dtype", "columns"),
    [
        ("rows.py:softmax", "bf16", 32768),
        ("rows.py:softmax", "f32", 12296),
        ("rows.py:layernorm", "bf16", 8208),
        ("loss.py:cross_entropy", "bf16", 16000),
    ],
)
def test_a_row_that_stays_in_shared_memory_is_fetched_once(kernel: str, dtype: str, columns: int) -> None:
    """Every byte of x comes and every byte of the result goes 16 at a time; the other reads of x are from shared
    memory, without bank conflicts."""
    counters = counted(f"{ROOT}/kernels/{kernel}", "sm_90a", {"T": dtype}, {"M": 2, "N": columns}, "rows_32768")
    size = 2 * columns * (4 if dtype == "f32" else 2)
    memory = counters.memory()
    fetched, stored = memory[Channel(Level.GLOBAL, Way.COPY, 16)], memory[Channel(Level.GLOBAL, Way.STORE, 16)]
    assert (fetched.bytes, fetched.unique_bytes, fetched.efficiency) == (size, size, 1.0)
    assert (stored.bytes, stored.unique_bytes, stored.efficiency) == (size, size, 1.0)
    again = memory[Channel(Level.SHARED, Way.LOAD, 16)]
    assert again.bytes >= 3 * size and again.conflicts == 0
    others = counters.traffic(Level.GLOBAL, Way.LOAD).unique_bytes
    assert others <= (2 * size if kernel.endswith("layernorm") else 0) + 256  # g and b of each row, labels


@pytest.mark.parametrize("variant", ["rows_4096", "long_aligned"])
def test_every_access_to_a_row_is_16_bytes_wide(variant: str) -> None:
    columns = 4096 if variant == "rows_4096" else 40000
    memory = counted(SOFTMAX, "sm_90a", {"T": "bf16"}, {"M": 3, "N": columns}, variant).memory()
    assert {channel.width for channel in memory if channel.level is Level.GLOBAL} == {16}
    assert memory[Channel(Level.GLOBAL, Way.STORE, 16)].bytes == 3 * columns * 2


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_sums_of_rows_are_loads_of_16_bytes(dtype: str) -> None:
    counters = counted(f"{ROOT}/kernels/rows.py:sum_rows", "sm_90a", {"T": dtype}, {"M": 70, "N": 2056}, "aligned")
    loads = counters.traffic(Level.GLOBAL, Way.LOAD)
    size = 70 * 2056 * (4 if dtype == "f32" else 2)
    assert (loads.bytes, loads.unique_bytes) == (size, size)
    assert counters.memory()[Channel(Level.GLOBAL, Way.LOAD, 16)] == loads


def test_linear_gelu_multiplies_and_copies_as_its_tiles_say() -> None:
    """Four programs of 128 x 128 x 32 tiles, 4 warps each."""
    m, n, k, element = 256, 256, 128, 2
    counters = counted(LINEAR, "sm_80", {"T": "f16"}, {"M": m, "N": n, "K": k}, "tile128")
    assert counters.tensor()[MMA].warps == (m // 16) * (n // 8) * (k // 16)
    assert counters.flops == 2 * m * n * k
    programs = (m // 128) * (n // 128)
    copied = programs * (128 + 128) * k * element
    memory = counters.memory()
    read, written = memory[Channel(Level.GLOBAL, Way.COPY, 16)], memory[Channel(Level.SHARED, Way.COPY, 16)]
    assert (read.bytes, read.sectors, read.efficiency) == (copied, copied // 32, 1.0)
    ldmatrix = memory[Channel(Level.SHARED, Way.MATRIX_LOAD, 16)]
    assert ldmatrix.requests == programs * 4 * (k // 32) * 16
    assert written.conflicts == ldmatrix.conflicts == 0
    assert memory[Channel(Level.GLOBAL, Way.STORE, 16)].bytes == m * n * element


@pytest.mark.parametrize("variant, live", [("plain", 0), ("plain", 1), ("plain", 27), ("masked", 0), ("masked", 5)])
def test_sparse_convolution_multiplies_live_filter_points_alone(variant: str, live: int) -> None:
    """Two tiles of 64 rows: the first has rows at `live` filter points, the second at one."""
    n, c, k, v = 128, 64, 64, 27
    table = np.full((v, n), -1, np.int32)
    table[np.random.default_rng(0).permutation(v)[:live], 63] = 3
    table[v - 1, 64] = 5
    dims = {"N": n, "C": c, "K": k, "V": v, "P": 9}
    lists = list_rows((table >= 0).reshape(v, 2, 64).any(axis=2).T)
    hints = {"perm": np.arange(n, dtype=np.int32), "live": lists} if variant == "masked" else {}
    absent = () if variant == "masked" else ("perm", "live")
    counters = counted(SPARSE, "sm_80", {"T": "f16"}, dims, variant, {"map": table, **hints}, absent)
    per_point = (64 // 16) * (k // 8) * (c // 16)
    assert counters.flops == (live + 1) * per_point * 16 * 8 * 16 * 2
    weights = counters.memory()[Channel(Level.GLOBAL, Way.COPY, 16)]
    assert weights.bytes >= (live + 1) * c * k * 2


def test_tiles_above_the_diagonal_are_not_computed() -> None:
    """Of 3 x 4 tiles of 64 x 64 six lie on the diagonal or below it."""
    counters = counted(LOWER, "sm_80", {"T": "f16"}, {"M": 192, "N": 256, "K": 96}, "aligned")
    assert counters.flops == 6 * 2 * 64 * 64 * 96
    memory = counters.memory()
    assert memory[Channel(Level.GLOBAL, Way.COPY, 16)].bytes == 6 * (64 + 64) * 96 * 2
    assert memory[Channel(Level.GLOBAL, Way.STORE, 16)].bytes == 192 * 256 * 2


@pytest.mark.parametrize("dtype", ["f16", "f32"])
def test_a_transposed_tile_meets_no_bank_conflicts_as_its_code_asserts(dtype: str) -> None:
    counters = counted(TRANSPOSE, "sm_80", {"T": dtype}, {"M": 128, "N": 192}, "aligned")
    size = 128 * 192 * (2 if dtype == "f16" else 4)
    for way in (Way.LOAD, Way.STORE):
        shared, far = counters.traffic(Level.SHARED, way), counters.traffic(Level.GLOBAL, way)
        assert shared.bytes == far.bytes == size
        assert shared.conflicts == 0 and far.efficiency == 1.0


def test_a_scan_that_looks_back_reads_its_input_once() -> None:
    """Five tiles of 4096. Besides the rows: two words that each program publishes, and the words of the tiles before
    that it looks at, once or (if they are late) again."""
    n = 5 * 4096
    counters = counted(f"{ROOT}/kernels/scans.py:cumsum", "sm_80", {"T": "i32"}, {"M": 1, "N": n}, "lookback_wide")
    memory = counters.memory()
    for way in (Way.LOAD, Way.STORE):
        assert memory[Channel(Level.GLOBAL, way, 16)].bytes == 4 * n
    assert memory[Channel(Level.GLOBAL, Way.STORE, 8)].accesses == 2 * 5
    assert memory[Channel(Level.GLOBAL, Way.LOAD, 8)].accesses <= 2 * (1 + 2 + 3 + 4)
