"""Calling bundles with NumPy arrays: the bundle's own launcher drives the emulator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.runtime.sample_bundles import bundle
from texpr.emulator import Fault
from texpr.errors import TExprError
from texpr.runtime import Bundle, load
from texpr.runtime import errors as e
from texpr.runtime.library import CallError
from texpr.runtime.manifest import read_manifest
from texpr.runtime.status import CallFacts, error_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def affine() -> Bundle:
    return load(bundle("affine_types"))


@pytest.fixture(scope="module")
def staged() -> Bundle:
    return load(bundle("staged"))


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    return (np.arange(np.prod(shape)).reshape(shape) % 61).astype(dtype)


def read_only(like: Any) -> Any:
    array = np.zeros_like(like)
    array.setflags(write=False)
    return array


# ---- values


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_entry_is_chosen_by_element_type(affine: Bundle, dtype: Any) -> None:
    x, b = numbers(3, 70, dtype=dtype), numbers(70, dtype=dtype)
    y = affine(x, b, 0.5)
    assert y.dtype == x.dtype
    assert np.array_equal(y, (x.astype(np.float32) * 0.5 + b.astype(np.float32)).astype(dtype))


def test_bf16_bit_patterns_need_the_type_named(affine: Bundle) -> None:
    x = numbers(3, 70, dtype=ml_dtypes.bfloat16)
    y = affine(x.view(np.uint16), a=2.0, types={"T": "bf16"})
    assert y.dtype == np.uint16
    assert np.array_equal(y.view(ml_dtypes.bfloat16), (x.astype(np.float32) * 2).astype(ml_dtypes.bfloat16))
    with pytest.raises(e.NoEntryError, match="no entry for x: u16") as caught:
        affine(x.view(np.uint16), a=2.0)
    assert "try: types={'T': 'bf16'}" in str(caught.value)


def test_optional_array_absent_by_position_or_omission(affine: Bundle) -> None:
    x = numbers(2, 9)
    assert np.array_equal(affine(x, None, 3.0), x * 3)
    assert np.array_equal(affine(x, a=3.0), x * 3)


def test_free_stride(affine: Bundle) -> None:
    base = numbers(6, 40)
    x = base[::2, :17]
    assert np.array_equal(affine(x, a=1.0), x)


def test_outputs_are_written_in_place(affine: Bundle) -> None:
    x, y = numbers(2, 9), np.zeros((2, 9), np.float32)
    assert affine(x, a=3.0, out=y) is y
    assert np.array_equal(y, x * 3)
    for given in ({"out": [y]}, {"out": {"y": y}}, {"y": y}):
        y[:] = 0
        assert affine(x, a=2.0, **given) is y
        assert np.array_equal(y, x * 2)


def test_two_kernels_with_a_workspace_and_an_alias(staged: Bundle) -> None:
    x = numbers(2, 3, 8, dtype=np.int32)
    expected = (x + 3) * 2
    y = staged(x, 3)
    assert y.shape == (2, 24)
    assert np.array_equal(y.reshape(x.shape), expected)
    assert staged(x, 3, out=x) is x
    assert np.array_equal(x, expected)


def test_composite_dims_need_a_factor_in_storage_rank(staged: Bundle) -> None:
    x = numbers(2, 24, dtype=np.int32)
    with pytest.raises(e.UnknownDimError, match="dim G"):
        staged(x, 3)
    assert np.array_equal(staged(x, 3, dims={"G": 3}), (x + 3) * 2)


def test_empty_arrays(affine: Bundle, staged: Bundle) -> None:
    assert affine(np.zeros((0, 5), np.float32), a=1.0).shape == (0, 5)
    assert affine(np.zeros((4, 0), np.float32), np.zeros(0, np.float32), 1.0).shape == (4, 0)
    assert staged(np.zeros((0, 1, 4), np.int32), 0).shape == (0, 4)


def test_simulated_capability(affine: Bundle) -> None:
    x = numbers(2, 9)
    assert np.array_equal(load(bundle("affine_newer"), sm=90)(x, a=2.0), x * 2)
    assert np.array_equal(load(bundle("affine_newer"))(x, a=2.0), x * 2)
    with pytest.raises(
        e.NoKernelImageError, match=r"no code for compute capability 8\.0; it was built for: sm_86, sm_90a"
    ):
        load(bundle("affine_newer"), sm=80)(x, a=2.0)


def test_a_driver_that_is_too_old_is_named_with_the_one_that_would_do() -> None:
    details = CallError(status=-20, needed=13000, other=12090)
    facts = CallFacts(read_manifest(bundle("staged")), None, {}, "")
    error = error_of(-20, details, facts)
    assert isinstance(error, e.OldDriverError)
    assert "driver for CUDA 13.0 or later, this one is for CUDA 12.9" in error.message


def test_fault_of_a_kernel_is_raised(affine: Bundle) -> None:
    broken = load(bundle("affine_broken"))
    with pytest.raises(Fault, match="end of buffer 'y'"):
        broken(numbers(3, 512), a=1.0)


def test_bundle_can_be_called_after_a_fault_and_after_close() -> None:
    broken = load(bundle("affine_broken"))
    for _ in range(2):
        with pytest.raises(Fault):
            broken(numbers(3, 512), a=1.0)
    broken.close()
    with pytest.raises(Fault):
        broken(numbers(3, 512), a=1.0)


def test_emulator_memory_is_released(affine: Bundle) -> None:
    affine(numbers(2, 9), a=1.0)
    driver = affine._backends["emulator"]._driver  # type: ignore[attr-defined]
    before = len(driver.gpu.device.memory.live())
    affine(numbers(2, 9), numbers(9), 1.0)
    assert len(driver.gpu.device.memory.live()) == before


# ---- queries


def test_query_says_what_a_call_would_do(staged: Bundle) -> None:
    result = staged.query(numbers(2, 3, 8, dtype=np.int32), 3)
    assert (result.entry, result.variant_name, result.workspace_bytes) == ("staged", "general", 4 * 48)
    assert [(launch.kernel, launch.grid, launch.block) for launch in result.launches] == [
        ("staged_shift", 1, 128),
        ("staged_double", 1, 128),
    ]


def test_query_without_arrays_assumes_aligned_ones(staged: Bundle, affine: Bundle) -> None:
    assert staged.query(dims={"B": 4, "G": 2, "C": 64}).variant_name == "aligned"
    assert staged.query(dims={"B": 4, "G": 2, "C": 60}).variant_name == "general"
    assert affine.query(types={"T": "f16"}, dims={"M": 7, "K": 3}).launches[0].grid == 7
    assert staged.query(dims={"B": 0, "G": 2, "C": 64}).variant == -1
    with pytest.raises(e.UnknownDimError, match="dim K"):
        affine.query(types={"T": "f16"}, dims={"M": 7})


# ---- mistakes


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda f, x: f(), e.MissingArgumentError, r"TX0713 affine\(\) needs x \(array \[M\*, K\]\)"),
        (lambda f, x: f(x), e.MissingArgumentError, r"needs a \(f32 scalar\)"),
        (lambda f, x: f(x, None, 1.0, x), e.TooManyArgumentsError, r"takes 3 inputs \(x, b, a\), 4 were given"),
        (lambda f, x: f(x, x=x, a=1.0), e.ArgumentTwiceError, "got x twice"),
        (lambda f, x: f(x, alpha=1.0), e.UnknownArgumentError, "no argument 'alpha'"),
        (lambda f, x: f(x, a=1.0, out={"z": x}), e.UnknownArgumentError, "no argument 'z'"),
        (lambda f, x: f(x, a=1.0, out=(x, x)), e.TooManyArgumentsError, "out= takes 1 arrays"),
        (lambda f, x: f([1.0], a=1.0), e.NotAnArrayError, "TX0715 x: a list is not an array"),
        (lambda f, x: f(x.astype(">f4"), a=1.0), e.NotAnArrayError, "its elements are >f4"),
        (lambda f, x: f(x.astype(complex), a=1.0), e.NotAnArrayError, "complex128"),
        (lambda f, x: f(x, a="1"), e.ScalarError, "a: '1' is not a value of type f32"),
        (lambda f, x: f(x.astype(np.float64), a=1.0), e.NoEntryError, "no entry for x: f64"),
        (lambda f, x: f(x, x.astype(np.float16)[0], 1.0), e.NoEntryError, "x: f32, b: f16"),
        (lambda f, x: f(x, a=1.0, types={"T": "f16"}), e.NoEntryError, "x: f32, T=f16"),
        (lambda f, x: f(x, a=1.0, types={"U": "f16"}), e.UnknownArgumentError, "no type variable 'U'"),
        (lambda f, x: f(x, a=1.0, types={"T": "half"}), e.UnknownArgumentError, "no element type 'half'"),
        (lambda f, x: f(x, a=1.0, statics={"R": 3}), e.UnknownArgumentError, "no static parameter 'R'"),
        (lambda f, x: f.query(dims={"M": 1, "K": 1}), e.AmbiguousEntryError, "affine_f16 .*, affine_bf16"),
        (lambda f, x: f(x[0], a=1.0), e.RankError, r"x has shape \(9,\)"),
        (
            lambda f, x: f(x, x[0, :5], 1.0),
            e.ShapeError,
            r"b has shape \(5,\); its dim 0 should be K = 9 \(with K = 9 from x\)",
        ),
        (
            lambda f, x: f(x.T, a=1.0),
            e.LayoutError,
            "x_stride|free stride only on dim 0, so dim 1 should have stride 1",
        ),
        (lambda f, x: f(x, a=1.0, out=read_only(x)), e.ReadOnlyError, "y: the array given"),
        (lambda f, x: f(x, a=1.0, out=x), e.OverlapError, "output y overlaps x"),
        (lambda f, x: f(x, x[0], 1.0, out=np.zeros((2, 9), np.float16)), e.NoEntryError, "y: f16"),
    ],
)
def test_mistakes_name_the_argument(affine: Bundle, call: Any, error: type[TExprError], text: str) -> None:
    with pytest.raises(error, match=text):
        call(affine, numbers(2, 9))


def test_launcher_refusals_are_translated(staged: Bundle) -> None:
    x = numbers(2, 3, 8, dtype=np.int32)
    with pytest.raises(
        e.RequirementError, match=r"staged requires C % 4 == 0, which does not hold for B = 2, G = 3, C = 6"
    ):
        staged(np.zeros((2, 3, 6), np.int32), 0)
    with pytest.raises(e.ScalarRangeError, match=r"k is outside its declared range \[0, C\)"):
        staged(x, 8)
    with pytest.raises(e.DimRangeError, match="staged: B = 2147483648 is outside"):
        staged.query(dims={"B": 2**31, "G": 1, "C": 4})


def test_partly_overlapping_alias_is_refused(staged: Bundle) -> None:
    memory = numbers(3, 3, 8, dtype=np.int32)
    with pytest.raises(e.OverlapError, match="y overlaps x") as caught:
        staged(memory[:2], 3, out=memory[1:])
    assert "only as the very same array" in str(caught.value)


def test_places_are_checked(affine: Bundle) -> None:
    class OnGpu:
        __cuda_array_interface__ = {"typestr": "<f4", "shape": (9,), "data": (4096, False), "version": 3}  # noqa: RUF012

    with pytest.raises(e.MixedPlacesError, match="x is on the host, b is on a CUDA device"):
        affine(numbers(2, 9), OnGpu(), 1.0)
    with pytest.raises(e.WrongPlaceError, match="x is on the host, the bundle was loaded with device='cuda'"):
        load(bundle("affine"), device="cuda")(numbers(2, 9), a=1.0)
    with pytest.raises(e.WrongPlaceError, match="b is on a CUDA device"):
        load(bundle("affine"), device="emulator").query(b=OnGpu())
    with pytest.raises(e.DeviceNameError, match="device='gpu'"):
        load(bundle("affine"), device="gpu")


# ---- loading


def test_load_is_quick_and_imports_no_compiler() -> None:
    script = f"""
