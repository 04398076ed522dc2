"""Gluon kernels for sm_90a: tensor copies, mbarriers, warpgroup matrix products, warp specialisation.

Written by hand; nothing here comes from the compiler under test.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)


@gluon.jit
def tma_add_one(source, target, BM: gl.constexpr, BN: gl.constexpr):
    """One tile per program: in by a tensor copy, out by another."""
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    tile = gl.allocate_shared_memory(source.dtype, [BM, BN], source.layout)
    ready = mbarrier.allocate_mbarrier()
    mbarrier.init(ready, count=1)
    fence_async_shared()
    row = gl.program_id(0) * BM
    column = gl.program_id(1) * BN
    mbarrier.expect(ready, source.nbytes_per_cta)
    tma.async_load(source, [row, column], ready, tile)
    mbarrier.wait(ready, 0)
    value = tile.load(layout) + 1
    tile.store(value)
    fence_async_shared()
    tma.async_store(target, [row, column], tile)
    tma.store_wait(0)
    mbarrier.invalidate(ready)


@gluon.jit
def wgmma_gemm(a, b, c, K, STAGES: gl.constexpr, WARPS: gl.constexpr, KM: gl.constexpr):
    """C = A B^T or A B by a ring of tensor copies, one product in flight; C leaves by a tensor copy."""
    kind: gl.constexpr = a.dtype
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = c.block_type.shape[1]
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BN, 256 // kind.primitive_bitwidth])
    row = gl.program_id(0) * BM
    column = gl.program_id(1) * BN
    a_tiles = gl.allocate_shared_memory(kind, [STAGES, BM, BK], a.layout)
    b_tiles = gl.allocate_shared_memory(kind, [STAGES, b.block_type.shape[0], b.block_type.shape[1]], b.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    for s in gl.static_range(STAGES):
        mbarrier.init(full.index(s), count=1)
    fence_async_shared()
    steps = gl.cdiv(K, BK)
    for s in gl.static_range(STAGES - 2):
        mbarrier.expect(full.index(s), a.nbytes_per_cta + b.nbytes_per_cta, pred=s < steps)
        tma.async_load(a, [row, s * BK], full.index(s), a_tiles.index(s), pred=s < steps)
        if KM:
            tma.async_load(b, [column, s * BK], full.index(s), b_tiles.index(s), pred=s < steps)
        else:
            tma.async_load(b, [s * BK, column], full.index(s), b_tiles.index(s), pred=s < steps)
    total = gl.zeros([BM, BN], c.dtype, MMA)
    for i in range(steps):
        j = i + (STAGES - 2)
        live = j < steps
        mbarrier.expect(full.index(j % STAGES), a.nbytes_per_cta + b.nbytes_per_cta, pred=live)
        tma.async_load(a, [row, j * BK], full.index(j % STAGES), a_tiles.index(j % STAGES), pred=live)
        if KM:
            tma.async_load(b, [column, j * BK], full.index(j % STAGES), b_tiles.index(j % STAGES), pred=live)
        else:
            tma.async_load(b, [j * BK, column], full.index(j % STAGES), b_tiles.index(j % STAGES), pred=live)
        mbarrier.wait(full.index(i % STAGES), (i // STAGES) & 1)
        if KM:
            total = warpgroup_mma(a_tiles.index(i % STAGES), b_tiles.index(i % STAGES).permute((1, 0)), total,
                                  is_async=True)
        else:
            total = warpgroup_mma(a_tiles.index(i % STAGES), b_tiles.index(i % STAGES), total, is_async=True)
        total = warpgroup_mma_wait(num_outstanding=1, deps=(total,))
    total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
    for s in gl.static_range(STAGES):
        mbarrier.invalidate(full.index(s))
    c_tile = gl.allocate_shared_memory(c.dtype, [BM, BN], c.layout)
    c_tile.store(total)
    fence_async_shared()
    tma.async_store(c, [row, column], c_tile)
    tma.store_wait(0)


@gluon.jit
def _produce(a, b, a_tiles, b_tiles, full, empty, tiles, across, K, STAGES: gl.constexpr):
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = b.block_type.shape[1]
    steps = gl.cdiv(K, BK)
    count = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        row = (tile // across) * BM
        column = (tile % across) * BN
        for i in range(steps):
            s = count % STAGES
            mbarrier.wait(empty.index(s), ((count // STAGES) & 1) ^ 1)
            mbarrier.expect(full.index(s), a.nbytes_per_cta + b.nbytes_per_cta)
            tma.async_load(a, [row, i * BK], full.index(s), a_tiles.index(s))
            tma.async_load(b, [i * BK, column], full.index(s), b_tiles.index(s))
            count += 1


@gluon.jit
def _consume(a_tiles, b_tiles, c_tile, full, empty, c, tiles, across, K, STAGES: gl.constexpr, WARPS: gl.constexpr):
    BM: gl.constexpr = a_tiles.type.shape[1]
    BK: gl.constexpr = a_tiles.type.shape[2]
    BN: gl.constexpr = b_tiles.type.shape[2]
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BN, 16])
    steps = gl.cdiv(K, BK)
    count = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        row = (tile // across) * BM
        column = (tile % across) * BN
        total = gl.zeros([BM, BN], gl.float32, MMA)
        for i in range(steps):
            s = count % STAGES
            mbarrier.wait(full.index(s), (count // STAGES) & 1)
            total = warpgroup_mma(a_tiles.index(s), b_tiles.index(s), total, is_async=True)
            total = warpgroup_mma_wait(num_outstanding=1, deps=(total,))
            mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), count=1, pred=i > 0)
            count += 1
        total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
        mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), count=1)
        tma.store_wait(0)
        c_tile.store(total.to(c.dtype))
        fence_async_shared()
        tma.async_store(c, [row, column], c_tile)
    tma.store_wait(0)


@gluon.jit
def specialised_gemm(a, b, c, M, N, K, STAGES: gl.constexpr, WARPS: gl.constexpr):
    """One warp copies, the others multiply; persistent programs over all tiles of C."""
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = b.block_type.shape[1]
    a_tiles = gl.allocate_shared_memory(a.dtype, [STAGES, BM, BK], a.layout)
    b_tiles = gl.allocate_shared_memory(b.dtype, [STAGES, BK, BN], b.layout)
    c_tile = gl.allocate_shared_memory(c.dtype, [BM, BN], c.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    empty = mbarrier.allocate_mbarrier(batch=STAGES)
    for s in gl.static_range(STAGES):
        mbarrier.init(full.index(s), count=1)
        mbarrier.init(empty.index(s), count=1)
    fence_async_shared()
    across = gl.cdiv(N, BN)
    tiles = gl.cdiv(M, BM) * across
    gl.warp_specialize([
        (_consume, (a_tiles, b_tiles, c_tile, full, empty, c, tiles, across, K, STAGES, WARPS)),
        (_produce, (a, b, a_tiles, b_tiles, full, empty, tiles, across, K, STAGES)),
    ], [1], [24])


@gluon.jit
def wgmma_tile(a, b, c, BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr, WARPS: gl.constexpr,
               A_LAYOUT: gl.constexpr, B_LAYOUT: gl.constexpr, A_REGISTERS: gl.constexpr, B_TURNED: gl.constexpr):
    """One product of one tile, operands stored to shared memory by the threads themselves."""
    kind: gl.constexpr = a.dtype.element_ty
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BN, 256 // kind.primitive_bitwidth])
    reads: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [WARPS, 1], [1, 0])
    i = gl.arange(0, BM, gl.SliceLayout(1, reads))
    k = gl.arange(0, BK, gl.SliceLayout(0, reads))
    x = gl.load(a + i[:, None] * BK + k[None, :])
    if A_REGISTERS:
        left = gl.convert_layout(x, gl.DotOperandLayout(0, MMA, 32 // kind.primitive_bitwidth))
    else:
        left = gl.allocate_shared_memory(kind, [BM, BK], A_LAYOUT, x)
    if B_TURNED:
        n = gl.arange(0, BN, gl.SliceLayout(1, reads))
        y = gl.load(b + n[:, None] * BK + k[None, :])
        right = gl.allocate_shared_memory(kind, [BN, BK], B_LAYOUT, y).permute((1, 0))
    else:
        kb = gl.arange(0, BK, gl.SliceLayout(1, reads))
        nb = gl.arange(0, BN, gl.SliceLayout(0, reads))
        y = gl.load(b + kb[:, None] * BN + nb[None, :])
        right = gl.allocate_shared_memory(kind, [BK, BN], B_LAYOUT, y)
    fence_async_shared()
    total = gl.zeros([BM, BN], c.dtype.element_ty, MMA)
    total = warpgroup_mma(left, right, total, is_async=True)
    total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
    row = gl.arange(0, BM, gl.SliceLayout(1, MMA))
    column = gl.arange(0, BN, gl.SliceLayout(0, MMA))
    gl.store(c + row[:, None] * BN + column[None, :], total)


@gluon.jit
def tma_own_maps(x, y, rows, columns, BM: gl.constexpr, BN: gl.constexpr):
    """The kernel builds its tensor maps itself."""
    shared: gl.constexpr = gl.NVMMASharedLayout.get_default_for([BM, BN], gl.float32)
    source = tma.make_tensor_descriptor(x, [rows, columns], [columns, 1], [BM, BN], shared)
    target = tma.make_tensor_descriptor(y, [rows, columns], [columns, 1], [BM, BN], shared)
    tma_add_one(source, target, BM, BN)
