"""Dims that only the device knows, in one kernel: which of them it may read, and that what is made of them is at most
what is made of the room there is."""

from __future__ import annotations

from collections.abc import Iterable

from texpr.lang.ir import Axis, Def, DimRef, Func, Reduce, Tensor, top_exprs, walk
from texpr.math.expr import free_symbols, le
from texpr.math.prove import Proved, prove
from texpr.plan.errors import CountInvalid
from texpr.plan.ir import Count
from texpr.plan.resolve import Context


def device_counts(context: Context) -> tuple[Count, ...]:
    """The counts in memory when the kernel starts. Raises CountInvalid for one that is needed and not there, and for an
    extent that grows when a count shrinks."""
    algorithm = context.algorithm
    if not algorithm.counts:
        return ()
    inputs = {tensor.name: tensor for tensor in algorithm.inputs}
    stored = {func.output.name: func for func in context.stored if func.output is not None}
    used = _symbols(context.needed)
    found: list[Count] = []
    for count in algorithm.counts:
        source: Tensor | Func | None = inputs.get(count.source) or stored.get(count.source)
        if source is not None:
            found.append(Count(count, source))
        elif count.name in used:
            why = f"kernel {context.record.name} needs it, and no earlier one writes {count.source}"
            hint = f"a kernel before it with writes: [{count.source}]"
            raise CountInvalid(dim=count.name, why=why, hint=hint, at=context.record.location)
    for axis in context.axes.values():
        room = algorithm.with_room(axis.extent)
        if room is not axis.extent and not isinstance(prove(le(axis.extent, room), context.facts), Proved):
            names = ", ".join(sorted(free_symbols(axis.extent) & algorithm.rooms.keys()))
            why = f"{axis.extent}, the extent of {axis.name}, may be more than {room}, for which programs are launched"
            hint = f"an axis that is as long for every count, and where={axis.name} < {axis.extent}"
            raise CountInvalid(dim=names, why=why, hint=hint, at=context.record.location)
    return tuple(found)


def _symbols(definitions: Iterable[Def]) -> set[str]:
    """The dims that definitions mention."""
    used: set[str] = set()
    for definition in definitions:
        over: tuple[Axis, ...] = definition.top.axes if isinstance(definition.top, Reduce) else ()
        for axis in (*definition.axes, *over):
            used |= free_symbols(axis.extent)
        for expr in top_exprs(definition.top):
            used |= {s for node in walk(expr) if isinstance(node, DimRef) for s in free_symbols(node.value)}
    return used
