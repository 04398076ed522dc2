"""What a body receives for tensors and funcs: things to index, never values by themselves."""

from __future__ import annotations

from typing import Any, NoReturn

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang import ir
from texpr.lang.errors import (
    BareTensorError,
    BoundaryError,
    HintReadError,
    IndexTypeError,
    NotIterableError,
    OptionalReadError,
    RankError,
    user_location,
)
from texpr.lang.ir import NO_BOUNDARY, Boundary, BoundaryMode, Const, Expr, Present, Read, Select, Tensor
from texpr.lang.packed import PACKED_TYPES, packed_read
from texpr.lang.value import Number, Value, cast, coerce, computed, literal, retype, unify


class Handle:
    """A tensor argument or a func: ``handle[i, j]`` reads it; on the left of ``=`` it defines a func or an output."""

    def __init__(self, name: str, tensor: Tensor | None) -> None:
        self.name = name
        self.tensor = tensor

    def __getitem__(self, index: object) -> Value:
        return read(self, index, NO_BOUNDARY)

    def __setitem__(self, index: object, value: object) -> None:
        from texpr.lang.trace import current_trace

        current_trace(f"{self.name}[...] =").define(self, index, value)

    def get(self, index: object, default: object) -> Value:
        """The element, or ``default`` where the optional tensor was not passed."""
        return read(self, index, NO_BOUNDARY, default)

    def padded(self, value: Number) -> View:
        """Reads outside the tensor yield ``value``."""
        return View(self, BoundaryMode.FILL, value)

    def clamped(self) -> View:
        """Reads outside the tensor yield the nearest element."""
        return View(self, BoundaryMode.CLAMP)

    def wrapped(self) -> View:
        """Indices are taken modulo the extent."""
        return View(self, BoundaryMode.WRAP)

    def mirrored(self) -> View:
        """Indices reflect at the edge elements, which are not repeated: -1 reads 1."""
        return View(self, BoundaryMode.MIRROR)

    def explain_bare_use(self, *ignored: object) -> NoReturn:
        """Raises the error for arithmetic on a tensor without indices."""
        raise BareTensorError(name=self.name, at=user_location())

    def __iter__(self) -> NoReturn:
        raise NotIterableError(what=self.name, at=user_location())

    def __hash__(self) -> int:
        return id(self)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = explain_bare_use
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __and__ = __rand__ = explain_bare_use
    __or__ = __ror__ = __xor__ = __rxor__ = __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = explain_bare_use
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __pos__ = __abs__ = __invert__ = __bool__ = explain_bare_use
    __eq__ = __ne__ = explain_bare_use


