"""Control-flow graph of a kernel: basic blocks, numbered so that diverged lanes meet again.

The scheduler always runs the lanes of a warp that stand at the lowest-numbered block.  Blocks are numbered in
a weak topological order (Bourdoncle 1993): strongly connected components in topological order, recursively
inside each loop.  So every lane leaves a loop before any lane goes on behind it, and all lanes reach the join
of a branch before it runs, whatever order the assembler text has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Instructions `start` to `end` (exclusive); `successors` are block numbers."""

    start: int
    end: int
    successors: tuple[int, ...]


def order_blocks(ranges: Sequence[tuple[int, int]], successors: Sequence[Sequence[int]]) -> list[BlockRange]:
    """Renumber blocks (given in text order) in weak topological order; block 0 stays first.

    `successors[i]` are text-order block indices.  Blocks that cannot be reached are left out.
    """
    order = _weak_topological_order(len(ranges), successors)
    number = {old: new for new, old in enumerate(order)}
    return [
        BlockRange(ranges[old][0], ranges[old][1], tuple(number[target] for target in successors[old]))
        for old in order
    ]


def _weak_topological_order(count: int, successors: Sequence[Sequence[int]]) -> list[int]:
    """Order what can be reached from block 0; edges back to a loop's head are cut to order the loop's body."""
    order: list[int] = []
    pending = [_components(range(count), (0,), successors)]
    while pending:
        components = pending[-1]
        if not components:
            pending.pop()
            continue
        component = components.pop()
        if len(component) == 1:
            order.append(component[0])
            continue
        head, body = component[0], component[1:]
        order.append(head)
        pending.append(_components(body, successors[head], successors))
    return order


def _components(
    nodes: Iterable[int], entries: Sequence[int], successors: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Strongly connected components (Tarjan, iterative) of a subgraph, last in topological order first.

    Only what can be reached from `entries` inside `nodes`.  The first node of each component is its head: the
    one a depth-first walk reaches first.
    """
    inside = set(nodes)
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in entries:
        if root in index or root not in inside:
            continue
        work = [(root, iter([target for target in successors[root] if target in inside]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter([t for t in successors[target] if t in inside])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    cut = stack.index(node)
                    component = stack[cut:]
                    del stack[cut:]
                    on_stack.difference_update(component)
                    found.append(component)
    return found
