"""CUB's device-wide algorithms through the library that ``python -m bench peers`` compiles with nvcc.

Texts: ``scan(x, y)``, ``scan_exclusive(x, y)``, ``sort(k0, v0, keys, values)``, ``histogram(x, h)``: inputs and
outputs by name. They are given buffers of their own for the outputs, in every set, and temporary storage once.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from texpr.lang.arrays import storage_dtype
from texpr.packing.runner.records import Layout

LIBRARY: Final = "cub/libtexpr_cub.so"
SOURCE: Final = Path(__file__).parent / "cub_source" / "texpr_cub.cu"


def version(peer: str, extras: Path) -> str:
    number = _library(extras).texpr_cub_version()
    return f"{number // 100000}.{number // 100 % 1000}.{number % 100}"


def prepare(text: str, call: Call) -> Ready:
    """Raises ValueError for a text that is none of the above."""
    found = re.fullmatch(r"(\w+)\(([\w, ]+)\)", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no call of CUB")
    layouts = {each.layout.name: each.layout for each in (*call.sets.case.inputs, *call.sets.case.outputs)}
    names = [name.strip() for name in found[2].split(",")]
    if unknown := [name for name in names if name not in layouts]:
        raise ValueError(f"{text!r}: {', '.join(unknown)} is no tensor of the case")
    function = _function(call, found[1], layouts[names[0]])
    return _ready(call, function, [layouts[name] for name in names])


def _ready(call: Call, function: Callable[..., int], layouts: list[Layout]) -> Ready:
    device, sets = call.bench.device, call.sets
    outputs = [each.layout.name for each in sets.case.outputs]
    written = [layout for layout in layouts if layout.name in outputs]
    own = [{layout.name: device.allocate(_bytes(layout)) for layout in written} for _ in range(len(sets))]
    count = ctypes.c_int64(math.prod(layouts[0].shape))
    size = ctypes.c_size_t()
    places = [{**sets.addresses(number), **own[number]} for number in range(len(sets))]
    pointers = [[ctypes.c_void_p(at[layout.name]) for layout in layouts] for at in places]
    stream = ctypes.c_void_p(call.bench.stream)
    _checked(function(None, ctypes.byref(size), *pointers[0], count, stream))
    temporary = device.allocate(max(size.value, 1))

    def run(number: int) -> None:
        _checked(function(ctypes.c_void_p(temporary), ctypes.byref(size), *pointers[number], count, stream))

    def results() -> list[Any]:
        found = {layout.name: device.read(own[0][layout.name], _bytes(layout)) for layout in written}
        return [
            np.frombuffer(found[o.layout.name], storage_dtype(o.layout.dtype)).reshape(o.layout.shape)
            for o in sets.case.outputs
        ]

    def close() -> None:
        device.free(temporary)
        for buffers in own:
            for address in buffers.values():
                device.free(address)

    return Ready(run, results, facts={"temporary": size.value}, close=close)


def _function(call: Call, name: str, first: Layout) -> Callable[..., int]:
    library = _library(call.extras)
    try:
        function: Callable[..., int] = getattr(library, f"texpr_cub_{name}_{first.dtype}")
    except AttributeError:
        raise ValueError(f"the library has no {name} of {first.dtype}") from None
    return function


def _library(extras: Path) -> Any:
    """Raises Absent."""
    path = extras / LIBRARY
    if not path.is_file():
        raise Absent(f"{LIBRARY} was not built: python -m bench peers, where there is an nvcc")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise Absent(f"{LIBRARY}: {error}") from None


def _bytes(layout: Layout) -> int:
    return max(math.prod(layout.shape) * layout.dtype.bytes, 1)


def _checked(result: int) -> None:
    if result != 0:
        raise RuntimeError(f"CUB returned cudaError_t {result}")
