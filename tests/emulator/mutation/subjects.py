"""What is mutated: kernels of every class, and the split into those used while the checks were developed and those
held out.

The split was fixed before the first mutant of a held-out kernel ran. What survives there is counted and reported, and
nothing in the emulator is changed because of one particular mutant of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tests.emulator.mutation import handwritten
from tests.emulator.mutation.calls import Built
from tests.emulator.mutation.shipped import build_variant
from texpr.checking.rows import Effort


@dataclass(frozen=True, slots=True)
class Subject:
    """A kernel to mutate. `build` compiles it and records its calls."""

    name: str
    kernel_class: str
    target: str
    held_out: bool
    build: Callable[[], Built]


_EFFORT = Effort()
_FURTHER = 12
"""Calls of other sizes, for mutants that the check's own calls do not notice."""


def _shipped(
    kernel_class: str,
    name: str,
    variants: str,
    type_name: str = "",
    target: str = "sm_80",
    schedule: str = "own",
    held_out: bool = False,
) -> list[Subject]:
    types = (("T", type_name),) if type_name else ()
    label = f"{name}.{{}} {type_name} {target}" if type_name else f"{name}.{{}} {target}"
    label += "" if schedule == "own" else f" ({schedule} schedule)"
    return [
        Subject(
            label.format(variant),
            kernel_class,
            target,
            held_out,
            partial(build_variant, name, variant, target, types, schedule, _EFFORT, _FURTHER),
        )
        for variant in variants.split()
    ]


def _written(kernel_class: str, build: Callable[[], Built], target: str, held_out: bool = False) -> Subject:
    return Subject(f"{build.__name__} (hand-written) {target}", kernel_class, target, held_out, build)


_DEVELOPMENT = [
    *_shipped("row", "softmax", "rows_1024 long", "f32"),
    *_shipped("row", "argmax_rows", "rows_1024 long", "f32"),
    *_shipped("row", "softmax", "long", "f16", "sm_90a"),
    *_shipped("movement", "copy", "aligned any", "f16"),
    *_shipped("transpose", "transpose", "aligned any", "f32"),
    *_shipped("product", "linear_gelu", "tile128 tile32 any", "f16"),
    *_shipped("product", "linear_gelu", "tile32", "f16", "sm_90a"),
    *_shipped("product", "matmul_nn", "half half_any", "f16"),
    *_shipped("product", "matmul_nn", "single", "f32"),
    *_shipped("product", "matmul_f64", "aligned any"),
    *_shipped("batched product", "batched_matmul", "aligned any", "f16"),
    *_shipped("persistent product", "matmul_nt", "half", "f16"),
    *_shipped("window", "conv2d", "implicit_gemm any", "f16"),
    *_shipped("window", "blur", "any"),
    *_shipped("window", "blur", "any", target="sm_120a"),
    *_shipped("split reduction", "sum_rows", "few_rows any", "f32"),
    _written("tensor copies and wgmma", handwritten.tensor_copy, "sm_90a"),
    _written("tensor copies and wgmma", handwritten.wgmma_product, "sm_90a"),
    _written("tensor copies and wgmma", handwritten.attention_by_tensor_copies, "sm_90a"),
    _written("warp specialisation", handwritten.specialised_product, "sm_90a"),
    _written("atomics", handwritten.histogram, "sm_80"),
    _written("programs that wait for each other", handwritten.look_back, "sm_80"),
    _written("programs that wait for each other", handwritten.chained_scan, "sm_80"),
]

_HELD_OUT = [
    *_shipped("row", "layernorm", "rows_4096 any", "bf16", held_out=True),
    *_shipped("row", "rmsnorm_residual", "rows_4096 any", "f16", held_out=True),
    *_shipped("row", "layernorm", "any", "f16", "sm_120a", held_out=True),
    *_shipped("movement", "gather_rows", "aligned any", "f32", held_out=True),
    *_shipped("transpose", "transpose", "aligned_f16_bf16 any", "bf16", "sm_90a", schedule="default", held_out=True),
    *_shipped("product", "matmul_tn", "half half_any", "bf16", held_out=True),
    *_shipped("product", "matmul_tn", "single", "f32", "sm_90a", held_out=True),
    *_shipped("product", "matmul_tf32", "aligned any", held_out=True),
    *_shipped("product", "matmul_i8", "aligned any", held_out=True),
    *_shipped("product", "matmul_f8", "aligned any", "f8e4m3", "sm_89", held_out=True),
    *_shipped("product", "w8a16_linear", "aligned any", "f16", held_out=True),
    *_shipped("batched product", "batched_matmul", "aligned any", "bf16", "sm_120a", schedule="default", held_out=True),
    *_shipped("window", "depthwise_conv2d", "aligned staged", "f16", held_out=True),
    *_shipped("window", "maxpool2d", "aligned any", "f32", held_out=True),
    _written("tensor copies and wgmma", handwritten.stored_product, "sm_90a", held_out=True),
    _written("warp specialisation", handwritten.specialised_sums, "sm_90a", held_out=True),
    _written("attention and gathers", handwritten.attention, "sm_80", held_out=True),
    _written("attention and gathers", handwritten.sparse_convolution, "sm_80", held_out=True),
    _written("atomics", handwritten.histogram_by_match, "sm_80", held_out=True),
    _written("programs that wait for each other", handwritten.sum_by_last_program, "sm_80", held_out=True),
]

SUBJECTS: tuple[Subject, ...] = (*_DEVELOPMENT, *_HELD_OUT)
