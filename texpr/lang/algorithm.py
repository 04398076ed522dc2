"""``@te.algorithm``: a signature and a body become an :class:`AlgorithmDef`, and each binding of it an
``ir.Algorithm``."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from texpr.contracts import ContractKind
from texpr.dtypes import DType
from texpr.errors import Location, located
from texpr.lang import ir
from texpr.lang.errors import (
    BodySignatureError,
    OperandError,
    RaggedAxisError,
    UnknownNameError,
    did_you_mean,
    user_location,
)
from texpr.lang.handles import FuncHandle, TensorHandle
from texpr.lang.index import to_int_expr
from texpr.lang.ir import Const, DimRef, Scalar, ScalarRef
from texpr.lang.signature import Signature, bind_signature, read_signature
from texpr.lang.trace import Trace, axes_in, current_trace, resolve_dtype, start_trace, tracing
from texpr.lang.value import Value, axis_of
from texpr.math import expr as integer
from texpr.math.expr import IntExpr, const, free_symbols, substitute
from texpr.math.parse import parse_int

Body = Callable[..., None]


class AlgorithmDef:
    """An algorithm before its type variables and statics are chosen. ``bind`` traces the body; equal bindings give
    the same object."""

    def __init__(self, name: str, signature: Signature, body: Body, at: Location) -> None:
        self.name = name
        self.signature = signature
        self.body = body
        self.doc = inspect.getdoc(body) or ""
        self.location = at
        self._statics = _check_body(name, signature, body, at)
        self._bound: dict[tuple[object, ...], ir.Algorithm] = {}

    def __repr__(self) -> str:
        return f"<algorithm {self.name}: {self.signature.text}>"

    def bindings(self) -> tuple[dict[str, str], ...]:
        """Every combination of the type variables, in the order of the signature."""
        names = list(self.signature.types)
        choices = [[dtype.value for dtype in dtypes] for dtypes in self.signature.types.values()]
        return tuple(dict(zip(names, values, strict=True)) for values in itertools.product(*choices))

    def bind(
        self, types: Mapping[str, str | DType] | None = None, statics: Mapping[str, int] | None = None
    ) -> ir.Algorithm:
        """The algorithm for these types and statics.

        A type variable with one choice and a static with a default may be left out. Raises the TX012x errors for the
        binding, and whatever is wrong in the body at the body's own line.
        """
        names = {variable: str(dtype) for variable, dtype in (types or {}).items()}
        with located(self.location):
            bound = bind_signature(self.signature, self.name, names, statics or {})
        key = (*bound.types.items(), *bound.statics.items())
        if key not in self._bound:
            self._bound[key] = self._trace(start_trace(self.name, bound))
        return self._bound[key]

    def _trace(self, trace: Trace) -> ir.Algorithm:
        bound = trace.signature
        arguments = [
            Value(ScalarRef(param)) if isinstance(param, Scalar) else trace.handles[param.name]
            for param in bound.params
        ]
        with located(self.location), tracing(trace):
            self.body(*arguments, **{name: bound.statics[name] for name in self._statics})
            defs = trace.finish()
        used = {axis for d in defs for axis in (*d.axes, *axes_in(ir.top_exprs(d.top)), *_reduced(d.top))}
        return ir.Algorithm(
            name=self.name,
            params=bound.params,
            dims=bound.dims,
            axes=tuple(axis for axis in trace.axes.values() if axis in used),
            defs=defs,
            facts=bound.facts,
            types=tuple(bound.types.items()),
            statics=tuple(bound.statics.items()),
            doc=self.doc,
            location=self.location,
            counts=bound.counts,
        )


def _reduced(top: ir.Top) -> tuple[ir.Axis, ...]:
    match top:
        case ir.Reduce(axes=axes):
            return axes
        case ir.Scan(axis=axis):
            return (axis,)
        case ir.Extern(call=call):
            return call.over
        case _:
            return ()


def _check_body(name: str, signature: Signature, body: Body, at: Location) -> tuple[str, ...]:
    """The statics that the body takes as keywords. Raises BodySignatureError."""
    expected = [param.name for param in signature.params]
    found: list[str] = []
    statics: list[str] = []
    for parameter in inspect.signature(body).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            statics.append(parameter.name)
        else:
            found.append(str(parameter.replace(annotation=inspect.Parameter.empty)))
    if found != expected:
        raise BodySignatureError(name=name, found=", ".join(found), expected=", ".join(expected), at=at)
    for static in statics:
        if static not in signature.statics:
            choices = did_you_mean(static, signature.statics)
            raise UnknownNameError(kind="static", name=static, choices=choices, at=at)
    return tuple(statics)


def algorithm(
    signature: str,
    *,
    static: Sequence[str] | Mapping[str, int | None] = (),
    dims: Mapping[str, str] | None = None,
    require: Iterable[str] = (),
    **type_variables: object,
) -> Callable[[Body], AlgorithmDef]:
    """Decorator: the body is run once for each binding and says what every output is.

    ``signature`` is ``"x: T[M, K], w: T[K, N], b: T[N]? -> y: T[M, N]"``; ``static`` names (or gives defaults to)
    compile-time integers; ``dims`` derives dims, ``dict(P="(H - R) // 2 + 1")``; ``require`` states facts about dims,
    checked at launch and used in proofs; ``T=("f16", "bf16")`` lists the types of a type variable. Raises the TX010x
    and TX011x errors.
    """
    at = user_location()
    read = read_signature(signature, types=type_variables, static=static, dims=dims or {}, require=require, at=at)

    def decorate(body: Body) -> AlgorithmDef:
        code = body.__code__
        return AlgorithmDef(body.__name__, read, body, Location(code.co_filename, code.co_firstlineno))

    return decorate


# Names inside a body.


def axes(**extents: str | int | Value) -> tuple[Value, ...]:
    """``i, j, k = te.axes(i="M", j="N", k=3)``: iteration axes ``0 .. extent``, each extent an integer expression of
    dims."""
    trace = current_trace("axes")
    return tuple(trace.add_axis(name, _extent(trace, name, extent)) for name, extent in extents.items())


def ragged(name: str, offsets: TensorHandle, group: Value) -> Value:
    """``m = te.ragged("m", off, e)``: an axis over ``off[e] .. off[e + 1]``, for an input ``off`` with the contract
    ``offsets(M)`` and an axis ``e`` over its groups.

    Reduced over, it takes the points of a group. On the left of a definition it takes all ``M``, each of which belongs
    to one group: ``e`` is then not on the left and may be used on the right. Raises RaggedAxisError.
    """
    trace = current_trace("ragged")
    axis = axis_of(group)
    tensor = offsets.source if isinstance(offsets, TensorHandle) else None
    contract = None if tensor is None else tensor.contract(ContractKind.OFFSETS)
    if tensor is None or contract is None or contract.limit is None:
        found = getattr(offsets, "name", "that")
        raise RaggedAxisError(
            axis=name,
            problem=f"{found} is no input with the contract 'offsets'",
            hint="off: i32[E + 1] offsets(M) in the signature, and te.ragged('m', off, e)",
            at=user_location(),
        )
    if tensor.optional:
        problem = f"{tensor.name} is optional, and without it there are no groups"
        raise RaggedAxisError(axis=name, problem=problem, hint=f"drop the '?' of {tensor.name}", at=user_location())
    if axis is None:
        problem = "its group is not an axis"
        raise RaggedAxisError(axis=name, problem=problem, hint="e = te.axes(e='E')", at=user_location())
    derived = {dim.name: dim.value for dim in trace.signature.dims if dim.value is not None}
    groups = substitute(tensor.shape[0] - 1, derived)
    if axis.ragged is not None or substitute(axis.extent, derived) is not groups:
        kind = "is ragged itself" if axis.ragged is not None else f"has extent {axis.extent}"
        problem = f"its group {axis.name} {kind}; {tensor.name} has the offsets of {groups} groups"
        raise RaggedAxisError(axis=name, problem=problem, hint=f"an axis of extent {groups}", at=user_location())
    return trace.add_axis(name, contract.limit, ir.Ragged(tensor, axis))


def _extent(trace: Trace, name: str, extent: object) -> IntExpr:
    if isinstance(extent, str):
        return _dim_expr(trace, extent, f"the extent of axis {name}")
    if isinstance(extent, int) and not isinstance(extent, bool) and extent >= 0:
        return const(extent)
    value = to_int_expr(extent.expr) if isinstance(extent, Value) and not axes_in((extent.expr,)) else None
    if value is None:
        expected = "a dim expression such as 'M' or 'H // 2', or a non-negative integer"
        raise OperandError(
            what=f"axis {name}", expected=expected, found=repr(extent), at=user_location(), hint=f"te.axes({name}='M')"
        )
    return value


def _dim_expr(trace: Trace, text: str, where: str) -> IntExpr:
    known = {*trace.signature.dim_names(), *trace.signature.statics}
    with located(user_location()):
        value = parse_int(text)
    for name in sorted(free_symbols(value) - known):
        raise UnknownNameError(
            kind=f"dim in {where}:", name=name, choices=did_you_mean(name, known), at=user_location()
        )
    return substitute(value, dict(trace.signature.statics))


def func(name: str, dtype: str | DType | None = None) -> FuncHandle:
    """A named tensor, to be defined by ``f[i, j] = ...``. A ``dtype`` makes it a rounding point; without, it takes
    its expression's."""
    return current_trace("func").add_func(name, None if dtype is None else resolve_dtype(dtype))


def funcs(names: str, dtype: str | DType | None = None) -> tuple[FuncHandle, ...]:
    """Several funcs: ``m, l = te.funcs("m l")``."""
    return tuple(func(name, dtype) for name in names.replace(",", " ").split())


def dim(text: str) -> Value:
    """The value of a dim, or of an integer expression of dims: ``te.dim("S")``."""
    value = _dim_expr(current_trace("dim"), text, "te.dim")
    return Value(Const(value.value, ir.INDEX) if isinstance(value, integer.Const) else DimRef(value))


def type(name: str) -> DType:
    """What a type variable is bound to in this run of the body: ``te.type("T")``."""
    variables = current_trace("type").signature.types
    if name not in variables:
        raise UnknownNameError(
            kind="type variable", name=name, choices=did_you_mean(name, variables), at=user_location()
        )
    return variables[name]
