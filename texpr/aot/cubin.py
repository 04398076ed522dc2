"""Kernels to cubins: in parallel, through the cache, with the facts that gates and manifests need.

The work itself is done in other processes (pool.py, worker.py). What comes back is checked against the cubin before it
is believed, and every failure becomes an error that names the kernel, the target, the generated line and the schedule
line that asked for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from texpr.aot.cache import Cache, cache_key, default_cache_folder
from texpr.aot.diagnose import explain
from texpr.aot.driver_version import minimum_driver
from texpr.aot.errors import KernelAbiError, ScratchMemoryError, UnknownTargetError
from texpr.aot.ir import KernelSource, TensorMap
from texpr.aot.kernel_text import KernelModule, kernel_module
from texpr.aot.pool import WorkerPool
from texpr.aot.protocol import Compiled, CompileRequest
from texpr.aot.resources import cubin_facts, serialised_of, spills_of
from texpr.aot.toolchain import Toolchain, find_toolchain
from texpr.targets import TARGETS, Target, target_named

# Contracting a*b+c into one rounding is faster and never less accurate; the error bounds of `texpr check` allow for it.
FP_FUSION = True

# Part of every cache key; to be raised when worker.py or lines.py produce something else from the same request.
_CACHE_FORMAT = "2"
_POINTER_BYTES = 8
_TENSOR_MAP_BYTES = 128
_TENSOR_MAP = re.compile(r"tensordesc<\w+\[([\d,]+)\]")
_VALUE_BYTES = {
    "i1": 1, "i8": 1, "u8": 1, "i16": 2, "u16": 2, "fp16": 2, "bf16": 2,
    "i32": 4, "u32": 4, "fp32": 4, "i64": 8, "u64": 8, "fp64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """One kernel for one target. ``ptx`` has no line information; ``lines`` pairs its lines with those of the bundle's
    ``kernel.py``.

    ``warps`` is the block's total (32 threads each). Registers and stack are per thread, shared and scratch memory per
    block, spills static bytes in the code; all sizes in bytes. ``minimum_driver`` is the oldest driver that loads the
    cubin, as a CUDA version (13000 is 13.0). ``serialised``: why matrix instructions of a warpgroup wait for each
    other, if they do.
    """

    kernel: str
    target: str
    cubin: bytes = field(repr=False)
    ptx: str = field(repr=False)
    lines: tuple[tuple[int, int], ...] = field(repr=False)
    shared_bytes: int
    warps: int
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    minimum_driver: int
    global_scratch_bytes: int = 0
    profile_scratch_bytes: int = 0
    serialised: str = ""

    @property
    def sha256(self) -> str:
        """The cubin's digest; it names the PTX beside it."""
        return hashlib.sha256(self.cubin).hexdigest()


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How to compile. ``jobs`` processes (None: one per processor); ``cache`` None compiles everything anew; ``ptxas``
    replaces the assembler of the Triton wheel; ``timeout`` is per kernel and target, in seconds.
    """

    jobs: int | None = None
    cache: Cache | None = field(default_factory=lambda: Cache(default_cache_folder()))
    ptxas: Path | None = None
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Progress:
    """One kernel is done: the ``done``-th of ``total``. ``seconds`` it took, 0 when it came from the cache."""

    done: int
    total: int
    kernel: str
    target: str
    seconds: float
    cached: bool


def silent(progress: Progress) -> None:
    """The progress report of those who do not want one."""


def compile_kernels(
    kernels: Sequence[KernelSource],
    targets: Iterable[str] | None = None,
    options: CompileOptions | None = None,
    report: Callable[[Progress], None] = silent,
) -> tuple[CompiledKernel, ...]:
    """Compile every kernel for each of its targets (those also in ``targets``, when given), in that order.

    Line maps refer to ``kernel_module(kernels)``. Raises the TX060x error of the first kernel that fails,
    ScratchMemoryError, KernelAbiError, UnknownTargetError, MissingCompilerError, MissingAssemblerError,
    AssemblerTargetError.
    """
    options = options or CompileOptions()
    chosen = None if targets is None else {resolve_target(name).name for name in targets}
    module = kernel_module(kernels)
    jobs = [
        _Job(kernel, resolve_target(name), alone)
        for kernel, alone in [(kernel, kernel_module([kernel])) for kernel in kernels]
        for name in kernel.targets
        if chosen is None or resolve_target(name).name in chosen
    ]
    toolchain = find_toolchain(options.ptxas)
    results = _compile_all(jobs, toolchain, options, report)
    return tuple(_finished(job, result, module, toolchain) for job, result in zip(jobs, results, strict=True))


@dataclass(frozen=True, slots=True)
class _Job:
    """One kernel to compile for one target; ``alone`` is the module it is compiled from."""

    kernel: KernelSource
    target: Target
    alone: KernelModule


def resolve_target(name: str) -> Target:
    """The target of that name. Raises UnknownTargetError."""
    target = target_named(name)
    if target is None:
        raise UnknownTargetError(name=name, choices=", ".join(TARGETS))
    return target


def _compile_all(
    jobs: Sequence[_Job], toolchain: Toolchain, options: CompileOptions, report: Callable[[Progress], None]
) -> list[Compiled]:
    """Results in the order of ``jobs``; kernels that differ in nothing the compiler sees are compiled once."""
    requests = [_request(job, toolchain) for job in jobs]
    keys = [_key(request, toolchain, job.target) for request, job in zip(requests, jobs, strict=True)]
    done: dict[str, Compiled] = {}
    reported = 0

    def finish(index: int, result: Compiled, seconds: float, cached: bool) -> None:
        nonlocal reported
        done[keys[index]] = result
        reported += 1
        job = jobs[index]
        report(Progress(reported, len(jobs), job.kernel.name, job.target.name, seconds, cached))

    missing: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        stored = _load(options.cache, key)
        if stored is not None:
            finish(index, stored, 0.0, cached=True)
        else:
            missing.setdefault(key, []).append(index)
    if missing:
        groups = list(missing.values())
        processes = min(options.jobs or os.cpu_count() or 1, len(groups))
        with WorkerPool(processes, toolchain.override, options.timeout) as pool:
            for position, outcome, seconds in pool.run([requests[group[0]] for group in groups]):
                first, *equal = groups[position]
                if not isinstance(outcome, Compiled):
                    raise explain(outcome, jobs[first].kernel, jobs[first].target, requests[first])
                if options.cache is not None:
                    options.cache.put(keys[first], _encode(outcome))
                finish(first, outcome, seconds, cached=False)
                for index in equal:
                    finish(index, outcome, 0.0, cached=True)
    return [done[key] for key in keys]


def _request(job: _Job, toolchain: Toolchain) -> CompileRequest:
    return CompileRequest(
        text=job.alone.text,
        kernel=job.kernel.name,
        signature=tuple((param.name, param.type, param.divisibility) for param in job.kernel.params),
        warps=job.kernel.warps,
        capability=job.target.capability,
        arch=job.target.name,
        fp_fusion=FP_FUSION,
        assembler=str(toolchain.assembler(job.target).path),
        registers=job.kernel.registers,
        ctas=job.kernel.ctas,
    )


def _key(request: CompileRequest, toolchain: Toolchain, target: Target) -> str:
    """Everything the result depends on, and nothing else: not the assembler's path, not the origins of lines."""
    assembler = toolchain.assembler(target)
    return cache_key(
        _CACHE_FORMAT,
        toolchain.triton,
        assembler.version,
        assembler.fingerprint,
        request.arch,
        str(request.fp_fusion),
        str(request.warps),
        str(request.registers),
        str(request.ctas),
        json.dumps(request.signature),
        request.kernel,
        request.text,
    )


