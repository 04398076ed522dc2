"""Bits are promised only where the emulator computes as the hardware must."""

from __future__ import annotations

from typing import Any

import pytest

from texpr.packing.promise import code_of, reason_against

VARIANT: dict[str, Any] = {"reproducible": True, "workspace": []}
KERNEL: dict[str, Any] = {"parameters": [{"kind": "integer", "value": "M // 4"}, {"kind": "tensor", "value": "sms"}]}


def against(ptx: str, variant: dict[str, Any] = VARIANT, kernel: dict[str, Any] = KERNEL) -> str:
    return reason_against([ptx], variant, [kernel])


@pytest.mark.parametrize(
    "ptx",
    [
        "\tadd.f32 \t%r1, %r2, %r3;\n\tadd.s32 %r1, %r1, 1;",
        "mul.rn.f32 %f1, %f2, %f3;\n add.f32 %f1, %f1, %f1;",
        "fma.rn.f32 %f1, %f2, %f3, %f4;",
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r2}, {%r3}, {%r4};",
        "atom.global.add.u32 %r1, [%rd1], 1;",
        "div.rn.f32 %f1, %f2, %f3;",
    ],
)
def test_promised(ptx: str) -> None:
    assert against(ptx) == ""


@pytest.mark.parametrize(
    ("ptx", "reason"),
    [
        ("ex2.approx.ftz.f32 %f1, %f2;", "approximation"),
        ("@%p1 div.full.f32 %f1, %f2, %f3;", "approximation"),
        ("// inline\n{ tanh.approx.f32 %f1, %f2; }", "approximation"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r1}, {%r2}, {%r3}, {%r4};", "order"),
        ("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%r1}, %rd1, %rd2, p, 1, 1;", "order"),
        ("red.global.add.f32 [%rd1], %f1;", "any order"),
        ("mul.f32 %f1, %f2, %f3;\nsub.f32 %f1, %f1, %f1;", "contracted"),
    ],
)
def test_not_promised(ptx: str, reason: str) -> None:
    assert reason in against(ptx)


def test_what_depends_on_the_device_is_not_promised() -> None:
    assert "reproducible" in against("", VARIANT | {"reproducible": False})
    assert "multiprocessors" in against("", VARIANT | {"workspace": [{"bytes": "4*sms"}]})
    assert "multiprocessors" in against("", kernel={"parameters": [{"kind": "integer", "value": "min(sms, M)"}]})


def test_targets_with_the_same_instructions_have_the_same_code() -> None:
    text = ".version 8.0\n.target sm_80\n  add.s32 %r1, %r2, 1; // here\n"
    assert code_of([text]) == code_of([text.replace("sm_80", "sm_86").replace("8.0", "8.4").replace("here", "x")])
    assert code_of([text]) != code_of([text.replace(", 1", ", 2")])
