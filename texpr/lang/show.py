"""Expressions as the user would write them: for messages, loop nests and symbol names."""

from __future__ import annotations

import struct
from typing import Final, assert_never

from texpr.dtypes import DType
from texpr.lang.ir import (
    AxisRef,
    BoundaryMode,
    Cast,
    Const,
    Def,
    DimRef,
    Expr,
    Extern,
    Func,
    Op,
    OpName,
    Present,
    Ptx,
    Ranking,
    Read,
    Reduce,
    ReduceOp,
    ScalarRef,
    Scan,
    Select,
    Tensor,
    Top,
    Var,
    has_position,
)
from texpr.lang.user_code import TileOp

# Python's precedences.
_PRECEDENCE: Final = {
    OpName.OR: 2, OpName.XOR: 3, OpName.AND: 4, OpName.SHL: 5, OpName.SHR: 5, OpName.ADD: 6, OpName.SUB: 6,
    OpName.MUL: 7, OpName.DIV: 7, OpName.FLOORDIV: 7, OpName.MOD: 7, OpName.POW: 9,
    OpName.LT: 1, OpName.LE: 1, OpName.GT: 1, OpName.GE: 1, OpName.EQ: 1, OpName.NE: 1,
}  # fmt: skip
_UNARY: Final = {OpName.NEG: "-", OpName.NOT: "~"}
_ATOM: Final = 10

_VIEW: Final = {BoundaryMode.CLAMP: "clamped", BoundaryMode.WRAP: "wrapped", BoundaryMode.MIRROR: "mirrored"}


def expr_text(expr: Expr) -> str:
    """One line of Python-like text. Equal text means equal value for integer expressions without ``Ptx`` and
    ``Var``."""
    return _text(expr)[0]


def _text(expr: Expr) -> tuple[str, int]:
    match expr:
        case Const(value=value):
            return _number(value), _ATOM if isinstance(value, bool) or value >= 0 or value != value else 8
        case ScalarRef(scalar=scalar):
            return scalar.name, _ATOM
        case AxisRef(axis=axis):
            return axis.name, _ATOM
        case DimRef(value=value, name=name):
            text = name or str(value)
            return text, _ATOM if name or text.isidentifier() else 6
        case Read():
            return _read_text(expr), _ATOM
        case Op(name=name, args=args):
            return _op_text(name, args)
        case Select(condition=condition, then=then, otherwise=otherwise):
            return f"where({expr_text(condition)}, {expr_text(then)}, {expr_text(otherwise)})", _ATOM
        case Cast(value=value, dtype=dtype):
            if dtype is DType.I64 and isinstance(value, Read | ScalarRef) and value.dtype.is_int:
                return _text(value)  # the silent widening of an index
            return f"{_enclosed(value, _ATOM)}.to('{dtype}')", _ATOM
        case Ptx(template=template, args=args, dtypes=dtypes, component=component):
            picked = f"[{component}]" if len(dtypes) > 1 else ""
            return f"ptx({', '.join([repr(template), *map(expr_text, args)])}){picked}", _ATOM
        case Present(tensor=tensor):
            return f"present({tensor.name})", _ATOM
        case Var(name=name):
            return name, _ATOM
        case _:
            assert_never(expr)


def _enclosed(expr: Expr, at_least: int) -> str:
    text, precedence = _text(expr)
    return text if precedence >= at_least else f"({text})"


def _op_text(name: OpName, args: tuple[Expr, ...]) -> tuple[str, int]:
    if name in _PRECEDENCE:
        precedence = _PRECEDENCE[name]
        left, right = _enclosed(args[0], precedence), _enclosed(args[1], precedence + 1)
        return f"{left} {name.value} {right}", precedence
    if name in _UNARY:
        return f"{_UNARY[name]}{_enclosed(args[0], 8)}", 8
    return f"{name.value}({', '.join(expr_text(arg) for arg in args)})", _ATOM


def _number(value: int | float | bool) -> str:
    if isinstance(value, float) and value == value and abs(value) < 1e38:
        return _shortest_f32(value)
    return repr(value)


