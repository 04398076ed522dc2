"""``texpr pack``: bundles, cases and the runner, put together in one folder and there at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import texpr
from texpr.aot.cubin import Progress, silent
from texpr.packing.cases import CaseMaker, Effort
from texpr.packing.errors import OccupiedPack, PackTooLarge
from texpr.packing.requests import SizeRequest
from texpr.packing.runner.records import PACK_FILE, Case, pack_text
from texpr.packing.sources import Source, build, find_sources, peers_of
from texpr.targets import target_named
from texpr.version import VERSION

RUNNER_FILES: Final = (
    "__init__.py", "version.py", "errors.py", "plugins.py", "dtypes.py", "contracts.py", "domains.py", "targets.py",
    "lang/__init__.py", "lang/arrays.py", "packing/__init__.py", "packing/errors.py",
)  # fmt: skip
"""The modules of TExpr that a runner needs, beside the folders below."""
RUNNER_FOLDERS: Final = ("packing/runner", "runtime", "emulator")
RUN_FILE: Final = "run.py"
_RUN_TEXT: Final = '''\
"""Checks and times the kernels of this pack: python run.py --help"""

import sys
from pathlib import Path

folder = Path(__file__).resolve().parent
sys.path.insert(0, str(folder))
sys.dont_write_bytecode = True

from texpr.packing.runner.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(folder))
'''


@dataclass(frozen=True, slots=True)
class Request:
    """What to pack. ``names`` as for ``find_sources``; ``targets`` None: all of each schedule; ``schedule`` for all of
    them (None: each its own); ``sizes`` are timed beside the sizes found; ``limit`` is the most bytes of the pack."""

    names: tuple[str, ...]
    kernels: Path = Path("kernels")
    schedule: Path | None = None
    targets: tuple[str, ...] | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    statics: Mapping[str, int] = field(default_factory=dict)
    peers: Path | None = None
    sizes: tuple[SizeRequest, ...] = ()
    effort: Effort = field(default_factory=Effort)
    limit: int = 60_000_000


@dataclass(frozen=True, slots=True)
class PackReport:
    """What was written; ``warnings`` say what a reader would not expect to be missing."""

    folder: Path
    bytes: int
    cases: tuple[Case, ...]
    warnings: tuple[str, ...]


def write_pack(
    request: Request,
    out: Path,
    progress: Callable[[Progress], None] = silent,
    said: Callable[[str], None] = lambda text: None,
) -> PackReport:
    """Write a pack to ``out``, replacing a pack that is there. ``progress`` is told of kernels compiled, ``said`` of
    variants done. Raises the TX080x errors and what compiling raises; then nothing is changed.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not is_replaceable(out):
        raise OccupiedPack(path=out)
    sources = find_sources(request.names, request.kernels)
    maker = CaseMaker(request.effort, request.sizes, said)
    maker.check_requests([source.definition for source in sources])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        folder = Path(name) / out.name
        cases: list[Case] = []
        for source in sources:
            cases += _add_kernel(request, source, folder, maker, progress)
        peers = peers_of(sources, request.peers)
        bundles = tuple(source.definition.name for source in sources)
        (folder / PACK_FILE).write_text(pack_text(VERSION, commit(), bundles, peers, tuple(cases)))
        add_runner(folder)
        size = check_size(folder, request.limit)
        if out.exists():
            out.rename(Path(name) / "replaced")
        folder.rename(out)
    return PackReport(out, size, tuple(cases), tuple(maker.warnings))


def _add_kernel(
    request: Request, source: Source, folder: Path, maker: CaseMaker, progress: Callable[[Progress], None]
) -> list[Case]:
    bundle = folder / "bundles" / source.definition.name
    built = build(source, bundle, request.schedule, request.targets, request.types, request.statics, progress)
    asked = (target.name for name in request.targets or () if (target := target_named(name)) is not None)
    missing = [name for name in asked if name not in built]
    if missing:
        maker.warnings.append(f"{source.definition.name}: its schedule has nothing for {', '.join(missing)}")
    return maker.cases(source.definition, bundle, folder)


def add_runner(folder: Path) -> None:
    """Copy the runner and the modules that it needs."""
    home = Path(texpr.__file__).parent
    for path in _runner_modules(home):
        target = folder / "texpr" / path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / RUN_FILE).write_text(_RUN_TEXT)


def _runner_modules(home: Path) -> Iterator[Path]:
    for name in RUNNER_FILES:
        yield home / name
    for name in RUNNER_FOLDERS:
        yield from sorted((home / name).rglob("*.py"))


# ---- size, place, origin


def check_size(folder: Path, limit: int) -> int:
    """The bytes of all files. Raises PackTooLarge."""
    parts: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            words = path.relative_to(folder).parts
            part = "/".join(words[:2]) if len(words) > 2 else words[0]
            parts[part] = parts.get(part, 0) + path.stat().st_size
    total = sum(parts.values())
    if total > limit:
        largest = sorted(parts.items(), key=lambda item: -item[1])[:4]
        shown = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in largest)
        raise PackTooLarge(size=total / 1e6, limit=limit / 1e6, parts=shown)
    return total


def is_replaceable(out: Path) -> bool:
    """Whether a pack may be written there: nothing, or a pack, is there."""
    return out.is_dir() and (not any(out.iterdir()) or (out / PACK_FILE).is_file())


def commit() -> str:
    """The commit of the working tree that TExpr runs from, with ``+`` behind it if files differ; ``unknown`` outside of
    one."""
    folder = Path(texpr.__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()




def run_pack(request: Request, out: Path, *, quiet: bool = False) -> int:
    """What the command does: write, print, and return the exit status."""

    def compiled(progress: Progress) -> None:
        if not progress.cached:
            print(f"[{progress.done}/{progress.total}] compiled {progress.kernel} {progress.target}", file=sys.stderr)

    def said(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    report = write_pack(request, out, silent if quiet else compiled, (lambda text: None) if quiet else said)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not quiet:
        checked = sum(not case.large for case in report.cases)
        timed = len(report.cases) - checked
        print(f"wrote {out}: {checked} cases to check, {timed} to time, {report.bytes / 1e6:.1f} MB")
    return 0


