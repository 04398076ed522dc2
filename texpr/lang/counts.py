"""Dims that only the device knows: ``dims=dict(N="count[] <= CAP")``, where ``count`` is a tensor with one integer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.lang.errors import ContractError, DeviceDimError, did_you_mean
from texpr.lang.ir import DeviceDim
from texpr.lang.syntax import ParamSyntax
from texpr.math.expr import free_symbols
from texpr.math.parse import parse_int

_COUNT: Final = re.compile(r"\s*(\w+)\s*\[\s*\]\s*<=(.*)", re.DOTALL)
_TYPES: Final = (DType.I32, DType.U32, DType.I64)


def read_counts(
    dims: object, params: Sequence[ParamSyntax]
) -> tuple[tuple[DeviceDim, ...], dict[str, str]]:
    """The dims that the device knows, and the texts of those derived on the host. Raises ContractError and
    DeviceDimError."""
    if not isinstance(dims, Mapping):
        problem = f"takes a dict of expressions, got {dims!r}"
        raise ContractError(name="dims", problem=problem, hint="dims=dict(P='H // 2')")
    found: list[DeviceDim] = []
    host: dict[str, str] = {}
    for name, text in dims.items():
        match = _COUNT.fullmatch(str(text))
        if match is not None:
            found.append(DeviceDim(name, match[1], parse_int(match[2])))
        elif "[" in str(text):
            problem = f"'{text}' is not what a device dim looks like"
            raise DeviceDimError(name=name, problem=problem, hint=f"{name}='count[] <= CAP'")
        else:
            host[name] = str(text)
    return tuple(found), host


def check_count(
    count: DeviceDim, params: Iterable[ParamSyntax], types: Mapping[str, Sequence[DType]], known: Collection[str]
) -> None:
    """The count is one integer in memory, and the room is known to the caller."""
    given = {param.name: param for param in params}
    param = given.get(count.source)
    if param is None:
        problem = f"there is no argument {count.source}"
        raise DeviceDimError(name=count.name, problem=problem, hint=did_you_mean(count.source, given))
    found = types.get(param.type_name) or [dtype for dtype in _TYPES if dtype.value == param.type_name]
    counts = bool(found) and all(dtype in _TYPES for dtype in found)
    if param.dims is None or param.dims or param.optional or not counts:
        problem = f"{count.source} is not one integer in memory"
        raise DeviceDimError(name=count.name, problem=problem, hint=f"{count.source}: i32[]")
    for name in sorted(free_symbols(count.room) - set(known)):
        hint = did_you_mean(name, known)
        raise DeviceDimError(name=count.name, problem=f"no input's shape says what {name} is", hint=hint)


def check_counted(param: ParamSyntax, counts: Iterable[DeviceDim], params: Iterable[ParamSyntax]) -> None:
    """How much of an input has values is known before the first kernel."""
    outputs = {other.name for other in params if other.output}
    for count in counts:
        used = any(count.name in free_symbols(dim) for dim in itertools.chain.from_iterable(param.dims or ()))
        if used and not param.output and count.source in outputs:
            problem = f"{param.name} is an input, and {count.source} an output"
            hint = f"{count.room} as the dim of {param.name}"
            raise DeviceDimError(name=count.name, problem=problem, hint=hint)
