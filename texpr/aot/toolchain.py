"""Finds Triton and the assemblers, and says which versions they are, without importing Triton.

A build whose kernels are all in the cache thus never pays for the import, and a machine without Triton gets a clear
error.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from texpr.aot.errors import MissingAssemblerError, MissingCompilerError
from texpr.targets import Target

WANTED_TRITON = "3.9"


@dataclass(frozen=True, slots=True)
class Assembler:
    """A ``ptxas``: ``version`` is its own release string. ``fingerprint`` tells two builds apart that report the same
    version.
    """

    path: Path
    version: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What turns Gluon into cubins. ``override`` is the user's assembler for every target, else Triton's own pair is
    used.
    """

    triton: str
    triton_folder: Path
    override: Path | None

    def assembler(self, target: Target) -> Assembler:
        """The assembler for ``target``: as Triton chooses, ``ptxas`` below 9.0 and ``ptxas-blackwell`` from there on.

        Raises MissingAssemblerError when it cannot be run.
        """
        if self.override is not None:
            return _described(self.override, trusted=False)
        name = "ptxas" if target.capability < 90 else "ptxas-blackwell"
        return _described(self.triton_folder / "backends" / "nvidia" / "bin" / name, trusted=True)


def find_toolchain(ptxas: Path | None = None) -> Toolchain:
    """Raises MissingCompilerError unless Triton is installed in the version this package is written for."""
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        raise MissingCompilerError(problem="Triton is not installed", wanted=WANTED_TRITON) from None
    if not version.startswith(WANTED_TRITON + "."):
        raise MissingCompilerError(problem=f"Triton {version} is installed", wanted=WANTED_TRITON)
    spec = importlib.util.find_spec("triton")
    if spec is None or not spec.submodule_search_locations:
        raise MissingCompilerError(
            problem=f"Triton {version} is listed as installed but not importable", wanted=WANTED_TRITON
        )
    return Toolchain(version, Path(spec.submodule_search_locations[0]), ptxas)


@cache
def _described(path: Path, trusted: bool) -> Assembler:
    """Run ``path --version``. The wheel's own assemblers are pinned by its version, any other is told apart by its
    bytes.
    """
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingAssemblerError(path=path, problem=error) from error
    lines = [line.strip() for line in output.splitlines() if "release" in line]
    if not lines:
        raise MissingAssemblerError(path=path, problem="its --version names no release")
    fingerprint = "" if trusted else hashlib.sha256(path.read_bytes()).hexdigest()
    return Assembler(path, lines[0].removeprefix("Cuda compilation tools, "), fingerprint)
