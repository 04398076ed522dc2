"""Runs one kernel of a PTX file with arguments given as text: the emulator as a tool of its own.

    texpr emulate kernel.ptx --grid 4 --block 128 --arg x=f32[512]:random --arg y=f32[512] --arg n=i32:512
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.arguments import Argument, ArgumentError, Buffer, make_argument, make_buffer
from texpr.emulator.counters_report import save, tables
from texpr.emulator.faults import Fault, LaunchError, PtxError
from texpr.emulator.kernel import PtxModule
from texpr.emulator.launch import Device
from texpr.emulator.module import load_ptx
from texpr.emulator.scheduler import schedule_seed
from texpr.emulator.statistics import LaunchStats


@dataclass(frozen=True, slots=True)
class PtxRun:
    """What a run left: the buffers' contents by name, and the launch's statistics."""

    buffers: dict[str, NDArray[Any]]
    unwritten: dict[str, int]
    stats: LaunchStats


def run_ptx(
    text: str,
    arguments: Sequence[str],
    *,
    grid: Sequence[int],
    block: Sequence[int],
    shared: int = 0,
    cluster: Sequence[int] | None = None,
    kernel: str | None = None,
    buffers: Sequence[str] = (),
    name: str = "<ptx>",
    sm: int | None = None,
    checks: bool = True,
    seed: int | None = None,
    random_seed: int = 0,
    counters: bool = False,
) -> PtxRun:
    """Run a kernel (the only one, if not named) of a PTX text.

    `arguments` describe the parameters in order, `buffers` memory that only tensor maps refer to (see
    `arguments.py`); pointers that are left out at the end are null. `shared` is dynamic shared memory in bytes,
    `cluster` the programs per cluster (None: what the kernel demands, or none), `seed` permutes the schedule and
    delays asynchronous copies, `random_seed` fixes random contents, `counters` fills the statistics' counters.
    Raises ArgumentError, PtxError, LaunchError, or Fault.
    """
    module = load_ptx(text, name)
    entry = _choose_kernel(module, kernel)
    device = Device(sm=_capability(module) if sm is None else sm, checks=checks, seed=seed, counters=counters)
    known: dict[str, Buffer] = {}
    for description in buffers:
        made = make_buffer(description, device, random_seed)
        known[made.name] = made
    params: list[bytes] = []
    for description in arguments:
        argument: Argument = make_argument(description, device, known, random_seed)
        params.append(argument.data)
        if argument.buffer is not None:
            known[argument.buffer.name] = argument.buffer
    left = module.kernels[entry].params[len(params) :]
    if any(param.size != 8 for param in left):
        raise ArgumentError(f"{entry} takes {len(module.kernels[entry].params)} arguments, {len(params)} given")
    params += [bytes(8)] * len(left)
    stats = device.launch(module, entry, grid, block, shared, params, cluster or module.kernels[entry].cluster)
    contents = {label: buffer.read(device) for label, buffer in known.items()}
    unwritten = {
        label: device.unwritten(buffer.address, int(np.prod(buffer.shape)) * buffer.dtype.itemsize)
        for label, buffer in known.items()
    }
    return PtxRun(contents, unwritten, stats)


def _choose_kernel(module: PtxModule, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    if len(module.kernels) != 1:
        raise ArgumentError(f"{module.name} has {len(module.kernels)} kernels: name one ({', '.join(module.kernels)})")
    return next(iter(module.kernels))


def _capability(module: PtxModule) -> int:
    return int("".join(character for character in module.target if character.isdigit()) or 80)


def main(arguments: Sequence[str], program: str = "texpr emulate") -> int:
    """The command line. Returns 0, 1 after a fault, 2 for anything wrong before the launch."""
    options = _parser(program).parse_args(arguments)
    path = Path(options.file)
    try:
        result = run_ptx(
            path.read_text(encoding="utf-8"),
            options.arg,
            grid=_extents(options.grid, "--grid"),
            block=_extents(options.block, "--block"),
            shared=options.shared,
            cluster=None if options.cluster is None else _extents(options.cluster, "--cluster"),
            kernel=options.kernel,
            buffers=options.buffer,
            name=str(path),
            sm=options.sm,
            checks=not options.no_checks,
            seed=options.schedule_seed,
            random_seed=options.random_seed,
            counters=options.counters or options.counters_json is not None,
        )
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 1
    except (ArgumentError, LaunchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PtxError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot read {path}: {error.strerror}", file=sys.stderr)
        return 2
    _report(result)
    counters = result.stats.counters
    if counters is not None and options.counters:
        print(f"\n{tables(counters)}")
    if counters is not None and options.counters_json is not None:
        try:
            save(counters, options.counters_json)
        except OSError as error:
            print(f"error: cannot write {options.counters_json}: {error.strerror}", file=sys.stderr)
            return 2
    for wanted in options.save:
        label, _, target = wanted.partition("=")
        if label not in result.buffers or not target:
            print(f"error: --save {wanted}: write --save BUFFER=FILE.npy", file=sys.stderr)
            return 2
        np.save(target, result.buffers[label])
    return 0


def _report(result: PtxRun) -> None:
    stats = result.stats
    print(f"{stats.programs} programs, {stats.thread_instructions} thread instructions")
    for label, content in result.buffers.items():
        flat = content.reshape(-1)
        values = ", ".join(f"{value:.6g}" if content.dtype.kind == "f" else str(value) for value in flat[:8])
        dots = ", ..." if len(flat) > 8 else ""
        missing = result.unwritten[label]
        note = f"   ({missing} bytes never written)" if missing else ""
        print(f"{label} {list(content.shape)}: {values}{dots}{note}")
    for message, count in stats.warnings.items():
        print(f"warning: {message} ({count} times)")


def _extents(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(extent) for extent in text.split(","))
    except ValueError:
        raise ArgumentError(f"{option} {text}: one to three extents expected, as in 4 or 4,2") from None


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Run one kernel of a PTX file on the CPU, with all checks.",
        epilog="Arguments: n=i32:1000 (scalar), x=f32[1000]:random (buffer: random, zeros, ones, iota, unwritten or a "
        "file FILE.npy), p=null, m=map:x:64,64:128 (tensor map over buffer x: box, swizzle in bytes).",
    )
    parser.add_argument("file", metavar="FILE.ptx")
    parser.add_argument("--grid", default="1", metavar="X[,Y[,Z]]", help="programs (default: 1)")
    parser.add_argument("--block", required=True, metavar="X[,Y[,Z]]", help="threads per program")
    parser.add_argument("--shared", type=int, default=0, metavar="BYTES", help="dynamic shared memory (default: 0)")
    parser.add_argument("--cluster", metavar="X[,Y[,Z]]", help="programs per cluster (default: as the kernel demands)")
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=...", help="a parameter, in order")
    parser.add_argument("--buffer", action="append", default=[], metavar="NAME=...", help="memory for tensor maps")
    parser.add_argument("--kernel", metavar="NAME", help="which entry (default: the only one)")
    parser.add_argument("--sm", type=int, metavar="NN", help="compute capability (default: the file's target)")
    parser.add_argument(
        "--schedule-seed", type=schedule_seed, metavar="N", help="run warps in random order, delay copies at random"
    )
    parser.add_argument("--random-seed", type=int, default=0, metavar="N", help="fixes random contents (default: 0)")
    parser.add_argument("--no-checks", action="store_true", help="only bounds and alignment")
    parser.add_argument("--save", action="append", default=[], metavar="BUFFER=FILE.npy", help="save a buffer")
    parser.add_argument("--counters", action="store_true", help="count instructions, memory accesses and conflicts")
    parser.add_argument("--counters-json", type=Path, metavar="FILE", help="write the counters as JSON")
    return parser
