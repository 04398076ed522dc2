"""Counters of compiled kernels of sm_90a: tensor copies and wgmma against totals that follow from the sizes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.compiled_hopper import compile_hopper, run_hopper
from tests.emulator.test_cluster_kernels import plain
from texpr.emulator import Device
from texpr.emulator.counters import Channel, Level, Traffic, Way

pytest.importorskip("triton")


@pytest.mark.parametrize("seed", [None, 1])
def test_tensor_copies_count_what_is_inside_of_the_tensor(seed: int | None) -> None:
    """70 x 44 elements in boxes of 32 x 32: the bytes of the boxes arrive in shared memory, whatever they hold."""
    kernel = compile_hopper("tma_add_one", (("source", "fp32[32,32]"), ("target", "fp32[32,32]")),
                            (("BM", 32), ("BN", 32)))
    x = np.ones((70, 44), np.float32)
    _, stats = run_hopper(kernel, {"source": x, "target": np.empty_like(x)}, (3, 2), maps=("source", "target"),
                          outputs=("target",), device=Device(sm=90, seed=seed, counters=True))
    assert stats.counters is not None
    memory = stats.counters.memory()
    # Rows of 176 bytes: of the boxes at column 0, even rows touch 4 sectors and odd ones 5; of those at 32, 2 each.
    sectors = 35 * (4 + 5) + 70 * 2
    ideal = 2 * (32 * 128 // 32 + 32 * 48 // 32) + 6 * 128 // 32 + 6 * 48 // 32
    for far, near in ((Way.BULK_LOAD, Way.BULK_LOAD), (Way.BULK_STORE, Way.BULK_STORE)):
        assert memory[Channel(Level.GLOBAL, far, 0)] == Traffic(6, 6, x.nbytes, x.nbytes, sectors, ideal)
        assert memory[Channel(Level.SHARED, near, 0)] == Traffic(6, 6, 6 * 32 * 32 * 4)


def test_a_pipelined_product_counts_its_matrix_operations() -> None:
    """100 x 72 x 200 in tiles of 64 x 64 x 64: two by two programs of four steps."""
    signature = (("a", "fp16[64,64]"), ("b", "fp16[64,64]"), ("c", "fp32[64,64]"), ("K", "i32"))
    kernel = compile_hopper("wgmma_gemm", signature, (("STAGES", 3), ("WARPS", 4), ("KM", False)))
    arguments = {"a": np.ones((100, 200), np.float16), "b": np.ones((200, 72), np.float16),
                 "c": np.empty((100, 72), np.float32), "K": 200}
    _, stats = run_hopper(kernel, arguments, (2, 2), maps=("a", "b", "c"), outputs=("c",),
                          device=Device(sm=90, counters=True))
    counters = stats.counters
    assert counters is not None
    assert counters.flops == 2 * 128 * 128 * 256
    operands = counters.memory()[Channel(Level.SHARED, Way.TENSOR_CORE, 0)]
    assert operands.requests == 4 * 4 * 4  # a step has four instructions of depth 16
    assert operands.bytes == 4 * 4 * 2 * 64 * 64 * 2
    loaded = counters.traffic(Level.SHARED, Way.BULK_LOAD)
    assert loaded.bytes == operands.bytes  # every tile is copied once and multiplied once
    assert counters.traffic(Level.GLOBAL, Way.BULK_LOAD).bytes == 2 * (100 * 200 + 200 * 72) * 2
    assert any(opcode.startswith("mbarrier.try_wait") for opcode in counters.barriers())


def test_an_operand_that_programs_share_is_read_once() -> None:
    """128 x 64 x 192: each of two programs loads its own rows of A, one of them B for both."""
    arguments = {"a": np.ones((128, 192), np.float16), "b": np.ones((192, 64), np.float16),
                 "c": np.empty((128, 64), np.float16), "K": 192}
    _, stats = run_hopper(plain(), arguments, (1, 1), maps=("a", "b", "c"), outputs=("c",),
                          device=Device(sm=90, counters=True))
    assert stats.counters is not None
    assert stats.counters.traffic(Level.GLOBAL, Way.BULK_LOAD).bytes == 2 * (128 * 192 + 192 * 64)
    assert stats.counters.traffic(Level.SHARED, Way.BULK_LOAD).bytes == 2 * (128 * 192 + 2 * 192 * 64)
