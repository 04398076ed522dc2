"""Speed of the emulator with all its checks, on launches of several kinds.

    python bench/emulator.py [--repeats 5] [--only NAME]

Prints one JSON object; times are seconds of whole launches, after one that warms up: wall-clock time and processor time
(children included, so that other work on the machine disturbs it less). Each launch runs in one process and in as many
as there are processors, without the checks of races and initialisation, and with other numbers of programs side by
side than the emulator would choose. The tiles are hand-written Gluon; `gemm_1024` and `gather` are kernels of the
repository.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from tests.emulator.compiled import compile_kernel, compiled_softmax, run_compiled
from tests.emulator.compiled_hopper import compile_hopper, run_hopper
from texpr import runtime
from texpr.cli import main as texpr
from texpr.emulator import Device, LaunchStats, load_ptx
from texpr.emulator.batch import Batch, Shape
from texpr.emulator.machine import Machine
from texpr.emulator.memory import GlobalMemory
from texpr.emulator.workers import default_workers

ROOT = Path(__file__).parent.parent
Report = dict[str, Any]
rng = np.random.default_rng(0)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a launch is run. `batch`: programs side by side (None: as the emulator chooses)."""

    workers: int = 1
    checks: bool = True
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """`prepare(folder)` gives a function that makes one launch; the goal is for checks on, in as many processes as
    possible.
    """

    name: str
    what: str
    programs: int
    prepare: Callable[[Path], Callable[[], object]]
    goal_s: float | None = None
    batches: tuple[int, ...] = ()


@contextmanager
def timed_launches(setting: Setting) -> Iterator[list[tuple[float, float]]]:
    """Run every launch of any device as `setting` says; gives wall-clock and processor seconds of each."""
    samples: list[tuple[float, float]] = []
    launch = Device.launch

    def timed(device: Device, *given: Any, **named: Any) -> LaunchStats:
        device.workers, device.checks, device.batch = setting.workers, setting.checks, setting.batch
        used, start = _processor_seconds(), time.perf_counter()
        stats = launch(device, *given, **named)
        samples.append((time.perf_counter() - start, _processor_seconds() - used))
        return stats

    Device.launch = timed  # type: ignore[method-assign]
    try:
        yield samples
    finally:
        Device.launch = launch  # type: ignore[method-assign]


def _processor_seconds() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(once: Callable[[], object], setting: Setting, repeats: int) -> Report:
    with timed_launches(setting) as samples:
        for _ in range(1 + repeats):
            once()
    wall, processor = zip(*samples[1:], strict=True)
    return {
        "best_s": round(min(wall), 4),
        "best_processor_s": round(min(processor), 4),
        "samples_s": [round(each, 4) for each in wall],
        "processor_s": [round(each, 4) for each in processor],
    }


# Launches -----------------------------------------------------------------------------------------------------------


def bundle(source: str, target: str, folder: Path) -> runtime.Bundle:
    place = folder / f"{source.rpartition(':')[2]}_{target}"
    kernel = str(ROOT / "kernels" / source)
    if texpr(["aot", kernel, "-o", str(place), "--target", target, "--type", "T=f16", "--quiet"]):
        raise RuntimeError(f"cannot build {source}")
    return runtime.load(place, device="emulator", sm=int("".join(c for c in target if c.isdigit())))


def gemm_1024(target: str) -> Callable[[Path], Callable[[], object]]:
    def prepare(folder: Path) -> Callable[[], object]:
        linear = bundle("linear.py:linear_gelu", target, folder)
        x, w = (rng.standard_normal((1024, 1024)).astype(np.float16) for _ in range(2))
        return lambda: linear(x, w, None)

    return prepare


def gather(folder: Path) -> Callable[[], object]:
    rows = bundle("movement.py:gather_rows", "sm_80", folder)
    x, at = rng.standard_normal((4096, 1024)).astype(np.float16), rng.integers(0, 4096, 16384).astype(np.int32)
    return lambda: rows(x, at)


def tiles(programs: int) -> Callable[[Path], Callable[[], object]]:
    """mma.sync: tiles of 128 x 128 x 256 in f16, three stages of cp.async."""

    def prepare(folder: Path) -> Callable[[], object]:
        from triton.experimental.gluon import language as gl

        layout = gl.NVMMADistributedLayout([2, 0], [2, 2], [16, 8])
        constants = (("BM", 128), ("BN", 128), ("BK", 32), ("STAGES", 3), ("MMA", layout), ("KWIDTH", 2), ("VECTOR", 8))
        signature = (("a", "*fp16"), ("b", "*fp16"), ("c", "*fp32"), ("M", "i32"), ("N", "i32"), ("K", "i32"))
        compiled = compile_kernel("gemm", 80, signature, constants, ("a", "b", "c", "N", "K"))
        a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((128 * programs, 256), (256, 128)))
        arguments = {"a": a, "b": b, "c": 0, "M": 128 * programs, "N": 128, "K": 256}
        outputs = {"c": ((128 * programs, 128), np.float32)}
        device, module = Device(sm=80), load_ptx(compiled.ptx)
        return lambda: run_compiled(compiled, arguments, (programs,), outputs=outputs, device=device, module=module)

    return prepare


