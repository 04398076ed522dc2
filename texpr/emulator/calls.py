"""Function calls are inlined: the callee's body replaces the `call`, under names of its own.

PTX passes arguments through `.param` variables, which are per-thread memory.  The callee's formal parameters
become other names for the caller's variables, its `ret` a branch behind the call.  Recursion and calls through
pointers cannot be inlined and are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from texpr.emulator.ptx import (
    Address,
    FunctionText,
    Guard,
    Instruction,
    KernelText,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
    Vector,
)
from texpr.emulator.types import ScalarType

_DEEPEST = 32

Complain = Callable[[str, int], Exception]
"""Makes the error for a message and a PTX line."""


@dataclass(slots=True)
class _Code:
    """Code being put together."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    branch_tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    registers: dict[str, ScalarType] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    calls: int = 0


def inline_calls(kernel: KernelText, functions: Mapping[str, FunctionText], complain: Complain) -> KernelText:
    """The kernel with every call replaced by the body of the function called."""
    if not any(instruction.opcode.startswith("call") for instruction in kernel.instructions):
        return kernel
    code = _Code()
    body = FunctionText(
        kernel.name,
        (),
        kernel.instructions,
        kernel.labels,
        kernel.branch_tables,
        kernel.registers,
        kernel.variables,
        kernel.line,
    )
    _append(code, body, {}, "", None, functions, complain, 0)
    return replace(
        kernel,
        instructions=tuple(code.instructions),
        labels=code.labels,
        branch_tables=code.branch_tables,
        registers=code.registers,
        variables=tuple(code.variables),
    )


def _append(
    code: _Code,
    body: FunctionText,
    aliases: Mapping[str, str],
    suffix: str,
    leave: str | None,
    functions: Mapping[str, FunctionText],
    complain: Complain,
    depth: int,
) -> None:
    """Add a body whose names get `suffix`; `aliases` are its formal parameters, `leave` the label to return to."""
    if depth > _DEEPEST:
        raise complain(f"calls of {body.name!r} are nested too deeply (recursion?)", body.line)
    own = {variable.name for variable in body.variables} | set(body.labels) | set(body.branch_tables)
    names = {name: name + suffix for name in own} | dict(aliases)
    code.registers |= {name + suffix: scalar for name, scalar in body.registers.items()}
    code.variables += [replace(variable, name=variable.name + suffix) for variable in body.variables]
    code.branch_tables |= {
        name + suffix: tuple(target + suffix for target in targets) for name, targets in body.branch_tables.items()
    }
    labels_at: dict[int, list[str]] = {}
    for label, position in body.labels.items():
        labels_at.setdefault(position, []).append(label + suffix)
    for position, instruction in enumerate(body.instructions):
        for label in labels_at.get(position, ()):
            code.labels[label] = len(code.instructions)
        renamed = _rename(instruction, names, suffix)
        if instruction.opcode.startswith("call"):
            _append_call(code, renamed, functions, complain, depth)
        elif leave is not None and instruction.opcode.split(".")[0] == "ret":
            code.instructions.append(replace(renamed, opcode="bra", operands=(Symbol(leave),)))
        else:
            code.instructions.append(renamed)
    for label in labels_at.get(len(body.instructions), ()):
        code.labels[label] = len(code.instructions)


def _append_call(
    code: _Code, call: Instruction, functions: Mapping[str, FunctionText], complain: Complain, depth: int
) -> None:
    """`call (results), name, (arguments)`; results and arguments may be left out."""
    named = [operand for operand in call.operands if isinstance(operand, Symbol)]
    lists = [operand for operand in call.operands if isinstance(operand, Vector)]
    if len(named) != 1 or named[0].name not in functions:
        what = named[0].name if named else call.text
        raise complain(f"call of {what!r}: not a function with a body in this file", call.line)
    function = functions[named[0].name]
    actual = [item.name for operands in lists for item in operands.items if isinstance(item, Symbol)]
    if len(actual) != len(function.formals):
        raise complain(f"{function.name} has {len(function.formals)} parameters, {len(actual)} given", call.line)
    code.calls += 1
    suffix = f"@call{code.calls}"
    behind = f"behind{suffix}"
    if call.guard is not None:
        skip = Guard(call.guard.register, not call.guard.negated)
        code.instructions.append(replace(call, opcode="bra", operands=(Symbol(behind),), guard=skip))
    aliases = dict(zip(function.formals, actual, strict=True))
    _append(code, function, aliases, suffix, behind, functions, complain, depth + 1)
    code.labels[behind] = len(code.instructions)


def _rename(instruction: Instruction, names: Mapping[str, str], suffix: str) -> Instruction:
    operands = tuple(_renamed(operand, names, suffix) for operand in instruction.operands)
    guard = instruction.guard
    if guard is not None:
        guard = Guard(_register(guard.register, suffix), guard.negated)
    return replace(instruction, operands=operands, guard=guard)


def _register(register: Register, suffix: str) -> Register:
    return replace(register, name=register.name + suffix)


def _renamed(operand: Operand, names: Mapping[str, str], suffix: str) -> Operand:
    match operand:
        case Register():
            return _register(operand, suffix)
        case Negated(register):
            return Negated(_register(register, suffix))
        case Symbol(name, offset):
            return Symbol(names.get(name, name), offset)
        case Address(base, offset, extra):
            moved = _renamed(base, names, suffix)
            assert isinstance(moved, type(base))
            return Address(moved, offset, tuple(_renamed(item, names, suffix) for item in extra))
        case Vector(items):
            return Vector(tuple(_renamed(item, names, suffix) for item in items))
        case Pair(first, second):
            return Pair(_renamed(first, names, suffix), _renamed(second, names, suffix))
        case _:
            return operand
