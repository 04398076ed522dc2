"""``python -m texpr.runtime info DIR``: what a bundle contains, in words."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from texpr.errors import TExprError
from texpr.runtime.manifest import Entry, Kernel, Manifest, read_manifest


def main(arguments: Sequence[str]) -> int:
    """Returns 0; 1 when ``--verify`` finds a damaged file; 2 when the directory is not a bundle."""
    parser = argparse.ArgumentParser(prog="python -m texpr.runtime", description="Look into TExpr bundles.")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="print a bundle's functions, variants and kernels")
    info.add_argument("directory", type=Path, metavar="DIR", help="a directory written by `texpr aot`")
    info.add_argument("--verify", action="store_true", help="compare every file with its checksum in the manifest")
    options = parser.parse_args(arguments)
    try:
        manifest = read_manifest(options.directory)
    except TExprError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(describe(manifest)))
    if not options.verify:
        return 0
    damaged = list(damaged_files(manifest))
    print("\n".join(damaged) if damaged else f"all {len(manifest.files)} files are as built")
    return 1 if damaged else 0


def describe(manifest: Manifest) -> Iterator[str]:
    """The lines of ``info``."""
    hosts = ", ".join(sorted(manifest.libraries)) or "none"
    yield f"bundle {manifest.name}   targets {', '.join(manifest.targets())}   launcher built for {hosts}"
    for entry in manifest.entries:
        yield from _describe_entry(entry)
    for kernel in manifest.kernels:
        yield from _describe_kernel(kernel)


def _describe_entry(entry: Entry) -> Iterator[str]:
    yield ""
    yield entry.describe()
    yield f"  {entry.signature()}"
    if entry.facts:
        yield f"  requires {', '.join(entry.facts)}"
    for variant in entry.variants:
        yield f"  variant {variant.name}   on {', '.join(variant.targets)}"
        yield f"    when {variant.guard}"
        yield f"    launches {' then '.join(variant.kernels)}"
        if variant.workspace:
            yield f"    workspace {', '.join(variant.workspace)}"


def _describe_kernel(kernel: Kernel) -> Iterator[str]:
    yield ""
    yield f"kernel {kernel.name}" + (f"   in clusters of {kernel.cluster}" if kernel.cluster > 1 else "")
    for cubin in kernel.cubins:
        size = f"{cubin.threads:>4} threads  {cubin.registers:>3} registers"
        memory = f"{cubin.shared_bytes:>6} B shared  {cubin.stack_bytes:>4} B stack"
        yield f"  {cubin.target:<8} {size}  {memory}  {'checked' if cubin.checked else 'not checked'}"


def damaged_files(manifest: Manifest) -> Iterator[str]:
    """One line per file of the manifest that is missing or has other content."""
    for file, digest in sorted(manifest.files.items()):
        path = manifest.directory / file
        if not path.is_file():
            yield f"missing: {file}"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"changed: {file}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
