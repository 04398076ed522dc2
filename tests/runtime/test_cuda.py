"""The CUDA path of the runtime on the stand-in driver, and torch tensors where torch is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.sample_bundles import bundle
from texpr.emulator.standin import run_program
from texpr.runtime import errors as e
from texpr.runtime import load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("program", ["cuda_program.py", "torch_program.py"])
def test_cuda_path_on_the_stand_in_driver(
    program: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    bundles = [bundle("affine"), bundle("staged")]
    status = run_program([sys.executable, str(HERE / program), *map(str, bundles)], bundles)
    output = capfd.readouterr()
    assert (status, output.out) == (0, "ok\n"), output.err


def test_without_a_driver_the_error_says_so() -> None:
    """Only where there is no driver; with one, loading on the GPU is what happens."""
    if shutil.which("nvidia-smi") is not None:
        pytest.skip("this machine has a GPU driver")

    # In a process of its own: the stand-in, once loaded by another test, would be found by its name.
    script = """
from tests.runtime.sample_bundles import bundle
from texpr.runtime import errors, load

class Somewhere:
    def __init__(self, *shape):
        self.__cuda_array_interface__ = {"typestr": "<f4", "shape": shape, "data": (4096, False), "version": 3}

try:
    load(bundle("affine"))(Somewhere(2, 3), a=1.0, out=Somewhere(2, 3))
except errors.NoDriverError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "affine: libcuda.so.1" in done.stdout, done.stderr


def test_torch_cpu_tensors_run_on_the_emulator() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    affine = load(bundle("affine_types"))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x = (torch.arange(4 * 30) % 61).reshape(4, 30).to(dtype)
        b = torch.arange(30).to(dtype)
        y = affine(x[::2], b, 0.5)
        assert y.dtype is dtype
        assert torch.equal(y, (x[::2].float() * 0.5 + b.float()).to(dtype))
    x = torch.ones(2, 3)
    out = torch.zeros(2, 3)
    assert affine(x, a=2.0, out=out) is out
    assert np.array_equal(out.numpy(), np.full((2, 3), 2.0))
    with pytest.raises(e.RequiresGradError, match="x requires grad"):
        affine(x.requires_grad_(), a=2.0)
    with torch.no_grad():
        assert torch.equal(affine(x, a=2.0), x * 2)
    with pytest.raises(e.NotAnArrayError, match=r"its layout is torch\.sparse_coo"):
        affine(torch.eye(3).to_sparse(), a=2.0)
    with pytest.raises(e.NotAnArrayError, match="it is on meta"):
        affine(torch.ones(2, 3, device="meta"), a=2.0)
