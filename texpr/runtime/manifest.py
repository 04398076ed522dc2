"""The parts of a bundle's ``manifest.json`` that a caller needs, as typed records. Reading checks every field it
uses.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from texpr.contracts import ContractKind, contract_text
from texpr.domains import Domain, parse_condition
from texpr.dtypes import DType, dtype_named
from texpr.errors import TExprError
from texpr.runtime.errors import ManifestError, NoLibraryError, NotABundleError
from texpr.runtime.expressions import Expression, parse

MANIFEST_VERSION: Final = 3
ABI_VERSION: Final = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Contract:
    """A promise of the caller; ``limit`` is the ``Z`` of ``offsets(Z)`` and ``text`` the contract as written."""

    kind: ContractKind
    limit: Expression | None
    text: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor argument. ``shape`` is logical; ``groups`` counts the logical dims of each storage dim, ``text`` prints
    them.

    ``strided`` maps a storage dim to the name of its stride argument; ``variable`` is a type variable bound to
    ``dtype``, if there is one. ``low`` and ``high`` (half-open; in ``domain``, if there is one, else everywhere) and
    ``contracts`` are promises of the caller.
    """

    name: str
    dtype: DType
    variable: str | None
    shape: tuple[Expression, ...]
    text: tuple[str, ...]
    groups: tuple[int, ...]
    output: bool
    optional: bool
    may_alias: str | None
    strided: tuple[tuple[int, str], ...]
    low: Expression | None = None
    high: Expression | None = None
    domain: Domain | None = None
    contracts: tuple[Contract, ...] = ()
    valid: tuple[Expression, ...] | None = None

    def storage_dims(self) -> list[tuple[int, ...]]:
        """For each storage dim, the positions of its logical dims."""
        found: list[tuple[int, ...]] = []
        start = 0
        for count in self.groups:
            found.append(tuple(range(start, start + count)))
            start += count
        return found

    def declared(self) -> str:
        """The shape as the signature spells it: ``[B, (G, R), S]``."""
        dims = [", ".join(self.text[i] for i in group) for group in self.storage_dims()]
        marks = dict(self.strided)
        shown = [
            (f"({dim})" if len(group) > 1 else dim) + ("*" if index in marks else "")
            for index, (dim, group) in enumerate(zip(dims, self.storage_dims(), strict=True))
        ]
        return f"[{', '.join(shown)}]"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar argument; ``low`` and ``high`` (half-open, as text) are checked by the launcher."""

    name: str
    dtype: DType
    low: str | None
    high: str | None


Argument = Tensor | Scalar


@dataclass(frozen=True, slots=True)
class Variant:
    """What ``info`` prints of a variant; ``kernels`` are the names of the launched kernels in order, ``workspace`` of
    its buffers.
    """

    name: str
    targets: tuple[str, ...]
    guard: str
    kernels: tuple[str, ...]
    workspace: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """A dim that kernels read from the tensor ``source``; more than ``room`` counts as ``room``."""

    name: str
    source: str
    room: Expression


@dataclass(frozen=True)
class Entry:
    """One C function family. (Without slots, so that what every call asks for is computed once.)"""

    symbol: str
    types: tuple[tuple[str, DType], ...]
    statics: tuple[tuple[str, int], ...]
    arguments: tuple[Argument, ...]
    dims: tuple[str, ...]
    derived: tuple[tuple[str, Expression], ...]
    facts: tuple[str, ...]
    variants: tuple[Variant, ...]
    context_words: int
    max_launches: int
    counts: tuple[Count, ...] = ()

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(argument for argument in self.arguments if isinstance(argument, Tensor))

    @cached_property
    def scalars(self) -> tuple[Scalar, ...]:
        return tuple(argument for argument in self.arguments if isinstance(argument, Scalar))

    @cached_property
    def inputs(self) -> tuple[Argument, ...]:
        """What a call takes by position."""
        return tuple(a for a in self.arguments if isinstance(a, Scalar) or not a.output)

    @cached_property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.output)

    def describe(self) -> str:
        """``linear_gelu_f16 (T=f16, R=3)``."""
        binding = [f"{name}={dtype}" for name, dtype in self.types] + [
            f"{name}={value}" for name, value in self.statics
        ]
        return f"{self.symbol} ({', '.join(binding)})" if binding else self.symbol

    def signature(self) -> str:
        """The arguments in the spelling of an algorithm's signature."""
        shown: list[str] = []
        for argument in self.arguments:
            match argument:
                case Tensor():
                    mark = "?" if argument.optional else ""
                    shown.append(f"{argument.name}: {argument.dtype}{argument.declared()}{mark}")
                case Scalar():
                    shown.append(f"{argument.name}: {argument.dtype}")
        split = len(self.inputs)
        return f"{', '.join(shown[:split])} -> {', '.join(shown[split:])}"


