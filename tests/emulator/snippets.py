"""Runs a few PTX instructions on every element of some arrays: the way single instructions are tested."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from texpr.emulator import Device, LaunchStats, load_ptx

Array = NDArray[np.generic]
THREADS = 64


def kernel(
    body: str, params: str = "", *, declarations: str = "", module: str = "", target: str = "sm_120a", threads: int = 32
) -> str:
    """A PTX file with one kernel `test`; `params` are declarations such as `.param .u64 p`."""
    return f"""
.version 9.4
.target {target}
.address_size 64
{module}
.visible .entry test({params})
.reqntid {threads}
{{
{declarations}
{body}
ret;
}}
"""


def _register_type(scalar: str) -> str:
    return "pred" if scalar == "pred" else {"8": "b16"}.get(scalar[1:], f"b{scalar[1:]}")


def run_lanes(
    body: str, inputs: Mapping[str, tuple[str, Array]], outputs: Mapping[str, str], *, registers: str = ""
) -> dict[str, Array]:
    """Execute `body` once per element.

    `inputs`: register name -> (type b8, b16, b32 or b64; values), loaded into `%name`.  `outputs`: register name ->
    type; what the body leaves in `%name` comes back, as unsigned integers.  `registers` declares more.
    """
    count = len(next(iter(inputs.values()))[1])
    padded = -(-count // THREADS) * THREADS
    lines = [
        ".reg .b64 %address, %offset;",
        ".reg .b32 %thread, %program, %index;",
        "mov.u32 %thread, %tid.x;",
        "mov.u32 %program, %ctaid.x;",
        f"mad.lo.u32 %index, %program, {THREADS}, %thread;",
        registers,
    ]
    device = Device(sm=120)
    params, data = [], []
    for name, (scalar, values) in inputs.items():
        size = int(scalar[1:]) // 8
        raw = np.zeros(padded * size, np.uint8)
        raw[: count * size] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        address = device.alloc(len(raw), name)
        device.write(address, raw)
        lines += [f".reg .{_register_type(scalar)} %{name};", *_place(name, size)]
        lines.append(f"ld.global.{scalar} %{name}, [%address];")
        params.append(name)
        data.append(address.to_bytes(8, "little"))
    stores = []
    results = {}
    for name, scalar in outputs.items():
        size = int(scalar[1:]) // 8
        address = device.alloc(padded * size, name)
        lines.append(f".reg .{_register_type(scalar)} %{name};")
        stores += [*_place(name, size), f"st.global.{scalar} [%address], %{name};"]
        params.append(name)
        data.append(address.to_bytes(8, "little"))
        results[name] = (address, size)
    declared = ", ".join(f".param .u64 param_{name}" for name in params)
    text = kernel("\n".join([*lines, body, *stores]), declared, threads=THREADS)
    device.launch(load_ptx(text, "snippet.ptx"), "test", (padded // THREADS,), (THREADS,), params=data)
    return {
        name: np.frombuffer(device.read(address, padded * size), f"u{size}")[:count]
        for name, (address, size) in results.items()
    }


def _place(name: str, size: int) -> list[str]:
    return [
        f"ld.param.u64 %address, [param_{name}];",
        f"mul.wide.u32 %offset, %index, {size};",
        "add.u64 %address, %address, %offset;",
    ]


def run_one(opcode: str, sources: list[tuple[str, Array]], result: str, *, constants: str = "") -> Array:
    """Execute `opcode %d, %s0, %s1, ...[, constants]` per element and give `%d`."""
    inputs = {f"s{i}": source for i, source in enumerate(sources)}
    operands = ", ".join([*(f"%{name}" for name in inputs), *([constants] if constants else [])])
    return run_lanes(f"{opcode} %d, {operands};", inputs, {"d": result})["d"]


def run_kernel(
    text: str,
    arrays: Mapping[str, Array | int],
    *,
    grid: tuple[int, ...] = (1,),
    threads: int = 32,
    shared: int = 0,
    device: Device | None = None,
) -> tuple[Device, dict[str, int], LaunchStats]:
    """Launch `test` with one pointer parameter per entry: an array to copy in, or a size to leave unwritten."""
    device = Device(sm=120) if device is None else device
    addresses = {}
    for name, content in arrays.items():
        size = content if isinstance(content, int) else content.nbytes
        addresses[name] = device.alloc(size, name)
        if not isinstance(content, int):
            device.write(addresses[name], content)
    params = [address.to_bytes(8, "little") for address in addresses.values()]
    stats = device.launch(load_ptx(text, "test.ptx"), "test", grid, (threads,), shared=shared, params=params)
    return device, addresses, stats
