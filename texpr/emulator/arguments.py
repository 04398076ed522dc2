"""Kernel arguments as text, for the command line: scalars, buffers, and tensor maps over buffers.

    n=i32:1000                     a scalar
    x=f32[1000]:random             a buffer in global memory: random, zeros, ones, iota, unwritten or FILE.npy
    p=null                         a null pointer
    m=map:x:64,64:128              a tensor map over the two-dimensional buffer x: box, width of the swizzle in bytes
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.floats import bf16_bits
from texpr.emulator.launch import Device
from texpr.emulator.tensor_maps import SWIZZLE_BYTES, TensorMapError, encode_tiled


class ArgumentError(ValueError):
    """A description of an argument that cannot be read; the message says what would be right."""


_TYPES: dict[str, tuple[str, int | None]] = {
    "f16": ("<f2", 6), "bf16": ("<u2", 9), "f32": ("<f4", 7), "f64": ("<f8", 8), "u8": ("<u1", 0), "i8": ("<i1", 0),
    "u16": ("<u2", 1), "i16": ("<i2", 1), "u32": ("<u4", 2), "i32": ("<i4", 3), "u64": ("<u8", 4), "i64": ("<i8", 5),
}  # fmt: skip
"""NumPy type of the storage, and the driver's element type for tensor maps."""

_SPEC = re.compile(r"(?P<name>\w+)=(?P<type>\w+)(?:\[(?P<shape>[\d,\s]*)\])?(?::(?P<value>.*))?$")
_FILLS = ("random", "zeros", "ones", "iota", "unwritten")


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer of the device: `shape` elements of `type_name` at `address`."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    address: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_TYPES[self.type_name][0])

    def read(self, device: Device) -> NDArray[Any]:
        """What it holds now; bf16 as float32."""
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        stored = np.frombuffer(device.read(self.address, size), self.dtype).reshape(self.shape)
        if self.type_name == "bf16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored


@dataclass(frozen=True, slots=True)
class Argument:
    """The bytes of one parameter, and the buffer they point to, if any."""

    data: bytes
    buffer: Buffer | None = None


def make_argument(text: str, device: Device, buffers: Mapping[str, Buffer], random_seed: int = 0) -> Argument:
    """An argument from its description; buffers are allocated on the device. Raises ArgumentError."""
    if text.split("=", 1)[-1].startswith("map:"):
        return Argument(_tensor_map(text, buffers))
    match = _SPEC.match(text)
    if match is None:
        forms = "NAME=TYPE:VALUE, NAME=TYPE[EXTENTS]:FILL, NAME=null or NAME=map:BUFFER:BOX"
        raise ArgumentError(f"{text!r}: write {forms}")
    kind, value = match["type"], match["value"]
    if kind == "null":
        return Argument(bytes(8))
    if kind not in _TYPES:
        raise ArgumentError(f"{text!r}: there is no type {kind!r} (there are {', '.join(_TYPES)})")
    if match["shape"] is None:
        return Argument(_scalar(text, kind, value))
    buffer = make_buffer(text, device, random_seed)
    return Argument(buffer.address.to_bytes(8, "little"), buffer)


def make_buffer(text: str, device: Device, random_seed: int = 0) -> Buffer:
    """Allocate and fill a buffer described as NAME=TYPE[EXTENTS]:FILL. Raises ArgumentError."""
    match = _SPEC.match(text)
    if match is None or match["shape"] is None or match["type"] not in _TYPES:
        fills = ", ".join(_FILLS)
        raise ArgumentError(f"{text!r}: write NAME=TYPE[EXTENT,EXTENT]:FILL, where FILL is {fills} or a file")
    kind, fill = match["type"], match["value"] or "unwritten"
    shape = tuple(int(extent) for extent in match["shape"].split(",") if extent.strip())
    if not shape or min(shape) < 1:
        raise ArgumentError(f"{text!r}: extents are positive")
    dtype = np.dtype(_TYPES[kind][0])
    count = int(np.prod(shape))
    buffer = Buffer(match["name"], kind, shape, device.alloc(count * dtype.itemsize, match["name"]))
    if fill != "unwritten":
        device.write(buffer.address, _content(text, kind, fill, count, random_seed))
    return buffer


def _content(text: str, kind: str, fill: str, count: int, random_seed: int) -> NDArray[Any]:
    dtype = np.dtype(_TYPES[kind][0])
    if fill.endswith(".npy"):
        try:
            loaded: NDArray[Any] = np.load(Path(fill)).reshape(-1)
        except (OSError, ValueError) as error:
            raise ArgumentError(f"{text!r}: cannot read {fill}: {error}") from None
        if len(loaded) != count:
            raise ArgumentError(f"{text!r}: {fill} holds {len(loaded)} elements, {count} are needed")
        return _store(kind, loaded)
    random = np.random.default_rng([random_seed, *text.split("=")[0].encode()])
    integer = dtype.kind in "iu" and kind != "bf16"
    makers: dict[str, Callable[[], NDArray[Any]]] = {
        "random": lambda: random.integers(-100 if dtype.kind == "i" else 0, 100, count) if integer
        else random.standard_normal(count),
        "zeros": lambda: np.zeros(count),
        "ones": lambda: np.ones(count),
        "iota": lambda: np.arange(count),
    }  # fmt: skip
    if fill not in makers:
        raise ArgumentError(f"{text!r}: {fill!r} is none of {', '.join(_FILLS)} or a file FILE.npy")
    return _store(kind, makers[fill]())


def _store(kind: str, values: NDArray[Any]) -> NDArray[Any]:
    if kind == "bf16":
        return bf16_bits(values.astype(np.float32))
    return values.astype(_TYPES[kind][0])


def _scalar(text: str, kind: str, value: str | None) -> bytes:
    dtype = np.dtype(_TYPES[kind][0])
    try:
        if value is None:
            raise ValueError
        if kind == "bf16" or dtype.kind == "f":
            return bytes(_store(kind, np.array([float(value)])).tobytes())
        return int(value, 0).to_bytes(dtype.itemsize, "little", signed=dtype.kind == "i")
    except (ValueError, OverflowError):
        raise ArgumentError(f"{text!r}: a value of type {kind} expected behind the colon") from None


def _tensor_map(text: str, buffers: Mapping[str, Buffer]) -> bytes:
    _, name, box, *rest = [*text.split("=", 1)[1].split(":"), "", ""]
    if name not in buffers:
        raise ArgumentError(f"{text!r}: there is no buffer {name!r}; declare it before")
    buffer = buffers[name]
    try:
        extents = tuple(int(extent) for extent in box.split(","))
        width = int(rest[0]) if rest and rest[0] else 0
        swizzle = SWIZZLE_BYTES.index(width)
    except ValueError:
        raise ArgumentError(f"{text!r}: write NAME=map:BUFFER:EXTENT,EXTENT:SWIZZLE (0, 32, 64 or 128)") from None
    size = buffer.dtype.itemsize
    strides = [int(np.prod(buffer.shape[axis + 1 :])) * size for axis in range(len(buffer.shape) - 1)]
    element = _TYPES[buffer.type_name][1]
    assert element is not None
    try:
        return encode_tiled(element, buffer.address, buffer.shape[::-1], strides[::-1], extents[::-1], swizzle=swizzle)
    except TensorMapError as error:
        raise ArgumentError(f"{text!r}: {error}") from None
