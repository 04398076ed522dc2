"""``python -m bench peers``: what peers need and a GPU machine may not have, in ``extras`` beside a pack."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

from bench.measure.limits import extras_of
from bench.peers import PACKED
from bench.peers.cub import LIBRARY, SOURCE
from bench.sweep.yaml_lines import BenchError


def build_cub(pack: Path, nvcc: str, arch: str) -> Path:
    """Compile CUB's algorithms with the CUDA runtime linked in, so that nothing but a driver is needed. Raises
    BenchError."""
    _check_pack(pack)
    found = shutil.which(nvcc)
    if found is None:
        raise BenchError(f"{nvcc} was not found: CUB needs a CUDA toolkit; name its compiler with --nvcc")
    target = extras_of(pack) / LIBRARY
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [found, "-O3", "-std=c++17", f"-arch={arch}", "-shared", "-Xcompiler", "-fPIC", "-cudart", "static"]
    done = subprocess.run([*command, "-o", str(target), str(SOURCE)], capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise BenchError(f"{' '.join(command)} failed:\n{tail}")
    print(f"compiled {target} for {arch}: {target.stat().st_size / 1e6:.1f} MB")
    return target


def unpack_wheels(pack: Path, wheels: Sequence[Path]) -> None:
    """Unpack wheels to where peers look for packages. Raises BenchError."""
    _check_pack(pack)
    folder = extras_of(pack) / PACKED
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                size = sum(each.file_size for each in archive.infolist())
                for each in archive.namelist():
                    if Path(each).is_absolute() or ".." in Path(each).parts:
                        raise BenchError(f"{wheel}: {each} would lie outside of the folder")
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise BenchError(f"{wheel}: {error}") from None
        print(f"unpacked {wheel.name} to {folder}: {size / 1e6:.1f} MB")


def _check_pack(pack: Path) -> None:
    if not (pack / "bench.json").is_file():
        raise BenchError(f"{pack}: no pack of the bench is there")
