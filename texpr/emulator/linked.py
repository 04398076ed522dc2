"""Which functions a program, or a shared library, takes from libcuda: from the dynamic symbols of its ELF file."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_DYNAMIC_SYMBOLS: Final = 11  # SHT_DYNSYM
_DRIVER_FUNCTION: Final = re.compile(r"cu[A-Z]\w+")


def driver_symbols(file: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The driver functions that an ELF file needs, and those that it defines. Both are empty for other files."""
    needed: set[str] = set()
    defined: set[str] = set()
    try:
        data = file.read_bytes()
        header = _HEADER.unpack_from(data)
        if header[0][:6] != b"\x7fELF\x02\x01":
            return frozenset(), frozenset()
        sections = [_SECTION.unpack_from(data, header[6] + header[11] * number) for number in range(header[12])]
        for section in sections:
            if section[1] != _DYNAMIC_SYMBOLS:
                continue
            strings = sections[section[6]][4]
            for name, _, _, index, _, _ in _SYMBOL.iter_unpack(data[section[4] : section[4] + section[5]]):
                end = data.index(b"\0", strings + name)
                text = data[strings + name : end].decode("ascii", "replace")
                if _DRIVER_FUNCTION.fullmatch(text):
                    (defined if index else needed).add(text)
    except (OSError, struct.error, IndexError, ValueError):
        return frozenset(), frozenset()
    return frozenset(needed), frozenset(defined)


def missing_functions(program: Path, library: Path) -> tuple[str, ...]:
    """Driver functions that a program is linked against and that ``library`` does not have."""
    return tuple(sorted(driver_symbols(program)[0] - driver_symbols(library)[1]))
