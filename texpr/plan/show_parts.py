"""What ``split_reduction`` makes of a kernel, where its loop nest is printed: names for how many points a part has, and
the turns that programs take."""

from __future__ import annotations

from collections.abc import Sequence

from texpr.math.expr import IntExpr
from texpr.plan.attach import node_loops
from texpr.plan.checks import nodes_of
from texpr.plan.ir import KernelPlan, Turnstile
from texpr.plan.resolve import constant
from texpr.plan.show_text import size_text


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


def turnstile_line(turnstile: Turnstile) -> str:
    """What is handed from program to program; it stands before the nodes that the last one has."""
    size = sum((constant(state.shape[1]) or 0) * state.dtype.bits // 8 for state in turnstile.states)
    names = ", ".join(state.name for state in turnstile.states)
    if turnstile.shared is not None:
        taken = f"{size_text(size)} of {names} to the next program if steps are left, and from the one before"
        return f"in turn along {turnstile.axis.name}: {taken}; whoever has the last step goes on:"
    taken = f"{size_text(size)} of {names} from the part before, and to the part after"
    return f"in turn along {turnstile.axis.name}: {taken}; the last part of a tile goes on:"
