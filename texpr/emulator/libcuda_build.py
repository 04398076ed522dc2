"""Builds the stand-in ``libcuda.so.1`` with the system C compiler, once per source text and compiler, into the user's
cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

_SOURCES = Path(__file__).parent / "libcuda"
_FLAGS = (
    "-std=c11", "-O2", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden",
    "-Wl,-soname,libcuda.so.1", "-Wl,-Bsymbolic",
    "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror",
)  # fmt: skip


class CompilerError(Exception):
    """The C compiler is missing or failed; the message holds its output."""


def cache_directory() -> Path:
    """Where TExpr keeps what it can rebuild: ``$TEXPR_CACHE_DIR``, else ``texpr`` in the user's cache directory."""
    override = os.environ.get("TEXPR_CACHE_DIR")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "texpr"


def standin_directory() -> Path:
    """The directory that holds ``libcuda.so.1`` (and ``libcuda.so``, to link against), building it first if needed.

    Raises CompilerError.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise CompilerError(f"no C compiler: {compiler[0]!r} is not on PATH (set CC to name another)")
    digest = hashlib.sha256(" ".join([*compiler, *_FLAGS]).encode())
    sources = sorted(_SOURCES.glob("*.[ch]"))
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    directory = cache_directory() / "libcuda" / digest.hexdigest()[:32]
    if not (directory / "libcuda.so.1").exists():
        _build([*compiler, *_FLAGS, *(str(source) for source in sources if source.suffix == ".c")], directory)
    return directory


def _build(command: list[str], directory: Path) -> None:
    """Compile into a temporary file and rename, so that concurrent builds never see half a library."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=directory, suffix=".partial")
    os.close(descriptor)
    result = subprocess.run([*command, "-o", partial], capture_output=True, text=True)
    if result.returncode != 0:
        os.unlink(partial)
        raise CompilerError(f"building the stand-in libcuda failed: {shlex.join(command)}\n{result.stderr.strip()}")
    os.chmod(partial, 0o755)
    os.replace(partial, directory / "libcuda.so.1")
    # Some programs open, and all linkers look for, the name without a version.
    link = directory / "libcuda.so"
    if not link.is_symlink():
        with contextlib.suppress(FileExistsError):
            link.symlink_to("libcuda.so.1")
