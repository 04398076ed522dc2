"""What the device can do at best, measured in the same run: bytes per second of a copy, operations per second of a
matrix product."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.measure.devices import Bench
from bench.measure.rounds import Piece, Rules, take_samples
from bench.measure.statistics import summary
from bench.peers import Absent
from bench.peers.torch_eager import torch_or_absent

_COPIED: Final = 1 << 30
_COPIED_EMULATED: Final = 1 << 16
_SIDE: Final = 8192
_UNITS: Final = {"bf16": "bfloat16", "f16": "float16"}


def measure_limits(bench: Bench, rules: Rules) -> dict[str, Any]:
    """``copy`` in bytes read and written per second; ``matmul`` by element type in operations per second, or why there
    is none; each with its samples in microseconds."""
    size = _COPIED if bench.measurement else _COPIED_EMULATED
    source, target = bench.device.allocate(size), bench.device.allocate(size)
    try:
        bench.device.fill(source, 0x3C, size)
        bench.device.fill(target, 0xC3, size)
        piece = Piece("copy", lambda: bench.copy(target, source, size), 1, graph=False)
        samples = take_samples(bench, [piece], rules)["copy"]
    finally:
        bench.device.free(source)
        bench.device.free(target)
    rate = 2 * size / (summary(samples).median * 1e-6)
    return {
        "copy": {"per_second": rate, "bytes": 2 * size, "samples": list(samples)},
        "matmul": _products(bench, rules),
    }


def _products(bench: Bench, rules: Rules) -> dict[str, Any]:
    try:
        if not bench.measurement:
            raise Absent("the emulator has no rates")
        torch = torch_or_absent()
    except Absent as error:
        return {unit: {"absent": str(error)} for unit in _UNITS}
    found: dict[str, Any] = {}
    stream = torch.cuda.ExternalStream(bench.stream)
    for unit, kind in _UNITS.items():
        a, b = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=getattr(torch, kind)) for _ in range(2))

        def multiply(a: Any = a, b: Any = b) -> None:
            with torch.cuda.stream(stream):
                torch.mm(a, b)

        samples = take_samples(bench, [Piece(unit, multiply, 1, graph=False)], rules)[unit]
        flops = 2 * _SIDE**3
        found[unit] = {
            "per_second": flops / (summary(samples).median * 1e-6), "flops": flops, "samples": list(samples),
        }  # fmt: skip
    return found


def extras_of(pack: Path) -> Path:
    """Where in a pack lies what was built or put there for peers."""
    return pack / "extras"
