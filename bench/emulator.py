"""Speed of the emulator: prints one JSON object; nothing here runs in the tests.

    python bench/emulator.py [--repeat N]

`gemm_tile_ms`: one 128 x 128 x 256 fp16 tile (Gluon, sm_80, three stages of asynchronous copies), as time per
program when so many run side by side.  `softmax_s`: 4096 rows of 1024 float32.  Best of N runs, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from tests.emulator.compiled import Compiled, compile_kernel, compiled_softmax
from texpr.emulator import Device, load_ptx


def best(run: Callable[[], object], repeat: int) -> float:
    """Seconds of the fastest of `repeat` runs, after one that warms up."""
    run()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def launcher(compiled: Compiled, device: Device, arguments: list[np.ndarray | int], grid: int) -> Callable[[], object]:
    """A function that launches on fresh buffers; integers are 32-bit parameters."""
    module = load_ptx(compiled.ptx)
    params = []
    for argument in arguments:
        if isinstance(argument, int):
            params.append(argument.to_bytes(4, "little"))
        else:
            address = device.alloc(argument.nbytes)
            device.write(address, argument)
            params.append(address.to_bytes(8, "little"))
    params += [bytes(8)] * (len(module.kernels[compiled.name].params) - len(params))
    return lambda: device.launch(module, compiled.name, (grid,), (compiled.threads,), compiled.shared, params)


def gemm_tile(programs: int, checks: bool, repeat: int) -> float:
    from triton.experimental.gluon import language as gl

    constants = (("BM", 128), ("BN", 128), ("BK", 32), ("STAGES", 3),
                 ("MMA", gl.NVMMADistributedLayout([2, 0], [2, 2], [16, 8])), ("KWIDTH", 2), ("VECTOR", 8))
    signature = (("a", "*fp16"), ("b", "*fp16"), ("c", "*fp32"), ("M", "i32"), ("N", "i32"), ("K", "i32"))
    compiled = compile_kernel("gemm", 80, signature, constants, ("a", "b", "c", "N", "K"))
    rng = np.random.default_rng(0)
    rows, columns, depth = 128 * programs, 128, 256
    arrays = [rng.standard_normal(shape).astype(np.float16) for shape in ((rows, depth), (depth, columns))]
    device = Device(sm=80, checks=checks, batch=programs)
    run = launcher(compiled, device, [*arrays, np.zeros((rows, columns), np.float32), rows, columns, depth], programs)
    return best(run, repeat) / programs


def softmax(checks: bool, repeat: int) -> float:
    x = np.random.default_rng(0).standard_normal((4096, 1024)).astype(np.float32)
    device = Device(sm=80, checks=checks, batch=64)
    return best(launcher(compiled_softmax(80), device, [x, np.zeros_like(x), 1024, 1024], len(x)), repeat)


def load_time(repeat: int) -> float:
    compiled = compiled_softmax(80)
    return best(lambda: load_ptx(compiled.ptx), repeat)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs per figure")
    repeat = parser.parse_args().repeat
    report = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "gemm_tile_ms": {
            f"{programs} programs, {'all checks' if checks else 'bounds only'}": round(
                1e3 * gemm_tile(programs, checks, repeat), 2
            )
            for programs in (1, 16)
            for checks in (True, False)
        },
        "softmax_s": {
            "all checks" if checks else "bounds only": round(softmax(checks, repeat), 3) for checks in (True, False)
        },
        "load_softmax_ptx_ms": round(1e3 * load_time(repeat), 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
