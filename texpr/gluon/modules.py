"""Files of the user's, read and not run: the statements that a function in them needs."""

from __future__ import annotations

import ast
from collections.abc import Sequence

_GIVEN = ("from triton.experimental import gluon", "from triton.experimental.gluon import language as gl")


def chunks_of(text: str, function: str | None = None) -> tuple[str, ...]:
    """The statements of a module, one chunk each: imports of Triton, definitions and constants. Its docstring, what
    runs only as a program and other imports stay behind; given a ``function``, whatever it does not need as well."""
    lines = text.splitlines()
    found: list[str] = []
    for node in _needed(ast.parse(text).body, function):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=module):
                modules = [module or ""]
            case ast.FunctionDef(decorator_list=decorators) | ast.ClassDef(decorator_list=decorators):
                first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
                found.append("\n".join(lines[first - 1 : node.end_lineno]))
                continue
            case ast.Assign() | ast.AnnAssign():
                found.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
                continue
            case _:
                continue
        statement = ast.unparse(node)
        if all(module.partition(".")[0] in ("triton", "math") for module in modules) and statement not in _GIVEN:
            found.append(statement)
    return tuple(found)


def _needed(body: Sequence[ast.stmt], function: str | None) -> list[ast.stmt]:
    """The statements that define a function and, directly or not, a name that it mentions."""
    if function is None:
        return list(body)
    wanted = {function}
    kept: set[int] = set()
    while True:
        more = [n for n, node in enumerate(body) if n not in kept and not wanted.isdisjoint(defined_names(node))]
        if not more:
            return [node for n, node in enumerate(body) if n in kept]
        kept.update(more)
        for n in more:
            wanted.update(name.id for name in ast.walk(body[n]) if isinstance(name, ast.Name))


def defined_names(node: ast.stmt) -> set[str]:
    """The names that a statement of a module gives a meaning."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {alias.asname or alias.name.partition(".")[0] for alias in names}
        case ast.Assign(targets=targets):
            return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
        case _:
            return set()
