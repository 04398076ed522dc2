"""Gluon kernels the emulator's tests compile: plain, small, each a pattern that real kernels are made of.

Written by hand; nothing here comes from the compiler under test.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy, mma_v2


@gluon.jit
def copy(x, y, n, BLOCK: gl.constexpr):
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout)
    gl.store(y + offsets, gl.load(x + offsets, mask=offsets < n, other=0.0), mask=offsets < n)


@gluon.jit
def softmax(x, y, columns, stride, BLOCK: gl.constexpr):
    """One row per program; the reduction over warps goes through shared memory."""
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    row = gl.program_id(0).to(gl.int64)
    column = gl.arange(0, BLOCK, layout)
    inside = column < columns
    value = gl.load(x + row * stride + column, mask=inside, other=-float("inf"))
    value = gl.exp(value - gl.max(value, 0))
    gl.store(y + row * stride + column, value / gl.sum(value, 0), mask=inside)


@gluon.jit
def transpose(x, y, rows, columns, TILE: gl.constexpr):
    """Through shared memory with an explicit layout change."""
    read: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    shared: gl.constexpr = gl.SwizzledSharedLayout(4, 1, 8, [1, 0])
    r = gl.program_id(0) * TILE
    c = gl.program_id(1) * TILE
    i = gl.arange(0, TILE, gl.SliceLayout(1, read))
    j = gl.arange(0, TILE, gl.SliceLayout(0, read))
    inside = ((r + i)[:, None] < rows) & ((c + j)[None, :] < columns)
    tile = gl.load(x + (r + i)[:, None] * columns + (c + j)[None, :], mask=inside, other=0.0)
    buffer = gl.allocate_shared_memory(x.dtype.element_ty, [TILE, TILE], shared)
    buffer.store(tile)
    turned = buffer.permute((1, 0)).load(read)
    outside = ((c + i)[:, None] < columns) & ((r + j)[None, :] < rows)
    gl.store(y + (c + i)[:, None] * rows + (r + j)[None, :], turned, mask=outside)


@gluon.jit
def histogram(x, counts, n, BLOCK: gl.constexpr, BINS: gl.constexpr):
    """Shared-memory atomics, then one global atomic per bin."""
    layout: gl.constexpr = gl.BlockedLayout([4], [32], [4], [0])
    bins: gl.constexpr = gl.BlockedLayout([1], [32], [4], [0])
    offsets = gl.program_id(0) * BLOCK + gl.arange(0, BLOCK, layout)
    inside = offsets < n
    value = gl.load(x + offsets, mask=inside, other=0)
    local = gl.allocate_shared_memory(gl.int32, [BINS], gl.SwizzledSharedLayout(1, 1, 1, [0]))
    local.store(gl.zeros([BINS], gl.int32, bins))
    local.atomic_scatter_add(gl.full([BLOCK], 1, gl.int32, layout), value, axis=0, mask=inside)
    gl.atomic_add(counts + gl.arange(0, BINS, bins), local.load(bins))


@gluon.jit
def gemm(
    a, b, c, M, N, K,
    BM: gl.constexpr, BN: gl.constexpr, BK: gl.constexpr, STAGES: gl.constexpr,
    MMA: gl.constexpr, KWIDTH: gl.constexpr, VECTOR: gl.constexpr,
):
    """C = A B with a pipeline of asynchronous copies; row-major, N and K multiples of the copies' width."""
    kind: gl.constexpr = a.dtype.element_ty
    copies: gl.constexpr = gl.BlockedLayout([1, VECTOR], [8, 4], [4, 1], [1, 0])
    output: gl.constexpr = gl.BlockedLayout([1, 4], [4, 8], [4, 1], [1, 0])
    a_shared: gl.constexpr = gl.SwizzledSharedLayout(VECTOR, 2, 4, [1, 0])
    b_shared: gl.constexpr = gl.SwizzledSharedLayout(VECTOR, 1, 8, [1, 0])
    row = gl.program_id(0) * BM
    column = gl.program_id(1) * BN
    i = row + gl.arange(0, BM, gl.SliceLayout(1, copies))
    ka = gl.arange(0, BK, gl.SliceLayout(0, copies))
    kb = gl.arange(0, BK, gl.SliceLayout(1, copies))
    j = column + gl.arange(0, BN, gl.SliceLayout(0, copies))
    a_at = a + i[:, None] * K + ka[None, :]
    b_at = b + kb[:, None] * N + j[None, :]
    a_tiles = gl.allocate_shared_memory(kind, [STAGES, BM, BK], a_shared)
    b_tiles = gl.allocate_shared_memory(kind, [STAGES, BK, BN], b_shared)
    steps = gl.cdiv(K, BK)
    for s in gl.static_range(STAGES - 1):
        async_copy.async_load(a_tiles.index(s), a_at + s * BK, mask=(i[:, None] < M) & (ka[None, :] < K - s * BK))
        async_copy.async_load(b_tiles.index(s), b_at + s * BK * N, mask=(j[None, :] < N) & (kb[:, None] < K - s * BK))
        async_copy.commit_group()
    total = gl.zeros([BM, BN], c.dtype.element_ty, MMA)
    for step in range(steps):
        async_copy.wait_group(STAGES - 2)
        ahead = step + STAGES - 1
        left = K - ahead * BK
        async_copy.async_load(
            a_tiles.index(ahead % STAGES), a_at + ahead * BK, mask=(i[:, None] < M) & (ka[None, :] < left)
        )
        async_copy.async_load(
            b_tiles.index(ahead % STAGES), b_at + ahead * BK * N, mask=(j[None, :] < N) & (kb[:, None] < left)
        )
        async_copy.commit_group()
        x = a_tiles.index(step % STAGES).load(gl.DotOperandLayout(0, MMA, KWIDTH))
        y = b_tiles.index(step % STAGES).load(gl.DotOperandLayout(1, MMA, KWIDTH))
        total = mma_v2(x, y, total)
    async_copy.wait_group(0)
    out = gl.convert_layout(total, output)
    r = row + gl.arange(0, BM, gl.SliceLayout(1, output))
    s = column + gl.arange(0, BN, gl.SliceLayout(0, output))
    gl.store(c + r[:, None] * N + s[None, :], out, mask=(r[:, None] < M) & (s[None, :] < N))


