"""``online`` and ``merge`` in the loop tree: members become places like any other, and what was built for them becomes
one ``Group``.

The record says for several reductions at once what ``place`` says for one, so planning starts by writing it out as
places (``with_members``). Each member is then planned as a reduction of its own, and ``gathered`` puts them into one
set of loops, in definition order, between the values placed in that loop, each with how it is carried from step to
step (``plan.online``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from texpr.lang.ir import Def, Expr, Func, Reduce, components, top_exprs
from texpr.plan import checks
from texpr.plan.errors import BadPosition, NoInstruction, NotLowered, NotOnline, UnknownFunc, near
from texpr.plan.inline import inline, reads_of
from texpr.plan.ir import Compute, Group, Node, Reduction
from texpr.plan.online import Member, OnlineGroup, online_group
from texpr.plan.resolve import Context, funcs_read
from texpr.schedule.base import Map
from texpr.schedule.places import Group as GroupRecord
from texpr.schedule.places import Place
from texpr.schedule.records import Kernel
from texpr.schedule.words import LoopOf, RelaxKind, Tile


def groups_of(record: Kernel) -> list[tuple[str, GroupRecord]]:
    """The groups of a kernel with the directives that ask for them."""
    named = (("online", record.online), ("merge", record.merge))
    return [(directive, group) for directive, group in named if group is not None]


def with_members(context: Context) -> Context:
    """The kernel's record with a place for every member of its groups. Raises ``UnknownFunc``, ``BadPosition``,
    ``NotOnline``."""
    places: dict[str, Place] = dict(context.record.place.items())
    taken: dict[str, str] = {}
    for directive, group in groups_of(context.record):
        if not isinstance(group.at, Tile):
            raise NotLowered(what=f"{directive} at {group.at}", instead="at: tile", at=group.location_of("at"))
        for name in group.funcs:
            at = group.location_of("funcs")
            known = {func.name: definition for definition in context.needed for func in definition.funcs}
            if name not in known:
                owner = context.algorithm.name
                raise UnknownFunc(directive=directive, name=name, algorithm=owner, near=near(name, known), at=at)
            if name in taken:
                raise _placed_twice(name, taken[name], directive, group)
            taken[name] = directive
            if not isinstance(known[name].top, Reduce):
                why = "it is not a reduction"
                raise BadPosition(position=f"{directive}: {group.at}", name=name, why=why, choices="a reduction", at=at)
            own = places.get(name, Place())
            if own.unroll:
                raise NotLowered(what=f"unroll of {name}", instead="no unroll", at=own.location_of("unroll"))
            if own.at is not None or own.loop or own.trim or own.skip:
                raise _placed_twice(name, "place", directive, group)
            location = own.location or group.location
            places[name] = dataclasses.replace(
                own, at=group.at, loop=group.loop, trim=group.trim, skip=group.skip, location=location
            )
    if not taken:
        return context
    record = dataclasses.replace(context.record, place=Map(tuple(places.items())))
    return dataclasses.replace(context, record=record)


def _placed_twice(name: str, first: str, directive: str, group: GroupRecord) -> BadPosition:
    why = f"{first} places it as well"
    return BadPosition(
        position=f"{directive}: {group.at}",
        name=name,
        why=why,
        choices=f"{first} alone, or {directive} alone",
        at=group.location_of("funcs"),
    )


def dependents(context: Context, members: Sequence[Func]) -> frozenset[Func]:
    """The funcs of the kernel that read members, directly or not, members excluded."""
    found: set[Func] = set(members)
    for definition in context.needed:
        if any(func in found for func in funcs_read(definition)):
            found.update(definition.funcs)
    return frozenset(found - set(members))


@dataclasses.dataclass(frozen=True, slots=True)
class GroupPlan:
    """A group while its kernel is planned: ``inside`` are the funcs computed in its loop, ``inlined`` those that
    depend on members and are kept elsewhere, so that a running value of theirs has to be worked out again."""

    directive: str
    record: GroupRecord
    definitions: tuple[Def, ...]
    online: OnlineGroup
    inside: frozenset[Func]
    inlined: frozenset[Func]

    @property
    def counters(self) -> frozenset[Func]:
        """The func that stands for the number of points seen, if it is read."""
        return frozenset() if self.online.seen is None else frozenset((self.online.seen[0],))

    def owns(self, definition: Def) -> bool:
        """Whether a definition is computed in every step of the group's loop."""
        return any(func in self.inside for func in definition.funcs)


