"""The stand-in libcuda makes the tensor maps that the emulator reads."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Sequence

import pytest

from texpr.emulator import encode_tiled
from texpr.emulator.libcuda_build import standin_directory
from texpr.emulator.tensor_maps import TensorMapError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def encode_in_c(
    element: int, address: int, dimensions: Sequence[int], strides: Sequence[int], box: Sequence[int], swizzle: int = 0,
    fill: int = 0, promotion: int = 0,
) -> tuple[int, bytes]:
    """Result and bytes of cuTensorMapEncodeTiled."""
    library = ctypes.CDLL(str(standin_directory() / "libcuda.so.1"))
    room = ctypes.create_string_buffer(192)
    at = -(-ctypes.addressof(room) // 64) * 64
    rank = len(dimensions)
    result = library.cuTensorMapEncodeTiled(
        ctypes.c_void_p(at), element, ctypes.c_uint32(rank), ctypes.c_void_p(address),
        (ctypes.c_uint64 * rank)(*dimensions), (ctypes.c_uint64 * max(rank - 1, 1))(*strides),
        (ctypes.c_uint32 * rank)(*box), (ctypes.c_uint32 * rank)(*[1] * rank), 0, swizzle, promotion, fill,
    )  # fmt: skip
    return result, ctypes.string_at(at, 128)


@pytest.mark.parametrize(("dimensions", "strides", "box"), [
    ((100,), (), (16,)), ((64, 300), (128,), (32, 64)), ((64, 7, 1 << 32), (128, 1024), (8, 1, 256)),
    ((8, 2, 3, 4, 5), (16, 32, 96, 384), (8, 2, 3, 4, 5)),
])  # fmt: skip
def test_both_sides_agree_on_every_byte(
    dimensions: tuple[int, ...], strides: tuple[int, ...], box: tuple[int, ...]
) -> None:
    made = encode_tiled(6, 0x7F0000000100, dimensions, strides, box, swizzle=2, fill=1, promotion=2)
    assert encode_in_c(6, 0x7F0000000100, dimensions, strides, box, 2, 1, 2) == (0, made)


@pytest.mark.parametrize("wrong", [
    {"address": 8}, {"strides": (100,)}, {"box": (257, 8)}, {"box": (3, 8)}, {"box": (64, 8), "swizzle": 1},
    {"dimensions": (0, 8)}, {"element": 13}, {"fill": 1}, {"swizzle": 9},
])  # fmt: skip
def test_both_sides_refuse_the_same(wrong: dict[str, int]) -> None:
    good = {"element": 2, "address": 256, "dimensions": (64, 8), "strides": (256,), "box": (16, 8)}
    assert encode_in_c(**good)[0] == 0  # type: ignore[arg-type]
    bad = good | wrong
    assert encode_in_c(**bad)[0] == 1  # type: ignore[arg-type]
    with pytest.raises(TensorMapError):
        encode_tiled(bad.pop("element"), **bad)  # type: ignore[arg-type]
