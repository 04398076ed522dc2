"""One pass of a radix sort by hand: least significant digit first, 8 bits at a time, every pass stable.

Onesweep (Adinets and Merrill, arXiv 2206.01784): a program takes the next tile of 4096 keys in turn, ranks its keys by
digit (per warp, by ``match.any`` and a counter per digit in shared memory), learns from the programs before it how many
keys of each digit they have (decoupled look-back over one word per tile and digit: two bits of state, 30 of count),
sorts its tile in shared memory and stores runs of equal digits side by side.

Keys of 32 or 64 bits are handled as words whose unsigned order is theirs.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def add_words(a, b):
    return a + b


@gluon.constexpr_function
def word_type(key):
    """The unsigned integer with the bits of a key."""
    return gl.uint64 if key.primitive_bitwidth == 64 else gl.uint32


@gluon.jit
def word_of(key):
    """The word of a key: the sign flipped; of negative floats all bits."""
    word = key.to(word_type(key.dtype), bitcast=True)
    sign: gl.constexpr = 1 << key.dtype.primitive_bitwidth - 1
    if key.dtype.is_floating():
        word = gl.where(word >= sign, ~word, word ^ sign)
    elif key.dtype.is_int_signed():
        word = word ^ sign
    return word


@gluon.jit
def key_of(word, dtype: gl.constexpr):
    sign: gl.constexpr = 1 << dtype.primitive_bitwidth - 1
    if dtype.is_floating():
        word = gl.where(word >= sign, word ^ sign, ~word)
    elif dtype.is_int_signed():
        word = word ^ sign
    return word.to(dtype, bitcast=True)


@gluon.jit
def count_digits(keys, counts, n):
    """counts[d, b] += how many keys have b as digit d: counted in shared memory, added once per program."""
    DIGITS: gl.constexpr = keys.dtype.element_ty.primitive_bitwidth // 8
    TILE: gl.constexpr = gl.BlockedLayout([4], [32], [8], [0])
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    bins = gl.allocate_shared_memory(gl.uint32, [256 * DIGITS], FLAT)
    bins.store(gl.full([256 * DIGITS], 0, gl.uint32, TILE))
    ones = gl.full([4096], 1, gl.uint32, TILE)
    for start in range(gl.program_id(0) * 4096, n, gl.num_programs(0) * 4096):
        at = start + gl.arange(0, 4096, TILE)
        word = word_of(gl.load(keys + at, mask=at < n, other=0))
        for digit in gl.static_range(DIGITS):
            value = ((word >> (8 * digit)) & 255).to(gl.int32) + 256 * digit
            bins.atomic_scatter_add(ones, value, 0, mask=at < n)
    total = bins.load(TILE)
    gl.atomic_add(counts + gl.arange(0, 256 * DIGITS, TILE), total, mask=total != 0, sem="relaxed")


@gluon.constexpr_function
def ranking(outs, ins):
    """Per key: how many keys of its digit the warp has before it, in order; the counter of the warp and digit grows."""
    (ranks,), (digits, counters) = outs, ins
    text = [
        "{ .reg .b32 peers, before, mine, all, old, at, base; .reg .pred first;",
        "mov.u32 base, %tid.x; shr.u32 base, base, 5; shl.b32 base, base, 10; add.u32 base, base, " + counters[0] + ";",
        "mov.u32 before, %lanemask_lt;",
    ]
    for rank, digit in zip(ranks, digits, strict=True):
        text += [
            f"match.any.sync.b32 peers, {digit}, 0xffffffff;",
            "and.b32 mine, peers, before; setp.eq.u32 first, mine, 0; popc.b32 mine, mine; popc.b32 all, peers;",
            f"shl.b32 at, {digit}, 2; add.u32 at, at, base;",
            "mov.u32 old, 0;",
            "@first atom.shared.add.u32 old, [at], all;",
            "brev.b32 peers, peers; clz.b32 peers, peers;",
            "shfl.sync.idx.b32 old, old, peers, 0x1f, 0xffffffff;",
            f"add.u32 {rank}, old, mine;",
        ]
    return "\n".join([*text, "}"])


@gluon.jit
def sort_by_digit(
    keys, values, counts, sorted_keys, sorted_values, state, ticket, n, digit: gl.constexpr
):
    """Stable order by one digit. counts: of all keys, as count_digits leaves them; state and ticket are zero."""
    TILE: gl.constexpr = gl.DistributedLinearLayout(
        [[32], [64], [128], [256]], [[1], [2], [4], [8], [16]], [[512], [1024], [2048]], [], [4096]
    )
    ROW: gl.constexpr = gl.BlockedLayout([1], [32], [8], [0])
    COUNTERS: gl.constexpr = gl.BlockedLayout([8, 1], [1, 32], [1, 8], [1, 0])
    DIGITS: gl.constexpr = gl.SliceLayout(0, COUNTERS)
    FLAT: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    ROWS: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    counters = gl.allocate_shared_memory(gl.int32, [8, 256], ROWS)
    shifts = gl.allocate_shared_memory(gl.int32, [256], FLAT)
    words = gl.allocate_shared_memory(word_type(keys.dtype.element_ty), [4096], FLAT)
    carried = gl.allocate_shared_memory(gl.uint32, [4096], FLAT)

    tile = gl.atomic_add(ticket, 1, sem="relaxed").to(gl.int32)
    at = gl.arange(0, 4096, TILE)
    inside = tile * 4096 + at < n
    word = word_of(gl.load(keys + tile * 4096 + at, mask=inside, other=0))
    word = gl.where(inside, word, ~(word - word))  # beyond the end: after all keys
    value = gl.load(values + tile * 4096 + at, mask=inside, other=0)
    own = ((word >> (8 * digit)) & 255).to(gl.int32)

    counters.store(gl.full([8, 256], 0, gl.int32, COUNTERS))
    gl.barrier()  # the assembly is not seen by the pass that inserts barriers
    rank = gl.inline_asm(
        ranking, ("=&r", "r", "r"), [own, counters], gl.distributed_type(gl.int32, [4096], TILE), is_pure=False
    )
    gl.barrier()
    count = counters.load(COUNTERS)
    total = gl.sum(count, 0)
    d = gl.arange(0, 256, DIGITS)
    first = gl.where(tile == 0, 2, 1).to(gl.uint32)
    gl.atomic_store(state + tile * 256 + d, (first << 30) | total.to(gl.uint32), sem="relaxed", scope="gpu")

    row = gl.convert_layout(total, ROW, assert_trivial=True)
    start = gl.convert_layout(gl.associative_scan(row, 0, add_words) - row, DIGITS, assert_trivial=True)
    counters.store(gl.associative_scan(count, 0, add_words) - count + start[None, :])
    everywhere = gl.load(counts + digit * 256 + gl.arange(0, 256, ROW)).to(gl.int32)
    base = gl.convert_layout(
        gl.associative_scan(everywhere, 0, add_words) - everywhere, DIGITS, assert_trivial=True
    )

    before = gl.full([256], 0, gl.int32, DIGITS)
    if tile > 0:
        look = gl.full([256], 0, gl.int32, DIGITS) + (tile - 1)
        wanted = look >= 0
        left = tile
        while left > 0:
            seen = gl.atomic_load(state + look * 256 + d, mask=wanted, sem="relaxed", scope="gpu")
            kind = (seen >> 30).to(gl.int32)
            found = wanted & (kind != 0)
            before += gl.where(found, (seen & 0x3FFFFFFF).to(gl.int32), 0)
            look = gl.where(found & (kind == 1), look - 1, look)
            wanted = wanted & (kind != 2)
            left = gl.max(wanted.to(gl.int32), 0)
        known = (gl.full([256], 2, gl.uint32, DIGITS) << 30) | (before + total).to(gl.uint32)
        gl.atomic_store(state + tile * 256 + d, known, sem="relaxed", scope="gpu")
    shifts.store(base + before - start)

    place = rank + counters.reshape([2048]).gather(at // 512 * 256 + own, 0)
    words.scatter(word, place, 0)
    carried.scatter(value, place, 0)
    i = gl.arange(0, 4096, ROW)
    word = words.load(ROW)
    target = shifts.gather(((word >> (8 * digit)) & 255).to(gl.int32), 0) + i
    gl.store(sorted_keys + target, key_of(word, keys.dtype.element_ty), mask=target < n)
    gl.store(sorted_values + target, carried.load(ROW), mask=target < n)
