"""What all tests share: compiled kernels are cached under build/, not in the user's cache, and kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["TEXPR_CACHE_DIR"] = str(Path(__file__).parent.parent / "build" / "test-cache")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The processors are busy with tests.
    os.environ.setdefault("TEXPR_EMULATOR_WORKERS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite golden loop nests and generated documentation"
    )


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))
