"""Which PTX stands behind a cubin: bundles on disk, found by the sha256 of the cubin bytes a launcher hands to the
driver.

A launcher passes ``cuModuleLoadData`` a bare pointer, so the length of the cubin is computed from its ELF headers. The
PTX beside the cubin is what the emulator runs; the manifest supplies the facts a driver would read from the cubin
(registers, shared memory, threads).
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from texpr.dtypes import DType
from texpr.emulator.cuda import CudaError, Result
from texpr.emulator.faults import Fault, PtxError
from texpr.emulator.kernel import PtxModule
from texpr.emulator.layouts import Layout, TensorParameter
from texpr.emulator.module import load_ptx
from texpr.emulator.origins import Origins, file_origin

_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PROGRAM_HEADER_BYTES = 56
_NO_BITS = 8
_LARGEST_IMAGE = 1 << 30
_DEFAULT_CAPABILITY = 80


class BundleError(Exception):
    """A directory that is not a bundle the emulator can run; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class KernelImage:
    """One kernel that a program can load, and the PTX behind it: a cubin of a bundle, or an entry of a PTX text.

    Sizes are in bytes, ``target`` is e.g. ``sm_80``. ``tensors`` are the parameters that point to tensor arguments,
    ``integers`` map positions of integer parameters to what they hold. ``bundle`` is None for PTX that the program
    brought itself.
    """

    kernel: str
    target: str
    tensors: tuple[TensorParameter, ...]
    integers: Mapping[int, str]
    source: Callable[[], tuple[PtxModule, Origins | None]] = field(repr=False)
    registers: int
    local_bytes: int
    shared_bytes: int
    static_shared: int
    max_threads: int
    bundle: Path | None

    @property
    def capability(self) -> int:
        """major * 10 + minor of the architecture the cubin is for."""
        return int("".join(c for c in self.target.removeprefix("sm_") if c.isdigit()))

    def runs_on(self, capability: int) -> bool:
        """Binary compatibility: ``a`` targets and Tegra parts (8.7, 11.0) run on that capability only, others on later
        minors too.

        Source: CUDA C++ Programming Guide, "Binary Compatibility".
        """
        if self.target.endswith("a") or 87 in (self.capability, capability) or 110 in (self.capability, capability):
            return capability == self.capability
        if self.bundle is None:
            return capability >= self.capability  # a driver compiles PTX for any later GPU
        return capability // 10 == self.capability // 10 and capability >= self.capability

    def load(self) -> PtxModule:
        """The parsed PTX, with the map from PTX lines to lines of the bundle's ``kernel.py``.

        Raises CudaError(INVALID_PTX) when the emulator does not know an instruction, BundleError when a file is
        missing.
        """
        return self.source()[0]

    def trace(self, fault: Fault) -> Fault:
        """The fault with the source line, the func and the schedule line behind it."""
        origins = self.source()[1]
        return fault.traced(file_origin) if origins is None else origins.trace(fault)

    def layouts(self, params: Sequence[bytes]) -> dict[int, Layout]:
        """The tensors that the parameters of a launch point to, by position, as far as their shapes can be told."""
        names = {
            text: int.from_bytes(params[position], "little", signed=True)
            for position, text in self.integers.items()
            if position < len(params)
        }
        found = {tensor.position: tensor.layout(names) for tensor in self.tensors}
        return {position: layout for position, layout in found.items() if layout is not None}


MoreBundles = Callable[[], tuple[Sequence[Path], Sequence[str]]]
"""Finds bundles that were not given: their directories, and a description of each place that was searched."""


