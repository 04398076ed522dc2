"""What surrounds the elements of tensors: gaps between rows and bytes before the first are neither read nor written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.check.algorithms import bundle, clipped
from texpr.checking.calls import Case, Values, symbols_of
from texpr.checking.execute import Bench, NotWritten
from texpr.checking.inputs import make_inputs
from texpr.emulator import Device
from texpr.plan.default import default_schedule
from texpr.runtime.library import Library
from texpr.runtime.manifest import read_manifest

ROWS, COLUMNS, STRIDE, OFFSET = 3, 4, 7, 8


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("built"), clipped, default_schedule(clipped, ["sm_80"]), ["sm_80"], {})


def run(folder: Path, act: Callable[[Device, int, int], None], *, in_place: bool = False) -> dict[str, np.ndarray]:
    """A call whose kernel is `act` on the device and the addresses of x and y."""
    algorithm = clipped.bind({}, {})
    bench = Bench(folder, Library(read_manifest(folder)), "clipped", algorithm, 80)
    strides = {"x_stride_0": STRIDE, "y_stride_0": STRIDE}
    aliased = frozenset({"y"} if in_place else ())
    offsets = {"x": OFFSET, "y": OFFSET}
    case = Case({"M": ROWS, "N": COLUMNS}, strides, {"n": 2}, offsets, frozenset(), aliased, Values.NORMAL)
    symbols = symbols_of(algorithm, case, 2)
    assert symbols is not None
    gpu = bench._driver.gpu

    def launch(handle: int, **configuration: object) -> None:
        places = {allocation.name: allocation.address + OFFSET for allocation in gpu.device.memory.live()}
        act(gpu.device, places["x"], places.get("y", places["x"]))

    gpu.launch = launch  # type: ignore[assignment]
    try:
        return bench.run(case, make_inputs(algorithm, case, symbols, 1), symbols)[1]
    finally:
        bench.close()


def copy_rows(device: Device, x: int, y: int) -> None:
    for row in range(ROWS):
        device.write(y + 4 * STRIDE * row, device.read(x + 4 * STRIDE * row, 4 * COLUMNS))


@pytest.mark.parametrize("in_place", [False, True])
def test_writing_the_elements_only_is_right(built: Path, in_place: bool) -> None:
    assert run(built, copy_rows, in_place=in_place)["y"].shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("place", [4 * COLUMNS, -4])
def test_writing_beside_the_elements_is_found(built: Path, place: int, in_place: bool) -> None:
    def act(device: Device, x: int, y: int) -> None:
        copy_rows(device, x, y)
        device.write(y + place, bytes(1))

    with pytest.raises(NotWritten, match="beside"):
        run(built, act, in_place=in_place)


def test_an_element_in_the_wrong_place_does_not_make_up_for_one_that_is_missing(built: Path) -> None:
    def act(device: Device, x: int, y: int) -> None:
        copy_rows(device, x, y)
        device.memory.span(y, 0)[0].written[OFFSET : OFFSET + 4] = 0
        device.write(y + 4 * COLUMNS, bytes(4))

    with pytest.raises(NotWritten, match=f"1 of {ROWS * COLUMNS} elements of y are not written"):
        run(built, act)


def test_the_gaps_of_an_input_have_no_value(built: Path) -> None:
    def act(device: Device, x: int, y: int) -> None:
        assert device.unwritten(x, 4 * STRIDE) == 4 * (STRIDE - COLUMNS)
        assert device.unwritten(x - OFFSET, OFFSET) == OFFSET
        copy_rows(device, x, y)

    run(built, act)
