"""demo.c: compiled, run on a stand-in libcuda.so.1 with host memory, and shown to fail when a result is wrong."""

from __future__ import annotations

import math
import os
import re
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.aot.launcher_build import HERE, WARNINGS, run, write_sources
from tests.aot.launcher_packages import FakeImage, fake_image, kernel, param
from texpr.aot.demo import demo_c, demo_files
from texpr.aot.ir import (
    Entry,
    Example,
    IntValue,
    Launch,
    Package,
    ScalarArgument,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
)
from texpr.dtypes import DType
from texpr.math.expr import TRUE, const, sym

N = sym("N")

# For every element type: stored bytes of four elements, and what they mean.
INF, NAN = math.inf, math.nan
SAMPLES: dict[DType, tuple[bytes, tuple[float, ...]]] = {
    DType.F8E4M3: (bytes([0x38, 0xFE, 0x01, 0x7F]), (1.0, -448.0, 2.0**-9, NAN)),
    DType.F8E5M2: (bytes([0x3C, 0xFB, 0x01, 0x7C]), (1.0, -57344.0, 2.0**-16, INF)),
    DType.F16: (struct.pack("<4H", 0x3C00, 0xC500, 0x0001, 0xFC00), (1.0, -5.0, 2.0**-24, -INF)),
    DType.BF16: (struct.pack("<4H", 0x3F80, 0xC2F7, 0x0001, 0x7FC0), (1.0, -123.5, 2.0**-133, NAN)),
    DType.F32: (
        struct.pack("<4f", 0.1, -3e38, 1e-45, 7.0),
        struct.unpack("<4f", struct.pack("<4f", 0.1, -3e38, 1e-45, 7.0)),
    ),
    DType.F64: (struct.pack("<4d", 0.1, -1e300, 5e-324, INF), (0.1, -1e300, 5e-324, INF)),
    DType.I4: (bytes([0x81, 0xF7]), (1, -8, 7, -1)),
    DType.U4: (bytes([0x81, 0xF7]), (1, 8, 7, 15)),
    DType.I8: (struct.pack("<4b", 1, -128, 127, 0), (1, -128, 127, 0)),
    DType.U8: (bytes([1, 128, 255, 0]), (1, 128, 255, 0)),
    DType.I16: (struct.pack("<4h", 1, -32768, 32767, 0), (1, -32768, 32767, 0)),
    DType.U16: (struct.pack("<4H", 1, 65535, 2, 0), (1, 65535, 2, 0)),
    DType.I32: (struct.pack("<4i", 1, -(2**31), 2**31 - 1, 0), (1, -(2**31), 2**31 - 1, 0)),
    DType.U32: (struct.pack("<4I", 1, 2**32 - 1, 2, 0), (1, 2**32 - 1, 2, 0)),
    DType.I64: (struct.pack("<4q", 1, -(2**63), 2**63 - 1, 0), (1, -(2**63), 2**63 - 1, 0)),
    DType.U64: (struct.pack("<4Q", 1, 2**64 - 1, 2, 0), (1, -1, 2, 0)),  # as the int64 with the same bits
    DType.BOOL: (bytes([1, 0, 1, 1]), (1, 0, 1, 1)),
}


def conveying() -> tuple[Package, tuple[FakeImage, ...]]:
    """For every element type an input and an output that receives it."""
    arguments: list[TensorArgument | ScalarArgument] = [
        ScalarArgument("tenth", DType.F32),
        ScalarArgument("half", DType.F16),
        ScalarArgument("brain", DType.BF16),
        ScalarArgument("count", DType.U64),
        TensorArgument("absent", DType.F32, (N,), (1,), output=False, optional=True),
    ]
    kernels = []
    for dtype in SAMPLES:
        arguments.append(
            TensorArgument(f"x_{dtype}", dtype, (N,), (1,), output=False, strided=((0, f"x_{dtype}_stride_0"),))
        )
        arguments.append(TensorArgument(f"y_{dtype}", dtype, (N,), (1,), output=True))
        size = IntValue(const(len(SAMPLES[dtype][0])), wide=True)
        pointers = param("x", "*i8", TensorPointer(f"x_{dtype}")), param("y", "*i8", TensorPointer(f"y_{dtype}"))
        kernels.append(kernel(f"convey_{dtype}", *pointers, param("bytes", "i64", size)))
    launches = tuple(Launch(source.name, const(1)) for source in kernels)
    # One launch per type is more than the fake driver records: it forgets between launches.
    variant = Variant("only", ("sm_80",), TRUE, launches, workspace=(WorkspaceBuffer("scratch", 16 * N),))
    entry = Entry("convey", (), (), tuple(arguments), ("N",), (), (), (variant,))
    example = Example(
        "convey",
        (("N", 4),),
        (("tenth", 0.1), ("half", 0.5), ("brain", 3.0), ("count", 2**64 - 1)),
        tuple((f"x_{dtype}", data) for dtype, (data, _) in SAMPLES.items()),
        tuple((f"y_{dtype}", expected(dtype), struct.pack("<4d", 0, 0, 0, 0)) for dtype in SAMPLES),
    )
    images = tuple(fake_image(source.name, "sm_80") for source in kernels)
    return Package("convey", (entry,), tuple(kernels), "texpr: 1\n", "", example), images


