"""The ``texpr`` command: argument parsing and printing only. A command's code is imported when that command runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from texpr.errors import TExprError

if TYPE_CHECKING:
    from texpr.aot.bundle import BundleReport
    from texpr.aot.cubin import Progress

_SOURCE_HELP = "the algorithm, as FILE.py:NAME"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 after a mistake of the user's, printed on stderr; a wrong command line exits
    with 2.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["emulate"]:  # has a parser of its own: what follows -- belongs to the emulated program
        from texpr.emulator.__main__ import emulate

        return emulate(words[1:])
    options = _parser().parse_args(words)
    try:
        return int(options.run(options))
    except TExprError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="texpr",
        description="Compiles tensor expressions ahead of time: an algorithm (Python) and a schedule (YAML) become a "
        "bundle that C programs link and Python loads. Nothing is compiled at run time, and no GPU is needed to build "
        "or check.",
        epilog="'texpr COMMAND --help' shows an example of each command.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_aot(commands)
    _add_eject(commands)
    _add_check(commands)
    _add_pack(commands)
    _add_show(commands)
    _add_info(commands)
    _add_emulate(commands)
    _add_schema(commands)
    _add_cache(commands)
    return parser


def _version() -> str:
    from texpr.version import VERSION

    return f"texpr {VERSION}"


_Commands = argparse._SubParsersAction  # the type that add_subparsers returns has no public name


def _command(
    commands: _Commands[argparse.ArgumentParser], name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


# ---- arguments that several commands share


def _add_binding(parser: argparse.ArgumentParser) -> None:
    """What to compile: the algorithm, its schedule, and how its variables are bound."""
    parser.add_argument("source", metavar="FILE.py:NAME", help=_SOURCE_HELP)
    parser.add_argument(
        "--schedule",
        type=Path,
        metavar="FILE",
        help="the schedule, or the word 'default' for the analytic one (default: schedules/NAME.yaml, else analytic)",
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="SM",
        help="an architecture, e.g. sm_90a; repeatable (default: all of the schedule's)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        type=_binding,
        metavar="T=TYPE",
        help="bind a type variable, e.g. T=bf16; repeatable",
    )
    parser.add_argument(
        "--static", action="append", default=[], type=_static, metavar="R=N", help="bind a static parameter; repeatable"
    )


def _binding(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"'{text}' should look like T=bf16")
    return name, value


def _static(text: str) -> tuple[str, int]:
    name, value = _binding(text)
    try:
        return name, int(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' should look like R=3") from None


def _bytes(text: str) -> int:
    """``98304`` or ``96K``."""
    number, scale = (text[:-1], 1024) if text[-1:] in ("K", "k") else (text, 1)
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' should be a number of bytes such as 98304 or 96K")
    return int(number) * scale


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' should be a positive number")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' should be a number from 0 on")
    return int(text)


# ---- texpr aot


def _add_aot(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "aot",
        "compile an algorithm and its schedule to a bundle",
        "texpr aot kernels/blend.py:blend -o build/blend --target sm_80 --target sm_90a\n"
        "cc -Ibuild/blend main.c build/blend/blend.c -ldl",
    )
    _add_binding(parser)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the bundle's folder; a bundle there is replaced"
    )
    gates = parser.add_argument_group("gates", "the build fails when a kernel needs more")
    gates.add_argument("--forbid-spills", action="store_true", help="no kernel may spill registers")
    gates.add_argument("--max-registers", type=_positive, metavar="N", help="registers per thread")
    gates.add_argument("--max-shared", type=_bytes, metavar="BYTES", help="shared memory per block, e.g. 98304 or 96K")
    how = parser.add_argument_group("how to compile")
    how.add_argument("--jobs", type=_positive, metavar="N", help="compiler processes (default: one per processor)")
    how.add_argument(
        "--timeout", type=_positive, default=600, metavar="SECONDS", help="per kernel and target (default: 600)"
    )
    how.add_argument(
        "--ptxas",
        type=Path,
        metavar="PATH",
        help="assembler to use, for drivers older than that of the Triton wheel wants (default: the one in the wheel)",
    )
    how.add_argument(
        "--no-cache", action="store_true", help="compile everything anew ('texpr cache' says where the cache is)"
    )
    how.add_argument("--no-library", action="store_true", help="leave out the shared library that Python loads")
    how.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    parser.set_defaults(run=_aot)


def _aot(options: argparse.Namespace) -> int:
    from texpr.aot.bundle import BuildOptions, write_bundle
    from texpr.aot.cache import Cache, default_cache_folder
    from texpr.aot.cubin import CompileOptions, silent
    from texpr.aot.gates import Gates
    from texpr.compile import build_package

    targets = tuple(options.target) if options.target else None
    package = build_package(options.source, options.schedule, targets, dict(options.type), dict(options.static))
    build = BuildOptions(
        targets=targets,
        gates=Gates(options.forbid_spills, options.max_registers, options.max_shared),
        compile=CompileOptions(
            jobs=options.jobs,
            cache=None if options.no_cache else Cache(default_cache_folder()),
            ptxas=options.ptxas,
            timeout=options.timeout,
        ),
        library=not options.no_library,
    )
    report = write_bundle(package, options.out, build, silent if options.quiet else _print_progress)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not options.quiet:
        _print_report(report, options.out)
    return 0


def _print_progress(progress: Progress) -> None:
    took = "cached" if progress.cached else f"{progress.seconds:.1f} s"
    print(
        f"[{progress.done}/{progress.total}] {progress.kernel} {progress.target}  {took}", file=sys.stderr, flush=True
    )


def _print_report(report: BundleReport, out: Path) -> None:
    rows: list[tuple[str, ...]] = [("kernel", "target", "registers", "shared", "stack", "spills", "cubin")]
    for kernel in report.kernels:
        spills = kernel.spill_store_bytes + kernel.spill_load_bytes
        numbers = (kernel.registers, kernel.shared_bytes, kernel.stack_bytes, spills, len(kernel.cubin))
        rows.append((kernel.kernel, kernel.target, *(str(number) for number in numbers)))
    _print_table(rows)
    print(f"wrote {out}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns padded to their widest cell; cells that are numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if cell.isdigit() else cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())


# ---- texpr eject


def _add_eject(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "eject",
        "write the Gluon of one kernel to a file, to be edited by hand",
        "texpr eject kernels/blend.py:blend --kernel blend -o schedules/blend_kernel.py",
    )
    _add_binding(parser)
    parser.add_argument("--kernel", required=True, metavar="NAME", help="the kernel, as the schedule calls it")
    parser.add_argument("--variant", metavar="NAME", help="of this variant only (default: of all that have the kernel)")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the new file")
    parser.set_defaults(run=_eject)


def _eject(options: argparse.Namespace) -> int:
    from texpr.compile import eject

    if options.out.exists():
        print(f"error: {options.out} exists, and may have been edited; choose another file", file=sys.stderr)
        return 2
    text = eject(
        options.source, options.kernel, options.schedule, options.target, dict(options.type), dict(options.static),
        options.variant,
    )  # fmt: skip
    options.out.write_text(text)
    print(f"wrote {options.out}; in kernel {options.kernel} of the schedule, relative to its folder:")
    print(f"    source: {options.out.name}")
    return 0


# ---- texpr check


def _add_check(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "check",
        "run every variant's PTX on the CPU emulator against the reference",
        "texpr check kernels/blend.py:blend --target sm_80\ntexpr check kernels/blend.py:blend --bundle build/blend",
    )
    _add_binding(parser)
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="check what is in this bundle, and record it there (default: build everything anew, elsewhere)",
    )
    parser.add_argument(
        "--all-targets", action="store_true", help="every target (default: one of each family of architectures)"
    )
    parser.add_argument(
        "--calls", type=_positive, default=16, metavar="N", help="at most, per variant, type and target (default: 16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs and sizes (default: 0)")
    parser.add_argument(
        "--schedules", type=_positive, metavar="K", help="run every call under K random schedules too (default: none)"
    )
    parser.add_argument(
        "--schedule-seed", type=_natural, metavar="N", help="of the first of them; the others follow (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    parser.add_argument(
        "--counters", action="store_true", help="count what the largest right call of every row executes, and print it"
    )
    parser.add_argument("--counters-json", type=Path, metavar="FILE", help="write these counters as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not tell how far it is")
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from texpr.check import Selection, run_check
    from texpr.checking.rows import Effort

    targets = tuple(options.target) if options.target else None
    selection = Selection(targets, dict(options.type), dict(options.static), options.all_targets)
    first = 1 if options.schedule_seed is None else options.schedule_seed
    count = options.schedules or (0 if options.schedule_seed is None else 1)
    return run_check(
        options.source,
        options.schedule,
        selection,
        bundle=options.bundle,
        effort=Effort(
            calls=options.calls,
            seed=options.seed,
            counters=options.counters or options.counters_json is not None,
            schedules=tuple(range(first, first + count)),
        ),
        json_output=options.json,
        counters_file=options.counters_json,
        quiet=options.quiet,
    )


# ---- texpr pack


def _add_pack(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "pack",
        "put kernels, cases and a runner in one folder, to be checked and timed on a GPU elsewhere",
        "texpr pack blend dense -o pack --target sm_90a\npython pack/run.py --slice 9m",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="an algorithm of the folder kernels, or FILE.py:NAME; several"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="the pack's folder; a pack there is replaced"
    )
    parser.add_argument(
        "--kernels", type=Path, default=Path("kernels"), metavar="DIR", help="where names are looked up (kernels)"
    )
    parser.add_argument("--schedule", type=Path, metavar="FILE", help="of one kernel (default: each kernel's own)")
    parser.add_argument(
        "--target", action="append", metavar="SM", help="an architecture; repeatable (default: all of the schedules')"
    )
    parser.add_argument(
        "--type", action="append", default=[], type=_binding, metavar="T=TYPE", help="where a kernel has it; repeatable"
    )
    parser.add_argument(
        "--static", action="append", default=[], type=_static, metavar="R=N", help="where a kernel has it; repeatable"
    )
    parser.add_argument(
        "--calls", type=_positive, default=4, metavar="N", help="to check, per variant and type (default: 4)"
    )
    parser.add_argument(
        "--size", action="append", default=[], metavar="NAME:M=N,...", help="time these sizes as well; repeatable"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs and sizes (default: 0)")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="torch's operators (default: kernels' peers.yaml)")
    parser.add_argument(
        "--max-size", type=_megabytes, default=60_000_000, metavar="SIZE", help="of the whole pack, e.g. 60MB (60MB)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    parser.set_defaults(run=_pack)


def _megabytes(text: str) -> int:
    """``60MB`` (10**6 bytes), ``900KB`` or a number of bytes."""
    scales = {"KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
    number, scale = (text[:-2], scales[text[-2:].upper()]) if text[-2:].upper() in scales else (text, 1)
    if not number.isdigit() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' should be a size such as 60MB")
    return int(number) * scale


def _pack(options: argparse.Namespace) -> int:
    from texpr.packing.cases import Effort
    from texpr.packing.pack import Request, run_pack
    from texpr.packing.requests import parse_size

    request = Request(
        names=tuple(options.names),
        kernels=options.kernels,
        schedule=options.schedule,
        targets=tuple(options.target) if options.target else None,
        types=dict(options.type),
        statics=dict(options.static),
        peers=options.peers,
        sizes=tuple(parse_size(text) for text in options.size),
        effort=Effort(calls=options.calls, seed=options.seed),
        limit=options.max_size,
    )
    return run_pack(request, options.out, quiet=options.quiet)


# ---- texpr show


def _add_show(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "show",
        "print what the compiler decided, at one stage of the way",
        "texpr show kernels/blend.py:blend --stage plan\n"
        "texpr show kernels/blend.py:blend --stage schedule > schedules/mine.yaml",
    )
    _add_binding(parser)
    parser.add_argument(
        "--stage",
        choices=("schedule", "plan", "tile", "gluon"),
        default="plan",
        help="schedule: the YAML with every default filled in; plan: the loop nest (default); tile: the tile program; "
        "gluon: the kernels' source",
    )
    parser.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> int:
    from texpr.compile import show

    targets = tuple(options.target) if options.target else None
    text = show(
        options.source, options.schedule, targets, dict(options.type), dict(options.static), stage=options.stage
    )
    print(text.rstrip("\n"))
    return 0


# ---- texpr info


def _add_info(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "info",
        "print what is inside a bundle",
        "texpr info build/blend\ntexpr info build/blend --verify",
    )
    parser.add_argument("bundle", type=Path, metavar="DIR", help="a folder that 'texpr aot' wrote")
    parser.add_argument(
        "--verify", action="store_true", help="check every file's digest and every cubin's resources first"
    )
    parser.add_argument("--json", action="store_true", help="print the manifest itself")
    parser.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    from texpr.runtime.__main__ import describe
    from texpr.runtime.manifest import read_manifest

    if options.verify:
        from texpr.aot.manifest import verify_bundle

        verify_bundle(options.bundle)
    manifest = read_manifest(options.bundle)
    if options.json:
        print((manifest.directory / "manifest.json").read_text(), end="")
        return 0
    print("\n".join(describe(manifest)))
    if options.verify:
        print("every file and cubin is as built")
    return 0


# ---- texpr emulate, schema, cache


def _add_emulate(commands: _Commands[argparse.ArgumentParser]) -> None:
    """For the list of commands only; see ``main``."""
    commands.add_parser("emulate", help="run a program that uses bundles, or one kernel of a PTX file, on the CPU")


def _add_schema(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "schema",
        "print the JSON Schema of schedules, for editors",
        "texpr schema > schedule.schema.json\ntexpr schema --manifest > manifest.schema.json",
    )
    parser.add_argument("--manifest", action="store_true", help="the schema of a bundle's manifest.json instead")
    parser.set_defaults(run=_schema)


def _schema(options: argparse.Namespace) -> int:
    if options.manifest:
        from texpr.aot.manifest import SCHEMA_FILE

        print(SCHEMA_FILE.read_text(), end="")
        return 0
    from texpr.schedule import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


def _add_cache(commands: _Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "cache",
        "show or clear the store of compiled kernels",
        "texpr cache\ntexpr cache --clear --unused-days 30",
    )
    parser.add_argument("--clear", action="store_true", help="delete entries")
    parser.add_argument(
        "--unused-days", type=_positive, default=0, metavar="N", help="spare what was used in the last N days"
    )
    parser.set_defaults(run=_cache)


def _cache(options: argparse.Namespace) -> int:
    from texpr.aot.cache import Cache, default_cache_folder

    cache = Cache(default_cache_folder())
    if options.clear:
        gone = cache.clear(options.unused_days)
        print(f"deleted {gone.entries} kernels, {gone.bytes / 1e6:.1f} MB")
    held = cache.statistics()
    print(
        f"{cache.folder}: {held.entries} kernels, {held.bytes / 1e6:.1f} MB  (TEXPR_CACHE_DIR chooses another folder)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
