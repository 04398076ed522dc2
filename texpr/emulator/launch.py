"""The emulated device: memory and launches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.batch import Batch, Shape
from texpr.emulator.clusters import cluster_of_launch, programs_by_cluster
from texpr.emulator.conflicts import GlobalConflicts
from texpr.emulator.counters import Counters, Launched
from texpr.emulator.faults import LaunchError
from texpr.emulator.kernel import Kernel, PtxModule
from texpr.emulator.layouts import Layout
from texpr.emulator.machine import Machine
from texpr.emulator.memory import GlobalMemory
from texpr.emulator.parallel import WIDE, Nature, nature_of, run_batches
from texpr.emulator.statistics import LaunchStats
from texpr.emulator.workers import default_workers, launching

_MAX_THREADS = 1024
_MAX_GRID = (2**31 - 1, 65535, 65535)
_MACHINES_KEPT = 8
_RESIDENT = 16
"""Programs that run side by side if they may wait for each other."""

_WIDEST = 8192
"""Lanes of a batch beyond which more of them make nothing faster."""


class Device:
    """A GPU that exists only as memory and an instruction table.

    `sm`: the compute capability (80, 90, ...) that modules must be built for.  `checks`: detect races,
    uninitialised reads and conflicts (bounds and alignment are always checked).  `batch`: how many programs run
    side by side; like the number of programs resident on a GPU, it bounds who can wait for whom.  By default 16, or,
    if the programs cannot wait for each other, what is fastest.  `workers`: how many processes the batches of a large
    launch may use (see `parallel.py`; default: the processors, or `TEXPR_EMULATOR_WORKERS`); no result depends on it.
    `multiprocessors` is only reported.  `seed`: None starts programs in ascending order and runs warps in lockstep
    where possible, and asynchronous copies are as late as possible; a number (0 or more) fixes random orders of
    programs and warps and random moments, the same for every launch.  `step_limit`: blocks a batch may execute before
    it counts as hung.  `counters`: count what launches do (see `counters.py`), at some cost.
    """

    def __init__(
        self,
        sm: int = 80,
        checks: bool = True,
        batch: int | None = None,
        multiprocessors: int = 4,
        *,
        workers: int | None = None,
        seed: int | None = None,
        step_limit: int = 3_000_000,
        counters: bool = False,
    ) -> None:
        if batch is not None and batch < 1:
            raise ValueError("a batch has at least one program")
        if seed is not None and seed < 0:
            raise ValueError(f"the seed of a schedule is 0 or more, not {seed}")
        if workers is not None and workers < 1:
            raise ValueError("there is at least one worker")
        self.sm = sm
        self.checks = checks
        self.batch = batch
        self.workers = default_workers() if workers is None else workers
        self.multiprocessors = multiprocessors
        self.seed = seed
        self.step_limit = step_limit
        self.counters = counters
        self.memory = GlobalMemory()
        self._symbols: dict[int, tuple[PtxModule, dict[str, int]]] = {}
        self._machines: OrderedDict[tuple[int, str, Shape], Machine] = OrderedDict()
        self._natures: dict[tuple[int, str], Nature] = {}

    # Memory -------------------------------------------------------------------------------------------------

    def alloc(self, nbytes: int, name: str = "buffer", align: int = 256) -> int:
        """Allocate global memory; its content is unwritten (the host reads 0xFF). Returns the address."""
        return self.memory.allocate(nbytes, name, align).address

    def free(self, addr: int) -> None:
        """Free an allocation by its start address; later accesses to it are faults."""
        self.memory.free(addr)

    def rename(self, addr: int, name: str) -> None:
        """Give the allocation that contains `addr` another name in fault messages."""
        self.memory.span(addr, 0)[0].name = name

    def set_layout(self, addr: int, layout: Layout | None) -> None:
        """Say what tensor lies in the allocation that contains `addr`, for fault messages."""
        self.memory.span(addr, 0)[0].layout = layout

    def write(self, addr: int, data: bytes | bytearray | memoryview | NDArray[Any]) -> None:
        """Copy bytes from the host; raises ValueError outside of one allocation."""
        octets = _octets(data)
        allocation, offset = self.memory.span(addr, len(octets))
        allocation.data[offset : offset + len(octets)] = octets
        allocation.mark_written(offset, len(octets))

    def read(self, addr: int, nbytes: int) -> bytes:
        """Copy bytes to the host; bytes that nobody wrote read as 0xFF (see `unwritten`)."""
        allocation, offset = self.memory.span(addr, nbytes)
        return allocation.data[offset : offset + nbytes].tobytes()

    def fill(self, addr: int, value: int, count: int, element: int = 1) -> None:
        """Set `count` elements of `element` bytes (1, 2 or 4); the address is a multiple of that."""
        nbytes = count * element
        allocation, offset = self.memory.span(addr, nbytes)
        allocation.data[offset : offset + nbytes].view(f"u{element}")[:] = value
        allocation.mark_written(offset, nbytes)

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Copy bytes on the device; bytes that nobody wrote stay unwritten."""
        target, at = self.memory.span(to, nbytes)
        origin, start = self.memory.span(source, nbytes)
        data, written = origin.data[start : start + nbytes].copy(), origin.written[start : start + nbytes].copy()
        target.data[at : at + nbytes] = data
        target.written[at : at + nbytes] = written
        target.complete = target.complete and bool(written.all())

    def written(self, addr: int, nbytes: int) -> NDArray[np.bool_]:
        """Per byte, whether host or device has written it."""
        allocation, offset = self.memory.span(addr, nbytes)
        flags: NDArray[np.bool_] = allocation.written[offset : offset + nbytes] != 0
        return flags

    def unwritten(self, addr: int, nbytes: int) -> int:
        """How many of these bytes neither host nor device has written."""
        allocation, offset = self.memory.span(addr, nbytes)
        return int((allocation.written[offset : offset + nbytes] == 0).sum())

    # Launches -----------------------------------------------------------------------------------------------

    def launch(
        self,
        module: PtxModule,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        shared: int = 0,
        params: Sequence[bytes] = (),
        cluster: Sequence[int] | None = None,
    ) -> LaunchStats:
        """Run a kernel to its end.

        `shared` is the dynamic shared memory in bytes; `params` are the parameters' bytes, little endian and of
        the exact sizes.  `cluster` are the programs per cluster; None: what the kernel says (one, if it says nothing),
        unless it demands that the launch says so too.  Raises `LaunchError` if the launch itself is wrong, `PtxError`
        if an instruction cannot be bound, `Fault` if the kernel commits one.
        """
        entry = self._kernel(module, kernel)
        extents = _extents(grid, "grid", kernel)
        if any(extent > limit for extent, limit in zip(extents, _MAX_GRID, strict=True)):
            raise LaunchError(f"{kernel}: grid {extents} exceeds the limits {_MAX_GRID}")
        shape_block = _extents(block, "block", kernel)
        self._check_block(entry, shape_block)
        together = cluster_of_launch(entry, extents, cluster, self.sm)
        packed = _pack_params(entry, params)
        for allocation in self.memory.live():
            allocation.summarise()
        with launching():
            return self._run(module, entry, extents, shape_block, together, shared, packed)

    def _run(
        self,
        module: PtxModule,
        entry: Kernel,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        cluster: tuple[int, int, int],
        shared: int,
        packed: bytes,
    ) -> LaunchStats:
        total = grid[0] * grid[1] * grid[2]
        together = cluster[0] * cluster[1] * cluster[2]
        nature = self._nature(module, entry)
        size = self._batch_size(nature, total, block, together)
        order = self._program_order(grid, cluster)
        batches = [order[start : start + size] for start in range(0, total, size)]
        # Bound here, so that processes forked later have them.
        machines = {
            count: self._machine(module, entry, Shape(block, count, shared, self.checks, self.counters, cluster))
            for count in dict.fromkeys(map(len, batches))
        }
        for machine in machines.values():
            if machine.recorder is not None:
                machine.recorder.clear()
        first = machines[len(batches[0])].batch
        synchronises = first.global_space.synchronises or together > 1
        conflicts = GlobalConflicts(total, first.warps_per_program, synchronises=synchronises) if self.checks else None

        def run(some: Sequence[Sequence[int]]) -> LaunchStats:
            stats = LaunchStats.nothing()
            for programs in some:
                stats += machines[len(programs)].run(programs, grid, packed, conflicts)
            return stats if not self.counters else replace(stats, counters=_counted(machines, some))

        stats = run_batches(run, batches, self.memory, self.workers, nature, first.lanes)
        if stats.counters is None:
            return stats
        return replace(stats, counters=Counters({entry.name: Launched(launches=1)}) + stats.counters)

    def _nature(self, module: PtxModule, kernel: Kernel) -> Nature:
        key = (id(module), kernel.name)
        if key not in self._natures:
            # The symbols keep the module, and so its id.
            self._module_symbols(module)
            self._natures[key] = nature_of(kernel)
        return self._natures[key]

    def _batch_size(self, nature: Nature, total: int, block: tuple[int, int, int], together: int) -> int:
        """Programs per batch, in whole clusters (of `together` programs). It depends on the launch alone, not on the
        number of processes."""
        clusters = total // together
        if self.batch is not None or not nature.independent:
            return together * min(max(1, (self.batch or _RESIDENT) // together), clusters)
        threads = block[0] * block[1] * block[2]
        if total * threads <= 2 * WIDE:
            return total
        # At least two, for two processors; as even as possible, since a batch of another size must be bound anew.
        batches = max(2, -(-total * threads // _WIDEST))
        return together * -(-clusters // min(batches, clusters))

    def _program_order(self, grid: tuple[int, int, int], cluster: tuple[int, int, int]) -> Sequence[int]:
        """The order in which programs start: ascending, or random under a seed; those of a cluster together."""
        if self.seed is None and cluster == (1, 1, 1):
            return range(grid[0] * grid[1] * grid[2])
        clusters = programs_by_cluster(grid, cluster)
        if self.seed is not None:
            clusters = clusters[np.random.default_rng(self.seed).permutation(len(clusters))]
        order: list[int] = clusters.reshape(-1).tolist()
        return order

    def symbols(self, module: PtxModule) -> dict[str, int]:
        """Addresses of a module's own variables in global and constant memory, by name."""
        return dict(self._module_symbols(module))

    def _kernel(self, module: PtxModule, name: str) -> Kernel:
        if name not in module.kernels:
            known = ", ".join(module.kernels) or "none"
            raise LaunchError(f"{module.name} has no kernel {name!r} (it has: {known})")
        self._check_target(module)
        return module.kernels[name]

    def _check_target(self, module: PtxModule) -> None:
        digits = "".join(character for character in module.target if character.isdigit())
        specific = module.target[-1:] in ("a", "f")
        wanted = int(digits) if digits else 0
        if wanted > self.sm or (specific and wanted != self.sm):
            raise LaunchError(f"{module.name} is for {module.target}, the device is sm_{self.sm}")

    def _check_block(self, kernel: Kernel, block: tuple[int, int, int]) -> None:
        threads = block[0] * block[1] * block[2]
        if threads > _MAX_THREADS:
            raise LaunchError(f"{kernel.name}: {threads} threads per program; at most {_MAX_THREADS} are possible")
        if kernel.reqntid is not None and kernel.reqntid != block:
            raise LaunchError(f"{kernel.name}: the block is {block}, the kernel requires {kernel.reqntid}")

    def _module_symbols(self, module: PtxModule) -> dict[str, int]:
        """Addresses of the module's own variables, allocated at its first launch."""
        if id(module) not in self._symbols:
            symbols: dict[str, int] = {}
            for variable in module.variables:
                if variable.space in ("global", "const"):
                    address = self.alloc(variable.size, variable.name, variable.align)
                    self.write(address, variable.data.ljust(variable.size, b"\0"))
                    self.memory.span(address, 0)[0].read_only = variable.space == "const"
                    symbols[variable.name] = address
            self._symbols[id(module)] = (module, symbols)
        return self._symbols[id(module)][1]

    def _machine(self, module: PtxModule, kernel: Kernel, shape: Shape) -> Machine:
        """The last few machines are kept: binding costs about as much as running a small batch."""
        key = (id(module), kernel.name, shape)
        if key not in self._machines:
            batch = Batch(module, kernel, shape, self.memory, self._module_symbols(module))
            self._machines[key] = Machine(batch, self.step_limit, self.seed)
        self._machines.move_to_end(key)
        while len(self._machines) > _MACHINES_KEPT:
            self._machines.popitem(last=False)
        return self._machines[key]


def _counted(machines: Mapping[int, Machine], batches: Sequence[Sequence[int]]) -> Counters:
    """What the machines have counted since they were last asked; `machines` by the size of their batches."""
    found: list[Counters] = []
    for size, machine in machines.items():
        programs = sum(size for batch in batches if len(batch) == size)
        if machine.recorder is not None and programs:
            found.append(machine.recorder.counters(programs))
            machine.recorder.clear()
    return Counters.total(found)


def _octets(data: bytes | bytearray | memoryview | NDArray[Any]) -> NDArray[np.uint8]:
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def _extents(values: Sequence[int], what: str, kernel: str) -> tuple[int, int, int]:
    padded = [int(value) for value in values] + [1] * (3 - len(values))
    if len(padded) != 3 or min(padded) < 1:
        raise LaunchError(f"{kernel}: {what} {tuple(values)} must be one to three positive extents")
    return padded[0], padded[1], padded[2]


def _pack_params(kernel: Kernel, params: Sequence[bytes]) -> bytes:
    if len(params) != len(kernel.params):
        raise LaunchError(f"{kernel.name} takes {len(kernel.params)} parameters, {len(params)} given")
    packed = bytearray(max((param.offset + param.size for param in kernel.params), default=0))
    for number, (param, data) in enumerate(zip(kernel.params, params, strict=True)):
        if len(data) != param.size:
            raise LaunchError(
                f"{kernel.name}: parameter {number} ({param.name}) has {param.size} bytes, {len(data)} given"
            )
        packed[param.offset : param.offset + param.size] = data
    return bytes(packed)