class ImageIndex:
    """The cubins of some bundles, by sha256.

    ``more`` is asked when a cubin is in none of them.
    """

    def __init__(self, bundles: Iterable[Path], more: MoreBundles | None = None) -> None:
        self._bundles: list[Path] = []
        self._images: dict[str, list[KernelImage]] = {}
        self._more = more
        for bundle in bundles:
            self._add(bundle)

    @property
    def bundles(self) -> tuple[Path, ...]:
        return tuple(self._bundles)

    def _add(self, bundle: Path) -> None:
        if bundle not in self._bundles:
            self._bundles.append(bundle)
            for digest, image in _read_bundle(bundle).items():
                self._images.setdefault(digest, []).append(image)

    def find(self, cubin: bytes) -> KernelImage:
        """The image with these bytes. Raises CudaError(INVALID_IMAGE) if no registered bundle has it."""
        digest = hashlib.sha256(cubin).hexdigest()
        looked: Sequence[str] = ()
        if digest not in self._images and self._more is not None:
            found, looked = self._more()
            for bundle in found:
                self._add(bundle)
        if digest not in self._images:
            raise CudaError(Result.INVALID_IMAGE, self._unknown(cubin, digest, looked))
        return self._images[digest][0]

    def owners(self, image: KernelImage) -> tuple[Path, ...]:
        """All bundles that have the cubin of an image."""
        same = next((images for images in self._images.values() if image in images), [image])
        return tuple(dict.fromkeys(other.bundle for other in same if other.bundle is not None))

    def _unknown(self, cubin: bytes, digest: str, looked: Sequence[str]) -> str:
        names = kernels_in(cubin)
        what = f"the cubin of {', '.join(names)}" if names else "the cubin"
        lines = [f"no registered bundle contains the cubin {digest[:16]}... of {len(cubin)} bytes"]
        lines[0] = lines[0].replace("the cubin", what, 1)
        lines += [f"  bundle: {shown(bundle)}" for bundle in self._bundles] or ["  no bundle was found"]
        others = [image for images in self._images.values() for image in images if image.kernel in names]
        if others:
            bundles = ", ".join(sorted({shown(image.bundle) for image in others if image.bundle is not None}))
            lines.append(f"  {bundles} has {names[0]} from another build: rebuild the program, or the bundle")
        lines += [f"  looked in: {place}" for place in looked]
        lines.append("  try: name the folder that texpr aot wrote with --bundle DIR")
        return "\n".join(lines)


def choose_capability(bundles: Sequence[Path]) -> int:
    """The capability to simulate when none is asked for: the one that most of the bundles have code for, preferring
    8.0, then lower ones.

    Raises BundleError if a directory is not a bundle.
    """
    images = [list(_read_bundle(bundle).values()) for bundle in bundles]
    offered = {image.capability for some in images for image in some}
    if not offered:
        return _DEFAULT_CAPABILITY

    def served(capability: int) -> int:
        return sum(any(image.runs_on(capability) for image in some) for some in images)

    return max(offered, key=lambda capability: (served(capability), capability == _DEFAULT_CAPABILITY, -capability))


def ptx_images(text: str, name: str) -> dict[str, KernelImage]:
    """The kernels of a PTX text that a program loads by itself, by name.

    What the assembler would decide is made up: 32 registers a thread, nothing in local memory. Raises
    CudaError(INVALID_PTX).
    """
    try:
        module = load_ptx(text, name)
    except PtxError as error:
        raise CudaError(Result.INVALID_PTX, str(error)) from error
    images: dict[str, KernelImage] = {}
    for kernel in module.kernels.values():
        variables = [*module.variables, *kernel.variables]
        static = sum(variable.size for variable in variables if variable.space == "shared")
        threads = prod(kernel.reqntid) if kernel.reqntid is not None else 1024
        images[kernel.name] = KernelImage(
            kernel.name, module.target, (), {}, lambda: (module, None), 32, 0, 0, static, threads, None
        )
    return images


def kernels_in(cubin: bytes) -> tuple[str, ...]:
    """Names of the kernels in a cubin: those of its sections of code. Empty if it cannot be read."""
    try:
        header = _ELF_HEADER.unpack_from(cubin)
        offset, size, count, names = header[6], header[11], header[12], header[13]
        table = [_SECTION.unpack_from(cubin, offset + size * number) for number in range(count)]
        start, length = table[names][4], table[names][5]
        strings = cubin[start : start + length]
        found = [strings[entry[0] : strings.index(b"\0", entry[0])].decode("ascii") for entry in table]
    except (struct.error, IndexError, ValueError):
        return ()
    return tuple(sorted(name.removeprefix(".text.") for name in found if name.startswith(".text.")))


