"""One run of a body: what exists so far, and how a definition ``f[i, j] = expr`` enters the algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from texpr.dtypes import DType, dtype_named, holds
from texpr.errors import Location
from texpr.lang.errors import (
    BadNameError,
    CastError,
    DefinedTwiceError,
    DefinitionTypeError,
    DeviceDimError,
    DuplicateNameError,
    ExtentMismatchError,
    FreeAxisError,
    GluonOpError,
    InputWriteError,
    LeftIndexError,
    NeverDefinedError,
    OutputUndefinedError,
    OutsideBodyError,
    RaggedAxisError,
    ReadBeforeDefinitionError,
    ReductionAxisError,
    RepeatedAxisError,
    SelfReadError,
    TupleDefinitionError,
    UnknownNameError,
    did_you_mean,
    user_location,
)
from texpr.lang.handles import FuncHandle, Handle, TensorHandle, flatten_index
from texpr.lang.inbounds import Domain, check_reads
from texpr.lang.ir import (
    Axis,
    AxisRef,
    Def,
    DimRef,
    Expr,
    Extern,
    Func,
    Monoid,
    Op,
    OpName,
    Ragged,
    Ranking,
    Read,
    Reduce,
    ReduceOp,
    Role,
    Scalar,
    Scan,
    Tensor,
    Top,
    Var,
    components,
    group_conditions,
    has_position,
    map_children,
    top_exprs,
    walk,
    with_groups,
)
from texpr.lang.signature import BoundSignature
from texpr.lang.user_code import TileOp
from texpr.lang.value import Value, axis_of, coerce, retype, strong
from texpr.math.expr import IntExpr, free_symbols, ge, le, substitute, sym

_current: ContextVar[Trace | None] = ContextVar("texpr_trace", default=None)


def current_trace(what: str) -> Trace:
    """The trace that is running. Raises OutsideBodyError."""
    trace = _current.get()
    if trace is None:
        raise OutsideBodyError(what=what, at=user_location())
    return trace


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Makes ``trace`` the current one."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def resolve_dtype(dtype: str | DType) -> DType:
    """A type name, a type variable of the running trace, or a DType. Raises UnknownNameError."""
    if isinstance(dtype, DType):
        return dtype
    trace = _current.get()
    variables = trace.signature.types if trace is not None else {}
    found = variables.get(dtype) or dtype_named(dtype) if isinstance(dtype, str) else None
    if found is None:
        choices = did_you_mean(str(dtype), [*variables, *(d.value for d in DType)])
        raise UnknownNameError(kind="type", name=dtype, choices=choices, at=user_location())
    return found


@dataclass(slots=True, eq=False)
class Draft:
    """A definition in the making. ``slots`` has one func per component; None until ``v[i], a[i] = ...`` names it."""

    slots: list[Func | None]
    axes: tuple[Axis, ...]
    top: Top
    parent: str
    location: Location | None


@dataclass(slots=True, eq=False)
class Pending:
    """A reduction or scan written somewhere in an expression, where its components are stood in for by ``variables``.

    ``named`` is its definition by the body, ``automatic`` the one made because an expression contains it.
    """

    top: Reduce | Scan
    weak: bool
    variables: tuple[Var, ...]
    location: Location | None
    named: Draft | None = None
    automatic: Draft | None = None


@dataclass(slots=True, eq=False)
class Trace:
    """The state of one run of a body."""

    name: str
    signature: BoundSignature
    handles: dict[str, Handle] = field(default_factory=dict)
    axes: dict[str, Axis] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    pending: dict[str, Pending] = field(default_factory=dict)
    undefined: dict[str, tuple[FuncHandle, Location]] = field(default_factory=dict)
    automatic: dict[str, int] = field(default_factory=dict)

    # Names.

    def add_axis(self, name: str, extent: IntExpr, ragged: Ragged | None = None) -> Value:
        """A new axis; its name must differ from dims and scalars, because analyses share one name space for symbols."""
        self.check_name("axis", name)
        taken = {name: "a dim and an axis" for name in self.signature.dim_names()}
        taken |= {param.name: "a scalar and an axis" for param in self.signature.params if isinstance(param, Scalar)}
        taken |= dict.fromkeys(self.axes, "two axes")
        if name in taken:
            raise DuplicateNameError(name=name, uses=taken[name], at=user_location())
        axis = Axis(name, extent, ragged)
        self.axes[name] = axis
        return Value(AxisRef(axis))

    def add_func(self, name: str, dtype: DType | None) -> FuncHandle:
        """A new func, still undefined."""
        self.check_name("func", name)
        if name in self.handles or any(name == param.name for param in self.signature.params):
            raise DuplicateNameError(name=name, uses="a func and another func or argument", at=user_location())
        if dtype in (DType.I4, DType.U4):
            raise CastError(found="a func", dtype=dtype, fix="packed types come later; i8 or u8", at=user_location())
        handle = FuncHandle(name, dtype, None, user_location())
        self.handles[name] = handle
        return handle

    def check_name(self, kind: str, name: object) -> None:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise BadNameError(kind=kind, name=name, problem="is not a plain name", at=user_location())
        if name == "part":
            raise BadNameError(kind=kind, name=name, problem="is reserved for split reductions", at=user_location())

    # Reads and reductions.

    def undefined_read(self, handle: FuncHandle, at: Location) -> Var:
        """A stand-in for a read of a func without definition; the definition that contains it reports the mistake."""
        variable = Var(f"undefined#{len(self.undefined)}", handle.declared or DType.F32)
        self.undefined[variable.name] = (handle, at)
        return variable

    def add_reduction(
        self,
        op: ReduceOp | Monoid | Ranking,
        exprs: tuple[Expr, ...],
        axes: tuple[Axis, ...],
        where: Expr | None,
        weak: bool = False,
    ) -> tuple[Value, ...]:
        """Values that stand for the components of a reduction until a definition uses them. The points of a ragged
        axis are those of its group: part of ``where``."""
        for axis in axes:
            if axis.ragged is not None:
                bounds = Op(OpName.AND, group_conditions(axis), DType.BOOL)
                where = bounds if where is None else Op(OpName.AND, (bounds, where), DType.BOOL)
        return self.add_pending(Reduce(op, exprs, axes, where), weak)

    def add_pending(self, top: Reduce | Scan, weak: bool) -> tuple[Value, ...]:
        """Values that stand for the components of ``top`` until a definition uses them."""
        number = len(self.pending)
        variables = tuple(Var(f"reduce#{number}.{k}", expr.dtype) for k, expr in enumerate(components(top)))
        pending = Pending(top, weak, variables, user_location())
        for variable in variables:
            self.pending[variable.name] = pending
        return tuple(Value(variable) for variable in variables)

    # Definitions.

    def define(self, handle: Handle, index: object, right: object) -> None:
        """``handle[index] = right``. Raises the TX015x, TX016x and TX017x errors."""
        at = user_location()
        if isinstance(handle, TensorHandle) or not isinstance(handle, FuncHandle):
            raise InputWriteError(name=handle.name, at=at)
        if handle.func is not None:
            raise DefinedTwiceError(name=handle.name, first=handle.func.location, at=at)
        axes = self.left_axes(handle, index, at)
        value = coerce(right, f"{handle.name}[...] =")
        pending = self.pending.get(value.expr.name) if isinstance(value.expr, Var) else None
        if pending is not None and self.define_reduction(handle, axes, value, pending, at):
            return
        if value.weak:
            value = retype(value, handle.declared) if handle.declared is not None else strong(value)
        expr = self.resolve(value.expr, handle, axes, at)
        self.check_axes(handle.name, (expr,), with_groups(axes), at)
        func = self.new_func(handle, axes, expr.dtype, at)
        self.finish_draft(Draft([func], axes, (expr,), handle.name, at))
        handle.func = func

    def define_reduction(
        self, handle: FuncHandle, axes: tuple[Axis, ...], value: Value, pending: Pending, at: Location
    ) -> bool:
        """``handle[axes] = te.sum(...)``, or one component of a tuple. False if the component was computed before."""
        assert isinstance(value.expr, Var)
        component = pending.variables.index(value.expr)
        draft = pending.named
        if pending.automatic is not None or (draft is not None and draft.slots[component] is not None):
            return False
        if draft is None:
            top = self.resolve_top(pending, handle, axes, at)
            if pending.weak and handle.declared is not None:
                (number,) = top.exprs
                top = replace(top, exprs=(retype(Value(number), handle.declared.compute).expr,))
            if isinstance(top, Reduce):
                self.check_reduction_axes(handle.name, top, axes, at)
            else:
                self.check_scan_axis(handle.name, top, axes, at)
            draft = Draft([None] * len(components(top)), axes, top, handle.name, at)
            self.finish_draft(draft)
            pending.named = draft
        elif draft.axes != axes:
            first = next(slot.name for slot in draft.slots if slot is not None)
            raise TupleDefinitionError(name=handle.name, first=first, at=at)
        found = components(draft.top)[component].dtype
        handle.func = self.new_func(handle, axes, found, at, position=_is_position(draft.top, component))
        draft.slots[component] = handle.func
        return True

    def check_reduction_axes(self, name: str, reduce: Reduce, axes: tuple[Axis, ...], at: Location) -> None:
        for axis in reduce.axes:
            if axis in axes:
                fix = f"reduce over a second axis of the same extent, or drop {axis.name} from {name}[...]"
                problem = f"it is also on the left of {name}"
                raise ReductionAxisError(op=_op_text(reduce.op), axis=axis.name, problem=problem, fix=fix, at=at)
        if isinstance(reduce.op, Ranking) and reduce.op.into not in axes:
            raise FreeAxisError(axis=reduce.op.into.name, name=name, at=at)
        self.check_axes(name, top_exprs(reduce), (*with_groups(axes), *reduce.axes), at)

    def check_scan_axis(self, name: str, scan: Scan, axes: tuple[Axis, ...], at: Location) -> None:
        user = scan.op if isinstance(scan.op, TileOp) else None
        if scan.axis not in axes:
            left = ", ".join(axis.name for axis in (*axes, scan.axis))
            op, value = ("te.scan", "for every prefix") if user is None else (user.name, "at every point of the line")
            fix = f"{name}[{left}] = {op}(...)"
            problem = f"it is not on the left of {name}, which has a value {value}"
            raise ReductionAxisError(op=op, axis=scan.axis.name, problem=problem, fix=fix, at=at)
        if user is not None:
            check_operands(user, scan.exprs, scan.axis, at)
        self.check_axes(name, top_exprs(scan), axes, at)

    def left_axes(self, handle: FuncHandle, index: object, at: Location) -> tuple[Axis, ...]:
        """The distinct axes on the left; for an output, with the extents of its dims."""
        tensor = handle.tensor
        if tensor is not None:
            parts = flatten_index(handle, index, tensor.groups)
        else:
            parts = index if isinstance(index, tuple) else (index,)
        axes: list[Axis] = []
        for position, part in enumerate(parts):
            axis = axis_of(part)
            if axis is None:
                found = (
                    f"{part!r}"
                    if isinstance(part, (int, str, slice))
                    else "an expression"
                    if isinstance(part, Value)
                    else f"a {type(part).__name__}"
                )
                raise LeftIndexError(position=position, name=handle.name, found=found, at=at)
            if axis in axes:
                raise RepeatedAxisError(axis=axis.name, name=handle.name, at=at)
            axes.append(axis)
        for axis in axes:
            if axis.ragged is not None and axis.ragged.group in axes:
                group = axis.ragged.group.name
                problem = f"its group {group} is on the left of {handle.name} as well; each {axis.name} has one {group}"
                hint = f"{handle.name}[...] without {group}"
                raise RaggedAxisError(axis=axis.name, problem=problem, hint=hint, at=at)
        if tensor is not None:
            derived = {dim.name: dim.value for dim in self.signature.dims if dim.value is not None}
            for position, (axis, extent) in enumerate(zip(axes, tensor.extents, strict=True)):
                if substitute(axis.extent, derived) is not substitute(extent, derived):
                    raise ExtentMismatchError(
                        axis=axis.name, extent=axis.extent, position=position, name=tensor.name, dim=extent, at=at
                    )
        return tuple(axes)

    def new_func(
        self, handle: FuncHandle, axes: tuple[Axis, ...], found: DType, at: Location, position: bool = False
    ) -> Func:
        dtype = handle.declared or found.compute
        convertible = (
            found is dtype
            or (found.is_float and dtype.is_float)
            or (found.is_int and dtype.is_int and (position or holds(dtype, found)))
        )
        if not convertible:
            raise DefinitionTypeError(name=handle.name, dtype=dtype, found=found, at=at)
        return Func(handle.name, dtype, axes, handle.tensor, False, at)

    def check_axes(self, name: str, exprs: tuple[Expr, ...], allowed: tuple[Axis, ...], at: Location) -> None:
        for axis in axes_in(exprs):
            if axis not in allowed:
                raise FreeAxisError(axis=axis.name, name=name, at=at)

    def finish_draft(self, draft: Draft) -> None:
        """Checks the reads of a definition and appends it."""
        where = draft.top.where if isinstance(draft.top, Reduce) else None
        check_reads(top_exprs(draft.top), where, self.domain(draft))
        self.check_counted(draft)
        self.drafts.append(draft)

    def check_counted(self, draft: Draft) -> None:
        """What runs over a dim that the device counts comes after the definition of the count."""
        pending = [
            count
            for count in self.signature.counts
            if (handle := self.handles.get(count.source)) is not None
            and isinstance(handle, FuncHandle)
            and handle.func is None
        ]
        over = draft.top.axes if isinstance(draft.top, Reduce) else ()
        used = {name for axis in (*draft.axes, *over) for name in free_symbols(axis.extent)}
        nodes = (node for root in top_exprs(draft.top) for node in walk(root))
        used |= {name for node in nodes if isinstance(node, DimRef) for name in free_symbols(node.value)}
        for count in pending:
            if count.name in used:
                problem = f"{draft.parent} needs it before {count.source} is defined"
                hint = f"define {count.source} first"
                raise DeviceDimError(name=count.name, problem=problem, hint=hint, at=draft.location)

    def domain(self, draft: Draft) -> Domain:
        over = draft.top.axes if isinstance(draft.top, Reduce) else ()
        over = draft.top.call.over if isinstance(draft.top, Extern) else over
        derived = {dim.name: dim.value for dim in self.signature.dims if dim.value is not None}
        counted = [
            fact
            for count in self.signature.counts
            for fact in (ge(sym(count.name), 0), le(sym(count.name), count.room))
        ]
        facts = (*self.signature.facts, *counted)
        return Domain((*with_groups(draft.axes), *over), facts, derived, draft.location)

    # Stand-ins become reads.

    def resolve(self, expr: Expr, handle: FuncHandle, axes: tuple[Axis, ...], at: Location) -> Expr:
        """``expr`` with reductions below the top replaced by reads of automatic funcs."""
        memo: dict[int, Expr] = {}

        def change(node: Expr) -> Expr:
            if id(node) not in memo:
                if isinstance(node, Var):
                    memo[id(node)] = self.resolve_variable(node, handle, axes, at)
                else:
                    memo[id(node)] = map_children(node, change)
            return memo[id(node)]

        return change(expr)

    def resolve_variable(self, variable: Var, handle: FuncHandle, axes: tuple[Axis, ...], at: Location) -> Expr:
        if variable.name in self.undefined:
            source, where = self.undefined[variable.name]
            if source is handle:
                raise SelfReadError(name=source.name, at=where)
            raise ReadBeforeDefinitionError(name=source.name, at=where)
        pending = self.pending.get(variable.name)
        if pending is None:
            return variable
        component = pending.variables.index(variable)
        draft = self.computed(pending, component, handle, axes, at)
        func = draft.slots[component]
        assert func is not None
        return Read(func, tuple(AxisRef(axis) for axis in draft.axes), location=at)

    def computed(
        self, pending: Pending, component: int, handle: FuncHandle, axes: tuple[Axis, ...], at: Location
    ) -> Draft:
        """A definition that holds a component of a reduction, unrounded and over just the axes that it depends on:
        the body's own, or else an automatic one."""
        named = pending.named
        if named is not None and set(named.axes) == set(_free_axes(named.top)):
            if named.slots[component] is None:
                self.fill_slots(named)
            func = named.slots[component]
            if func is not None and func.dtype is pending.variables[component].dtype:
                return named
        if pending.automatic is None:
            top = self.resolve_top(pending, handle, axes, at)
            if isinstance(top, Scan) and isinstance(top.op, TileOp):
                check_operands(top.op, top.exprs, top.axis, at)
            used = _free_axes(top)
            ordered = dict.fromkeys(axis for axis in (*axes, *self.axes.values()) if axis in used)
            draft = Draft([None] * len(components(top)), tuple(ordered), top, handle.name, pending.location)
            self.fill_slots(draft)
            self.finish_draft(draft)
            pending.automatic = draft
        return pending.automatic

    def resolve_top(
        self, pending: Pending, handle: FuncHandle, axes: tuple[Axis, ...], at: Location
    ) -> Reduce | Scan:
        top = pending.top
        exprs = tuple(self.resolve(expr, handle, axes, at) for expr in top.exprs)
        condition = top.where if isinstance(top, Reduce) else top.reset
        resolved = None if condition is None else self.resolve(condition, handle, axes, at)
        if isinstance(top, Reduce):
            return replace(top, exprs=exprs, where=resolved)
        return replace(top, exprs=exprs, reset=resolved)

    def fill_slots(self, draft: Draft) -> None:
        """Names the components that the body did not name: ``<parent>.r1``."""
        for component, slot in enumerate(draft.slots):
            if slot is None:
                number = self.automatic.get(draft.parent, 0) + 1
                self.automatic[draft.parent] = number
                dtype = components(draft.top)[component].dtype
                draft.slots[component] = Func(
                    f"{draft.parent}.r{number}", dtype, draft.axes, None, True, draft.location
                )

    # The end.

    def finish(self) -> tuple[Def, ...]:
        """The definitions in order. Raises OutputUndefinedError and NeverDefinedError."""
        for handle in self.handles.values():
            if isinstance(handle, FuncHandle) and handle.func is None:
                if handle.tensor is not None:
                    raise OutputUndefinedError(
                        name=handle.name, axes=", ".join(f"<{dim}>" for dim in handle.tensor.shape)
                    )
                raise NeverDefinedError(name=handle.name, at=handle.location)
        for draft in self.drafts:
            if None in draft.slots:
                self.fill_slots(draft)
        return tuple(
            Def(tuple(slot for slot in draft.slots if slot is not None), draft.axes, draft.top, draft.location)
            for draft in self.drafts
        )


