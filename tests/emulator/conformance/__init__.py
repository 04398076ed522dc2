"""One small kernel per instruction form, its inputs, and what must come out: for the emulator and for hardware.

In:  the instruction table, only for its list of rows (`coverage.py`).
Out: `cases()`, which `test_conformance.py` runs on the emulator, `test_gpu.py` on a GPU through libcuda, and
     `python -m tests.emulator.conformance pack` writes into a folder for a GPU elsewhere.
Invariant: references are computed in Python integers and fractions, or from the PTX manual's formulas; nothing of
     the emulator is used for them.
"""