@dataclass(frozen=True, slots=True)
class Cubin:
    """One compiled kernel on one target; sizes in bytes. ``checked``: ``texpr check`` executed its PTX and found it
    right.
    """

    target: str
    file: str
    registers: int
    shared_bytes: int
    stack_bytes: int
    threads: int
    checked: bool


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and its cubins, one per target. ``cluster``: the programs that share a cluster (1: there are none)."""

    name: str
    cubins: tuple[Cubin, ...]
    cluster: int = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """A bundle: ``directory`` is absolute, ``libraries`` maps host triples to paths inside it, ``files`` paths to
    sha256.
    """

    directory: Path
    name: str
    libraries: dict[str, str]
    entries: tuple[Entry, ...]
    kernels: tuple[Kernel, ...]
    files: dict[str, str]

    def library(self) -> Path:
        """The launcher library for this host. Raises NoLibraryError."""
        host = host_triple()
        relative = self.libraries.get(host)
        if relative is None or not (self.directory / relative).is_file():
            available = ", ".join(sorted(self.libraries)) or "none"
            raise NoLibraryError(name=self.name, host=host, available=available)
        return self.directory / relative

    def targets(self) -> tuple[str, ...]:
        """Every target some kernel was compiled for, in the manifest's order."""
        return tuple(dict.fromkeys(cubin.target for kernel in self.kernels for cubin in kernel.cubins))


def host_triple() -> str:
    """This machine as ``x86_64-linux-gnu``: processor, system, C library."""
    try:
        libc = "gnu" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"
    except (ValueError, OSError):
        libc = "musl"
    return f"{os.uname().machine}-{sys.platform}-{libc}"


