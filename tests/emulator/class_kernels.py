"""Gluon kernels of classes that the compiler does not make yet: attention, look-back, sorting, sparse convolution,
histograms by warp votes, warp specialisation without a product.

Written by hand; nothing here comes from the compiler under test.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)


@gluon.jit
def _online(scores, most, total, scale: gl.constexpr):
    """One step of a softmax whose row maximum is not known yet."""
    new = gl.maximum(most, gl.max(scores, 1) * scale)
    weights = gl.exp2(scores * scale - new[:, None])
    shrink = gl.exp2(most - new)
    return weights, new, total * shrink + gl.sum(weights, 1), shrink


@gluon.jit
def attention(
    q, k, v, o, N, BM: gl.constexpr, BN: gl.constexpr, D: gl.constexpr, STAGES: gl.constexpr, SCALE: gl.constexpr
):
    """Causal attention of one head per program row: keys and values by a ring of asynchronous copies."""
    kind: gl.constexpr = q.dtype.element_ty
    MMA: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [4, 1], [16, 8])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    RIGHT: gl.constexpr = gl.DotOperandLayout(1, MMA, 2)
    copies: gl.constexpr = gl.BlockedLayout([1, 8], [32 // (D // 8), D // 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.SwizzledSharedLayout(8, 1, 8, [1, 0])
    first = gl.program_id(0) * BM
    head = gl.program_id(1) * N * D
    q_tile = gl.allocate_shared_memory(kind, [BM, D], shared)
    k_tiles = gl.allocate_shared_memory(kind, [STAGES, BN, D], shared)
    v_tiles = gl.allocate_shared_memory(kind, [STAGES, BN, D], shared)
    rows = first + gl.arange(0, BM, gl.SliceLayout(1, copies))
    keys = gl.arange(0, BN, gl.SliceLayout(1, copies))
    columns = gl.arange(0, D, gl.SliceLayout(0, copies))
    async_copy.async_load(q_tile, q + head + rows[:, None] * D + columns[None, :], mask=rows[:, None] < N)
    k_at = k + head + keys[:, None] * D + columns[None, :]
    v_at = v + head + keys[:, None] * D + columns[None, :]
    steps = gl.cdiv(gl.minimum(N, first + BM), BN)
    for s in gl.static_range(STAGES - 1):
        inside = (keys + s * BN)[:, None] < N
        async_copy.async_load(k_tiles.index(s), k_at + s * BN * D, mask=inside)
        async_copy.async_load(v_tiles.index(s), v_at + s * BN * D, mask=inside)
        async_copy.commit_group()
    async_copy.wait_group(STAGES - 2)
    left = q_tile.load(LEFT)
    own = first + gl.arange(0, BM, gl.SliceLayout(1, MMA))
    most = gl.full([BM], -1.0e30, gl.float32, gl.SliceLayout(1, MMA))
    total = gl.full([BM], 0.0, gl.float32, gl.SliceLayout(1, MMA))
    sums = gl.zeros([BM, D], gl.float32, MMA)
    for i in range(steps):
        async_copy.wait_group(STAGES - 2)
        j = i + STAGES - 1
        inside = (keys + j * BN)[:, None] < N
        async_copy.async_load(k_tiles.index(j % STAGES), k_at + j * BN * D, mask=inside)
        async_copy.async_load(v_tiles.index(j % STAGES), v_at + j * BN * D, mask=inside)
        async_copy.commit_group()
        turned = k_tiles.index(i % STAGES).permute((1, 0)).load(RIGHT)
        scores = mma_v2(left, turned, gl.zeros([BM, BN], gl.float32, MMA))
        key = i * BN + gl.arange(0, BN, gl.SliceLayout(0, MMA))
        scores = gl.where((key[None, :] < N) & (key[None, :] <= own[:, None]), scores, -1.0e30)
        weights, most, total, shrink = _online(scores, most, total, SCALE)
        weights = gl.convert_layout(weights.to(kind), LEFT)
        sums = mma_v2(weights, v_tiles.index(i % STAGES).load(RIGHT), sums * shrink[:, None])
    async_copy.wait_group(0)
    out = gl.convert_layout((sums / total[:, None]).to(kind), copies)
    gl.store(o + head + rows[:, None] * D + columns[None, :], out, mask=rows[:, None] < N)


@gluon.jit
def attention_by_tensor_copies(q, k, v, o, N, STAGES: gl.constexpr, SCALE: gl.constexpr):
    """Attention with tensor maps over [heads, N, D], wgmma for both products, weights as a register operand."""
    kind: gl.constexpr = q.dtype
    BM: gl.constexpr = q.block_type.shape[1]
    D: gl.constexpr = q.block_type.shape[2]
    BN: gl.constexpr = k.block_type.shape[1]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BN, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    first = gl.program_id(0) * BM
    head = gl.program_id(1)
    q_tile = gl.allocate_shared_memory(kind, [1, BM, D], q.layout)
    k_tiles = gl.allocate_shared_memory(kind, [STAGES, 1, BN, D], k.layout)
    v_tiles = gl.allocate_shared_memory(kind, [STAGES, 1, BN, D], v.layout)
    q_here = mbarrier.allocate_mbarrier()
    k_here = mbarrier.allocate_mbarrier(batch=STAGES)
    v_here = mbarrier.allocate_mbarrier(batch=STAGES)
    mbarrier.init(q_here, count=1)
    for s in gl.static_range(STAGES):
        mbarrier.init(k_here.index(s), count=1)
        mbarrier.init(v_here.index(s), count=1)
    fence_async_shared()
    steps = gl.cdiv(N, BN)
    mbarrier.expect(q_here, q.nbytes_per_cta)
    tma.async_load(q, [head, first, 0], q_here, q_tile)
    for s in gl.static_range(STAGES - 1):
        mbarrier.expect(k_here.index(s), k.nbytes_per_cta, pred=s < steps)
        tma.async_load(k, [head, s * BN, 0], k_here.index(s), k_tiles.index(s), pred=s < steps)
        mbarrier.expect(v_here.index(s), v.nbytes_per_cta, pred=s < steps)
        tma.async_load(v, [head, s * BN, 0], v_here.index(s), v_tiles.index(s), pred=s < steps)
    most = gl.full([BM], -1.0e30, gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.full([BM], 0.0, gl.float32, gl.SliceLayout(1, SCORES))
    sums = gl.zeros([BM, D], gl.float32, SUMS)
    mbarrier.wait(q_here, 0)
    for i in range(steps):
        j = i + (STAGES - 1)
        slot = j % STAGES
        live = j < steps
        mbarrier.expect(k_here.index(slot), k.nbytes_per_cta, pred=live)
        tma.async_load(k, [head, j * BN, 0], k_here.index(slot), k_tiles.index(slot), pred=live)
        mbarrier.expect(v_here.index(slot), v.nbytes_per_cta, pred=live)
        tma.async_load(v, [head, j * BN, 0], v_here.index(slot), v_tiles.index(slot), pred=live)
        phase = (i // STAGES) & 1
        mbarrier.wait(k_here.index(i % STAGES), phase)
        turned = k_tiles.index(i % STAGES).reshape([BN, D]).permute((1, 0))
        scores = warpgroup_mma(q_tile.reshape([BM, D]), turned, gl.zeros([BM, BN], gl.float32, SCORES), use_acc=False,
                               is_async=True)
        scores = warpgroup_mma_wait(num_outstanding=0, deps=(scores,))
        key = i * BN + gl.arange(0, BN, gl.SliceLayout(0, SCORES))
        scores = gl.where(key[None, :] < N, scores, -1.0e30)
        weights, most, total, shrink = _online(scores, most, total, SCALE)
        sums = sums * gl.convert_layout(shrink, gl.SliceLayout(1, SUMS))[:, None]
        left = gl.convert_layout(weights.to(kind), gl.DotOperandLayout(0, SUMS, 2))
        mbarrier.wait(v_here.index(i % STAGES), phase)
        sums = warpgroup_mma(left, v_tiles.index(i % STAGES).reshape([BN, D]), sums, is_async=True)
        sums = warpgroup_mma_wait(num_outstanding=0, deps=(sums,))
    out = (sums / gl.convert_layout(total, gl.SliceLayout(1, SUMS))[:, None]).to(kind)
    o_tile = gl.allocate_shared_memory(kind, [1, BM, D], o.layout)
    o_tile.reshape([BM, D]).store(out)
    fence_async_shared()
    tma.async_store(o, [head, first, 0], o_tile)
    tma.store_wait(0)


@gluon.jit
def _fetch(source, tiles, full, empty, count, BM: gl.constexpr, STAGES: gl.constexpr):
    for i in range(count):
        slot = i % STAGES
        mbarrier.wait(empty.index(slot), ((i // STAGES) & 1) ^ 1)
        mbarrier.expect(full.index(slot), source.nbytes_per_cta)
        tma.async_load(source, [i * BM, gl.program_id(0) * source.block_type.shape[1]], full.index(slot),
                       tiles.index(slot))


@gluon.jit
def _add_up(tiles, full, empty, target, count, BM: gl.constexpr, BN: gl.constexpr, STAGES: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    total = gl.zeros([BM, BN], gl.float32, layout)
    for i in range(count):
        slot = i % STAGES
        mbarrier.wait(full.index(slot), (i // STAGES) & 1)
        total += tiles.index(slot).load(layout)
        mbarrier.arrive(empty.index(slot), count=1)
    sums = gl.sum(total, 0)
    column = gl.program_id(0) * BN + gl.arange(0, BN, gl.SliceLayout(0, layout))
    gl.store(target + column, sums)


@gluon.jit
def specialised_column_sums(source, target, rows, STAGES: gl.constexpr):
    """One warp copies tiles in, four others add them up."""
    BM: gl.constexpr = source.block_type.shape[0]
    BN: gl.constexpr = source.block_type.shape[1]
    tiles = gl.allocate_shared_memory(source.dtype, [STAGES, BM, BN], source.layout)
    full = mbarrier.allocate_mbarrier(batch=STAGES)
    empty = mbarrier.allocate_mbarrier(batch=STAGES)
    for s in gl.static_range(STAGES):
        mbarrier.init(full.index(s), count=1)
        mbarrier.init(empty.index(s), count=1)
    fence_async_shared()
    count = gl.cdiv(rows, BM)
    gl.warp_specialize([
        (_add_up, (tiles, full, empty, target, count, BM, BN, STAGES)),
        (_fetch, (source, tiles, full, empty, count, BM, STAGES)),
    ], [1], [24])


@gluon.jit
def _same_value(value):
    return gl.inline_asm_elementwise(
        "match.any.sync.b32 $0, $1, 0xffffffff;", "=r,r", [value], dtype=gl.int32, is_pure=False, pack=1
    )


@gluon.jit
def _before_me(mask):
    return gl.inline_asm_elementwise(
        "{ .reg .b32 t; mov.u32 t, %lanemask_lt; and.b32 t, t, $1; popc.b32 $0, t; }", "=r,r", [mask], dtype=gl.int32,
        is_pure=True, pack=1,
    )


@gluon.jit
def _count_of(mask):
    return gl.inline_asm_elementwise("popc.b32 $0, $1;", "=r,r", [mask], dtype=gl.int32, is_pure=True, pack=1)


@gluon.jit
def histogram_by_match(x, counts, n, BLOCK: gl.constexpr, BINS: gl.constexpr):
    """Lanes of equal value elect one that adds for all of them."""
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    bins: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    local = gl.allocate_shared_memory(gl.int32, [BINS], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    local.store(gl.zeros([BINS], gl.int32, bins))
    for start in range(gl.program_id(0) * BLOCK, n, gl.num_programs(0) * BLOCK):
        offsets = start + gl.arange(0, BLOCK, layout)
        inside = offsets < n
        value = gl.load(x + offsets, mask=inside, other=0)
        peers = _same_value(gl.where(inside, value, -1))
        local.atomic_scatter_add(_count_of(peers), value, axis=0, mask=inside & (_before_me(peers) == 0))
    total = local.load(bins)
    gl.atomic_add(counts + gl.arange(0, BINS, bins), total, mask=total != 0, sem="relaxed")


@gluon.jit
def _plus(a, b):
    return a + b


@gluon.jit
def look_back(x, y, state, ticket, n, BLOCK: gl.constexpr):
    """An inclusive scan in one pass: programs publish their sums, and read those before them until one has a prefix."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    window: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    tile = gl.atomic_add(ticket, 1, sem="relaxed")
    offsets = tile * BLOCK + gl.arange(0, BLOCK, layout)
    value = gl.load(x + offsets, mask=offsets < n, other=0)
    scanned = gl.associative_scan(value, 0, _plus)
    total = gl.sum(value, 0)
    word = total.to(gl.uint32).to(gl.int64)
    flag = gl.where(tile == 0, 2, 1).to(gl.int64)
    gl.atomic_store(state + tile, (flag << 32) | word, sem="release", scope="gpu")
    before = 0
    look = tile - 1
    done = tile == 0
    while not done:
        i = look - gl.arange(0, 32, window)
        words = gl.atomic_load(state + i, mask=i >= 0, sem="acquire", scope="gpu")
        words = gl.where(i >= 0, words, 2 << 32)
        flags = (words >> 32).to(gl.int32)
        lane = gl.arange(0, 32, window)
        prefix = gl.min(gl.where(flags == 2, lane, 32), 0)
        missing = gl.min(gl.where(flags == 0, lane, 32), 0)
        if missing > prefix:
            before += gl.sum(gl.where(lane <= prefix, words.to(gl.int32), 0), 0)
            done = True
        else:
            if missing == 32:
                before += gl.sum(words.to(gl.int32), 0)
                look -= 32
    full = (gl.to_tensor(2).to(gl.int64) << 32) | (total + before).to(gl.uint32).to(gl.int64)
    gl.atomic_store(state + tile, full, sem="release", scope="gpu")
    gl.store(y + offsets, scanned + before, mask=offsets < n)


