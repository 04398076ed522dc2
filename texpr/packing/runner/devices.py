"""Where a pack runs: what a case needs of a device, and the emulator as one. The GPU is in ``cuda.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from texpr.emulator.cuda import CudaError
from texpr.emulator.driver import EmulatedDriver
from texpr.emulator.faults import Fault, PtxError
from texpr.errors import TExprError
from texpr.runtime.library import Context, EntryFunctions, Library, QueryResult, RawCall
from texpr.runtime.manifest import Entry
from texpr.targets import TARGETS, Target

_ONLY_THEIR_OWN: Final = (87, 110)
"""Tegra parts, which run no code for other capabilities (CUDA C++ Programming Guide, "Binary Compatibility")."""


class LaunchFailed(Exception):
    """A launch that the device stopped; ``lost``: the device cannot be used any more in this process."""

    def __init__(self, text: str, *, lost: bool = False) -> None:
        super().__init__(text)
        self.lost = lost


class Device(Protocol):
    """Memory and launches. Addresses are multiples of 256. ``capability`` is major * 10 + minor."""

    name: str
    capability: int
    multiprocessors: int
    emulated: bool

    def facts(self) -> dict[str, Any]:
        """What a reader of the results wants to know of the device, as plain data."""

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes. Raises MemoryError."""

    def free(self, address: int) -> None:
        """Give memory back."""

    def write(self, address: int, data: Any) -> None:
        """Copy a contiguous NumPy array of bytes to the device."""

    def read(self, address: int, size: int) -> bytes:
        """Copy from the device."""

    def fill(self, address: int, value: int, size: int) -> None:
        """Set bytes."""

    def open(self, library: Library, entry: Entry) -> Context:
        """Load the kernels of an entry."""

    def query(self, context: Context, call: RawCall) -> QueryResult:
        """What a launch would do."""

    def launch(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        """Run a call to its end. Raises LaunchFailed, or the runtime's errors for what the launcher refuses."""


def serving_target(capability: int, targets: Sequence[str]) -> str | None:
    """The one of ``targets`` whose cubins a launcher takes on a device: of those that run there, the latest."""
    known = [TARGETS[name] for name in targets if name in TARGETS]
    fitting = [target for target in known if _runs_on(target, capability)]
    return max(fitting, key=lambda target: target.capability).name if fitting else None


def _runs_on(target: Target, capability: int) -> bool:
    if target.exact or capability in _ONLY_THEIR_OWN:
        return target.capability == capability
    return target.major == capability // 10 and target.capability <= capability


class EmulatedDevice:
    """The emulator with all its checks, simulating capability ``sm``."""

    emulated = True

    def __init__(self, bundles: Sequence[Path], sm: int, multiprocessors: int) -> None:
        self.name = "emulator"
        self.capability = sm
        self.multiprocessors = multiprocessors
        self._driver = EmulatedDriver(bundles, sm=sm, multiprocessors=multiprocessors)

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "capability": self.capability, "multiprocessors": self.multiprocessors}

    def allocate(self, size: int) -> int:
        return self._driver.gpu.allocate(size, "buffer")

    def free(self, address: int) -> None:
        self._driver.gpu.free(address)

    def write(self, address: int, data: Any) -> None:
        self._driver.gpu.write(address, data.tobytes())

    def read(self, address: int, size: int) -> bytes:
        return self._driver.gpu.read(address, size)

    def fill(self, address: int, value: int, size: int) -> None:
        self._driver.gpu.fill(address, value, size)

    def open(self, library: Library, entry: Entry) -> Context:
        with self._faults():
            return EntryFunctions(library, entry).open(self._driver.table)

    def query(self, context: Context, call: RawCall) -> QueryResult:
        return context.query(call)

    def launch(self, context: Context, call: RawCall, workspace: int, size: int) -> None:
        with self._faults():
            context.launch(call, stream=0, workspace=workspace, workspace_bytes=size)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Prefer what really happened in the emulator to the status that the launcher made of it."""
        self._driver.discard_pending()
        try:
            yield
        except TExprError as error:
            pending = self._driver.discard_pending()
            if isinstance(pending, (Fault, CudaError, PtxError)):
                raise LaunchFailed(str(pending)) from error
            if pending is not None:
                raise pending from error
            raise
