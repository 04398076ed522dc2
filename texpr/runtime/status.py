"""A launcher's status and ``texpr_error`` as the exception that says it in the user's names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from texpr.errors import TExprError
from texpr.runtime.errors import (
    CapturingError,
    DimRangeError,
    DriverError,
    IndexRangeError,
    MisalignedError,
    MissingArgumentError,
    NoDriverError,
    NoKernelImageError,
    NoVariantError,
    OldDriverError,
    OverlapError,
    RequirementError,
    ResourceError,
    ScalarRangeError,
    StatusError,
    StrideError,
)
from texpr.runtime.manifest import Entry, Manifest, Scalar, Tensor


class Status(IntEnum):
    """``texpr_status`` of ``texpr_abi.h``, as far as it has an error of its own here."""

    NULL = -1
    DIM = -3
    REQUIRE = -4
    MISALIGNED = -5
    OVERLAP = -6
    RANGE = -7
    SCALAR = -8
    STRIDE = -9
    NO_VARIANT = -12
    NO_KERNEL_IMAGE = -13
    CAPTURING = -16
    NO_DRIVER = -17
    DRIVER = -18
    RESOURCES = -19
    OLD_DRIVER = -20


class Details(Protocol):
    """The fields of ``texpr_error`` that are read."""

    cuda_result: int
    argument: int
    other: int
    dim: int
    capability: int
    needed: int


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of the failing call. ``entry`` is None when it concerns the whole bundle; ``text`` is the status in
    words.
    """

    manifest: Manifest
    entry: Entry | None
    dims: dict[str, int]
    text: str


def error_of(status: int, details: Details, facts: CallFacts) -> TExprError:
    """The exception for a failing status; StatusError for one that only a defect of the runtime could cause."""
    name = facts.manifest.name
    match status:
        case Status.CAPTURING:
            return CapturingError(name=name)
        case Status.NO_DRIVER:
            return NoDriverError(name=name)
        case Status.DRIVER:
            return DriverError(name=name, result=details.cuda_result)
        case Status.RESOURCES:
            return ResourceError(name=name)
        case Status.OLD_DRIVER:
            return OldDriverError(name=name, needed=_version(details.needed), have=_version(details.other))
        case Status.NO_KERNEL_IMAGE:
            targets = ", ".join(facts.manifest.targets())
            return NoKernelImageError(name=name, capability=_capability(details), targets=targets)
    found = None if facts.entry is None else _entry_error(status, details, facts.entry, facts.dims)
    return found or StatusError(name=name, status=status, text=facts.text)


def _entry_error(status: int, details: Details, entry: Entry, dims: dict[str, int]) -> TExprError | None:
    shown = ", ".join(f"{name} = {value}" for name, value in dims.items())
    tensor, scalar = _tensor(entry, details.argument), _scalar(entry, details.argument)
    match status:
        case Status.DIM:
            return _dim_error(details, entry, dims)
        case Status.REQUIRE if 0 <= details.argument < len(entry.facts):
            return RequirementError(name=entry.symbol, fact=entry.facts[details.argument], dims=shown)
        case Status.NULL if tensor is not None:
            return MissingArgumentError(
                name=entry.symbol, argument=tensor.name, kind="its address is null", inputs=entry.signature()
            )
        case Status.MISALIGNED if tensor is not None:
            return MisalignedError(argument=tensor.name, dtype=tensor.dtype)
        case Status.OVERLAP if tensor is not None and (other := _tensor(entry, details.other)) is not None:
            return OverlapError(output=tensor.name, other=other.name, alias="")
        case Status.SCALAR if scalar is not None:
            return ScalarRangeError(argument=scalar.name, low=scalar.low, high=scalar.high)
        case Status.STRIDE if tensor is not None:
            return StrideError(argument=tensor.name)
        case Status.RANGE:
            return IndexRangeError(name=entry.symbol, dims=shown)
        case Status.NO_VARIANT:
            return NoVariantError(name=entry.symbol, dims=shown, capability=_capability(details))
        case _:
            return None


def _dim_error(details: Details, entry: Entry, dims: dict[str, int]) -> TExprError | None:
    """``argument`` counts dims and then derived dims; -1 means a dim of the tensor ``other`` has a negative extent."""
    names = [*entry.dims, *(name for name, _ in entry.derived)]
    if 0 <= details.argument < len(names):
        name = names[details.argument]
        return DimRangeError(name=entry.symbol, dim=name, value=dims.get(name, "its value"))
    tensor = _tensor(entry, details.other)
    if tensor is not None and 0 <= details.dim < len(tensor.text):
        return DimRangeError(
            name=entry.symbol, dim=f"dim {tensor.text[details.dim]} of {tensor.name}", value="its value"
        )
    return None


def _tensor(entry: Entry, index: int) -> Tensor | None:
    argument = entry.arguments[index] if 0 <= index < len(entry.arguments) else None
    return argument if isinstance(argument, Tensor) else None


def _scalar(entry: Entry, index: int) -> Scalar | None:
    argument = entry.arguments[index] if 0 <= index < len(entry.arguments) else None
    return argument if isinstance(argument, Scalar) else None


def _capability(details: Details) -> str:
    return f"{details.capability // 10}.{details.capability % 10}"


def _version(number: int) -> str:
    """A CUDA version as ``cuDriverGetVersion`` counts."""
    return f"{number // 1000}.{number % 1000 // 10}"
