"""`python -m tests.emulator.mutation`: mutate every kernel, and write what became of the mutants."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from tests.emulator.mutation.engine import How
from tests.emulator.mutation.run import run_numbered
from tests.emulator.mutation.subjects import SUBJECTS, Subject


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.mutation", description=__doc__)
    parser.add_argument("--kernel", default="", help="only kernels whose name contains this")
    parser.add_argument("--limit", type=int, default=4, help="mutants of a kind (but all of synchronisation)")
    parser.add_argument("--part", choices=("development", "held-out", "all"), default="all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--report", type=Path, default=None)
    options = parser.parse_args(arguments)
    chosen = [(n, options.limit) for n, s in enumerate(SUBJECTS) if options.kernel in s.name and _in_part(s, options.part)]
    records = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for record in pool.imap(run_numbered, chosen):
            records.append(record)
            _tell(record)
            if options.report is not None:
                options.report.write_text(json.dumps(records, indent=1) + "\n")
    return int(any(record["failure"] for record in records))


def _in_part(subject: Subject, part: str) -> bool:
    return part == "all" or subject.held_out == (part == "held-out")


def _tell(record: dict[str, Any]) -> None:
    if record["failure"]:
        print(f"{record['name']}: FAILED\n{record['false_alarm']}", flush=True)
        return
    of = {how: sum(m["how"] == how.value for m in record["mutants"]) for how in How}
    told = ", ".join(f"{count} {how.value}" for how, count in of.items() if count)
    print(f"{record['name']}: {len(record['mutants'])} mutants: {told}  ({record['seconds']} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
