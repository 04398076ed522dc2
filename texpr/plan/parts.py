"""Parts of reductions that the programs of a kernel combine in turn: which reductions, and how their axis is cut.

``k = k.part * chunk + k`` with whole loop steps in a chunk, for this kernel only: the reduction keeps its name, and
runs over both axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from texpr.dtypes import DType
from texpr.lang.ir import (
    INDEX,
    Algorithm,
    Axis,
    AxisRef,
    Def,
    DimRef,
    Expr,
    Op,
    OpName,
    Ranking,
    Reduce,
)
from texpr.math.bounds import Facts
from texpr.math.expr import ceildiv, ge, maximum
from texpr.math.expr import substitute as with_values
from texpr.math.prove import is_proved
from texpr.plan.cut import Cut
from texpr.plan.errors import (
    LoopAxisInvalid,
    NotLowered,
    SplitNotAssociative,
    TurnstileInvalid,
    UnknownFunc,
    near,
)
from texpr.plan.resolve import Context
from texpr.plan.split_group import chunk_of
from texpr.schedule.places import SplitReduction
from texpr.schedule.records import Kernel
from texpr.schedule.words import Combine


def by_turns(record: Kernel) -> SplitReduction | None:
    """The reductions of a kernel whose parts its programs combine in turn."""
    split = record.split_reduction
    return split if split is not None and split.combine is Combine.TURNSTILE else None


def step_of(record: Kernel, names: Sequence[str], over: str) -> int:
    """The step in which the pieces of ``names`` are walked, alone or together."""
    loops = [record.place[name].loop for name in names if name in record.place]
    loops += [group.loop for group in (record.online, record.merge) if group is not None]
    return max((loop.get(over, 1) for loop in loops), default=1)


def member_of(algorithm: Algorithm, name: str, record: SplitReduction) -> tuple[Def, Reduce, Axis]:
    """A reduction that is split, with the axis that is divided. Raises ``UnknownFunc``, ``SplitNotAssociative`` and
    ``LoopAxisInvalid``."""
    at = record.location
    by_name = {func.name: definition for definition in algorithm.defs for func in definition.funcs}
    definition = by_name.get(name)
    if definition is None:
        choices = near(name, by_name)
        raise UnknownFunc(directive="split_reduction", name=name, algorithm=algorithm.name, near=choices, at=at)
    top = definition.top
    if not isinstance(top, Reduce):
        raise SplitNotAssociative(func=name, why="it is not a reduction", at=at)
    if isinstance(top.op, Ranking):
        raise SplitNotAssociative(func=name, why="it ranks its points", at=at)
    axis = next((a for a in top.axes if a.name == record.over), None)
    if axis is None:
        choices, why = ", ".join(a.name for a in top.axes), "it does not reduce over it"
        raise LoopAxisInvalid(func=name, axis=record.over, why=why, choices=choices, at=at)
    return definition, top, axis


def parts_cut(algorithm: Algorithm, kernel: Kernel, record: SplitReduction, facts: Facts) -> Cut:
    """How the axis is divided for a kernel."""
    assert record.parts is not None
    axes = [member_of(algorithm, name, record)[2] for name in record.of]
    axis = axes[0]
    if axis.ragged is not None:
        raise NotLowered(
            what=f"combine: turnstile over {axis.name}, a ragged axis,",
            instead=f"a loop over {axis.name}",
            at=record.location_of("over"),
        )
    parts = with_values(record.parts.value, dict(algorithm.statics))
    if not is_proved(ge(parts, 1), facts):
        parts = maximum(parts, 1)
    step = step_of(kernel, record.of, record.over)
    part = Axis(f"{axis.name}.part", parts)
    inner = Axis(axis.name, ceildiv(ceildiv(axis.extent, parts), step) * step)
    chunk = chunk_of(inner, inner.extent)
    start: Expr = Op(OpName.MUL, (AxisRef(part), chunk), INDEX)
    value: Expr = Op(OpName.ADD, (start, AxisRef(inner)), INDEX)

    def back(indices: Sequence[Expr]) -> tuple[Expr, ...]:
        (index,) = indices
        if index is value:
            return AxisRef(part), AxisRef(inner)
        return Op(OpName.FLOORDIV, (index, chunk), INDEX), Op(OpName.MOD, (index, chunk), INDEX)

    guard = Op(OpName.LT, (value, DimRef(axis.extent)), DType.BOOL)
    return Cut((axis,), (part, inner), (value,), back, guard)


def part_axis(context: Context) -> Axis | None:
    """The axis along which programs take turns, each with a part of a tile."""
    record = by_turns(context.record)
    return None if record is None or record.parts is None else context.axes.get(f"{record.over}.part")


def is_in_turns(context: Context, definition: Def) -> bool:
    """Whether parts of a reduction are combined in turn."""
    record = by_turns(context.record)
    return record is not None and any(func.name in record.of for func in definition.funcs)


def check_in_turns(context: Context, definition: Def) -> None:
    """What is reduced over the axis that is cut is combined in turn as well. Raises ``TurnstileInvalid``."""
    record = by_turns(context.record)
    if record is None or is_in_turns(context, definition):
        return
    why = f"{definition.name} runs over {record.over} as well, and would be left in parts"
    hint = f"of: [{', '.join((*record.of, definition.name))}]"
    raise TurnstileInvalid(func=record.of[0], why=why, hint=hint, at=record.location_of("of"))
