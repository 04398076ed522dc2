"""Several instances of the role that computes: parts of one tile, or a tile for each in turn.

    compute: {warps: 4, times: 2, split: i, runs: [acc, y]}    each has half of the tile along i
    compute: {warps: 4, times: 2, runs: [acc, y]}              each has every other tile of a persistent program

Instances share nothing but what other roles fetch for them. With ``split``, what has the axis is computed in parts;
what has it not is computed by every instance, and stored by the first. A tile that was fetched once is read by all of
them, each where its part lies. Without it, a tile is fetched for the instance whose turn it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from texpr.errors import Location
from texpr.lang.ir import Axis, Ranking
from texpr.plan.errors import NotLowered, RolesInvalid
from texpr.plan.inline import reads_of
from texpr.plan.ir import AxisTile, Compute, Group, KernelPlan, Node, Prefixes, Reduction, Stage, TileAxis, Write
from texpr.schedule.records import Kernel as KernelRecord
from texpr.schedule.records import Role as RoleRecord
from texpr.schedule.words import Memory

STAGE = "stage."
"""What the names of stages begin with among the nodes that a role runs."""
_SWIZZLED_ROWS = 8  # of a tile in shared memory, after which its swizzle repeats


def computes(role: RoleRecord) -> bool:
    """Whether a role runs anything but stages."""
    return any(not name.startswith(STAGE) for name in role.runs)


def instances(record: KernelRecord) -> int:
    """How many instances of the role that computes there are; 1 without roles."""
    return max((role.times for role in record.roles.values() if computes(role)), default=1)


def computed_sizes(record: KernelRecord, tile: Sequence[TileAxis]) -> dict[Axis, int]:
    """The size of every axis of the tile as one instance of the role that computes has it."""
    parts = {role.split: role.times for role in record.roles.values() if role.split is not None}
    return {t.axis: t.size // parts.get(t.axis.name, 1) for t in tile}


def of_parts(record: KernelRecord, axes: Sequence[Axis]) -> str:
    """What a message about a tile over ``axes`` adds if each instance has only a part of it."""
    names = [axis.name for axis in axes]
    divided = [(name, role) for name, role in record.roles.items() if role.split in names]
    return "".join(f"; each of {role.times} instances of {name} has a part of {role.split}" for name, role in divided)


def check_consumers(record: KernelRecord, tile: Sequence[TileAxis]) -> None:
    """The instances of a role have something to do each. Raises ``RolesInvalid``."""
    for name, role in record.roles.items():
        at = role.location_of("times")
        if not computes(role):
            if role.times > 1 or role.split is not None:
                key = "times" if role.times > 1 else "split"
                why = f"{name} has {key}, and it only fetches"
                raise RolesInvalid(why=why, hint=f"{key} for the role that computes", at=role.location_of(key))
            continue
        if role.split is not None:
            _check_split(name, role, tile)
        elif role.times > 1 and record.persistent is None:
            why = f"the {role.times} instances of {name} take tiles in turn, and a program has one tile"
            axis = next((t.axis.name for t in tile if t.size > 1), "i")
            raise RolesInvalid(why=why, hint=f"split: {axis}, or persistent: true", at=at)


def _check_split(name: str, role: RoleRecord, tile: Sequence[TileAxis]) -> None:
    at = role.location_of("split")
    if role.times == 1:
        why = f"split: {role.split} of {name}, of which there is one instance"
        raise RolesInvalid(why=why, hint="times: 2, or remove split", at=at)
    cut = next((t for t in tile if t.axis.name == role.split), None)
    if cut is None:
        names = ", ".join(t.axis.name for t in tile if t.size > 1)
        raise RolesInvalid(why=f"{role.split} is no axis of the tile", hint=f"split: one of {names}", at=at)
    if cut.size % role.times:
        why = f"{cut.size} points of {role.split} cannot be divided by {role.times} instances of {name}"
        near = next(n for n in range(role.times, 0, -1) if cut.size % n == 0)
        raise RolesInvalid(why=why, hint=f"times: {near}", at=role.location_of("times"))


def check_instances(record: KernelRecord, plan: KernelPlan, nodes: Sequence[Node]) -> None:
    """What several instances do at once does not meet. ``nodes`` are all of the nest. Raises ``RolesInvalid`` and
    ``NotLowered``."""
    name, role = next((name, role) for name, role in record.roles.items() if computes(role))
    if role.times == 1:
        return
    at = role.location_of("times")
    if plan.turnstile is not None:
        raise NotLowered(what=f"several instances of {name} in programs that take turns", instead="times: 1", at=at)
    fetched = {one.removeprefix(STAGE) for other in record.roles.values() if other is not role for one in other.runs}
    for node in nodes:
        _check_shared(name, node, fetched, at)
    if role.split is None:
        _check_turns(name, plan, nodes, at)
        return
    axis = next(t.axis for t in plan.tile if t.axis.name == role.split)
    instead = _instead(role, plan, nodes)
    for node in nodes:
        _check_result(name, role, axis, node, instead)
    for node in nodes:
        _check_cut(role, axis, node, instead)


def _check_shared(name: str, node: Node, fetched: set[str], at: Location | None) -> None:
    """Shared memory that instances would write at once."""
    match node:
        case Stage(memory=Memory.SHARED) if node.name not in fetched:
            why = f"every instance of {name} would fetch {node.name} to the same place"
            raise RolesInvalid(why=why, hint=f"stage.{node.name} in a role that only fetches", at=at)
        case Compute(memory=Memory.SHARED, func=func):
            what = f"in: shared of {func.name} beside several instances of {name}"
            raise NotLowered(what=what, instead="in: registers, or times: 1", at=at)
        case Write(func=func) if func.output is not None and func.output.may_alias is not None:
            what = f"output {func.name}, which may overwrite an input, beside several instances of {name}"
            raise NotLowered(what=what, instead="times: 1", at=at)
        case Reduction(through_tiles=True, funcs=funcs):
            what = f"{funcs[0].name}, which goes on from tile to tile, beside several instances of {name}"
            raise NotLowered(what=what, instead="times: 1", at=at)
        case _:
            pass


def _instead(role: RoleRecord, plan: KernelPlan, nodes: Sequence[Node]) -> str:
    """What to try where an axis cannot be divided."""
    forms = [node.form for node in nodes if isinstance(node, Stage)]
    contiguous = {form.axes[-1][0] for form in forms if isinstance(form, AxisTile)}
    taken = contiguous.union(*(_gathered(node) for node in nodes))
    axes = [t.axis.name for t in plan.tile if t.axis not in taken and t.size > 1 and t.size % role.times == 0]
    return f"split: {axes[0]}" if axes else "times: 1"


def _gathered(node: Node) -> set[Axis]:
    """The axes along which a node needs all points of a tile."""
    match node:
        case Reduction(axes=axes, op=Ranking(into=into)):
            return {*axes, into}
        case Reduction(axes=axes) | Group(axes=axes):
            return set(axes)
        case Prefixes(axis=along):
            return {along}
        case Stage() | Compute() | Write():
            return set()
        case _:
            assert_never(node)


def _check_result(name: str, role: RoleRecord, axis: Axis, node: Node, instead: str) -> None:
    """Whether a node can be computed in parts along an axis of the tile."""
    if isinstance(node, Reduction | Group | Prefixes) and axis in _gathered(node):
        how = "scanned along" if isinstance(node, Prefixes) else "reduced over"
        why = f"{node.funcs[0].name} is {how} {axis.name}, of which each instance of {name} has a part only"
        raise RolesInvalid(why=why, hint=instead, at=role.location_of("split"))


def _check_cut(role: RoleRecord, axis: Axis, node: Node, instead: str) -> None:
    """Whether instances can read their parts of a tile that was fetched for all of them."""
    if not isinstance(node, Stage) or not isinstance(node.form, AxisTile) or node.memory is not Memory.SHARED:
        return
    size, at = dict(node.form.axes).get(axis), role.location_of("split")
    if size is None:
        return
    if node.form.axes[-1][0] is axis:
        why = f"{axis.name} is contiguous in the tile of {node.name}, which is cut between rows only"
        raise RolesInvalid(why=why, hint=instead, at=at)
    if size // role.times % _SWIZZLED_ROWS:
        why = f"the tile of {node.name} is cut between groups of {_SWIZZLED_ROWS} rows, not {size // role.times}"
        raise RolesInvalid(why=why, hint=f"a tile of {role.times * _SWIZZLED_ROWS} along {axis.name}", at=at)


def _check_turns(name: str, plan: KernelPlan, nodes: Sequence[Node], at: Location | None) -> None:
    """Whether an instance can tell, from the tiles of others, how far their stages have gone."""
    if plan.cluster:
        raise NotLowered(what=f"instances of {name} in turn in programs of a cluster", instead="split", at=at)
    if any(t.grouped is not None for t in plan.tile):
        raise NotLowered(what=f"instances of {name} in turn over tiles of groups", instead="split", at=at)
    for node in nodes:
        for loop in node.loops if isinstance(node, Reduction | Group | Write) else ():
            if loop.base is not None or loop.skip is not None or any(reads_of(expr) for expr in loop.tested):
                what = f"instances of {name} in turn, with steps of a loop over {loop.axis.name} that depend on data,"
                raise NotLowered(what=what, instead="split", at=at)
