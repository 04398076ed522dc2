"""Runs a pack: knows bundles, cases and devices, and nothing of the compiler. Copied into every pack.

In:   a pack's folder and a device (a GPU through the CUDA driver, or the emulator). Out:  a journal of results, one
JSON line per case. Keeps: only ``texpr.errors``, ``dtypes``, ``targets``, ``runtime``, ``emulator`` and
``lang.arrays`` are imported, beside NumPy; torch is used where it is there; a case that is done is not run again.
"""
