"""The C shape of an entry: fields of its argument struct, sizes of its context and info structs.

The header, the launcher and the manifest all read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from texpr.aot.c_names import C_TYPES, c_names
from texpr.aot.ir import Entry, ScalarArgument, TensorArgument
from texpr.dtypes import Kind

DIM_MAX: Final = 0x7FFF0000
"""The largest dim a launcher accepts: leaves room to round a dim up to any tile in 32-bit arithmetic."""

WORKSPACE_ALIGNMENT: Final = 256
"""Bytes. Every workspace buffer, and the workspace itself, starts at a multiple of it."""

_DEVICE_BYTES: Final = 168  # struct <name>_device: driver table 136, magic 8, context 8, four 32-bit numbers
_KERNEL_BYTES: Final = 20  # a module, a function, the index of an image


class FieldRole(Enum):
    """What a field of the argument struct holds."""

    TENSOR = "tensor"
    SCALAR = "scalar"
    DIM = "dim"
    STRIDE = "stride"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of ``<symbol>_args`` after ``struct_size`` and ``abi_version``. ``name`` is the user's, ``c_name`` the
    one in C.
    """

    name: str
    c_name: str
    c_type: str
    role: FieldRole


def args_fields(entry: Entry) -> tuple[Field, ...]:
    """Signature arguments in order, then int64 dims, then int64 strides. ValueError if two names collide in C."""
    rows: list[tuple[str, str, FieldRole]] = []
    for argument in entry.arguments:
        match argument:
            case TensorArgument(name=name, output=output):
                rows.append((name, "void *" if output else "const void *", FieldRole.TENSOR))
            case ScalarArgument(name=name, dtype=dtype):
                if dtype not in C_TYPES:
                    raise ValueError(f"{entry.symbol}: a scalar of type {dtype} has no C type ({name})")
                rows.append((name, C_TYPES[dtype], FieldRole.SCALAR))
    rows += [(name, "int64_t", FieldRole.DIM) for name in entry.dims]
    rows += [(name, "int64_t", FieldRole.STRIDE) for name in stride_arguments(entry)]
    names = c_names((row[0] for row in rows), entry.symbol)
    return tuple(Field(name, c, c_type, role) for (name, c_type, role), c in zip(rows, names, strict=True))


def stride_arguments(entry: Entry) -> tuple[str, ...]:
    """Names of the stride arguments, in argument and then dim order."""
    return tuple(name for tensor in tensors(entry) for _, name in tensor.strided)


def tensors(entry: Entry) -> tuple[TensorArgument, ...]:
    """The tensor arguments in order."""
    return tuple(argument for argument in entry.arguments if isinstance(argument, TensorArgument))


def integer_scalars(entry: Entry) -> tuple[ScalarArgument, ...]:
    """The integer scalar arguments (bool is not one) in order."""
    return tuple(
        argument
        for argument in entry.arguments
        if isinstance(argument, ScalarArgument) and argument.dtype.kind in (Kind.SIGNED, Kind.UNSIGNED)
    )


def argument_index(entry: Entry, name: str) -> int:
    """Position of an argument in the signature, as ``texpr_error.argument`` reports it; ValueError if there is none."""
    for index, argument in enumerate(entry.arguments):
        if argument.name == name:
            return index
    raise ValueError(f"{entry.symbol} has no argument {name}")


def kernel_names(entry: Entry) -> tuple[str, ...]:
    """The kernels that the entry's variants launch, each once, in order of first use."""
    return tuple(dict.fromkeys(launch.kernel for variant in entry.variants for launch in variant.launches))


def context_words(entry: Entry) -> int:
    """Length of ``opaque`` in ``<symbol>_ctx``: the device, every kernel, and a byte per variant. The launcher asserts
    that it is enough.
    """
    used = _DEVICE_BYTES + _KERNEL_BYTES * len(kernel_names(entry)) + len(entry.variants)
    return (used + 7) // 8


def max_launches(entry: Entry) -> int:
    """Length of the per-launch arrays in ``<symbol>_info``."""
    return max(len(variant.launches) for variant in entry.variants)