@gluon.jit
def turnstile(x, y, turn, BLOCK: gl.constexpr):
    """Programs add their rows to one row, each after the one before it."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    column = gl.arange(0, BLOCK, layout)
    value = gl.load(x + gl.program_id(0) * BLOCK + column)
    gl.atomic_poll(turn, gl.program_id(0), sem="acquire", scope="gpu")
    gl.store(y + column, gl.load(y + column) + value)
    gl.atomic_store(turn, gl.program_id(0) + 1, sem="release", scope="gpu")


@gluon.jit
def last_program(x, parts, counter, y, BLOCK: gl.constexpr):
    """Programs double their rows; the one that counts last adds them up."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    column = gl.arange(0, BLOCK, layout)
    row = gl.program_id(0)
    gl.store(parts + row * BLOCK + column, 2 * gl.load(x + row * BLOCK + column))
    arrived = gl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
    if arrived == gl.num_programs(0) - 1:
        total = gl.zeros([BLOCK], gl.int32, layout)
        for other in range(gl.num_programs(0)):
            total += gl.load(parts + other * BLOCK + column)
        gl.store(y + column, total)


@gluon.jit
def persistent(x, y, ticket, tiles, BLOCK: gl.constexpr):
    """Programs take tiles as long as there are some."""
    layout: gl.constexpr = gl.BlockedLayout([2], [32], [4], [0])
    column = gl.arange(0, BLOCK, layout)
    tile = gl.atomic_add(ticket, 1, sem="relaxed")
    while tile < tiles:
        gl.store(y + tile * BLOCK + column, gl.load(x + tile * BLOCK + column) + 1)
        tile = gl.atomic_add(ticket, 1, sem="relaxed")
