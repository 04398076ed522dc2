"""Greedy suppression by hand: what is kept of things in order, where each one that is kept removes later ones.

It is sequential by nature, so one program does it all, 32 things (one word) at a time: which of them are alive is
settled with their own 32 words; then the rows of those alive are or-ed into what is removed of the words after it.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def suppress(bits, keep, removed, n, words):
    """keep: a bit per thing. bits[i]: what i removes, all of it after i. removed: words of zeros."""
    ROW: gl.constexpr = gl.BlockedLayout([1], [32], [gl.num_warps()], [0])
    WIDTH: gl.constexpr = 32 * gl.num_warps()
    lane = gl.arange(0, WIDTH, ROW)
    for word in range(words):
        first = word * 32
        alive = gl.load(removed + word) ^ 0xFFFFFFFF
        for bit in gl.static_range(32):
            inside = first + bit < n
            removes = gl.load(bits + (first + bit).to(gl.int64) * words + word, mask=inside, other=0)
            kept = inside & (((alive >> bit) & 1) != 0)
            left = gl.where(inside, alive, alive & (0xFFFFFFFF ^ (1 << bit)))
            alive = gl.where(kept, alive & (removes ^ 0xFFFFFFFF), left)
        gl.store(keep + word, alive)
        for start in range(word + 1, words, WIDTH):
            at = start + lane
            gone = gl.load(removed + at, mask=at < words, other=0)
            for bit in gl.static_range(32):
                row = bits + (first + bit).to(gl.int64) * words
                gone |= gl.load(row + at, mask=(at < words) & (((alive >> bit) & 1) != 0), other=0)
            gl.store(removed + at, gone, mask=at < words)
        gl.barrier()  # the next word is read by all threads
