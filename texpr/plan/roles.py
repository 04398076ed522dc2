"""Roles: which warps of a program run which nodes of its loop nest.

    roles: {load: {warps: 1, registers: 40, runs: [stage.x, stage.w]}, compute: {warps: 8, runs: [acc, y]}}

One role computes: it has the program's registers, and lays tiles out over its warps. There may be several instances of
it (``consumers``). The others fetch stages into shared memory ahead of it, by the copy engine or by copies of their own
threads, which find the addresses themselves, through rings of slots: a slot is full when its tiles have landed, and
empty again when the computing role has read it. Every role runs the same loops; what they hand over is in shared
memory, since threads of one role do not see registers of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from texpr.errors import Location
from texpr.lang.ir import Axis, Expr
from texpr.plan.attach import computed_by, node_body, node_names
from texpr.plan.boxes import check_engine
from texpr.plan.consumers import STAGE, check_instances, computes
from texpr.plan.errors import NotLowered, RegistersOfRoles, RoleCannotRun, RolesInvalid
from texpr.plan.inline import key_of, reads_of
from texpr.plan.ir import AxisTile, Group, KernelPlan, Node, RolePlan, Stage, Window, Write
from texpr.plan.resolve import Context
from texpr.schedule.records import Kernel as KernelRecord
from texpr.schedule.records import Role as RoleRecord
from texpr.schedule.words import Copy, Memory, Program

WARP_GROUP = 4
"""Registers are moved between groups of four warps: those that only fetch are rounded up to whole groups."""


def compute_warps(record: KernelRecord) -> int | None:
    """The warps of the role that computes, or of the program without roles; None: as the compiler chooses."""
    if not record.roles:
        return record.warps
    return next((role.warps for role in record.roles.values() if computes(role)), None)


def roles_of(context: Context, plan: KernelPlan) -> tuple[RolePlan, ...]:
    """The roles of a kernel, the one that computes first. Raises ``RolesInvalid``, ``RoleCannotRun``,
    ``RegistersOfRoles`` and ``TargetLacks``."""
    record = context.record
    if not record.roles:
        return ()
    at = record.location_of("roles")
    check_engine(context, "roles", "warps", at)
    check_warps_or_roles(record)
    check_nodes_of_roles(record, plan)
    check_one_role_computes(record)
    check_what_is_fetched(record, plan)
    check_where_tiles_are_found(record, plan)
    check_what_computes(plan, at)
    check_instances(record, plan, tuple(_every(plan.nodes)))
    check_registers_of_roles(record, plan, at)
    found = [
        RolePlan(name, role.warps, role.registers, _fetched(role), computes(role), role.times, _split(role, plan))
        for name, role in record.roles.items()
    ]
    return tuple(sorted(found, key=lambda role: not role.default))


def _split(role: RoleRecord, plan: KernelPlan) -> Axis | None:
    return next((t.axis for t in plan.tile if t.axis.name == role.split), None)


def _fetched(role: RoleRecord) -> tuple[str, ...]:
    return tuple(name.removeprefix(STAGE) for name in role.runs if name.startswith(STAGE))


def check_warps_or_roles(record: KernelRecord) -> None:
    """The warps of a kernel are those of its roles."""
    if record.warps is not None:
        why = f"warps: {record.warps} beside roles, which have warps of their own"
        raise RolesInvalid(why=why, hint="remove warps", at=record.location_of("warps"))


def check_nodes_of_roles(record: KernelRecord, plan: KernelPlan) -> None:
    """Every node of the nest is in exactly one role, and roles name nothing else."""
    nodes = list(_named_nodes(plan))
    known = [names[0] for names in nodes]
    given: dict[str, str] = {}
    for name, role in record.roles.items():
        at = role.location_of("runs")
        for node in role.runs:
            own = next((names[0] for names in nodes if node in names), None)
            if own is None:
                raise RolesInvalid(
                    why=f"{name} runs {node}, which is no node of kernel {record.name}",
                    hint=f"one of {', '.join(known)}",
                    at=at,
                )
            if own in given:
                why = f"{node} is in {given[own]} and in {name}" if given[own] != name else f"{name} runs {node} twice"
                raise RolesInvalid(why=why, hint=f"remove it from {name}", at=at)
            given[own] = name
    missing = [name for name in known if name not in given]
    if missing:
        main = next((name for name, role in record.roles.items() if computes(role)), next(iter(record.roles)))
        why = f"{missing[0]} is in no role"
        raise RolesInvalid(why=why, hint=f"add it to {main}", at=record.location_of("roles"))


def _named_nodes(plan: KernelPlan) -> Iterator[tuple[str, ...]]:
    """The names of every node of a nest that a role may run, the first one for messages. Members of a group are part
    of it, and so are their stores."""
    members = {name for node in _every(plan.nodes) if isinstance(node, Group) for name in node_names(node)}

    def visit(nodes: Sequence[Node]) -> Iterator[tuple[str, ...]]:
        for node in nodes:
            if isinstance(node, Stage):
                yield (f"{STAGE}{node.name}",)
                continue
            if isinstance(node, Group):
                names = (node.directive, *node_names(node))
                yield names
                inner = [names_ for names_ in visit(node_body(node)) if names_[0] not in names]
                yield from inner
                continue
            if not (isinstance(node, Write) and members.issuperset(node_names(node))):
                yield node_names(node)
            yield from visit(node_body(node))

    yield from visit(plan.nodes)


def check_one_role_computes(record: KernelRecord) -> None:
    """One role has the nodes that are kept in registers."""
    computing = [name for name, role in record.roles.items() if computes(role)]
    if len(computing) == 1:
        return
    what = f"{' and '.join(computing)} compute" if computing else "no role computes"
    raise RolesInvalid(
        why=f"{what}; one role runs all that is not a stage",
        hint=f"move it to {computing[0]}" if computing else f"add {record.writes[0]} to one",
        at=record.location_of("roles"),
    )


def check_what_is_fetched(record: KernelRecord, plan: KernelPlan) -> None:
    """What roles hand over are tiles in shared memory, one after the other."""
    stages = {node.name: node for node in _every(plan.nodes) if isinstance(node, Stage)}
    for name, role in record.roles.items():
        if computes(role):
            continue
        own = [stages[fetched] for fetched in _fetched(role)]
        for stage in own:
            problem = _not_handed_over(stage, own)
            if problem is not None:
                at = record.stage[stage.name].location_of(problem.word)
                raise RoleCannotRun(role=name, node=f"stage.{stage.name}", why=problem.why, hint=problem.hint, at=at)


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why a role cannot fetch a stage, the word of the stage that says so, and what to try."""

    why: str
    word: str
    hint: str | None


