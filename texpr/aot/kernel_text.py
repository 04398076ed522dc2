"""Assembles kernels into one readable Python module of Gluon, and knows on which line of it everything stands.

The same function makes the bundle's ``kernel.py`` (all kernels, shared preambles once) and the file one kernel is
compiled from (a single kernel), so that what a reader sees is what was compiled.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from texpr.aot.errors import KernelTextError
from texpr.aot.ir import KernelSource

_HEADER = '"""Gluon kernels, as texpr wrote and compiled them."""\n\n'
_IMPORTS = ("from triton.experimental import gluon", "from triton.experimental.gluon import language as gl")


@dataclass(frozen=True, slots=True)
class KernelModule:
    """A module's text, and per kernel name the 1-based line at which its own text starts."""

    text: str
    first_lines: tuple[tuple[str, int], ...]

    def first_line(self, kernel: str) -> int:
        return dict(self.first_lines)[kernel]


def kernel_module(kernels: Sequence[KernelSource]) -> KernelModule:
    """One module holding ``kernels`` in order: imports, the other distinct preamble chunks in order of first use, then
    the functions.

    A chunk may use the names ``gluon`` and ``gl`` and any name of an earlier chunk. Raises KernelTextError when two
    kernels share a name, when two different chunks or texts define one name, when a text is no Python, or when a
    function's parameters are not ``params``.
    """
    chunks: dict[str, None] = {}
    owners: dict[str, tuple[str, str]] = {}
    functions: list[tuple[str, str]] = []
    for kernel in kernels:
        if any(kernel.name == name for name, _ in functions):
            raise KernelTextError(kernel=kernel.name, problem="two kernels of one bundle have this name")
        check_parameters(kernel)
        for chunk in kernel.preamble:
            text = chunk.strip("\n")
            for name in _defined_names(kernel.name, text):
                owner, owned = owners.setdefault(name, (kernel.name, text))
                if owned != text:
                    problem = f"its preamble defines '{name}' differently from that of kernel '{owner}'"
                    raise KernelTextError(kernel=kernel.name, problem=problem)
            chunks[text] = None
        for name in _defined_names(kernel.name, kernel.text):
            owner, _ = owners.setdefault(name, (kernel.name, kernel.text))
            if owner != kernel.name:
                raise KernelTextError(kernel=kernel.name, problem=f"it defines '{name}', as kernel '{owner}' does")
        functions.append((kernel.name, kernel.text.strip("\n")))

    imports = [chunk for chunk in chunks if chunk.startswith(("import ", "from "))]
    text = _HEADER + "\n".join([*_IMPORTS, *imports]) + "\n"
    for chunk in chunks:
        if chunk not in imports:
            text += "\n\n" + chunk + "\n"
    first_lines = []
    for name, function in functions:
        text += "\n\n"
        first_lines.append((name, text.count("\n") + 1))
        text += function + "\n"
    return KernelModule(text, tuple(first_lines))


def check_parameters(kernel: KernelSource) -> None:
    """Raise KernelTextError unless the last function that ``kernel.text`` defines has that name and exactly the
    parameters of ``params``; those before it are of its roles.
    """
    defined = [node for node in _parse(kernel.name, kernel.text).body if isinstance(node, ast.FunctionDef)]
    if [node.name for node in defined[-1:]] != [kernel.name]:
        raise KernelTextError(kernel=kernel.name, problem=f"its text defines {[node.name for node in defined]}")
    arguments = defined[-1].args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
        raise KernelTextError(kernel=kernel.name, problem="its function must take plain positional parameters only")
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    wanted = [param.name for param in kernel.params]
    if names != wanted:
        raise KernelTextError(kernel=kernel.name, problem=f"its function takes {names}, its description lists {wanted}")


def leading_blank_lines(text: str) -> int:
    """How many of ``text``'s first lines :func:`kernel_module` drops: the shift between its lines and those of the
    module.
    """
    return len(text) - len(text.lstrip("\n"))


def _parse(kernel: str, text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise KernelTextError(
            kernel=kernel, problem=f"line {error.lineno} of its text is no Python: {error.msg}"
        ) from error


def _defined_names(kernel: str, chunk: str) -> list[str]:
    """The names a preamble chunk binds at module level."""
    names: list[str] = []
    for node in _parse(kernel, chunk).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names += [alias.asname or alias.name.split(".")[0] for alias in aliases]
            case ast.Assign(targets=targets):
                names += [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
            case _:
                pass
    return names
