"""What compiling costs: from an algorithm and a schedule to Gluon text, importing the package, and Triton's own time.

    python bench/compiler.py [--repeats 15] [--compiles 3]

Prints one JSON object; times are milliseconds. Goals: 30 from algorithm and schedule to the text of ``linear_gelu``;
300 for ``import texpr`` and for ``texpr --help``; for Triton, reported apart, 500 for a tile of 128 x 128 x 32 on sm_80
and 150 for row kernels, 800 for a variant of attention.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from texpr.aot.cubin import CompileOptions, Progress, compile_kernels
from texpr.aot.ir import KernelSource
from texpr.compile import compile_binding, compile_variant, load_algorithm, package_of
from texpr.schedule import load_schedule

ROOT = Path(__file__).parent.parent
TARGET = "sm_80"
TYPES = {"T": "f16"}
GOALS = {"linear_gelu_f16_tile128": 500.0, "softmax_f16_rows_1024": 150.0, "attention_f16": 800.0}
TRITON = ("rows.py:softmax", "linear.py:linear_gelu", "attention.py:attention")

Report = dict[str, Any]


def summary(samples: Sequence[float], goal: float | None = None) -> Report:
    """Raw samples in milliseconds with their least and their median."""
    found: Report = {"best": min(samples), "median": median(samples), "samples": [round(each, 3) for each in samples]}
    return found if goal is None else found | {"goal": goal}


def timed(action: Callable[[], object], repeats: int, warm_up: int = 2) -> list[float]:
    """Milliseconds of each of ``repeats`` runs, after some that do not count."""
    samples: list[float] = []
    for number in range(warm_up + repeats):
        start = time.perf_counter()
        action()
        if number >= warm_up:
            samples.append((time.perf_counter() - start) * 1e3)
    return samples


def gluon_text(repeats: int) -> Report:
    """From the two files to Gluon text, in a process that has done it before; every run traces the algorithm anew."""
    source, schedule = f"{ROOT / 'kernels' / 'linear.py'}:linear_gelu", ROOT / "schedules" / "linear_gelu.yaml"
    record = load_schedule(schedule)
    targets = tuple(dict.fromkeys(target for variant in record.variants for target in variant.target))

    def one_variant() -> object:
        algorithm = load_algorithm(source).bind(TYPES)
        return compile_variant(algorithm, load_schedule(schedule).variants[0], (TARGET,), "linear_gelu_f16")

    def one_binding() -> object:
        algorithm = load_algorithm(source).bind(TYPES)
        return compile_binding(algorithm, load_schedule(schedule), (TARGET,), "linear_gelu_f16")

    def everything() -> object:
        return package_of(load_algorithm(source), load_schedule(schedule), targets, {}, {})

    return {
        f"one type, {TARGET}, variant {record.variants[0].name}": summary(timed(one_variant, repeats), goal=30.0),
        f"one type, {TARGET}, all {len(record.variants)} variants": summary(timed(one_binding, repeats), goal=30.0),
        f"all types, {len(targets)} targets": summary(timed(everything, repeats)),
        "of which: reading the schedule": summary(timed(lambda: load_schedule(schedule), repeats)),
        "of which: tracing the algorithm": summary(timed(lambda: load_algorithm(source).bind(TYPES), repeats)),
    }


def imports(repeats: int) -> Report:
    """Whole processes. The bare interpreter is the part that is not ours."""

    def process(*arguments: str) -> list[float]:
        command = [sys.executable, *arguments]
        return timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT), repeats)

    return {
        "bare interpreter": summary(process("-c", "pass")),
        "import texpr": summary(process("-c", "import texpr"), goal=300.0),
        "texpr --help": summary(process("-m", "texpr.cli", "--help"), goal=300.0),
    }


def triton(compiles: int) -> Report:
    """Triton and ptxas on kernels of ``TRITON``, in a worker that has compiled one before."""
    kernels = [kernel for name in TRITON for kernel in sources(name)]
    samples: dict[str, list[float]] = {}

    def note(progress: Progress) -> None:
        if progress.done > 1:
            samples.setdefault(progress.kernel, []).append(progress.seconds * 1e3)

    for number in range(compiles):
        first = kernels[number % len(kernels)]  # a fresh process each time, so one kernel pays for its start
        order = [first, *(kernel for kernel in kernels if kernel is not first)]
        compile_kernels(order, options=CompileOptions(jobs=1, cache=None), report=note)
    goals = {name: next((goal for start, goal in GOALS.items() if name.startswith(start)), None) for name in samples}
    return {name: summary(found, goals[name]) for name, found in samples.items()}


def sources(name: str) -> tuple[KernelSource, ...]:
    """The kernels of a repository algorithm for one type on one target."""
    file, _, algorithm = name.partition(":")
    schedule = load_schedule(ROOT / "schedules" / f"{algorithm}.yaml")
    bound = load_algorithm(f"{ROOT / 'kernels' / file}:{algorithm}").bind(TYPES)
    compiled = compile_binding(bound, schedule, (TARGET,), f"{algorithm}_f16")
    return tuple(kernel for _, group in compiled.variants for each in group for kernel in each.sources)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Time of the compiler, of importing it, and of Triton.")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each measurement (default: 15)")
    parser.add_argument("--compiles", type=int, default=3, help="runs of Triton; 0 leaves it out (default: 3)")
    options = parser.parse_args(arguments)
    report = {
        "benchmark": "compiler",
        "unit": "ms",
        "gluon text of linear_gelu": gluon_text(options.repeats),
        "start": imports(options.repeats),
        "triton": triton(options.compiles) if options.compiles else {},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
