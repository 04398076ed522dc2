"""``te.gluon_op``: a function of the user's own over tiles, written in Gluon, as an expression of an algorithm.

Its operands are whatever the algorithm computes, kept where the schedule keeps them; its results are values like any
other, fused into what reads them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.errors import BindingError, GluonOpError, user_location
from texpr.lang.ir import Axis, Expr, ReduceOp, Scan, Var
from texpr.lang.promise import promise_of
from texpr.lang.signature import Signature, bind_signature, read_signature
from texpr.lang.syntax import ParamSyntax
from texpr.lang.trace import current_trace
from texpr.lang.user_code import LineLayout, Operand, Promise, TileOp
from texpr.lang.value import Number, Value, axis_of, cast, coerce, computed, literal, retype, strong
from texpr.math.expr import Sym


class GluonOpDef:
    """What ``te.gluon_op`` makes: called in a body with the operands in order, it gives the results."""

    def __init__(
        self,
        function: tuple[str, str, str],
        signature: Signature,
        line: str,
        layout: LineLayout,
        fill: Mapping[str, Number],
        reference: Callable[..., object],
        promise: Promise,
    ) -> None:
        self.file, self.name, self.text = function
        self.signature = signature
        self.line = line
        self.layout = layout
        self.fill = fill
        self.reference = reference
        self.promise = promise
        self._made: dict[tuple[object, ...], TileOp] = {}

    def __repr__(self) -> str:
        return f"<gluon_op {self.name}: {self.signature.text}>"

    def __call__(self, *operands: Value | Number, along: Value, **statics: int) -> Any:
        """The result, or a tuple of them: values at every point, each line of which along the axis ``along`` is
        computed at once. Raises GluonOpError."""
        at = user_location()
        axis = axis_of(along)
        if axis is None:
            self._refuse("takes along= an axis", at)
        if axis.ragged is not None:
            self._refuse(f"runs along {axis.name}, which is ragged: it is given whole lines", at)
        formal = [param for param in self.signature.params if not param.output]
        if len(operands) != len(formal):
            self._refuse(f"takes {len(formal)} operands, got {len(operands)}", at)
        values = [coerce(operand, self.name) for operand in operands]
        op = self._typed(values, formal, statics, at)
        exprs = tuple(
            self._operand(value, operand, at) for value, operand in zip(values, op.operands, strict=True)
        )
        made = current_trace(f"gluon_op {self.name}").add_pending(Scan(op, exprs, axis), False)
        found = tuple(
            _any_of_line(value, axis) if per_line else value for value, per_line in zip(made, op.per_line, strict=True)
        )
        return found if len(found) > 1 else found[0]

    def _typed(
        self, values: Sequence[Value], formal: Sequence[ParamSyntax], statics: Mapping[str, int], at: Location
    ) -> TileOp:
        """The operation for operands of these types; the same object each time."""
        types: dict[str, str] = {}
        for value, param in zip(values, formal, strict=True):
            if param.type_name in self.signature.types and not value.weak:
                before = types.setdefault(param.type_name, value.dtype.value)
                if before != value.dtype.value:
                    self._refuse(f"type {param.type_name} is {before}, and {param.name} is {value.dtype}", at)
        try:
            bound = bind_signature(self.signature, f"gluon_op {self.name}", types, statics)
        except BindingError as error:
            error.at = at
            raise
        key = (*bound.types.items(), *bound.statics.items())
        if key not in self._made:
            tensors = {param.name: param.dtype for param in bound.params}
            named = [(param, tensors[param.name], _dims(param)) for param in self.signature.params]
            rows = any(len(dims) == 2 for _, _, dims in named)
            self._made[key] = TileOp(
                self.name,
                self.file,
                self.text,
                rows,
                tuple(
                    Operand(
                        param.name,
                        dtype,
                        not rows or any(dim != self.line for dim in dims),
                        self.line in dims,
                        self._beyond(param, dtype),
                    )
                    for param, dtype, dims in named
                    if not param.output
                ),
                tuple(Var(param.name, dtype) for param, dtype, _ in named if param.output),
                tuple(self.line not in dims for param, _, dims in named if param.output),
                tuple(bound.statics.items()),
                self.layout,
                self.reference,
                self.promise,
            )
        return self._made[key]

    def _beyond(self, param: ParamSyntax, dtype: DType) -> int | float | bool | None:
        given = self.fill.get(param.name)
        return None if given is None else literal(given, dtype).value

    def _operand(self, value: Value, operand: Operand, at: Location) -> Expr:
        if value.weak:
            value = retype(value, operand.dtype)
        value = strong(value)
        if value.dtype is not operand.dtype:
            problem = f"{operand.name} is {operand.dtype}, and is given {value.dtype}"
            self._refuse(problem, at, f"(...).to('{operand.dtype}')")
        return value.expr

    def _refuse(self, problem: str, at: Location, hint: str | None = None) -> NoReturn:
        raise GluonOpError(name=self.name, problem=problem, signature=self.signature.text, hint=hint, at=at)


def gluon_op(
    function: object,
    signature: str,
    *,
    reference: Callable[..., object],
    exact: bool = False,
    ulps: float | None = None,
    error: Callable[..., object] | None = None,
    layout: str = "any",
    fill: Mapping[str, Number] | None = None,
    static: Sequence[str] | Mapping[str, int | None] = (),
    **type_variables: object,
) -> GluonOpDef:
    """A Gluon function over tiles: ``norm = te.gluon_op("ops.py:norm", "x: f32[i, j], s: f32[i] -> y: f32[i, j]",
    reference=...)``, and in a body ``y[r, c] = norm(x[r, c], s[r], along=c)``.

    The last dim is the line: the function is given whole lines, as many elements as the tile has along
    the axis that a call names (a power of two). A dim before it stands for rows, each of which it computes for itself:
    all other points of the tile. Operands have both dims, one of them, or none. A result without the line is one number
    per line: ``q[r, c], s[r] = quantise(x[r, c], along=c)``. A tile may be longer than the axis;
    ``fill={"x": 0}`` says what operands are there, and without it a schedule must make tiles that are exactly as long.

    ``function`` is decorated with ``gluon.jit``: itself, or ``"file.py:name"`` relative to the caller's file, which is
    read and not run. It takes the operands in order and then the statics as constexprs, and returns the results in the
    layout of its operands, which is ``layout``: ``any`` the compiler likes, ``line_in_thread``, or ``line_in_warp``
    (element k in lane k % 32). ``reference`` takes NumPy arrays (floats as float64) with the same dims, statics by
    keyword, and returns the results. The error is declared as for :func:`texpr.extern`. Raises GluonOpError,
    UndeclaredErrorError and the errors of signatures.
    """
    at = user_location()
    found = _function(function, signature, at)
    name = found[1]

    def refuse(problem: str) -> NoReturn:
        raise GluonOpError(name=name, problem=problem, signature=signature, at=at)

    if not callable(reference):
        refuse("reference= must be a function on NumPy arrays")
    if layout not in [choice.value for choice in LineLayout]:
        refuse(f"has no layout {layout!r}: one of {', '.join(choice.value for choice in LineLayout)}")
    read = read_signature(signature, types=type_variables, static=static, dims={}, require=(), at=at)
    line = _check_dims(read, refuse)
    _check_parameters(found, read, refuse)
    filled = dict(fill or {})
    with_lines = [param.name for param in read.params if not param.output and line in _dims(param)]
    for given in filled:
        if given not in with_lines:
            refuse(f"has fill= for {given}, which is no operand along {line}")
    if filled and set(filled) != set(with_lines):
        refuse(f"needs fill= for every operand along {line}: {', '.join(with_lines)}")
    promise = promise_of(f"gluon_op {name}", exact, ulps, error)
    return GluonOpDef(found, read, line, LineLayout(layout), filled, reference, promise)


def _any_of_line(value: Value, axis: Axis) -> Value:
    """A value that is the same all along the axis, without the axis: the greatest one."""
    operator = ReduceOp.ANY if value.dtype is DType.BOOL else ReduceOp.MAX
    operand = computed(value)
    (found,) = current_trace("gluon_op").add_reduction(operator, (operand.expr,), (axis,), None)
    return found if found.dtype is value.dtype else cast(found, value.dtype)


def _dims(param: ParamSyntax) -> tuple[str, ...]:
    """The names of a param's dims; other expressions as they are written."""
    groups = param.dims or ()
    return tuple(dim.name if isinstance(dim, Sym) else str(dim) for group in groups for dim in group)


