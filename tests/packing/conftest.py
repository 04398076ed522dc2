"""One small pack for all tests of this folder: two kernels, one type, one target, large cases that can be emulated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.packing.packs import KERNELS, small_request
from texpr.packing.pack import write_pack


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack; nobody may change it."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("pack") / "pack"
    write_pack(small_request(KERNELS), folder)
    return folder


@pytest.fixture
def pack(built: Path, tmp_path: Path) -> Path:
    """A copy of the pack to run and to damage."""
    return Path(shutil.copytree(built, tmp_path / "pack"))