_NUMBERS = ("shared_bytes", "warps", "global_scratch_bytes", "profile_scratch_bytes")


def _encode(result: Compiled) -> bytes:
    header = {name: getattr(result, name) for name in _NUMBERS}
    header |= {"lines": result.lines, "log": result.log, "ptx": result.ptx, "maps": result.maps}
    return json.dumps(header).encode() + b"\n" + result.cubin


def _load(cache: Cache | None, key: str) -> Compiled | None:
    value = cache.get(key) if cache is not None else None
    if value is None:
        return None
    header, _, cubin = value.partition(b"\n")
    fields = json.loads(header)
    lines = tuple((ptx_line, gluon_line) for ptx_line, gluon_line in fields["lines"])
    maps = tuple((tuple(box), swizzle) for box, swizzle in fields["maps"])
    numbers = {name: fields[name] for name in _NUMBERS}
    return Compiled(ptx=fields["ptx"], lines=lines, cubin=cubin, log=fields["log"], maps=maps, **numbers)


def _finished(job: _Job, result: Compiled, module: KernelModule, toolchain: Toolchain) -> CompiledKernel:
    """Check the cubin against what the launcher will assume, and move the line map to the bundle's module."""
    kernel, target = job.kernel, job.target
    for kind, size in (("global", result.global_scratch_bytes), ("profile", result.profile_scratch_bytes)):
        if size:
            raise ScratchMemoryError(kernel=kernel.name, target=target, bytes=size, kind=kind)
    (facts,) = (facts for facts in cubin_facts(result.cubin) if facts.kernel == kernel.name)
    passed = [size for param in kernel.params for size in parameter_bytes(param.type)]
    parameters = (*passed, _POINTER_BYTES, _POINTER_BYTES)
    expected = (parameters, 32 * result.warps, kernel.ctas, target.capability)
    actual = (facts.parameters, facts.threads, facts.cluster, facts.capability)
    if actual != expected:
        raise KernelAbiError(kernel=kernel.name, target=target, actual=_abi(*actual), expected=_abi(*expected))
    maps = [param.value for param in kernel.params if isinstance(param.value, TensorMap)]
    boxes = tuple((tensor_map.box, tensor_map.swizzle) for tensor_map in maps)
    if boxes != result.maps:
        raise KernelAbiError(kernel=kernel.name, target=target, actual=_boxes(result.maps), expected=_boxes(boxes))
    first = job.alone.first_line(kernel.name)
    shift = module.first_line(kernel.name) - first
    spills = spills_of(result.log)
    return CompiledKernel(
        kernel=kernel.name,
        target=target.name,
        cubin=result.cubin,
        ptx=result.ptx,
        lines=tuple((ptx_line, line + shift) for ptx_line, line in result.lines if line >= first),
        shared_bytes=result.shared_bytes,
        warps=result.warps,
        registers=facts.registers,
        stack_bytes=facts.stack_bytes,
        spill_store_bytes=spills.store_bytes,
        spill_load_bytes=spills.load_bytes,
        minimum_driver=minimum_driver(toolchain.assembler(target).version, target),
        serialised=serialised_of(result.log),
    )


def _boxes(maps: Sequence[tuple[tuple[int, ...], int]]) -> str:
    boxes = [f"{' x '.join(map(str, box))} swizzled over {swizzle} bytes" for box, swizzle in maps]
    return f"tensor maps of {', '.join(boxes) or 'nothing'}"


def _abi(parameters: tuple[int, ...], threads: int, cluster: int, capability: int) -> str:
    together = f", clusters of {cluster} blocks" if cluster > 1 else ""
    return f"parameters of {list(parameters)} bytes, {threads} threads{together}, capability {capability}"


def parameter_bytes(kind: str) -> tuple[int, ...]:
    """Sizes of the parameters of the machine code for one of Triton type ``kind``: a tensor map comes with its shape
    and its strides. Raises ValueError for a type that is not passed by value."""
    if kind.startswith("*"):
        return (_POINTER_BYTES,)
    box = _TENSOR_MAP.match(kind)
    if box is not None:
        rank = box[1].count(",") + 1
        return (_TENSOR_MAP_BYTES, *[4] * rank, *[8] * rank)
    if kind not in _VALUE_BYTES:
        raise ValueError(f"a kernel parameter of type '{kind}' cannot be passed by value")
    return (_VALUE_BYTES[kind],)
