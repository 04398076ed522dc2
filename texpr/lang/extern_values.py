"""What a user's kernel computes: its reference on whole arrays, and how near the kernel comes to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from texpr.lang.arrays import Array, value_dtype
from texpr.lang.bound_expr import Analysis
from texpr.lang.bounded import EXACT, NO_DOUBT, Bounded
from texpr.lang.errors import ReferenceResultError
from texpr.lang.evaluate import State
from texpr.lang.ir import Axis, Expr, Extern, Read, ScalarRef
from texpr.lang.promise import results_with_bounds
from texpr.lang.user_code import ExternCall


def extern_values(top: Extern, axes: tuple[Axis, ...], state: State) -> Array:
    """The result that ``top`` is, over all points of ``axes``. Raises ReferenceResultError."""
    result = _results(top.call, state)[top.component]
    shape = tuple(state.extent(axis) for axis in axes)
    if result.shape != shape:
        name = top.call.results[top.component]
        what, found = f"extern {top.call.name}", f"{name} of shape {list(result.shape)}"
        raise ReferenceResultError(what=what, found=found, expected=f"{name} of shape {list(shape)}")
    return result


def extern_bounds(top: Extern, axes: tuple[Axis, ...], analysis: Analysis) -> Bounded:
    """The same with its bounds. Raises UndeclaredErrorError where the declared error says nothing of the operands."""
    call, component = top.call, top.component
    operands = []
    for expr in call.operands:
        value = _operand(expr, analysis.state)
        source = expr.source if isinstance(expr, Read) else None
        bound = EXACT if source is None else analysis.bounds.get(source, EXACT)
        doubt = NO_DOUBT if source is None else analysis.doubts.get(source, NO_DOUBT)
        operands.append(Bounded(value, bound, doubt))
    value = extern_values(top, axes, analysis.state)
    values = [value if n == component else one for n, one in enumerate(_results(call, analysis.state))]
    doubt = np.asarray(any(bool(operand.ambiguous.any()) for operand in operands))
    what = f"extern {call.name}"
    doubts = [doubt] * len(values)
    return results_with_bounds(what, call.promise, call.names, operands, values, call.dtypes, doubts)[component]


def _results(call: ExternCall, state: State) -> tuple[Array, ...]:
    """What the reference returns, in the types of the results."""
    operands = [np.array(_operand(expr, state)) for expr in call.operands]  # copies: it may write to them
    with np.errstate(all="ignore"):
        said: Any = call.reference(*operands, **dict(call.statics))
    results = said if isinstance(said, tuple) else (said,)
    what = f"extern {call.name}"
    count = len(call.results)
    if len(results) != count:
        raise ReferenceResultError(what=what, found=f"{len(results)} arrays", expected=f"a tuple of {count} arrays")
    found = []
    for name, dtype, result in zip(call.results, call.dtypes, results, strict=True):
        array = np.asarray(result)
        if dtype.is_int and array.dtype.kind == "f":
            raise ReferenceResultError(what=what, found=f"{name} as {array.dtype}", expected=f"{name} as integers")
        found.append(array.astype(value_dtype(dtype)))
    return tuple(found)


def _operand(operand: Expr, state: State) -> Array:
    """The whole array, or the scalar, that the kernel is given."""
    match operand:
        case Read(source=source):
            return state.arrays[source]
        case ScalarRef(scalar=scalar):
            return state.scalars[scalar]
        case _:
            raise AssertionError(f"{operand} is no operand of a whole kernel")