@gluon.jit
def chained_scan(x, y, flags, sums, n, BLOCK: gl.constexpr):
    """An inclusive scan: each program waits for the sum of the one before it, published behind a flag."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    tile = gl.program_id(0)
    offsets = tile * BLOCK + gl.arange(0, BLOCK, layout)
    value = gl.load(x + offsets, mask=offsets < n, other=0)
    scanned = gl.associative_scan(value, 0, _plus)
    total = gl.sum(value, 0)
    before = 0
    if tile > 0:
        gl.atomic_poll(flags + tile - 1, 1, sem="acquire", scope="gpu")
        before = gl.load(sums + tile - 1, volatile=True)
    gl.store(sums + tile, before + total)
    gl.atomic_store(flags + tile, 1, sem="release", scope="gpu")
    gl.store(y + offsets, scanned + before, mask=offsets < n)


@gluon.jit
def sum_by_last_program(x, parts, counter, y, n, BLOCK: gl.constexpr, PROGRAMS: gl.constexpr):
    """Each program leaves a partial sum; the one that counts last adds them all."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    all_parts: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout)
    total = gl.sum(gl.load(x + offsets, mask=offsets < n, other=0), 0)
    gl.store(parts + gl.program_id(0), total)
    arrived = gl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    if arrived == gl.num_programs(0) - 1:
        i = gl.arange(0, PROGRAMS, all_parts)
        gl.store(y, gl.sum(gl.load(parts + i, mask=i < gl.num_programs(0), other=0, volatile=True), 0))


