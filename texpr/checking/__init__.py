"""Checking: the PTX of a bundle is run on the emulator and compared with the reference.

In:   a bundle, the algorithm it was made from, and how much work may be spent. Out:  a ``report.CheckReport``: per
variant and target the calls made, the worst error in units of its bound, and failures. Keeps: calls are chosen
deterministically from guards, facts and tiles; every one reaches the variant that it is meant for; a result counts as
right only within the bound that the algorithm's own operations give.
"""
