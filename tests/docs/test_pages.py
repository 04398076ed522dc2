"""Every code block of the README and of docs/ does what its page says: see ``blocks.py``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.runner import ROOT, Page

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "bench" / "README.md"]
_LINK = re.compile(r"\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_does_what_the_page_says(path: Path, tmp_path: Path) -> None:
    page = Page(tmp_path)
    for block in blocks_of(path):
        page.run(block)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for match in _LINK.finditer(without_blocks(path.read_text())):
        target, anchor = match["target"], match["anchor"]
        if "://" in target:
            continue
        file = (path.parent / target) if target else path
        assert file.exists(), f"{path.name}: {match[0]}"
        if anchor is not None:
            assert anchor in anchors_of(file), f"{path.name}: {match[0]}"


def without_blocks(markdown: str) -> str:
    return re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def anchors_of(file: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    headings = _HEADING.findall(without_blocks(file.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
