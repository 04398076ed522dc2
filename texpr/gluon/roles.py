"""Roles of a program: a Gluon function for each, and the call that starts them all."""

from __future__ import annotations

import re
from collections.abc import Callable

from texpr.gluon.function import INDENT, WIDTH, Block, Function, Line
from texpr.gluon.names import Identifiers
from texpr.gluon.text import wrapped
from texpr.tile.ir import Role, Specialise, Statement, walk
from texpr.tile.protocol import Advance
from texpr.tile.uses import assigned_names

WARP_GROUP = 4
_NAME = re.compile(r"[A-Za-z_]\w*")


def specialise(f: Function, item: Specialise, statement: Callable[[Function, Statement], None]) -> None:
    """Append the start of the roles; their functions go before the function itself."""
    parts = []
    for role in item.roles:
        name = f"{f.name}__{role.name}"
        arguments = _role_function(f, name, role, statement)
        listed = ", ".join(arguments) + ("," if len(arguments) == 1 else "")
        parts.append(f"({name}, ({listed}))")
    workers = item.roles[1:]
    code = f"gl.warp_specialize([{', '.join(parts)}], {[role.warps for role in workers]}"
    registers = [role.registers for role in workers if role.registers is not None]
    f.origin = None
    f.blank()
    f.emit(f"{code}, {registers})" if registers else f"{code})")
    f.blank()


def most_registers(item: Specialise) -> int | None:
    """Registers per thread that the program is compiled for, so that each role can have what it declares: Triton
    gives the default role what the others leave of the program's. These lie in warp groups, the largest role first,
    and a group has what the role in it that wants most does."""
    default, *workers = item.roles
    if default.registers is None or any(role.registers is None for role in workers):
        return None
    ordered = sorted(workers, key=lambda role: -role.warps)
    wanted = [role.registers or 0 for role in ordered for _ in range(role.warps)]
    groups = [wanted[first : first + WARP_GROUP] for first in range(0, len(wanted), WARP_GROUP)]
    taken = default.registers * default.warps + sum(max(group) * WARP_GROUP for group in groups)
    return -(-taken // (default.warps + len(groups) * WARP_GROUP))


def _role_function(f: Function, name: str, role: Role, statement: Callable[[Function, Statement], None]) -> list[str]:
    """Write a role's function; what it must be passed, by the identifiers both functions use."""
    inner = Function(
        name=name,
        warps=role.warps,
        values=f.values,
        dialect=f.dialect,
        preamble=f.preamble,
        identifiers=Identifiers(set(f.identifiers.taken)),
        block=Block(None, frozenset(), 1),
        variables=f.variables,
        buffers=f.buffers,
        shapes=f.shapes,
        pointers=f.pointers,
        maps=f.maps,
        barriers=f.barriers,
        scalars=dict(f.scalars),
        counters=f.counters,
        ranges=dict(f.ranges),
        parameters=set(f.parameters),
        monoids=f.monoids,
    )
    for item in role.body:
        statement(inner, item)
    lines = inner.block.lines or [Line(f"{INDENT}pass", None)]
    constants = [Line(code, None) for text in inner.layout_lines for code in text.split("\n")]
    arguments = _captured(f, role, [*constants, *lines])
    head = wrapped(f"def {name}({', '.join(arguments)}):", WIDTH).split("\n")
    registers = "" if role.registers is None else f" of {role.registers} registers a thread"
    plural = "s" if role.warps > 1 else ""
    f.functions.append([
        *(Line(code, None) for code in ("@gluon.jit", *head)),
        Line(f'{INDENT}"""Role {role.name} of {f.name}: {role.warps} warp{plural}{registers}."""', None),
        *constants,
        Line("", None),
        *lines,
    ])  # fmt: skip
    return arguments


def _captured(f: Function, role: Role, lines: list[Line]) -> list[str]:
    """The identifiers of the program that a role's lines mention."""
    own: set[str] = set()

    def visit(item: Statement) -> None:
        if not isinstance(item, Advance):
            own.update(assigned_names(item))

    walk(role.body, visit)
    given = [
        *f.pointers.values(),
        *(each.identifier for each in f.maps.values()),
        *(f.scalars[name] for name in f.ranges if name not in own),
        *f.buffers.values(),
        *f.barriers.values(),
    ]
    mentioned = {name for line in lines for name in _NAME.findall(line.code.split("  # ")[0])}
    return [identifier for identifier in dict.fromkeys(given) if identifier in mentioned]