@gluon.jit
def _lowest_bit(x):
    return gl.inline_asm("{ .reg .b32 t; brev.b32 t, $1; clz.b32 $0, t; }", "=r,r", [x], gl.int32, is_pure=True)


@gluon.jit
def _bits(x):
    return gl.inline_asm("popc.b32 $0, $1;", "=r,r", [x], gl.int32, is_pure=True)


@gluon.jit
def _gather(features, weights, a_tiles, b_tiles, slot, index, offset, k, n, CI: gl.constexpr, CO, live):
    async_copy.async_load(a_tiles.index(slot), features + index[:, None] * CI + k[0][None, :],
                          mask=(index >= 0)[:, None] & live)
    at = weights + (offset * CI + k[1])[:, None] * CO + n[None, :]
    async_copy.async_load(b_tiles.index(slot), at, mask=(n < CO)[None, :] & live)
    async_copy.commit_group()


@gluon.jit
def sparse_convolution(
    features, weights, neighbours, offsets, out, R, CO,
    BM: gl.constexpr, BN: gl.constexpr, CI: gl.constexpr, STAGES: gl.constexpr,
):
    """out[r] = sum over offsets o of features[neighbours[o, r]] weights[o]; `offsets` has the bits of those a tile
    needs. One chunk of channels per offset."""
    kind: gl.constexpr = features.dtype.element_ty
    MMA: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [4, 1], [16, 8])
    A: gl.constexpr = gl.BlockedLayout([1, 8], [32 // (CI // 8), CI // 8], [4, 1], [1, 0])
    B: gl.constexpr = gl.BlockedLayout([1, 8], [32 // (BN // 8), BN // 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.SwizzledSharedLayout(8, 1, 4, [1, 0])
    tile = gl.program_id(0)
    rows = tile * BM + gl.arange(0, BM, gl.SliceLayout(1, A))
    k = (gl.arange(0, CI, gl.SliceLayout(0, A)), gl.arange(0, CI, gl.SliceLayout(1, B)))
    n = gl.program_id(1) * BN + gl.arange(0, BN, gl.SliceLayout(0, B))
    a_tiles = gl.allocate_shared_memory(kind, [STAGES, BM, CI], shared)
    b_tiles = gl.allocate_shared_memory(kind, [STAGES, CI, BN], shared)
    todo = gl.load(offsets + tile)
    steps = _bits(todo)
    offset = _lowest_bit(todo)
    index = gl.load(neighbours + offset * R + rows, mask=(rows < R) & (todo != 0), other=-1)
    for s in gl.static_range(STAGES - 1):
        _gather(features, weights, a_tiles, b_tiles, s, index, offset, k, n, CI, CO, s < steps)
        todo = todo & (todo - 1)
        offset = _lowest_bit(todo)
        index = gl.load(neighbours + offset * R + rows, mask=(rows < R) & (todo != 0), other=-1)
    total = gl.zeros([BM, BN], gl.float32, MMA)
    for i in range(steps):
        async_copy.wait_group(STAGES - 2)
        ahead = i + STAGES - 1
        _gather(features, weights, a_tiles, b_tiles, ahead % STAGES, index, offset, k, n, CI, CO, ahead < steps)
        todo = todo & (todo - 1)
        offset = _lowest_bit(todo)
        index = gl.load(neighbours + offset * R + rows, mask=(rows < R) & (todo != 0), other=-1)
        x = a_tiles.index(i % STAGES).load(gl.DotOperandLayout(0, MMA, 2))
        y = b_tiles.index(i % STAGES).load(gl.DotOperandLayout(1, MMA, 2))
        total = mma_v2(x, y, total)
    async_copy.wait_group(0)
    r = tile * BM + gl.arange(0, BM, gl.SliceLayout(1, B))
    result = gl.convert_layout(total.to(kind), B)
    gl.store(out + r[:, None] * CO + n[None, :], result, mask=(r < R)[:, None] & (n < CO)[None, :])