def plan_groups(context: Context, held: frozenset[Func]) -> list[GroupPlan]:
    """The groups of the kernel, analysed. Raises ``NotOnline``."""
    found = []
    for directive, record in groups_of(context.record):
        definitions = tuple(d for d in context.needed if any(f.name in record.funcs for f in d.funcs))
        members = [func for definition in definitions for func in definition.funcs]
        online = online_group(
            definitions, _bodies(context), lambda name: _may_round(context, name), directive, record.location
        )
        rescaled = next((m for m in online.members if m.running), None)
        if directive == "merge" and rescaled is not None:
            reader = next(m for m in online.members if m.between or m is not rescaled)
            raise NotOnline(
                directive=directive,
                func=reader.func.name,
                others=rescaled.func.name,
                summand="a reduction that reads it",
                factor=rescaled.func.name,
                why="is read while it runs, which merge does not carry over",
                at=record.location,
                hint=f"online: {{funcs: [{', '.join(record.funcs)}], ...}}",
            )
        inside = {
            func
            for definition in context.needed
            for func in definition.funcs
            if func in members or _placed_in(context, func, record)
        }
        outside = dependents(context, members) - inside
        found.append(GroupPlan(directive, record, definitions, online, frozenset(inside), outside & held))
    return found


def _placed_in(context: Context, func: Func, record: GroupRecord) -> bool:
    """Whether a func is placed in the group's loop, or in a loop inside of it."""
    name = func.name
    for _ in context.record.place:
        place = context.record.place.get(name)
        if place is None or not isinstance(place.at, LoopOf):
            return False
        name = place.at.func
        if name in record.funcs:
            return True
    return False


def _bodies(context: Context) -> Callable[[Func], tuple[Def, Expr]]:
    def body_of(func: Func) -> tuple[Def, Expr]:
        definition = context.algorithm.definition(func)
        component = definition.funcs.index(func)
        top = definition.top
        return definition, components(top)[0 if isinstance(top, Reduce) else component]

    return body_of


def _may_round(context: Context, name: str) -> bool:
    """Whether the schedule relaxes the rounding of a func, or of the one whose part over a split axis this is."""
    name = name.removesuffix(".part")
    return any(relax.kind is RelaxKind.ROUNDING and relax.name == name for relax in context.variant.relax)


def gathered(
    context: Context,
    plan: GroupPlan,
    nodes: Sequence[Node],
    keep: Callable[[Func], bool],
    dots: Callable[[Reduction], Reduction],
) -> Group:
    """The group of ``nodes``, in definition order: the members' reductions, and what is placed in their loop. ``dots``
    decides anew on the matrix unit of a reduction whose summand has changed."""
    members = {member.func: member for member in plan.online.members}
    body: list[Node] = []
    loops = None
    live: tuple[Expr, ...] = ()
    for node in nodes:
        match node:
            case Reduction(funcs=(func, *_)) if func in members:
                loops, live = loops or node.loops, live or node.live
                carried = _inlined(members[func], keep, context)
                changed = any(a is not b for a, b in zip(members[func].exprs, _summands(members[func]), strict=False))
                exprs = carried.exprs if changed or len(carried.exprs) > 1 else node.exprs
                node = dataclasses.replace(node, loops=(), body=(), exprs=exprs, carried=carried, live=())
                node = _with_unit(dots(node) if changed else node, context)
                body.append(_without_fresh_start(node, plan, context))
            case Compute(expr=expr):
                body.append(dataclasses.replace(node, expr=plan.online.running(expr)))
            case _:
                body.append(node)
    assert loops is not None
    if plan.online.seen is not None and len(loops) > 1:
        what = f"{plan.directive} of a mean in a group with several loops"
        raise NotLowered(what=what, instead="one loop", at=plan.record.location_of("loop"))
    place = plan.record.location
    return Group(
        tuple(func for definition in plan.definitions for func in definition.funcs),
        plan.online.axes,
        loops,
        tuple(body),
        plan.online.old,
        plan.online.seen,
        plan.directive,
        "" if place is None else f"{Path(place.file).name}:{place.line}",
        live,
        lagging=tuple(func for func in members if func.name in plan.record.overlap),
    )


