"""Results that depend on the schedule are found by running calls under several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
import texpr.check
from tests.check.algorithms import SCALED, bundle, scaled, schedule
from texpr.check import check_bundle
from texpr.checking.execute import Bench
from texpr.checking.report import Trouble, table
from texpr.checking.rows import Effort
from texpr.checking.schedules import difference
from texpr.cli import main

RAN: list[int | None] = []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("built"), scaled, schedule(SCALED), ["sm_80"], {"T": "f16"})


class Recorded(Bench):
    """Notes its seed. With seed 3 the first element of the output is larger by one; with seed 4 finite ones are the
    next larger number from the ninth on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._seed = arguments[5]
        RAN.append(self._seed)

    def run(self, *arguments: Any) -> Any:
        query, outputs = super().run(*arguments)
        if self._seed == 3:
            for values in outputs.values():
                values.reshape(-1)[:1] += 1
        if self._seed == 4:
            for values in outputs.values():
                values[8:] = np.where(np.isfinite(values[8:]), np.nextafter(values[8:], np.inf), values[8:])
        return query, outputs


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    monkeypatch.setattr(texpr.check, "Bench", Recorded)


def test_schedules_are_run_besides_lockstep(built: Path) -> None:
    report = check_bundle(built, scaled, effort=Effort(calls=3, schedules=(1, 2)))
    assert report.ok, table(report)
    assert RAN == [None, 1, 2]


def test_a_result_that_differs_is_told_with_its_seed(built: Path) -> None:
    report = check_bundle(built, scaled, effort=Effort(calls=4, schedules=(2, 3)))
    assert {failure.trouble for row in report.rows for failure in row.failures} == {Trouble.ORDER}
    assert "with --schedule-seed 3; 1 of" in table(report)


@te.algorithm("x: f32[N] -> y: f32[N]")
def sums(x: Any, y: Any) -> None:
    (i,) = te.axes(i="N")
    y[i] = te.scan("+", x[i], along=i)


RELAXED = """
texpr: 1
algorithm: sums
variants:
- name: any
  target: [sm_80]
  relax: [{order: y}]
  kernels:
  - {name: sums, writes: [y], grid: {i: 64}, warps: 1, scan: {y: {across: lookback, by: {i: 64}}}}
"""


def test_where_the_order_is_relaxed_results_differ_within_the_bound(tmp_path: Path) -> None:
    bundled = bundle(tmp_path, sums, schedule(RELAXED), ["sm_80"], {})
    assert check_bundle(bundled, sums, effort=Effort(calls=4, schedules=(4,))).ok
    report = check_bundle(bundled, sums, effort=Effort(calls=4, schedules=(3,)))
    assert {failure.trouble for row in report.rows for failure in row.failures} == {Trouble.WRONG}
    assert "with --schedule-seed 3" in table(report)


@pytest.mark.parametrize(("options", "seeds"), [
    ([], [None]), (["--schedules", "2"], [None, 1, 2]), (["--schedule-seed", "7"], [None, 7]),
    (["--schedule-seed", "0", "--schedules", "2"], [None, 0, 1]),
])  # fmt: skip
def test_the_command_line_chooses_seeds(built: Path, options: list[str], seeds: list[int | None]) -> None:
    source = f"{Path(__file__).with_name('algorithms.py')}:scaled"
    assert main(["check", source, "--bundle", str(built), "--calls", "2", "-q", *options]) == 0
    assert seeds == RAN


def test_nans_are_one_value_and_zeros_are_two() -> None:
    algorithm = scaled.bind({"T": "f16"}, {})
    (name,) = (tensor.name for tensor in algorithm.outputs)
    one, same, other = (
        {name: np.array(bits, np.uint16).view(np.float16)}
        for bits in ((0x7E00, 0, 0x3C00), (0x7E01, 0, 0x3C00), (0x7E00, 0x8000, 0x3C00))
    )
    assert difference(algorithm, one, same, 1) == ""
    text = difference(algorithm, one, other, 5)
    assert text.startswith(f"{name}[1] is 0 in lockstep and -0 with --schedule-seed 5; 1 of 3 elements differ")
