"""The bundle's own launcher, ``lib<name>.so``, through ctypes: the C API of ``<name>.h`` with the field lists of the
manifest.

This is the lowest level of the runtime: addresses and integers in, statuses out as exceptions.
:mod:`texpr.runtime.bundle` puts arrays on top; a checker that wants misaligned or overlapping pointers uses it
directly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from texpr.runtime.errors import LibraryError
from texpr.runtime.manifest import ABI_VERSION, Entry, Manifest, Tensor
from texpr.runtime.scalars import C_TYPES
from texpr.runtime.status import CallFacts, error_of

_DRIVER_BYTES = 256
"""Room for a ``texpr_driver`` that the library fills itself."""


class CallError(ctypes.Structure):
    """``texpr_error``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("status", "cuda_result", "argument", "other", "dim", "capability")),
        ("needed", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class LaunchInfo:
    """One kernel launch of a query: its name, grid (programs), block (threads) and shared memory (bytes)."""

    kernel: str
    grid: int
    block: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a call with these arguments would do: the entry, the variant by position and name, its launches, the
    workspace in bytes.

    When every output is empty there is nothing to do: ``variant`` is -1 and ``launches`` is empty.
    """

    entry: str
    variant: int
    variant_name: str
    launches: tuple[LaunchInfo, ...]
    workspace_bytes: int


@dataclass(frozen=True, slots=True)
class RawCall:
    """The argument struct of one call: addresses of tensors (0 = absent), encoded scalars, dims, and strides in
    elements.
    """

    addresses: Mapping[str, int]
    scalars: Mapping[str, int | float]
    dims: Mapping[str, int]
    strides: Mapping[str, int]


class Library:
    """The functions of a bundle. Loading it starts no driver."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        path = manifest.library()
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise LibraryError(file=path, problem=str(error)) from None

    def open_cuda_driver(self) -> Any:
        """A driver table filled from ``libcuda.so.1``. Raises NoDriverError."""
        table = (ctypes.c_uint64 * (_DRIVER_BYTES // 8))()
        details = CallError()
        name = self.manifest.name
        status = self.function(f"{name}_driver_open")(ctypes.byref(table), ctypes.byref(details))
        if status != 0:
            raise error_of(status, details, CallFacts(self.manifest, None, {}, self.status_text(status)))
        return table

    def status_text(self, status: int) -> str:
        """``<name>_status_string``."""
        function = self.function(f"{self.manifest.name}_status_string")
        function.restype = ctypes.c_char_p
        text: bytes | None = function(ctypes.c_int32(status))
        return text.decode() if text else "unknown status"

    def function(self, symbol: str) -> Any:
        """An exported function that returns a status. Raises LibraryError."""
        try:
            function = getattr(self._library, symbol)
        except AttributeError:
            raise LibraryError(file=self.manifest.library(), problem=f"it does not export {symbol}") from None
        function.restype = ctypes.c_int32
        return function


class EntryFunctions:
    """One entry's functions and the ctypes of its structs."""

    def __init__(self, library: Library, entry: Entry) -> None:
        self.library = library
        self.entry = entry
        self._init = library.function(f"{entry.symbol}_init")
        self._query = library.function(f"{entry.symbol}_query")
        self._launch = library.function(f"{entry.symbol}_launch")
        self._close = library.function(f"{entry.symbol}_close")
        self._args_type = _args_type(entry)
        self._info_type = _info_type(entry)

    def open(self, driver: Any) -> Context:
        """``<symbol>_init`` in the current CUDA context; ``driver`` is a table that must outlive nothing (it is
        copied).
        """
        return Context(self, driver)

    def arguments(self, call: RawCall) -> ctypes.Structure:
        """The filled ``<symbol>_args``."""
        fields: dict[str, Any] = {}
        for index, argument in enumerate(self.entry.arguments):
            value = call.addresses[argument.name] if isinstance(argument, Tensor) else call.scalars[argument.name]
            fields[_field(index)] = value
        position = len(self.entry.arguments)
        strides = [stride for tensor in self.entry.tensors for _, stride in tensor.strided]
        for value in [call.dims[name] for name in self.entry.dims] + [call.strides[name] for name in strides]:
            fields[_field(position)] = value
            position += 1
        filled: ctypes.Structure = self._args_type(ctypes.sizeof(self._args_type), ABI_VERSION, **fields)
        return filled

    def check(self, status: int, details: CallError, dims: Mapping[str, int]) -> None:
        """Raise the error that a status stands for."""
        if status != 0:
            facts = CallFacts(self.library.manifest, self.entry, dict(dims), self.library.status_text(status))
            raise error_of(status, details, facts)


class Context:
    """An entry initialised in one CUDA context. ``close`` unloads its modules; an unclosed one leaks them."""

    def __init__(self, functions: EntryFunctions, driver: Any) -> None:
        self.functions = functions
        self._storage = (ctypes.c_uint64 * functions.entry.context_words)()
        details = CallError()
        status = functions._init(ctypes.byref(self._storage), ctypes.byref(driver), ctypes.byref(details))
        functions.check(status, details, {})

    def query(self, call: RawCall) -> QueryResult:
        """``<symbol>_query``."""
        functions = self.functions
        arguments = functions.arguments(call)
        info = functions._info_type(ctypes.sizeof(functions._info_type), ABI_VERSION)
        details = CallError()
        status = functions._query(
            ctypes.byref(self._storage), ctypes.byref(arguments), ctypes.byref(info), ctypes.byref(details)
        )
        functions.check(status, details, call.dims)
        kernels = functions.entry.variants[info.variant].kernels if info.variant >= 0 else ()
        launches = tuple(
            LaunchInfo(kernels[i], info.grid[i], info.block[i], info.shared_bytes[i]) for i in range(info.launches)
        )
        return QueryResult(
            functions.entry.symbol, info.variant, info.variant_name.decode(), launches, info.workspace_bytes
        )

    def launch(self, call: RawCall, *, stream: int, workspace: int, workspace_bytes: int) -> None:
        """``<symbol>_launch`` on a stream handle, with a workspace address (256-byte aligned; 0 when none is
        needed).
        """
        functions = self.functions
        arguments = functions.arguments(call)
        details = CallError()
        status = functions._launch(
            ctypes.byref(self._storage),
            ctypes.c_void_p(stream),
            ctypes.byref(arguments),
            ctypes.c_void_p(workspace),
            ctypes.c_size_t(workspace_bytes),
            ctypes.byref(details),
        )
        functions.check(status, details, call.dims)

    def close(self) -> None:
        """``<symbol>_close``."""
        details = CallError()
        status = self.functions._close(ctypes.byref(self._storage), ctypes.byref(details))
        self.functions.check(status, details, {})


def _field(position: int) -> str:
    """C field names are the user's and may be Python keywords or clash with ctypes' own; only the order matters
    here.
    """
    return f"field_{position}"


def _args_type(entry: Entry) -> type[ctypes.Structure]:
    types: list[Any] = [ctypes.c_void_p if isinstance(a, Tensor) else C_TYPES[a.dtype] for a in entry.arguments]
    integers = len(entry.dims) + sum(len(tensor.strided) for tensor in entry.tensors)
    types += [ctypes.c_int64] * integers
    fields: list[tuple[str, Any]] = [("struct_size", ctypes.c_uint32), ("abi_version", ctypes.c_uint32)]
    fields += [(_field(position), kind) for position, kind in enumerate(types)]
    return type(f"{entry.symbol}_args", (ctypes.Structure,), {"_fields_": fields})


def _info_type(entry: Entry) -> type[ctypes.Structure]:
    per_launch = ctypes.c_uint32 * entry.max_launches
    fields: list[tuple[str, Any]] = [
        ("struct_size", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
        ("variant", ctypes.c_int32),
        ("variant_name", ctypes.c_char_p),
        ("launches", ctypes.c_uint32),
        ("grid", per_launch),
        ("block", per_launch),
        ("shared_bytes", per_launch),
        ("workspace_bytes", ctypes.c_uint64),
    ]
    return type(f"{entry.symbol}_info", (ctypes.Structure,), {"_fields_": fields})
