"""Random programs: an algorithm and a schedule, compiled and run on the emulator, compared with the reference.

    python -m tests.integration.random_programs --first 0 --count 200 [--keep FOLDER]

draws programs by their seeds, prints every one that is neither right nor refused in words, and counts what happened.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import linecache
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from tests.integration.random_algorithms import random_algorithm
from tests.integration.random_cuts import random_schedule
from texpr.aot import cubin
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.cubin import CompileOptions
from texpr.aot.errors import (
    AssemblerError,
    CompilerAbortError,
    CompilerPassError,
    CompileTimeoutError,
    GluonFrontEndError,
    KernelTextError,
)
from texpr.aot.pool import WorkerPool
from texpr.check import Effort, Selection, check_bundle
from texpr.checking.report import Trouble
from texpr.compile import package_of
from texpr.errors import TExprError
from texpr.lang.algorithm import AlgorithmDef
from texpr.plan.build import plan_variant
from texpr.plan.default import default_schedule
from texpr.plan.show import show_variant
from texpr.schedule import dump_schedule, load_schedule
from texpr.schedule.records import Schedule
from texpr.targets import TARGETS

_COMPILER_FAILED = (
    AssemblerError, CompilerAbortError, CompilerPassError, CompileTimeoutError, GluonFrontEndError, KernelTextError
)  # fmt: skip
_SECONDS = 90
_TARGETS = ("sm_80", "sm_80", "sm_80", "sm_80", "sm_89", "sm_90a", "sm_120a")


class Verdict(Enum):
    """What became of a program."""

    RIGHT = "right"
    REFUSED = "refused"  # a TExprError before any kernel was compiled
    UNREACHED = "unreached"  # no small call is given to some variant; the others are right
    LATE = "late"  # refused for what a kernel turned out to need
    SLOW = "slow"  # Triton or the assembler took too long
    WRONG = "WRONG"  # a wrong result, a fault, an output not written
    UNCOMPILED = "UNCOMPILED"  # Triton did not take the kernel
    CRASH = "CRASH"  # an exception that is not a TExprError


GOOD = frozenset({Verdict.RIGHT, Verdict.REFUSED, Verdict.UNREACHED, Verdict.LATE, Verdict.SLOW})


@dataclass(frozen=True, slots=True)
class Program:
    """An algorithm as Python text that defines ``program``, a schedule as YAML, and a target."""

    seed: int
    source: str
    schedule: str
    target: str

    def definition(self) -> AlgorithmDef:
        """The algorithm. Raises TExprError."""
        file = f"program_{self.seed}.py"
        linecache.cache[file] = (len(self.source), None, self.source.splitlines(keepends=True), file)
        names: dict[str, Any] = {}
        exec(compile(self.source, file, "exec"), names)
        found = names["program"]
        assert isinstance(found, AlgorithmDef)
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, and in words how it came about: the error's class or the trouble first."""

    verdict: Verdict
    reason: str
    text: str
    calls: int = 0


def draw(seed: int) -> Program | Outcome:
    """The program of a seed; an outcome if its algorithm is not legal."""
    rng = random.Random(seed)
    source = random_algorithm(seed)
    target = rng.choice(_TARGETS)
    bare = Program(seed, source, "", target)
    try:
        with time_limit(_SECONDS):
            definition = bare.definition()
            algorithm = definition.bind()
            if rng.random() < 0.12:
                schedule = dump_schedule(default_schedule(definition, [target]))
            else:
                record = random_schedule(rng, algorithm, target)
                schedule = yaml.safe_dump(record, default_flow_style=None, sort_keys=False)
    except TExprError as error:
        return Outcome(Verdict.REFUSED, f"algorithm {type(error).__name__}", f"{source}\n{error}")
    except Exception as error:
        return Outcome(Verdict.CRASH, f"algorithm {type(error).__name__}", f"{source}\n{traceback.format_exc()}")
    return Program(seed, source, schedule, target)


def run(program: Program, folder: Path, effort: Effort, options: CompileOptions) -> Outcome:
    """Build and check a program in ``folder``."""
    try:
        with time_limit(_SECONDS):
            return _run(program, folder, effort, options)
    except TimeoutError as error:
        frames = [Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)]
        verdict = Verdict.SLOW if "pool.py" in frames else Verdict.CRASH
        return Outcome(verdict, f"TimeoutError in {frames[-2]}", traceback.format_exc())


