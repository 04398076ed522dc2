"""Writes a bundle: compiles, applies the gates, adds the C launcher and the manifest, and puts the whole folder in
place at once.

Everything is first written to a temporary folder beside the target, so that a failure leaves what was there untouched.
The bytes depend on the package, the options and the tools' versions, never on paths, time, or the order in which
kernels happened to finish.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from texpr.aot.cubin import FP_FUSION, CompiledKernel, CompileOptions, Progress, compile_kernels, resolve_target, silent
from texpr.aot.errors import NoTargetLeftError, OccupiedFolderError, OutputFolderError
from texpr.aot.gates import Gates, check_gates
from texpr.aot.ir import KernelSource, Package
from texpr.aot.kernel_text import KernelModule, kernel_module, leading_blank_lines
from texpr.aot.library import build_library, find_c_compiler
from texpr.aot.manifest import (
    MANIFEST_FILE,
    Library,
    Tools,
    build_manifest,
    canonical_json,
    cubin_path,
    is_bundle,
    lines_path,
    ptx_path,
)
from texpr.aot.toolchain import find_toolchain
from texpr.version import VERSION

LINES_VERSION = 1
KERNEL_FILE = "kernel.py"
SCHEDULE_FILE = "schedule.yaml"
ABI_HEADER = "texpr_abi.h"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """``targets`` narrows the package's own (None: all). ``library`` False leaves out the library for this host."""

    targets: tuple[str, ...] | None = None
    gates: Gates = field(default_factory=Gates)
    compile: CompileOptions = field(default_factory=CompileOptions)
    library: bool = True


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What was written: the bundle's folder, its kernels, its libraries, and what is missing from it, in words."""

    folder: Path
    kernels: tuple[CompiledKernel, ...]
    libraries: tuple[Library, ...]
    warnings: tuple[str, ...]


def write_bundle(
    package: Package,
    out: Path,
    options: BuildOptions | None = None,
    report: Callable[[Progress], None] = silent,
) -> BundleReport:
    """Write ``package`` as a bundle to ``out``, replacing a bundle that is there. Raises OccupiedFolderError when
    something else is there, OutputFolderError, NoTargetLeftError, CCompilerError, the errors of :func:`compile_kernels`
    and those of the gates.
    """
    options = options or BuildOptions()
    out = Path(os.path.abspath(out))
    _check_replaceable(out)
    package = narrow(package, options.targets)
    compiled = compile_kernels(package.kernels, options=options.compile, report=report)
    sources = {kernel.name: kernel for kernel in package.kernels}
    for kernel in compiled:
        check_gates(sources[kernel.kernel], kernel, options.gates)
    files = bundle_files(package, compiled)
    with _TemporaryFolder(out) as folder:
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        libraries, warnings = _libraries(folder, package.name, options.library)
        files |= {library.path: (folder / library.path).read_bytes() for library in libraries}
        manifest = build_manifest(package, compiled, _tools(compiled, options.compile), libraries, files)
        (folder / MANIFEST_FILE).write_text(canonical_json(manifest))
        _put_in_place(folder, out)
    return BundleReport(out, compiled, libraries, (*warnings, *_slow_products(compiled)))


def _slow_products(compiled: Sequence[CompiledKernel]) -> tuple[str, ...]:
    """Warnings about kernels whose matrix instructions wait for each other."""
    return tuple(
        f"kernel '{kernel.kernel}' for {kernel.target}: wgmma instructions run one after the other, due to "
        f"{kernel.serialised}; use more warps or smaller tiles"
        for kernel in compiled
        if kernel.serialised
    )


def bundle_files(package: Package, compiled: Sequence[CompiledKernel]) -> dict[str, bytes]:
    """Every file of a bundle by relative path, except the manifest and what a C compiler makes. ``compiled`` are
    kernels of ``package`` for some targets; their line maps refer to all kernels of ``package``.
    """
    from texpr.aot.cmake import cmakelists
    from texpr.aot.header import header_h
    from texpr.aot.launcher import launcher_c

    name = package.name
    module = kernel_module(package.kernels)
    texts = {
        ABI_HEADER: Path(__file__).with_name(ABI_HEADER).read_text(),
        f"{name}.h": header_h(package),
        f"{name}.c": launcher_c(package, compiled),
        "CMakeLists.txt": cmakelists(package),
        KERNEL_FILE: module.text,
        SCHEDULE_FILE: package.schedule,
    }
    files = {path: text.encode() for path, text in texts.items()}
    if package.example is not None:
        from texpr.aot.demo import demo_c, demo_files

        files["demo.c"] = demo_c(package).encode()
        files |= {f"demo/{path}": data for path, data in demo_files(package.example).items()}
    sources = {kernel.name: kernel for kernel in package.kernels}
    for kernel in compiled:
        files[cubin_path(kernel.kernel, kernel.target)] = kernel.cubin
        files[ptx_path(kernel.sha256)] = kernel.ptx.encode()
        lines = line_map(sources[kernel.kernel], kernel, module, package.schedule_lines)
        files[lines_path(kernel.sha256)] = lines.encode()
    return files


