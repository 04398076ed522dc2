"""One description for the arrays of several libraries: NumPy, torch, ml_dtypes, and anything with
``__cuda_array_interface__``.

Neither NumPy nor torch is imported here: an array of theirs can only arrive if they are loaded already.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from texpr.dtypes import DType
from texpr.runtime.errors import NotAnArrayError, RequiresGradError

_BY_NAME: Final[dict[str, DType]] = {
    "float16": DType.F16, "bfloat16": DType.BF16, "float32": DType.F32, "float64": DType.F64,
    "float8_e4m3fn": DType.F8E4M3, "float8_e5m2": DType.F8E5M2,
    "int8": DType.I8, "int16": DType.I16, "int32": DType.I32, "int64": DType.I64,
    "uint8": DType.U8, "uint16": DType.U16, "uint32": DType.U32, "uint64": DType.U64, "bool": DType.BOOL,
}  # fmt: skip
_ML_DTYPES: Final = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})
_BY_TYPESTR: Final[dict[str, DType]] = {
    "<f2": DType.F16, "<f4": DType.F32, "<f8": DType.F64,
    "|i1": DType.I8, "<i2": DType.I16, "<i4": DType.I32, "<i8": DType.I64,
    "|u1": DType.U8, "<u2": DType.U16, "<u4": DType.U32, "<u8": DType.U64, "|b1": DType.BOOL,
}  # fmt: skip
_PATTERNS: Final = {DType.U16: (DType.BF16,), DType.U8: (DType.F8E4M3, DType.F8E5M2)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array's bytes are: the host, or a CUDA device (``device`` is None where the array does not say
    which).
    """

    cuda: bool
    device: int | None = None

    def __str__(self) -> str:
        if not self.cuda:
            return "the host"
        return "a CUDA device" if self.device is None else f"cuda:{self.device}"


HOST: Final = Place(cuda=False)


@dataclass(frozen=True, slots=True)
class ArrayView:
    """An array a user passed. ``strides`` are in elements; ``address`` is 0 for an empty array; ``library`` is numpy,
    torch or cuda.

    ``stream`` is the CUDA stream its producer works on, where the array says so.
    """

    value: Any
    library: str
    place: Place
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    address: int
    writable: bool
    stream: int | None = None

    @property
    def empty(self) -> bool:
        return prod(self.shape) == 0

    @property
    def span(self) -> int:
        """Elements from the first to the last addressed one, both included."""
        if self.empty:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    def can_be(self, dtype: DType, patterns: bool) -> bool:
        """Whether the elements may be read as ``dtype``; ``patterns`` admits raw bits (uint16 for bf16, uint8 for the
        f8 types).
        """
        if self.dtype is dtype or (self.dtype is DType.F32 and dtype is DType.TF32):
            return True
        return patterns and dtype in _PATTERNS.get(self.dtype, ())


