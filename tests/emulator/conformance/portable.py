"""Runs conformance cases on a GPU through libcuda, and compares: needs Python, NumPy and the NVIDIA driver only.

A copy of this file is the `run.py` of a packed folder.  It reads `cases.json`, `data.npz` and the cubins beside it:

    python run.py [--only WORD] [--output results.json]

The results say for every case whether the GPU gave what the reference demands (bit for bit, any NaN for a NaN, or
within the documented error), and where its bits differ from the emulator's.  Exit status 1: a reference was missed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = Any


# Comparison ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A float format: bits of the exponent and the mantissa, whether it has infinities, unused low bits."""

    exponent: int
    mantissa: int
    infinity: bool
    dropped: int

    @property
    def bytes(self) -> int:
        return max((1 + self.exponent + self.mantissa + self.dropped) // 8, 1)

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def overflow(self) -> int:
        field = ((1 << self.exponent) - 1) << self.mantissa
        return (field if self.infinity else field | ((1 << self.mantissa) - 1)) << self.dropped

    @property
    def largest(self) -> float:
        mantissa = (1 << self.mantissa) - (1 if self.infinity else 2)
        top = (1 << self.exponent) - (2 if self.infinity else 1)
        return (1 + mantissa / (1 << self.mantissa)) * 2.0 ** (top - self.bias)

    def is_nan(self, bits: Array) -> Array:
        magnitude = bits.astype(np.uint64) & np.uint64((1 << (8 * self.bytes - 1)) - 1)
        return magnitude > self.overflow if self.infinity else magnitude == self.overflow

    def values(self, bits: Array) -> Array:
        """As float64, for formats of 16 bits and more."""
        if (self.exponent, self.bytes) == (8, 2):
            return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return bits.view(f"f{self.bytes}").astype(np.float64)


def differing(got: Array, expected: Array, form: Form | None) -> tuple[Array, Array, Array]:
    """Which elements differ, and both arrays split into elements; a NaN equals any NaN."""
    if form is None:
        return got != expected, got, expected
    # Packed results are compared element by element.
    got, expected = (array.view(f"u{form.bytes}") for array in (got, expected))
    return (got != expected) & ~(form.is_nan(got) & form.is_nan(expected)), got, expected


def beyond(got: Array, exact: Array, form: Form, ulps: float, relative: float, absolute: float) -> tuple[Array, Array]:
    """Which elements miss the exact value (float64) by more than allowed, and what they are."""
    values = form.values(got)
    with np.errstate(all="ignore"):
        power = np.maximum(np.frexp(exact)[1] - 1, 1 - form.bias)
        ulp = np.ldexp(1.0, power - form.mantissa)
        # A result is a number of the format: half a place more, where the bound speaks of exact values.
        allowed = ulps * ulp + relative * np.abs(exact) + absolute + (0 if ulps else 0.5 * ulp)
        both = np.isfinite(exact) & np.isfinite(values)
        close = np.where(both, np.abs(np.where(both, values - exact, 0)) <= allowed, values == exact)
        large = (np.abs(exact) + allowed > form.largest) & (np.sign(values) == np.sign(exact)) & ~np.isfinite(values)
        return ~(close | (np.isnan(values) & np.isnan(exact)) | large), values


def explain(got: Array, expected: Array, form: Form | None, bound: Sequence[float] | None) -> list[str]:
    """Up to four differences in words."""
    if bound is None:
        wrong, got, expected = differing(got, expected, form)
        lines = [(i, f"{int(got[i]):#x}, expected {int(expected[i]):#x}") for i in np.flatnonzero(wrong)[:4]]
    else:
        assert form is not None
        wrong, values = beyond(got, expected, form, *bound)
        lines = [(i, f"{float(values[i])!r}, exactly {float(expected[i])!r}") for i in np.flatnonzero(wrong)[:4]]
    return [f"[{i}] of {len(wrong)}, {int(wrong.sum())} wrong: {line}" for i, line in lines]


# The driver ---------------------------------------------------------------------------------------------------------


class DriverError(Exception):
    """A function of the driver failed."""


class Driver:
    """The CUDA driver API on the first GPU; `library` stands in for libcuda in tests."""

    def __init__(self, library: Any = None) -> None:
        if library is None:
            try:
                library = ctypes.CDLL("libcuda.so.1")
            except OSError as error:
                raise DriverError(f"no NVIDIA driver: {error}") from None
        self._library = library
        self._device = ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(self._device), 0)
        self.capability = 10 * self._attribute(75) + self._attribute(76)
        self._begin()

    def _begin(self) -> None:
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise DriverError(f"{name}: {(text.value or b'').decode() or code}")

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def facts(self) -> dict[str, Any]:
        name, version = ctypes.create_string_buffer(256), ctypes.c_int()
        self.call("cuDeviceGetName", name, 256, self._device)
        self.call("cuDriverGetVersion", ctypes.byref(version))
        return {
            "gpu": name.value.decode(),
            "capability": self.capability,
            "driver": version.value,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }

    def reset(self) -> None:
        """A new context: after a kernel has crashed, the old one answers nothing any more."""
        self.call("cuDevicePrimaryCtxReset_v2", self._device)
        self._begin()

    def load(self, image: bytes) -> ctypes.c_void_p:
        """A module from a cubin, or from PTX text (which ends with a zero byte)."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
        return module

    def run(
        self,
        module: ctypes.c_void_p,
        kernel: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        maps: Sequence[Mapping[str, Any]],
        threads: int,
        grid: int,
    ) -> dict[str, Array]:
        """Launch once; `outputs` are the buffers' first contents, and name their types and sizes."""
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), module, kernel.encode())
        places: dict[str, ctypes.c_uint64] = {}
        try:
            for name, array in (*inputs.items(), *outputs.items()):
                places[name] = ctypes.c_uint64()
                self.call("cuMemAlloc_v2", ctypes.byref(places[name]), ctypes.c_size_t(max(array.nbytes, 1)))
                data = np.ascontiguousarray(array)
                self.call(
                    "cuMemcpyHtoD_v2", places[name], ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.nbytes)
                )
            blocks = [self._encode(map_, places[map_["buffer"]]) for map_ in maps]
            params = [*(ctypes.addressof(place) for place in places.values()), *(address for address, _ in blocks)]
            pointers = (ctypes.c_void_p * len(params))(*params)
            self.call("cuLaunchKernel", function, grid, 1, 1, threads, 1, 1, 0, None, pointers, None)
            self.call("cuCtxSynchronize")
            results = {}
            for name, first in outputs.items():
                results[name] = np.empty_like(np.ascontiguousarray(first))
                self.call(
                    "cuMemcpyDtoH_v2",
                    ctypes.c_void_p(results[name].ctypes.data),
                    places[name],
                    ctypes.c_size_t(first.nbytes),
                )
            return results
        finally:
            for place in places.values():
                self._library.cuMemFree_v2(place)

    def _encode(self, map_: Mapping[str, Any], place: ctypes.c_uint64) -> tuple[int, Any]:
        """A tensor map, at an address that is a multiple of 64, and what keeps it there."""
        memory = ctypes.create_string_buffer(128 + 64)
        address = -(-ctypes.addressof(memory) // 64) * 64
        rank = len(map_["extents"])

        def list_of(kind: Any, values: Sequence[int]) -> Any:
            return (kind * max(len(values), 1))(*values)

        self.call(
            "cuTensorMapEncodeTiled",
            ctypes.c_void_p(address),
            map_["element_type"],
            rank,
            ctypes.c_void_p(place.value),
            list_of(ctypes.c_uint64, map_["extents"]),
            list_of(ctypes.c_uint64, map_["strides"]),
            list_of(ctypes.c_uint32, map_["box"]),
            list_of(ctypes.c_uint32, [1] * rank),
            0,
            map_["swizzle"],
            0,
            map_["fill"],
        )
        return address, memory


# A packed folder ----------------------------------------------------------------------------------------------------


def run_folder(folder: Path, driver: Driver, only: str = "") -> dict[str, Any]:
    """Run every case of a folder (whose name contains `only`): counts, and a record for each case that differs."""
    described = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    data = np.load(folder / "data.npz")
    results: list[dict[str, Any]] = []
    modules: dict[str, Any] = {}
    for case in described["cases"]:
        if only not in case["name"]:
            continue
        record: dict[str, Any] = {"case": case["name"], "opcodes": case["opcodes"], "wrong": [], "unlike_emulator": []}
        try:
            if case["image"] not in modules:
                modules[case["image"]] = driver.load((folder / case["image"]).read_bytes() + b"\0")
            inputs = {name: data[f"{case['key']}/in/{name}"] for name in case["inputs"]}
            outputs = {name: data[f"{case['key']}/start/{name}"] for name in case["outputs"]}
            got = driver.run(
                modules[case["image"]], case["kernel"], inputs, outputs, case["maps"], case["threads"], case["grid"]
            )
        except DriverError as error:
            record["wrong"].append(str(error))
            modules.clear()
            driver.reset()
        else:
            for name, output in case["outputs"].items():
                form = Form(*output["form"]) if output["form"] else None
                expected, emulator = (data[f"{case['key']}/{what}/{name}"] for what in ("expected", "emulator"))
                record["wrong"] += [f"{name}{x}" for x in explain(got[name], expected, form, output["bound"])]
                record["unlike_emulator"] += [f"{name}{x}" for x in explain(got[name], emulator, form, None)]
        results.append(record)
    return {
        "target": described["target"],
        "made_by": described["made_by"],
        "device": driver.facts(),
        "cases": len(results),
        "wrong": [record for record in results if record["wrong"]],
        "unlike_emulator": [record for record in results if record["unlike_emulator"] and not record["wrong"]],
        "same_bits": sum(not record["unlike_emulator"] and not record["wrong"] for record in results),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the instruction conformance cases of this folder on a GPU.")
    parser.add_argument("--only", default="", metavar="WORD", help="only cases whose name contains WORD")
    parser.add_argument("--output", default="results.json", metavar="FILE", help="where the results go (JSON)")
    options = parser.parse_args(arguments)
    try:
        results = run_folder(Path(__file__).resolve().parent, Driver(), options.only)
    except DriverError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Path(options.output).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(
        f"{results['cases']} cases: {len(results['wrong'])} wrong, {len(results['unlike_emulator'])} right but not the "
        f"emulator's bits, {results['same_bits']} the same bits; details in {options.output}"
    )
    for record in results["wrong"][:20]:
        print(f"  {record['case']}: {record['wrong'][0]}")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
