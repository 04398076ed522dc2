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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from texpr.emulator.cuda import CudaError, Result
from texpr.emulator.faults import PtxError
from texpr.emulator.kernel import PtxModule
from texpr.emulator.module import load_ptx
from texpr.emulator.ptx import SourceLine

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
    """One cubin of a bundle and the PTX it was assembled from. Sizes are in bytes, ``target`` is e.g. ``sm_80``.

    ``tensors`` lists the kernel parameters that are tensor arguments: position and the argument's name.
    """

    kernel: str
    target: str
    tensors: tuple[tuple[int, str], ...]
    ptx_path: Path
    lines_path: Path
    registers: int
    local_bytes: int
    shared_bytes: int
    max_threads: int

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
        return capability // 10 == self.capability // 10 and capability >= self.capability

    def load(self) -> PtxModule:
        """The parsed PTX, with the map from PTX lines to lines of the bundle's ``kernel.py``.

        Raises CudaError(INVALID_PTX) when the emulator does not know an instruction, BundleError when a file is
        missing.
        """
        return _load(self.ptx_path, self.lines_path, self.kernel, _modified(self.lines_path))


class ImageIndex:
    """The cubins of some bundles, by sha256."""

    def __init__(self, bundles: Iterable[Path]) -> None:
        self.bundles = tuple(bundles)
        self._images: dict[str, KernelImage] = {}
        for bundle in self.bundles:
            self._images.update(_read_bundle(bundle))

    def find(self, cubin: bytes) -> KernelImage:
        """The image with these bytes. Raises CudaError(INVALID_IMAGE) if no registered bundle has it."""
        digest = hashlib.sha256(cubin).hexdigest()
        image = self._images.get(digest)
        if image is None:
            known = ", ".join(str(bundle) for bundle in self.bundles) or "none"
            raise CudaError(
                Result.INVALID_IMAGE,
                f"no registered bundle contains the cubin {digest[:16]}... of {len(cubin)} bytes (bundles: {known}); "
                "was the program built from another build of the bundle?",
            )
        return image

    def capabilities(self) -> tuple[int, ...]:
        """The capabilities the cubins were built for, ascending."""
        return tuple(sorted({image.capability for image in self._images.values()}))


def choose_capability(bundles: Sequence[Path]) -> int:
    """The capability to simulate when none is asked for: 8.0 if the bundles have code for it, else the lowest they
    have.

    Raises BundleError if a directory is not a bundle.
    """
    capabilities = ImageIndex(bundles).capabilities()
    return _DEFAULT_CAPABILITY if _DEFAULT_CAPABILITY in capabilities or not capabilities else capabilities[0]


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
            for image in kernel["images"]:
                images[image["sha256"]] = _image_of(directory, kernel, image)
    except (KeyError, TypeError) as error:
        raise BundleError(f"{directory / 'manifest.json'} lacks a field the emulator needs: {error}") from None
    return images


def _image_of(directory: Path, kernel: dict[str, Any], record: dict[str, Any]) -> KernelImage:
    parameters = enumerate(kernel["parameters"])
    return KernelImage(
        kernel=kernel["name"],
        target=record["target"],
        tensors=tuple((index, param["value"]) for index, param in parameters if param["kind"] == "tensor"),
        ptx_path=directory / record["ptx"],
        lines_path=directory / record["lines"],
        registers=record["registers"],
        local_bytes=record["stack_bytes"],
        shared_bytes=record["shared_bytes"],
        max_threads=record["threads"],
    )


@lru_cache(maxsize=64)
def _load(ptx_path: Path, lines_path: Path, kernel: str, modified: int) -> PtxModule:
    """``modified`` is part of the key: rebuilding a bundle may move lines of ``kernel.py`` under the same PTX."""
    del modified
    try:
        text = ptx_path.read_text(encoding="utf-8")
        record = json.loads(lines_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"the bundle is incomplete: {error.filename} is missing") from None
    bundle = ptx_path.parent.parent
    source = _shown(bundle / record["gluon"])
    line_map = {ptx: SourceLine(source, gluon) for ptx, gluon in record["lines"]}
    try:
        module = load_ptx(text, name=_shown(ptx_path), line_map=line_map)
    except PtxError as error:
        raise CudaError(Result.INVALID_PTX, str(error)) from error
    if kernel not in module.kernels:
        raise BundleError(f"{ptx_path} does not contain the kernel {kernel} that the manifest names")
    return module


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        raise BundleError(f"the bundle is incomplete: {path} is missing") from None


def _shown(path: Path) -> str:
    """``path`` as a person in the current directory would write it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
