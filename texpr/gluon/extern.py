"""The Gluon of a hand-written kernel: the file it stands in, statement by statement, and a kernel of the bundle's own
name that calls its function."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from texpr.aot.ir import KernelSource, KernelValue
from texpr.gluon.emit import kernel_params
from texpr.math.expr import Const
from texpr.plan.ir import Extern
from texpr.tile.extern import parameter_name
from texpr.tile.ir import TileProgram

_GIVEN = ("from triton.experimental import gluon", "from triton.experimental.gluon import language as gl")


def extern_source(
    program: TileProgram, extern: Extern, targets: tuple[str, ...], pointers: Mapping[str, KernelValue]
) -> KernelSource:
    """A kernel that hands its parameters on, with the constants that the schedule gives."""
    params = kernel_params(program, targets, pointers)
    called = {parameter.name: param.name for parameter, param in zip(program.parameters, params, strict=True)}
    given = [
        str(value.value) if isinstance(value, Const) else called[parameter_name(parameter, value)]
        for parameter, value in extern.arguments
    ]
    names = ", ".join(param.name for param in params)
    text = f"@gluon.jit\ndef {program.name}({names}):\n    {extern.function}({', '.join(given)})\n"
    return KernelSource(program.name, text, chunks_of(extern.text), params, program.warps, targets)


def chunks_of(text: str) -> tuple[str, ...]:
    """The statements of a module, one chunk each: imports of Triton, definitions and constants. Its docstring, what
    runs only as a program and other imports stay behind."""
    lines = text.splitlines()
    found: list[str] = []
    for node in ast.parse(text).body:
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=module):
                modules = [module or ""]
            case ast.FunctionDef(decorator_list=decorators) | ast.ClassDef(decorator_list=decorators):
                first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
                found.append("\n".join(lines[first - 1 : node.end_lineno]))
                continue
            case ast.Assign() | ast.AnnAssign():
                found.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                continue
            case _:
                continue
        statement = ast.unparse(node)
        if all(module.partition(".")[0] in ("triton", "math") for module in modules) and statement not in _GIVEN:
            found.append(statement)
    return tuple(found)
