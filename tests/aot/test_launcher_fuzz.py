"""A hundred thousand calls per entry, legal and hostile, under ASan and UBSan, each judged by the Python model."""

from __future__ import annotations

import ctypes
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.aot.launcher_build import (
    Error,
    FakeLaunch,
    args_class,
    build_fuzzer,
    image_of,
    info_class,
    max_calls,
    run,
)
from tests.aot.launcher_model import OK, WORKSPACE, Model, Outcome
from tests.aot.launcher_packages import linear, odd
from texpr.aot.ir import Entry, Package

Values = Mapping[str, tuple[Sequence[int], Sequence[int]]]

TERA = 1 << 40
HOSTILE = (-1, 0x7FFF0000, 0x7FFF0001, 2**31, 2**62, 2**63 - 1, -(2**63))
SECONDS = 60


def near(base: int, *offsets: int) -> tuple[int, ...]:
    return tuple(base + offset for offset in offsets)


LINEAR: Values = {
    "x": (near(TERA, 0, 0, 0, 16, 2), (0, *near(TERA, 1, 3), 4 * TERA, 2**64 - 2, 2**64 - 4096)),
    "w": (near(2 * TERA, 0, 0, 0, 32, 8), (0, *near(2 * TERA, 1), 4 * TERA + 64, 2**64 - 16)),
    "b": ((0, *near(3 * TERA, 0, 2)), (*near(3 * TERA, 1), 4 * TERA + 2)),
    "y": (near(4 * TERA, 0, 0, 0, 256, 6), (0, *near(4 * TERA, 5), TERA, TERA + 64, 2 * TERA - 2, 3 * TERA, 2**64 - 2)),
    "M": ((0, 1, 63, 64, 127, 128, 129, 300, 8192), HOSTILE),
    "N": ((0, 1, 8, 255, 256, 257, 264, 512, 1024), HOSTILE),
    "K": ((0, 8, 64, 4088, 4096, 4104, 8192, 1 << 18), (1, 7, 4097, 2**30, *HOSTILE)),
}

ODD: Values = {
    "a": (near(TERA, 0, 0, 4, 64), (0, *near(TERA, 2), 2**64 - 64)),
    "class": ((0, *near(2 * TERA, 0, 1)), (3 * TERA, 2**64 - 1)),
    "alpha": ((0x3E000000, 0x7FC00000), ()),
    "half": ((0x3C00, 0xFFFF), ()),
    "exact": ((0x3FF8000000000000, -1), ()),
    "flag": ((0, 1), (2, 255)),
    "shift": ((-3, -1, 0, 2, 3), (-4, 4, -128, 127)),
    "step": ((1, 1, 2, 3), (0, -1, 100, 2**62, -(2**63))),
    "mask": ((0, 4, 5, 2**40 - 1), (2**40, 2**63 - 1, 2**63, 2**64 - 1)),
    "free": ((0, 6, 7, 999, 1001, 2**32 - 1), ()),
    "z": ((*near(3 * TERA, 0, 0, 4, 64), TERA, TERA, TERA + 4), (0, *near(3 * TERA, 1), TERA + 8, 2 * TERA, 2**64 - 4)),
    "top": (near(5 * TERA, 0, 8), (0, *near(5 * TERA, 4), 3 * TERA, TERA, 2**64 - 8)),
    "side": ((0, *near(6 * TERA, 0, 1)), (3 * TERA, 5 * TERA, 2**64 - 2)),
    "extra": ((0, *near(7 * TERA, 0, 8)), (*near(7 * TERA, 4), 3 * TERA, 2**64 - 8)),
    "B": ((0, 1, 1, 2, 3, 5), HOSTILE),
    "G": ((1, 2, 3), (0, *HOSTILE)),
    "R": ((1, 2), (0, *HOSTILE)),
    "S": ((2, 3, 8, 9), (0, 1, *HOSTILE)),
    "a_stride_0": ((108, 108, 128, 4096), (0, 1, 53, -1, 2**31, 2**40, 2**62, 2**63 - 1)),
    "a_stride_2": ((1, 1, 1, 2), (0, -1, 2**31, 2**62)),
    "z_stride_0": ((108, 108, 128, 4096), (0, 1, 53, -1, 2**40, 2**62)),
    "extra_stride_0": ((9, 16), (8, -1, 2**40, 2**63 - 1)),
}


