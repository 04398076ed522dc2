"""Reads what a cubin says about itself: architecture, registers, stack, parameters, block size.

A cubin is an ELF file whose ``.nv.info`` sections are lists of attributes (format, id, value). The ids are those that
``cuobjdump -elf`` prints as EIATTR_*; only what is named below is read. Spills are not recorded in a cubin, they come
from ptxas's own log.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CUDA_MACHINE = 190
_REQNTID = 0x10
_CTA_PER_CLUSTER = 0x3D
_MIN_STACK_SIZE = 0x12
_KPARAM_INFO = 0x17
_REGCOUNT = 0x2F
_KPARAM_INFO_V2 = 0x45
_SIZED_VALUE = 4  # layout of an attribute whose value follows its header
_NO_BITS = 8  # type of a section without bytes in the file


class CubinFormatError(ValueError):
    """The bytes are no cubin that this module can read."""


@dataclass(frozen=True, slots=True)
class CubinFacts:
    """One kernel's facts. ``capability`` is major*10 + minor; ``parameters`` are sizes in bytes, in order; ``threads``
    is what ``.reqntid`` asks for (0: not given), ``cluster`` the blocks of a cluster that ``.reqnctapercluster`` asks
    for (1: not given); ``stack_bytes`` per thread, including called functions.
    """

    capability: int
    kernel: str
    registers: int
    stack_bytes: int
    parameters: tuple[int, ...]
    threads: int
    cluster: int = 1


@dataclass(frozen=True, slots=True)
class Spills:
    """Bytes of spill stores and loads, summed over the functions of one ptxas run."""

    store_bytes: int
    load_bytes: int


def cubin_facts(cubin: bytes) -> tuple[CubinFacts, ...]:
    """The facts of every kernel in ``cubin``, by name. Raises CubinFormatError."""
    try:
        return _read(cubin)
    except (struct.error, IndexError, ValueError) as error:
        raise CubinFormatError(f"not a readable cubin: {error}") from error


def serialised_of(ptxas_log: str) -> str:
    """Why ptxas lets matrix instructions of a warpgroup run one after the other, in its own words; empty if it does
    not. Their results are the same, much later."""
    pattern = r"wgmma\.mma_async instructions are serialized due to (.*?)(?: in the function .*)?$"
    found = re.search(pattern, ptxas_log, re.MULTILINE)
    return "" if found is None else found.group(1)


def spills_of(ptxas_log: str) -> Spills:
    """What ``ptxas -v`` printed about spills. Raises ValueError when it printed nothing."""
    found = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", ptxas_log)
    if not found:
        raise ValueError("the assembler's log does not mention spills")
    return Spills(sum(int(stores) for stores, _ in found), sum(int(loads) for _, loads in found))


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    data: bytes
    info: int


def _read(cubin: bytes) -> tuple[CubinFacts, ...]:
    if cubin[:5] != b"\x7fELF\x02" or struct.unpack_from("<H", cubin, 18)[0] != _CUDA_MACHINE:
        raise CubinFormatError("not a 64-bit CUDA ELF file")
    sections = _sections(cubin)
    symbols = _symbol_names(sections)
    registers: dict[str, int] = {}
    stacks: dict[str, int] = {}
    for section in sections:
        if section.name == ".nv.info":
            for attribute, value in _attributes(section.data):
                if attribute in (_REGCOUNT, _MIN_STACK_SIZE):
                    symbol, number = struct.unpack("<II", value)
                    (registers if attribute == _REGCOUNT else stacks)[symbols[symbol]] = number
    kernels = {
        section.name.removeprefix(".nv.info."): list(_attributes(section.data))
        for section in sections
        if section.name.startswith(".nv.info.")
    }
    capability = _capability(cubin)
    return tuple(
        CubinFacts(
            capability,
            name,
            registers[name],
            stacks.get(name, 0),
            _parameters(attributes),
            _extent(attributes, _REQNTID, 0),
            _extent(attributes, _CTA_PER_CLUSTER, 1),
        )
        for name, attributes in sorted(kernels.items())
        if name in registers
    )


def _capability(cubin: bytes) -> int:
    """The architecture in ``e_flags``: its low byte up to ELF ABI version 7, its second byte from 8 on."""
    flags: int = struct.unpack_from("<I", cubin, 48)[0]
    return flags & 0xFF if cubin[8] < 8 else (flags >> 8) & 0xFF


def _sections(cubin: bytes) -> list[_Section]:
    table: int = struct.unpack_from("<Q", cubin, 40)[0]
    entry_size, count, names_index = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", cubin, table + index * entry_size) for index in range(count)]
    names_offset = headers[names_index][4]
    return [
        _Section(_text_at(cubin, names_offset + name), b"" if kind == _NO_BITS else _bytes_at(cubin, start, size), info)
        for name, kind, _, _, start, size, _, info, _, _ in headers
    ]


def _bytes_at(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise CubinFormatError("the file ends early")
    return data[start : start + size]


def _symbol_names(sections: list[_Section]) -> list[str]:
    by_name = {section.name: section for section in sections}
    strings = by_name[".strtab"].data
    table = by_name[".symtab"].data
    return [_text_at(strings, struct.unpack_from("<I", table, offset)[0]) for offset in range(0, len(table), 24)]


def _text_at(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """``(id, value)`` of each attribute; those whose value sits in the header yield its two bytes."""
    offset = 0
    while offset < len(data):
        layout, attribute, size = struct.unpack_from("<BBH", data, offset)
        if layout == _SIZED_VALUE:
            yield attribute, data[offset + 4 : offset + 4 + size]
            offset += 4 + size
        else:
            yield attribute, data[offset + 2 : offset + 4]
            offset += 4


def _parameters(attributes: list[tuple[int, bytes]]) -> tuple[int, ...]:
    """Sizes by ordinal. KPARAM_INFO is (index u32, ordinal u16, offset u16, flags u32) with the size in the flags' bits
    18 and up.
    """
    sizes: dict[int, int] = {}
    for attribute, value in attributes:
        if attribute == _KPARAM_INFO:
            _, ordinal, _, flags = struct.unpack("<IHHI", value)
            sizes[ordinal] = flags >> 18
        elif attribute == _KPARAM_INFO_V2:
            raise CubinFormatError("parameters are described in a newer form (KPARAM_INFO_V2)")
    return tuple(size for _, size in sorted(sizes.items()))


def _extent(attributes: list[tuple[int, bytes]], wanted: int, absent: int) -> int:
    """The product of an attribute's three extents, ``absent`` without it."""
    for attribute, value in attributes:
        if attribute == wanted:
            x, y, z = struct.unpack("<III", value)
            return int(x * y * z)
    return absent