def wgmma_tiles(programs: int) -> Callable[[Path], Callable[[], object]]:
    """wgmma: tiles of 128 x 128 x 256 in f16, tensor copies in and out."""

    def prepare(folder: Path) -> Callable[[], object]:
        signature = (("a", "fp16[128,64]"), ("b", "fp16[64,128]"), ("c", "fp32[128,128]"), ("K", "i32"))
        constants = (("STAGES", 3), ("WARPS", 4), ("KM", False))
        hopper = compile_hopper("wgmma_gemm", signature, constants)
        a, b = (rng.standard_normal(shape).astype(np.float16) for shape in ((128 * programs, 256), (256, 128)))
        arguments = {"a": a, "b": b, "c": np.empty((128 * programs, 128), np.float32), "K": 256}
        return lambda: run_hopper(hopper, arguments, (programs, 1), maps=("a", "b", "c"), outputs=("c",))

    return prepare


def softmax(folder: Path) -> Callable[[], object]:
    x = rng.standard_normal((4096, 1024)).astype(np.float32)
    compiled, device = compiled_softmax(80), Device(sm=80)
    module = load_ptx(compiled.ptx)
    arguments = {"x": x, "y": 0, "columns": 1024, "stride": 1024}
    outputs = {"y": (x.shape, np.float32)}
    return lambda: run_compiled(compiled, arguments, (len(x),), outputs=outputs, device=device, module=module)


def histogram(folder: Path) -> Callable[[], object]:
    signature = (("x", "*i32"), ("counts", "*i32"), ("n", "i32"))
    compiled = compile_kernel("histogram", 80, signature, (("BLOCK", 512), ("BINS", 64)))
    x, device = rng.integers(0, 64, 1 << 20).astype(np.int32), Device(sm=80)
    module = load_ptx(compiled.ptx)
    arguments = {"x": x, "counts": np.zeros(64, np.int32), "n": len(x)}
    outputs = {"counts": ((64,), np.int32)}
    return lambda: run_compiled(compiled, arguments, (2048,), outputs=outputs, device=device, module=module)


CASES = (
    Case("gemm_1024_sm_80", "linear_gelu 1024 x 1024 x 1024, f16 tile128", 64, gemm_1024("sm_80"), 5.0, (1, 4, 16, 64)),
    Case("gemm_1024_sm_90a", "the same for sm_90a", 64, gemm_1024("sm_90a"), 5.0),
    Case("tiles_mma", "16 tiles of 128 x 128 x 256, mma.sync", 16, tiles(16), 16 * 12.6e-3, (1, 4, 16)),
    Case("tiles_wgmma", "16 tiles of 128 x 128 x 256, wgmma and tensor copies", 16, wgmma_tiles(16), None, (1, 4, 16)),
    Case("softmax", "4096 rows of 1024 f32", 4096, softmax, 0.49, (4, 16, 64, 256)),
    Case("gather", "16384 rows of 1024 f16 picked by index", 8192, gather, None, (4, 16, 64, 256)),
    Case("histogram", "2^20 values, atomics in shared and global memory", 2048, histogram, None, (4, 16, 64, 256)),
)


def report_of(case: Case, repeats: int, folder: Path) -> Report:
    once = case.prepare(folder)
    found: Report = {"what": case.what, "programs": case.programs}
    if case.goal_s is not None:
        found["goal_s"] = round(case.goal_s, 4)
    found["one process"] = measure(once, Setting(), repeats)
    found[f"{default_workers()} processes"] = measure(once, Setting(workers=default_workers()), repeats)
    found["one process, bounds only"] = measure(once, Setting(checks=False), repeats)
    found["one process, by batch"] = {str(size): measure(once, Setting(batch=size), 2) for size in case.batches}
    return found


# Start-up -----------------------------------------------------------------------------------------------------------


def start_up(folder: Path, repeats: int) -> Report:
    """Milliseconds from the text of the largest kernel built above to a machine that can run it."""
    texts = [path.read_text() for path in folder.glob("*/ptx/*.ptx")]
    text = max(texts, key=len)
    load, bind = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        module = load_ptx(text)
        middle = time.perf_counter()
        kernel = next(iter(module.kernels.values()))
        shape = Shape(kernel.reqntid or (128, 1, 1), 16, 65536, True)
        Machine(Batch(module, kernel, shape, GlobalMemory(), {}), 1, None)
        load.append(round(1e3 * (middle - start), 2))
        bind.append(round(1e3 * (time.perf_counter() - middle), 2))
    return {"instructions": len(kernel.operations), "load_ms": load, "bind_ms": bind}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="runs per figure")
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one kind of launch")
    options = parser.parse_args()
    chosen = [case for case in CASES if options.only in (None, case.name)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        report: Report = {"python": sys.version.split()[0], "numpy": np.__version__}
        report["load_average"] = os.getloadavg()[0]
        report["launches"] = {case.name: report_of(case, options.repeats, folder) for case in chosen}
        if any((folder).iterdir()):
            report["start_up"] = start_up(folder, options.repeats)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
