"""``visit``: the points of an axis in the order that an input lists.

Everything a kernel computes at point i of the axis it computes at perm[i] instead, reads and stores alike. Since the
list is a permutation each point is still computed once, by the same operations in the same order, so results are the
same bits. What the kernel keeps along the axis is kept by position, so it is read at its own point only; a reduction or
a scan along the axis would see its points in another order, which is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from texpr.contracts import ContractKind
from texpr.errors import Location
from texpr.lang.ir import (
    INDEX,
    Algorithm,
    Axis,
    AxisRef,
    Cast,
    Def,
    Expr,
    Func,
    Ranking,
    Read,
    Reduce,
    Scan,
    Tensor,
)
from texpr.lang.show import expr_text
from texpr.math.expr import And, Atom, AtomKind, BoolExpr
from texpr.plan.cut import Cut
from texpr.plan.errors import UnknownFunc, VisitInvalid, near
from texpr.plan.resolve import func_named, funcs_read
from texpr.schedule.records import Kernel


def visit(
    algorithm: Algorithm, axis: Axis, name: str, record: Kernel, stored: frozenset[Func], guard: BoolExpr
) -> Cut:
    """The rewriting of a visited axis. Raises ``VisitInvalid``, ``UnknownFunc``."""
    at = record.visit.location_of(axis.name)

    def refuse(why: str, hint: str | None = None) -> VisitInvalid:
        return VisitInvalid(axis=axis.name, name=name, why=why, hint=hint, at=at)

    order = argument(algorithm, name, "visit", record, at)
    limit = order.contract(ContractKind.PERMUTATION)
    if axis.ragged is not None:
        raise refuse(f"tiles of {axis.name} lie within one group")
    if limit is None or limit.limit != axis.extent:
        raise refuse("it is no permutation of the axis", f"{name}: hint i32[{axis.extent}] permutation({axis.extent})")
    if order.optional and not is_present(name, guard):
        raise refuse("it may be absent", f"when: present({name})")
    computed = _computed(algorithm, record, stored)
    for definition in algorithm.defs:
        if definition.funcs[0] in computed and (how := _runs_along(definition, axis)) is not None:
            raise refuse(f"{definition.name} {how} it, and the order of its points would change")
    position = Axis(axis.name, axis.extent)
    read = Read(dataclasses.replace(order, optional=False), (AxisRef(position),))  # the guard says that it is there
    point: Expr = read if read.dtype is INDEX else Cast(read, INDEX)

    def back(indices: Sequence[Expr]) -> tuple[Expr, ...]:
        (index,) = indices
        if index is not point:
            raise refuse(f"a value that the kernel keeps along {axis.name} is read at {expr_text(index)}")
        return (AxisRef(position),)

    return Cut((axis,), (position,), (point,), back, None, computed)


def argument(algorithm: Algorithm, name: str, directive: str, record: Kernel, at: Location | None) -> Tensor:
    """The input that a directive names. Raises ``UnknownFunc``."""
    tensors = {tensor.name: tensor for tensor in algorithm.inputs}
    if name not in tensors:
        at = at or record.location
        raise UnknownFunc(directive=directive, name=name, algorithm=algorithm.name, near=near(name, tensors), at=at)
    return tensors[name]


def is_present(name: str, guard: BoolExpr) -> bool:
    """Whether a variant's guard demands that an optional tensor is given."""
    match guard:
        case Atom(kind=AtomKind.PRESENT, names=names):
            return name in names
        case And(args=args):
            return any(is_present(name, arg) for arg in args)
        case _:
            return False


def _computed(algorithm: Algorithm, record: Kernel, stored: frozenset[Func]) -> frozenset[Func]:
    """The funcs that the kernel computes: what it writes and what that needs, but for what is stored."""
    found: set[Func] = set()
    pending = [func_named(algorithm, name, "writes", record.location) for name in record.writes]
    while pending:
        func = pending.pop()
        if func in found or func in stored:
            continue
        definition = algorithm.definition(func)
        found.update(definition.funcs)
        pending += funcs_read(definition)
    return frozenset(found)


def _runs_along(definition: Def, axis: Axis) -> str | None:
    """How a definition depends on the order of an axis' points."""
    match definition.top:
        case Reduce(axes=axes) if axis in axes:
            return "reduces over"
        case Reduce(op=Ranking(into=into)) if into is axis:
            return "ranks along"
        case Scan(axis=along) if along is axis:
            return "is scanned along"
        case _:
            return None