def _run(program: Program, folder: Path, effort: Effort, options: CompileOptions) -> Outcome:
    try:
        definition = program.definition()
        record = load_schedule(program.schedule, f"program_{program.seed}.yaml")
        _show(definition, record, program.target)
        package = package_of(definition, record, [program.target], {}, {})
        write_bundle(package, folder / "bundle", BuildOptions(compile=options))
        report = check_bundle(folder / "bundle", definition, Selection((program.target,)), effort)
    except _COMPILER_FAILED as error:
        return Outcome(Verdict.UNCOMPILED, type(error).__name__, str(error))
    except TExprError as error:
        late = Verdict.LATE if error.code.startswith("TX06") else Verdict.REFUSED
        return Outcome(late, f"{error.code} {type(error).__name__}", str(error))
    except TimeoutError:
        raise
    except Exception as error:
        return Outcome(Verdict.CRASH, f"{type(error).__name__} {_innermost(error)}", traceback.format_exc())
    calls = sum(row.calls for row in report.rows)
    failures = [failure for row in report.rows for failure in row.failures]
    serious = [failure for failure in failures if failure.trouble is not Trouble.UNREACHED]
    if serious:
        text = "\n".join(f"{failure.trouble.value} {failure.call}\n{failure.text}" for failure in serious)
        return Outcome(Verdict.WRONG, serious[0].trouble.value, text, calls)
    if failures:
        return Outcome(Verdict.UNREACHED, "", "", calls)
    return Outcome(Verdict.RIGHT, "", "", calls)


def _show(definition: AlgorithmDef, record: Schedule, target: str) -> None:
    """Whatever is planned can be printed."""
    algorithm = definition.bind()
    for variant in record.variants:
        show_variant(plan_variant(algorithm, variant, TARGETS[target]), algorithm)


def _innermost(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in what takes longer: to hang is as bad as to crash."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def one_compiler() -> Iterator[None]:
    """Inside, all builds share one compiler process; one that failed is replaced, since it may still be at work."""
    pools = [WorkerPool(1, None, 120.0)]

    @contextlib.contextmanager
    def shared(*_: object) -> Iterator[WorkerPool]:
        try:
            yield pools[-1]
        except BaseException:
            pools.pop().__exit__(None, None, None)
            pools.append(WorkerPool(1, None, 120.0))
            raise

    try:
        with mock.patch.object(cubin, "WorkerPool", shared):
            yield
    finally:
        pools[-1].__exit__(None, None, None)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--calls", type=int, default=6)
    parser.add_argument("--work", type=int, default=60_000)
    parser.add_argument("--keep", type=Path, help="write every failing program to this folder")
    arguments = parser.parse_args()
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    effort = Effort(calls=arguments.calls, work=arguments.work)
    with one_compiler():
        for seed in range(arguments.first, arguments.first + arguments.count):
            started = time.monotonic()
            program = draw(seed)
            if isinstance(program, Outcome):
                outcome = program
            else:
                with tempfile.TemporaryDirectory() as folder:
                    outcome = run(program, Path(folder), effort, CompileOptions())
            counts[outcome.verdict.name] += 1
            reasons[f"{outcome.verdict.name} {outcome.reason}"] += 1
            seconds = time.monotonic() - started
            if (seed + 1) % 50 == 0:
                print(f"... {seed + 1}: {dict(counts)}", flush=True)
            if outcome.verdict not in GOOD or seconds > 20:
                print(f"{seed}: {outcome.verdict.value} {outcome.reason} ({seconds:.1f} s)", flush=True)
            if outcome.verdict not in GOOD and arguments.keep is not None and isinstance(program, Program):
                _keep(program, outcome, arguments.keep)
    print(dict(counts))
    for reason, number in reasons.most_common():
        print(f"{number:6} {reason}")


def _keep(program: Program, outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{program.seed}.py").write_text(program.source)
    (folder / f"{program.seed}.yaml").write_text(f"# {program.target}\n{program.schedule}")
    (folder / f"{program.seed}.txt").write_text(f"{outcome.verdict.value} {outcome.reason}\n{outcome.text}\n")


if __name__ == "__main__":
    main()
