"""Boxes of detections.

    nms_mask   bit l of bits[i, w] = 1 if box j = 32 w + l comes after box i and overlaps it by more than thr

Boxes are (x0, y0, x1, y1), best first. Overlap is intersection over union, compared without dividing.
"""

import texpr as te


@te.algorithm("box: f32[N, 4], thr: f32 -> bits: u32[N, NW]", dims=dict(NW="ceil(N/32)"))
def nms_mask(box, thr, bits):
    """For each box, the later boxes that it suppresses, 32 to a word."""
    i, w, bit = te.axes(i="N", w="NW", bit=32)
    j = w * 32 + bit

    def area(a):
        return (box[a, 2] - box[a, 0]) * (box[a, 3] - box[a, 1])

    def shared(a, b):
        width = te.minimum(box[a, 2], box[b, 2]) - te.maximum(box[a, 0], box[b, 0])
        height = te.minimum(box[a, 3], box[b, 3]) - te.maximum(box[a, 1], box[b, 1])
        return te.relu(width) * te.relu(height)

    both = shared(i, j)
    found = te.where(both > thr * (area(i) + area(j) - both), te.u32(1) << bit, te.u32(0))
    bits[i, w] = te.reduce("or", found, over=bit, where=(j > i) & (j < te.dim("N")))