def line_map(
    source: KernelSource, kernel: CompiledKernel, module: KernelModule, schedule_lines: Mapping[str, str]
) -> str:
    """``<sha256>.lines.json``: PTX lines to lines of ``kernel.py``, and those to funcs and schedule lines with their
    texts.
    """
    first = module.first_line(source.name) - leading_blank_lines(source.text)
    nodes = {}
    for line, origin in source.origins:
        node = {"node": origin.node, "schedule": origin.schedule}
        if origin.schedule in schedule_lines:
            node["text"] = schedule_lines[origin.schedule]
        nodes[str(first + line)] = node
    value = {
        "version": LINES_VERSION,
        "kernel": kernel.kernel,
        "target": kernel.target,
        "gluon": KERNEL_FILE,
        "lines": kernel.lines,
        "nodes": nodes,
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n"


def narrow(package: Package, targets: Sequence[str] | None) -> Package:
    """``package`` for some of its targets only: variants and kernels that are left without one disappear.

    Raises UnknownTargetError, and NoTargetLeftError when an entry would be left without a variant.
    """
    if targets is None:
        return package
    asked = {resolve_target(name).name for name in targets}
    have = ", ".join(dict.fromkeys(target for kernel in package.kernels for target in kernel.targets))

    def kept(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in asked)

    entries = []
    for entry in package.entries:
        variants = tuple(replace(each, targets=kept(each.targets)) for each in entry.variants if kept(each.targets))
        if not variants:
            raise NoTargetLeftError(asked=", ".join(sorted(asked)), have=have)
        entries.append(replace(entry, variants=variants))
    launched = {launch.kernel for entry in entries for variant in entry.variants for launch in variant.launches}
    kernels = tuple(replace(each, targets=kept(each.targets)) for each in package.kernels if each.name in launched)
    return replace(package, entries=tuple(entries), kernels=kernels)


def _tools(compiled: Sequence[CompiledKernel], options: CompileOptions) -> Tools:
    toolchain = find_toolchain(options.ptxas)
    names = dict.fromkeys(kernel.target for kernel in compiled)
    releases = tuple((name, toolchain.assembler(resolve_target(name)).version) for name in names)
    return Tools(VERSION, toolchain.triton, releases, FP_FUSION)


def _libraries(folder: Path, name: str, wanted: bool) -> tuple[tuple[Library, ...], tuple[str, ...]]:
    """The libraries built, and warnings about those that were not."""
    if not wanted:
        return (), ()
    compiler = find_c_compiler()
    if compiler is None:
        return (), (
            "no C compiler found: the bundle has no library for Python; set CC, or compile its .c where it is used",
        )
    return (build_library(folder, name, compiler),), ()


# ---- putting a folder in place


def _check_replaceable(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise OccupiedFolderError(path=out, problem="exists and is no folder")
    if any(out.iterdir()) and not is_bundle(out):
        raise OccupiedFolderError(path=out, problem="exists, is not empty and is no bundle; it will not be replaced")


class _TemporaryFolder:
    """A folder beside ``out`` that is gone afterwards unless it was renamed."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._folder: Path | None = None

    def __enter__(self) -> Path:
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=self._out.parent, prefix=f".{self._out.name}-"))
        except OSError as error:
            raise OutputFolderError(path=self._out, problem=error.strerror or error) from error
        self._folder.chmod(0o755)
        return self._folder

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename ``folder`` to ``out``; a bundle there is exchanged with it in one step and ends up in ``folder``."""
    _check_replaceable(out)
    try:
        if out.exists() and any(out.iterdir()):
            _exchange(folder, out)
        else:
            folder.rename(out)
    except OSError as error:
        raise OutputFolderError(path=out, problem=error.strerror or error) from error


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchange(first: Path, second: Path) -> None:
    """Swap two folders with ``renameat2``; where the C library or the file system lacks it, with three renames."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        renameat2 = None
    names = (os.fsencode(first), os.fsencode(second))
    if renameat2 is not None and renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    aside = Path(tempfile.mkdtemp(dir=second.parent, prefix=f".{second.name}-")) / second.name
    second.rename(aside)
    first.rename(second)
    aside.rename(first)
    aside.parent.rmdir()
