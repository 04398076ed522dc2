"""Tile programs: what one program of a kernel does, over tiles with explicit layouts.

In:   ``plan.ir.KernelPlan``. Out:  ``tile.ir.TileProgram``: loops, loads, dots, reductions, shared buffers, copies,
waits; every value has dtype, space and layout. Keeps: expressions are pure and typed; memory effects are statements
in order; a layout change is a visible ``Convert`` node;
      ``verify`` accepts the program after every pass.
"""
