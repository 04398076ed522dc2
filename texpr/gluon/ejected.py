"""Kernels in files of the user's: what the compiler wrote, to be edited by hand, with the contract that it was written
under.

A contract says what a kernel relies on and what relies on it: definitions, guard, parameters, grid. It stands in
comments above the function, with its hash. When the compiler would write another contract today the file is refused.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from texpr.aot.ir import (
    KernelParam,
    KernelSource,
    PresentFlag,
    ScalarValue,
    TensorMap,
    TensorPointer,
    WorkspacePointer,
)
from texpr.aot.kernel_text import kernel_module
from texpr.errors import Location
from texpr.gluon.modules import chunks_of
from texpr.lang.ir import Def, Func
from texpr.lang.show import def_text
from texpr.math.expr import BoolExpr
from texpr.plan.errors import StaleKernel
from texpr.plan.ir import KernelPlan, VariantPlan
from texpr.plan.resolve import funcs_read
from texpr.tile.ir import TileProgram

_HEAD = "# contract of "
_LINE = "#   "


@dataclass(frozen=True, slots=True)
class Ejected:
    """A kernel in a file: its function's text, and its contract as it stands there."""

    name: str
    text: str
    digest: str
    contract: tuple[str, ...]


def contract_of(
    plan: VariantPlan, kernel: KernelPlan, program: TileProgram, source: KernelSource, require: Sequence[BoolExpr]
) -> tuple[str, ...]:
    """The lines of a kernel's contract."""
    return (
        *(f"computes {def_text(definition)}" for definition in _definitions(plan, kernel)),
        *(f"requires {fact}" for fact in require),
        f"when {plan.guard}",
        *(f"parameter {_parameter(param)}" for param in source.params),
        *(f"below 2**31: {limit}" for limit in program.limits),
        f"grid {program.grid}",
        f"warps {program.warps}",
        *(f"cluster of {programs} along {axis}" for axis, programs in program.cluster),
    )


def _definitions(plan: VariantPlan, kernel: KernelPlan) -> list[Def]:
    """What the kernel computes: the definitions of what it writes, back to what earlier kernels have stored."""
    stored: set[str] = set()
    for other in plan.kernels:
        if other is kernel:
            break
        stored.update(func.name for func in other.writes)
    by_name = {func.name: definition for definition in plan.definitions for func in definition.funcs}
    wanted: dict[int, None] = {}
    pending: list[Func] = list(kernel.writes)
    while pending:
        func = pending.pop()
        definition = by_name.get(func.name)
        if definition is not None and func.name not in stored and id(definition) not in wanted:
            wanted[id(definition)] = None
            pending += funcs_read(definition)
    return [definition for definition in plan.definitions if id(definition) in wanted]


def _parameter(param: KernelParam) -> str:
    match param.value:
        case TensorPointer(argument=name) | ScalarValue(argument=name):
            given = name
        case WorkspacePointer(buffer=name):
            given = f"workspace {name}"
        case PresentFlag(argument=name):
            given = f"present({name})"
        case TensorMap(target=target, shape=shape, strides=strides):
            name = target.argument if isinstance(target, TensorPointer) else f"workspace {target.buffer}"
            extents, steps = (", ".join(map(str, values)) for values in (shape, strides))
            given = f"map of {name}[{extents}] strides {steps}"
        case value:
            given = str(value.value)
    multiple = f", a multiple of {param.divisibility}" if param.divisibility > 1 else ""
    return f"{param.name}: {param.type} = {given}{multiple}"


def digest_of(contract: Sequence[str]) -> str:
    """The hash that stands beside a contract."""
    return hashlib.sha256("\n".join(contract).encode()).hexdigest()[:16]


# ---- writing --------------------------------------------------------------------------------------------------------


def module_of(kernels: Sequence[tuple[KernelSource, tuple[str, ...]]]) -> str:
    """The file of some kernels with their contracts."""
    module = kernel_module([source for source, _ in kernels])
    lines = module.text.split("\n")
    for source, contract in reversed(kernels):
        first = module.first_line(source.name) - 1
        at = _first_line_of(source.name, lines, first)
        lines[at:at] = [f"{_HEAD}{source.name}: {digest_of(contract)}", *(_LINE + line for line in contract)]
    return "\n".join(lines)


def _first_line_of(name: str, lines: Sequence[str], start: int) -> int:
    """Where a function starts with its decorator; its roles' functions stand before it."""
    return next(n for n, line in enumerate(lines) if n >= start and line.startswith(f"def {name}(")) - 1


# ---- reading --------------------------------------------------------------------------------------------------------


def ejected_source(generated: KernelSource, contract: tuple[str, ...], kernel: KernelPlan) -> KernelSource:
    """What the file that the schedule names has in place of a generated kernel. Raises ``StaleKernel``."""
    record = kernel.record
    at = record.location_of("source")
    path = str(record.source)
    file = (Path(at.file).parent if at is not None else Path()) / path
    if not file.is_file():
        raise StaleKernel(source=path, why="there is no such file beside the schedule", at=at)
    text = file.read_text()
    found, preamble = read_module(text, path, at)
    digest = digest_of(contract)
    own = sorted(
        (one for one in found.values() if one.digest == digest),
        key=lambda one: not one.name.endswith(tuple(f"_{target}" for target in generated.targets)),
    )
    if not own:
        raise StaleKernel(source=path, why=_stale(generated.name, found.values(), contract), at=at)
    kept = own[0]
    body = kept.text.replace(f"def {kept.name}(", f"def {generated.name}(", 1)
    return replace(generated, text=body, preamble=preamble, origins=())


def _stale(name: str, found: Collection[Ejected], contract: tuple[str, ...]) -> str:
    """What is different about the kernel of the file that comes nearest to a contract."""
    if not found:
        return f"it holds no kernel with a contract, and {name} has one"

    def difference(one: Ejected) -> list[str]:
        return [line for line in difflib.ndiff(one.contract, contract) if line.startswith(("- ", "+ "))]

    nearest = min(found, key=lambda one: len(difference(one)))
    lines = "\n".join(difference(nearest)) or "its hash alone: the comment was edited"
    return f"no kernel in it has the contract of {name}; {nearest.name} has another one (- there, + now)\n{lines}"


def read_module(text: str, path: str, at: Location | None) -> tuple[dict[str, Ejected], tuple[str, ...]]:
    """The kernels of a file by name, and the other statements that they need."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise StaleKernel(source=path, why=f"line {error.lineno} is no Python: {error.msg}", at=at) from None
    lines = text.splitlines()
    found: dict[str, Ejected] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            above = first
            while above > 0 and lines[above - 1].startswith("#"):
                above -= 1
            comments = lines[above:first]
            head = next((n for n, line in enumerate(comments) if line.startswith(f"{_HEAD}{node.name}: ")), None)
            if head is not None:
                digest = comments[head].rpartition(": ")[2]
                contract = tuple(line.removeprefix(_LINE) for line in comments[head + 1 :])
                found[node.name] = Ejected(node.name, "\n".join(lines[first : node.end_lineno]), digest, contract)
    return found, tuple(chunk for chunk in chunks_of(text) if not any(chunk == e.text for e in found.values()))
