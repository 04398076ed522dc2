"""Random algorithms with random schedules: refused with an error of TExpr's, or right. More of them:
``python -m tests.integration.random_programs --first 0 --count 500``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.random_programs import GOOD, Outcome, draw, run
from texpr.aot.cubin import CompileOptions
from texpr.checking.rows import Effort

SEEDS = range(7000, 7025)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program_is_refused_or_right(seed: int, tmp_path: Path) -> None:
    program = draw(seed)
    outcome = program if isinstance(program, Outcome) else run(program, tmp_path, Effort(6, 60_000), CompileOptions())
    assert outcome.verdict in GOOD, f"{outcome.reason}\n{outcome.text}"
