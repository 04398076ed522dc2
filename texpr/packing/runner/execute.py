"""One case on one device: run, compare with the reference and with the emulator's bits, and time it on a GPU."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from texpr.emulator.faults import PtxError
from texpr.errors import TExprError
from texpr.lang.arrays import Array
from texpr.packing.runner.compare import compare, decode_bound, different_bits
from texpr.packing.runner.cuda import CudaDevice, describe
from texpr.packing.runner.devices import Device, LaunchFailed
from texpr.packing.runner.memory import Placed, Written
from texpr.packing.runner.peers import Peer, difference, peer_of, tensor_at, torch_or_none
from texpr.packing.runner.records import Case, Emulated, Output, Pack
from texpr.packing.runner.timing import measure
from texpr.runtime.library import Context
from texpr.runtime.manifest import Entry

_TIMING_SECONDS = 1.0
"""Device time for the samples of one case, and as much for its peer."""


class Trouble(Enum):
    """Why a case fails."""

    WRONG = "WRONG"  # a result beyond its bound
    BITS = "BITS"  # other bits than the emulator's, where equal ones are promised
    REPEAT = "REPEAT"  # two runs gave different bits, where equal ones are promised
    UNWRITTEN = "UNWRITTEN"  # an output left as it was
    BESIDE = "BESIDE"  # bytes next to an output, or an input, were written
    DISPATCH = "DISPATCH"  # the launcher chose another variant
    REFUSED = "REFUSED"  # the launcher refused a legal call
    FAULT = "FAULT"  # the device stopped the kernel
    CRASHED = "CRASHED"  # the process did not survive the case, or it hung


@dataclass(frozen=True, slots=True)
class Failure:
    trouble: Trouble
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """``worst`` is in units of the error bound; ``undecided`` counts elements of ``compared`` of which the bound says
    nothing; ``bits`` tells per output how many of how many elements have the emulator's bits; ``lost``: the device is
    unusable now."""

    failures: tuple[Failure, ...]
    compared: int = 0
    worst: float = 0.0
    undecided: int = 0
    bits: Mapping[str, tuple[int, int]] | None = None
    hashes: Mapping[str, str] | None = None
    timing: Mapping[str, Any] | None = None
    lost: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON; an infinite error is the string ``inf``."""
        value = asdict(self)
        value["failures"] = [{"trouble": f.trouble.value, "text": f.text} for f in self.failures]
        value["worst"] = self.worst if math.isfinite(self.worst) else "inf"
        return value


def run_case(
    device: Device, context: Context, entry: Entry, case: Case, target: str, pack: Pack, *, timed: bool
) -> Result:
    """Everything that a case asks for. Raises MemoryError where the device has too little memory."""
    try:
        placed = Placed(device, context, entry, case, pack.folder)
    except LaunchFailed as error:
        return Result((Failure(Trouble.FAULT, str(error)),), lost=error.lost)
    except TExprError as error:
        return Result((Failure(Trouble.REFUSED, str(error)),))
    lost = False
    try:
        result = verify(placed, target, pack)
        if timed and isinstance(device, CudaDevice) and not result.failures:
            return _with_times(result, placed, device, pack)
        return result
    except LaunchFailed as error:
        lost = error.lost
        return Result((Failure(Trouble.FAULT, str(error)),), lost=lost)
    except (TExprError, PtxError) as error:
        return Result((Failure(Trouble.REFUSED, describe(error)),))
    finally:
        if not lost:
            placed.close()


# ---- right or wrong


def verify(placed: Placed, target: str, pack: Pack) -> Result:
    """Run the case twice and compare. Raises LaunchFailed and the runtime's errors."""
    case = placed.case
    failures: list[Failure] = []
    wanted = case.variant_on(placed.device.multiprocessors)
    if placed.query.variant_name != wanted and placed.query.variant >= 0:
        chose = f"the launcher chose {placed.query.variant_name!r}, the guards say {wanted!r}"
        return Result((Failure(Trouble.DISPATCH, chose),))
    written = placed.run_twice()
    changed = [] if case.large else placed.changed_inputs()
    failures += [Failure(Trouble.BESIDE, f"the input {name} was written") for name in changed]
    arrays = _arrays(case, pack)
    compared, undecided, worst = 0, 0, 0.0
    for output in case.outputs:
        found = written[output.layout.name]
        failures += _written_well(output, found, case)
        if output.expected is not None:
            picked = found.first[selection(output)]
            bound = None if output.expected.bound is None else decode_bound(arrays[output.expected.bound])
            verdict = compare(output.layout.name, picked, arrays[output.expected.value], bound, output.layout.dtype)
            compared, undecided = compared + verdict.elements, undecided + verdict.undecided
            worst = max(worst, verdict.worst)
            if verdict.wrong:
                partly = " (indices within the sample)" if any(output.expected.sample) else ""
                failures.append(Failure(Trouble.WRONG, verdict.text + partly))
    emulated = case.emulated.get(target) if wanted == case.variant else None  # bits are of the emulator's variant
    bits, differing = _bits(placed, written, emulated, arrays)
    hashes = {name: hashlib.sha256(found.first.tobytes()).hexdigest() for name, found in written.items()}
    return Result((*failures, *differing), compared, worst, undecided, bits, hashes)


def _arrays(case: Case, pack: Pack) -> Mapping[str, Array]:
    if case.arrays is None:
        return {}
    with np.load(pack.folder / case.arrays, allow_pickle=False) as file:
        return dict(file)


