"""What the conjuncts of a guard say of an axis."""

from __future__ import annotations

import pytest

from texpr.dtypes import DType
from texpr.lang.index import to_int_expr
from texpr.lang.ir import INDEX, Axis, AxisRef, Cast, Const, DimRef, Expr, Op, OpName, Read, Role, Tensor
from texpr.lang.show import expr_text
from texpr.math.expr import evaluate, sym
from texpr.plan.guards import congruence, half_spaces

AXES = [Axis(name, sym(name.upper())) for name in "ijk"]
N = Tensor("n", DType.I32, (sym("I"),), (1,), Role.INPUT)
i, j, k = map(AxisRef, AXES)


def op(name: str, *args: Expr | int) -> Op:
    exprs = tuple(Const(arg, INDEX) if isinstance(arg, int) else arg for arg in args)
    return Op(OpName(name), exprs, DType.BOOL if name in ("<", "<=", ">", ">=", "==", "!=") else INDEX)


def bound_text(bound: Expr) -> str:
    known = to_int_expr(bound)
    return expr_text(bound) if known is None else str(known)


def read(index: Expr) -> Expr:
    return Cast(Read(N, (index,)), INDEX)


@pytest.mark.parametrize(
    "conjunct, said",
    [
        (op("<=", k, i), "1 k below after i"),
        (op("<", k, read(i)), "1 k below n[i]"),
        (op(">", op("*", k, 3), i), "3 k from after i"),
        (op(">=", i, op("*", k, 2)), "2 k below after i"),
        (op("<", op("-", i, k), 4), "1 k from after i - 4"),
        (op("<", op("+", op("*", k, 4), j), op("+", k, i)), "3 k below i - j"),
        (op("==", k, read(j)), "1 k from n[j]; 1 k below after n[j]"),
        (op("<", op("*", k, k), i), ""),
        (op("<", op("%", k, 2), i), ""),
        (op("<", k, read(k)), ""),
        (op("!=", k, i), ""),
        (op("<", i, j), ""),
        (op("|", op("<", k, i), op("<", k, j)), ""),
    ],
)
def test_half_spaces(conjunct: Op, said: str) -> None:
    found = [
        f"{half.slope} k {'below' if half.below else 'from'}{' after' if half.after else ''} {bound_text(half.bound)}"
        for half in half_spaces(conjunct, k.axis)
    ]
    assert "; ".join(found) == said


@pytest.mark.parametrize(
    "conjunct, said",
    [
        (op("==", op("%", op("-", i, k), 2), 0), (2, [0, 1, 0])),
        (op("==", op("%", op("+", op("*", k, 3), i), 5), 2), (5, [4, 2, 0])),
        (op("==", 1, op("%", k, 4)), (4, [1, 1, 1])),
        (op("==", op("%", op("*", k, 2), 4), 0), None),  # 2 has no inverse
        (op("==", op("%", k, 4), 4), None),  # never
        (op("==", op("%", op("*", k, k), 3), 1), None),
        (op("==", op("%", op("+", k, read(i)), 3), 1), None),
        (op("==", op("%", k, DimRef(sym("P"))), 0), None),
        (op("<", op("%", k, 4), 1), None),
    ],
)
def test_congruences(conjunct: Op, said: tuple[int, list[int]] | None) -> None:
    found = congruence(conjunct, k.axis)
    if said is None or found is None:
        assert found is None and said is None
        return
    assert (found.modulus, [evaluate(found.residue, {"i": value}) for value in range(3)]) == said