def _check_dims(signature: Signature, refuse: Callable[[str], NoReturn]) -> str:
    """The dim that is the line: the last one of what has the most. Results have all dims, or all but the line."""
    widest = max(signature.params, key=lambda param: len(_dims(param)))
    dims = _dims(widest)
    if not 1 <= len(dims) <= 2:
        refuse(f"has {widest.name} of {len(dims)} dims: one for the line, and one for rows before it")
    for param in signature.params:
        special = [("optional", param.optional), ("packed", param.packed is not None), ("strided", bool(param.strided))]
        special += [("under a contract", bool(param.contracts) or param.bounds is not None or param.alias is not None)]
        for what, is_so in special:
            if is_so:
                refuse(f"{param.name} is {what}, which only an algorithm's argument can be")
        own = _dims(param)
        if param.output and own not in (dims, dims[:-1]):
            known = f"[{', '.join(dims)}] or [{', '.join(dims[:-1])}]"
            refuse(f"has a result {param.name} over [{', '.join(own)}], which is not {known}")
        if list(own) != [dim for dim in dims if dim in own]:
            refuse(f"has an operand {param.name} over [{', '.join(own)}], and {widest.name} over [{', '.join(dims)}]")
    if not any(dims[-1] in _dims(param) for param in signature.params if not param.output):
        refuse(f"has no operand along {dims[-1]}")
    return dims[-1]


