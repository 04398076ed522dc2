"""Element types: names, widths, and how TExpr computes with them. Ground level: imports nothing of TExpr."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What a type's values are."""

    FLOAT = "float"
    SIGNED = "signed integer"
    UNSIGNED = "unsigned integer"
    BOOL = "bool"


class DType(Enum):
    """An element type. ``value`` is the name users write.

    ``TF32`` is a precision, not a storage type: a float32 word rounded to 10 mantissa bits. ``I4``/``U4`` are packed
    two to a byte.
    """

    F8E4M3 = "f8e4m3"
    F8E5M2 = "f8e5m2"
    F16 = "f16"
    BF16 = "bf16"
    TF32 = "tf32"
    F32 = "f32"
    F64 = "f64"
    I4 = "i4"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    U4 = "u4"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    BOOL = "bool"

    def __str__(self) -> str:
        return self.value

    @property
    def bits(self) -> int:
        """Width of a stored element in bits (bool is stored as one byte)."""
        return _BITS[self]

    @property
    def bytes(self) -> int:
        """Width of a stored element in bytes; raises ValueError for the sub-byte types."""
        if self.bits % 8:
            raise ValueError(f"{self} has no whole number of bytes")
        return self.bits // 8

    @property
    def kind(self) -> Kind:
        return _KIND[self]

    @property
    def is_float(self) -> bool:
        return self.kind is Kind.FLOAT

    @property
    def is_int(self) -> bool:
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED)

    @property
    def compute(self) -> DType:
        """The type in which arithmetic on this type happens: floats narrower than f32 compute in f32, the rest in
        themselves."""
        if self.is_float and self is not DType.F64:
            return DType.F32
        return self

    @property
    def mantissa_bits(self) -> int:
        """Explicit mantissa bits of a float type: unit roundoff is ``2 ** -(mantissa_bits + 1)``."""
        return _MANTISSA[self]


_BITS = {
    DType.F8E4M3: 8, DType.F8E5M2: 8, DType.F16: 16, DType.BF16: 16, DType.TF32: 32, DType.F32: 32, DType.F64: 64,
    DType.I4: 4, DType.I8: 8, DType.I16: 16, DType.I32: 32, DType.I64: 64,
    DType.U4: 4, DType.U8: 8, DType.U16: 16, DType.U32: 32, DType.U64: 64, DType.BOOL: 8,
}  # fmt: skip

_MANTISSA = {
    DType.F8E4M3: 3, DType.F8E5M2: 2, DType.F16: 10, DType.BF16: 7, DType.TF32: 10, DType.F32: 23, DType.F64: 52,
}  # fmt: skip


def _kind_of(dtype: DType) -> Kind:
    match dtype.value[0]:
        case "i":
            return Kind.SIGNED
        case "u":
            return Kind.UNSIGNED
        case "f" | "t":
            return Kind.FLOAT
        case _:
            return Kind.BOOL if dtype is DType.BOOL else Kind.FLOAT


_KIND = {dtype: _kind_of(dtype) for dtype in DType}


def dtype_named(name: str) -> DType | None:
    """The type a user means by ``name`` (``"f16"``), or None."""
    try:
        return DType(name)
    except ValueError:
        return None


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of integer type ``narrow`` is one of integer type ``wide``."""
    if wide.kind is narrow.kind:
        return wide.bits >= narrow.bits
    return wide.kind is Kind.SIGNED and wide.bits > narrow.bits
