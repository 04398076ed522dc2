"""NumPy arguments against a signature: which binding they mean, the dims that their shapes give, and every check of
the contract."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from texpr.contracts import position_text, violation
from texpr.domains import holds_at
from texpr.dtypes import DType
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.arrays import Array, decode, describe_storage, round_float, storage_dtype
from texpr.lang.errors import ReferenceArgumentError, did_you_mean
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.math.expr import IntExpr, Sym, evaluate, free_symbols, substitute, sym, terms_of


@dataclass(frozen=True, slots=True)
class Binding:
    """What :meth:`AlgorithmDef.bind` needs."""

    types: dict[str, str]
    statics: dict[str, int]


@dataclass(frozen=True, slots=True)
class Arguments:
    """Checked arguments: value arrays in logical shape (absent optional tensors are missing), scalars, and every dim
    by name."""

    arrays: Mapping[Any, Array]
    scalars: Mapping[Scalar, Array]
    dims: Mapping[str, int]


def choose_binding(
    algorithm: AlgorithmDef,
    types: Mapping[str, str | DType],
    statics: Mapping[str, int],
    arguments: Mapping[str, object],
) -> Binding:
    """Type variables from the arrays' NumPy types, and statics from the arguments or the arrays' shapes, where they
    are not given."""
    signature = algorithm.signature
    chosen = {variable: str(dtype) for variable, dtype in types.items()}
    values = {
        name: value for name, value in arguments.items() if name in signature.statics and isinstance(value, int)
    } | dict(statics)
    for param in signature.params:
        given = arguments.get(param.name)
        if param.output or param.dims is None or given is None:
            continue
        array = np.asarray(given)
        if param.type_name in signature.types and param.type_name not in chosen:
            fitting = [dtype for dtype in signature.types[param.type_name] if _is_storage(array, dtype)]
            if len(fitting) != 1:
                choices = ", ".join(dtype.value for dtype in fitting or signature.types[param.type_name])
                problem = f"an array of {array.dtype} does not say which of {choices} {param.type_name} is"
                raise ReferenceArgumentError(
                    name=param.name, problem=problem, hint=f"types={{'{param.type_name}': ...}}"
                )
            chosen[param.type_name] = fitting[0].value
        for name, size in _bare_dims(param.dims, array.shape).items():
            if name in signature.statics and name not in values and signature.statics[name] is None:
                values[name] = size
    return Binding(chosen, values)


def _is_storage(array: Array, dtype: DType) -> bool:
    try:
        decode(array[:0] if array.ndim else array, dtype)
    except TypeError:
        return False
    return True


def _bare_dims(dims: tuple[tuple[IntExpr, ...], ...], shape: tuple[int, ...]) -> dict[str, int]:
    """Sizes of the storage dims that are a single name."""
    if len(dims) != len(shape):
        return {}
    return {
        parts[0].name: size
        for parts, size in zip(dims, shape, strict=True)
        if len(parts) == 1 and isinstance(parts[0], Sym)
    }


def resolve_call(
    algorithm: AlgorithmDef | Algorithm,
    types: Mapping[str, str | DType],
    statics: Mapping[str, int],
    arguments: Mapping[str, object],
) -> tuple[Algorithm, Arguments]:
    """The binding that a call by keyword arguments means, and its checked arguments."""
    if isinstance(algorithm, Algorithm):
        return algorithm, bind_arguments(algorithm, arguments)
    chosen = choose_binding(algorithm, types, statics, arguments)
    bound = algorithm.bind(chosen.types, chosen.statics)
    used = {name for name, _ in bound.statics}
    return bound, bind_arguments(bound, {name: value for name, value in arguments.items() if name not in used})


def bind_arguments(algorithm: Algorithm, arguments: Mapping[str, object]) -> Arguments:
    """Checks names, types, shapes, facts and ranges. Raises ReferenceArgumentError."""
    given = {name: value for name, value in arguments.items() if value is not None}
    free = [dim.name for dim in algorithm.dims if dim.value is None]
    inputs = {tensor.name: tensor for tensor in algorithm.inputs}
    scalars = {scalar.name: scalar for scalar in algorithm.scalars}
    for name in given:
        if name not in inputs and name not in scalars and name not in free:
            raise ReferenceArgumentError(
                name=name, problem="no such argument", hint=did_you_mean(name, [*inputs, *scalars, *free])
            )
    for name in (*inputs, *scalars):
        if name not in given and not (name in inputs and (inputs[name].optional or inputs[name].hint)):
            raise ReferenceArgumentError(name=name, problem="is missing", hint=f"{name}=...")
    raw = {tensor: np.asarray(given[name]) for name, tensor in inputs.items() if name in given}
    dims = _solve_dims(algorithm, raw, {name: int(given[name]) for name in free if name in given})  # type: ignore[call-overload]
    for fact in algorithm.facts:
        if not evaluate(fact, dims):
            raise ReferenceArgumentError(
                name=algorithm.name, problem=f"require '{fact}' is false for {_dims_text(dims)}", hint="other sizes"
            )
    for count in algorithm.counts:
        source = inputs.get(count.source)
        if source is not None:
            dims[count.name] = count.value_of(int(_logical(source, raw[source], dims)), dims)
    arrays = {tensor: _logical(tensor, array, dims) for tensor, array in raw.items()}
    values = {scalar: _scalar(scalar, given[name], dims) for name, scalar in scalars.items()}
    numbers = {**dims, **{scalar.name: int(value) for scalar, value in values.items() if scalar.dtype.is_int}}
    for tensor, array in arrays.items():
        _check_range(tensor, array, numbers, {other.name: values for other, values in arrays.items()})
    return Arguments(arrays, values, dims)


def with_values(tensor: Tensor, values: Array, dims: Mapping[str, int]) -> Array:
    """The part of a value array that has values: what lies beyond a dim that the device counts has none."""
    if tensor.valid is None:
        return values
    return values[tuple(slice(evaluate(extent, dims)) for extent in tensor.valid)]


def _solve_dims(algorithm: Algorithm, raw: Mapping[Tensor, Array], known: dict[str, int]) -> dict[str, int]:
    """Every dim by name: bare names first, then composite dims with one unknown name, then derived dims."""
    dims = dict(known)
    for tensor, array in raw.items():
        if array.ndim not in (len(tensor.groups), tensor.rank):
            raise ReferenceArgumentError(
                name=tensor.name, problem=f"has {array.ndim} dims, not {len(tensor.groups)}", hint=_shape_text(tensor)
            )
        for parts, size in _storage_parts(tensor, array.shape):
            if len(parts) == 1 and isinstance(parts[0], Sym):
                dims.setdefault(parts[0].name, size)
    for _ in algorithm.dims:
        for tensor, array in raw.items():
            for parts, size in _storage_parts(tensor, array.shape):
                _solve_composite(parts, size, dims)
    for dim in algorithm.dims:
        if dim.value is None and dim.name not in dims:
            raise ReferenceArgumentError(
                name=dim.name, problem="no array's shape determines this dim", hint=f"pass {dim.name}=..."
            )
        if dim.value is not None:
            dims[dim.name] = evaluate(dim.value, dims)
        if dims[dim.name] < 0:
            raise ReferenceArgumentError(
                name=dim.name, problem=f"is {dims[dim.name]} for {_dims_text(dims)}", hint="other sizes"
            )
    return dims


def _storage_parts(tensor: Tensor, shape: tuple[int, ...]) -> list[tuple[tuple[IntExpr, ...], int]]:
    """The logical dims of each array dim: an array may have the storage shape or the logical one."""
    if len(shape) == tensor.rank:
        return [((dim,), size) for dim, size in zip(tensor.shape, shape, strict=True)]
    starts = itertools.accumulate(tensor.groups, initial=0)
    return [
        (tensor.shape[start : start + width], size)
        for start, width, size in zip(starts, tensor.groups, shape, strict=False)
    ]


def _solve_composite(parts: tuple[IntExpr, ...], size: int, dims: dict[str, int]) -> None:
    unknown = [part for part in parts if not free_symbols(part) <= dims.keys()]
    if len(unknown) == 1:
        rest = math.prod(evaluate(part, dims) for part in parts if part is not unknown[0])
        if rest and size % rest == 0:
            _solve_linear(unknown[0], size // rest, dims)


def _solve_linear(part: IntExpr, size: int, dims: dict[str, int]) -> None:
    """``E + 1 = size``, or another expression with one unknown name in it, times a number."""
    names = free_symbols(part) - dims.keys()
    terms = terms_of(part)
    inside = [monomial for monomial in terms if any(free_symbols(each) & names for each in monomial)]
    if len(inside) == 1 and inside[0] == (sym(*names),):
        (name,) = names
        factor = terms[inside[0]]
        value, rest = divmod(size - evaluate(substitute(part, {name: 0}), dims), factor)
        if rest == 0:
            dims[name] = value


def _logical(tensor: Tensor, array: Array, dims: Mapping[str, int]) -> Array:
    shape = tuple(evaluate(dim, dims) for dim in tensor.shape)
    expected = (
        shape
        if array.ndim == tensor.rank
        else tuple(
            math.prod(evaluate(part, dims) for part in parts) for parts, _ in _storage_parts(tensor, array.shape)
        )
    )
    if array.shape != expected:
        problem = f"has shape {array.shape}, the signature says {expected} for {_dims_text(dims)}"
        raise ReferenceArgumentError(name=tensor.name, problem=problem, hint=_shape_text(tensor))
    try:
        values = decode(array, tensor.dtype)
    except TypeError as error:
        raise ReferenceArgumentError(
            name=tensor.name, problem=str(error), hint=describe_storage(tensor.dtype)
        ) from None
    values = with_values(tensor, values.reshape(shape), dims)
    for contract in tensor.contracts:
        limit = None if contract.limit is None else evaluate(contract.limit, dims)
        broken = violation(contract.kind, values, limit)
        if broken is not None:
            position, problem = broken
            raise ReferenceArgumentError(
                name=tensor.name,
                problem=f"breaks the contract '{contract}': element {position_text(position)} {problem}",
                hint="keep the contract, or loosen it in the signature",
            )
    return values


def _check_range(tensor: Tensor, values: Array, numbers: Mapping[str, int], arrays: Mapping[str, Array]) -> None:
    """The values that a range is promised of lie in it. ``numbers`` are dims and integer scalars."""
    if tensor.low is None or tensor.high is None:
        return
    text = ""
    if tensor.domain is not None:
        text = f" where {tensor.domain.named.text}"
        values = values[holds_at(tensor.domain.named, values.shape, numbers, arrays)]
    low, high = evaluate(tensor.low, numbers), evaluate(tensor.high, numbers)
    if values.size and (int(values.min()) < low or int(values.max()) >= high):
        problem = f"has values in [{values.min()}, {values.max()}], the contract says [{low}, {high}){text}"
        raise ReferenceArgumentError(
            name=tensor.name, problem=problem, hint="keep the contract, or loosen it in the signature"
        )


def _scalar(scalar: Scalar, value: object, dims: Mapping[str, int]) -> Array:
    try:
        number = np.asarray(value).reshape(())
        wide = float(number)
    except (TypeError, ValueError):
        problem = f"must be one number, got {value!r}"
        raise ReferenceArgumentError(name=scalar.name, problem=problem, hint=f"a {scalar.dtype}") from None
    if scalar.dtype.is_float:
        return round_float(np.asarray(wide), scalar.dtype)
    exact = number.astype(storage_dtype(scalar.dtype))
    if number != exact:
        problem = f"{value!r} is not a value of {scalar.dtype}"
        raise ReferenceArgumentError(name=scalar.name, problem=problem, hint=f"a {scalar.dtype}")
    if scalar.low is not None and scalar.high is not None:
        low, high = evaluate(scalar.low, dims), evaluate(scalar.high, dims)
        if not low <= int(exact) < high:
            problem = f"is {value!r}, the contract says [{low}, {high})"
            raise ReferenceArgumentError(name=scalar.name, problem=problem, hint="keep the contract")
    return exact


def _shape_text(tensor: Tensor) -> str:
    parts: list[str] = []
    start = 0
    for width in tensor.groups:
        texts = [str(dim) for dim in tensor.shape[start : start + width]]
        parts.append(texts[0] if width == 1 else f"({', '.join(texts)})")
        start += width
    return f"{tensor.name}: {tensor.dtype}[{', '.join(parts)}]"


def _dims_text(dims: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in dims.items())
