"""``python -m bench [NAME ...]``: run the measurements and write ``bench/results/<name>.json``.

Every script of this folder that prints one JSON object is a measurement; without names, all of them run. A result is
what the script printed, raw samples included, with the machine, the date and the commit.
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


def measurements() -> list[str]:
    """The names of the scripts."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


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
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure, and write bench/results/<name>.json.",
        epilog="Arguments after -- go to the script, if one is named.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(measurements())} (default: all)")
    parser.add_argument("--print", action="store_true", help="print the results instead of writing them")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    passed = arguments[cut + 1 :]
    options = parser.parse_args(arguments[:cut])
    names = options.names or measurements()
    for name in names:
        if name not in measurements():
            parser.error(f"there is no measurement {name}; there are {', '.join(measurements())}")
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