def _summands(member: Member) -> tuple[Expr, ...]:
    assert isinstance(member.definition.top, Reduce)
    return member.definition.top.exprs


def _inlined(member: Member, keep: Callable[[Func], bool], context: Context) -> Member:
    """A member over what is held in the kernel only."""

    def inlined(expr: Expr | None) -> Expr | None:
        return None if expr is None else inline(expr, keep, context.body_of)

    return dataclasses.replace(
        member,
        exprs=tuple(inline(expr, keep, context.body_of) for expr in member.exprs),
        factor_of=inlined(member.factor_of),
        shift_of=inlined(member.shift_of),
        reset=inlined(member.reset),
        result=inlined(member.result),
    )


def _with_unit(node: Reduction, context: Context) -> Reduction:
    """Helper sums and running values are not kept in a matrix unit's accumulators."""
    member = node.carried
    if node.dot is None or member is None or (len(member.parts) == 1 and not member.running and not node.dot.where):
        return node
    name = node.funcs[0].name
    place: Mapping[str, Place] = context.record.place
    if place[name].mma is not None:
        why = "a later member reads it while it runs" if member.running else "it needs helper sums"
        why = "its where= mixes rows and columns" if node.dot.where else why
        raise NoInstruction(func=name, why=why, hint="remove mma", at=place[name].location_of("mma"))
    return dataclasses.replace(node, dot=None)


def _without_fresh_start(node: Reduction, plan: GroupPlan, context: Context) -> Reduction:
    """A matrix accumulator need not be cleared when the first maximum is found if nothing it saw before was infinite:
    it is zero then, and stays so when it is multiplied."""
    if node.dot is None or node.carried is None or node.carried.reset is None:
        return node
    read = {r.source for r in reads_of(node.carried.reset)}
    summands = [e for d in plan.definitions if d.funcs[0] in read for e in _summands_of(d)]
    if not all(_reads_finite(e, context) for e in summands):
        return node
    return dataclasses.replace(node, carried=dataclasses.replace(node.carried, reset=None))


def _summands_of(definition: Def) -> tuple[Expr, ...]:
    assert isinstance(definition.top, Reduce)
    return definition.top.exprs


def _reads_finite(expr: Expr, context: Context) -> bool:
    """Whether every tensor that a value comes from is assumed to be finite."""
    for read in reads_of(expr):
        if isinstance(read.source, Func):
            definition = context.algorithm.definition(read.source)
            if not all(_reads_finite(e, context) for e in top_exprs(definition.top)):
                return False
        elif not checks.is_finite(context, read):
            return False
    return True


def in_order(plan: Sequence[GroupPlan], definitions: Sequence[Def], context: Context) -> list[Def | GroupPlan]:
    """What is computed at the tile, in order: a group where its last member is defined, and what reads its members
    after it."""
    result: list[Def | GroupPlan] = list(definitions)
    for group in plan:
        last = max((n for n, d in enumerate(result) if d in group.definitions), default=None)
        if last is None:
            continue
        late = dependents(context, [f for d in group.definitions for f in d.funcs])
        before = [d for d in result[: last + 1] if not _reads(d, late) and d not in group.definitions]
        after = [d for d in result[: last + 1] if _reads(d, late)]
        result = [*before, group, *after, *result[last + 1 :]]
    return result


def _reads(item: Def | GroupPlan, late: frozenset[Func]) -> bool:
    return isinstance(item, Def) and any(func in late for func in item.funcs)
