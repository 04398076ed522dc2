"""Finds Triton and the assemblers, and says which versions they are, without importing Triton.

A build whose kernels are all in the cache thus never pays for the import, and a machine without Triton gets a clear
error.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from texpr.aot.errors import AssemblerTargetError, MissingAssemblerError, MissingCompilerError
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

        Raises MissingAssemblerError when it cannot be run, and AssemblerTargetError when the user's does not know the
        target.
        """
        if self.override is not None:
            assembler = _described(self.override, trusted=False)
            problem = _refusal(self.override, target.name)
            if problem:
                raise AssemblerTargetError(
                    path=self.override, release=assembler.version, target=target, problem=problem
                )
            return assembler
        name = "ptxas" if target.capability < 90 else "ptxas-blackwell"
        return _described(self.triton_folder / "backends" / "nvidia" / "bin" / name, trusted=True)


def find_toolchain(ptxas: Path | None = None) -> Toolchain:
    """``ptxas`` is a path, or a name to look for on PATH. Raises MissingCompilerError unless Triton is installed in
    the version this package is written for.
    """
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
    # Compiler processes work in folders of their own, where a relative path would mean something else.
    override = None if ptxas is None else Path(shutil.which(ptxas) or ptxas).absolute()
    return Toolchain(version, Path(spec.submodule_search_locations[0]), override)


@cache
def _described(path: Path, trusted: bool) -> Assembler:
    """Run ``path --version``. The wheel's own assemblers are pinned by its version, any other is told apart by its
    bytes.
    """
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingAssemblerError(path=path, problem=error) from error
    lines = [line.strip() for line in output.splitlines() if re.search(r"release \d+\.\d+", line)]
    if not lines:
        raise MissingAssemblerError(path=path, problem="its --version names no release")
    fingerprint = "" if trusted else hashlib.sha256(path.read_bytes()).hexdigest()
    return Assembler(path, lines[0].removeprefix("Cuda compilation tools, "), fingerprint)


_PROBE = ".version 6.0\n.target sm_30\n.address_size 64\n"
"""An empty module that every assembler accepts for every target that it knows."""


@cache
def _refusal(path: Path, arch: str) -> str:
    """What the assembler says against a target; empty if it takes it."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.ptx"
        source.write_text(_PROBE)
        command: list[str | Path] = [path, f"--gpu-name={arch}", source, "-o", source.with_suffix(".cubin")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingAssemblerError(path=path, problem=error) from error
    if done.returncode == 0:
        return ""
    said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return said[0].strip() if said else f"it ended with status {done.returncode}"