def _check_parameters(
    function: tuple[str, str, str], signature: Signature, refuse: Callable[[str], NoReturn]
) -> None:
    """The function has a parameter for every operand and static, in order."""
    tree = ast.parse(function[2])
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function[1])
    own = node.args
    names = [argument.arg for argument in (*own.posonlyargs, *own.args)]
    wanted = [param.name for param in signature.params if not param.output] + list(signature.statics)
    if own.vararg or own.kwarg or own.kwonlyargs or len(names) != len(wanted):
        refuse(f"takes ({', '.join(names)}), and its signature says ({', '.join(wanted)})")


def _function(function: object, signature: str, at: Location) -> tuple[str, str, str]:
    """The file, the name and the file's text of a function."""
    if isinstance(function, str):
        path, _, name = function.rpartition(":")
        file = Path(at.file).parent / path
    else:
        plain = getattr(function, "fn", function)
        code = getattr(plain, "__code__", None)
        if code is None:
            problem = f"is no function decorated with gluon.jit, nor 'file.py:name': {function!r}"
            raise GluonOpError(name="te.gluon_op", problem=problem, signature=signature, at=at)
        file, name = Path(code.co_filename), str(code.co_name)

    def refuse(problem: str) -> NoReturn:
        raise GluonOpError(name=name, problem=problem, signature=signature, at=at)

    if not file.is_file():
        refuse(f"has no file {file.name} beside {Path(at.file).name}")
    text = file.read_text()
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        refuse(f"stands in {file.name}, line {error.lineno} of which is no Python: {error.msg}")
    found = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == name), None)
    if found is None:
        refuse(f"is not defined at the top of {file.name}")
    if not any(ast.unparse(decorator) in ("gluon.jit", "jit") for decorator in found.decorator_list):
        refuse("is no Gluon function: @gluon.jit above it")
    return file.name, name, text

