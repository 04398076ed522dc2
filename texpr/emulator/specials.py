"""The special registers: `%tid`, `%ctaid`, `%laneid`, lane masks, clocks, ..."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.rows import Array

_WARP = 32
_CLOCKS = {"%clock": np.uint32, "%clock_hi": np.uint32, "%clock64": np.uint64, "%globaltimer": np.uint64}


class SpecialRegisters:
    """One read-only row per special register, by name."""

    def __init__(
        self,
        thread: NDArray[np.int64],
        rank: NDArray[np.int64],
        block: tuple[int, int, int],
        cluster: tuple[int, int, int],
        shared_bytes: int,
    ) -> None:
        """`thread` and `rank`: per lane, its number in its program and that program's number in its cluster."""
        lanes = len(thread)
        self._cluster = cluster
        lane = thread % _WARP
        one = np.uint64(1) << lane.astype(np.uint64)
        below = one - np.uint64(1)
        everyone = np.uint64(0xFFFF_FFFF)
        warps = -(-block[0] * block[1] * block[2] // _WARP)
        rows: dict[str, Array] = {
            "%laneid": lane,
            "%warpid": thread // _WARP,
            "%nwarpid": np.full(lanes, warps),
            "%tid.x": thread % block[0],
            "%tid.y": thread // block[0] % block[1],
            "%tid.z": thread // (block[0] * block[1]),
            "%lanemask_eq": one,
            "%lanemask_lt": below,
            "%lanemask_le": below | one,
            "%lanemask_gt": everyone ^ (below | one),
            "%lanemask_ge": everyone ^ below,
            "%dynamic_smem_size": np.full(lanes, shared_bytes),
            "%total_smem_size": np.full(lanes, shared_bytes),
            "%smid": np.zeros(lanes),
            "%nsmid": np.ones(lanes),
            "%cluster_ctarank": rank,
            "%cluster_nctarank": np.full(lanes, cluster[0] * cluster[1] * cluster[2]),
            "%cluster_ctaid.x": rank % cluster[0],
            "%cluster_ctaid.y": rank // cluster[0] % cluster[1],
            "%cluster_ctaid.z": rank // (cluster[0] * cluster[1]),
        }
        rows |= {f"%ntid.{axis}": np.full(lanes, extent) for axis, extent in zip("xyz", block, strict=True)}
        rows |= {f"%cluster_nctaid.{axis}": np.full(lanes, extent) for axis, extent in zip("xyz", cluster, strict=True)}
        per_launch = [f"%{base}.{axis}" for base in ("ctaid", "nctaid", "clusterid", "nclusterid") for axis in "xyz"]
        rows |= {name: np.zeros(lanes) for name in per_launch}
        self.rows: dict[str, Array] = {name: row.astype(np.uint32) for name, row in rows.items()}
        self.rows |= {name: np.zeros(lanes, dtype) for name, dtype in _CLOCKS.items()}
        self.rows["%gridid"] = np.zeros(lanes, np.uint64)

    def place(self, programs: NDArray[np.int64], slot: NDArray[np.int64], grid: tuple[int, int, int]) -> None:
        """Set the registers that say which program a lane belongs to."""
        linear = programs[slot]
        index = (linear % grid[0], linear // grid[0] % grid[1], linear // (grid[0] * grid[1]))
        for axis, position, extent, together in zip("xyz", index, grid, self._cluster, strict=True):
            self.rows[f"%ctaid.{axis}"][:] = position
            self.rows[f"%nctaid.{axis}"][:] = extent
            self.rows[f"%clusterid.{axis}"][:] = position // together
            self.rows[f"%nclusterid.{axis}"][:] = extent // together

    def tick(self, instructions: int) -> None:
        """Advance the clocks; time is counted in instructions."""
        for name, dtype in _CLOCKS.items():
            if name != "%clock_hi":
                self.rows[name] += dtype(instructions)
