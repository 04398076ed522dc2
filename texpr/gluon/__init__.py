"""Gluon: tile programs printed as readable Gluon (Triton 3.9) functions.

In:   ``tile.ir.TileProgram`` and the targets it is for.
Out:  ``aot.ir.KernelSource``: the function's text, its helpers, its parameters, and where each line came from.
Keeps: the text means exactly what the tile program says (rounding, NaN, wrapping, floor division included); every
      layout is explicit; equal programs give equal text. Triton itself is never imported.
"""
