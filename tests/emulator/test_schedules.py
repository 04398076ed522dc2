"""Schedule seeds: the same seed gives the same run, another one another order, and every entry passes it on."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

from tests.emulator.snippets import kernel
from tests.runtime.sample_bundles import bundle
from texpr.emulator import Device, load_ptx
from texpr.emulator import standin as standin_module
from texpr.emulator.__main__ import main
from texpr.emulator.driver import EmulatedDriver
from texpr.emulator.gpu import VirtualGpu
from texpr.emulator.standin import run_program
from texpr.runtime import load

# Each warp takes a ticket and stores it at its own place.
TICKETS = kernel(
    """
    mov.u32 %t, %tid.x; mov.u32 %w, %ctaid.x; mad.lo.u32 %w, %w, 256, %t; shr.u32 %w, %w, 5; and.b32 %t, %t, 31;
    ld.param.u64 %c, [counter]; ld.param.u64 %o, [out]; setp.eq.u32 %p, %t, 0;
    @%p atom.global.add.u32 %r, [%c], 1; mad.wide.u32 %o, %w, 4, %o; @%p st.global.u32 [%o], %r;
    """,
    ".param .u64 counter, .param .u64 out",
    declarations=".reg .b32 %t, %w, %r; .reg .b64 %c, %o; .reg .pred %p;",
    threads=256,
)


def tickets(device: Device) -> list[int]:
    counter, out = device.alloc(4, "counter"), device.alloc(4 * 32, "out")
    device.write(counter, bytes(4))
    params = [address.to_bytes(8, "little") for address in (counter, out)]
    device.launch(load_ptx(TICKETS), "test", (4,), (256,), params=params)
    return np.frombuffer(device.read(out, 4 * 32), np.uint32).tolist()


def test_lockstep_takes_warps_in_order() -> None:
    assert tickets(Device(sm=120)) == list(range(32))


def test_a_seed_fixes_an_order_whatever_ran_before() -> None:
    device = Device(sm=120, seed=5)
    first = tickets(device)
    assert sorted(first) == list(range(32)) and first != list(range(32))
    assert tickets(device) == first == tickets(Device(sm=120, seed=5))
    assert len({tuple(tickets(Device(sm=120, seed=seed))) for seed in range(6)}) == 6


def test_seeds_are_numbers_from_0_on() -> None:
    with pytest.raises(ValueError, match="0 or more, not -1"):
        Device(sm=120, seed=-1)
    with pytest.raises(SystemExit) as caught:
        main(["run", "--bundle", "x", "--schedule-seed", "-1", "--", "true"])
    assert caught.value.code == 2


def test_drivers_and_bundles_pass_the_seed_on() -> None:
    folder = bundle("affine")
    assert EmulatedDriver([folder], seed=3).gpu.device.seed == 3
    assert EmulatedDriver([folder]).gpu.device.seed is None
    loaded = load(folder, schedule_seed=4)
    x = np.ones((2, 128), np.float32)
    np.testing.assert_array_equal(loaded(x, a=2.0), load(folder)(x, a=2.0))
    assert loaded._backends["emulator"]._driver.gpu.device.seed == 4  # type: ignore[attr-defined]


def test_programs_get_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []

    def recorded(*arguments: Any, seed: int | None = None, **options: Any) -> VirtualGpu:
        seen.append(seed)
        return VirtualGpu(*arguments, seed=seed, **options)

    monkeypatch.setattr(standin_module, "VirtualGpu", recorded)
    script = "import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    program = [sys.executable, "-c", script]
    assert run_program(program, [bundle("affine")], schedule_seed=6, errors=io.StringIO()) == 0
    assert main(["run", "--bundle", str(bundle("affine")), "--schedule-seed", "7", "--", *program]) == 0
    assert run_program(program, [bundle("affine")], errors=io.StringIO()) == 0
    assert seen == [6, 7, None]