def _not_handed_over(stage: Stage, own: Sequence[Stage]) -> _Problem | None:
    """What is wrong with a stage of a role that fetches ``own``."""
    if isinstance(stage.position, Program):
        return _Problem("it is fetched once per program, by the role that reads it", "at", None)
    if stage.memory is Memory.SHARED:
        windowed = _Problem("its readers share a window, and roles hand over tiles", "at", None)
        return windowed if isinstance(stage.form, Window) else None
    copies = [other for other in own if _finds_points_by(other, stage)]
    if not copies:
        why = "no copy of the role finds its points by it, and other roles do not see its registers"
        return _Problem(why, "in", "in: shared")
    where = next((other for other in copies if other.position != stage.position), None)
    if where is not None:
        why = f"copies of {where.name}, which find their points by it, stand at {where.position}"
        return _Problem(why, "at", f"at: {where.position}")
    return None


def _finds_points_by(copied: Stage, indices: Stage) -> bool:
    """Whether the addresses or guards of a tile that threads copy depend on what another stage holds."""
    if copied.memory is not Memory.SHARED or copied.copy is Copy.TMA:
        return False
    if not isinstance(copied.form, AxisTile) or not isinstance(indices.form, AxisTile):
        return False
    key = key_of(indices.form.read)
    return any(key_of(read) == key for expr in _where_found(copied.form, copied) for read in reads_of(expr))


def _where_found(form: AxisTile, stage: Stage) -> tuple[Expr, ...]:
    return (*form.read.indices, *stage.where)


def check_where_tiles_are_found(record: KernelRecord, plan: KernelPlan) -> None:
    """A role that gathers finds the points itself: what the addresses and guards of its copies depend on is in memory,
    where it loads it."""
    every = list(_every(plan.nodes))
    computing = next(name for name, role in record.roles.items() if computes(role))
    runs = {fetched: name for name, role in record.roles.items() for fetched in _fetched(role)}
    held = {func.name: computing for node in every for func in computed_by(node)}
    for stage in (node for node in every if isinstance(node, Stage) and isinstance(node.form, AxisTile)):
        role = runs[stage.name]
        if role == computing:
            continue
        assert isinstance(stage.form, AxisTile)
        for read in (read for expr in _where_found(stage.form, stage) for read in reads_of(expr)):
            source = read.source.name
            if held.get(source, runs.get(source, role)) == role:
                continue
            if source in held:
                where, hint = f"{computing} has in registers", f"stage.{stage.name} in {computing}"
            else:
                where, hint = f"{runs[source]} has staged", f"no stage of {source}"
            why = f"its points are found by {source}, which {where}; a role that gathers loads its indices itself"
            at = record.roles[role].location_of("runs")
            raise RoleCannotRun(role=role, node=f"stage.{stage.name}", why=why, hint=hint, at=at)


