"""The emulator's own command line.

``python -m texpr.emulator run -- PROGRAM ARGS`` runs a program with the stand-in driver, ``python -m texpr.emulator ptx
FILE.ptx --grid 4 --block 128 --arg ...`` one kernel of a PTX file. ``texpr emulate`` is the same. ``python -m
texpr.emulator table`` prints the instruction table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from texpr.emulator.counters import Counters
from texpr.emulator.counters_report import save, tables
from texpr.emulator.images import BundleError
from texpr.emulator.libcuda_build import CompilerError, standin_directory
from texpr.emulator.listing import markdown
from texpr.emulator.run_ptx import main as run_ptx
from texpr.emulator.scheduler import schedule_seed
from texpr.emulator.standin import run_program

_NO_SUCH_PROGRAM = 127


def main(arguments: Sequence[str], program: str = "python -m texpr.emulator") -> int:
    """Returns the program's exit status, 1 when a kernel faulted, 2 for a wrong command line, 127 when the program
    cannot be started.
    """
    if arguments == ["table"]:
        print(markdown())
        return 0
    if arguments[:1] == ["ptx"]:
        return run_ptx(arguments[1:], f"{program} ptx")
    if arguments[:1] == ["run"]:
        return _run(arguments[1:], f"{program} run")
    forms = ("run [options] -- PROGRAM [ARG ...]", "ptx FILE.ptx ...", "table")
    print("usage: " + "\n       ".join(f"{program} {form}" for form in forms), file=sys.stderr)
    return 0 if arguments[:1] in (["-h"], ["--help"]) else 2


def emulate(arguments: Sequence[str]) -> int:
    """``texpr emulate``: a PTX file if one is named before ``--``, else a program."""
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if any(word.endswith(".ptx") for word in own):
        return run_ptx(arguments)
    return _run(arguments, "texpr emulate")


def _run(arguments: Sequence[str], name: str) -> int:
    parser = _parser(name)
    options = parser.parse_args(arguments)
    if options.libcuda:
        return _print_directory()
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        parser.error(f"no program given; write it after --, as in: {name} -- ./demo")
    if options.multiprocessors < 1:
        parser.error("--multiprocessors should be at least 1")
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


def _print_directory() -> int:
    try:
        print(standin_directory())
    except CompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [--bundle DIR ...] [--sm NN] -- PROGRAM [ARG ...]\n"
        f"       {name.removesuffix(' run')}{' ptx' if name.endswith(' run') else ''} FILE.ptx --block N [--grid N] "
        "[--arg NAME=...] ...\n"
        f"       {name} --libcuda",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bundle",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a bundle that the program uses; repeatable (default: found beside the program, its arguments, its "
        "libraries and in the working directory)",
    )
    parser.add_argument(
        "--sm",
        type=_capability,
        metavar="NN",
        help="compute capability to simulate, e.g. 80 or sm_90a (default: 80, or what most bundles are built for)",
    )
    parser.add_argument(
        "--multiprocessors", type=int, default=4, metavar="N", help="multiprocessor count to report (default: 4)"
    )
    parser.add_argument(
        "--schedule-seed", type=schedule_seed, metavar="N", help="run warps in random order, delay copies at random"
    )
    parser.add_argument(
        "--counters", action="store_true", help="count what each kernel executes, and print it when the program ends"
    )
    parser.add_argument("--counters-json", type=Path, metavar="FILE", help="write these counters as JSON")
    parser.add_argument(
        "--libcuda", action="store_true", help="print the folder of the stand-in libcuda.so, to link against, and end"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM", help="the program and its arguments")
    return parser


_DESCRIPTION = """\
Run a program that uses the CUDA driver API, unchanged, on the CPU: its libcuda.so.1 is a stand-in, and its kernels are
the PTX of bundles, or PTX of its own, in the emulator. With a .ptx file: run one kernel of it (texpr emulate FILE.ptx
--help says how).
"""

_EPILOG = """\
A kernel's mistake is printed like a compiler error, and the exit status is 1 even if the program says 0; otherwise it
is the program's own. 2: the command line or a bundle is wrong; 127: the program cannot be started.

example:
  texpr emulate -- ./blend_demo
  texpr emulate --bundle build/blend --sm 90 -- python my_program.py
  texpr emulate kernel.ptx --grid 4 --block 128 --arg x=f32[512]:random --arg n=i32:512
  cc main.c blend.c -L"$(texpr emulate --libcuda)" -lcuda -o main
"""


def _capability(text: str) -> int:
    """``80``, ``sm_80``, ``8.0`` or ``sm_90a``."""
    digits = text.removeprefix("sm_").rstrip("af").replace(".", "")
    if not digits.isdigit() or int(digits) < 50:
        raise argparse.ArgumentTypeError(f"'{text}' should be a compute capability such as 80 or sm_90a")
    return int(digits)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
