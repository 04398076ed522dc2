"""What Triton's compiler emits for whatever it can express has rows, or is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

import tests.emulator.compiled  # noqa: F401 (chooses the compiler's cache)
from texpr.emulator import PtxError, load_ptx


def compiled(name: str, sm: int, types: dict[str, str], constants: dict[str, Any]) -> str:
    """The PTX of a kernel of `probe_kernels.py`; all arguments are promised to be multiples of 16."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tests.emulator import probe_kernels

    function = getattr(probe_kernels, name)
    kinds = types | dict.fromkeys(constants, "constexpr")
    attributes = {(i,): [["tt.divisibility", 16]] for i, a in enumerate(function.arg_names) if a in types}
    source = ASTSource(function, {argument: kinds[argument] for argument in function.arg_names}, constants, attributes)
    return str(triton.compile(source, target=GPUTarget("cuda", sm, 32), options={"num_warps": 4}).asm["ptx"])


def pair(scalar: str) -> dict[str, str]:
    return {"x": f"*{scalar}", "y": f"*{scalar}"}


@pytest.mark.parametrize(("name", "sm", "types", "constants"), [
    ("scan_sort", 80, pair("i32"), {"N": 256}), ("scan_sort", 100, pair("fp32"), {"N": 256}),
    ("histogram_gather", 90, pair("i32"), {"N": 256}),
    ("atomics", 80, pair("fp32"), {"N": 256, "ORDER": "acq_rel", "SCOPE": "sys"}),
    ("atomics", 90, pair("u64"), {"N": 256, "ORDER": "relaxed", "SCOPE": "cta"}),
    ("atomic_scalar", 90, pair("bf16"), {"ORDER": "acquire", "SCOPE": "gpu"}),
    ("rounds", 90, {"x": "*fp32", "y": "*fp8e5"}, {"N": 256, "MODE": "rtz"}),
    ("arithmetic", 90, pair("bf16"), {"N": 1024}), ("arithmetic", 120, pair("fp64"), {"N": 1024}),
    ("float_functions", 120, pair("fp16"), {"N": 1024}), ("integer_functions", 80, pair("i64"), {"N": 1024}),
    ("libdevice_functions", 80, pair("fp32") | {"n": "*i32"}, {"N": 256}),
    ("cached_accesses", 100, pair("fp32"), {"N": 1024}), ("transposes", 120, pair("i8"), {"M": 64, "N": 64}),
    ("descriptors", 90, pair("fp16") | {"M": "i32", "K": "i32"}, {"BM": 64, "BK": 64}),
    ("random_numbers", 80, {"y": "*fp32", "seed": "i32"}, {"N": 256}),
])  # fmt: skip
def test_what_the_compiler_emits_loads(name: str, sm: int, types: dict[str, str], constants: dict[str, Any]) -> None:
    load_ptx(compiled(name, sm, types, constants))


@pytest.mark.parametrize(("sm", "kind", "result"), [
    (80, "fp16", "float16"), (80, "i8", "int32"), (80, "fp64", "float64"), (89, "fp8e4nv", "float32"),
    (90, "bf16", "float32"), (90, "fp32", "float32"), (90, "fp64", "float64"), (120, "fp8e5", "float32"),
])  # fmt: skip
def test_products_load(sm: int, kind: str, result: str) -> None:
    tl = pytest.importorskip("triton.language")
    short = {"float16": "fp16", "int32": "i32", "float64": "fp64"}.get(result, "fp32")
    types = {"a": f"*{kind}", "b": f"*{kind}", "c": f"*{short}"}
    constants = {"M": 64, "N": 64, "K": 64, "PRECISION": "tf32", "ACC": getattr(tl, result)}
    load_ptx(compiled("dots", sm, types, constants))


def test_tensor_memory_and_block_scales_are_refused_by_name() -> None:
    tl = pytest.importorskip("triton.language")
    types = {"a": "*fp16", "b": "*fp16", "c": "*fp32"}
    ptx = compiled("dots", 100, types, {"M": 64, "N": 64, "K": 64, "PRECISION": "tf32", "ACC": tl.float32})
    with pytest.raises(PtxError, match=r"'tcgen05\.alloc.*tensor memory"):
        load_ptx(ptx)
    types = {"a": "*fp8e4nv", "a_scale": "*u8", "b": "*fp8e4nv", "b_scale": "*u8", "c": "*fp32"}
    ptx = compiled("scaled_dots", 120, types, {"M": 128, "N": 64, "K": 128, "KIND": "e4m3"})
    with pytest.raises(PtxError, match=r"block_scale.*block scales"):
        load_ptx(ptx)
