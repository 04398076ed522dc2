"""Compile an algorithm with a schedule written in a test, run what would ship on the emulator, and compare with the
reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.compile import chosen_targets, package_of
from texpr.lang.accuracy import Accuracy
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.arrays import decode
from texpr.lang.errorbound import error_bounds
from texpr.runtime import Bundle, load
from texpr.schedule import load_schedule


def bundle(
    definition: AlgorithmDef,
    schedule: str | Path,
    folder: Path,
    types: Mapping[str, str] | None = None,
    target: str = "sm_80",
) -> Bundle:
    """The bundle of one binding on one target, ready to run on the emulator. ``schedule`` is the kernels' YAML,
    indented by two, or a whole schedule, or a file with one."""
    text = schedule.read_text() if isinstance(schedule, Path) else schedule
    if "variants:" not in text:
        text = (
            f"texpr: 1\nalgorithm: {definition.name}\nvariants:\n- name: only\n  target: [{target}]\n"
            f"  kernels:\n{text}"
        )
    record = load_schedule(text, str(schedule) if isinstance(schedule, Path) else f"{definition.name}.yaml")
    package = package_of(definition, record, chosen_targets(record, [target]), types or {}, {})
    write_bundle(package, folder / definition.name, BuildOptions())
    return load(str(folder / definition.name), device="emulator", sm=int("".join(filter(str.isdigit, target))))


def worst(
    built: Bundle,
    definition: AlgorithmDef,
    arrays: Mapping[str, Any],
    types: Mapping[str, str] | None = None,
    accuracy: Accuracy | None = None,
) -> float:
    """Run and compare: the largest error of any output in units of its bound."""
    result = built(**arrays)
    outputs = result if isinstance(result, tuple) else (result,)
    algorithm = definition.bind(types or {})
    bounds = error_bounds(definition, types=types, accuracy=accuracy)(**arrays)
    ratios = [0.0]
    for tensor, actual in zip(algorithm.outputs, outputs, strict=True):
        found = bounds[tensor.name].ratios(decode(actual, tensor.dtype))
        if found.size:
            ratios.append(float(found.max()))
    return max(ratios)


def halves(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Normal data in float16."""
    return (rng.standard_normal(shape) * 0.5).astype(np.float16)
