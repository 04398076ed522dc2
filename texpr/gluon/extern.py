"""The Gluon of a hand-written kernel: the file it stands in, statement by statement, and a kernel of the bundle's own
name that calls its function."""

from __future__ import annotations

from collections.abc import Mapping

from texpr.aot.ir import KernelSource, KernelValue
from texpr.gluon.emit import kernel_params
from texpr.gluon.modules import chunks_of
from texpr.math.expr import Const
from texpr.plan.ir import Dialect, Extern
from texpr.tile.extern import parameter_name
from texpr.tile.ir import TileProgram


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
    text = f"@{extern.dialect.value}.jit\ndef {program.name}({names}):\n    {extern.function}({', '.join(given)})\n"
    own = ("import triton",) if extern.dialect is Dialect.TRITON else ()
    preamble = tuple(dict.fromkeys((*own, *chunks_of(extern.text, extern.function))))
    return KernelSource(program.name, text, preamble, params, program.warps, targets)
