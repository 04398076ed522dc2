"""Runs a case on the emulator."""

from __future__ import annotations

import numpy as np

from tests.emulator.conformance.case import Array, Case
from texpr.emulator import Device, load_ptx
from texpr.emulator.tensor_maps import encode_tiled


def run(case: Case, seed: int | None = None) -> dict[str, Array]:
    """The outputs; raises `Fault` or `PtxError` like any launch."""
    target, _ = case.target
    number = int("".join(filter(str.isdigit, target)))
    device = Device(sm=number, seed=seed)
    places = {}
    for name, array in case.inputs.items():
        places[name] = device.alloc(array.nbytes, name)
        device.write(places[name], np.ascontiguousarray(array).view(np.uint8).reshape(-1))
    sizes = {name: output.count * np.dtype(output.dtype).itemsize for name, output in case.outputs.items()}
    for name, size in sizes.items():
        places[name] = device.alloc(size, name)
        if name in case.start:
            device.write(places[name], np.ascontiguousarray(case.start[name]).view(np.uint8).reshape(-1))
    params = [place.to_bytes(8, "little") for place in places.values()]
    for map_ in case.maps.values():
        params.append(
            encode_tiled(
                map_.element_type,
                places[map_.buffer],
                map_.extents,
                map_.strides,
                map_.box,
                swizzle=map_.swizzle,
                fill=map_.fill,
            )
        )
    module = load_ptx(case.text(), f"{case.name}.ptx")
    device.launch(module, "test", (case.grid,), (case.threads,), params=params)
    return {
        name: np.frombuffer(device.read(places[name], size), case.outputs[name].dtype) for name, size in sizes.items()
    }
