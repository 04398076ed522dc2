"""The rules of tensor copies: what cuTensorMapEncodeTiled refuses, and what a copy may not do with a good map."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.snippets import kernel
from tests.emulator.test_bulk_rows import MODULE, REGISTERS, START, WAIT, run_tensor
from texpr.emulator import Device, Fault, FaultKind, load_ptx
from texpr.emulator.tensor_maps import TensorMapError, encode_tiled

GOOD: dict[str, object] = {"element_type": 2, "address": 4096, "dimensions": (64, 8, 4), "strides": (256, 2048),
                           "box": (16, 8, 2)}
REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no dimensions": ({"dimensions": (), "strides": (), "box": ()}, "rank 0"),
    "six dimensions": ({"dimensions": (4,) * 6, "strides": (16,) * 5, "box": (4,) * 6}, "rank 6"),
    "fewer strides than dimensions": ({"strides": (256,)}, "rank 3 with 1 strides"),
    "an unknown type": ({"element_type": 13}, "data type 13"),
    "an address between pieces of 16 bytes": ({"address": 4104}, "not a multiple of 16"),
    "an empty dimension": ({"dimensions": (64, 0, 4)}, "each 1 to 2**32"),
    "a dimension of more than 2**32": ({"dimensions": (64, (1 << 32) + 1, 4)}, "each 1 to 2**32"),
    "a stride between pieces of 16 bytes": ({"strides": (264, 2048)}, "not multiples of 16"),
    "a stride of 2**40 bytes": ({"strides": (256, 1 << 40)}, "below 2**40"),
    "an empty box": ({"box": (16, 0, 2)}, "each 1 to 256"),
    "a box of more than 256": ({"box": (16, 257, 2)}, "each 1 to 256"),
    "rows of the box that are no multiple of 16 bytes": ({"box": (6, 8, 2)}, "24 bytes, not a multiple of 16"),
    "an element stride of 0": ({"element_strides": (1, 0, 1)}, "each 1 to 8"),
    "an element stride of 9": ({"element_strides": (1, 9, 1)}, "each 1 to 8"),
    "rows wider than the swizzle of 32 bytes": ({"swizzle": 1}, "64 bytes, the swizzle 32"),
    "rows wider than the swizzle of 64 bytes": ({"swizzle": 2, "box": (32, 8, 2)}, "128 bytes, the swizzle 64"),
    "rows wider than the swizzle of 128 bytes": ({"swizzle": 3, "box": (64, 8, 2)}, "256 bytes, the swizzle 128"),
    "an unknown swizzle": ({"swizzle": 4}, "swizzle 4"),
    "an unknown promotion": ({"promotion": 4}, "promotion 4"),
    "interleaving": ({"interleave": 1}, "interleaved"),
    "NaNs around integers": ({"fill": 1}, "fill 1 for .u32"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_map_is_refused(name: str) -> None:
    change, reason = REFUSED[name]
    encode_tiled(**GOOD)  # type: ignore[arg-type]
    with pytest.raises(TensorMapError) as caught:
        encode_tiled(**(GOOD | change))  # type: ignore[arg-type]
    assert reason in str(caught.value)


def test_limits_are_allowed() -> None:
    encode_tiled(2, 16, (1 << 32, 1), ((1 << 40) - 16,), (256, 256), element_strides=(1, 8))
    encode_tiled(2, 16, (64, 8), (256,), (32, 8), swizzle=3)


def test_the_innermost_element_stride_is_ignored() -> None:
    source = np.arange(8 * 64, dtype=np.uint32).reshape(8, 64)
    inside, _ = run_tensor(source, (8, 16), (0, 0), kind=2, strides=(2, 1))
    np.testing.assert_array_equal(inside.view(np.uint32).reshape(8, 16), source[:, :16])


def copy(*, at: str = "[%s]", where: str = "%m", corner: str = "{0, 0}", rank: int = 2, expected: int = 512) -> None:
    """Load a box of 8 x 16 words through a good map, but for what is changed."""
    device = Device(sm=90)
    place = device.alloc(4 * 64 * 8, "x")
    device.write(place, np.zeros(64 * 8, np.uint32))
    dims, strides, box = ((64, 8), (256,), (16, 8)) if rank == 2 else ((64, 8, 1), (256, 2048), (16, 8, 1))
    body = START + f"""
        mov.u64 %m, map; cvta.param.u64 %m, %m; add.u64 %x0, %m, 32;
        @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], {expected};
        @%first cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes {at}, [{where}, {corner}], [%b];
    """ + WAIT
    text = kernel(body, ".param .align 64 .b8 map[128], .param .align 64 .b8 more[128]", declarations=REGISTERS,
                  module=MODULE, target="sm_90a", threads=32)
    made = encode_tiled(2, place, dims, strides, box)
    device.launch(load_ptx(text), "test", (1,), (32,), params=[made, made])


@pytest.mark.parametrize(("change", "kind", "reason"), [
    ({"at": "[%s+64]"}, FaultKind.MISALIGNED, "not a multiple of 128"),
    ({"at": "[%s+16128]"}, FaultKind.OUT_OF_BOUNDS, "the program has 16384 bytes"),
    ({"where": "%x0"}, FaultKind.TENSOR_MAP, "not aligned to 64"),
    ({"where": "%x0+32"}, FaultKind.TENSOR_MAP, "not a tensor map"),
    ({"rank": 3}, FaultKind.TENSOR_MAP, "2 dimensions with a tensor map of 3"),
    ({"expected": 1 << 20}, FaultKind.BARRIER_MISUSE, "counts 1048576 bytes (at most 1048575"),
    ({"expected": 496}, FaultKind.DEADLOCK, "no thread can run on"),
    ({"expected": 528}, FaultKind.DEADLOCK, "no thread can run on"),
])  # fmt: skip
def test_a_copy_breaks_a_rule(change: dict[str, object], kind: FaultKind, reason: str) -> None:
    copy()
    with pytest.raises(Fault) as caught:
        copy(**change)  # type: ignore[arg-type]
    assert caught.value.kind is kind and reason in caught.value.message


@pytest.mark.parametrize("corner", ["{60, 6}", "{-16, -8}", "{2147483647, 0}", "{0, -2147483648}"])
def test_any_corner_is_allowed(corner: str) -> None:
    copy(corner=corner)


@pytest.mark.parametrize(("expected", "note"), [(496, "got 16 bytes more than it was told to expect"),
                                                (528, "16 bytes are missing")])
def test_a_wrong_expectation_is_explained(expected: int, note: str) -> None:
    with pytest.raises(Fault) as caught:
        copy(expected=expected)
    assert any(note in line for line in caught.value.notes)
