"""Integer expressions of a manifest."""

from __future__ import annotations

import pytest

from texpr.runtime.expressions import evaluate, linear_in, names_in, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("M", 10),
        ("M * K + 1", 31),
        ("-M // 4", -3),
        ("(M - 11) % 4", 3),
        ("min(M, K, 5)", 3),
        ("max(M, -K)", 10),
    ],
)
def test_evaluates_like_python(text: str, value: int) -> None:
    assert evaluate(parse(text), {"M": 10, "K": 3}) == value


@pytest.mark.parametrize(
    "text", ["M / 2", "M ** 2", "f(M)", "M if K else 1", "1.5", "True", "M.real", "M +", "min()", "[M]"]
)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(ValueError, match="is not an integer expression"):
        parse(text)


def test_names() -> None:
    assert names_in(parse("min(M, 2 * K) // P + 1")) == {"M", "K", "P"}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("G", (1, 0)),
        ("2 * G + 3", (2, 3)),
        ("C - G", (-1, 5)),
        ("G * C * 2", (10, 0)),
        ("C * 7", (0, 35)),
        ("-(G - 1)", (-1, 1)),
    ],
)
def test_linear_forms(text: str, form: tuple[int, int]) -> None:
    assert linear_in(parse(text), "G", {"C": 5}) == form


@pytest.mark.parametrize("text", ["G * G", "G // 2", "G % 4", "min(G, 3)", "(G + 1) * (G - C)"])
def test_other_forms_are_not_linear(text: str) -> None:
    assert linear_in(parse(text), "G", {"C": 5}) is None
