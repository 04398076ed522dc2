"""Compiles a bundle's C launcher into a shared library for this machine, which is what Python loads."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from texpr.aot.errors import CCompilerError
from texpr.aot.manifest import Library
from texpr.runtime.manifest import host_triple

# No build id, no paths and no dates: the same text gives the same bytes wherever it is compiled by the same compiler.
_FLAGS = ("-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wl,--build-id=none")


def find_c_compiler() -> list[str] | None:
    """The words of ``$CC``, else ``cc``, ``gcc`` or ``clang``, whichever is found first; None without any."""
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def build_library(folder: Path, name: str, compiler: list[str]) -> Library:
    """Compile ``<folder>/<name>.c`` to ``lib/<host>/lib<name>.so`` in the same folder. Raises CCompilerError."""
    path = f"lib/{host_triple()}/lib{name}.so"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    command = [*compiler, *_FLAGS, f"-Wl,-soname,lib{name}.so", "-o", path, f"{name}.c", "-ldl"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise CCompilerError(command=shlex.join(command), problem=error) from error
    if result.returncode:
        problem = f"status {result.returncode}"
        raise CCompilerError(command=shlex.join(command), problem=problem, excerpt=result.stderr[:2000])
    return Library(host_triple(), path)
