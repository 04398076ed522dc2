"""Written funcs that share a store loop: the leader has the loop, the others are stored inside of it."""

from __future__ import annotations

from texpr.lang.ir import Func
from texpr.plan.errors import WithNotWritten
from texpr.plan.resolve import Context
from texpr.plan.scans import Carried


def leaders_of(context: Context, carried: Carried | None) -> dict[Func, Func]:
    """``with``: the written funcs that are stored inside another one's loops. So are all that have the axis along
    which scans are carried."""
    by_name = {func.name: func for func in context.writes}
    leaders: dict[Func, Func] = {}
    if carried is not None:
        others = [f for f in context.writes if f is not carried.leader]
        leaders = {f: carried.leader for f in others if carried.axis in context.algorithm.definition(f).axes}
    for func in context.writes:
        place = context.record.place.get(func.name)
        if place is None or place.with_ is None:
            continue
        leader = by_name.get(place.with_)
        other = context.record.place.get(place.with_)
        if leader is None or leader is func or (other is not None and other.with_ is not None):
            raise WithNotWritten(
                func=func.name,
                leader=place.with_,
                choices=", ".join(n for n in by_name if n != func.name) or "none",
                at=place.location_of("with"),
            )
        leaders[func] = leader
    return leaders
