"""Builds a package's launcher with the fake driver: as a library for ctypes, or as the fuzz program."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.aot.launcher_packages import FakeImage
from texpr.aot.abi import Field, FieldRole, args_fields, context_words, max_launches
from texpr.aot.cubin import parameter_bytes
from texpr.aot.header import header_h
from texpr.aot.ir import Entry, Package
from texpr.aot.launcher import launcher_c
from texpr.targets import TARGETS

HERE = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Wundef"]
_C_TYPES: dict[str, Any] = {
    "float": ctypes.c_uint32,  # floats travel as bits in these tests
    "double": ctypes.c_uint64,
    "const void *": ctypes.c_uint64,
    "void *": ctypes.c_uint64,
    **{f"{sign}int{bits}_t": getattr(ctypes, f"c_{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def run(command: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs and returns; a failure shows what the program wrote."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done


def write_sources(package: Package, images: Sequence[FakeImage], folder: Path) -> Path:
    """The launcher, its header, texpr_abi.h and the fake driver's table of images; returns the launcher's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE.parent.parent / "texpr" / "aot" / "texpr_abi.h", folder)
    (folder / f"{package.name}.h").write_text(header_h(package))
    (folder / "fake_images.c").write_text(_fake_images(package, images))
    source = folder / f"{package.name}.c"
    source.write_text(launcher_c(package, images))
    return source


def _fake_images(package: Package, images: Sequence[FakeImage]) -> str:
    kernels = {kernel.name: kernel for kernel in package.kernels}
    rows = []
    for image in images:
        target = TARGETS[image.target]
        passed = kernels[image.kernel].params
        sizes = [*(size for p in passed for size in parameter_bytes(p.type)), 8, 8]
        sizes_text = ", ".join(map(str, sizes))
        digest = ", ".join(str(byte) for byte in image.cubin[:32])
        facts = f"{target.capability}, {int(target.exact)}, {32 * image.warps}, {image.shared_bytes}, {image.registers}"
        rows.append(
            f'  {{"{image.kernel}", {{{digest}}}, {facts}, {image.stack_bytes}, {len(sizes)}, {{{sizes_text}}}}}'
        )
    table = ",\n".join(rows)
    return (
        f'#include "fake_driver.h"\nconst struct fake_image fake_images[] = {{\n{table}\n}};\n'
        f"const int fake_image_count = {len(images)};\n"
    )


class FakeLaunch(ctypes.Structure):
    _fields_ = (
        ("image", ctypes.c_int32),
        ("grid", ctypes.c_uint32),
        ("block", ctypes.c_uint32),
        ("shared_bytes", ctypes.c_uint32),
        ("param_bytes", ctypes.c_uint32),
        ("cluster", ctypes.c_uint32),
        ("stream", ctypes.c_void_p),
        ("params", ctypes.c_ubyte * 512),
    )


class FakeState(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in (
            "capability", "sms", "shared_limit", "recording", "fail_at", "fail_result", "calls", "capturing",
            "registers_off", "local_bytes_off", "threads_off", "modules", "functions_loaded", "mistakes", "launches",
            "early_launches", "images_loaded", "driver_version",
        )),
        ("context", ctypes.c_void_p),
        ("launch", FakeLaunch * 8),
    )  # fmt: skip


class Error(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("status", "cuda_result", "argument", "other", "dim", "capability")),
        ("needed", ctypes.c_uint64),
    )


class Driver(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
        *((name, ctypes.c_void_p) for name in (
            "ctx_get_current", "ctx_get_device", "device_get_attribute", "stream_is_capturing", "module_load_data",
            "module_unload", "module_get_function", "func_get_attribute", "func_set_attribute", "func_load",
            "launch_kernel_ex", "memset_d8_async", "memset_d16_async", "memset_d32_async",
            "driver_get_version", "tensor_map_encode_tiled",
        )),
    )  # fmt: skip


def args_class(entry: Entry) -> type[ctypes.Structure]:
    """``<symbol>_args`` with the user's names; floats as their bits."""
    fields = (("struct_size", ctypes.c_uint32), ("abi_version", ctypes.c_uint32))
    return type(
        "Args",
        (ctypes.Structure,),
        {"_fields_": (*fields, *((f.name, _C_TYPES[f.c_type]) for f in args_fields(entry)))},
    )


def info_class(entry: Entry) -> type[ctypes.Structure]:
    """``<symbol>_info``."""
    per_launch = ctypes.c_uint32 * max_launches(entry)
    fields = (
        ("struct_size", ctypes.c_uint32),
        ("abi_version", ctypes.c_uint32),
        ("variant", ctypes.c_int32),
        ("variant_name", ctypes.c_char_p),
        ("launches", ctypes.c_uint32),
        ("grid", per_launch),
        ("block", per_launch),
        ("shared_bytes", per_launch),
        ("workspace_bytes", ctypes.c_uint64),
    )
    return type("Info", (ctypes.Structure,), {"_fields_": fields})


