"""From the names on the command line to algorithms, and from each to a bundle that holds what a pack needs of it."""

from __future__ import annotations

import ast
import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from texpr.aot.bundle import KERNEL_FILE, SCHEDULE_FILE, BuildOptions, write_bundle
from texpr.aot.cubin import Progress
from texpr.aot.manifest import MANIFEST_FILE, canonical_json, load_manifest
from texpr.compile import chosen_targets, find_schedule, load_algorithm, package_of
from texpr.lang.algorithm import AlgorithmDef
from texpr.packing.errors import NoLauncher, NotComparable, PeersFile, UnknownKernel
from texpr.schedule.records import Schedule
from texpr.targets import target_named

PEERS_FILE: Final = "peers.yaml"
_KEPT: Final = ("lib/", "ptx/", "cubin/", KERNEL_FILE, SCHEDULE_FILE)
"""What of a bundle is of use without a compiler: the launcher, what the emulator reads, what a person reads."""


@dataclass(frozen=True, slots=True)
class Source:
    """An algorithm and the place it came from (``FILE.py:NAME``)."""

    text: str
    definition: AlgorithmDef

    @property
    def file(self) -> Path:
        return Path(self.text.rpartition(":")[0])


def find_sources(names: Sequence[str], kernels: Path) -> list[Source]:
    """The algorithms that ``names`` mean: ``FILE.py:NAME``, or the name of one in a file of the folder ``kernels``.

    Raises UnknownKernel, NotComparable, and what loading a file raises.
    """
    offered = algorithms_in(kernels)
    found: dict[str, Source] = {}
    for name in names:
        text = name
        if ":" not in name:
            files = offered.get(name, [])
            if len(files) != 1:
                many = f"it is in {' and '.join(str(file) for file in files)}; say which one"
                why = many if files else f"no algorithm of {kernels} has this name"
                raise UnknownKernel(name=name, why=why, known=", ".join(sorted(offered)) or "none")
            text = f"{files[0]}:{name}"
        source = Source(text, load_algorithm(text))
        counts = source.definition.signature.counts
        if counts:
            raise NotComparable(name=name, dims=", ".join(count.name for count in counts))
        known = found.setdefault(source.definition.name, source)
        if known.definition is not source.definition and known.text != text:
            why = f"{known.text} has the same name; a pack holds one of them"
            raise UnknownKernel(name=text, why=why, known=", ".join(sorted(offered)) or "none")
    return list(found.values())


def algorithms_in(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder that define each algorithm: functions with a decorator called ``algorithm``. Nothing is
    imported."""
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
            if isinstance(node, ast.FunctionDef) and any(map(_is_algorithm, node.decorator_list)):
                found.setdefault(node.name, []).append(file)
    return found


def _is_algorithm(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "algorithm"


def peers_of(sources: Sequence[Source], file: Path | None) -> dict[str, str]:
    """For each algorithm that has one, the Python expression that computes the same with torch: from ``file``, or from
    ``peers.yaml`` beside each source. Raises PeersFile."""
    found: dict[str, str] = {}
    for source in sources:
        path = file or source.file.parent / PEERS_FILE
        peers = _read_peers(path) if file is not None or path.is_file() else {}
        name = source.definition.name
        if name in peers:
            found[name] = peers[name]
    return found


def _read_peers(file: Path) -> Mapping[str, str]:
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PeersFile(file=file, why=error) from None
    if not isinstance(value, dict):
        raise PeersFile(file=file, why="it is no mapping")
    for name, expression in value.items():
        try:
            ast.parse(expression, mode="eval")
        except (SyntaxError, TypeError, ValueError) as error:
            raise PeersFile(file=file, why=f"{name}: {expression!r} is no Python expression ({error})") from None
    return value


# ---- bundles


def build(
    source: Source,
    out: Path,
    schedule: Path | None,
    targets: Sequence[str] | None,
    types: Mapping[str, str],
    statics: Mapping[str, int],
    progress: Callable[[Progress], None],
) -> tuple[str, ...]:
    """Write the bundle of a source to ``out`` and leave in it only what a pack needs; returns its targets. ``types``
    and ``statics`` may name variables that this algorithm does not have, and ``targets`` some that its schedule does
    not have, as long as one is left. Raises NoLauncher, and what compiling raises."""
    definition = source.definition
    signature = definition.signature
    own_types = {name: value for name, value in types.items() if name in signature.types}
    own_statics = {name: value for name, value in statics.items() if name in signature.statics}
    record = find_schedule(source.text, definition, schedule, targets, own_statics)
    names = chosen_targets(record, _offered(record, targets))
    package = package_of(definition, record, names, own_types, own_statics, with_example=False)
    report = write_bundle(package, out, BuildOptions(targets=names), progress)
    if not report.libraries:
        raise NoLauncher(name=definition.name, why="; ".join(report.warnings))
    strip(out)
    return names


def _offered(schedule: Schedule, asked: Sequence[str] | None) -> list[str] | None:
    """Of the targets asked for those that the schedule has, and names that are no targets; all of them if it has none,
    so that the error names them."""
    if asked is None:
        return None
    have = chosen_targets(schedule, None)
    found = [name for name in asked if (target := target_named(name)) is None or target.name in have]
    return found or list(asked)


def strip(bundle: Path) -> None:
    """Delete what needs a C compiler to be of use, and list in the manifest what is left."""
    manifest = load_manifest(bundle)
    kept = [path for path in manifest["files"] if path.startswith(_KEPT)]
    for path in set(manifest["files"]) - set(kept):
        (bundle / path).unlink()
    for folder in sorted((path for path in bundle.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    manifest["files"] = {path: hashlib.sha256((bundle / path).read_bytes()).hexdigest() for path in kept}
    (bundle / MANIFEST_FILE).write_text(canonical_json(manifest))


