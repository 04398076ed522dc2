"""Random groups of dependent reductions for the tests of ``online``, and their brute-force judge.

A group is ``m`` (a maximum or a sum) and one summand ``f(k; m)`` drawn from a grammar of exponentials, polynomials,
``tanh``, ``abs``, comparisons, casts and products. The judge knows nothing of normal forms: ``f`` can be carried over
from one value of ``m`` to another exactly if its columns ``k -> f(k; r)`` over all ``r`` span few dimensions, which is
the rank of the matrix ``f(k_a; r_b)`` over random ``k_a`` and ``r_b``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from texpr.dtypes import DType
from texpr.lang.evaluate import Points, State, evaluate
from texpr.lang.ir import (
    Axis,
    AxisRef,
    Cast,
    Const,
    Def,
    Expr,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    ReduceOp,
    Role,
    Select,
    Tensor,
)
from texpr.math.expr import sym

F32 = DType.F32
K = Axis("k", sym("N"))
X, Y = (Tensor(name, F32, (sym("N"),), (1,), Role.INPUT) for name in "xy")
M = Func("m", F32, ())
L = Func("l", F32, ())
F = Func("f", F32, ())
DEEPEST = 3
KINDS = ["+", "-", "*", "exp"] * 2 + ["-", "*", "exp", "/", "exp2", "neg", "square", "abs", "tanh", "relu", "where"]
KINDS += ["cast"]
MOST_DIMENSIONS = 3


def read(tensor: Tensor) -> Expr:
    return Read(tensor, (AxisRef(K),))


def op(name: OpName, *args: Expr) -> Expr:
    dtype = DType.BOOL if name in (OpName.GT, OpName.LT) else F32
    return Op(name, args, dtype)


def const(value: float) -> Expr:
    return Const(value, F32)


def reduction(func: Func, kind: ReduceOp, *exprs: Expr, where: Expr | None = None) -> Def:
    return Def((func,), (), Reduce(kind, exprs, (K,), where))


def summand(rng: random.Random, depth: int = 0) -> Expr:
    """A random expression in ``x[k]``, ``y[k]``, ``m`` and constants."""
    if depth >= DEEPEST or rng.random() < 0.15:
        return rng.choice([read(X), read(X), read(Y), Read(M, ()), Read(M, ()), const(rng.choice([0.5, 1.0, 2.0]))])
    left, right = summand(rng, depth + 1), summand(rng, depth + 1)
    match rng.choice(KINDS):
        case "+":
            return op(OpName.ADD, left, right)
        case "-":
            return op(OpName.SUB, left, right)
        case "*":
            return op(OpName.MUL, left, right)
        case "/":
            return op(OpName.DIV, left, op(OpName.ADD, const(3.0), op(OpName.MUL, right, right)))
        case "exp":
            return op(OpName.EXP, op(OpName.SUB, left, right))
        case "exp2":
            return op(OpName.EXP2, left)
        case "neg":
            return op(OpName.NEG, left)
        case "square":
            return Op(OpName.POW, (left, const(2.0)), F32)
        case "abs":
            return op(OpName.ABS, left)
        case "tanh":
            return op(OpName.TANH, left)
        case "relu":
            return op(OpName.MAX, left, const(0.0))
        case "where":
            return Select(op(OpName.GT, right, const(0.1)), left, const(0.0))
        case _:
            return Cast(Cast(left, DType.F16), F32)


@dataclass(frozen=True)
class Data:
    """Points at which summands are evaluated."""

    x: np.ndarray
    y: np.ndarray

    @staticmethod
    def random(rng: np.random.Generator, points: int) -> Data:
        return Data(rng.uniform(-1.0, 1.0, points), rng.uniform(-1.0, 1.0, points))

    def part(self, start: int, stop: int) -> Data:
        return Data(self.x[start:stop], self.y[start:stop])


def value(expr: Expr, data: Data, funcs: dict[Func, float] | None = None) -> np.ndarray:
    """``expr`` in float64 at every point, with values for funcs."""
    arrays = {X: data.x, Y: data.y, **{f: np.asarray(v) for f, v in (funcs or {}).items()}}
    state = State(arrays, {}, {"N": len(data.x)})
    points = Points((K,), (range(len(data.x)),), state)
    with np.errstate(all="ignore"):
        return np.broadcast_to(np.asarray(evaluate(expr, points)), data.x.shape)


def dimensions(expr: Expr, seed: int) -> int | None:
    """How many dimensions the functions ``k -> f(k; m)`` span over all values of ``m``; None if ``f`` is not finite
    everywhere."""
    rng = np.random.default_rng(seed)
    data = Data.random(rng, 60)
    columns = [value(expr, data, {M: r}) for r in rng.uniform(-2.0, 2.0, 40)]
    matrix = np.stack(columns)
    if not np.isfinite(matrix).all():
        return None
    scale = np.abs(matrix).max()
    if scale == 0.0:
        return 0
    singular = np.linalg.svd(matrix / scale, compute_uv=False)
    return int((singular > 1e-12 * singular[0] * 40).sum())
