"""Checks what the caller promises of the elements of inputs, before a call is run on the emulator.

On a GPU nothing looks at the elements: there these are the caller's obligations.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Final

from texpr.contracts import position_text, violation
from texpr.domains import Domain, holds_at, mentioned
from texpr.dtypes import DType
from texpr.runtime.arrays import ArrayView
from texpr.runtime.call import BoundCall
from texpr.runtime.errors import ContractBrokenError
from texpr.runtime.expressions import evaluate
from texpr.runtime.manifest import Tensor

_NOT_FINITE: Final = {DType.F16: 0x7C00, DType.BF16: 0x7F80, DType.F32: 0x7F800000, DType.TF32: 0x7F800000,
                      DType.F64: 0x7FF << 52, DType.F8E5M2: 0x7C, DType.F8E4M3: 0x7F}  # fmt: skip
"""Bits that are all ones in a NaN or an infinity, and in no finite number."""


def check_contracts(call: BoundCall) -> None:
    """Raises ContractBrokenError for the first input with an element outside its range or its contracts."""
    dims = _with_counts(call)
    for tensor in call.entry.tensors:
        array = call.arrays.get(tensor.name)
        if not tensor.output and array is not None and (tensor.contracts or tensor.low is not None):
            _check(tensor, array, call, dims)


def _with_counts(call: BoundCall) -> dict[str, int]:
    """Every dim that is known before the first kernel."""
    dims = dict(call.dims)
    tensors = {tensor.name: tensor for tensor in call.entry.inputs if isinstance(tensor, Tensor)}
    for count in call.entry.counts:
        if count.source in tensors:
            number = int(_elements(tensors[count.source], call.arrays[count.source]).reshape(()))
            dims[count.name] = min(max(number, 0), evaluate(count.room, dims))
    return dims


def _check(tensor: Tensor, array: ArrayView, call: BoundCall, dims: Mapping[str, int]) -> None:
    values = _elements(tensor, array) if tensor.valid is None else _values(tensor, array, dims)
    for contract in tensor.contracts:
        limit = None if contract.limit is None else evaluate(contract.limit, dims)
        broken = violation(contract.kind, values, limit)
        if broken is not None:
            raise ContractBrokenError(
                argument=tensor.name, position=position_text(broken[0]), problem=broken[1], contract=contract.text
            )
    if tensor.low is None or tensor.high is None or any(contract.limit is not None for contract in tensor.contracts):
        return
    low, high = evaluate(tensor.low, dims), evaluate(tensor.high, dims)
    outside = (values < low) | (values >= high)
    if tensor.domain is not None:
        outside &= _in_domain(tensor.domain, tensor, call, dims).reshape(values.shape)
    if outside.any():
        import numpy

        position = tuple(int(i) for i in numpy.unravel_index(int(outside.reshape(-1).argmax()), values.shape))
        raise ContractBrokenError(
            argument=tensor.name,
            position=position_text(position),
            problem=f"is {values[position]}",
            contract=f"in [{low}, {high})" + ("" if tensor.domain is None else f" where {tensor.domain.text}"),
        )


def _in_domain(domain: Domain, tensor: Tensor, call: BoundCall, dims: Mapping[str, int]) -> Any:
    """Where the range of a tensor's values holds, over its logical dims."""
    wanted = {name for name, _ in mentioned(domain.text).reads}
    arrays = {
        other.name: _values(other, call.arrays[other.name], dims)
        for other in call.entry.tensors
        if other.name in wanted
    }
    shape = tuple(evaluate(extent, dims) for extent in tensor.valid or tensor.shape)
    return holds_at(domain, shape, dims, arrays)


def _values(tensor: Tensor, array: ArrayView, dims: Mapping[str, int]) -> Any:
    """The elements over the logical dims: what lies beyond a dim that the device counts has no values."""
    whole = _elements(tensor, array).reshape([evaluate(extent, dims) for extent in tensor.shape])
    return whole[tuple(slice(evaluate(extent, dims)) for extent in tensor.valid or tensor.shape)]


def _elements(tensor: Tensor, array: ArrayView) -> Any:
    """The elements as NumPy numbers; of a float tensor only whether each is finite: 0, or NaN where it is not."""
    import numpy
    from numpy.lib.stride_tricks import as_strided

    if array.empty:
        return numpy.zeros(array.shape, numpy.int64)
    dtype = tensor.dtype
    kind = numpy.dtype(f"{'u' if dtype.is_float else dtype.value[0]}{dtype.bytes}")
    memory = numpy.frombuffer(ctypes.string_at(array.address, array.span * dtype.bytes), kind)
    values = as_strided(memory, array.shape, tuple(stride * kind.itemsize for stride in array.strides))
    if not dtype.is_float:
        return values
    mask = numpy.asarray(_NOT_FINITE[dtype], kind)
    return numpy.where((values & mask) == mask, numpy.nan, 0.0)
