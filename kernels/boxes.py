"""Boxes of detections.

    nms_mask   bit l of bits[i, w] = 1 if box j = 32 w + l comes after box i and overlaps it by more than thr
    nms        keep[i] = whether no box j < i with keep[j] overlaps box i by more than thr: greedy suppression

Boxes are (x0, y0, x1, y1), best first. Overlap is intersection over union, compared without dividing.

Whether a box is kept depends on all that are kept before it, which no definition of one point can say: that step of
``nms`` is an ``extern``, a kernel in ``gluon/suppress.py``.
"""

import numpy as np

import texpr as te


def _kept(bits):
    """What greedy suppression keeps, as bits."""
    removed, keep = np.zeros((2, bits.shape[1]), np.uint32)
    for i, row in enumerate(bits):
        word, bit = i // 32, np.uint32(1 << i % 32)
        if not removed[word] & bit:
            keep[word] |= bit
            removed |= row
    return keep


suppress = te.extern("suppress", "bits: u32[N, W] -> keep: u32[W]", reference=_kept, exact=True)


def _overlaps(box, thr, i, w, bit):
    """The bit of box i's word w that says whether it suppresses box 32 w + bit, if there is one."""
    j = w * 32 + bit

    def area(a):
        return (box[a, 2] - box[a, 0]) * (box[a, 3] - box[a, 1])

    def shared(a, b):
        width = te.minimum(box[a, 2], box[b, 2]) - te.maximum(box[a, 0], box[b, 0])
        height = te.minimum(box[a, 3], box[b, 3]) - te.maximum(box[a, 1], box[b, 1])
        return te.relu(width) * te.relu(height)

    both = shared(i, j)
    found = te.where(both > thr * (area(i) + area(j) - both), te.u32(1) << bit, te.u32(0))
    return te.reduce("or", found, over=bit, where=(j > i) & (j < te.dim("N")))


@te.algorithm("box: f32[N, 4], thr: f32 -> bits: u32[N, NW]", dims=dict(NW="ceil(N/32)"))
def nms_mask(box, thr, bits):
    """For each box, the later boxes that it suppresses, 32 to a word."""
    i, w, bit = te.axes(i="N", w="NW", bit=32)
    bits[i, w] = _overlaps(box, thr, i, w, bit)


@te.algorithm("box: f32[N, 4], thr: f32 -> keep: bool[N]", dims=dict(NW="ceil(N/32)"))
def nms(box, thr, keep):
    """Which boxes are left when every box, best first, has removed those that it overlaps."""
    i, w, bit = te.axes(i="N", w="NW", bit=32)
    bits, kept = te.func("bits", "u32"), te.func("kept", "u32")
    bits[i, w] = _overlaps(box, thr, i, w, bit)
    suppress(bits, out=kept)
    keep[i] = ((kept[i // 32] >> (i % 32)) & 1) != 0
