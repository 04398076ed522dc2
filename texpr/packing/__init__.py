"""Packs: one folder that checks and times kernels on a GPU elsewhere, where there is only Python and NumPy.

In:   algorithms with their schedules, and the targets asked for. Out:  a folder with bundles, cases, expected outputs
and a runner (``run.py``) that brings the few modules of TExpr it needs. Keeps: inputs are never stored but made again
from a counter-based generator, so both sides have the same bits; the runner (``texpr.packing.runner``) imports neither
the compiler nor Triton; everything that it compares with was computed here.
"""
