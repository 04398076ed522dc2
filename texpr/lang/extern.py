"""``te.extern``: a kernel of the user's own as one step of an algorithm.

The algorithm knows its signature and its NumPy reference; which Gluon or Triton function it is, on how many programs
and with what scratch, is the schedule's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.errors import BindingError, DefinedTwiceError, ExternError, InputWriteError, user_location
from texpr.lang.handles import FuncHandle, Handle, TensorHandle
from texpr.lang.ir import (
    Axis,
    AxisRef,
    Expr,
    Extern,
    Func,
    Param,
    Read,
    Role,
    Scalar,
    ScalarRef,
    Tensor,
)
from texpr.lang.promise import promise_of
from texpr.lang.signature import BoundSignature, Signature, bind_signature, read_signature
from texpr.lang.syntax import ParamSyntax
from texpr.lang.trace import Draft, Trace, current_trace
from texpr.lang.user_code import ExternCall, Promise
from texpr.lang.value import Value
from texpr.math.bounds import Facts
from texpr.math.expr import IntExpr, Sym, eq, free_symbols, substitute
from texpr.math.prove import is_proved

Handles = FuncHandle | Sequence[FuncHandle]


class ExternDef:
    """What ``te.extern`` makes: called in a body with the operands in order, it defines the funcs that are ``out``."""

    def __init__(
        self,
        name: str,
        signature: Signature,
        reference: Callable[..., object],
        promise: Promise,
    ) -> None:
        self.name = name
        self.signature = signature
        self.reference = reference
        self.promise = promise

    def __repr__(self) -> str:
        return f"<extern {self.name}: {self.signature.text}>"

    def __call__(self, *operands: object, out: Handles, **statics: int) -> None:
        """Defines ``out``: funcs and outputs, one per result. Raises ExternError, and the errors of definitions."""
        trace = current_trace(f"extern {self.name}")
        at = user_location()
        results = (out,) if isinstance(out, Handle) else tuple(out)
        formal = [param for param in self.signature.params if not param.output]
        if len(operands) != len(formal):
            self._refuse(f"takes {len(formal)} operands, got {len(operands)}", at)
        wanted = len(self.signature.params) - len(formal)
        if len(results) != wanted:
            self._refuse(f"has {wanted} results, and out= names {len(results)}", at)
        bound = self._bind(operands, formal, statics, at)
        inputs = [param for param in bound.params if isinstance(param, Scalar) or param.role is Role.INPUT]
        exprs = [
            self._scalar(operand, param, at) if isinstance(param, Scalar) else self._source(operand, param, at)
            for operand, param in zip(operands, inputs, strict=True)
        ]
        dims = self._dims(trace, exprs, inputs, bound, at)
        self._define(trace, exprs, results, bound, dims, at)

    def _dims(
        self,
        trace: Trace,
        sources: Sequence[Tensor | Func | ScalarRef],
        inputs: Sequence[Param],
        bound: BoundSignature,
        at: Location,
    ) -> dict[str, IntExpr]:
        """The signature's dims as expressions of the algorithm's. Raises ExternError where shapes do not fit."""
        derived = {dim.name: dim.value for dim in trace.signature.dims if dim.value is not None}
        shapes = [
            (param, [substitute(extent, derived) for extent in _shape(source)])
            for source, param in zip(sources, inputs, strict=True)
            if isinstance(param, Tensor) and not isinstance(source, ScalarRef)
        ]
        counted = {count.name for count in trace.signature.counts}
        for source, param in zip(sources, inputs, strict=True):
            extents = () if isinstance(source, ScalarRef) else _extents(source)
            for name in sorted({symbol for extent in extents for symbol in free_symbols(extent)} & counted):
                self._refuse(f"{param.name} has the dim {name}, which only the device knows", at)
        dims: dict[str, IntExpr] = {}
        for param, shape in shapes:
            for formal, extent in zip(param.shape, shape, strict=True):
                _solve(formal, extent, dims)
        facts = Facts.nonnegative([dim.name for dim in trace.signature.dims if dim.value is None])
        facts = facts.assume(*trace.signature.facts)
        for param, shape in shapes:
            for position, (formal, extent) in enumerate(zip(param.shape, shape, strict=True)):
                said = substitute(formal, dims)
                if not is_proved(eq(said, extent), facts):
                    here = "" if said is formal else f", which is {said} here,"
                    self._refuse(f"dim {position} of {param.name} is {formal}{here} and is given {extent}", at)
        for fact in bound.facts:
            said_fact = substitute(fact, dims)
            if not is_proved(said_fact, facts):
                self._refuse(f"requires {fact}, and that {said_fact} is not known", at)
        return dims

    def _define(
        self,
        trace: Trace,
        sources: Sequence[Tensor | Func | ScalarRef],
        results: Sequence[FuncHandle],
        bound: BoundSignature,
        dims: Mapping[str, IntExpr],
        at: Location,
    ) -> None:
        number = 1 + sum(isinstance(draft.top, Extern) and draft.top.component == 0 for draft in trace.drafts)
        inputs = [param for param in bound.params if isinstance(param, Scalar) or param.role is Role.INPUT]
        over: list[Axis] = []
        exprs: list[Expr] = []
        for source, param in zip(sources, inputs, strict=True):
            if isinstance(source, ScalarRef):
                exprs.append(source)
                continue
            own = [Axis(f"{param.name}.{number}.d{n}", extent) for n, extent in enumerate(_shape(source))]
            over += own
            exprs.append(Read(source, tuple(AxisRef(axis) for axis in own), location=at))
        outputs = [param for param in bound.params if isinstance(param, Tensor) and param.role is Role.OUTPUT]
        call = ExternCall(
            self.name,
            tuple(param.name for param in inputs),
            tuple(exprs),
            tuple(over),
            tuple(output.name for output in outputs),
            tuple(output.dtype for output in outputs),
            tuple(dims.items()),
            tuple(bound.statics.items()),
            self.reference,
            self.promise,
        )
        for component, (handle, output) in enumerate(zip(results, outputs, strict=True)):
            if isinstance(handle, TensorHandle) or not isinstance(handle, FuncHandle):
                raise InputWriteError(name=getattr(handle, "name", repr(handle)), at=at)
            if handle.func is not None:
                raise DefinedTwiceError(name=handle.name, first=handle.func.location, at=at)
            shape = tuple(substitute(extent, dims) for extent in output.shape)
            axes = tuple(Axis(f"{handle.name}.d{n}", extent) for n, extent in enumerate(shape))
            self._check_result(trace, handle, output, shape, at)
            func = Func(handle.name, output.dtype, axes, handle.tensor, False, at)
            trace.finish_draft(Draft([func], axes, Extern(call, component), handle.name, at))
            handle.func = func

    def _bind(
        self, operands: Sequence[object], formal: Sequence[ParamSyntax], statics: Mapping[str, int], at: Location
    ) -> BoundSignature:
        """The signature with its type variables and statics replaced."""
        types: dict[str, str] = {}
        for operand, param in zip(operands, formal, strict=True):
            dtype = getattr(operand, "dtype", None)
            if param.type_name in self.signature.types and isinstance(dtype, DType):
                before = types.setdefault(param.type_name, dtype.value)
                if before != dtype.value:
                    self._refuse(f"type {param.type_name} is {before}, and {param.name} is given {dtype}", at)
        try:
            return bind_signature(self.signature, f"extern {self.name}", types, statics)
        except BindingError as error:
            error.at = at
            raise

    def _source(self, operand: object, param: Tensor, at: Location) -> Tensor | Func:
        """The tensor or func that is given to an operand, with its type and rank checked."""
        if not isinstance(operand, (TensorHandle, FuncHandle)):
            self._refuse(f"takes a whole tensor or func for {param.name}, without indices, got {operand!r}", at)
        name = operand.name
        source = operand.source if isinstance(operand, TensorHandle) else operand.func
        if source is None:
            self._refuse(f"{param.name} is given {name}, which is not defined yet", at)
        if isinstance(source, Tensor):
            special = [("optional", source.optional), ("a hint", source.hint), ("packed", source.packed is not None)]
            special += [("of a free stride", bool(source.strided))]
            for what, is_so in special:
                if is_so:
                    self._refuse(f"{param.name} is given {name}, which is {what}", at)
        if source.dtype is not param.dtype:
            self._refuse(f"{param.name} is {param.dtype}, and is given {name}, which is {source.dtype}", at)
        rank = len(_shape(source))
        if rank != param.rank:
            self._refuse(f"{param.name} has {param.rank} dims, and is given {name}, which has {rank}", at)
        return source

    def _scalar(self, operand: object, param: Scalar, at: Location) -> ScalarRef:
        expr = operand.expr if isinstance(operand, Value) else None
        if not isinstance(expr, ScalarRef):
            self._refuse(f"takes a scalar argument of the algorithm for {param.name}, got {operand!r}", at)
        if expr.dtype is not param.dtype:
            self._refuse(f"{param.name} is {param.dtype}, and is given {expr.scalar.name}, which is {expr.dtype}", at)
        return expr

    def _check_result(
        self, trace: Trace, handle: FuncHandle, output: Tensor, shape: tuple[IntExpr, ...], at: Location
    ) -> None:
        if handle.declared is not None and handle.declared is not output.dtype:
            self._refuse(f"{output.name} is {output.dtype}, and {handle.name} is {handle.declared}", at)
        if handle.tensor is None:
            return
        if handle.tensor.valid is not None:
            self._refuse(f"{handle.name} has a dim that only the device knows", at)
        derived = {dim.name: dim.value for dim in trace.signature.dims if dim.value is not None}
        own = [substitute(extent, derived) for extent in handle.tensor.shape]
        if own != [substitute(extent, derived) for extent in shape]:
            said, found = (f"[{', '.join(map(str, one))}]" for one in (shape, handle.tensor.shape))
            self._refuse(f"{output.name} has shape {said}, and {handle.name} has {found}", at)

    def _refuse(self, problem: str, at: Location) -> NoReturn:
        raise ExternError(name=self.name, problem=problem, signature=self.signature.text, at=at)


def _extents(source: Tensor | Func) -> tuple[IntExpr, ...]:
    """The extents of the part that has values."""
    return source.extents if isinstance(source, Tensor) else _shape(source)


def _shape(source: Tensor | Func) -> tuple[IntExpr, ...]:
    return source.shape if isinstance(source, Tensor) else tuple(axis.extent for axis in source.axes)


def _solve(formal: IntExpr, actual: IntExpr, dims: dict[str, IntExpr]) -> None:
    """Learn the one dim of ``formal`` that is not known yet: ``N``, or ``N`` and a number."""
    unknown = sorted(free_symbols(formal) - set(dims))
    if len(unknown) != 1:
        return
    (name,) = unknown
    if isinstance(formal, Sym):
        dims[name] = actual
        return
    value = actual - substitute(formal, {**dims, name: 0})
    if substitute(formal, {**dims, name: value}) is actual:
        dims[name] = value


def extern(
    name: str,
    signature: str,
    *,
    reference: Callable[..., object],
    exact: bool = False,
    ulps: float | None = None,
    error: Callable[..., object] | None = None,
    static: Sequence[str] | Mapping[str, int | None] = (),
    require: Iterable[str] = (),
    **type_variables: object,
) -> ExternDef:
    """A kernel that is written by hand: ``scan = te.extern("scan", "x: i32[N] -> y: i32[N]", reference=np.cumsum,
    exact=True)``, and in a body ``scan(x, out=y)``.

    The operands are whole tensors and funcs, which an earlier kernel stores, and scalars; the results are stored by the
    kernel that the schedule says (``extern:``). ``reference`` is what it computes: it takes the operands as NumPy
    arrays (floats as float64) in order, and statics by keyword, and returns an array, or a tuple of them for several
    results. How far a kernel may be from it is declared once: ``exact=True``; ``ulps=n``, in units in the last place of
    a result, for operands that are exact; or ``error=f``, where ``f(values, bounds)`` gives the absolute error of each
    result for operands that are off by ``bounds``. Raises ExternError, UndeclaredErrorError and the errors of
    signatures.
    """
    at = user_location()
    if not isinstance(name, str) or not name.isidentifier():
        raise ExternError(name=name, problem="its name is no plain name", signature=signature, at=at)
    if not callable(reference):
        problem = "reference= must be a function on NumPy arrays"
        raise ExternError(name=name, problem=problem, signature=signature, at=at)
    read = read_signature(signature, types=type_variables, static=static, dims={}, require=require, at=at)
    for param in read.params:
        special = [("optional", param.optional), ("packed", param.packed is not None), ("strided", bool(param.strided))]
        special += [("a hint", param.hint)]
        special += [("an alias", param.alias is not None), ("bound to a range", param.bounds is not None)]
        special += [("under a contract", bool(param.contracts))]
        for what, is_so in special:
            if is_so:
                problem = f"{param.name} is {what}, which only an algorithm's argument can be"
                raise ExternError(name=name, problem=problem, signature=signature, at=at)
    return ExternDef(name, read, reference, promise_of(f"extern {name}", exact, ulps, error))