def start_trace(name: str, signature: BoundSignature) -> Trace:
    """A trace with handles for every tensor argument."""
    trace = Trace(name, signature)
    for param in signature.params:
        if isinstance(param, Tensor):
            output = param.role is Role.OUTPUT
            trace.handles[param.name] = (
                FuncHandle(param.name, param.dtype, param, param.location) if output else TensorHandle(param)
            )
    return trace


def axes_in(exprs: tuple[Expr, ...]) -> list[Axis]:
    """The axes that ``exprs`` mention, in order of appearance."""
    found: dict[Axis, None] = {}
    for expr in exprs:
        for node in walk(expr):
            if isinstance(node, AxisRef):
                found[node.axis] = None
    return list(found)


def check_operands(op: TileOp, exprs: tuple[Expr, ...], line: Axis, at: Location) -> None:
    """Operands of a user's function that have no line do not vary along it, and those without rows along nothing else.
    Raises GluonOpError."""
    for operand, expr in zip(op.operands, exprs, strict=True):
        for axis in axes_in((expr,)):
            if operand.line if axis is line else operand.rows:
                continue
            problem = f"has one {operand.name} {'per line' if axis is line else 'for all rows'}, and is given a value"
            problem += f" that varies along {axis.name}"
            hint = f"a value without {axis.name}"
            raise GluonOpError(name=op.name, problem=problem, signature="", hint=hint, at=at)


def _free_axes(top: Top) -> list[Axis]:
    """The axes that a definition's values vary along."""
    bound = top.axes if isinstance(top, Reduce) else ()
    made = [top.op.into] if isinstance(top, Reduce) and isinstance(top.op, Ranking) else []
    made += [top.axis] if isinstance(top, Scan) else []
    free = [axis for axis in dict.fromkeys((*axes_in(top_exprs(top)), *made)) if axis not in bound]
    determined = {axis.ragged.group for axis in free if axis.ragged is not None}
    return [axis for axis in free if axis not in determined]


def _is_position(top: Top, component: int) -> bool:
    """Whether a component is a position: it converts to any integer type."""
    return isinstance(top, Reduce) and has_position(top.op) and component == 1


def _op_text(op: ReduceOp | Monoid | Ranking) -> str:
    if isinstance(op, Monoid):
        return op.name
    return f"te.{op.name}" if isinstance(op, Ranking) else f"te.{op.value}"
