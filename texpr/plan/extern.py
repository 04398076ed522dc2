"""Kernels written by hand: the function that a schedule names is read (not run), and its parameters are matched with
the algorithm's tensors, funcs, scratch, scalars and dims."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from texpr.errors import Location
from texpr.lang.ir import Algorithm, Func, Present, Read, Scalar, ScalarRef, Tensor
from texpr.lang.ir import Extern as ExternTop
from texpr.lang.user_code import ExternCall
from texpr.math.expr import IntExpr, Sym, const, free_symbols, substitute, sym
from texpr.plan.errors import ExternMismatch, ExternNeeded, NotLowered, near
from texpr.plan.ir import Dialect, Extern, KernelPlan, Scratch
from texpr.plan.resolved import DEFAULT_WARPS
from texpr.plan.workspace import fills_of
from texpr.schedule.records import Extern as ExternRecord
from texpr.schedule.records import Kernel, Variant
from texpr.schedule.schema import KEYS
from texpr.targets import Target

_ALLOWED = ("name", "writes", "warps", "fill", "scratch", "extern", "like")
_DIALECTS = {"triton.experimental.gluon.jit": Dialect.GLUON, "triton.jit": Dialect.TRITON}

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
    numbers = {**dict(algorithm.statics), **formal_numbers(algorithm, record.writes)}
    scratch = tuple(
        Scratch(f"{record.name}.{name}", kind.dtype, tuple(substitute(extent, numbers) for extent in kind.shape))
        for name, kind in record.scratch.items()
    )
    file, text = _read(extern)
    _, _, function = extern.source.rpartition(":")
    dialect, parameters = _function(extern, text, function)
    known = {**_known(algorithm, stored, writes, scratch), **_formals(algorithm, extern, stored, writes)}
    for name in extern.arguments:
        if name not in parameters:
            at = extern.arguments.location_of(name)
            _refuse(extern, f"{function} has no parameter '{name}'", near(name, parameters), at)
    arguments = tuple((name, _argument(algorithm, extern, name, known, numbers)) for name in parameters)
    given = [value for _, value in arguments]
    for func in writes:
        if not any(value is func for value in given):
            fix = f"a parameter {func.name}, or arguments: {{parameter: {func.name}}}"
            _refuse(extern, f"no parameter of {function} is given {func.name}, which the kernel writes", fix)
    programs = substitute(extern.programs, numbers)
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
        Extern(file, function, text, dialect, programs, arguments),
    )


def check_externs(algorithm: Algorithm, variant: Variant | None) -> None:
    """Every result of a ``te.extern`` is written by a kernel that names a function for it; None is the default
    schedule. Raises ``ExternNeeded``."""
    kernels = () if variant is None else variant.kernels
    for definition in algorithm.defs:
        if not isinstance(definition.top, ExternTop):
            continue
        call, func = definition.top.call, definition.name
        record = next((kernel for kernel in kernels if func in kernel.writes), None)
        if record is not None and record.extern is not None:
            continue
        fix = f"a kernel that writes {func}, with extern: {{source: file.py:function, programs: ...}}"
        if variant is None:
            why, at = "the default schedule has no function for it", definition.location
        elif record is None:
            why, at = "no kernel writes it", variant.location
        else:
            why, at = f"kernel {record.name} names no function", record.location
        raise ExternNeeded(func=func, extern=call.name, why=why, fix=fix, at=at)


def _call_of(algorithm: Algorithm, writes: Collection[str]) -> ExternCall | None:
    """The one call of a ``te.extern`` that a kernel is to compute, if it is one."""
    tops = (d.top for d in algorithm.defs for f in d.funcs if f.name in writes)
    calls = list(dict.fromkeys(top.call for top in tops if isinstance(top, ExternTop)))
    return calls[0] if len(calls) == 1 else None


def formal_numbers(algorithm: Algorithm, writes: Collection[str]) -> dict[str, IntExpr | int]:
    """Dims and statics by the names that the signature of the ``te.extern`` gives them, which come before those of the
    algorithm."""
    call = _call_of(algorithm, writes)
    return {} if call is None else {**dict(call.dims), **dict(call.statics)}


def _formals(
    algorithm: Algorithm, extern: ExternRecord, stored: Collection[Func], writes: Sequence[Func]
) -> dict[str, Argument]:
    """What the signature of the ``te.extern`` calls the operands and results, its dims and statics."""
    call = _call_of(algorithm, [func.name for func in writes])
    if call is None:
        return {}
    statics = dict(algorithm.statics)
    known: dict[str, Argument] = {
        name: substitute(const(value) if isinstance(value, int) else value, statics)
        for name, value in formal_numbers(algorithm, [func.name for func in writes]).items()
    }
    for name, operand in zip(call.names, call.operands, strict=True):
        match operand:
            case Read(source=Func() as func) if func not in stored:
                why = f"operand {name} of {call.name} is {func.name}, which no earlier kernel has written"
                _refuse(extern, why, f"a kernel before it that writes {func.name}")
            case Read(source=source):
                known[name] = source
            case ScalarRef(scalar=scalar):
                known[name] = scalar
            case _:
                raise AssertionError(f"{operand} is no operand of a whole kernel")
    for func in writes:
        top = algorithm.definition(func).top
        if isinstance(top, ExternTop):
            known[call.results[top.component]] = func
    return known


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


def _function(extern: ExternRecord, text: str, function: str) -> tuple[Dialect, list[str]]:
    """What the function is written in, and its parameters."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        _refuse(extern, f"line {error.lineno} is no Python: {error.msg}", "a file that Python can read")
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found = functions.get(function)
    if found is None:
        _refuse(extern, f"it defines no function {function}", near(function, functions))
    dialects = [_DIALECTS.get(_full_name(tree, ast.unparse(decorator))) for decorator in found.decorator_list]
    if len(dialects) != 1 or dialects[0] is None:
        fix = f"@gluon.jit or @triton.jit above def {function}, and nothing else"
        _refuse(extern, f"{function} is no Gluon or Triton function", fix)
    own = found.args
    if own.vararg or own.kwarg or own.kwonlyargs or own.defaults:
        _refuse(extern, f"{function} has other than plain parameters", "plain parameters, without defaults")
    return dialects[0], [argument.arg for argument in (*own.posonlyargs, *own.args)]


def _full_name(tree: ast.Module, name: str) -> str:
    """What ``gluon.jit`` or ``jit`` stands for, by the imports of the module."""
    first, dot, rest = name.partition(".")
    for node in tree.body:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if (alias.asname or alias.name) == first:
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                return f"{module}{alias.name}{dot}{rest}"
    return name


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


def _argument(
    algorithm: Algorithm,
    extern: ExternRecord,
    name: str,
    known: Mapping[str, Argument],
    substitutes: Mapping[str, IntExpr | int],
) -> Argument:
    value = extern.arguments.get(name, sym(name))
    at = extern.arguments.location_of(name) if name in extern.arguments else extern.location
    if isinstance(value, Sym) and value.name in known:
        return known[value.name]
    value = substitute(value, substitutes)
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
