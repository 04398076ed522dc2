"""Poison: what a kernel leaves out, writes beside, or gives differently the second time, is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from texpr.dtypes import DType
from texpr.packing.runner.execute import Trouble, verify
from texpr.packing.runner.memory import Placed, elements_in, memory_of, span_bytes
from texpr.packing.runner.records import Case, Fill, Input, Layout, Output, Style

X = Layout("x", DType.F16, (4, 6), (8, 1), 2)
Y = Layout("y", DType.F16, (4, 6), (10, 1), 4)


def case_of(reproducible: bool = True) -> Case:
    return Case(
        id="k/v/sm_80/0", bundle="k", entry="k", variant="v", chosen=((1, "v"),), targets=("sm_80",), text="", dims={},
        statics={}, strides={}, scalars={}, inputs=(Input(X, Fill(Style.NORMAL, 7)),), outputs=(Output(Y, None, None),),
        absent=(), reproducible=reproducible, large=False, work=1, emulated={}, arrays=None,
    )  # fmt: skip


class ArrayDevice:
    """Memory is NumPy arrays; the kernel is a function of the bytes of x and y and of the number of the launch."""

    emulated = False
    name, capability, multiprocessors = "arrays", 80, 2

    def __init__(self, kernel: Callable[[Any, Any, int], None]) -> None:
        self.kernel = kernel
        self.memory: list[Any] = []
        self.launches = 0

    def allocate(self, size: int) -> int:
        self.memory.append(np.zeros(size, np.uint8))
        return (len(self.memory) - 1) << 32

    def free(self, address: int) -> None:
        pass

    def write(self, address: int, data: Any) -> None:
        self.memory[address >> 32][: data.size] = data

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address >> 32][:size].tobytes())

    def fill(self, address: int, value: int, size: int) -> None:
        self.memory[address >> 32][:size] = value

    def query(self, context: Any, call: Any) -> Any:
        return SimpleNamespace(variant=0, variant_name="v", workspace_bytes=0)

    def launch(self, context: Any, call: Any, workspace: int, size: int) -> None:
        x, y = (self.memory[call.addresses[name] >> 32] for name in ("x", "y"))
        self.launches += 1
        self.kernel(x, y, self.launches)


def copy(x: Any, y: Any, launch: int) -> None:
    elements_in(Y, y)[...] = elements_in(X, x)


def leave_one(x: Any, y: Any, launch: int) -> None:
    elements_in(Y, y)[:, :5] = elements_in(X, x)[:, :5]
    elements_in(Y, y)[:3, 5] = 1


def write_behind(x: Any, y: Any, launch: int) -> None:
    copy(x, y, launch)
    y[Y.offset + span_bytes(Y)] = 1


def write_a_gap(x: Any, y: Any, launch: int) -> None:
    copy(x, y, launch)
    y[Y.offset + 2 * 7] = 1


def read_what_it_wrote(x: Any, y: Any, launch: int) -> None:
    elements_in(X, x)[0, 0] = 9
    copy(x, y, launch)


def drift(x: Any, y: Any, launch: int) -> None:
    elements_in(Y, y)[...] = launch


@pytest.mark.parametrize(
    ("kernel", "troubles", "text"),
    [
        (copy, [], ""),
        (leave_one, [Trouble.UNWRITTEN], "y[3, 5] and 0 more of 24"),
        (write_behind, [Trouble.BESIDE], "1 bytes beside the elements of y"),
        (write_a_gap, [Trouble.BESIDE], "1 bytes beside the elements of y"),
        (read_what_it_wrote, [Trouble.BESIDE], "the input x was written"),
        (drift, [Trouble.REPEAT], "y[0, 0] and 23 more of 24"),
    ],
)
def test_troubles(kernel: Callable[..., None], troubles: list[Trouble], text: str) -> None:
    device: Any = ArrayDevice(kernel)
    entry: Any = SimpleNamespace(scalars=(), tensors=(X, Y))
    pack: Any = SimpleNamespace(folder=Path())
    context: Any = None
    placed = Placed(device, context, entry, case_of(), pack.folder)
    result = verify(placed, "sm_80", pack)
    assert [failure.trouble for failure in result.failures] == troubles
    assert all(text in failure.text for failure in result.failures)
    assert device.launches == 2


def test_other_results_are_allowed_where_nothing_is_promised() -> None:
    device: Any = ArrayDevice(drift)
    entry: Any = SimpleNamespace(scalars=(), tensors=(X, Y))
    pack: Any = SimpleNamespace(folder=Path())
    context: Any = None
    placed = Placed(device, context, entry, case_of(reproducible=False), pack.folder)
    assert verify(placed, "sm_80", pack).failures == ()


def test_memory_around_elements_is_poison() -> None:
    values = np.arange(24, dtype=np.float16).reshape(4, 6)
    memory = memory_of(Y, values, 0xEE)
    assert np.array_equal(elements_in(Y, memory), values)
    assert int(np.count_nonzero(memory == 0xEE)) == memory.size - 2 * 24