def view(argument: str, value: Any) -> ArrayView:
    """Describe ``value``. Raises NotAnArrayError (with the argument's name), or RequiresGradError for a torch tensor
    under autograd.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _torch_view(argument, value, torch)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _numpy_view(argument, value)
    interface = getattr(value, "__cuda_array_interface__", None)
    if isinstance(interface, dict):
        return _cuda_view(argument, value, interface)
    raise NotAnArrayError(argument=argument, given=type(value).__name__, problem="it exposes no memory")


def _numpy_view(argument: str, array: Any) -> ArrayView:
    dtype = _BY_NAME.get(array.dtype.name) if array.dtype.isnative else None
    if dtype is None:
        problem = (
            f"its elements are {array.dtype} ({array.dtype.byteorder})"
            if not array.dtype.isnative
            else f"{array.dtype}"
        )
        raise NotAnArrayError(argument=argument, given="NumPy array", problem=problem)
    return ArrayView(
        value=array,
        library="numpy",
        place=HOST,
        dtype=dtype,
        shape=tuple(array.shape),
        strides=_element_strides(argument, array.strides, array.itemsize, array.shape),
        address=array.ctypes.data if array.size else 0,
        writable=bool(array.flags.writeable),
    )


def _torch_view(argument: str, tensor: Any, torch: Any) -> ArrayView:
    if tensor.layout is not torch.strided:
        raise NotAnArrayError(
            argument=argument, given="torch tensor", problem=f"its layout is {tensor.layout}, not strided"
        )
    if tensor.requires_grad and torch.is_grad_enabled():
        raise RequiresGradError(argument=argument)
    dtype = _BY_NAME.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise NotAnArrayError(argument=argument, given="torch tensor", problem=f"its elements are {tensor.dtype}")
    kind = tensor.device.type
    if kind not in ("cpu", "cuda"):
        raise NotAnArrayError(argument=argument, given="torch tensor", problem=f"it is on {tensor.device}")
    return ArrayView(
        value=tensor,
        library="torch",
        place=Place(cuda=True, device=tensor.device.index) if kind == "cuda" else HOST,
        dtype=dtype,
        shape=tuple(tensor.shape),
        strides=tuple(tensor.stride()),
        address=tensor.data_ptr() if tensor.numel() else 0,
        writable=True,
    )


def _cuda_view(argument: str, value: Any, interface: dict[str, Any]) -> ArrayView:
    """``__cuda_array_interface__`` version 3; ml_dtypes types arrive as ``|V2`` or ``|V1`` and are told apart by the
    object's dtype.
    """
    typestr = interface["typestr"]
    dtype = _BY_TYPESTR.get(typestr)
    if dtype is None:
        dtype = _BY_NAME.get(str(getattr(value, "dtype", "")))
    if dtype is None or interface.get("mask") is not None:
        problem = "it has a mask" if dtype is not None else f"its elements are {typestr}"
        raise NotAnArrayError(argument=argument, given=type(value).__name__, problem=problem)
    shape = tuple(int(size) for size in interface["shape"])
    strides = interface.get("strides")
    itemsize = dtype.bytes
    address, read_only = interface["data"]
    elements = _element_strides(argument, strides, itemsize, shape) if strides is not None else dense_strides(shape)
    return ArrayView(
        value=value,
        library="cuda",
        place=Place(cuda=True),
        dtype=dtype,
        shape=shape,
        strides=elements,
        address=int(address or 0),
        writable=not read_only,
        stream=interface.get("stream"),
    )


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    return tuple(prod(shape[index + 1 :]) for index in range(len(shape)))


def _element_strides(argument: str, strides: Any, itemsize: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Byte strides as element strides; a dim of extent 1 or an empty array may carry any stride."""
    for size, stride in zip(shape, strides, strict=True):
        if size > 1 and stride % itemsize and prod(shape):
            problem = f"a stride of {stride} bytes is not a multiple of its {itemsize}-byte elements"
            raise NotAnArrayError(argument=argument, given="array", problem=problem)
    return tuple(int(stride) // itemsize for stride in strides)


def numpy_dtype(dtype: DType, *, patterns: bool) -> Any:
    """The NumPy type of a new array of ``dtype``: ml_dtypes for bf16 and f8, unless ``patterns`` asks for raw bits or
    it is missing.
    """
    import numpy

    if dtype is DType.TF32:
        return numpy.dtype("float32")
    name = next(name for name, known in _BY_NAME.items() if known is dtype)
    if name not in _ML_DTYPES:
        return numpy.dtype(name)
    if not patterns:
        try:
            import ml_dtypes
        except ImportError:
            pass
        else:
            return numpy.dtype(getattr(ml_dtypes, name))
    return numpy.dtype("uint16" if dtype is DType.BF16 else "uint8")


def torch_dtype(dtype: DType) -> Any:
    """The torch type of a new tensor of ``dtype``; torch must be loaded."""
    if dtype is DType.TF32:
        return sys.modules["torch"].float32
    name = next(name for name, known in _BY_NAME.items() if known is dtype)
    return getattr(sys.modules["torch"], name)
