"""``te.scan``: a reduction of every prefix along one axis."""

from __future__ import annotations

from typing import Final

from texpr.lang.errors import ReductionAxisError, ReductionError, user_location
from texpr.lang.ir import Axis, Monoid, ReduceOp, Scan
from texpr.lang.monoid import UserMonoid
from texpr.lang.reductions import Operand, check_type
from texpr.lang.trace import current_trace
from texpr.lang.value import Value, axis_of, coerce, computed, condition, strong

_POSITIONS: Final = (ReduceOp.ARGMAX, ReduceOp.ARGMIN)
_NAMES: Final[dict[str, ReduceOp]] = {
    "+": ReduceOp.SUM,
    "*": ReduceOp.PROD,
    **{op.value: op for op in ReduceOp if op not in _POSITIONS},
}


def scan(
    op: str | UserMonoid,
    value: Operand | tuple[Operand, ...],
    *,
    along: Value,
    exclusive: bool = False,
    reverse: bool = False,
    reset: Value | None = None,
) -> Value | tuple[Value, ...]:
    """``s[i] = te.scan("+", x[i], along=i)``: the sum of ``x[0] .. x[i]``, for every ``i``.

    ``op`` is ``"+"``, ``"*"``, the name of a reduction, or a :func:`texpr.monoid` on a tuple of values, whose left
    operand comes earlier. ``reverse`` scans from the last point to the first; ``exclusive`` leaves the point itself
    out, so that the first one of the scan has the identity. Where ``reset`` holds the scan starts anew at that point.
    Raises ReductionError and ReductionAxisError.
    """
    axis = _axis(along)
    for name, flag in (("exclusive", exclusive), ("reverse", reverse)):
        if not isinstance(flag, bool):
            raise ReductionError(
                op="te.scan", problem=f"{name} is {flag!r}", hint=f"{name}=True or {name}=False", at=user_location()
            )
    starts = None if reset is None else condition(reset, "reset= of te.scan").expr
    if isinstance(op, UserMonoid):
        operands = value if isinstance(value, tuple) else (value,)
        typed = [computed(strong(coerce(operand, "te.scan"))) for operand in operands]
        monoid: Monoid = op.typed(tuple(operand.dtype for operand in typed))
        exprs = tuple(operand.expr for operand in typed)
        made = current_trace("scan").add_pending(Scan(monoid, exprs, axis, exclusive, reverse, starts), False)
        return made if isinstance(value, tuple) else made[0]
    known = _named(op)
    if isinstance(value, tuple):
        raise ReductionError(
            op="te.scan",
            problem=f"'{op}' takes one value, got {len(value)}",
            hint="a te.monoid scans tuples",
            at=user_location(),
        )
    coerced = coerce(value, "te.scan")
    operand = computed(strong(coerced))
    check_type(known, operand.dtype)
    top = Scan(known, (operand.expr,), axis, exclusive, reverse, starts)
    (result,) = current_trace("scan").add_pending(top, coerced.weak)
    return result


def _named(op: object) -> ReduceOp:
    if not isinstance(op, str) or op not in _NAMES:
        raise ReductionError(
            op="te.scan",
            problem=f"no operator {op!r}",
            hint=f"one of {', '.join(_NAMES)}, or a te.monoid",
            at=user_location(),
        )
    return _NAMES[op]


def _axis(along: object) -> Axis:
    axis = None if isinstance(along, tuple) else axis_of(along)
    if axis is None:
        found = "a tuple" if isinstance(along, tuple) else "an expression" if isinstance(along, Value) else repr(along)
        raise ReductionAxisError(
            op="te.scan",
            axis=found,
            problem="it is not an axis",
            fix="along=i, one axis from te.axes",
            at=user_location(),
        )
    if axis.ragged is not None:
        raise ReductionAxisError(
            op="te.scan",
            axis=axis.name,
            problem="it is ragged, and a scan runs over all points",
            fix="along=i, an axis from te.axes over all points, and reset= where a group begins",
            at=user_location(),
        )
    return axis
