"""``manifest.json``: everything a program other than the C compiler needs to know of a bundle, as schema-versioned
canonical JSON.

Readers need neither Triton nor the compiler. Integer expressions and conditions are text in Python's syntax.
``manifest.schema.json`` beside this file describes the form; a change that breaks
readers raises MANIFEST_VERSION, which the runtime owns.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from texpr.aot.abi import args_fields, context_words, max_launches
from texpr.aot.cubin import CompiledKernel
from texpr.aot.errors import BundleDamagedError
from texpr.aot.ir import (
    Argument,
    Entry,
    Fill,
    IntValue,
    KernelParam,
    KernelSource,
    KernelValue,
    Package,
    PresentFlag,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorMap,
    TensorPointer,
    Variant,
    WorkspacePointer,
)
from texpr.aot.resources import CubinFormatError, cubin_facts
from texpr.domains import Domain
from texpr.math.expr import BoolExpr, IntExpr
from texpr.runtime.manifest import ABI_VERSION, MANIFEST_VERSION, read_manifest

MANIFEST_FILE = "manifest.json"
SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tools:
    """What built a bundle. ``assemblers`` is the ptxas release per target; ``fp_fusion`` whether a*b+c may be
    contracted.
    """

    texpr: str
    triton: str
    assemblers: tuple[tuple[str, str], ...]
    fp_fusion: bool


@dataclass(frozen=True, slots=True)
class Library:
    """A launcher compiled for a host, e.g. ``x86_64-linux-gnu``; ``path`` is relative to the bundle."""

    host: str
    path: str


def cubin_path(kernel: str, target: str) -> str:
    return f"cubin/{kernel}.{target}.cubin"


def ptx_path(sha256: str) -> str:
    return f"ptx/{sha256}.ptx"


def lines_path(sha256: str) -> str:
    return f"ptx/{sha256}.lines.json"


def canonical_json(value: object) -> str:
    """One text per value: sorted keys, ASCII, two-space indent, a newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def build_manifest(
    package: Package,
    compiled: Sequence[CompiledKernel],
    tools: Tools,
    libraries: Sequence[Library],
    files: Mapping[str, bytes],
) -> Json:
    """The manifest of a bundle; ``files`` are all its other files by relative path."""
    return {
        "texpr_manifest": MANIFEST_VERSION,
        "abi_version": ABI_VERSION,
        "name": package.name,
        "targets": list(dict.fromkeys(kernel.target for kernel in compiled)),
        "tools": {
            "texpr": tools.texpr,
            "triton": tools.triton,
            "ptxas": dict(tools.assemblers),
            "fp_fusion": tools.fp_fusion,
        },
        "functions": [_function(entry) for entry in package.entries],
        "kernels": [_kernel(source, compiled) for source in package.kernels],
        "libraries": [{"host": library.host, "path": library.path} for library in libraries],
        "files": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
    }


def _function(entry: Entry) -> Json:
    return {
        "symbol": entry.symbol,
        "types": {name: dtype.value for name, dtype in entry.types},
        "statics": dict(entry.statics),
        "arguments": [_argument(argument) for argument in entry.arguments],
        "dims": list(entry.dims),
        "derived": [{"name": name, "value": str(value)} for name, value in entry.derived],
        "counts": [{"name": c.name, "source": c.source, "room": str(c.room)} for c in entry.counts],
        "facts": [str(fact) for fact in entry.facts],
        "args_struct": [
            {"field": field.c_name, "name": field.name, "role": field.role.value, "type": field.c_type}
            for field in args_fields(entry)
        ],
        "context_words": context_words(entry),
        "max_launches": max_launches(entry),
        "variants": [_variant(variant) for variant in entry.variants],
    }


def _argument(argument: Argument) -> Json:
    common = {
        "name": argument.name,
        "dtype": argument.dtype.value,
        "low": _text(argument.low),
        "high": _text(argument.high),
    }
    match argument:
        case TensorArgument():
            return common | {
                "kind": "tensor",
                "shape": [str(extent) for extent in argument.shape],
                "valid": None if argument.valid is None else [str(extent) for extent in argument.valid],
                "groups": list(argument.groups),
                "output": argument.output,
                "optional": argument.optional,
                "hint": argument.hint,
                "may_alias": argument.may_alias,
                "strides": [{"dim": dim, "name": name} for dim, name in argument.strided],
                "elements": _text(argument.elements),
                "domain": _domain(argument.domain),
                "contracts": [{"kind": c.kind.value, "limit": _text(c.limit)} for c in argument.contracts],
            }
        case ScalarArgument():
            return common | {"kind": "scalar"}
        case _:
            assert_never(argument)


def _domain(domain: Domain | None) -> Json | None:
    return None if domain is None else {"where": domain.text, "indices": list(domain.indices)}


def _variant(variant: Variant) -> Json:
    return {
        "name": variant.name,
        "targets": list(variant.targets),
        "guard": str(variant.guard),
        "limits": [str(limit) for limit in variant.limits],
        "launches": [
            {"kernel": launch.kernel, "grid": str(launch.grid), "fills": [_fill(fill) for fill in launch.fills]}
            for launch in variant.launches
        ],
        "workspace": [
            {"name": buffer.name, "bytes": str(buffer.bytes), "slot": buffer.slot} for buffer in variant.workspace
        ],
        "flops": _text(variant.flops),
        "bytes_moved": _text(variant.bytes_moved),
        "reproducible": variant.reproducible,
    }


