"""The state of a batch of programs (CTAs) that run side by side: what instructions read and change.

A *lane* is one thread of one program; lane = slot * threads + thread, where the slot is the program's place in
the batch.  Threads per program are rounded up to whole warps; the lanes added never run.  Everything per lane
is an array over all lanes, so that one NumPy call executes an instruction for every program of the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.async_copies import AsyncCopies
from texpr.emulator.bulk_copies import BulkCopies
from texpr.emulator.cluster_barriers import ClusterBarriers
from texpr.emulator.cluster_space import ClusterSpace
from texpr.emulator.conflicts import GlobalConflicts
from texpr.emulator.faults import Fault, FaultKind
from texpr.emulator.fragments import FragmentCache
from texpr.emulator.generic_space import GenericSpace
from texpr.emulator.global_space import GlobalSpace
from texpr.emulator.kernel import Kernel, PtxModule
from texpr.emulator.livelock import Observer
from texpr.emulator.mbarriers import Mbarriers
from texpr.emulator.memory import GlobalMemory
from texpr.emulator.ptx import Instruction
from texpr.emulator.registers import RegisterFile
from texpr.emulator.rows import Array, Mask
from texpr.emulator.shared_space import SharedSpace
from texpr.emulator.spaces import LocalSpace
from texpr.emulator.specials import SpecialRegisters
from texpr.emulator.wgmma_state import WgmmaState

WARP = 32


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch is built for: everything that fixes the sizes of its arrays."""

    block: tuple[int, int, int]
    programs: int
    shared_bytes: int
    checks: bool
    counters: bool = False
    cluster: tuple[int, int, int] = (1, 1, 1)

    @property
    def threads(self) -> int:
        """Threads of one program that exist."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def cluster_size(self) -> int:
        """Programs of a cluster; they have consecutive slots."""
        return self.cluster[0] * self.cluster[1] * self.cluster[2]

    @property
    def padded_threads(self) -> int:
        """Threads of one program rounded up to whole warps: the stride of a program's lanes."""
        return -(-self.threads // WARP) * WARP


class Batch:
    """Registers, memories and identities of the lanes of `shape.programs` programs.

    Bound instructions keep views of these arrays, so none of them is ever replaced: `start` refills them.
    """

    def __init__(self, module: PtxModule, kernel: Kernel, shape: Shape, memory: GlobalMemory, symbols: dict[str, int]):
        self.module = module
        self.kernel = kernel
        self.shape = shape
        self.lanes = shape.programs * shape.padded_threads
        self.warps = self.lanes // WARP
        self.warps_per_program = shape.padded_threads // WARP
        self.slot = np.repeat(np.arange(shape.programs), shape.padded_threads)
        self.thread = np.tile(np.arange(shape.padded_threads), shape.programs)
        self.rank = np.arange(shape.programs) % shape.cluster_size
        """Per slot: the program's number in its cluster."""
        self.exists = self.thread < shape.threads
        self.programs: NDArray[np.int64] = np.zeros(shape.programs, np.int64)
        self.grid = (1, 1, 1)
        ranks = self.rank[self.slot]
        self.specials = SpecialRegisters(self.thread, ranks, shape.block, shape.cluster, shape.shared_bytes)
        self.carry = np.zeros(self.lanes, np.bool_)
        self.params = np.zeros(max((p.offset + p.size for p in kernel.params), default=0), np.uint8)
        self.memory = memory
        self.global_space = GlobalSpace(self, memory)
        self.shared_space = SharedSpace(self, shape.shared_bytes, [v for v in self._variables() if v.space == "shared"])
        self.local_space = LocalSpace(self, [v for v in kernel.variables if v.space in ("local", "param")])
        self.cluster_space = self.shared_space if shape.cluster_size == 1 else ClusterSpace(self.shared_space)
        """Shared memory by addresses that may lead to other programs of the cluster."""
        self.generic_space = GenericSpace(self)
        param_symbols = {param.name: param.offset for param in kernel.params}
        self.symbols = symbols | param_symbols | self.shared_space.symbols | self.local_space.symbols
        windows = self.shared_space.symbols_by_lane() if shape.cluster_size > 1 else {}
        self.registers = RegisterFile(kernel.registers, self.lanes, self.specials.rows, self.symbols, windows)
        self.fragments = FragmentCache()
        self.copies = AsyncCopies(self)
        self.mbarriers = Mbarriers(self)
        self.cluster_barriers = ClusterBarriers(self)
        self.woken: Array | None = None
        """Lanes whose wait has ended, until the machine takes them."""
        self.bulk = BulkCopies(self)
        self.wgmma = WgmmaState(self)
        self.alive = self.exists.copy()
        self.all_alive = bool(self.alive.all())
        self.warnings: Counter[str] = Counter()
        self.observer: Observer | None = None
        """Told about memory while somebody looks for endless loops."""

    def _variables(self) -> list[Any]:
        return [*self.module.variables, *self.kernel.variables]

    def start(
        self,
        programs: Sequence[int],
        grid: tuple[int, int, int],
        params: bytes,
        conflicts: GlobalConflicts | None,
    ) -> None:
        """Begin running the programs with these linear indices: fresh registers, shared and local memory."""
        self.programs[:] = programs
        self.grid = grid
        self.params[:] = np.frombuffer(params, np.uint8)
        self.specials.place(self.programs, self.slot, grid)
        self.registers.clear()
        self.carry.fill(False)
        self.alive[:] = self.exists
        self.all_alive = bool(self.alive.all())
        self.shared_space.clear()
        self.local_space.clear()
        self.copies.clear()
        self.mbarriers.clear()
        self.cluster_barriers.clear()
        self.woken = None
        self.bulk.clear()
        if self.global_space.bulk is not None:
            self.global_space.bulk.clear()
        self.wgmma.clear()
        self.warnings.clear()
        self.global_space.begin(conflicts)

    def wake(self, lanes: Mask) -> None:
        """Lanes (as a mask) need not wait any more."""
        self.woken = lanes if self.woken is None or lanes is None else self.woken | lanes

    def active(self, mask: Mask) -> Array | None:
        """The lanes of a mask as indices; None stands for all lanes."""
        return None if mask is None else np.flatnonzero(mask)

    def lane_at(self, lanes: Array | None, position: int) -> int:
        """The lane at a position of a list that `active` made."""
        return position if lanes is None else int(lanes[position])

    def program_index(self, lane: int) -> tuple[int, int, int]:
        """ctaid of a lane's program."""
        return self.index_of_program(int(self.programs[self.slot[lane]]))

    def index_of_program(self, linear: int) -> tuple[int, int, int]:
        """ctaid of a program by its linear index (x fastest)."""
        x, y, _ = self.grid
        return linear % x, linear // x % y, linear // (x * y)

    def thread_index(self, lane: int) -> tuple[int, int, int]:
        """tid of a lane."""
        linear = int(self.thread[lane])
        x, y, _ = self.shape.block
        return linear % x, linear // x % y, linear // (x * y)

    def fault(
        self,
        kind: FaultKind,
        message: str,
        instruction: Instruction,
        lane: int | None,
        *,
        buffer: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> Fault:
        """A fault committed by one lane at one instruction."""
        return Fault(
            kind,
            message,
            kernel=self.kernel.name,
            module=self.module.name,
            ptx_line=instruction.line,
            ptx_text=instruction.text,
            source=instruction.source,
            buffer=buffer,
            program=None if lane is None else self.program_index(lane),
            thread=None if lane is None else self.thread_index(lane),
            grid=self.grid,
            notes=notes,
        )

    def warn(self, message: str) -> None:
        """Count something suspicious but harmless; reported with the launch's statistics."""
        self.warnings[message] += 1
