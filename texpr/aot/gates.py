"""Refuses compiled kernels that need more than they may: the target's limits always, the user's gates when set."""

from __future__ import annotations

from dataclasses import dataclass

from texpr.aot.cubin import CompiledKernel
from texpr.aot.diagnose import location_of, origin_of
from texpr.aot.errors import (
    BlockSizeError,
    ClusterSizeError,
    RegisterGateError,
    SharedMemoryGateError,
    SharedMemoryLimitError,
    SpillError,
)
from texpr.aot.ir import KernelSource
from texpr.targets import TARGETS

_ALLOCATION = "allocate_shared_memory"
_LARGEST_CLUSTER = 8
"""Programs of a cluster that run on every GPU which has clusters; more depend on the GPU."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits the user sets on every kernel: registers per thread, shared bytes per block (None: only the target's own
    limits).
    """

    forbid_spills: bool = False
    max_registers: int | None = None
    max_shared: int | None = None


def check_gates(source: KernelSource, kernel: CompiledKernel, gates: Gates) -> None:
    """Raises SharedMemoryLimitError, BlockSizeError, ClusterSizeError, SharedMemoryGateError, SpillError or
    RegisterGateError.

    Triton itself checks none of these: a kernel over the target's shared memory would compile, and fail when launched.
    """
    target = TARGETS[kernel.target]
    allocations = [index for index, line in enumerate(source.text.splitlines()) if _ALLOCATION in line]
    at = location_of(source, target, allocations[0] if allocations else None)
    shared_excerpt = "\n".join(_described(source, index) for index in allocations)
    most_warps = target.max_threads // 32
    if kernel.shared_bytes > target.shared_limit:
        raise SharedMemoryLimitError(
            at=at,
            excerpt=shared_excerpt,
            kernel=kernel.kernel,
            target=target,
            needed=kernel.shared_bytes,
            limit=target.shared_limit,
        )
    if kernel.warps > most_warps:
        raise BlockSizeError(kernel=kernel.kernel, target=target, warps=kernel.warps, limit=most_warps)
    most_programs = _LARGEST_CLUSTER if target.has_multicast else 1
    if source.ctas > most_programs:
        raise ClusterSizeError(kernel=kernel.kernel, target=target, programs=source.ctas, limit=most_programs)
    if gates.max_shared is not None and kernel.shared_bytes > gates.max_shared:
        raise SharedMemoryGateError(
            at=at,
            excerpt=shared_excerpt,
            kernel=kernel.kernel,
            target=target,
            needed=kernel.shared_bytes,
            limit=gates.max_shared,
        )
    at = location_of(source, target, None)
    if gates.forbid_spills and (kernel.spill_store_bytes or kernel.spill_load_bytes):
        raise SpillError(
            at=at,
            kernel=kernel.kernel,
            target=target,
            stores=kernel.spill_store_bytes,
            loads=kernel.spill_load_bytes,
            registers=kernel.registers,
            stack=kernel.stack_bytes,
        )
    if gates.max_registers is not None and kernel.registers > gates.max_registers:
        raise RegisterGateError(
            at=at, kernel=kernel.kernel, target=target, registers=kernel.registers, limit=gates.max_registers
        )


def _described(source: KernelSource, index: int) -> str:
    """A line that allocates shared memory, and what it is for."""
    origin = origin_of(source, index)
    line = source.text.splitlines()[index].strip()
    return f"{line}    # {origin.node}" if origin is not None and origin.node else line
