"""``online``: which groups of dependent reductions share a pass, judged by brute force, and that their state is a
monoid."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.lang.evaluate import Points, State, evaluate
from texpr.lang.ir import Axis, AxisRef, Cast, Const, Def, DimRef, Expr, Func, Op, OpName, Read, ReduceOp, Select, Var
from texpr.math.expr import sym
from texpr.plan.errors import NotOnline
from texpr.plan.online import OnlineGroup, as_monoid, online_group, starts_of

from .online_groups import (
    F32,
    MOST_DIMENSIONS,
    Data,
    F,
    K,
    L,
    M,
    X,
    Y,
    const,
    dimensions,
    op,
    read,
    reduction,
    summand,
    value,
)

LISTED = (
    "mixes",
    "is not a sum of a part",
    "multiplies",
    "may be undefined",
    "polynomial",
    "divides by",
    "in a condition",
    "scale differently",
    "is rounded",
)
"""The reasons for which the rule may refuse more than it would have to."""


def group(*definitions: Def, bodies: dict[Func, Def] | None = None, may_round: tuple[str, ...] = ()) -> OnlineGroup:
    def body_of(func: Func) -> tuple[Def, Expr]:
        definition = (bodies or {})[func]
        assert isinstance(definition.top, tuple)
        return definition, definition.top[0]

    return online_group(definitions, body_of, lambda name: name in may_round)


# ---- running a group over parts of its points, in float64 ------------------------------------------------------------


def direct(found: OnlineGroup, data: Data, kept: np.ndarray) -> list[float]:
    """Every member by its definition, over the points that are kept."""
    known: dict[Func, float] = {}
    results = []
    for member in found.members:
        (expr,) = member.definition.top.exprs  # type: ignore[union-attr]
        terms = value(expr, data, known)[kept]
        total = terms.sum() if member.op is ReduceOp.SUM else terms.max(initial=-np.inf)
        known[member.func] = float(total)
        results.append(float(total))
    return results


def state_of(found: OnlineGroup, data: Data, kept: np.ndarray) -> tuple[float, ...]:
    """The state after one tile."""
    known: dict[Func, float] = {}
    state: list[float] = []
    if found.seen is not None:
        known[found.seen[0]] = float(kept.sum())
    for member in found.members:
        for n, expr in enumerate(member.exprs):
            start = float(starts_of(member)[n].value)
            terms = value(expr, data, known)[kept]
            part = terms.sum() if member.op is ReduceOp.SUM else terms.max(initial=start)
            state.append(float(part))
            if n == 0:
                known[member.func] = float(part)
    return (*state, *((float(kept.sum()),) if found.seen is not None else ()))


def merged(found: OnlineGroup, left: tuple[float, ...], right: tuple[float, ...]) -> tuple[float, ...]:
    monoid = as_monoid(found)
    variables = dict(zip((*monoid.left, *monoid.right), (*left, *right), strict=True))
    return tuple(final(expr, 0, {}, variables) for expr in monoid.combine)


def results_of(found: OnlineGroup, state: tuple[float, ...], data: Data) -> list[float]:
    results = []
    known: dict[Func, float] = {}
    start = 0
    for member in found.members:
        total = state[start]
        if member.result is not None:
            total = final(member.result, len(data.x), known, {member.parts[0]: total})
        known[member.func] = total
        results.append(total)
        start += len(member.parts)
    return results


def final(expr: Expr, points: int, funcs: dict[Func, float], variables: dict[Var, float]) -> float:
    """An expression without points of its own, in an algorithm over ``points`` points."""
    state = State({func: np.asarray(v) for func, v in funcs.items()}, {}, {"N": points})
    named = {var.name: np.asarray(v) for var, v in variables.items()}
    with np.errstate(all="ignore"):
        return float(evaluate(expr, Points((), (), state, named)))


def tree(found: OnlineGroup, parts: list[tuple[float, ...]], rng: random.Random) -> tuple[float, ...]:
    """The states of neighbouring parts combined in a random order."""
    while len(parts) > 1:
        n = rng.randrange(len(parts) - 1)
        parts[n : n + 2] = [merged(found, parts[n], parts[n + 1])]
    return parts[0]


def check_trees(found: OnlineGroup, trials: int, seed: int, tolerance: float = 1e-12) -> None:
    rng = random.Random(seed)
    for trial in range(trials):
        points = rng.choice([0, 1, 2, 5, 16, 33])
        data = Data.random(np.random.default_rng(seed + trial), points)
        kept = np.asarray([rng.random() < 0.6 for _ in range(points)], np.bool_)
        cuts = sorted(rng.choices(range(points + 1), k=rng.randrange(6)))
        bounds = [0, *cuts, points]
        if len(bounds) > 3 and rng.random() < 0.5:
            kept[bounds[0] : bounds[1]] = False  # a fully masked first tile
        if found.seen is not None or any(member.result is not None for member in found.members):
            kept[:] = True  # means over all points and hoisted factors come without a guard; empty tiles remain
        pieces = [state_of(found, data.part(a, b), kept[a:b]) for a, b in itertools.pairwise(bounds)]
        got = results_of(found, tree(found, pieces, rng), data)
        want = direct(found, data, kept)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---- what the literature does in one pass ----------------------------------------------------------------------------

MAXIMUM = reduction(M, ReduceOp.MAX, read(X))
SHIFTED = op(OpName.EXP, op(OpName.SUB, read(X), Read(M, ())))
COUNT = Cast(DimRef(sym("N")), F32)
TOTAL = reduction(M, ReduceOp.SUM, read(X))
MEAN = op(OpName.DIV, Read(M, ()), COUNT)
DEVIATION = op(OpName.SUB, read(X), MEAN)
GROUPS = {
    "softmax": (MAXIMUM, reduction(L, ReduceOp.SUM, SHIFTED)),
    "weighted": (MAXIMUM, reduction(L, ReduceOp.SUM, op(OpName.MUL, SHIFTED, read(Y)))),
    "exp2": (
        MAXIMUM,
        reduction(L, ReduceOp.SUM, op(OpName.EXP2, op(OpName.MUL, op(OpName.SUB, read(X), Read(M, ())), const(1.5)))),
    ),
    "variance": (TOTAL, reduction(L, ReduceOp.SUM, Op(OpName.POW, (DEVIATION, const(2.0)), F32))),
    "entropy": (
        MAXIMUM,
        reduction(L, ReduceOp.SUM, op(OpName.MUL, SHIFTED, op(OpName.SUB, read(X), Read(M, ())))),
    ),
    "hoisted": (
        MAXIMUM,
        reduction(L, ReduceOp.SUM, SHIFTED),
        reduction(F, ReduceOp.SUM, op(OpName.MUL, op(OpName.DIV, SHIFTED, Read(L, ())), read(Y))),
    ),
    "viterbi": (TOTAL, reduction(L, ReduceOp.MAX, op(OpName.SUB, read(Y), Read(M, ())))),
    "independent": (TOTAL, reduction(L, ReduceOp.SUM, op(OpName.MUL, read(X), read(X)))),
}


@pytest.mark.parametrize("name", GROUPS)
def test_random_combine_trees_agree_with_the_definitions(name: str) -> None:
    check_trees(group(*GROUPS[name]), 40, seed=len(name))


def test_helpers_are_as_many_as_the_degree() -> None:
    assert len(group(*GROUPS["variance"]).members[1].parts) == 3
    assert len(group(*GROUPS["entropy"]).members[1].parts) == 2
    assert len(group(*GROUPS["softmax"]).members[1].parts) == 1


def test_what_is_hoisted_needs_no_running_value() -> None:
    running = [member.running for member in group(*GROUPS["hoisted"]).members]
    assert running == [True, False, False]


# ---- random groups ---------------------------------------------------------------------------------------------------


def test_the_rule_accepts_nothing_that_brute_force_rejects() -> None:
    accepted = refused = too_strict = 0
    for seed in range(800):
        rng = random.Random(seed)
        expr = summand(rng)
        kind = rng.choice([ReduceOp.MAX, ReduceOp.SUM])
        span = dimensions(expr, seed)
        if span is None:
            continue
        first = reduction(M, kind, read(X))
        try:
            found = group(first, reduction(F, ReduceOp.SUM, expr))
        except NotOnline as error:
            refused += 1
            too_strict += span <= MOST_DIMENSIONS
            assert any(reason in str(error) for reason in LISTED), str(error)
            continue
        accepted += 1
        assert span <= MOST_DIMENSIONS, expr
        if accepted % 4 == 0:
            check_trees(found, 2, seed, tolerance=1e-9)
    assert accepted > 100 and refused > 100
    assert too_strict < 0.6 * refused


# ---- refusals --------------------------------------------------------------------------------------------------------


def refusal(expr: Expr, kind: ReduceOp = ReduceOp.SUM, first: Def = MAXIMUM, **options: tuple[str, ...]) -> str:
    with pytest.raises(NotOnline) as error:
        group(first, reduction(F, kind, expr), **options)  # type: ignore[arg-type]
    return str(error.value)


def test_other_functions_of_a_difference_are_refused() -> None:
    for name in (OpName.TANH, OpName.ABS, OpName.SQRT):
        assert "mixes k with m" in refusal(op(name, op(OpName.SUB, read(X), Read(M, ()))))


def test_a_product_in_an_exponent_is_refused() -> None:
    assert "in an exponent" in refusal(op(OpName.EXP, op(OpName.MUL, read(X), Read(M, ()))))


def test_a_running_value_in_a_condition_is_refused() -> None:
    guard = Op(OpName.GT, (read(X), Read(M, ())), DType.BOOL)
    assert "in a condition" in refusal(Select(guard, read(Y), const(0.0)))


def test_a_rounded_exponential_needs_relax() -> None:
    rounded = Cast(Cast(SHIFTED, DType.F16), F32)
    assert "relax: [{rounding: f}]" in refusal(rounded)
    found = group(MAXIMUM, reduction(F, ReduceOp.SUM, rounded), may_round=("f",))
    assert found.members[1].factor_of is not None


def test_the_func_that_is_rounded_is_the_one_that_relax_names() -> None:
    p = Func("p", DType.BF16, (K,))
    bodies = {p: Def((p,), (K,), (SHIFTED,))}
    summand_of_p = Cast(Read(p, (AxisRef(K),)), F32)
    with pytest.raises(NotOnline, match=r"rounding: p"):
        group(MAXIMUM, reduction(F, ReduceOp.SUM, summand_of_p), bodies=bodies)
    group(MAXIMUM, reduction(F, ReduceOp.SUM, summand_of_p), bodies=bodies, may_round=("p",))


def test_integers_and_saturating_casts_are_refused() -> None:
    assert "steps do not scale" in refusal(Cast(Cast(SHIFTED, DType.I8), F32))
    assert "saturates" in refusal(Cast(Cast(SHIFTED, DType.F8E4M3), F32), may_round=("f",))


def test_a_rescaling_that_is_undefined_somewhere_is_refused() -> None:
    inverse = op(OpName.EXP, op(OpName.SUB, read(X), op(OpName.DIV, const(1.0), Read(M, ()))))
    assert "may be undefined" in refusal(inverse)


def test_a_maximum_does_not_take_factors_of_unknown_sign() -> None:
    assert "only sums take factors out" in refusal(op(OpName.MUL, read(Y), Read(M, ())), ReduceOp.MAX)


def test_nothing_is_taken_out_of_a_guarded_sum() -> None:
    where = Op(OpName.GT, (read(Y), const(0.0)), DType.BOOL)
    first = reduction(M, ReduceOp.MAX, read(X), where=where)
    with pytest.raises(NotOnline, match="after the sum"):
        group(first, reduction(F, ReduceOp.SUM, op(OpName.DIV, read(X), Read(M, ())), where=where))


def test_guards_and_axes_must_agree() -> None:
    where = Op(OpName.GT, (read(Y), const(0.0)), DType.BOOL)
    with pytest.raises(NotOnline, match="another where="):
        group(MAXIMUM, reduction(F, ReduceOp.SUM, SHIFTED, where=where))
    other = Axis("j", sym("N"))
    elsewhere = Def((F,), (), type(MAXIMUM.top)(ReduceOp.SUM, (const(1.0),), (other,)))  # type: ignore[call-arg]
    with pytest.raises(NotOnline, match="other axes"):
        group(MAXIMUM, elsewhere)


def test_a_guarded_mean_runs_over_the_points_counted() -> None:
    where = Op(OpName.GT, (read(Y), const(0.0)), DType.BOOL)
    total = reduction(M, ReduceOp.SUM, read(X), where=where)
    count = Def((L,), (), type(MAXIMUM.top)(ReduceOp.SUM, (Const(1, DType.I32),), (K,), where))  # type: ignore[call-arg]
    counted = Func("l", DType.I32, ())
    count = Def((counted,), (), count.top)
    mean = op(OpName.DIV, Read(M, ()), Cast(Read(counted, ()), F32))
    spread = Op(OpName.POW, (op(OpName.SUB, read(X), mean), const(2.0)), F32)
    found = group(total, count, reduction(F, ReduceOp.SUM, spread, where=where))
    assert found.seen is None
    assert [member.running for member in found.members] == [True, True, False]