import sys, time
start = time.perf_counter()
from texpr.runtime import load
f = load({str(bundle("affine"))!r})
print(time.perf_counter() - start)
print(sorted(set(sys.modules) & {{"numpy", "torch", "triton", "islpy"}}))
import numpy
f(numpy.ones((2, 3), "float32"), a=1.0)
names = [n for n in sys.modules if n.startswith("texpr.") and n.split(".")[1] not in ("runtime", "emulator")]
print(sorted(names))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, heavy, others = result.stdout.splitlines()
    assert float(seconds) < 0.5
    assert heavy == "[]"
    ground = ("contracts", "domains", "dtypes", "errors", "plugins", "targets", "version")
    assert set(eval(others)) <= {f"texpr.{name}" for name in ground}


def test_info_prints_the_contents(capsys: pytest.CaptureFixture[str]) -> None:
    from texpr.runtime.__main__ import main

    assert main(["info", str(bundle("staged")), "--verify"]) == 0
    output = capsys.readouterr().out
    for part in (
        "bundle staged   targets sm_80",
        "x: i32[B, (G, C)], k: i32 -> y: i32[B, (G, C)]",
        "requires C % 4 == 0",
        "launches staged_shift then staged_double",
        "workspace part",
        "sm_80     128 threads",
        "files are as built",
    ):
        assert part in output
    assert main(["info", str(ROOT / "tests")]) == 2
    assert "TX0701" in capsys.readouterr().err