def read_manifest(directory: Path) -> Manifest:
    """Read ``directory/manifest.json``. Raises NotABundleError or ManifestError."""
    directory = directory.resolve()
    path = directory / "manifest.json"
    if not path.is_file():
        problem = "it has no manifest.json" if directory.is_dir() else "there is no such directory"
        raise NotABundleError(directory=directory, problem=problem)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        _check_versions(data, path)
        return Manifest(
            directory=directory,
            name=_a(str, data["name"]),
            libraries={_a(str, library["host"]): _a(str, library["path"]) for library in data["libraries"]},
            entries=_all(_entry, data["functions"]),
            kernels=_all(_kernel, data["kernels"]),
            files={file: _a(str, digest) for file, digest in data.get("files", {}).items()},
        )
    except TExprError:
        raise
    except KeyError as error:
        raise ManifestError(file=path, problem=f"the field {error} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ManifestError(file=path, problem=str(error)) from None


def _check_versions(data: dict[str, Any], path: Path) -> None:
    for field, known in (("texpr_manifest", MANIFEST_VERSION), ("abi_version", ABI_VERSION)):
        if data[field] != known:
            raise ManifestError(file=path, problem=f"{field} is {data[field]}, this version of TExpr reads {known}")


def _a(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} should be a {kind.__name__}")
    return value


def _all(read: Callable[[Any], _T], values: list[Any]) -> tuple[_T, ...]:
    return tuple(read(value) for value in _a(list, values))


def _dtype(name: object) -> DType:
    dtype = dtype_named(_a(str, name))
    if dtype is None:
        raise ValueError(f"unknown element type {name!r}")
    return dtype


def _text(value: object) -> str:
    return _a(str, value)


def _optional_text(value: object) -> str | None:
    return None if value is None else _a(str, value)


def _entry(data: dict[str, Any]) -> Entry:
    types = tuple((name, _dtype(dtype)) for name, dtype in data["types"].items())
    return Entry(
        symbol=_a(str, data["symbol"]),
        types=types,
        statics=tuple((name, _a(int, value)) for name, value in data["statics"].items()),
        arguments=tuple(_argument(argument, types) for argument in data["arguments"]),
        dims=_all(_text, data["dims"]),
        derived=tuple((_a(str, dim["name"]), parse(_a(str, dim["value"]))) for dim in data["derived"]),
        facts=_all(_text, data["facts"]),
        counts=_all(_count, data.get("counts", [])),
        variants=_all(_variant, data["variants"]),
        context_words=_a(int, data["context_words"]),
        max_launches=_a(int, data["max_launches"]),
    )


def _argument(data: dict[str, Any], types: tuple[tuple[str, DType], ...]) -> Argument:
    name, dtype = _a(str, data["name"]), _dtype(data["dtype"])
    if data["kind"] == "scalar":
        return Scalar(name, dtype, _optional_text(data["low"]), _optional_text(data["high"]))
    if data["kind"] != "tensor":
        raise ValueError(f"argument {name}: kind {data['kind']!r} is neither 'tensor' nor 'scalar'")
    variable = next((name for name, bound in types if bound is dtype), None)
    tensor = Tensor(
        name=name,
        dtype=dtype,
        variable=variable,
        shape=tuple(parse(_a(str, text)) for text in data["shape"]),
        text=_all(_text, data["shape"]),
        valid=None if data.get("valid") is None else tuple(parse(_a(str, text)) for text in data["valid"]),
        groups=tuple(_a(int, count) for count in data["groups"]),
        output=_a(bool, data["output"]),
        optional=_a(bool, data["optional"]),
        may_alias=_optional_text(data["may_alias"]),
        strided=tuple((_a(int, stride["dim"]), _a(str, stride["name"])) for stride in data["strides"]),
        low=_expression(data["low"]),
        high=_expression(data["high"]),
        domain=_domain(data["domain"]),
        contracts=_all(_contract, data["contracts"]),
    )
    if sum(tensor.groups) != len(tensor.shape):
        raise ValueError(f"argument {name}: groups {list(tensor.groups)} do not cover its {len(tensor.shape)} dims")
    return tensor


def _expression(value: object) -> Expression | None:
    return None if value is None else parse(_a(str, value))


def _domain(data: dict[str, Any] | None) -> Domain | None:
    if data is None:
        return None
    domain = Domain(_a(str, data["where"]), _all(_text, data["indices"]))
    parse_condition(domain.text)
    return domain


def _count(data: dict[str, Any]) -> Count:
    return Count(_a(str, data["name"]), _a(str, data["source"]), parse(_a(str, data["room"])))


def _contract(data: dict[str, Any]) -> Contract:
    kind, limit = ContractKind(data["kind"]), _optional_text(data["limit"])
    return Contract(kind, _expression(limit), contract_text(kind, limit))


def _variant(data: dict[str, Any]) -> Variant:
    return Variant(
        name=_a(str, data["name"]),
        targets=_all(_text, data["targets"]),
        guard=_a(str, data["guard"]),
        kernels=tuple(_a(str, launch["kernel"]) for launch in data["launches"]),
        workspace=tuple(_a(str, buffer["name"]) for buffer in data["workspace"]),
    )


def _kernel(data: dict[str, Any]) -> Kernel:
    return Kernel(_a(str, data["name"]), _all(_cubin, data["images"]), _a(int, data.get("cluster", 1)))


def _cubin(data: dict[str, Any]) -> Cubin:
    return Cubin(
        target=_a(str, data["target"]),
        file=_a(str, data["cubin"]),
        registers=_a(int, data["registers"]),
        shared_bytes=_a(int, data["shared_bytes"]),
        stack_bytes=_a(int, data["stack_bytes"]),
        threads=_a(int, data["threads"]),
        checked=_a(bool, data["checked"]),
    )
