"""The command line on a PTX file: arguments as text, results, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.emulator.snippets import kernel
from texpr.cli import main as texpr
from texpr.emulator import Fault, LaunchError, PtxError, run_ptx
from texpr.emulator.__main__ import main as emulator
from texpr.emulator.arguments import ArgumentError

SCALE = kernel(
    """
    ld.param.u64 %x, [x]; ld.param.u64 %y, [y]; ld.param.f32 %a, [a]; ld.param.u32 %n, [n];
    mov.u32 %t, %tid.x; mov.u32 %c, %ctaid.x; mad.lo.u32 %t, %c, 32, %t; setp.lt.u32 %p, %t, %n;
    mad.wide.u32 %x, %t, 4, %x; mad.wide.u32 %y, %t, 4, %y;
    @%p ld.global.f32 %f, [%x]; mul.f32 %f, %f, %a; @%p st.global.f32 [%y], %f;
    """,
    ".param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n, .param .u64 scratch",
    declarations=".reg .b64 %x, %y; .reg .b32 %t, %c, %n; .reg .f32 %f, %a; .reg .pred %p;", target="sm_80",
)
ARGUMENTS = ["x=f32[50]:iota", "y=f32[50]", "a=f32:0.5", "n=i32:48"]


def test_a_kernel_runs_on_described_arguments() -> None:
    run = run_ptx(SCALE, ARGUMENTS, grid=(2,), block=(32,))
    np.testing.assert_array_equal(run.buffers["y"][:48], np.arange(48) * 0.5)
    assert run.unwritten == {"x": 0, "y": 8} and run.stats.programs == 2


def test_random_contents_depend_on_name_and_seed_only() -> None:
    arguments = ["x=f32[50]:random", *ARGUMENTS[1:]]
    first, again, other = (run_ptx(SCALE, arguments, grid=(2,), block=(32,), random_seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.buffers["y"], again.buffers["y"])
    assert (first.buffers["x"] != other.buffers["x"]).any()


@pytest.mark.parametrize("command", [lambda words: texpr(["emulate", *words]), lambda words: emulator(["ptx", *words])])
def test_the_command_line(command: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, saved = tmp_path / "scale.ptx", tmp_path / "y.npy"
    file.write_text(SCALE)
    words = [str(file), "--grid", "2", "--block", "32", "--save", f"y={saved}"]
    assert command([*words, *(f"--arg={argument}" for argument in ARGUMENTS)]) == 0  # type: ignore[operator]
    assert "y [50]: 0, 0.5, 1" in capsys.readouterr().out
    assert np.load(saved)[47] == 23.5
    short = ["x=f32[40]:iota", *ARGUMENTS[1:]]
    assert command([*words, *(f"--arg={argument}" for argument in short)]) == 1  # type: ignore[operator]
    assert "past the end of buffer 'x'" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["x=f33[5]"], "there is no type 'f33'"), (["x=f32[5]:noise"], "'noise' is none of"), (["x"], "write NAME=TYPE"),
    (["x=f32[0]"], "extents are positive"), (["n=i32:abc"], "a value of type i32"), (["n=i32:99999999999"], "i32"),
    (["x=f32[5]:missing.npy"], "cannot read missing.npy"), (ARGUMENTS[:2], "takes 5 arguments, 2 given"),
    (["m=map:x:4,4"], "there is no buffer 'x'"),
])  # fmt: skip
def test_wrong_descriptions(arguments: list[str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        run_ptx(SCALE, arguments, grid=(1,), block=(32,))


def test_errors_of_the_file_name_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.ptx"
    file.write_text(kernel("\nfrobnicate.u32;"))
    assert emulator(["ptx", str(file), "--block", "32"]) == 2
    assert "bad.ptx:11: error: unknown instruction 'frobnicate.u32'" in capsys.readouterr().err
    assert emulator(["ptx", str(tmp_path / "none.ptx"), "--block", "32"]) == 2


def test_a_refused_launch() -> None:
    with pytest.raises(LaunchError, match="block"):
        run_ptx(SCALE, ARGUMENTS, grid=(2,), block=(64,))
    with pytest.raises(PtxError):
        run_ptx("nonsense", [], grid=(1,), block=(1,))
    with pytest.raises(Fault):
        run_ptx(SCALE, [*ARGUMENTS[:3], "n=i32:64"], grid=(2,), block=(32,))


def test_tensor_maps_over_buffers() -> None:
    body = """
        mov.u32 %s, buffer; add.u32 %b, %s, 1024; mov.u64 %m, map; ld.param.u64 %out, [out];
        mov.u32 %t, %tid.x; setp.eq.u32 %p, %t, 0;
        @%p mbarrier.init.shared::cta.b64 [%b], 1; fence.proxy.async.shared::cta; bar.sync 0;
        @%p mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 128;
        @%p cp.async.bulk.tensor.2d.shared::cta.global.mbarrier::complete_tx::bytes [%s], [%m, {8, 2}], [%b];
        W: mbarrier.try_wait.parity.shared::cta.b64 %q, [%b], 0; @!%q bra W;
        mad.lo.u32 %b, %t, 4, %s; ld.shared.b32 %b, [%b]; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %b;
    """
    text = kernel(body, ".param .align 64 .b8 map[128], .param .u64 out", target="sm_90a",
                  module=".shared .align 1024 .b8 buffer[2048];",
                  declarations=".reg .b32 %s, %b, %t; .reg .b64 %m, %out; .reg .pred %p, %q;")
    run = run_ptx(text, ["map=map:x:4,8", "out=f32[4,8]"], buffers=["x=f32[8,16]:iota"], grid=(1,), block=(32,))
    np.testing.assert_array_equal(run.buffers["out"], np.arange(128).reshape(8, 16)[2:6, 8:])
