"""Which facts make the accesses of a plan 16 bytes wide: alignment of the pointers, divisibility of the strides.

``access.vector_of`` says how wide an access is proved to be; this module asks the reverse for a whole plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from texpr.lang.ir import Algorithm, Axis, BoundaryMode, Expr, Func, Read, Tensor
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import TRUE, BoolExpr, IntExpr, Max, Min, Sym, aligned, conjunction, eq, free_symbols, terms_of
from texpr.math.integer import product
from texpr.plan.access import VECTOR_BYTES, fastest_axis, flat_offset, memory_of
from texpr.plan.attach import node_exprs, node_loops
from texpr.plan.checks import nodes_of
from texpr.plan.inline import axes_of, plain_read, reads_of
from texpr.plan.ir import Compute, Group, KernelPlan, Prefixes, Reduction, Stage, VariantPlan, Write

_MINOR = 16  # an access of fewer elements than this part of the largest one is not worth a condition on the call


def wide_guard(plan: VariantPlan, algorithm: Algorithm, facts: Facts) -> BoolExpr:
    """A guard under which every large access of ``plan`` that can be 16 bytes wide is. TRUE if ``facts`` allow it
    already, or if there is no such access."""
    names: set[str] = set()
    found: dict[BoolExpr, None] = {}
    for kernel in plan.kernels:
        accesses = list(_accesses(kernel))
        if all(isinstance(a.read.source, Func) and a.read.source.output is None for a in accesses):
            continue  # what only goes from workspace to workspace is small beside what calls bring
        most = max((access.elements for access in accesses), default=0)
        for read, size, fast, elements in accesses:
            needed = wide_facts(read, fast, size, facts.assume(*found))
            counted = needed is not None and any(free_symbols(fact) & algorithm.rooms.keys() for fact in needed)
            if needed is None or counted or elements * _MINOR < most:
                continue
            found.update(dict.fromkeys(needed))
            memory = memory_of(read.source, plan.guard)
            if memory.alignment < min(VECTOR_BYTES, size * memory.dtype.bytes):
                names.add(memory.name)
    ordered = [param.name for param in algorithm.params if param.name in names]
    return conjunction(*found, aligned(*ordered, to=VECTOR_BYTES) if ordered else TRUE)


class _Access(NamedTuple):
    """A read or write of global memory that is contiguous along ``fast``, in a tile of ``size`` along it and so many
    elements in all."""

    read: Read
    size: int
    fast: Axis
    elements: int


def _accesses(kernel: KernelPlan) -> Iterator[_Access]:
    sizes = {t.axis: t.size for t in kernel.tile}
    held: set[Tensor | Func] = set()
    for node in nodes_of(kernel.nodes):
        for loop in node_loops(node):
            sizes[loop.axis] = loop.size
        match node:
            case Reduction(funcs=funcs) | Prefixes(funcs=funcs):
                held.update(funcs)
            case Compute(func=func):
                held.add(func)
            case Group(seen=seen):
                held.update(() if seen is None else (seen[0],))
            case Stage() | Write():
                pass
    wide = [axis for axis, size in sizes.items() if size > 1]
    for node in nodes_of(kernel.nodes):
        reads = [r for e in node_exprs(node) for r in reads_of(e) if r.source not in held]
        if isinstance(node, Write):
            reads.append(plain_read(node.func, node.axes))
        for read in reads:
            fast = fastest_axis(memory_of(read.source, TRUE), read, wide)
            if fast is not None:
                elements = math.prod(sizes.get(axis, 1) for axis in axes_of(read))
                yield _Access(read, sizes[fast], fast, elements)


def wide_facts(read: Read, fast: Axis, size: int, facts: Facts) -> list[BoolExpr] | None:
    """What must divide what for ``read`` to access 16 bytes along ``fast``; None if nothing makes it so."""
    if read.boundary.mode not in (BoundaryMode.NONE, BoundaryMode.FILL):
        return None
    memory = memory_of(read.source, TRUE)
    most = min(VECTOR_BYTES * 8 // memory.dtype.bits, size)
    steps = _steps(flat_offset(memory, read.indices), fast, read.indices)
    if steps is None:
        return None
    needed: list[BoolExpr] = []
    for step in sorted([*steps, fast.extent], key=lambda e: (len(str(e)), str(e))):
        known = divisor(step, facts.assume(*needed))
        if known % most == 0:
            continue
        if not free_symbols(step) or isinstance(step, Min | Max):
            return None
        needed.append(eq(step % most, 0))
    return needed


def _steps(offset: IntExpr, fast: Axis, indices: Sequence[Expr]) -> list[IntExpr] | None:
    """What the terms of an offset are multiples of, the term of ``fast`` left out; None if ``fast`` occurs in any other
    way."""
    moving = {axis.name for index in indices for axis in axes_of(index)}
    found: list[IntExpr] = []
    for monomial, count in terms_of(offset).items():
        fixed = [factor for factor in monomial if not _moves(factor, moving)]
        if any(fast.name in free_symbols(factor) for factor in monomial):
            if monomial != (Sym(fast.name),) or count != 1:
                return None
            continue
        found.append(product(fixed) * count)
    return found


def _moves(factor: IntExpr, moving: set[str]) -> bool:
    symbols = free_symbols(factor)
    return bool(symbols & moving) or any("?" in symbol for symbol in symbols)