def check_stages_after_a_turn(plan: KernelPlan, at: Location | None) -> None:
    """What only the last program of a tile goes on with is fetched by the role that computes: others know of no turns.
    """
    turn = next(n for n, node in enumerate(plan.body) if plan.passes_on(node))
    late = (node for node in _every(plan.body[turn + 1 :]) if isinstance(node, Stage))
    for stage in late:
        if any(stage.name in _fetched(role) for role in plan.record.roles.values()):
            raise NotLowered(
                what=f"stage.{stage.name} in a role, where only the last program of a tile goes on,",
                instead="no stage of it",
                at=at,
            )


def check_what_computes(plan: KernelPlan, at: Location | None) -> None:
    """What the computing role does for the whole program stays out of roles."""
    if plan.turnstile is not None:
        check_stages_after_a_turn(plan, at)
        several = next((role for role in plan.record.roles.values() if role.times > 1), None)
        if several is not None:
            what = "times in a kernel whose programs wait for each other"
            raise NotLowered(what=what, instead="times: 1", at=several.location_of("times"))
    elif plan.tickets is not None:
        raise NotLowered(what="roles in a kernel whose programs wait for each other", instead="warps", at=at)
    if any(isinstance(node, Write) and node.update is not None for node in _every(plan.nodes)):
        raise NotLowered(what="roles in a kernel with atomic updates", instead="warps", at=at)


def check_registers_of_roles(record: KernelRecord, plan: KernelPlan, at: Location | None) -> None:
    """The registers of all roles, on whole groups of warps, are no more than there are; given for all roles or none."""
    roles = record.roles
    computing = sum(role.warps * role.times for role in roles.values() if computes(role))
    fetching = -(-sum(role.warps for role in roles.values() if not computes(role)) // WARP_GROUP) * WARP_GROUP
    threads = 32 * (computing + fetching)
    if threads > plan.target.max_threads:
        why = f"they have {computing} + {fetching} warps (whole groups of {WARP_GROUP}), {threads} threads"
        raise RolesInvalid(why=why, hint=f"at most {plan.target.max_threads} threads", at=at)
    main = next(role.warps for role in roles.values() if computes(role))
    if main % WARP_GROUP:
        why = f"roles begin at groups of {WARP_GROUP} warps, and the role that computes has {main}"
        raise RolesInvalid(why=why, hint=f"warps: {WARP_GROUP}", at=at)
    for name, role in roles.items():
        if role.registers is None and any(other.registers is not None for other in roles.values()):
            raise RolesInvalid(why=f"{name} has no registers, others have", hint="registers for all or none", at=at)
        if role.registers is not None and role.registers % 8:
            why = f"{name} has {role.registers} registers, no multiple of 8"
            near = f"registers: {role.registers // 8 * 8}"
            raise RolesInvalid(why=why, hint=near, at=role.location_of("registers"))
    if any(role.registers is None for role in roles.values()):
        return
    parts = registers_of_roles(record)
    total = sum(32 * warps * registers for _, warps, registers in parts)
    total = -(-total // threads) * threads  # all threads begin with the same number
    if total > plan.target.registers_per_sm:
        terms = " + ".join(f"{warps} warps x 32 x {registers} ({name})" for name, warps, registers in parts)
        raise RegistersOfRoles(
            terms=terms, total=total, target=plan.target, limit=plan.target.registers_per_sm, at=at
        )


def registers_of_roles(record: KernelRecord) -> list[tuple[str, int, int]]:
    """Per role that computes, and for those that fetch together: name, warps in whole groups, registers of a thread.
    All instances of a role count."""
    main = [(name, role) for name, role in record.roles.items() if computes(role)]
    own = [(name, role.warps * role.times, role.registers or 0) for name, role in main]
    fetching = {name: role for name, role in record.roles.items() if not computes(role)}
    if not fetching:
        return own
    groups = -(-sum(role.warps for role in fetching.values()) // WARP_GROUP)
    most = max(role.registers or 0 for role in fetching.values())
    return [*own, (", ".join(fetching), groups * WARP_GROUP, most)]


def _every(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _every(node_body(node))
