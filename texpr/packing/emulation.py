"""The emulator's own output bits of a pack's small cases, made while packing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from texpr.checking.calls import symbols_of
from texpr.checking.execute import MULTIPROCESSORS, Bench, NotWritten
from texpr.emulator.cuda import CudaError
from texpr.emulator.faults import Fault, PtxError
from texpr.errors import TExprError
from texpr.lang.arrays import Array
from texpr.lang.ir import Algorithm
from texpr.packing.expect import Prepared, values_of
from texpr.packing.promise import code_of, reason_against
from texpr.packing.runner.records import Emulated
from texpr.runtime.library import Library
from texpr.targets import TARGETS

_Json = Mapping[str, Any]


class Emulation:
    """An entry of a bundle on the emulator. A case is run once for all targets whose PTX is the same."""

    def __init__(
        self, bundle: Path, pack: Path, manifest: _Json, library: Library, function: _Json, algorithm: Algorithm
    ) -> None:
        self._bundle = bundle
        self._pack = pack
        self._library = library
        self._function = function
        self._algorithm = algorithm
        self._kernels = {kernel["name"]: kernel for kernel in manifest["kernels"]}
        self._benches: dict[str, Bench] = {}
        self._texts: dict[tuple[str, str], tuple[str, ...]] = {}

    def close(self) -> None:
        """Unload the kernels."""
        while self._benches:
            self._benches.popitem()[1].close()

    def run(
        self, prepared: Prepared, variant: str, targets: Sequence[str]
    ) -> tuple[dict[str, Emulated], dict[str, Array]]:
        """Per target what came out, and the arrays of bits that this names. Nothing for variants that are not
        reproducible: their bits say nothing."""
        found: dict[str, Emulated] = {}
        arrays: dict[str, Array] = {}
        seen: dict[str, Emulated] = {}
        for target in targets:
            record = self._variant(variant, target)
            if not record["reproducible"]:
                continue
            texts = self._ptx(record, target)
            code = code_of(texts)
            if code not in seen:
                why = reason_against(texts, record, [self._kernels[each["kernel"]] for each in record["launches"]])
                seen[code] = self._once(prepared, target, why, arrays)
            found[target] = seen[code]
        return found, arrays

    def _variant(self, name: str, target: str) -> _Json:
        variants: list[_Json] = self._function["variants"]
        return next(each for each in variants if each["name"] == name and target in each["targets"])

    def _ptx(self, variant: _Json, target: str) -> tuple[str, ...]:
        key = (variant["launches"][0]["kernel"], target)
        if key not in self._texts:
            images = [
                image
                for launch in variant["launches"]
                for image in self._kernels[launch["kernel"]]["images"]
                if image["target"] == target
            ]
            self._texts[key] = tuple((self._bundle / image["ptx"]).read_text(encoding="utf-8") for image in images)
        return self._texts[key]

    def _once(self, prepared: Prepared, target: str, why: str, arrays: dict[str, Array]) -> Emulated:
        symbols = symbols_of(self._algorithm, prepared.call, MULTIPROCESSORS)
        assert symbols is not None
        try:
            bench = self._bench(target)
            _, outputs = bench.run(prepared.call, values_of(prepared, self._pack), symbols)
        except (Fault, NotWritten, TExprError, CudaError, PtxError) as error:
            return Emulated(promised=False, why=why, bits={}, fault=str(error))
        bits: dict[str, str] = {}
        for name, values in outputs.items():
            same = (key for key, known in arrays.items() if key.startswith(f"{name}.bits") and _equal(known, values))
            bits[name] = next(same, f"{name}.bits.{target}")
            arrays.setdefault(bits[name], values)
        return Emulated(promised=not why, why=why, bits=bits)

    def _bench(self, target: str) -> Bench:
        if target not in self._benches:
            capability = TARGETS[target].capability
            bench = Bench(self._bundle, self._library, self._function["symbol"], self._algorithm, capability)
            self._benches[target] = bench
        return self._benches[target]


def _equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == np.ascontiguousarray(b).tobytes()