class Launcher:
    """One entry of a bundle, called through ctypes on the fake driver. Every call leaves its report in ``error``."""

    def __init__(self, library: ctypes.CDLL, entry: Entry, images: Sequence[FakeImage]) -> None:
        self.library, self.entry, self.images = library, entry, images
        self.fake = FakeState.in_dll(library, "fake")
        self.driver, self.error = Driver(), Error()
        self.context = (ctypes.c_uint64 * context_words(entry))()
        self.Args, self.Info = args_class(entry), info_class(entry)
        library.fake_reset()
        library.fake_table(ctypes.byref(self.driver))

    def call(self, function: str, *arguments: Any) -> int:
        return int(getattr(self.library, f"{self.entry.symbol}_{function}")(*arguments, ctypes.byref(self.error)))

    def init(self) -> int:
        return self.call("init", self.context, ctypes.byref(self.driver))

    def close(self) -> int:
        return self.call("close", self.context)

    def args(self, values: Mapping[str, int]) -> ctypes.Structure:
        args = self.Args(struct_size=ctypes.sizeof(self.Args), abi_version=1)
        for name, value in values.items():
            setattr(args, name, value)
        return args

    def info(self) -> Any:
        return self.Info(struct_size=ctypes.sizeof(self.Info), abi_version=1)

    def query(self, values: Mapping[str, int]) -> tuple[int, Any]:
        info = self.info()
        return self.call("query", self.context, ctypes.byref(self.args(values)), ctypes.byref(info)), info

    def launch(
        self, values: Mapping[str, int], workspace: int = 0, workspace_bytes: int = 0, stream: int = 0x51
    ) -> int:
        pointers = ctypes.c_void_p(workspace), ctypes.c_size_t(workspace_bytes)
        return self.call("launch", self.context, ctypes.c_void_p(stream), ctypes.byref(self.args(values)), *pointers)

    def launched(self) -> list[tuple[str, str, int, bytes]]:
        """(kernel, target, grid, parameter bytes) of the recorded launches."""
        records = self.fake.launch[: self.fake.launches]
        return [
            (
                *((image.kernel, image.target) if (image := image_of(record, self.images)) else ("fill", "")),
                record.grid,
                bytes(record.params[: record.param_bytes]),
            )
            for record in records
        ]


def image_of(record: FakeLaunch, images: Sequence[FakeImage]) -> FakeImage | None:
    """The image that was launched; None for a memset."""
    return images[record.image] if record.image >= 0 else None


def max_calls(entry: Entry) -> int:
    """The most kernels and memsets that one launch makes."""
    return max(sum(1 + len(launch.fills) for launch in variant.launches) for variant in entry.variants)


def build_library(package: Package, images: Sequence[FakeImage], folder: Path) -> ctypes.CDLL:
    """The launcher and the fake driver in one shared library, with UBSan aborting on the first mistake."""
    source = write_sources(package, images, folder)
    library = folder / f"lib{package.name}.so"
    flags = [
        "-O1",
        "-g",
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
        "-fPIC",
        "-shared",
        f"-I{HERE}",
        f"-I{folder}",
    ]
    run(["gcc", *flags, source, folder / "fake_images.c", HERE / "fake_driver.c", "-o", library, "-ldl"])
    return ctypes.CDLL(str(library))


def build_fuzzer(
    package: Package,
    entry: Entry,
    images: Sequence[FakeImage],
    values: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    folder: Path,
) -> Path:
    """fuzz_launcher.c for one entry under ASan and UBSan; ``values`` gives the good and bad values of every field."""
    source = write_sources(package, images, folder)
    (folder / "fuzz_config.h").write_text(_fuzz_config(entry, values))
    program = folder / f"fuzz_{entry.symbol}"
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{HERE}", f"-I{folder}"]
    names = [f"-DSYMBOL={entry.symbol}", f'-DHEADER="{package.name}.h"']
    run(
        [
            "gcc",
            *flags,
            *names,
            HERE / "fuzz_launcher.c",
            HERE / "fake_driver.c",
            folder / "fake_images.c",
            source,
            "-o",
            program,
            "-ldl",
        ]
    )
    return program


def _fuzz_config(entry: Entry, values: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> str:
    fields = args_fields(entry)
    lines = [f"enum {{ FUZZ_FIELDS = {len(fields)}, FUZZ_LAUNCHES = {max_calls(entry)} }};"]
    rows = []
    for position, one in enumerate(fields):
        for kind, numbers in zip(("good", "bad"), values[one.name], strict=True):
            text = ", ".join(_signed(number) for number in numbers) or "0"
            lines.append(f"static const int64_t fuzz_{kind}_{position}[] = {{{text}}};")
        counts = ", ".join(str(len(numbers)) for numbers in values[one.name])
        place = f"offsetof({entry.symbol}_args, {one.c_name}), {_size(one)}"
        rows.append(f"  {{{place}, {counts}, fuzz_good_{position}, fuzz_bad_{position}}}")
    struct = "struct fuzz_field { size_t offset, bytes, good_count, bad_count; const int64_t *good, *bad; };"
    table = ",\n".join(rows)
    return "\n".join([*lines, struct, f"static const struct fuzz_field fuzz_fields[] = {{\n{table}\n}};\n"])


def _signed(number: int) -> str:
    value = (number + 2**63) % 2**64 - 2**63
    return f"({value + 1} - 1)" if value == -(2**63) else str(value)


def _size(one: Field) -> int:
    return 8 if one.role is FieldRole.TENSOR else ctypes.sizeof(_C_TYPES[one.c_type])
