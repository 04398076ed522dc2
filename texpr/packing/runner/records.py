"""What stands in a pack's ``pack.json``: bundles and cases, as typed records, and their reading and writing.

Expected values and bits lie in one ``.npz`` file per case, under the keys that the records name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from texpr.dtypes import DType
from texpr.packing.errors import NotAPack

PACK_VERSION: Final = 1
PACK_FILE: Final = "pack.json"


class Style(Enum):
    """What the elements of an input look like."""

    NORMAL = "normal"  # about a normal distribution around 0
    WIDE = "wide"  # magnitudes over many powers of two
    SPECIAL = "special"  # normal, with some NaN, infinities, signed zeros and subnormal numbers
    INTEGERS = "integers"  # uniform between two ends, which both occur
    BOOLS = "bools"
    GIVEN = "given"  # an array of the pack


@dataclass(frozen=True, slots=True)
class Fill:
    """How an input is made: element number ``n`` (row-major, modulo ``period`` unless that is 0) is a function of
    ``key`` and ``n``. ``low`` and ``high`` are the least and the greatest integer;
    integers keep ``contracts``, by name. A given array is in ``file`` of the pack (``.npz``, under ``value``)."""

    style: Style
    key: int
    low: int = 0
    high: int = 0
    period: int = 0
    contracts: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor in memory: storage extents, strides in elements, and by how many bytes its address exceeds a multiple of
    256."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Input:
    layout: Layout
    fill: Fill


@dataclass(frozen=True, slots=True)
class Expected:
    """The reference of an output, or of part of it: ``sample`` are the indices along each storage dim (None: all).
    ``value`` and ``bound`` are keys of arrays; without a bound the output is exact."""

    value: str
    bound: str | None
    sample: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """``alias`` names the input whose memory the output is given."""

    layout: Layout
    alias: str | None
    expected: Expected | None


@dataclass(frozen=True, slots=True)
class Emulated:
    """What the emulator made of a case on a target: per output the key of its bits. ``promised``: a GPU must give the
    same bits; if not, ``why`` not. ``fault`` is what the emulator refused, and then there are no bits."""

    promised: bool
    why: str
    bits: Mapping[str, str]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One call of an entry, which ``variant`` takes on all of ``targets`` on the emulator. ``chosen``: from how many
    multiprocessors on which variant takes it, ascending, for guards may ask for their number. ``absent`` are the
    optional inputs that are not given. ``work`` is about the points computed; ``large`` ones are timed."""

    id: str
    bundle: str
    entry: str
    variant: str
    chosen: tuple[tuple[int, str], ...]
    targets: tuple[str, ...]
    text: str
    dims: Mapping[str, int]
    statics: Mapping[str, int]
    strides: Mapping[str, int]
    scalars: Mapping[str, int | float]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    absent: tuple[str, ...]
    reproducible: bool
    large: bool
    work: int
    emulated: Mapping[str, Emulated]
    arrays: str | None

    def variant_on(self, multiprocessors: int) -> str:
        """The variant that takes the call on a GPU with so many multiprocessors."""
        return next((name for least, name in reversed(self.chosen) if least <= multiprocessors), self.variant)

    @property
    def bytes(self) -> int:
        """Of all tensors' elements, each counted once."""
        layouts = [each.layout for each in self.inputs] + [each.layout for each in self.outputs]
        return sum(layout.dtype.bytes * _count(layout.shape) for layout in layouts)


@dataclass(frozen=True, slots=True)
class Pack:
    """``bundles`` are names of folders under ``bundles/``; ``peers`` maps a bundle to the Python expression that
    computes the same with torch. ``id`` is a hash of everything in ``pack.json``."""

    folder: Path
    id: str
    texpr: str
    commit: str
    bundles: tuple[str, ...]
    peers: Mapping[str, str]
    cases: tuple[Case, ...]

    def bundle_folder(self, name: str) -> Path:
        return self.folder / "bundles" / name


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for extent in shape:
        total *= extent
    return total


# ---- writing


def pack_text(
    texpr: str, commit: str, bundles: tuple[str, ...], peers: Mapping[str, str], cases: tuple[Case, ...]
) -> str:
    """The text of ``pack.json``."""
    value = {
        "texpr_pack": PACK_VERSION,
        "texpr": texpr,
        "commit": commit,
        "bundles": bundles,
        "peers": dict(peers),
        "cases": [asdict(case) for case in cases],
    }
    return json.dumps(value, default=_enum_value, separators=(",", ":"), sort_keys=True, allow_nan=False) + "\n"


def _enum_value(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{value!r} has no place in a pack")


# ---- reading


def read_pack(folder: Path) -> Pack:
    """Raises NotAPack."""
    path = folder / PACK_FILE
    try:
        data = path.read_bytes()
        value = json.loads(data)
        version = value["texpr_pack"]
        if version != PACK_VERSION:
            raise NotAPack(folder=folder, why=f"its format is {version}, this runner reads {PACK_VERSION}")
        cases = tuple(_case(case) for case in value["cases"])
        digest = hashlib.sha256(data).hexdigest()[:16]
        bundles = tuple(value["bundles"])
        return Pack(folder, digest, value["texpr"], value["commit"], bundles, value["peers"], cases)
    except FileNotFoundError:
        raise NotAPack(folder=folder, why=f"there is no {PACK_FILE}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAPack(folder=folder, why=f"{PACK_FILE} cannot be read: {error!r}") from None


def _case(data: dict[str, Any]) -> Case:
    return Case(
        id=data["id"],
        bundle=data["bundle"],
        entry=data["entry"],
        variant=data["variant"],
        chosen=tuple((least, name) for least, name in data["chosen"]),
        targets=tuple(data["targets"]),
        text=data["text"],
        dims=data["dims"],
        statics=data["statics"],
        strides=data["strides"],
        scalars=data["scalars"],
        inputs=tuple(Input(_layout(each["layout"]), _fill(each["fill"])) for each in data["inputs"]),
        outputs=tuple(_output(each) for each in data["outputs"]),
        absent=tuple(data["absent"]),
        reproducible=data["reproducible"],
        large=data["large"],
        work=data["work"],
        emulated={target: Emulated(**each) for target, each in data["emulated"].items()},
        arrays=data["arrays"],
    )


def _layout(data: dict[str, Any]) -> Layout:
    return Layout(data["name"], DType(data["dtype"]), tuple(data["shape"]), tuple(data["strides"]), data["offset"])


def _fill(data: dict[str, Any]) -> Fill:
    style, contracts = Style(data["style"]), tuple(data["contracts"])
    return Fill(style, data["key"], data["low"], data["high"], data["period"], contracts, data["file"])


def _output(data: dict[str, Any]) -> Output:
    expected = data["expected"]
    found = None
    if expected is not None:
        sample = tuple(None if part is None else tuple(part) for part in expected["sample"])
        found = Expected(expected["value"], expected["bound"], sample)
    return Output(_layout(data["layout"]), data["alias"], found)
