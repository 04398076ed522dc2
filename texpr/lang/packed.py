"""Packed 4-bit tensors: ``w: u4[K, N] packed(0)``.

Two elements that are neighbours along the packed dim share a byte, the even one in the low half. In memory, and to
everything behind the front end, such a tensor is one of bytes whose packed dim has half the extent; a read is the
byte's read with a shift and a mask, so it is unpacked wherever the byte is, in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.errors import Location
from texpr.lang.errors import ContractError, NotSupportedYetError
from texpr.lang.ir import INDEX, NO_BOUNDARY, Boundary, Cast, Const, Expr, Op, OpName, Read, Tensor
from texpr.lang.syntax import ParamSyntax
from texpr.math.expr import TRUE, BoolExpr, IntExpr, eq
from texpr.math.expr import Const as IntConst

PACKED_TYPES: Final = {DType.U4: DType.U8, DType.I4: DType.I8}
"""The 4-bit types, and the types that their elements are read as."""


def check_packed(param: ParamSyntax, dtypes: Sequence[DType]) -> None:
    """``packed(d)`` stands on 4-bit input tensors, and on all of them. Raises ContractError."""
    four_bits = any(dtype in PACKED_TYPES for dtype in dtypes)
    name, kind = param.name, param.type_name
    if param.packed is None:
        if four_bits:
            hint = f"{name}: {kind}[...] packed(0)"
            raise ContractError(name=name, problem=f"{kind} has two elements in a byte: along which dim?", hint=hint)
        return
    if not four_bits:
        raise ContractError(name=name, problem=f"packed is for u4 and i4, not {kind}", hint="u4, or drop 'packed'")
    if param.output or param.dims is None:
        raise ContractError(name=name, problem="only an input tensor may be packed", hint="an output in u8")
    if not 0 <= param.packed < len(param.dims):
        problem = f"packed({param.packed}) names a dim that it does not have"
        raise ContractError(name=name, problem=problem, hint=f"0 to {len(param.dims) - 1}")
    if param.optional or param.bounds is not None or param.contracts or param.strided:
        problem = "a packed tensor is dense, not optional, and has no other contracts"
        raise ContractError(name=name, problem=problem, hint=f"{name}: {kind}[...] packed({param.packed})")
    extent = param.dims[param.packed][-1]
    if isinstance(extent, IntConst) and extent.value % 2:
        problem = f"two elements share a byte along a dim of {extent}"
        raise ContractError(name=name, problem=problem, hint=f"{extent.value + 1}")


def packed_dim(param: ParamSyntax) -> int | None:
    """The logical dim that is packed: the last one of the storage dim that the signature names."""
    if param.packed is None or param.dims is None:
        return None
    return sum(len(group) for group in param.dims[: param.packed + 1]) - 1


def even_fact(param: ParamSyntax) -> BoolExpr:
    """What a packed tensor requires of its dims."""
    if param.packed is None or param.dims is None:
        return TRUE
    return eq(param.dims[param.packed][-1] % 2, 0)


def bytes_shape(shape: Sequence[IntExpr], packed: int | None) -> tuple[IntExpr, ...]:
    """The shape in bytes of a packed tensor, or ``shape`` itself."""
    return tuple(extent // 2 if dim == packed else extent for dim, extent in enumerate(shape))


def packed_read(tensor: Tensor, indices: Sequence[Expr], boundary: Boundary, at: Location) -> Expr:
    """The element of a packed tensor at logical indices, as the 8-bit type of its sign."""
    dim, kind = tensor.packed, tensor.element
    assert dim is not None and kind is not None
    if boundary != NO_BOUNDARY:
        instead = "te.where with an index that stays inside"
        raise NotSupportedYetError(what=f"a boundary of {tensor.name}, which is packed", instead=instead, at=at)

    def index(name: OpName, value: int, of: Expr) -> Expr:
        return Op(name, (of, Const(value, INDEX)), INDEX)

    half = [index(OpName.FLOORDIV, 2, part) if n == dim else part for n, part in enumerate(indices)]
    byte = Cast(Read(tensor, tuple(half), NO_BOUNDARY, None, at), DType.I32)
    low_bit = Cast(index(OpName.MUL, 4, index(OpName.MOD, 2, indices[dim])), DType.I32)
    nibble: Expr = Op(OpName.AND, (Op(OpName.SHR, (byte, low_bit), DType.I32), Const(15, DType.I32)), DType.I32)
    if kind is DType.I4:  # the sign bit to the top and back
        shifted = Op(OpName.SHL, (nibble, Const(28, DType.I32)), DType.I32)
        nibble = Op(OpName.SHR, (shifted, Const(28, DType.I32)), DType.I32)
    return Cast(nibble, PACKED_TYPES[kind])
