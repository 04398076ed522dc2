"""Names for what ``split_reduction`` computes, where a loop nest is printed: how many points a part has."""

from __future__ import annotations

from collections.abc import Sequence

from texpr.math.expr import IntExpr
from texpr.plan.attach import node_loops
from texpr.plan.checks import nodes_of
from texpr.plan.ir import KernelPlan


def chunks_of(kernel: KernelPlan) -> dict[str, IntExpr]:
    """The points of a part by the name that expressions have for it: ``j.chunk``."""
    parts = {t.axis.name for t in kernel.tile}
    loops = {loop.axis.name: loop.axis.extent for node in nodes_of(kernel.nodes) for loop in node_loops(node)}
    return {f"{name}.chunk": extent for name, extent in loops.items() if f"{name}.part" in parts}


def with_chunk_names(lines: Sequence[str], kernel: KernelPlan) -> list[str]:
    """The lines after the one that says what the names are, with the names in place of the values."""
    chunks = {name: str(extent) for name, extent in chunks_of(kernel).items() if not str(extent).isdigit()}
    named = [f"with {', '.join(f'{name} = {text}' for name, text in chunks.items())}"] if chunks else []
    for line in lines:
        for name, text in chunks.items():
            line = line.replace(f"({text})", name).replace(text, name)
        named.append(line)
    return named