def expected(dtype: DType) -> bytes:
    values = SAMPLES[dtype][1]
    return struct.pack("<4d", *values) if dtype.is_float else struct.pack("<4q", *(int(value) for value in values))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Package, Path]:
    """The demo program beside its data, and a stand-in libcuda.so.1."""
    package, images = conveying()
    folder = tmp_path_factory.mktemp("demo")
    source = write_sources(package, images, folder)
    (folder / "demo.c").write_text(demo_c(package))
    assert package.example is not None
    (folder / "demo").mkdir()
    for name, data in demo_files(package.example).items():
        (folder / "demo" / name).write_bytes(data)
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    run(["gcc", *WARNINGS, *sanitize, f"-I{folder}", folder / "demo.c", source, "-o", folder / "run_demo", "-ldl"])
    build_libcuda(folder, folder / "cuda")
    return package, folder


def build_libcuda(folder: Path, where: Path, *flags: str) -> None:
    """A libcuda.so.1 for the images in ``folder``."""
    where.mkdir()
    sources = [HERE / "fake_libcuda.c", HERE / "fake_driver.c", folder / "fake_images.c"]
    options = ["-shared", "-fPIC", "-fvisibility=hidden", f"-I{HERE}", f"-I{folder}", *flags]
    run(["gcc", *options, *sources, "-o", where / "libcuda.so.1", "-ldl"])


def demo(folder: Path, *arguments: str, cuda: str = "cuda", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "LD_LIBRARY_PATH": str(folder / cuda), **environment}
    return subprocess.run([folder / "run_demo", *arguments], cwd=folder, env=variables, capture_output=True, text=True)


def test_a_right_result_passes_in_every_element_type(built: tuple[Package, Path]) -> None:
    done = demo(built[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("convey: N=4\nvariant only, 64 bytes of workspace\n")
    assert len(re.findall(r"^y_\w+: 4 elements, largest error 0 of its bound, 0 absolute$", done.stdout, re.M)) == len(
        SAMPLES
    )
    assert done.stdout.endswith("\nPASS\n")


def test_a_wrong_result_fails_and_says_where(built: tuple[Package, Path]) -> None:
    done = demo(built[1], FAKE_CUDA_SPOIL="1")
    assert done.returncode == 1
    assert done.stdout.endswith("\nFAIL\n")
    assert "y_i32: 1 wrong, the first at element 0: 5 instead of 1" in done.stdout
    assert "y_f16: 1 wrong, the first at element 0: 1.00390625 instead of 1 (allowed error 0)" in done.stdout


def test_errors_are_printed_in_units_of_the_bound(built: tuple[Package, Path], tmp_path: Path) -> None:
    package, folder = built
    assert package.example is not None
    for name, data in demo_files(package.example).items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "y_f32.bound.bin").write_bytes(struct.pack("<4d", 1, 1, 1, 4))
    (tmp_path / "y_f32.expected.bin").write_bytes(struct.pack("<4d", 0.1, -INF, 0, 8))
    done = demo(folder, str(tmp_path))
    assert done.returncode == 1
    assert "y_f32: 4 elements, largest error inf of its bound, inf absolute" in done.stdout
    (tmp_path / "y_f32.expected.bin").write_bytes(struct.pack("<4d", *SAMPLES[DType.F32][1][:3], 8))
    done = demo(folder, str(tmp_path))
    assert done.returncode == 0
    assert "y_f32: 4 elements, largest error 0.25 of its bound, 1 absolute" in done.stdout


def test_missing_things_are_named(built: tuple[Package, Path], tmp_path: Path) -> None:
    _, folder = built
    done = demo(folder, str(tmp_path))
    assert done.returncode == 2 and f"cannot open: {tmp_path}/x_f8e4m3.bin" in done.stderr
    (tmp_path / "x_f8e4m3.bin").write_bytes(b"12345")
    done = demo(folder, str(tmp_path))
    assert done.returncode == 2 and "does not have the expected size" in done.stderr
    done = demo(folder, "one", "two")
    assert done.returncode == 2 and "usage" in done.stderr
    build_libcuda(folder, folder / "partial", "-DWITHOUT_LAUNCH")
    done = demo(folder, cuda="partial")
    assert done.returncode == 2
    assert "convey_driver_open: the CUDA driver or one of its entry points is missing" in done.stderr


def test_the_driver_is_asked_for_pinned_versions(built: tuple[Package, Path]) -> None:
    """With cuGetProcAddress_v2 present, cuFuncLoad (12.4) is found although it is not exported."""
    _, folder = built
    build_libcuda(folder, folder / "lookup", "-DWITH_LOOKUP")
    assert demo(folder, cuda="lookup").returncode == 0


@pytest.mark.parametrize("standard", ["c89", "c99", "c11", "c17", "c2x", "c++98", "c++17", "c++2b"])
def test_the_program_compiles_without_warnings(standard: str, built: tuple[Package, Path]) -> None:
    _, folder = built
    compiler = ["g++", "-x", "c++"] if standard.startswith("c++") else ["gcc"]
    run([*compiler, f"-std={standard}", *WARNINGS, f"-I{folder}", "-c", folder / "demo.c", "-o", "/dev/null"])


def test_an_example_that_does_not_match_its_sizes_is_refused() -> None:
    package, _ = conveying()
    assert package.example is not None
    with pytest.raises(ValueError, match="lacks the dims N"):
        demo_c(replace(package, example=replace(package.example, dims=())))
    with pytest.raises(ValueError, match="bytes for x_f8e4m3, not 8"):
        demo_c(replace(package, example=replace(package.example, dims=(("N", 8),))))
    with pytest.raises(ValueError, match="no value for brain"):
        demo_c(replace(package, example=replace(package.example, scalars=package.example.scalars[:2])))
    with pytest.raises(ValueError, match="has no data for x_f16"):
        demo_c(replace(package, example=replace(package.example, inputs=package.example.inputs[:2])))
    with pytest.raises(ValueError, match="has no example"):
        demo_c(replace(package, example=None))
