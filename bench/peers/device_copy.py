"""The driver's own copy, of as many bytes as the case moves: half of them read and half of them written."""

from __future__ import annotations

from pathlib import Path

from bench.measure.contest import Ready
from bench.peers import Call


def version(peer: str, extras: Path) -> str:
    return "the driver's"


def prepare(text: str, call: Call) -> Ready:
    """``text`` is ``bytes``, or the name of an output: then a copy that writes as much as that output has."""
    device = call.bench.device
    sizes = {o.layout.name: _bytes(o.layout.shape, o.layout.dtype.bytes) for o in call.sets.case.outputs}
    if text not in ("bytes", *sizes):
        raise ValueError(f"a copy of {text!r}: one of bytes, {', '.join(sizes)}")
    size = max(call.sets.case.bytes // 2 if text == "bytes" else sizes[text], 1)
    pairs = [(device.allocate(size), device.allocate(size)) for _ in range(len(call.sets))]
    for source, target in pairs:
        device.fill(source, 0x3C, size)
        device.fill(target, 0xC3, size)

    def close() -> None:
        for source, target in pairs:
            device.free(source)
            device.free(target)

    return Ready(run=lambda number: call.bench.copy(pairs[number][1], pairs[number][0], size), close=close)


def _bytes(shape: tuple[int, ...], size: int) -> int:
    for extent in shape:
        size *= extent
    return size
