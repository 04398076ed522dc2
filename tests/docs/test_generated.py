"""Generated pages are what their generators make: ``pytest tests/docs --update-golden`` writes them anew."""

from __future__ import annotations

import pytest

from docs.generate import FOLDER, GENERATED


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_up_to_date(name: str, update_golden: bool) -> None:
    text = GENERATED[name]()
    if update_golden:
        (FOLDER / name).write_text(text, encoding="utf-8")
    found = (FOLDER / name).read_text(encoding="utf-8")
    assert found == text, f"docs/{name} is out of date: run python -m docs.generate"
