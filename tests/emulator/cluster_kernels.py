"""Gluon kernels whose programs share clusters: multicast tensor copies, barriers of several programs.

Written by hand; nothing here comes from the compiler under test. A tile is that of the whole cluster.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_store,
    cluster,
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)


@gluon.jit
def spread_sums(source, target, ROWS: gl.constexpr, COLUMNS: gl.constexpr, CTAS: gl.constexpr):
    """Sums of rows whose columns are spread over the cluster: the parts meet in shared memory of all programs."""
    SPREAD: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0], cga_layout=CTAS)
    row = gl.program_id(0) * ROWS + gl.arange(0, ROWS, gl.SliceLayout(1, SPREAD))
    column = gl.arange(0, COLUMNS, gl.SliceLayout(0, SPREAD))
    value = gl.load(source + row[:, None] * COLUMNS + column[None, :])
    gl.store(target + row, gl.sum(value, 1))


@gluon.jit
def pushed(source, target, N: gl.constexpr, FROM: gl.constexpr, TO: gl.constexpr, SHARED: gl.constexpr):
    """A row that its programs hand to each other by asynchronous stores, spread as `FROM` and as `TO`."""
    value = gl.load(source + gl.program_id(0) * N + gl.arange(0, N, FROM))
    room = gl.allocate_shared_memory(source.dtype.element_ty, [N], SHARED)
    ready = mbarrier.allocate_mbarrier()
    mbarrier.init(ready, count=1)
    mbarrier.expect(ready, N * 4 // gl.num_ctas())
    async_store(room, value, ready)
    mbarrier.wait(ready, 0)
    gl.store(target + gl.program_id(0) * N + gl.arange(0, N, TO), room.load(TO) + 1)


@gluon.jit
def multicast_gemm(a, b, c, K, STAGES: gl.constexpr, WARPS: gl.constexpr, CTAS: gl.constexpr, MEET: gl.constexpr):
    """C = A B: programs along the rows share B, and a ring whose slots are filled again when all have read them."""
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = b.block_type.shape[1]
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BN, 16], cga_layout=CTAS)
    row = gl.program_id(0) * BM
    column = gl.program_id(1) * BN
    a_tiles = gl.allocate_shared_memory(a.dtype, [STAGES, BM, BK], a.layout)
    b_tiles = gl.allocate_shared_memory(b.dtype, [STAGES, BK, BN], b.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    for s in gl.static_range(STAGES):
        mbarrier.init(full.index(s), count=1)
    fence_async_shared(cluster=True)
    steps = gl.cdiv(K, BK)
    for s in gl.static_range(STAGES - 1):
        live = s < steps
        mbarrier.expect(full.index(s), a.nbytes_per_cta + b.nbytes_per_cta, pred=live)
        tma.async_load(a, [row, s * BK], full.index(s), a_tiles.index(s), pred=live)
        tma.async_load(b, [s * BK, column], full.index(s), b_tiles.index(s), pred=live, multicast=True)
    total = gl.zeros([BM, BN], gl.float32, MMA)
    for i in range(steps):
        slot = i % STAGES
        mbarrier.wait(full.index(slot), (i // STAGES) & 1)
        total = warpgroup_mma(a_tiles.index(slot), b_tiles.index(slot), total, is_async=True)
        total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
        if MEET:
            cluster.barrier()
        j = i + (STAGES - 1)
        more = j < steps
        free = j % STAGES
        mbarrier.expect(full.index(free), a.nbytes_per_cta + b.nbytes_per_cta, pred=more)
        tma.async_load(a, [row, j * BK], full.index(free), a_tiles.index(free), pred=more)
        tma.async_load(b, [j * BK, column], full.index(free), b_tiles.index(free), pred=more, multicast=True)
    c_tile = gl.allocate_shared_memory(c.dtype, [BM, BN], c.layout)
    c_tile.store(total.to(c.dtype))
    fence_async_shared()
    tma.async_store(c, [row, column], c_tile)
    tma.store_wait(0)


@gluon.jit
def _fetch(a, b, a_tiles, b_tiles, full, own, shared, tiles, across, K, STAGES: gl.constexpr, WAITS: gl.constexpr):
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = b.block_type.shape[1]
    steps = gl.cdiv(K, BK)
    count = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        for i in range(steps):
            s = count % STAGES
            free = ((count // STAGES) & 1) ^ 1
            if WAITS != "shared":
                mbarrier.wait(own.index(s), free)
            mbarrier.expect(full.index(s), a.nbytes_per_cta + b.nbytes_per_cta)
            if WAITS != "own":
                mbarrier.wait(shared.index(s), free)
            tma.async_load(a, [(tile // across) * BM, i * BK], full.index(s), a_tiles.index(s))
            tma.async_load(b, [i * BK, (tile % across) * BN], full.index(s), b_tiles.index(s), multicast=True)
            count += 1


@gluon.jit
def _compute(a_tiles, b_tiles, c_tile, full, own, shared, c, tiles, across, K, STAGES: gl.constexpr,
             WARPS: gl.constexpr, CTAS: gl.constexpr):
    BM: gl.constexpr = a_tiles.type.shape[1]
    BK: gl.constexpr = a_tiles.type.shape[2]
    BN: gl.constexpr = b_tiles.type.shape[2]
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, BN, 16], cga_layout=CTAS)
    steps = gl.cdiv(K, BK)
    count = 0
    for tile in range(gl.program_id(0), tiles, gl.num_programs(0)):
        total = gl.zeros([BM, BN], gl.float32, MMA)
        for _ in range(steps):
            s = count % STAGES
            mbarrier.wait(full.index(s), (count // STAGES) & 1)
            total = warpgroup_mma(a_tiles.index(s), b_tiles.index(s), total, is_async=True)
            total = warpgroup_mma_wait(num_outstanding=0, deps=(total,))
            mbarrier.arrive(own.index(s), count=1)
            mbarrier.arrive(shared.index(s), count=1)
            count += 1
        tma.store_wait(0)
        c_tile.store(total.to(c.dtype))
        fence_async_shared()
        tma.async_store(c, [(tile // across) * BM, (tile % across) * BN], c_tile)
    tma.store_wait(0)


@gluon.jit
def specialised_multicast_gemm(a, b, c, M, N, K, STAGES: gl.constexpr, WARPS: gl.constexpr, CTAS: gl.constexpr,
                               GROUP: gl.constexpr, WAITS: gl.constexpr):
    """The same with a warp that copies: a slot has a barrier of each program, and one that the leader holds for all."""
    BM: gl.constexpr = a.block_type.shape[0]
    BK: gl.constexpr = a.block_type.shape[1]
    BN: gl.constexpr = b.block_type.shape[1]
    a_tiles = gl.allocate_shared_memory(a.dtype, [STAGES, BM, BK], a.layout)
    b_tiles = gl.allocate_shared_memory(b.dtype, [STAGES, BK, BN], b.layout)
    c_tile = gl.allocate_shared_memory(c.dtype, [BM, BN], c.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    own = mbarrier.allocate_mbarrier(batch=STAGES)
    shared = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout(GROUP))
    for s in gl.static_range(STAGES):
        mbarrier.init(full.index(s), count=1)
        mbarrier.init(own.index(s), count=1)
        mbarrier.init(shared.index(s), count=1)
    fence_async_shared(cluster=True)
    across = gl.cdiv(N, BN)
    tiles = gl.cdiv(M, BM) * across
    gl.warp_specialize([
        (_compute, (a_tiles, b_tiles, c_tile, full, own, shared, c, tiles, across, K, STAGES, WARPS, CTAS)),
        (_fetch, (a, b, a_tiles, b_tiles, full, own, shared, tiles, across, K, STAGES, WAITS)),
    ], [1], [24])