def _shortest_f32(value: float) -> str:
    """The shortest decimal that rounds to ``value`` in f32, if ``value`` is an f32 number; else ``repr``."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == value:
            return repr(float(text))
    return repr(value)


def _read_text(read: Read) -> str:
    source = read.source
    name = source.name
    boundary = read.boundary
    if boundary.mode is BoundaryMode.FILL:
        name += f".padded({_number(boundary.fill)})"
    elif boundary.mode in _VIEW:
        name += f".{_VIEW[boundary.mode]}()"
    index = index_text(source, read.indices)
    if read.absent is None:
        return f"{name}[{index}]"
    key = index if len(read.indices) == 1 else f"({index})"
    return f"{name}.get({key}, {expr_text(read.absent)})"


def index_text(source: Tensor | Func, indices: tuple[Expr, ...]) -> str:
    """``b, (g, r), i``: one entry per storage dim. An output that a schedule iterates over other axes than its own has
    one entry per axis."""
    tensor = source if isinstance(source, Tensor) else source.output
    own = tensor is not None and tensor.rank == len(indices)
    groups = tensor.groups if tensor is not None and own else (1,) * len(indices)
    parts: list[str] = []
    start = 0
    for width in groups:
        texts = [expr_text(index) for index in indices[start : start + width]]
        parts.append(texts[0] if width == 1 else f"({', '.join(texts)})")
        start += width
    return ", ".join(parts) or "()"


def def_text(definition: Def) -> str:
    """``acc[i, j] = sum(x[i, k] * w[k, j], over=k)``, one line."""
    lefts = []
    for func in definition.funcs:
        axes = tuple(AxisRef(axis) for axis in func.axes)
        lefts.append(f"{func.name}[{index_text(func, axes)}]")
    return f"{', '.join(lefts)} = {top_text(definition.top)}"


def top_text(top: Top) -> str:
    """The right-hand side of a definition."""
    if isinstance(top, Extern):
        return _extern_text(top)
    if isinstance(top, Scan):
        return _scan_text(top)
    if not isinstance(top, Reduce):
        return ", ".join(expr_text(expr) for expr in top)
    name = top.op.value if isinstance(top.op, ReduceOp) else top.op.name
    shown = top.exprs[:1] if has_position(top.op) else top.exprs
    value = ", ".join(expr_text(expr) for expr in shown)
    over = ", ".join(axis.name for axis in top.axes)
    where = f", into={top.op.into.name}" if isinstance(top.op, Ranking) else ""
    where += f", where={expr_text(top.where)}" if top.where is not None else ""
    value = value if len(shown) == 1 else f"({value})"
    return f"{name}({value}, over={over if len(top.axes) == 1 else f'({over})'}{where})"


def _extern_text(top: Extern) -> str:
    call = top.call
    given = [expr.source.name if isinstance(expr, Read) else expr_text(expr) for expr in call.operands]
    given += [f"{name}={value}" for name, value in call.statics]
    picked = f".{call.results[top.component]}" if len(call.results) > 1 else ""
    return f"{call.name}({', '.join(given)}){picked}"


def _scan_text(scan: Scan) -> str:
    name = scan.op.value if isinstance(scan.op, ReduceOp) else scan.op.name
    values = ", ".join(expr_text(expr) for expr in scan.exprs)
    if isinstance(scan.op, TileOp):
        statics = "".join(f", {static}={value}" for static, value in scan.op.statics)
        return f"{name}({values}, along={scan.axis.name}{statics})"
    parts = [name, values if len(scan.exprs) == 1 else f"({values})", f"along={scan.axis.name}"]
    parts += ["exclusive"] if scan.exclusive else []
    parts += ["reverse"] if scan.reverse else []
    parts += [] if scan.reset is None else [f"reset={expr_text(scan.reset)}"]
    parts += [f"every={scan.every}"] if scan.every else []
    return f"scan({', '.join(parts)})"