def selection(output: Output) -> Any:
    """Index of the elements that the reference is known of."""
    assert output.expected is not None
    shape = output.layout.shape
    chosen = (range(n) if s is None else s for n, s in zip(shape, output.expected.sample, strict=True))
    return np.ix_(*(np.asarray(each, np.int64) for each in chosen)) if shape else ()


def _written_well(output: Output, found: Written, case: Case) -> list[Failure]:
    name, size = output.layout.name, found.first.size
    failures: list[Failure] = []
    missing = int(np.count_nonzero(found.missing))
    if missing:
        at = _place(found.missing)
        failures.append(Failure(Trouble.UNWRITTEN, f"{name}[{at}] and {missing - 1} more of {size} are not written"))
    if found.beside:
        failures.append(Failure(Trouble.BESIDE, f"{found.beside} bytes beside the elements of {name} were written"))
    if case.reproducible:
        differs = different_bits(found.second, found.first, output.layout.dtype) & ~found.missing
        if differs.any():
            others = int(np.count_nonzero(differs)) - 1
            text = f"{name}[{_place(differs)}] and {others} more of {size} differ in a second run"
            failures.append(Failure(Trouble.REPEAT, text))
    return failures


def _place(where: Array) -> str:
    return ", ".join(str(int(i)) for i in np.unravel_index(int(np.argmax(where)), where.shape))


def _bits(
    placed: Placed, written: Mapping[str, Written], emulated: Emulated | None, arrays: Mapping[str, Array]
) -> tuple[dict[str, tuple[int, int]] | None, list[Failure]]:
    """Elements equal to the emulator's, and failures where all must be: wherever that is promised, for the emulator's
    approximations are NumPy's and differ between its versions."""
    if emulated is None or emulated.fault is not None:
        return None, []
    found: dict[str, tuple[int, int]] = {}
    failures: list[Failure] = []
    for output in placed.case.outputs:
        name, dtype = output.layout.name, output.layout.dtype
        actual, wanted = written[name].first, arrays[emulated.bits[name]]
        differs = different_bits(actual, wanted, dtype)
        count = int(np.count_nonzero(differs))
        found[name] = (actual.size - count, actual.size)
        if count and emulated.promised:
            word = np.dtype(f"u{dtype.bytes}")
            at = int(np.argmax(differs))
            mine, theirs = (np.ascontiguousarray(each).view(word).reshape(-1)[at] for each in (actual, wanted))
            text = f"{name}[{_place(differs)}] is {mine:#x}, the emulator has {theirs:#x}"
            text += f"; {count} of {actual.size} elements differ"
            failures.append(Failure(Trouble.BITS, text))
    return found, failures


# ---- how long


def _with_times(result: Result, placed: Placed, device: CudaDevice, pack: Pack) -> Result:
    """``result`` with raw samples of the kernel, and of torch's operator where the pack names one."""
    context, workspace, size = placed.workspace
    case = placed.case
    placed.forget_inputs()
    before = device.clocks()
    try:
        own = measure(device, lambda: device.queue(context, placed.call, workspace, size), _TIMING_SECONDS)
    except AttributeError as error:  # a driver without events, such as a stand-in
        return replace(result, timing={"skipped": f"the driver has no events: {error}"})
    timing: dict[str, Any] = {
        "unit": "us",
        "l2": f"flushed before each sample ({device.l2_bytes()} bytes)",
        "samples": list(own.samples),
        "median": own.median,
        "bytes": case.bytes,
        "gb_per_s": case.bytes / own.median / 1000.0,
        "nvidia_smi": {"before": before, "after": device.clocks()},
    }
    expression = pack.peers.get(case.bundle)
    if expression is not None:
        timing["peer"] = _peer(expression, placed, device)
        if "median" in timing["peer"]:
            timing["peer"]["ratio"] = timing["peer"]["median"] / own.median
    return replace(result, timing=timing)


def _peer(expression: str, placed: Placed, device: CudaDevice) -> dict[str, Any]:
    """Times of torch's operator on the same inputs; whatever it refuses is said, and is no failure of the kernel."""
    torch = torch_or_none()
    if torch is None:
        return {"expression": expression, "skipped": "torch is not installed, or has no GPU"}
    case = placed.case
    try:
        with torch.no_grad(), torch.cuda.device(device.index):
            peer = peer_of(expression, case, placed.addresses, device.index, torch)
            times = measure(device, peer.run, _TIMING_SECONDS)
            apart = _differences(peer, placed, device, torch)
    except LaunchFailed:
        raise
    except Exception as error:  # torch raises what it likes for types and sizes that it does not take
        return {"expression": expression, "skipped": describe(error)}
    return {
        "expression": expression,
        "torch": str(torch.__version__),
        "samples": list(times.samples),
        "median": times.median,
        "difference": apart,
    }


def _differences(peer: Peer, placed: Placed, device: CudaDevice, torch: Any) -> dict[str, Any]:
    """Per output how far torch's is from what the kernel last wrote; in words where torch cannot compare them."""
    apart: dict[str, Any] = {}
    for output, theirs in zip(placed.case.outputs, peer.outputs(), strict=False):
        layout = output.layout
        try:
            mine = tensor_at(layout, placed.addresses[layout.name], device.index, torch)
            apart[layout.name] = difference(mine, theirs)
        except Exception as error:  # too little memory, most likely
            apart[layout.name] = describe(error)
    return apart