class TensorHandle(Handle):
    """An input."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.name, tensor)
        self.source = tensor

    @property
    def dtype(self) -> DType:
        """The type of the values that reads give: 8 bits for packed elements."""
        element = self.source.element
        return self.source.dtype if element is None else PACKED_TYPES[element]


class FuncHandle(Handle):
    """A func or an output. ``declared`` is the dtype that the user gave; ``func`` is set by its definition."""

    def __init__(self, name: str, declared: DType | None, tensor: Tensor | None, location: Location | None) -> None:
        super().__init__(name, tensor)
        self.declared = declared
        self.location = location
        self.func: ir.Func | None = None

    @property
    def dtype(self) -> DType | None:
        """The element type, or None before the definition of a func that has no declared one."""
        return self.func.dtype if self.func is not None else self.declared


class View:
    """A tensor or func with a boundary: index it."""

    def __init__(self, handle: Handle, mode: BoundaryMode, fill: Number = 0) -> None:
        self.handle = handle
        self.mode = mode
        self.fill = fill

    def __getitem__(self, index: object) -> Value:
        return read(self.handle, index, self.boundary())

    def get(self, index: object, default: object) -> Value:
        """As :meth:`Handle.get`, with this boundary."""
        return read(self.handle, index, self.boundary(), default)

    def boundary(self) -> Boundary:
        if self.mode is not BoundaryMode.FILL:
            return Boundary(self.mode)
        dtype = getattr(self.handle, "dtype", None)
        if not isinstance(self.fill, (int, float)):
            raise BoundaryError(
                name=f"{self.handle.name}.padded",
                problem=f"takes a Python number, got {self.fill!r}",
                at=user_location(),
            )
        if not isinstance(dtype, DType):
            return Boundary(self.mode, self.fill)
        return Boundary(self.mode, literal(self.fill, dtype).value)

    def explain_bare_use(self, *ignored: object) -> NoReturn:
        """Raises the error for arithmetic on a view without indices."""
        self.handle.explain_bare_use()


_MISSING: Any = object()


def read(handle: Handle, index: object, boundary: Boundary, default: object = _MISSING) -> Value:
    """The read expression; checks rank, index types and optionality."""
    from texpr.lang.trace import current_trace

    trace = current_trace(f"{handle.name}[...]")
    at = user_location()
    if isinstance(handle, TensorHandle):
        if handle.source.hint:
            raise HintReadError(name=handle.name, at=at)
        _check_optional(handle, index, default, at)
        indices = index_exprs(handle, index, handle.source.groups)
        if handle.source.packed is not None:
            return Value(packed_read(handle.source, indices, boundary, at))
        if default is _MISSING:
            return Value(Read(handle.source, indices, boundary, None, at))
        return _read_optional(handle.source, indices, boundary, default, at)
    assert isinstance(handle, FuncHandle)
    if default is not _MISSING:
        raise OptionalReadError(
            name=handle.name,
            problem="is not optional: .get is for inputs marked '?'",
            hint=f"{handle.name}[...]",
            at=at,
        )
    if handle.func is None:
        return Value(trace.undefined_read(handle, at))
    groups = handle.tensor.groups if handle.tensor is not None else (1,) * len(handle.func.axes)
    return Value(Read(handle.func, index_exprs(handle, index, groups), boundary, None, at))


def _check_optional(handle: TensorHandle, index: object, default: object, at: Location) -> None:
    if handle.source.optional and default is _MISSING:
        raise OptionalReadError(
            name=handle.name, problem="is optional and needs a default for when it is absent", index="...", at=at
        )
    if not handle.source.optional and default is not _MISSING:
        raise OptionalReadError(
            name=handle.name,
            problem="is not optional: .get is for inputs marked '?'",
            hint=f"{handle.name}[...]",
            at=at,
        )


def _read_optional(
    tensor: Tensor, indices: tuple[Expr, ...], boundary: Boundary, default: object, at: Location
) -> Value:
    """A default of the tensor's own type becomes ``Read.absent``; any other one, such as 0.1 for f16, a select around
    the read."""
    value = coerce(default, f"{tensor.name}.get")
    if value.weak:
        number = value.expr.value if isinstance(value.expr, Const) else None
        if number is not None and literal(number, tensor.dtype).value == literal(number, tensor.dtype.compute).value:
            value = retype(value, tensor.dtype)
    if value.dtype is tensor.dtype and not value.weak:
        return Value(Read(tensor, indices, boundary, value.expr, at))
    zero = Const(False if tensor.dtype is DType.BOOL else 0 if tensor.dtype.is_int else 0.0, tensor.dtype)
    then, otherwise = unify(f"{tensor.name}.get", computed(Value(Read(tensor, indices, boundary, zero, at))), value)
    return Value(Select(Present(tensor), then.expr, otherwise.expr))


def index_exprs(handle: Handle, index: object, groups: tuple[int, ...]) -> tuple[Expr, ...]:
    """One integer expression per logical dim."""
    parts = flatten_index(handle, index, groups)
    return tuple(_index_expr(handle, position, part) for position, part in enumerate(parts))


def flatten_index(handle: Handle, index: object, groups: tuple[int, ...]) -> tuple[object, ...]:
    """``q[b, (g, r), i]`` as its logical indices. Raises RankError when the nesting is not that of the storage dims
    ``groups``."""
    parts: tuple[object, ...] = index if isinstance(index, tuple) else (index,)
    if len(groups) == 1 and groups[0] > 1 and not (len(parts) == 1 and isinstance(parts[0], tuple)):
        parts = (parts,)  # Python cannot tell bias[(q, j)] from bias[q, j]
    if len(parts) != len(groups):
        raise RankError(
            name=handle.name,
            expected=_rank_text(groups),
            found=len(parts),
            hint=_index_hint(handle, groups),
            at=user_location(),
        )
    flat: list[object] = []
    for part, width in zip(parts, groups, strict=True):
        inner = part if isinstance(part, tuple) else (part,)
        if len(inner) != width or (width == 1 and isinstance(part, tuple)):
            found = f"{part!r}" if not isinstance(part, tuple) else f"a tuple of {len(part)}"
            hint = _index_hint(handle, groups)
            raise RankError(
                name=handle.name,
                expected=_rank_text(groups),
                found=f"{found} for one of them",
                hint=hint,
                at=user_location(),
            )
        flat.extend(inner)
    return tuple(flat)


def _rank_text(groups: tuple[int, ...]) -> str:
    composite = [width for width in groups if width > 1]
    text = f"{len(groups)} dim{'s' if len(groups) != 1 else ''}"
    return f"{text} (composite ones take a tuple of {composite[0]})" if composite else text


def _index_hint(handle: Handle, groups: tuple[int, ...]) -> str:
    parts = ["(" + ", ".join(["."] * width) + ")" if width > 1 else "." for width in groups]
    return f"{handle.name}[{', '.join(parts) or '()'}]"


def _index_expr(handle: Handle, position: int, part: object) -> Expr:
    if isinstance(part, bool) or not isinstance(part, (int, Value)):
        found = "a slice" if isinstance(part, slice) else f"a {type(part).__name__}"
        raise IndexTypeError(position=position, name=handle.name, found=found, at=user_location())
    if isinstance(part, int):
        return Const(part, ir.INDEX)
    if not part.dtype.is_int:
        raise IndexTypeError(position=position, name=handle.name, found=part.dtype, at=user_location())
    return cast(part, ir.INDEX).expr if part.weak else part.expr
