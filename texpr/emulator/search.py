"""Where the bundles of a program are, when nobody says so: beside the program, its arguments and libraries, and in the
working directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

_MANIFEST: Final = "manifest.json"
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "proc", "sys", "dev"})
_MOST_FOLDERS: Final = 400
_LIBRARY_DEPTH: Final = 3
"""A bundle's library lies in ``lib/<host>/`` of the bundle."""


@dataclass(frozen=True, slots=True)
class Found:
    """Bundles, and the places that were searched for them, as a person would say it."""

    bundles: tuple[Path, ...]
    places: tuple[str, ...]


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` holds a manifest that texpr wrote."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "texpr_manifest" in manifest and "kernels" in manifest


def find_bundles(argv: Sequence[str], here: Path) -> Found:
    """Bundles for the program ``argv`` that is started in ``here``.

    Looked at are: the program's folder with two levels below it, and the two folders above with one level below each;
    every argument that is a path, and its parents up to two levels up, and two levels below the folder it is or lies
    in; the working directory with two levels below it. A program that is found on PATH (an interpreter) is not looked
    beside, only its arguments.
    """
    places: dict[Path, int] = {}

    def look(folder: Path, depth: int) -> None:
        places[folder] = max(depth, places.get(folder, 0))

    program = Path(argv[0])
    if len(program.parts) > 1 or not shutil.which(argv[0]):
        beside = (here / program).resolve().parent
        look(beside, 2)
        for above in list(beside.parents)[:2]:
            if len(above.parts) > 2:
                look(above, 1)
    for word in argv[1:]:
        path = _existing(here, word)
        if path is None:
            continue
        folder = path if path.is_dir() else path.parent
        if len(folder.parts) > 1:
            look(folder, 2)
        for above in list(folder.parents)[:2]:
            if len(above.parts) > 2:
                look(above, 0)
    look(here, 2)
    found: dict[Path, None] = {}
    for folder, depth in places.items():
        for candidate in _walk(folder, depth):
            if is_bundle(candidate):
                found[candidate] = None
    return Found(tuple(found), tuple(_describe(folder, depth) for folder, depth in places.items()))


def _existing(here: Path, word: str) -> Path | None:
    """The file or folder an argument names, if it names one."""
    try:
        path = (here / word).resolve()
        return path if path.exists() else None
    except (OSError, ValueError):
        return None


def bundles_of_process(pid: int) -> Found:
    """Bundles whose libraries, or whose folders' files, a running process has loaded."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Found((), ())
    files = dict.fromkeys(line[line.index("/") :] for line in lines if "/" in line)
    found: dict[Path, None] = {}
    for file in files:
        for folder in list(Path(file).parents)[:_LIBRARY_DEPTH]:
            if is_bundle(folder):
                found[folder] = None
    return Found(tuple(found), ("the folders of the libraries that the program has loaded",))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """``folder`` and the folders up to ``depth`` levels below, by name; not what is inside of a bundle."""
    level = [folder]
    budget = _MOST_FOLDERS
    for _ in range(depth + 1):
        following: list[Path] = []
        for current in level:
            yield current
            budget -= 1
            if budget > 0 and not (current / _MANIFEST).exists():
                following += _below(current)
        level = following[:budget]


@lru_cache(maxsize=1024)
def _below(folder: Path) -> tuple[Path, ...]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return ()
    return tuple(
        entry for entry in entries
        if not entry.name.startswith(".") and entry.name not in _SKIPPED and entry.is_dir()
    )  # fmt: skip


def _describe(folder: Path, depth: int) -> str:
    here = Path.cwd()
    name = "." if folder == here else str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
    return name if depth == 0 else f"{name} and {'one level' if depth == 1 else 'two levels'} below"
