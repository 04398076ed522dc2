"""`python -m tests.emulator.mutation`: mutate every kernel, and write what became of the mutants.

Without options everything runs (half an hour on two cores) and both `bench/results/mutation.json` and the results part
of `docs/mutation.md` are written. With `--kernel` or `--part` only some kernels run; their results are printed, and
with `--update` they take the place of their old ones in both files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.emulator.mutation.engine import How
from tests.emulator.mutation.report import compact, facts, markdown, tally
from tests.emulator.mutation.run import run_numbered
from tests.emulator.mutation.subjects import SUBJECTS, Subject

_ROOT: Final = Path(__file__).parents[3]
_RESULTS: Final = _ROOT / "bench" / "results" / "mutation.json"
_PAGE: Final = _ROOT / "docs" / "mutation.md"
_MARK: Final = "<!-- What follows is written by python -m tests.emulator.mutation. -->\n"


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    chosen = [
        (number, options.limit)
        for number, subject in enumerate(SUBJECTS)
        if any(text in subject.name for text in options.kernel) and _in_part(subject, options.part)
    ]
    made = facts()
    records: list[dict[str, Any]] = []
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for record in pool.imap(run_numbered, chosen, chunksize=1):
            records.append(record | {"made": made, "limit": options.limit})
            _tell(record)
            if options.report is not None:
                options.report.write_text(json.dumps(records, indent=1) + "\n")
            if options.update or len(chosen) == len(SUBJECTS):  # at once: the whole takes long
                _write(records)
    return int(any(record["failure"] for record in records))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.emulator.mutation", description=__doc__)
    parser.add_argument("--kernel", nargs="+", default=[""], help="only kernels whose name contains one of these")
    parser.add_argument("--part", choices=("development", "held-out", "all"), default="all")
    parser.add_argument("--limit", type=int, default=4, help="mutants of a kind (all of them for synchronisation)")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--report", type=Path, help="also write every detail to this file (JSON)")
    parser.add_argument("--update", action="store_true", help="put the results of some kernels into the files")
    options = parser.parse_args(arguments)
    if options.limit < 2:
        parser.error("--limit should be at least 2: the first and the last place of a kind")
    return options


def _in_part(subject: Subject, part: str) -> bool:
    return part == "all" or subject.held_out == (part == "held-out")


def _tell(record: dict[str, Any]) -> None:
    if record["failure"]:
        print(f"{record['name']}: FAILED\n{record['failure']}", flush=True)
        return
    counts = tally(record["mutants"])
    told = ", ".join(f"{counts[how]} {how.value}" for how in How if counts[how])
    print(f"{record['name']}: {counts.total()} mutants: {told}  ({record['seconds']} s)", flush=True)


def _write(records: Sequence[dict[str, Any]]) -> None:
    """Both files; what they say of kernels that did not run this time stays."""
    old = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else []
    by_name = {record["name"]: record for record in (*old, *map(compact, records))}
    kept = [by_name[subject.name] for subject in SUBJECTS if subject.name in by_name]
    missing = [subject.name for subject in SUBJECTS if subject.name not in by_name]
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in kept)
    _RESULTS.write_text(f"[\n{lines}\n]\n")
    page = _PAGE.read_text().partition(_MARK)[0]
    _PAGE.write_text(page + _MARK + "\n" + markdown(kept, missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
