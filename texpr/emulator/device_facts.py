"""What the simulated device says of itself: answers to ``cuDeviceGetAttribute``, and how many programs fit on a
multiprocessor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from texpr.emulator.cuda import STATIC_SHARED_LIMIT, DeviceAttribute
from texpr.targets import TARGETS

TOTAL_MEMORY: Final = 8 << 30
"""Bytes of memory that the device claims to have."""

LARGEST_GRID: Final = (2**31 - 1, 65535, 65535)
LARGEST_BLOCK: Final = (1024, 1024, 64)
_RESERVED_SHARED: Final = 1024
_OTHER_SHARED_LIMIT: Final = 64 * 1024
_REGISTERS: Final = 65536
_REGISTER_UNIT: Final = 256  # registers are given to warps in pieces of this size
_SHARED_UNIT: Final = 128
_WARP_UNIT: Final = 4
_LAST_ATTRIBUTE: Final = 146


@dataclass(frozen=True, slots=True)
class _Residency:
    """What a multiprocessor holds. Source: CUDA C++ Programming Guide, "Technical Specifications per Compute
    Capability"."""

    threads: int
    blocks: int
    shared_bytes: int


_RESIDENCY: Final = {
    80: _Residency(2048, 32, 164 << 10),
    86: _Residency(1536, 16, 100 << 10),
    87: _Residency(1536, 16, 164 << 10),
    89: _Residency(1536, 24, 100 << 10),
    90: _Residency(2048, 32, 228 << 10),
    100: _Residency(2048, 32, 228 << 10),
    110: _Residency(1536, 24, 228 << 10),
    120: _Residency(1536, 24, 100 << 10),
}


def shared_limit(sm: int) -> int:
    """Opt-in shared memory of one block in bytes."""
    limits = (target.shared_limit for target in TARGETS.values() if target.capability == sm)
    return max(limits, default=_OTHER_SHARED_LIMIT)


def _residency(sm: int) -> _Residency:
    return _RESIDENCY.get(sm) or _Residency(2048, 32, shared_limit(sm) + _RESERVED_SHARED)


def attributes(sm: int, multiprocessors: int) -> dict[int, int]:
    """Values of all attributes. Those that are not listed are features that the emulator does not have: 0."""
    limit, residency = shared_limit(sm), _residency(sm)
    known = {
        DeviceAttribute.MAX_THREADS_PER_BLOCK: 1024,
        DeviceAttribute.MAX_BLOCK_DIM_X: LARGEST_BLOCK[0],
        DeviceAttribute.MAX_BLOCK_DIM_Y: LARGEST_BLOCK[1],
        DeviceAttribute.MAX_BLOCK_DIM_Z: LARGEST_BLOCK[2],
        DeviceAttribute.MAX_GRID_DIM_X: LARGEST_GRID[0],
        DeviceAttribute.MAX_GRID_DIM_Y: LARGEST_GRID[1],
        DeviceAttribute.MAX_GRID_DIM_Z: LARGEST_GRID[2],
        DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK: STATIC_SHARED_LIMIT,
        DeviceAttribute.TOTAL_CONSTANT_MEMORY: 64 * 1024,
        DeviceAttribute.WARP_SIZE: 32,
        DeviceAttribute.MAX_PITCH: 2**31 - 1,
        DeviceAttribute.MAX_REGISTERS_PER_BLOCK: _REGISTERS,
        DeviceAttribute.CLOCK_RATE: 1_000_000,
        DeviceAttribute.TEXTURE_ALIGNMENT: 512,
        DeviceAttribute.MULTIPROCESSOR_COUNT: multiprocessors,
        DeviceAttribute.CONCURRENT_KERNELS: 1,
        DeviceAttribute.MEMORY_CLOCK_RATE: 1_000_000,
        DeviceAttribute.GLOBAL_MEMORY_BUS_WIDTH: 256,
        DeviceAttribute.L2_CACHE_SIZE: 4 << 20,
        DeviceAttribute.MAX_THREADS_PER_MULTIPROCESSOR: residency.threads,
        DeviceAttribute.ASYNC_ENGINE_COUNT: 1,
        DeviceAttribute.UNIFIED_ADDRESSING: 1,
        DeviceAttribute.COMPUTE_CAPABILITY_MAJOR: sm // 10,
        DeviceAttribute.COMPUTE_CAPABILITY_MINOR: sm % 10,
        DeviceAttribute.STREAM_PRIORITIES_SUPPORTED: 1,
        DeviceAttribute.MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: limit + _RESERVED_SHARED,
        DeviceAttribute.MAX_REGISTERS_PER_MULTIPROCESSOR: _REGISTERS,
        DeviceAttribute.SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO: 2,
        DeviceAttribute.COMPUTE_PREEMPTION_SUPPORTED: 1,
        DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: limit,
        DeviceAttribute.MAX_BLOCKS_PER_MULTIPROCESSOR: residency.blocks,
        DeviceAttribute.RESERVED_SHARED_MEMORY_PER_BLOCK: _RESERVED_SHARED,
        DeviceAttribute.MEMORY_POOLS_SUPPORTED: 1,
        DeviceAttribute.CLUSTER_LAUNCH: int(sm >= 90),
        DeviceAttribute.TENSOR_MAP_ACCESS_SUPPORTED: int(sm >= 90),
    }
    return dict.fromkeys(range(1, _LAST_ATTRIBUTE + 1), 0) | {int(name): value for name, value in known.items()}


def resident_blocks(sm: int, *, threads: int, registers: int, shared: int) -> int:
    """How many blocks of ``threads`` threads, ``registers`` registers a thread and ``shared`` bytes of shared memory
    fit on one multiprocessor at a time. Source: NVIDIA's occupancy calculator (allocation units of 8.0 and later)."""
    residency = _residency(sm)
    warps = -(-threads // 32)
    if shared > shared_limit(sm) or threads > LARGEST_BLOCK[0]:
        return 0
    per_warp = -(-max(registers, 1) * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    warps_by_registers = _REGISTERS // per_warp // _WARP_UNIT * _WARP_UNIT
    per_block = -(-(shared + _RESERVED_SHARED) // _SHARED_UNIT) * _SHARED_UNIT
    return min(
        residency.blocks,
        residency.threads // 32 // warps,
        warps_by_registers // warps,
        residency.shared_bytes // per_block,
    )
