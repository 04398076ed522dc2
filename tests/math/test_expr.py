import copy
import pickle

import pytest

from texpr.math.expr import (
    FALSE,
    TRUE,
    Const,
    Mul,
    Not,
    Sym,
    TypeIn,
    affine,
    aligned,
    atoms_of,
    ceildiv,
    compare,
    conjunction,
    const,
    disjoint,
    disjunction,
    eq,
    evaluate,
    free_symbols,
    ge,
    gt,
    le,
    lt,
    maximum,
    minimum,
    ne,
    negation,
    present,
    substitute,
    sym,
)
from texpr.math.logic import CompareOp

M, N, K = sym("M"), sym("N"), sym("K")


def test_equal_nodes_are_one_object():
    assert Sym("M") is M
    assert Const(3) is const(3)
    assert ceildiv(M, 128) is (M + 127) // 128
    assert conjunction(lt(M, N), aligned("x", to=16)) is conjunction(lt(M, N), aligned("x", to=16))


def test_copies_and_pickles_are_the_same_object():
    e = conjunction(lt((M * N + 3) // 8, minimum(N, 7)), aligned("x", "y", to=16), TypeIn("T", ("f16",)))
    assert copy.deepcopy(e) is e
    assert pickle.loads(pickle.dumps(e)) is e


def test_nodes_cannot_be_changed():
    with pytest.raises(AttributeError):
        M.name = "N"


def test_ints_may_stand_on_either_side():
    assert str(1 + M - 2) == "M - 1"
    assert str(5 - M) == "5 - M"
    assert str(3 * M) == "3*M"
    assert str(7 // M) == "7//M"
    assert str(7 % M) == "7 % M"


@pytest.mark.parametrize("bad", ["M", 1.5, None])
def test_other_operands_are_refused(bad):
    with pytest.raises(TypeError, match="expected an integer expression"):
        M + bad


def test_division_by_a_literal_zero_is_refused():
    with pytest.raises(ZeroDivisionError):
        M // 0
    with pytest.raises(ZeroDivisionError):
        M % (N - N)


def test_ceildiv_rounds_up_for_either_sign_of_a_symbolic_divisor():
    e = ceildiv(M, N)
    for m in range(-7, 8):
        for n in (-3, -2, -1, 1, 2, 3):
            assert evaluate(e, {"M": m, "N": n}) == -(-m // n)


def test_substitution_is_simultaneous_and_canonicalises_again():
    assert substitute(M - N, {"M": N, "N": M}) is N - M
    assert substitute((M * K + N) // K, {"K": 4}) is M + N // 4
    assert substitute(lt(M, 5), {"M": 3}) is TRUE
    assert substitute(M + 1, {"K": 3}) is M + 1


def test_evaluation_needs_every_symbol():
    assert evaluate(maximum(M // 4, N % 4) * 2, {"M": -5, "N": -5}) == 6
    with pytest.raises(KeyError):
        evaluate(M + N, {"M": 1})


def test_conditions_evaluate_atoms_through_a_function():
    e = disjunction(present("b"), lt(M, 3))
    assert evaluate(e, {"M": 9}, lambda atom: atom is present("b"))
    assert not evaluate(e, {"M": 9}, lambda atom: False)
    with pytest.raises(ValueError, match="the value of present\\(b\\) is not given"):
        evaluate(e, {"M": 9})


def test_affine_coefficients():
    assert affine(3 * M - N + 5) == ({"M": 3, "N": -1}, 5)
    assert affine(const(4)) == ({}, 4)
    assert affine(M * N) is None
    assert affine(M // 2) is None


def test_free_symbols_leave_out_tensors_and_types():
    e = conjunction(lt(M, N // K), aligned("x", to=16), TypeIn("T", ("f16",)))
    assert free_symbols(e) == {"M", "N", "K"}
    assert atoms_of(e) == {aligned("x", to=16), TypeIn("T", ("f16",))}


def test_comparisons_fold_only_when_the_difference_is_constant():
    assert lt(M, M + 1) is TRUE
    assert ge(M, M + 1) is FALSE
    assert eq(2 * (M + N), 2 * M + 2 * N) is TRUE
    assert str(gt(N, 2 * M)) == "N > 2*M"


def test_conjunctions_and_disjunctions_flatten_and_fold():
    a, b, c = lt(M, 3), lt(N, 3), present("b")
    assert conjunction(a, conjunction(b, c), a) is conjunction(a, b, c)
    assert conjunction() is TRUE
    assert disjunction() is FALSE
    assert conjunction(a, TRUE) is a
    assert conjunction(a, FALSE) is FALSE
    assert disjunction(a, negation(a)) is TRUE
    assert conjunction(c, negation(c)) is FALSE


def test_negation_reaches_the_atoms_and_is_its_own_inverse():
    e = conjunction(disjunction(lt(M, 3), present("b")), TypeIn("T", ("f16",)))
    assert str(negation(e)) == "M >= 3 and not present(b) or T != f16"
    assert negation(negation(e)) is e
    assert isinstance(negation(present("b")), Not)
    for op in CompareOp:
        assert negation(negation(compare(op, M, N))) is compare(op, M, N)


def test_disjoint_is_symmetric():
    assert disjoint("y", "x") is disjoint("x", "y")


def test_text_has_no_needless_parentheses():
    assert str((M + N) * K // 4) == "(K*M + K*N)//4"
    assert str((M // 4) * (N % 3) * -2) == "-2*(M//4)*(N % 3)"
    assert str(conjunction(disjunction(lt(M, 3), lt(N, 3)), le(1, K))) == "(M < 3 or N < 3) and 1 <= K"
    assert str(conjunction(aligned("x", "y", to=16), ne(M, 3), present("a", "b"))) == (
        "aligned(x, y, 16) and M != 3 and present(a, b)"
    )
    assert isinstance(-(M // 4), Mul)
