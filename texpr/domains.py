"""Where the range of a tensor's values holds: the condition of ``tab: i32[B, MB] in [0, NB) where jb*PS < n[b]``.

    Condition ::= Term (< | <= | > | >= | == | !=) Term ... | Condition and Condition
    Term      ::= integer | name | name[name, ...] | Term (+ | - | * | // | %) Term | -Term

A name is a dim, a static, an integer scalar, or an index of the tensor that the range is of; what is indexed is
another integer input. The text is Python's syntax with the meaning that Python's integers have. One fold gives it
every meaning: an expression of an algorithm, or its truth at every element of NumPy arrays.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    import numpy.typing as npt

_TERMS: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@dataclass(frozen=True, slots=True)
class Domain:
    """A condition with the name of the index along each dim of its tensor; ``""`` along dims that it does not name."""

    text: str
    indices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mentioned:
    """What a condition mentions: plain names, the indices among them, and what it indexes with which of them."""

    names: frozenset[str]
    reads: tuple[tuple[str, tuple[str, ...]], ...]


@functools.lru_cache(maxsize=256)
def parse_condition(text: str) -> ast.expr:
    """The condition that ``text`` is. Raises ValueError with the reason if it is none."""
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"'{text}' is no expression") from None
    _check_condition(root)
    return root


def _check_condition(node: ast.expr) -> None:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            for value in values:
                _check_condition(value)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARISONS for op in ops):
            for term in (left, *comparators):
                _check_term(term)
        case _:
            raise ValueError(f"'{ast.unparse(node)}' is no comparison")


def _check_term(node: ast.expr) -> None:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return
        case ast.Name():
            return
        case ast.Subscript(value=ast.Name()):
            for index in _indices(node):
                if not isinstance(index, ast.Name):
                    raise ValueError(f"'{ast.unparse(node)}' is indexed by '{ast.unparse(index)}', which is no name")
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _TERMS:
            _check_term(left)
            _check_term(right)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_term(operand)
        case _:
            raise ValueError(f"'{ast.unparse(node)}' is no integer expression")


def _indices(node: ast.Subscript) -> list[ast.expr]:
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def mentioned(text: str) -> Mentioned:
    """What the condition ``text`` mentions."""
    nodes = list(ast.walk(parse_condition(text)))
    reads: list[tuple[str, tuple[str, ...]]] = []
    indexed: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            reads.append((node.value.id, tuple(i.id for i in _indices(node) if isinstance(i, ast.Name))))
            indexed.add(id(node.value))
    names = frozenset(node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in indexed)
    return Mentioned(names, tuple(reads))


def with_statics(text: str, statics: Mapping[str, int]) -> str:
    """The condition with numbers for the names of statics."""

    class Replaced(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return ast.Constant(statics[node.id]) if node.id in statics else node

    return ast.unparse(Replaced().visit(ast.parse(text.strip(), mode="eval")))


def fold(text: str, name: Callable[[str], Any], read: Callable[[str, tuple[Any, ...]], Any]) -> Any:
    """The condition over values of any kind that has Python's operators; ``name`` and ``read`` give its leaves."""

    def term(node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=wanted):
                return name(wanted)
            case ast.Subscript(value=ast.Name(id=wanted)):
                return read(wanted, tuple(term(index) for index in _indices(node)))
            case ast.BinOp(left=left, op=op, right=right):
                return _TERMS[type(op)](term(left), term(right))
            case ast.UnaryOp(operand=operand):
                return -term(operand)
            case _:
                _unchecked(node)

    def condition(node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(values=values):
                return functools.reduce(operator.and_, (condition(value) for value in values))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [term(left), *(term(other) for other in comparators)]
                pairs = zip(ops, itertools.pairwise(terms), strict=True)
                return functools.reduce(operator.and_, (_COMPARISONS[type(op)](a, b) for op, (a, b) in pairs))
            case _:
                _unchecked(node)

    return condition(parse_condition(text))


def _unchecked(node: ast.expr) -> NoReturn:
    raise AssertionError(f"'{ast.unparse(node)}' passed the check of conditions")


def holds_at(
    domain: Domain, shape: tuple[int, ...], dims: Mapping[str, int], arrays: Mapping[str, npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Whether the condition holds, for every element of a tensor of this (logical) ``shape``. ``dims`` are dims and
    integer scalars by name, ``arrays`` inputs in logical shape."""
    import numpy as np

    grid = np.meshgrid(*(np.arange(extent) for extent in shape), indexing="ij", sparse=True)
    along = {name: positions for name, positions in zip(domain.indices, grid, strict=True) if name}

    def name(wanted: str) -> Any:
        return along[wanted] if wanted in along else int(dims[wanted])

    def read(wanted: str, indices: tuple[Any, ...]) -> Any:
        return arrays[wanted].astype(np.int64)[indices]

    return np.broadcast_to(np.asarray(fold(domain.text, name, read), np.bool_), shape)
