"""Kernels written by hand: the function that a schedule names is read (not run), and its parameters are matched with
the algorithm's tensors, funcs, scratch, scalars and dims."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from texpr.errors import Location
from texpr.lang.ir import Algorithm, Func, Present, Scalar, Tensor
from texpr.math.expr import IntExpr, Sym, free_symbols, substitute, sym
from texpr.plan.errors import ExternMismatch, NotLowered, near
from texpr.plan.ir import Extern, KernelPlan, Scratch
from texpr.plan.resolved import DEFAULT_WARPS
from texpr.plan.workspace import fills_of
from texpr.schedule.records import Extern as ExternRecord
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.schema import KEYS
from texpr.targets import Target

_ALLOWED = ("name", "writes", "warps", "fill", "scratch", "extern", "like")
_JIT = ("gluon.jit", "jit")

Argument = Tensor | Func | Scratch | Scalar | Present | IntExpr


def plan_extern(
    algorithm: Algorithm,
    variant: Variant,
    record: Kernel,
    extern: ExternRecord,
    target: Target,
    stored: Collection[Func],
    writes: Sequence[Func],
) -> KernelPlan:
    """The plan of a hand-written kernel. Raises ``ExternMismatch``."""
    for key in KEYS[Kernel]:
        if key.name not in _ALLOWED and getattr(record, key.field) != key.default:
            why = f"'{key.name}' says how the compiler writes a kernel, and this one is written by hand"
            _refuse(extern, why, f"drop {key.name}", record.location_of(key.name))
    if any(tensor.may_alias is not None for tensor in algorithm.outputs):
        raise NotLowered(
            what="a hand-written kernel of an algorithm whose outputs may alias its inputs",
            instead="an output of its own",
            at=extern.location,
        )
    statics = dict(algorithm.statics)
    scratch = tuple(
        Scratch(f"{record.name}.{name}", kind.dtype, tuple(substitute(extent, statics) for extent in kind.shape))
        for name, kind in record.scratch.items()
    )
    file, text = _read(extern)
    _, _, function = extern.source.rpartition(":")
    parameters = _parameters(extern, text, function)
    known = _known(algorithm, stored, writes, scratch)
    for name in extern.arguments:
        if name not in parameters:
            at = extern.arguments.location_of(name)
            _refuse(extern, f"{function} has no parameter '{name}'", near(name, parameters), at)
    arguments = tuple((name, _argument(algorithm, extern, name, known)) for name in parameters)
    given = [value for _, value in arguments]
    for func in writes:
        if not any(value is func for value in given):
            fix = f"a parameter {func.name}, or arguments: {{parameter: {func.name}}}"
            _refuse(extern, f"no parameter of {function} is given {func.name}, which the kernel writes", fix)
    programs = substitute(extern.programs, statics)
    return KernelPlan(
        record.name,
        variant.name,
        target,
        record,
        (),
        None,
        None,
        record.warps or DEFAULT_WARPS,
        (),
        (),
        tuple(writes),
        fills_of(record, writes, scratch),
        scratch,
        Extern(file, function, text, programs, arguments),
    )


def stored_by_others(plan: KernelPlan) -> set[Func]:
    """The funcs of earlier kernels that a hand-written kernel is given."""
    assert plan.extern is not None
    return {value for _, value in plan.extern.arguments if isinstance(value, Func) and value not in plan.writes}


def _refuse(extern: ExternRecord, why: str, fix: str, at: Location | None = None) -> NoReturn:
    raise ExternMismatch(source=extern.source, why=why, fix=fix, at=at or extern.location)


def _read(extern: ExternRecord) -> tuple[str, str]:
    """The file, found beside the schedule, and its text."""
    path, _, _ = extern.source.rpartition(":")
    folder = Path(extern.location.file).parent if extern.location is not None else Path()
    file = folder / path
    if not file.is_file():
        _refuse(extern, f"there is no file {path} beside the schedule", "a path relative to the schedule's folder")
    return str(file), file.read_text()


def _parameters(extern: ExternRecord, text: str, function: str) -> list[str]:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        _refuse(extern, f"line {error.lineno} is no Python: {error.msg}", "a file that Python can read")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = functions.get(function)
    if found is None:
        _refuse(extern, f"it defines no function {function}", near(function, functions))
    if not any(ast.unparse(decorator) in _JIT for decorator in found.decorator_list):
        _refuse(extern, f"{function} is no Gluon function", f"@gluon.jit above def {function}")
    own = found.args
    if own.vararg or own.kwarg or own.kwonlyargs or own.defaults:
        _refuse(extern, f"{function} has other than plain parameters", "plain parameters, without defaults")
    return [argument.arg for argument in (*own.posonlyargs, *own.args)]


def _known(
    algorithm: Algorithm, stored: Collection[Func], writes: Sequence[Func], scratch: Sequence[Scratch]
) -> dict[str, Argument]:
    """What a schedule may give to a function, by name."""
    known: dict[str, Argument] = {}
    for param in algorithm.params:
        if isinstance(param, Scalar):
            known[param.name] = param
        elif not any(func.output is param for definition in algorithm.defs for func in definition.funcs):
            known[param.name] = param
            if param.optional:
                known[f"has_{param.name}"] = Present(param)
    known.update({func.name: func for func in (*stored, *writes)})
    known.update({buffer.name.rpartition(".")[2]: buffer for buffer in scratch})
    return known


def _argument(algorithm: Algorithm, extern: ExternRecord, name: str, known: dict[str, Argument]) -> Argument:
    value = extern.arguments.get(name, sym(name))
    at = extern.arguments.location_of(name) if name in extern.arguments else extern.location
    if isinstance(value, Sym) and value.name in known:
        return known[value.name]
    value = substitute(value, dict(algorithm.statics))
    numbers = {dim.name for dim in algorithm.dims} | {"sms"}
    for symbol in sorted(free_symbols(value) - numbers):
        funcs = {func.name for definition in algorithm.defs for func in definition.funcs}
        why = f"parameter '{name}' is given {symbol}, which is nothing that the kernel has"
        if symbol in funcs:
            why = f"parameter '{name}' is given {symbol}, which no earlier kernel has written"
        if value == sym(name):
            why = f"nothing is given to parameter '{name}'"
        fix = f"arguments: {{{name}: ...}}, one of {', '.join([*known, *sorted(numbers)])}, or a number"
        _refuse(extern, why, fix, at)
    return value
