"""The emulator's own command line.

``python -m texpr.emulator run --bundle DIR [--sm 80] -- PROGRAM ARGS`` runs a C program with the stand-in driver,
``python -m texpr.emulator table`` prints the instruction table,
``python -m texpr.emulator ptx FILE.ptx --grid 4 --block 128 --arg ...`` one kernel of a PTX file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from texpr.emulator.counters import Counters
from texpr.emulator.counters_report import save, tables
from texpr.emulator.images import BundleError
from texpr.emulator.libcuda_build import CompilerError
from texpr.emulator.listing import markdown
from texpr.emulator.run_ptx import main as run_ptx
from texpr.emulator.scheduler import schedule_seed
from texpr.emulator.standin import run_program

_NO_SUCH_PROGRAM = 127


def main(arguments: Sequence[str]) -> int:
    """Returns the program's exit status, 1 when a kernel faulted, 2 for a wrong command line, 127 when the program
    cannot be started.
    """
    if arguments == ["table"]:
        print(markdown())
        return 0
    if arguments[:1] == ["ptx"]:
        return run_ptx(arguments[1:], "python -m texpr.emulator ptx")
    parser = argparse.ArgumentParser(
        prog="python -m texpr.emulator",
        description="Run CUDA driver-API programs on the CPU: the PTX of TExpr bundles runs in the emulator.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="print the instruction table")
    commands.add_parser("ptx", help="run one kernel of a PTX file", add_help=False)
    run = commands.add_parser(
        "run", help="run a program with a stand-in libcuda.so.1", usage="%(prog)s [options] -- PROGRAM [ARG ...]"
    )
    run.add_argument(
        "--bundle", action="append", default=[], type=Path, metavar="DIR", help="a bundle the program uses (repeatable)"
    )
    run.add_argument(
        "--sm", type=int, metavar="NN", help="compute capability to simulate, e.g. 80 (default: 80 or the lowest built)"
    )
    run.add_argument(
        "--multiprocessors", type=int, default=4, metavar="N", help="multiprocessor count to report (default: 4)"
    )
    run.add_argument(
        "--counters", action="store_true", help="count what each kernel executes, and print it when the program ends"
    )
    run.add_argument("--counters-json", type=Path, metavar="FILE", help="write these counters as JSON")
    run.add_argument(
        "--schedule-seed", type=schedule_seed, metavar="N", help="run warps in random order, delay copies at random"
    )
    run.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="the program and its arguments")
    options = parser.parse_args(arguments)
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        run.error("no program given; write it after --")
    if not options.bundle:
        run.error("no bundle given; name the directories of the bundles the program uses with --bundle DIR")
    try:
        return run_program(
            program,
            options.bundle,
            options.sm,
            multiprocessors=options.multiprocessors,
            schedule_seed=options.schedule_seed,
            counted=(lambda counters: _report(counters, options)) if _counts(options) else None,
        )
    except (BundleError, CompilerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot run {program[0]}: {error.strerror}", file=sys.stderr)
        return _NO_SUCH_PROGRAM


def _counts(options: argparse.Namespace) -> bool:
    return bool(options.counters or options.counters_json)


def _report(counters: Counters, options: argparse.Namespace) -> None:
    """Beside the program's own output, which goes to stdout."""
    if options.counters:
        print(tables(counters) if counters.launched else "no kernel was launched", file=sys.stderr)
    if options.counters_json:
        try:
            save(counters, options.counters_json)
        except OSError as error:
            print(f"error: cannot write {options.counters_json}: {error.strerror}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
