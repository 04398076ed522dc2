import pytest

from texpr.math.expr import (
    TRUE,
    Not,
    TypeIn,
    aligned,
    ceildiv,
    conjunction,
    disjoint,
    disjunction,
    eq,
    ge,
    le,
    lt,
    maximum,
    minimum,
    ne,
    negation,
    present,
    sym,
)
from texpr.math.parse import ExprSyntaxError, ExprTypeError, UnknownNameError, parse_bool, parse_int

M, N, K, sms = sym("M"), sym("N"), sym("K"), sym("sms")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("M + 2*N - 3", M + 2 * N - 3),
        ("-M//4", (-M) // 4),
        ("-(M//4)", -(M // 4)),
        ("M - N - K", M - N - K),
        ("M*N//K % 3", M * N // K % 3),
        ("min(M, N, 3) + max(M, 0)", minimum(M, N, 3) + maximum(M, 0)),
        ("clamp(4 * sms // (M * N), 1, 64)", maximum(1, minimum(4 * sms // (M * N), 64))),
        ("ceil(M/128)*ceil(2*N / K)", ceildiv(M, 128) * ceildiv(2 * N, K)),
        ("ceildiv(M + 1, 4)", ceildiv(M + 1, 4)),
        ("stride(x, 1)*2", 2 * sym("x_stride_1")),
        ("x_stride_1*2", 2 * sym("x_stride_1")),
        ("i.part + 1", sym("i.part") + 1),
    ],
)
def test_integer_grammar(text, expected):
    assert parse_int(text) is expected
    assert parse_int(str(expected)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("M >= 128 and N % 8 == 0", conjunction(ge(M, 128), eq(N % 8, 0))),
        ("1 <= M < N", conjunction(le(1, M), lt(M, N))),
        ("M < 3 or N < 3 and K < 3", disjunction(lt(M, 3), conjunction(lt(N, 3), lt(K, 3)))),
        ("(M < 3 or N < 3) and K != 3", conjunction(disjunction(lt(M, 3), lt(N, 3)), ne(K, 3))),
        ("not (M < 3 or present(b))", conjunction(ge(M, 3), negation(present("b")))),
        ("not M < 3", ge(M, 3)),
        ("aligned(x, w, y, 16)", aligned("x", "w", "y", to=16)),
        ("disjoint(y, x) and present(a, b)", conjunction(disjoint("x", "y"), present("a", "b"))),
        ("T in [f16, bf16]", TypeIn("T", ("f16", "bf16"))),
        ("T not in [f16, bf16]", Not(TypeIn("T", ("f16", "bf16")))),
        ("T == f16", TypeIn("T", ("f16",))),
        ("T != f16", Not(TypeIn("T", ("f16",)))),
        ("true", TRUE),
    ],
)
def test_condition_grammar(text, expected):
    assert parse_bool(text) is expected
    assert parse_bool(str(expected)) is expected


def test_types_are_recognised_by_name_even_without_a_dtype():
    assert parse_bool("T == f16", types=["T"]) is TypeIn("T", ("f16",))
    with pytest.raises(UnknownNameError, match="unknown dtype f61"):
        parse_bool("T == f61", types=["T"])


def test_type_variables_may_be_limited_to_dtypes():
    types = {"T": ["f16", "bf16"]}
    assert parse_bool("T in [bf16]", types=types) is TypeIn("T", ("bf16",))
    with pytest.raises(UnknownNameError, match="unknown dtype f32") as error:
        parse_bool("T == f32", types=types)
    assert error.value.hint == "the dtypes here are bf16, f16" or error.value.hint.startswith("did you mean")


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("M >=", "expected a value, found the end", 4),
        ("", "expected a value, found the end", 0),
        ("M = 3", "unexpected '='", 2),
        ("M > 0 && N > 0", "unexpected '&'", 6),
        ("M > 1.5", "only whole numbers are allowed", 4),
        ("M > 3 3", "unexpected '3'", 6),
        ("(M > 3", "expected ')', found the end", 6),
        ("M / 2 > 3", "unexpected '/'", 2),
        ("M % 0 == 1", "division by zero", 4),
        ("ceildiv(M, 0) == 1", "division by zero", 8),
        ("ceil(M + N/4) > 1", "ceil takes one division", 0),
        ("clamp(M, 1) > 1", "clamp takes a value, the least and the greatest; found 2 values", 0),
        ("aligned(x)", "expected ',' and a number of bytes, found ')'", 9),
        ("aligned(x, 12)", "an alignment is a power of two, not 12", 11),
        ("disjoint(x, x)", "disjoint takes two different tensors", 0),
        ("T in f16", "expected '[' and a list of types, found 'f16'", 5),
        ("(" * 60 + "M > 0" + ")" * 60, "nested more than 40 deep", 41),
        ("9" * 40 + " > M", "a number of more than 30 digits", 0),
    ],
)
def test_mistakes_are_marked_at_their_column(text, message, column):
    with pytest.raises(ExprSyntaxError) as error:
        parse_bool(text)
    assert error.value.code == "TX0110"
    assert error.value.message == message
    line, caret = error.value.excerpt.splitlines()
    assert line == text
    assert caret.index("^") == column


def test_other_spellings_get_a_hint():
    spellings = {"M = 3": "write == for equality", "M > 0 & N > 0": "write 'and'", "!present(b)": "write 'not'"}
    for text, hint in [*spellings.items(), ("min(M / 2, 3) > 0", "write // for the floor or ceil(a / b)")]:
        with pytest.raises(ExprSyntaxError) as error:
            parse_bool(text)
        assert error.value.hint == hint


def test_unknown_names_are_refused_with_a_suggestion():
    with pytest.raises(UnknownNameError) as error:
        parse_bool("batch >= 3", names={"Batch", "M"})
    assert error.value.code == "TX0118"
    assert str(error.value).splitlines() == [
        "TX0118 unknown name batch",
        "  batch >= 3",
        "  ^",
        "  try: did you mean Batch?",
    ]
    with pytest.raises(UnknownNameError) as error:
        parse_int("z", names={"M", "N"})
    assert error.value.hint == "the names here are M, N"
    with pytest.raises(UnknownNameError, match="unknown tensor z"):
        parse_bool("aligned(z, 16)", tensors={"x", "y"})
    with pytest.raises(UnknownNameError, match="unknown function alinged"):
        parse_bool("alinged(x, 16)")


def test_strides_of_known_tensors_are_names():
    assert parse_int("x_stride_0", names=set(), tensors={"x"}) is sym("x_stride_0")
    with pytest.raises(UnknownNameError):
        parse_int("y_stride_0", names=set(), tensors={"x"})


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_bool, "M + 1", "expected a condition, found a number: M + 1"),
        (parse_bool, "M and N > 1", "expected a condition, found a number: M"),
        (parse_bool, "M + (N > 3) > 1", "expected a number, found a condition: N > 3"),
        (parse_bool, "(M > 1) == (N > 1)", "expected a number, found a condition: M > 1"),
        (parse_int, "M > 1", "expected a number, found a condition: M > 1"),
        (parse_int, "present(b)", "expected a number, found a condition: present(b)"),
    ],
)
def test_numbers_and_conditions_do_not_mix(parse, text, message):
    with pytest.raises(ExprTypeError) as error:
        parse(text)
    assert error.value.code == "TX0119"
    assert error.value.message == message
