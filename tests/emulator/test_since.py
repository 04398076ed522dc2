"""Instruction forms that a target or a PTX version does not have, and those that are not emulated at all."""

from __future__ import annotations

import pytest

from texpr.emulator import PtxError, load_ptx
from texpr.emulator.since import has_target, missing, parse_since

REGISTERS = ".reg .b32 %r<8>; .reg .b64 %x<8>; .reg .b16 %h<4>; .reg .pred %p; .reg .b32 %d<8>;"


def load(body: str, target: str, version: str) -> None:
    load_ptx(
        f".version {version}\n.target {target}\n.address_size 64\n"
        f".visible .entry k()\n{{\n{REGISTERS}\n{body}\nret;\n}}\n"
    )


@pytest.mark.parametrize(("body", "target", "version", "message"), [
    ("wgmma.fence.sync.aligned;", "sm_90", "8.0", "needs .target sm_90a; this file is for sm_90"),
    ("wgmma.fence.sync.aligned;", "sm_100a", "8.6", "needs .target sm_90a; this file is for sm_100a"),
    ("elect.sync %r0|%p, -1;", "sm_80", "8.0", "needs .target sm_90 or later; this file is for sm_80"),
    ("add.bf16 %h0, %h1, %h2;", "sm_89", "8.0", "needs .target sm_90 or later"),
    ("add.rn.f32x2 %x0, %x1, %x2;", "sm_90a", "8.6", "needs .target sm_100 or later"),
    ("max.f32 %r0, %r1, %r2, %r3;", "sm_90", "8.8", "needs .target sm_100 or later"),
    ("cvt.rn.satfinite.e4m3x2.f32 %h0, %r0, %r1;", "sm_89", "8.0", "needs .version 8.1 or later; this file has 8.0"),
    ("ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r0, %r1}, [%r2];", "sm_90a", "8.6", "sm_100f or sm_110f"),
    ("setmaxnreg.inc.sync.aligned.u32 64;", "sm_89", "8.0", "needs .target sm_90a or sm_100f"),
])  # fmt: skip
def test_a_form_that_the_file_has_not_is_refused(body: str, target: str, version: str, message: str) -> None:
    with pytest.raises(PtxError, match=message) as caught:
        load(body, target, version)
    assert caught.value.line == 7 and body.split()[0] in str(caught.value)


@pytest.mark.parametrize(("body", "target", "version"), [
    ("max.f32 %r0, %r1, %r2;", "sm_80", "8.0"), ("add.bf16 %h0, %h1, %h2;", "sm_90", "7.8"),
    ("cvt.rn.satfinite.e4m3x2.f32 %h0, %r0, %r1;", "sm_120a", "8.7"), ("wgmma.fence.sync.aligned;", "sm_90a", "8.0"),
    ("setmaxnreg.inc.sync.aligned.u32 64;", "sm_103a", "8.8"), ("cvt.bf16.bf16 %h0, %h1;", "sm_90", "7.8"),
])  # fmt: skip
def test_a_form_that_the_file_has_loads(body: str, target: str, version: str) -> None:
    load(body, target, version)


def test_a_version_too_old_for_its_target_is_refused() -> None:
    with pytest.raises(PtxError, match=r"sm_100a needs .version 8.6 or later, not 8.0"):
        load("", "sm_100a", "8.0")


@pytest.mark.parametrize(("opcode", "reason"), [
    ("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32", "tensor memory"),
    ("clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128", "cancelled"),
    ("red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32", "other programs"),
    ("mma.sp::ordered_metadata.sync.aligned.m16n8k32", "sparse"),
    ("mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.f32.e4m3.e4m3.f32.ue8m0", "block scales"),
    ("cp.async.bulk.tensor.2d.shared::cta.global.tile::gather4.mbarrier::complete_tx::bytes", "gather"),
    ("wmma.load.a.sync.aligned.row.m16n16k16.f16", "matrix instructions"), ("tex.1d.v4.f32.s32", "textures"),
    ("cvt.rs.f16x2.f32", "stochastic"), ("ld.global.b128", "128 bits"),
])  # fmt: skip
def test_what_is_not_emulated_is_named_with_its_reason(opcode: str, reason: str) -> None:
    with pytest.raises(PtxError, match=reason) as caught:
        load(f"{opcode} %r0;", "sm_120a", "9.4")
    assert repr(opcode) in str(caught.value) and "is not emulated" in str(caught.value)


def test_targets() -> None:
    assert has_target("sm_90a", "sm_90") and has_target("sm_120a", "sm_89") and not has_target("sm_89", "sm_90")
    assert has_target("sm_90a", "sm_90a") and not has_target("sm_100a", "sm_90a")
    assert (
        has_target("sm_103a", "sm_100f")
        and not has_target("sm_100", "sm_100f")
        and not has_target("sm_110a", "sm_100f")
    )


def test_conditions() -> None:
    since = "bf16+!f32|ftz+f16: sm_90"
    assert missing(since, "", "x.bf16.f16", 2, "sm_80", "8.0") and missing(since, "", "x.ftz.f16", 2, "sm_80", "8.0")
    assert not missing(since, "", "x.bf16.f32", 2, "sm_80", "8.0") and not missing(
        since, "", "x.f16", 2, "sm_80", "8.0"
    )


@pytest.mark.parametrize("wrong", ["90", "sm_90b", "bf16:", "bf16: ", "ptx8.0 ptx8.1", "word"])
def test_a_line_that_cannot_be_read(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        parse_since(wrong)
