"""``pytest tests/plan --update-golden`` rewrites the golden loop nests instead of comparing with them."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(update_golden: bool):
    """``golden(name, text)`` compares a text with ``golden/<name>.txt``."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if update_golden:
            path.write_text(text)
        assert path.is_file(), f"{path.name} is missing: pytest tests/plan --update-golden"
        assert text == path.read_text()

    return check
