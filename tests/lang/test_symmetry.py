"""Operators that give the same bits for either order of their operands, and those that commute but for the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import texpr as te
from texpr.dtypes import DType

COMPLEX = (1.0, 0.0)


@pytest.mark.parametrize(
    ("combine", "identity"),
    [
        (lambda p, q: p + q, 0.0),
        (lambda p, q: (te.minimum(p[0], q[0]), te.maximum(p[1], q[1])), (float("inf"), float("-inf"))),
        (lambda p, q: (q[0] * p[0], q[1] + p[1]), COMPLEX),
        (lambda p, q: (p[0] + q[0], p[1] + q[1] + p[0] * q[0]), (0.0, 0.0)),
        (lambda p, q: te.where(p > q, p, q), float("-inf")),
        (lambda p, q: (p[0] * q[0] - p[1] * q[1], q[1] * p[0] + p[1] * q[0]), (1, 0)),
    ],
    ids=["sum", "span", "products and sums", "one product in a sum", "choice", "integers"],
)
def test_some_operators_commute_to_the_last_bit(combine: Callable[..., Any], identity: Any) -> None:
    assert typed(combine, identity).commutative


@pytest.mark.parametrize(
    ("combine", "identity"),
    [
        (lambda p, q: (p[0] * q[0] - p[1] * q[1], p[0] * q[1] + p[1] * q[0]), COMPLEX),
        (lambda p, q: (p[0] * q[0], p[1] * q[0] + -(-p[0] * q[1])), COMPLEX),
        (lambda p, q: (p[0] + q[0] * 1.0 - 0.0, (p[1] + 2.0) + (q[1] - 2.0)), (0.0, 0.0)),
    ],
    ids=["complex product", "its second part", "unequal roundings"],
)
def test_others_commute_but_for_the_last_bit(combine: Callable[..., Any], identity: Any) -> None:
    assert not typed(combine, identity).commutative


def typed(combine: Callable[..., Any], identity: Any) -> Any:
    monoid = te.monoid(combine, identity=identity, commutative=True)
    values = identity if isinstance(identity, tuple) else (identity,)
    return monoid.typed(tuple(DType.I32 if isinstance(value, int) else DType.F32 for value in values))
