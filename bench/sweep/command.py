"""The commands ``pack``, ``peers``, ``report``, ``best`` and ``cases`` of ``python -m bench``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.sweep.yaml_lines import BenchError
from texpr.errors import TExprError

FOLDER: Final = Path(__file__).parents[1]
COMMANDS: Final[Mapping[str, str]] = {
    "cases": "list the case files and their questions",
    "pack": "make a pack of kernels and questions for a GPU elsewhere",
    "peers": "put compiled and unpacked peers beside a pack",
    "report": "render results as tables, plots and a summary",
    "best": "write the best schedule of a space",
}


def run_command(arguments: list[str]) -> int:
    """0, or 2 with the mistake on stderr."""
    runners: Mapping[str, Callable[[list[str]], int]] = {
        "cases": _cases, "pack": _pack, "peers": _peers, "report": _report, "best": _best,
    }  # fmt: skip
    try:
        return runners[arguments[0]](arguments[1:])
    except (BenchError, TExprError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def _parser(name: str) -> argparse.ArgumentParser:
    about = COMMANDS[name]
    return argparse.ArgumentParser(prog=f"python -m bench {name}", description=f"{about[0].upper()}{about[1:]}.")


def _cases(arguments: list[str]) -> int:
    from bench.sweep.casefile import read_cases

    parser = _parser("cases")
    _add_cases(parser)
    options = parser.parse_args(arguments)
    for case in read_cases(options.cases):
        if not fnmatch.fnmatch(case.name, options.only):
            continue
        bindings = len(case.types) * len(case.statics)
        count = f"{len(case.shapes)} sizes" if case.shapes else f"layers of {len(case.lidar)} scans"
        against = f"goal {case.goal.ratio} of {', '.join(case.goal.against)}" if case.goal else "no goal"
        print(f"{case.name:20} {case.kernel}: {count}, {bindings} bindings; {against}; peers {', '.join(case.peers)}")
    return 0


def _add_cases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=Path, default=FOLDER / "cases", metavar="DIR", help="the case files")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="some case files by name")


def _pack(arguments: list[str]) -> int:
    from bench.sweep.casefile import read_cases
    from bench.sweep.packer import Request, write_bench_pack
    from texpr.aot.cubin import Progress

    parser = _parser("pack")
    _add_cases(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the folder; a pack is replaced")
    parser.add_argument("--kernels", type=Path, default=FOLDER.parent / "kernels", metavar="DIR", help="the algorithms")
    parser.add_argument("--target", action="append", metavar="SM", help="instead of those of the cases; repeatable")
    parser.add_argument("--calls", type=int, default=2, metavar="N", help="to check per variant and type (default: 2)")
    parser.add_argument("--no-emulate", action="store_true", help="do not run the checks on the emulator first")
    parser.add_argument("--keep-going", action="store_true", help="leave out kernels that do not compile, with a note")
    parser.add_argument("--max-size", type=float, default=60.0, metavar="MB", help="of the pack (default: 60)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and notes only")
    options = parser.parse_args(arguments)
    cases = tuple(case for case in read_cases(options.cases) if fnmatch.fnmatch(case.name, options.only))
    if not cases:
        raise BenchError(f"no case file is called {options.only}")

    def compiled(progress: Progress) -> None:
        if not (options.quiet or progress.cached):
            print(f"[{progress.done}/{progress.total}] compiled {progress.kernel} {progress.target}", file=sys.stderr)

    def said(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    targets = tuple(options.target) if options.target else None
    request = Request(
        cases, options.kernels, targets, options.calls, not options.no_emulate, options.keep_going,
        int(options.max_size * 1e6),
    )  # fmt: skip
    report = write_bench_pack(request, Path(options.out).absolute(), compiled, said)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    timed = sum(not question.small for question in report.questions)
    print(f"wrote {options.out}: {timed} questions, {report.bytes / 1e6:.1f} MB")
    return 0


def _peers(arguments: list[str]) -> int:
    from bench.sweep.extras import build_cub, unpack_wheels

    parser = _parser("peers")
    parser.add_argument("pack", type=Path, metavar="PACK", help="the pack's folder")
    parser.add_argument("--cub", action="store_true", help="compile CUB's algorithms with nvcc")
    parser.add_argument("--nvcc", default="nvcc", metavar="PATH", help="default: the one on PATH")
    parser.add_argument("--sm", default="sm_90", metavar="SM", help="architecture for CUB (default: sm_90)")
    parser.add_argument("--wheel", type=Path, action="append", default=[], metavar="FILE", help="to unpack; repeatable")
    options = parser.parse_args(arguments)
    if not (options.cub or options.wheel):
        parser.error("nothing to do: --cub or --wheel")
    if options.cub:
        build_cub(options.pack, options.nvcc, options.sm)
    unpack_wheels(options.pack, options.wheel)
    return 0


def _report(arguments: list[str]) -> int:
    from bench.sweep.report import write_report

    parser = _parser("report")
    parser.add_argument("results", type=Path, nargs="*", metavar="RESULT.json", help="what a pack left in results/")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the summary (default: standard output)")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw into this folder (needs matplotlib)")
    options = parser.parse_args(arguments)
    text = write_report(options.results, options.plots, options.out)
    if options.out is None:
        print(text, end="")
    return 0


def _best(arguments: list[str]) -> int:
    from bench.sweep.best import write_best

    parser = _parser("best")
    parser.add_argument("results", type=Path, metavar="RESULT.json", help="what a pack left in results/")
    parser.add_argument("--case", required=True, metavar="NAME", help="the case file with the space")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="the schedule (default: standard output)")
    parser.add_argument("--type", default="", metavar="TYPE", help="of several bindings, the one with this in its name")
    options = parser.parse_args(arguments)
    text = write_best(options.results, options.case, options.type)
    if options.out is None:
        print(text, end="")
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"wrote {options.out}")
    return 0