def outcome_class(entry: Entry) -> Any:
    fields = (
        ("args", args_class(entry)),
        ("workspace", ctypes.c_uint64),
        ("workspace_bytes", ctypes.c_uint64),
        ("info", info_class(entry)),
        ("query_error", Error),
        ("launch_error", Error),
        ("launches", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("launch", FakeLaunch * max_calls(entry)),
    )
    return type("Record", (ctypes.Structure,), {"_fields_": fields})


def judged(package: Package, entry: Entry, images: Sequence[Any], model: Model, file: Path) -> Counter[Any]:
    """Compares every record with the model; counts what happened: a status or the name of a variant."""
    record_type = outcome_class(entry)
    data = file.read_bytes()
    assert len(data) % ctypes.sizeof(record_type) == 0
    names = [name for name, _ in model.entry_fields]
    happened: Counter[Any] = Counter()
    for offset in range(0, len(data), ctypes.sizeof(record_type)):
        record = record_type.from_buffer_copy(data, offset)
        args = {name: getattr(record.args, name) for name in names}
        outcome, where = model.predict(args, record.workspace, record.workspace_bytes)
        call = (args, record.workspace, record.workspace_bytes)
        error = record.launch_error
        assert (error.status, error.argument, error.other, error.dim) == where, call
        error = record.query_error
        assert (error.status, error.argument, error.other, error.dim) == ((OK, -1, -1, -1) if outcome else where), call
        if outcome is None:
            happened[where[0]] += 1
            continue
        assert described(record.info) == (outcome.variant, outcome.grids, outcome.workspace_bytes), call
        if where[0] == WORKSPACE:
            assert record.launch_error.needed == outcome.workspace_bytes
        if where[0] == OK:
            assert recorded(record, images) == launches_of(outcome), call
        happened[
            where[0] if where[0] else entry.variants[outcome.variant].name if outcome.variant >= 0 else "nothing"
        ] += 1
    return happened


def described(info: Any) -> tuple[int, list[int], int]:
    return info.variant, list(info.grid[: info.launches]), info.workspace_bytes


def recorded(record: Any, images: Sequence[Any]) -> list[tuple[str, int, bytes]]:
    return [
        (
            image.kernel if (image := image_of(one, images)) else f"fill {one.block}",
            one.grid,
            bytes(one.params[: one.param_bytes]),
        )
        for one in record.launch[: record.launches]
    ]


def launches_of(outcome: Outcome) -> list[tuple[str, int, bytes]]:
    return [(launched.kernel, launched.grid, launched.params) for launched in outcome.launches]


CASES = {
    "linear": (linear, LINEAR, ("wide", "split", "any"), {0, -1, -3, -4, -5, -6, -7, -10, -11}),
    "odd": (odd, ODD, ("contiguous", "apart", "rest"), {0, -1, -3, -4, -5, -6, -7, -8, -9, -10, -12}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_call_does_what_the_model_says(name: str, tmp_path: Path) -> None:
    make, values, variants, statuses = CASES[name]
    package, images = make()
    entry = package.entries[0]
    program = build_fuzzer(package, entry, images, values, tmp_path)
    run([program, "random", "20250101", "100000", tmp_path / "calls.bin"], timeout=SECONDS)
    happened = judged(package, entry, images, Model(package, entry, variants, sms=108), tmp_path / "calls.bin")
    (tmp_path / "calls.bin").unlink()
    assert happened.total() == 100_000
    missing = {*variants, "nothing", *(statuses - {0})} - set(happened)
    assert not missing, f"the values never lead to {missing}: {happened}"


def test_boundaries_of_the_guards_choose_the_models_variant(tmp_path: Path) -> None:
    """Every combination of sizes one below, at and above each edge of the guards, with every relevant alignment."""
    package, images = linear()
    entry = package.entries[0]
    values: Values = {
        "x": (near(TERA, 0, 2, 4, 8, 16), ()),
        "w": (near(2 * TERA, 0, 8), ()),
        "b": ((0, 3 * TERA), ()),
        "y": (near(4 * TERA, 0, 14), ()),
        "M": ((1, 15, 16, 17, 127, 128, 129), ()),
        "N": ((8, 255, 256, 257, 264, 4095, 4096, 4097), ()),
        "K": ((8, 4088, 4096, 4104), ()),
    }
    program = build_fuzzer(package, entry, images, values, tmp_path)
    run([program, "product", "0", "0", tmp_path / "calls.bin"], timeout=SECONDS)
    happened = judged(
        package, entry, images, Model(package, entry, ("wide", "split", "any"), sms=108), tmp_path / "calls.bin"
    )
    assert set(happened) == {"wide", "split", "any"}
    assert happened.total() == 5 * 2 * 2 * 2 * 7 * 8 * 4


def test_the_model_packs_parameters_without_gaps() -> None:
    package, _ = odd()
    model = Model(package, package.entries[0], (), sms=1)
    param = package.kernels[0].params[4]
    assert model.param_bytes(param, {"half": 0x3C00}, {}, {}, 0) == struct.pack("<H", 0x3C00)
