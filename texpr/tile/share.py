"""The part of a tile that a program has where programs share out the steps of its loop."""

from __future__ import annotations

from dataclasses import dataclass

from texpr.math.expr import IntExpr


@dataclass(frozen=True, slots=True)
class Share:
    """Steps ``first`` to ``stop`` of the ``steps`` of a tile, in program number ``program``."""

    program: IntExpr
    first: IntExpr
    stop: IntExpr
    steps: IntExpr
