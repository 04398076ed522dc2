"""`python -m tests.emulator.conformance pack OUT --target sm_90a` writes the cases for a machine with a GPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.emulator.conformance.case import TARGETS
from tests.emulator.conformance.catalogue import all_cases
from tests.emulator.conformance.packing import pack


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.emulator.conformance", description="Instruction conformance."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser(
        "pack", help="write the cases, assembled, into a folder with a run.py for a GPU elsewhere"
    )
    packing.add_argument("folder", type=Path)
    packing.add_argument("--target", required=True, choices=TARGETS)
    packing.add_argument("--ptxas", help="the assembler (default: the newest of the triton package)")
    packing.add_argument("--only", default="", metavar="WORD", help="only cases whose name contains WORD")
    options = parser.parse_args(arguments)
    assembler = options.ptxas or _assembler()
    cases = [case for case in all_cases() if options.only in case.name]
    count = pack(cases, options.folder, options.target, assembler)
    print(
        f"wrote {count} cases for {options.target} to {options.folder}; run them with: python {options.folder}/run.py"
    )
    return 0


def _assembler() -> str:
    import triton

    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    return str(next(path for path in (folder / "ptxas-blackwell", folder / "ptxas") if path.exists()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
