"""Text to expressions: dims, launch-time numbers and the guards of variants.

    bool    ::= bool or bool | bool and bool | not bool | compare | call | T in [type, ...] | T not in [...] | T == type
    compare ::= int (< <= > >= == !=) int ...                   a chain: a <= b < c
    int     ::= int (+ - * // %) int | - int | number | name | call | ( int )
    call    ::= min(int, ...) max(int, ...) clamp(int, low, high) ceil(int / int) ceildiv(int, int) stride(tensor, dim)
              | aligned(tensor, ..., bytes) present(tensor, ...) disjoint(tensor, tensor)

Precedence is Python's. ``stride(x, 1)`` is the symbol ``x_stride_1``. Names may have dots (``j.part``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Final, NoReturn, TypeAlias, TypeVar

from texpr.dtypes import DType
from texpr.errors import TExprError
from texpr.math.expr import (
    FALSE,
    TRUE,
    ZERO,
    BoolExpr,
    CompareOp,
    Const,
    IntExpr,
    TypeIn,
    aligned,
    ceildiv,
    compare,
    conjunction,
    disjoint,
    disjunction,
    maximum,
    minimum,
    negation,
    present,
    sym,
)

Types: TypeAlias = Mapping[str, Iterable[str]] | Iterable[str]
"""The type variables; a mapping also lists the dtypes that each may take."""


class ExprSyntaxError(TExprError):
    code: ClassVar[str] = "TX0110"
    title: ClassVar[str] = "malformed expression"
    template: ClassVar[str] = "{problem}"


class UnknownNameError(ExprSyntaxError):
    code: ClassVar[str] = "TX0118"
    title: ClassVar[str] = "unknown name in an expression"
    template: ClassVar[str] = "unknown {kind} {name}"


class ExprTypeError(ExprSyntaxError):
    code: ClassVar[str] = "TX0119"
    title: ClassVar[str] = "number where a condition is needed, or the other way round"
    template: ClassVar[str] = "expected a {expected}, found a {found}"


def parse_int(text: str, names: Container[str] | None = None, tensors: Container[str] | None = None) -> IntExpr:
    """Reads an integer expression.

    ``names`` are the allowed symbols and ``tensors`` the allowed arguments of ``stride``; None allows any. Raises
    :class:`ExprSyntaxError` with the offending column marked.
    """
    parser = _Parser(text, names, None, tensors)
    return parser.whole(parser.integer)


def parse_bool(
    text: str,
    names: Container[str] | None = None,
    types: Types | None = None,
    tensors: Container[str] | None = None,
) -> BoolExpr:
    """Reads a condition. Arguments and errors as in :func:`parse_int`; ``types`` are the allowed type variables."""
    parser = _Parser(text, names, types, tensors)
    return parser.whole(parser.condition)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """``number``, ``name``, ``end`` or the operator itself."""
    text: str
    column: int


_TOKEN: Final = re.compile(
    r"(?P<space>\s+)|(?P<number>\d+(?![\w.]))|(?P<name>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)|(?P<op>//|<=|>=|==|!=|[-+*/%<>(),\[\]])"
)
_COMPARISONS: Final = {op.value: op for op in CompareOp}
_WORDS: Final = frozenset(["and", "or", "not", "in", "true", "false"])
_CALLS: Final = ("aligned", "ceil", "ceildiv", "clamp", "disjoint", "max", "min", "present", "stride")
_DTYPES: Final = frozenset(dtype.value for dtype in DType)
_SPELLINGS: Final = {
    "=": "write == for equality",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "^": "there is no power operator; write a product",
    "~": "write 'not'",
}
_STRIDE: Final = re.compile(r"(?P<tensor>\w+)_stride_\d+")
_DEPTH_LIMIT: Final = 40
_DIGITS_LIMIT: Final = 30
_Value = TypeVar("_Value")


def _allowed_dtypes(types: Types | None) -> dict[str, frozenset[str]] | None:
    """The dtypes that each type variable may take; None when any variable is allowed."""
    if types is None:
        return None
    if isinstance(types, Mapping):
        return {variable: frozenset(dtypes) for variable, dtypes in types.items()}
    return {variable: _DTYPES for variable in types}


class _Parser:
    """Recursive descent over one text. Values are IntExpr or BoolExpr; each operator checks what it gets."""

    def __init__(
        self, text: str, names: Container[str] | None, types: Types | None, tensors: Container[str] | None
    ) -> None:
        self.text = text
        self.names = names
        self.types = _allowed_dtypes(types)
        self.tensors = tensors
        self.depth = 0
        self.tokens = self._tokens()
        self.position = 0

    # Errors.

    def _excerpt(self, column: int) -> str:
        line = self.text.replace("\n", " ").replace("\t", " ")
        return f"{line}\n{' ' * column}^"

    def fail(self, problem: str, column: int, hint: str = "") -> NoReturn:
        raise ExprSyntaxError(problem=problem, excerpt=self._excerpt(column), hint=hint)

    def check_name(self, kind: str, token: _Token, known: Container[str] | None) -> str:
        if known is None or token.text in known:
            return token.text
        options = sorted(set(known)) if isinstance(known, Iterable) else []
        close = get_close_matches(token.text, options, n=1)
        listed = f"the {kind}s here are {', '.join(options)}" if options else f"there is no {kind} here"
        raise UnknownNameError(
            kind=kind,
            name=token.text,
            excerpt=self._excerpt(token.column),
            hint=f"did you mean {close[0]}?" if close else listed,
        )

    # Tokens.

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        column = 0
        while column < len(self.text):
            match = _TOKEN.match(self.text, column)
            if match is None:
                character = self.text[column]
                problem = "only whole numbers are allowed" if character.isdigit() else f"unexpected {character!r}"
                self.fail(problem, column, _SPELLINGS.get(character, ""))
            kind = match.lastgroup if match.group("name") is None else "name"
            if kind != "space":
                word = match.group()
                plain = kind == "number" or (kind == "name" and word not in _WORDS)
                tokens.append(_Token(str(kind) if plain else word, word, column))
            column = match.end()
        return [*tokens, _Token("end", "", len(self.text))]

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.token
        self.position += 1
        return token

    def accept(self, *kinds: str) -> _Token | None:
        return self.take() if self.token.kind in kinds else None

    def expect(self, kind: str, what: str) -> _Token:
        if self.token.kind != kind:
            self.fail(f"expected {what}, found {self.shown(self.token)}", self.token.column)
        return self.take()

    @staticmethod
    def shown(token: _Token) -> str:
        return "the end" if token.kind == "end" else repr(token.text)

    # Values.

    def whole(self, rule: Callable[[], _Value]) -> _Value:
        """What ``rule`` reads, which must be all of the text."""
        value = rule()
        if self.token.kind != "end":
            self.fail(f"unexpected {self.shown(self.token)}", self.token.column)
        return value

    def integer(self) -> IntExpr:
        column = self.token.column
        return self.as_int(self.disjunction(), column)

    def condition(self) -> BoolExpr:
        column = self.token.column
        return self.as_bool(self.disjunction(), column)

    def as_int(self, value: IntExpr | BoolExpr, column: int) -> IntExpr:
        if isinstance(value, IntExpr):
            return value
        raise ExprTypeError(expected="number", found=f"condition: {value}", excerpt=self._excerpt(column))

    def as_bool(self, value: IntExpr | BoolExpr, column: int) -> BoolExpr:
        if isinstance(value, BoolExpr):
            return value
        raise ExprTypeError(
            expected="condition",
            found=f"number: {value}",
            excerpt=self._excerpt(column),
            hint=f"compare it with something: {value} >= 1",
        )

    def disjunction(self) -> IntExpr | BoolExpr:
        return self._joined("or", self.conjunction, disjunction)

    def conjunction(self) -> IntExpr | BoolExpr:
        return self._joined("and", self.inversion, conjunction)

    def _joined(
        self, word: str, operand: Callable[[], IntExpr | BoolExpr], join: Callable[..., BoolExpr]
    ) -> IntExpr | BoolExpr:
        column = self.token.column
        value = operand()
        while self.accept(word):
            left = self.as_bool(value, column)
            column = self.token.column
            value = join(left, self.as_bool(operand(), column))
        return value

    def inversion(self) -> IntExpr | BoolExpr:
        if not self.accept("not"):
            return self.comparison()
        with self.nested():
            column = self.token.column
            return negation(self.as_bool(self.inversion(), column))

    def comparison(self) -> IntExpr | BoolExpr:
        if self.token.kind == "name" and self.is_type_test():
            return self.type_test()
        column = self.token.column
        value = self.sum()
        links: list[BoolExpr] = []
        while (operator := self.accept(*_COMPARISONS)) is not None:
            left = self.as_int(value, column)
            column = self.token.column
            value = self.as_int(self.sum(), column)
            links.append(compare(_COMPARISONS[operator.kind], left, value))
        return conjunction(*links) if links else value

    def sum(self) -> IntExpr | BoolExpr:
        column = self.token.column
        value = self.product()
        while (operator := self.accept("+", "-")) is not None:
            left = self.as_int(value, column)
            column = self.token.column
            right = self.as_int(self.product(), column)
            value = left + right if operator.kind == "+" else left - right
        return value

    def product(self, in_ceil: bool = False) -> IntExpr | BoolExpr:
        column = self.token.column
        value = self.unary()
        while (operator := self.accept("*", "//", "%")) is not None:
            left = self.as_int(value, column)
            column = self.token.column
            right = self.as_int(self.unary(), column)
            value = left * right if operator.kind == "*" else self.divided(operator.kind, left, right, column)
        if self.token.kind == "/" and not in_ceil:
            self.fail("unexpected '/'", self.token.column, "write // for the floor or ceil(a / b)")
        return value

    def divided(self, operator: str, left: IntExpr, right: IntExpr, column: int) -> IntExpr:
        if right is ZERO:
            self.fail("division by zero", column)
        match operator:
            case "//":
                return left // right
            case "%":
                return left % right
            case _:
                return ceildiv(left, right)

    def unary(self) -> IntExpr | BoolExpr:
        if not self.accept("-"):
            return self.primary()
        with self.nested():
            column = self.token.column
            return -self.as_int(self.unary(), column)

    @contextmanager
    def nested(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > _DEPTH_LIMIT:
            self.fail(f"nested more than {_DEPTH_LIMIT} deep", self.token.column)
        yield
        self.depth -= 1

    def primary(self) -> IntExpr | BoolExpr:
        token = self.take()
        match token.kind:
            case "number":
                if len(token.text) > _DIGITS_LIMIT:
                    self.fail(f"a number of more than {_DIGITS_LIMIT} digits", token.column)
                return Const(int(token.text))
            case "true":
                return TRUE
            case "false":
                return FALSE
            case "(":
                with self.nested():
                    value = self.disjunction()
                    self.expect(")", "')'")
                return value
            case "name" if self.token.kind == "(":
                with self.nested():
                    return self.call(token)
            case "name":
                return self.symbol(token)
            case _:
                self.fail(f"expected a value, found {self.shown(token)}", token.column)

    def symbol(self, token: _Token) -> IntExpr:
        stride = _STRIDE.fullmatch(token.text)
        if stride is not None and self.tensors is not None and stride["tensor"] in self.tensors:
            return sym(token.text)
        return sym(self.check_name("name", token, self.names))

    # Types.

    def is_type_test(self) -> bool:
        """At ``T in``, ``T not in``, or ``T ==`` where T is a type variable or a dtype follows."""
        following = [token.kind for token in self.tokens[self.position + 1 : self.position + 3]]
        if following[0] == "in" or following == ["not", "in"]:
            return True
        if following[0] not in ("==", "!="):
            return False
        if self.types is not None and self.token.text in self.types:
            return True
        return self.tokens[self.position + 2].text in _DTYPES

    def type_test(self) -> BoolExpr:
        variable = self.take()
        self.check_name("type variable", variable, self.types)
        negated = self.accept("not", "!=") is not None
        if self.accept("in"):
            self.expect("[", "'[' and a list of types")
            names = [self.dtype(variable)]
            while self.accept(","):
                names.append(self.dtype(variable))
            self.expect("]", "']'")
        else:
            self.accept("==")
            names = [self.dtype(variable)]
        test = TypeIn(variable.text, tuple(dict.fromkeys(names)))
        return negation(test) if negated else test

    def dtype(self, variable: _Token) -> str:
        token = self.expect("name", "a dtype")
        return self.check_name("dtype", token, _DTYPES if self.types is None else self.types[variable.text])

    # Calls.

    def call(self, function: _Token) -> IntExpr | BoolExpr:
        self.check_name("function", function, _CALLS)
        self.expect("(", "'('")
        value = self.arguments(function)
        self.expect(")", "')'")
        return value

    def arguments(self, function: _Token) -> IntExpr | BoolExpr:
        match function.text:
            case "min":
                return minimum(*self.integers())
            case "max":
                return maximum(*self.integers())
            case "clamp":
                value, low, high = self.integers(function, "a value, the least and the greatest", 3)
                return maximum(low, minimum(value, high))
            case "ceildiv":
                column = self.token.column
                num, den = self.integers(function, "a numerator and a denominator", 2)
                return self.divided("ceil", num, den, column)
            case "ceil":
                return self.ceil(function)
            case "stride":
                name = self.tensor()
                self.expect(",", "',' and the number of a dim")
                return sym(f"{name}_stride_{int(self.expect('number', 'the number of a dim').text)}")
            case "aligned":
                return self.aligned()
            case "present":
                return present(*self.tensor_names())
            case _:
                names = self.tensor_names()
                if len(names) != 2 or names[0] == names[1]:
                    self.fail("disjoint takes two different tensors", function.column)
                return disjoint(*names)

    def integers(self, function: _Token | None = None, what: str = "", count: int | None = None) -> list[IntExpr]:
        values = [self.integer()]
        while self.accept(","):
            values.append(self.integer())
        if function is not None and len(values) != count:
            self.fail(f"{function.text} takes {what}; found {len(values)} values", function.column)
        return values

    def ceil(self, function: _Token) -> IntExpr:
        column = self.token.column
        num = self.as_int(self.product(in_ceil=True), column)
        if not self.accept("/"):
            self.fail("ceil takes one division", function.column, "ceil(a / b), with parentheses around sums")
        column = self.token.column
        return self.divided("ceil", num, self.as_int(self.unary(), column), column)

    def tensor(self) -> str:
        return self.check_name("tensor", self.expect("name", "a tensor"), self.tensors)

    def tensor_names(self) -> list[str]:
        names = [self.tensor()]
        while self.accept(","):
            names.append(self.tensor())
        return names

    def aligned(self) -> BoolExpr:
        names = [self.tensor()]
        while self.accept(",") and self.token.kind == "name":
            names.append(self.tensor())
        token = self.expect("number", "',' and a number of bytes")
        to = int(token.text)
        if to < 1 or to & (to - 1):
            self.fail(f"an alignment is a power of two, not {to}", token.column)
        return aligned(*names, to=to)
