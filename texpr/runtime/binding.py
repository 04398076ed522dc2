"""From the arguments of a Python call to an entry: which value is which argument, and which entry the element types
mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from texpr.dtypes import DType, dtype_named
from texpr.errors import TExprError
from texpr.runtime.arrays import ArrayView, view
from texpr.runtime.errors import (
    AmbiguousEntryError,
    ArgumentTwiceError,
    MissingArgumentError,
    NoEntryError,
    PackedTypeError,
    TooManyArgumentsError,
    UnknownArgumentError,
)
from texpr.runtime.manifest import Entry, Manifest, Scalar, Tensor
from texpr.runtime.shapes import solve_dims


def bind(manifest: Manifest, positional: Sequence[Any], out: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each argument by name; absent ones are missing from the result.

    ``positional`` are inputs (arrays and scalars) in signature order, ``out`` is one array, a sequence in output order,
    or a mapping. ``None`` for an array means absent. All entries of a bundle have the same argument names. Raises
    TX071x errors.
    """
    entry = manifest.entries[0]
    inputs = [argument.name for argument in entry.inputs]
    if len(positional) > len(inputs):
        raise TooManyArgumentsError(
            name=manifest.name, most=len(inputs), inputs=", ".join(inputs), given=len(positional)
        )
    values: dict[str, Any] = dict(zip(inputs, positional, strict=False))
    known = {argument.name for argument in entry.arguments}
    for name, value in [*_outputs(manifest, entry, out).items(), *named.items()]:
        if name not in known:
            choices = ", ".join(argument.name for argument in entry.arguments)
            raise UnknownArgumentError(name=manifest.name, what="argument", given=name, choices=choices)
        if name in values:
            raise ArgumentTwiceError(name=manifest.name, argument=name)
        values[name] = value
    return {name: value for name, value in values.items() if value is not None}


def _outputs(manifest: Manifest, entry: Entry, out: Any) -> dict[str, Any]:
    names = [tensor.name for tensor in entry.outputs]
    if out is None:
        return {}
    if isinstance(out, Mapping):
        return dict(out)
    given = list(out) if isinstance(out, list | tuple) else [out]
    if len(given) > len(names):
        raise TooManyArgumentsError(
            name=manifest.name,
            most=len(names),
            inputs=", ".join(names),
            given=len(given),
            hint=f"out= takes {len(names)} arrays",
        )
    return dict(zip(names, given, strict=False))


def require_inputs(manifest: Manifest, values: Mapping[str, Any]) -> None:
    """Raise MissingArgumentError for an input that is neither given nor optional."""
    entry = manifest.entries[0]
    for argument in entry.inputs:
        if argument.name in values or (isinstance(argument, Tensor) and argument.optional):
            continue
        kind = f"{argument.dtype} scalar" if isinstance(argument, Scalar) else f"array {argument.declared()}"
        raise MissingArgumentError(
            name=manifest.name, argument=argument.name, kind=kind, inputs=", ".join(a.name for a in entry.inputs)
        )


def view_arrays(entry: Entry, values: Mapping[str, Any]) -> dict[str, ArrayView]:
    """The given tensor arguments as array views."""
    return {tensor.name: view(tensor.name, values[tensor.name]) for tensor in entry.tensors if tensor.name in values}