def elf_size(address: int) -> int:
    """Length in bytes of the 64-bit little-endian ELF image at ``address``, from its headers.

    Raises CudaError(INVALID_IMAGE) if there is no such image. Only headers that the image declares are read.
    """
    header = _ELF_HEADER.unpack(ctypes.string_at(address, _ELF_HEADER.size))
    ident, program_offset, section_offset = header[0], header[5], header[6]
    program_size, program_count, section_size, section_count = header[9], header[10], header[11], header[12]
    if ident[:6] != b"\x7fELF\x02\x01" or section_size != _SECTION.size or section_offset > _LARGEST_IMAGE:
        raise CudaError(Result.INVALID_IMAGE, "the image is not a 64-bit little-endian ELF file")
    end = max(section_offset + section_size * section_count, _ELF_HEADER.size)
    if program_count:
        if program_size != _PROGRAM_HEADER_BYTES or program_offset > _LARGEST_IMAGE:
            raise CudaError(Result.INVALID_IMAGE, "the image has a malformed program header table")
        end = max(end, program_offset + program_size * program_count)
    table = ctypes.string_at(address + section_offset, section_size * section_count)
    for _, kind, _, _, offset, size, *_ in _SECTION.iter_unpack(table):
        if kind != _NO_BITS:
            end = max(end, offset + size)
    if end > _LARGEST_IMAGE:
        raise CudaError(Result.INVALID_IMAGE, "a section of the image lies beyond 1 GiB")
    return int(end)


def _read_bundle(directory: Path) -> dict[str, KernelImage]:
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{directory} is not a bundle: it has no manifest.json") from None
    except json.JSONDecodeError as error:
        raise BundleError(f"{directory / 'manifest.json'} is not valid JSON: {error}") from None
    images: dict[str, KernelImage] = {}
    try:
        for kernel in manifest["kernels"]:
            arguments = _arguments_of(manifest, kernel["name"])
            for image in kernel["images"]:
                images[image["sha256"]] = _image_of(directory, kernel, image, arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{directory / 'manifest.json'} lacks a field the emulator needs: {error}") from None
    return images


def _arguments_of(manifest: dict[str, Any], kernel: str) -> dict[str, dict[str, Any]]:
    """The tensor arguments of the function that launches a kernel, by name."""
    for function in manifest.get("functions", ()):
        if any(launch["kernel"] == kernel for variant in function["variants"] for launch in variant["launches"]):
            return {a["name"]: a for a in function["arguments"] if a["kind"] == "tensor"}
    return {}


def _image_of(
    directory: Path, kernel: dict[str, Any], record: dict[str, Any], arguments: Mapping[str, dict[str, Any]]
) -> KernelImage:
    parameters = list(enumerate(kernel["parameters"]))
    ptx_path, lines_path = directory / record["ptx"], directory / record["lines"]
    return KernelImage(
        kernel=kernel["name"],
        target=record["target"],
        tensors=tuple(
            _tensor(index, param["value"], arguments.get(param["value"]))
            for index, param in parameters
            if param["kind"] == "tensor"
        ),
        integers={index: param["value"] for index, param in parameters if param["kind"] == "integer"},
        source=lambda: _load(ptx_path, lines_path, kernel["name"], _modified(lines_path)),
        registers=record["registers"],
        local_bytes=record["stack_bytes"],
        shared_bytes=record["shared_bytes"],
        static_shared=0,  # Triton's shared memory is all dynamic
        max_threads=record["threads"],
        bundle=directory,
    )


def _tensor(position: int, name: str, argument: dict[str, Any] | None) -> TensorParameter:
    if argument is None:
        return TensorParameter(position, name, 0, (), (), {})
    strides = {stride["dim"]: stride["name"] for stride in argument["strides"]}
    shape, groups = tuple(argument["shape"]), tuple(argument["groups"])
    return TensorParameter(position, name, DType(argument["dtype"]).bits, shape, groups, strides)


@lru_cache(maxsize=64)
def _load(ptx_path: Path, lines_path: Path, kernel: str, modified: int) -> tuple[PtxModule, Origins]:
    """``modified`` is part of the key: rebuilding a bundle may move lines of ``kernel.py`` under the same PTX."""
    del modified
    try:
        text = ptx_path.read_text(encoding="utf-8")
        record = json.loads(lines_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"the bundle is incomplete: {error.filename} is missing") from None
    source = ptx_path.parent.parent / record["gluon"]
    origins = Origins(record, source, shown(source))
    try:
        module = load_ptx(text, name=shown(ptx_path), line_map=origins.lines)
    except PtxError as error:
        raise CudaError(Result.INVALID_PTX, str(error)) from error
    if kernel not in module.kernels:
        raise BundleError(f"{ptx_path} does not contain the kernel {kernel} that the manifest names")
    return module, origins


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        raise BundleError(f"the bundle is incomplete: {path} is missing") from None


def shown(path: Path) -> str:
    """``path`` as a person in the current directory would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
