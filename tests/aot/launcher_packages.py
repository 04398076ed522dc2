"""Packages built by hand for the launcher's tests: no compiler, no real cubins, every feature of the launch IR."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from texpr.aot.ir import (
    Entry,
    Fill,
    IntValue,
    KernelParam,
    KernelSource,
    KernelValue,
    Launch,
    Origin,
    Package,
    PresentFlag,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
    WorkspacePointer,
)
from texpr.dtypes import DType
from texpr.math.expr import (
    TRUE,
    aligned,
    ceildiv,
    conjunction,
    const,
    disjoint,
    disjunction,
    eq,
    ge,
    le,
    maximum,
    minimum,
    ne,
    negation,
    present,
    sym,
)


@dataclass(frozen=True, slots=True)
class FakeImage:
    """A compiled kernel as the launcher sees one. The bytes are no ELF file; their first word identifies them to the
    fake driver.
    """

    kernel: str
    target: str
    cubin: bytes
    warps: int = 4
    shared_bytes: int = 0
    registers: int = 96
    stack_bytes: int = 0
    minimum_driver: int = 12000


def fake_image(kernel: str, target: str, **facts: int) -> FakeImage:
    digest = hashlib.sha256(f"{kernel} {target}".encode()).digest()
    return FakeImage(kernel, target, digest + bytes(range(7)), **facts)


def kernel(name: str, *params: KernelParam, warps: int = 4) -> KernelSource:
    origins = ((0, Origin("acc", "sample.yaml:12")), (1, Origin("y", "sample.yaml:14")))
    return KernelSource(name, f"def {name}(): pass", (), params, warps, ("sm_80", "sm_90a"), origins)


def param(name: str, type_name: str, value: KernelValue, divisibility: int = 1) -> KernelParam:
    return KernelParam(name, type_name, value, divisibility)


M, N, K = sym("M"), sym("N"), sym("K")
_EVERYWHERE = ("sm_80", "sm_86", "sm_90a")


def _linear_params(divisibility: int) -> tuple[KernelParam, ...]:
    return (
        param("x", "*fp16", TensorPointer("x"), divisibility),
        param("w", "*fp16", TensorPointer("w"), divisibility),
        param("b", "*fp16", TensorPointer("b")),
        param("b_given", "i32", PresentFlag("b")),
        param("y", "*fp16", TensorPointer("y"), divisibility),
        param("M", "i32", IntValue(M)),
        param("N", "i32", IntValue(N), 8 if divisibility > 2 else 1),
        param("K", "i32", IntValue(K), 8),
    )


def _linear_entry(symbol: str, dtype: DType) -> Entry:
    flat = (1, 1)
    arguments = (
        TensorArgument("x", dtype, (M, K), flat, output=False),
        TensorArgument("w", dtype, (K, N), flat, output=False),
        TensorArgument("b", dtype, (N,), (1,), output=False, optional=True),
        TensorArgument("y", dtype, (M, N), flat, output=True),
    )
    small = le(M * K, 2**31 - 1), le(K * N, 2**31 - 1), le(M * N, 2**31 - 1)
    sixteen = aligned("x", "w", "y", to=16)
    wide = Variant(
        "wide",
        ("sm_80", "sm_90a"),
        conjunction(ge(M, 128), ge(N, 256), eq(N % 8, 0), sixteen),
        (Launch("linear_wide", ceildiv(M, 128) * ceildiv(N, 256)),),
        limits=small,
    )
    split = Variant(
        "split",
        ("sm_80", "sm_86"),
        conjunction(ge(K, 4096), le(M * N, 65536)),
        (
            Launch(
                "linear_part",
                minimum(sym("sms"), ceildiv(K, 1024)) * ceildiv(M, 64),
                (Fill(WorkspacePointer("flags"), 32, 0xFFFF0001, M + 1),),
            ),
            Launch("linear_sum", ceildiv(M * N, 1024), (Fill(TensorPointer("y"), 16, 0x8001, M * N),)),
        ),
        workspace=(
            WorkspaceBuffer("part", 4 * M * N * minimum(sym("sms"), ceildiv(K, 1024))),
            WorkspaceBuffer("flags", 4 * M + 4),
        ),
        limits=small,
    )
    general = Variant("any", _EVERYWHERE, TRUE, (Launch("linear_any", ceildiv(M, 64) * ceildiv(N, 64)),), limits=small)
    return Entry(symbol, (("T", dtype),), (), arguments, ("M", "N", "K"), (), (eq(K % 8, 0),), (wide, split, general))


def linear() -> tuple[Package, tuple[FakeImage, ...]]:
    """A two-type linear layer: an aligned, a two-kernel and a general variant."""
    kernels = (
        kernel("linear_wide", *_linear_params(16), warps=8),
        kernel(
            "linear_part",
            param("x", "*fp16", TensorPointer("x")),
            param("w", "*fp16", TensorPointer("w")),
            param("part", "*fp32", WorkspacePointer("part"), 256),
            param("M", "i32", IntValue(M)),
            param("parts", "i32", IntValue(minimum(sym("sms"), ceildiv(K, 1024)))),
        ),
        kernel(
            "linear_sum",
            param("part", "*fp32", WorkspacePointer("part"), 16),
            param("flags", "*i32", WorkspacePointer("flags")),
            param("y", "*fp16", TensorPointer("y")),
            param("size", "i64", IntValue(M * N, wide=True)),
        ),
        kernel("linear_any", *_linear_params(2)),
    )
    shared = {"linear_wide": 65536, "linear_part": 49152, "linear_sum": 0, "linear_any": 32768}
    warps = {source.name: source.warps for source in kernels}
    images = tuple(
        fake_image(name, target, warps=warps[name], shared_bytes=size)
        for name, size in shared.items()
        for target in _EVERYWHERE
        if not (name == "linear_wide" and target == "sm_86")
    )
    entries = (_linear_entry("linear_f16", DType.F16), _linear_entry("linear_bf16", DType.BF16))
    return Package("linear", entries, kernels, "texpr: 1\n", "def linear(): ...\n"), images


B, G, R, S, P = sym("B"), sym("G"), sym("R"), sym("S"), sym("P")


def odd() -> tuple[Package, tuple[FakeImage, ...]]:
    """Strides, composite dims, derived dims, packed and one-byte types, aliasing, all scalar types, three-dim
    products.
    """
    shape, groups = (B, G, R, S), (1, 2, 1)
    arguments = (
        TensorArgument("a", DType.F32, shape, groups, output=False, strided=((0, "a_stride_0"), (2, "a_stride_2"))),
        TensorArgument("class", DType.I4, (B * G * R,), (1,), output=False, optional=True),
        ScalarArgument("alpha", DType.F32),
        ScalarArgument("half", DType.F16),
        ScalarArgument("exact", DType.F64),
        ScalarArgument("flag", DType.BOOL),
        ScalarArgument("shift", DType.I8, low=const(-3), high=const(4)),
        ScalarArgument("step", DType.I64, low=const(1), high=B * G * R + 2),
        ScalarArgument("mask", DType.U64, high=const(2**40)),
        ScalarArgument("free", DType.U32),
        TensorArgument("z", DType.F32, shape, groups, output=True, may_alias="a", strided=((0, "z_stride_0"),)),
        TensorArgument("top", DType.I64, (P,), (1,), output=True),
        TensorArgument("side", DType.BOOL, (S - 1 + B,), (1,), output=True, optional=True),
        TensorArgument(
            "extra", DType.F64, (B, S), (1, 1), output=False, optional=True, strided=((0, "extra_stride_0"),)
        ),
    )
    pack = kernel(
        "odd_main",
        param("a", "*fp32", TensorPointer("a")),
        param("z", "*fp32", TensorPointer("z")),
        param("register", "*i64", TensorPointer("top"), 8),
        param("alpha", "fp32", ScalarValue("alpha")),
        param("half", "fp16", ScalarValue("half")),
        param("exact", "fp64", ScalarValue("exact")),
        param("flag", "i1", ScalarValue("flag")),
        param("shift", "i8", ScalarValue("shift")),
        param("step", "i64", ScalarValue("step")),
        param("mask", "u64", ScalarValue("mask")),
        param("free", "u32", ScalarValue("free")),
        param("stride", "i32", IntValue(sym("a_stride_0"))),
        param("wide_stride", "i64", IntValue(sym("a_stride_0") * B, wide=True), 4),
        param("signed", "i32", IntValue(sym("shift") * sym("free"))),
        param("packed", "*i8", TensorPointer("class")),
        param("side", "*u8", TensorPointer("side")),
        param("given", "i32", PresentFlag("class")),
    )
    plain = kernel(
        "odd_plain",
        param("z", "*fp32", TensorPointer("z")),
        param("extra", "*fp64", TensorPointer("extra")),
        param("extra_stride", "i64", IntValue(sym("extra_stride_0"), wide=True)),
        param("n", "i64", IntValue(B * G * R * S, wide=True)),
    )
    derived = (("P", (S + 2 * sym("shift") - 3) // 2 + 1), ("Q", maximum(P * G - sym("free") // 7, (B - 5) % 3, 0)))
    variants = (
        Variant(
            "contiguous",
            ("sm_80",),
            conjunction(
                eq(sym("a_stride_2"), 1),
                disjunction(present("class"), ge(sym("Q"), 3)),
                negation(disjoint("a", "z")),
                ne(sym("mask"), 5),
            ),
            (Launch("odd_main", ceildiv(B * G * R * S, 256)),),
            limits=(le(B * G * R * S, 2**31 - 1),),
        ),
        Variant(
            "apart",
            ("sm_80",),
            conjunction(disjoint("z", "a"), aligned("z", to=64), ge(B * G * R * S, 8)),
            (Launch("odd_plain", B + S // sym("step")),),
        ),
        Variant(
            "rest",
            ("sm_80",),
            disjunction(negation(present("side")), le(sym("free") % maximum(sym("Q"), 0), 1000), eq(B, 0)),
            (
                Launch("odd_plain", (S - 7) * 3 + sym("a_stride_0") * sym("z_stride_0")),
                Launch("odd_main", B - 1, (Fill(WorkspacePointer("more"), 8, 0x80, S - 2),)),
            ),
            workspace=(
                WorkspaceBuffer("unused", 8 * B * G * R),
                WorkspaceBuffer("less", B * G, slot=3),
                WorkspaceBuffer("more", S, slot=3),
            ),
        ),
    )
    facts = (ge(sym("G") * sym("R"), 1), le(B * G * R * S, 2**62))
    entry = Entry("odd", (), (), arguments, ("B", "G", "R", "S"), derived, facts, variants)
    images = (fake_image("odd_main", "sm_80", shared_bytes=49153, stack_bytes=40), fake_image("odd_plain", "sm_80"))
    return Package("odd", (entry,), (pack, plain), "texpr: 1\n", ""), images
