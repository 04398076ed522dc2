"""The same cases on hardware: through libcuda, from PTX that the driver compiles."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tests.emulator.conformance.case import VERSIONS, Case, Output
from tests.emulator.conformance.catalogue import all_cases
from tests.emulator.conformance.packing import first_content, least_version, together
from tests.emulator.conformance.portable import Driver, DriverError
from texpr.emulator.since import has_target, version_problem

pytestmark = pytest.mark.gpu


@cache
def driver() -> Driver:
    try:
        return Driver()
    except DriverError as error:
        pytest.skip(f"needs an NVIDIA GPU ({error})")


def target_of(capability: int) -> str:
    """The target with everything that the GPU has; before 9.0 there are no targets with an `a`."""
    return f"sm_{capability}a" if capability >= 90 else f"sm_{capability}"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_gpu_agrees_with_the_references(version: str) -> None:
    gpu = driver()
    target = target_of(gpu.capability)
    cases = [case for case in all_cases() if case.target[1] == version and has_target(target, case.target[0])]
    if not cases:
        pytest.skip(f"no case of PTX {version} for {target}")
    assert not version_problem(target, least_version(cases, target))
    wrong = []
    for start in range(0, len(cases), 100):
        wrong += run_together(gpu, cases[start : start + 100], target)
    assert not wrong, "\n".join(wrong[:40])


def run_together(gpu: Driver, cases: list[Case], target: str) -> list[str]:
    text, _ = together(cases, target, least_version(cases, target))
    try:
        module = gpu.load(text.encode() + b"\0")
    except DriverError as error:
        if "UNSUPPORTED_PTX_VERSION" in str(error):
            pytest.skip(f"the driver is older than the PTX version: {error}")
        raise
    wrong = []
    for number, case in enumerate(cases):
        outputs = {name: first_content(case, name, output) for name, output in case.outputs.items()}
        try:
            maps = [vars_of(map_) for map_ in case.maps.values()]
            got = gpu.run(module, f"test_{number}", dict(case.inputs), outputs, maps, case.threads, case.grid)
        except DriverError as error:
            gpu.reset()
            module = gpu.load(text.encode() + b"\0")
            wrong.append(f"{case.name}: {error}")
            continue
        wrong += case.differences(got)
    return wrong


def vars_of(map_: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(map_)  # type: ignore[call-overload, no-any-return]


def test_buffers_begin_with_a_pattern() -> None:
    case = next(case for case in all_cases() if case.name == "add.u32")
    assert (first_content(case, "d", Output("u4", 3)) == np.uint32(0xA5A5_A5A5)).all()