def choose_entry(
    manifest: Manifest,
    arrays: Mapping[str, ArrayView],
    types: Mapping[str, str | DType],
    statics: Mapping[str, int],
    dims: Mapping[str, int],
) -> Entry:
    """The one entry whose element types, type variables, statics and, if that leaves several, shapes fit.

    Raw bit patterns (uint16 for bf16, uint8 for f8) fit only where ``types`` names the type, or no type variable is
    involved. Raises NoEntryError, AmbiguousEntryError, UnknownArgumentError, PackedTypeError.
    """
    wanted = _checked_types(manifest, types)
    _check_statics(manifest, statics)
    fitting = [entry for entry in manifest.entries if _fits(entry, arrays, wanted, statics)]
    if not fitting:
        entries = "; ".join(f"{entry.describe()}: {entry.signature()}" for entry in manifest.entries)
        raise NoEntryError(
            name=manifest.name,
            given=_given(arrays, wanted, statics),
            entries=entries,
            hint=_pattern_hint(manifest, arrays),
        )
    if len(fitting) > 1:
        fitting = [entry for entry in fitting if _shapes_fit(entry, arrays, dims)] or fitting
    if len(fitting) > 1:
        entries = ", ".join(entry.describe() for entry in fitting)
        raise AmbiguousEntryError(name=manifest.name, given=_given(arrays, wanted, statics), entries=entries)
    (entry,) = fitting
    for tensor in entry.tensors:
        if tensor.dtype.bits < 8:
            raise PackedTypeError(argument=tensor.name, dtype=tensor.dtype)
    return entry


def _checked_types(manifest: Manifest, types: Mapping[str, str | DType]) -> dict[str, DType]:
    known = sorted({name for entry in manifest.entries for name, _ in entry.types})
    wanted: dict[str, DType] = {}
    for name, value in types.items():
        if name not in known:
            choices = ", ".join(known) or "it has none"
            raise UnknownArgumentError(name=manifest.name, what="type variable", given=name, choices=choices)
        dtype = value if isinstance(value, DType) else dtype_named(value)
        if dtype is None:
            choices = ", ".join(dtype.value for dtype in DType)
            raise UnknownArgumentError(name=manifest.name, what="element type", given=value, choices=choices)
        wanted[name] = dtype
    return wanted


def _check_statics(manifest: Manifest, statics: Mapping[str, int]) -> None:
    known = sorted({name for entry in manifest.entries for name, _ in entry.statics})
    for name in statics:
        if name not in known:
            choices = ", ".join(known) or "it has none"
            raise UnknownArgumentError(name=manifest.name, what="static parameter", given=name, choices=choices)


def _fits(
    entry: Entry, arrays: Mapping[str, ArrayView], types: Mapping[str, DType], statics: Mapping[str, int]
) -> bool:
    bound, fixed = dict(entry.types), dict(entry.statics)
    if any(bound.get(name) is not dtype for name, dtype in types.items()):
        return False
    if any(fixed.get(name) != value for name, value in statics.items()):
        return False
    for tensor in entry.tensors:
        array = arrays.get(tensor.name)
        patterns = tensor.variable is None or tensor.variable in types
        if array is not None and not array.can_be(tensor.dtype, patterns):
            return False
    return True


def _shapes_fit(entry: Entry, arrays: Mapping[str, ArrayView], dims: Mapping[str, int]) -> bool:
    given = [(tensor, arrays[tensor.name]) for tensor in entry.tensors if tensor.name in arrays]
    try:
        solve_dims(entry, given, dims)
    except TExprError:
        return False
    return True


def _given(arrays: Mapping[str, ArrayView], types: Mapping[str, DType], statics: Mapping[str, int]) -> str:
    shown = [f"{name}: {array.dtype}" for name, array in arrays.items()]
    shown += [f"{name}={dtype}" for name, dtype in types.items()] + [
        f"{name}={value}" for name, value in statics.items()
    ]
    return ", ".join(shown) or "a call without arrays"


def _pattern_hint(manifest: Manifest, arrays: Mapping[str, ArrayView]) -> str | None:
    """How to say that raw integers are bf16 or f8 bits, where reading them so would have helped."""
    for entry in manifest.entries:
        everything = dict(entry.types)
        if everything and _fits(entry, arrays, everything, {}):
            named = ", ".join(f"'{name}': '{dtype}'" for name, dtype in everything.items())
            return f"types={{{named}}} says that the integers are {entry.describe()} bit patterns"
    return None
