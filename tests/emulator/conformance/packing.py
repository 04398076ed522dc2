"""Writes the cases that a target can run into a folder that needs neither Triton nor this package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.emulator.conformance import on_emulator, portable
from tests.emulator.conformance.case import VERSIONS, Array, Case, Output
from tests.emulator.conformance.formats import FORMATS
from texpr.emulator.since import version_problem
from texpr.version import VERSION

PER_IMAGE = 150
_NAMES = re.compile(r"\b(test|buffer|table)\b")


def together(cases: Sequence[Case], target: str, version: str) -> tuple[str, list[int]]:
    """One file with all the kernels under names of their own, and the line at which each begins."""
    text, starts = f".version {version}\n.target {target}\n.address_size 64\n", []
    for number, case in enumerate(cases):
        starts.append(text.count("\n") + 1)
        body = case.text(target, version).split(".address_size 64\n", 1)[1]
        text += _NAMES.sub(lambda match, number=number: f"{match[1]}_{number}", body)
    return text, starts


def least_version(cases: Sequence[Case], target: str) -> str:
    """The oldest PTX version that has all the cases on the target."""
    start = max(VERSIONS.index(case.target[1]) for case in cases)
    return next(version for version in VERSIONS[start:] if not version_problem(target, version))


def assemble(text: str, target: str, assembler: str, path: Path) -> None:
    """`path`.cubin from PTX text. Raises ValueError with what ptxas says."""
    source = path.with_suffix(".ptx")
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [assembler, "-arch", target, "-o", str(path), str(source)], capture_output=True, text=True, check=False
    )
    source.unlink()
    if done.returncode:
        raise ValueError(f"{assembler} refuses the cases: {done.stderr.strip()}")


def first_content(case: Case, name: str, output: Output) -> Array:
    """What an output buffer holds before the launch: what the case says, or a pattern that is not the result."""
    size = output.count * np.dtype(output.dtype).itemsize
    start = case.start.get(name)
    octets = np.full(size, 0xA5, np.uint8) if start is None else np.ascontiguousarray(start).view(np.uint8).reshape(-1)
    return octets.view(output.dtype)


def pack(cases: Sequence[Case], folder: Path, target: str, assembler: str) -> int:
    """Write cubins, inputs, references, the emulator's results and `run.py`; the number of cases."""
    chosen = [case for case in cases if case.runs_on(target)]
    folder.mkdir(parents=True, exist_ok=True)
    described, arrays = [], {}
    # Cases of one PTX version together, so that an older driver can load what it knows.
    chosen.sort(key=lambda case: VERSIONS.index(case.target[1]))
    for start in range(0, len(chosen), PER_IMAGE):
        group = chosen[start : start + PER_IMAGE]
        image = f"cases_{start // PER_IMAGE}.cubin"
        assemble(together(group, target, least_version(group, target))[0], target, assembler, folder / image)
        for number, case in enumerate(group):
            key = str(start + number)
            described.append(
                {
                    "name": case.name,
                    "opcodes": case.opcodes,
                    "key": key,
                    "image": image,
                    "kernel": f"test_{number}",
                    "threads": case.threads,
                    "grid": case.grid,
                    "inputs": list(case.inputs),
                    "outputs": {name: described_output(output) for name, output in case.outputs.items()},
                    "maps": [asdict(map_) for map_ in case.maps.values()],
                }
            )
            expected, emulated = case.expect(), on_emulator.run(case)
            arrays |= {f"{key}/in/{name}": array for name, array in case.inputs.items()}
            for name, output in case.outputs.items():
                arrays[f"{key}/start/{name}"] = first_content(case, name, output)
                arrays[f"{key}/expected/{name}"] = expected[name]
                arrays[f"{key}/emulator/{name}"] = emulated[name]
    made_by = f"texpr {VERSION}"
    text = json.dumps({"target": target, "made_by": made_by, "cases": described})
    (folder / "cases.json").write_text(text, encoding="utf-8")
    np.savez_compressed(folder / "data.npz", **arrays)
    shutil.copyfile(portable.__file__, folder / "run.py")
    return len(chosen)


def described_output(output: Output) -> dict[str, object]:
    form = FORMATS.get(output.form)
    bound = output.bound
    return {
        "form": None if form is None else (form.exponent, form.mantissa, form.infinity, form.dropped),
        "bound": None if bound is None else (bound.ulps, bound.relative, bound.absolute),
    }
