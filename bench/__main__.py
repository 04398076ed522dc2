"""``python -m bench [NAME ...]``: run the measurements and write ``bench/results/<name>.json``.

``python -m bench pack`` and its like are about kernels beside their peers on a GPU: see ``sweep/command.py``.

A measurement is a script of this folder that prints one JSON object; without names, all of them run. A result is what
the script printed, raw samples included, with the machine, the date and the commit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
MEASUREMENTS = ("compiler", "emulator", "launcher")
"""The scripts."""


def run(name: str, arguments: list[str]) -> dict[str, Any]:
    """What the script printed. Raises subprocess.CalledProcessError, or ValueError when it printed something else."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    report = json.loads(done.stdout)
    if not isinstance(report, dict):
        raise ValueError(f"{name} printed no JSON object")
    return report


def circumstances() -> dict[str, str | int]:
    """Processor, processors available, system, date in UTC, and commit (with ``+`` when files differ from it)."""
    return {
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "commit": commit(),
    }


def processor() -> str:
    """The model that the kernel names, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def commit() -> str:
    """The repository's commit, or ``unknown`` outside of one."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(FOLDER), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(arguments: list[str]) -> int:
    from bench.sweep.command import COMMANDS, run_command

    if arguments and arguments[0] in COMMANDS:
        return run_command(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure, and write bench/results/<name>.json.",
        epilog="Arguments after -- go to the script, if one is named. Kernels and their peers are measured elsewhere: "
        + "; ".join(f"{name}: {about}" for name, about in COMMANDS.items())
        + ". 'python -m bench pack --help' and so on say more.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MEASUREMENTS)} (default: all)")
    parser.add_argument("--print", action="store_true", help="print the results instead of writing them")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    passed = arguments[cut + 1 :]
    options = parser.parse_args(arguments[:cut])
    names = options.names or list(MEASUREMENTS)
    for name in names:
        if name not in MEASUREMENTS:
            parser.error(f"there is no measurement {name}; there are {', '.join(MEASUREMENTS)}")
    if passed and len(names) > 1:
        parser.error("arguments after -- need one measurement")
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        report = {"circumstances": circumstances(), **run(name, passed)}
        text = json.dumps(report, indent=2) + "\n"
        if options.print:
            print(text, end="")
        else:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(text)
            print(f"wrote {RESULTS.name}/{name}.json", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