def _fill(fill: Fill) -> Json:
    kind, name = _value(fill.target)
    return {"kind": kind, "value": name, "bits": fill.bits, "pattern": fill.pattern, "count": str(fill.count)}


def _kernel(source: KernelSource, compiled: Iterable[CompiledKernel]) -> Json:
    return {
        "name": source.name,
        "cluster": source.ctas,
        "parameters": [_parameter(param) for param in source.params],
        "images": [_image(kernel) for kernel in compiled if kernel.kernel == source.name],
    }


def _image(kernel: CompiledKernel) -> Json:
    """One cubin. ``checked`` says whether ``texpr check`` executed its PTX and found it right."""
    return {
        "target": kernel.target,
        "cubin": cubin_path(kernel.kernel, kernel.target),
        "sha256": kernel.sha256,
        "ptx": ptx_path(kernel.sha256),
        "lines": lines_path(kernel.sha256),
        "threads": 32 * kernel.warps,
        "shared_bytes": kernel.shared_bytes,
        "registers": kernel.registers,
        "stack_bytes": kernel.stack_bytes,
        "spill_store_bytes": kernel.spill_store_bytes,
        "spill_load_bytes": kernel.spill_load_bytes,
        "minimum_driver": kernel.minimum_driver,
        "checked": False,
    }


def _parameter(param: KernelParam) -> Json:
    kind, value = _value(param.value)
    return {"name": param.name, "type": param.type, "divisibility": param.divisibility, "kind": kind, "value": value}


def _value(value: KernelValue) -> tuple[str, str]:
    match value:
        case TensorPointer(argument):
            return "tensor", argument
        case WorkspacePointer(buffer):
            return "workspace", buffer
        case ScalarValue(argument):
            return "scalar", argument
        case IntValue(expression):
            return "integer", str(expression)
        case PresentFlag(argument):
            return "present", argument
        case TensorMap(target):
            return "tensor map", target.argument if isinstance(target, TensorPointer) else target.buffer
        case _:
            assert_never(value)


def _text(expression: IntExpr | BoolExpr | None) -> str | None:
    return None if expression is None else str(expression)


# ---- reading


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` holds a manifest that texpr wrote, of whatever version."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "texpr_manifest" in manifest


def load_manifest(folder: Path) -> Json:
    """The manifest of a bundle as JSON, after the runtime has read it. Raises what
    :func:`texpr.runtime.manifest.read_manifest` does.
    """
    read_manifest(folder)
    manifest: Json = json.loads((folder / MANIFEST_FILE).read_text())
    return manifest


def verify_bundle(folder: Path) -> Json:
    """Check every file's digest and every cubin's facts against the manifest, and return it. Raises BundleDamagedError
    as well.
    """
    manifest = load_manifest(folder)
    listed = dict(manifest["files"])
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST_FILE}
    for problem, paths in (("is missing", set(listed) - present), ("is not listed", present - set(listed))):
        if paths:
            raise BundleDamagedError(path=folder, problem=f"{min(paths)} {problem}")
    for path, digest in listed.items():
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != digest:
            raise BundleDamagedError(path=folder, problem=f"{path} is not the file that was built")
    for kernel in manifest["kernels"]:
        for image in kernel["images"]:
            _verify_image(folder, kernel, image)
    return manifest


def _verify_image(folder: Path, kernel: Json, image: Json) -> None:
    try:
        (facts,) = cubin_facts((folder / image["cubin"]).read_bytes())
    except (CubinFormatError, ValueError) as error:
        raise BundleDamagedError(path=folder, problem=f"{image['cubin']}: {error}") from error
    read = (facts.kernel, facts.registers, facts.stack_bytes, facts.threads, facts.cluster)
    if read != (kernel["name"], image["registers"], image["stack_bytes"], image["threads"], kernel["cluster"]):
        raise BundleDamagedError(path=folder, problem=f"{image['cubin']} has other resources than the manifest says")


def mark_checked(folder: Path, right: Iterable[tuple[str, str]], wrong: Iterable[tuple[str, str]] = ()) -> None:
    """Record for ``(kernel, target)`` pairs that their PTX was run and found right, or wrong; other flags stay.
    Atomic.
    """
    manifest = load_manifest(folder)
    found = dict.fromkeys(right, True) | dict.fromkeys(wrong, False)
    for kernel in manifest["kernels"]:
        for image in kernel["images"]:
            image["checked"] = found.get((kernel["name"], image["target"]), image["checked"])
    descriptor, name = tempfile.mkstemp(dir=folder.parent, prefix=f".{folder.name}-")
    with os.fdopen(descriptor, "w") as file:
        file.write(canonical_json(manifest))
    os.chmod(name, (folder / MANIFEST_FILE).stat().st_mode & 0o777)
    os.replace(name, folder / MANIFEST_FILE)
