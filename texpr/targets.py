"""GPU architectures TExpr compiles for: one frozen record each. Limits are per thread block unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """An architecture.

    ``capability`` is major*10 + minor as Triton's ``GPUTarget`` wants it. ``shared_limit`` is the opt-in dynamic
    shared memory of one block in bytes (CUDA C++ Programming Guide, table "Technical Specifications per Compute
    Capability"). ``exact`` targets run only on that very capability (``a`` suffix, and the Tegra parts 8.7 and 11.0);
    the others also run on later minors of the same major.
    """

    name: str
    capability: int
    shared_limit: int
    exact: bool
    has_fp8_mma: bool
    registers_per_thread: int = 255
    registers_per_sm: int = 65536
    max_threads: int = 1024

    @property
    def has_wgmma(self) -> bool:
        """Whether a warpgroup multiplies tiles in shared memory: the instructions of compute capability 9.0 alone."""
        return self.capability == 90

    @property
    def has_early_starts(self) -> bool:
        """Whether a kernel may start while the one before it still runs (griddepcontrol)."""
        return self.capability >= 90

    @property
    def has_tensor_copies(self) -> bool:
        """Whether a copy engine moves boxes of tensors, mbarriers count their bytes, and warps can be specialised."""
        return self.capability >= 90

    @property
    def has_multicast(self) -> bool:
        """Whether programs form clusters for which the copy engine fetches a box once: the data centre parts."""
        return self.capability in (90, 100, 110)

    @property
    def major(self) -> int:
        return self.capability // 10

    @property
    def minor(self) -> int:
        return self.capability % 10

    def __str__(self) -> str:
        return self.name


_KB = 1024

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("sm_80", 80, 163 * _KB, exact=False, has_fp8_mma=False),
        Target("sm_86", 86, 99 * _KB, exact=False, has_fp8_mma=False),
        Target("sm_87", 87, 163 * _KB, exact=True, has_fp8_mma=False),
        Target("sm_89", 89, 99 * _KB, exact=False, has_fp8_mma=True),
        Target("sm_90a", 90, 227 * _KB, exact=True, has_fp8_mma=True),
        Target("sm_100a", 100, 227 * _KB, exact=True, has_fp8_mma=True),
        Target("sm_110a", 110, 227 * _KB, exact=True, has_fp8_mma=True),
        Target("sm_120a", 120, 99 * _KB, exact=True, has_fp8_mma=True),
    )
}


def target_named(name: str) -> Target | None:
    """The target a user means (``"sm_80"``; ``"sm_90"`` means ``sm_90a``), or None."""
    return TARGETS.get(name) or TARGETS.get(name + "a")
