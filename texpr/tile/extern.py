"""A hand-written kernel as a tile program without statements: what the launcher passes, and how many programs."""

from __future__ import annotations

from texpr.lang.ir import Func, Present, Scalar, Tensor
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import BoolExpr, Const, IntExpr, Sym
from texpr.plan.access import WORKSPACE_ALIGNMENT, buffer_name, memory_of
from texpr.plan.ir import Extern, KernelPlan, Scratch
from texpr.tile.declarations import IntParam, Parameter, PointerParam, PresentParam, ScalarParam
from texpr.tile.ir import TileProgram

_DIVISOR = 16  # Triton's analysis gains nothing from more


def extern_program(plan: KernelPlan, extern: Extern, name: str, facts: Facts, guard: BoolExpr) -> TileProgram:
    """Its parameters are what the function is given, each once; constants are not passed."""
    parameters: dict[str, Parameter] = {}
    for parameter, value in extern.arguments:
        if not isinstance(value, Const):
            made = _parameter(parameter_name(parameter, value), value, facts, guard)
            parameters.setdefault(made.name, made)
    return TileProgram(name, plan.warps, tuple(parameters.values()), (), (), extern.programs)


def parameter_name(
    parameter: str, value: Tensor | Func | Scratch | Scalar | Present | IntExpr
) -> str:
    """What the launched kernel calls something that the function is given."""
    match value:
        case Scratch(name=name) | Func(name=name, output=None):
            return buffer_name(name)
        case Tensor(name=name) | Func(name=name) | Scalar(name=name) | Sym(name=name):
            return name
        case Present(tensor=tensor):
            return f"has_{tensor.name}"
        case _:
            return f"{parameter}_value"


def _parameter(
    name: str, value: Tensor | Func | Scratch | Scalar | Present | IntExpr, facts: Facts, guard: BoolExpr
) -> Parameter:
    match value:
        case Tensor() | Func():
            memory = memory_of(value, guard)
            return PointerParam(memory.name, memory.dtype, memory.alignment)
        case Scratch(dtype=dtype):
            return PointerParam(name, dtype, WORKSPACE_ALIGNMENT)
        case Scalar(dtype=dtype):
            return ScalarParam(name, dtype)
        case Present(tensor=tensor):
            return PresentParam(name, tensor.name)
        case _:
            step = divisor(value, facts)
            return IntParam(name, value, max(1, min(_DIVISOR, _DIVISOR if step == 0 else step & -step)))
