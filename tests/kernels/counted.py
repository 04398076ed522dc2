"""Counters of one call of a shipped kernel, with sizes that a test chooses."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.manifest import load_manifest
from texpr.check import package_of
from texpr.checking.calls import Case, Values, symbols_of
from texpr.checking.execute import MULTIPROCESSORS, Bench
from texpr.checking.inputs import make_inputs
from texpr.compile import find_schedule, load_algorithm
from texpr.emulator.counters import Counters
from texpr.lang.ir import Tensor
from texpr.runtime.library import Library
from texpr.runtime.manifest import read_manifest
from texpr.targets import TARGETS


@cache
def _bundle(source: str, target: str, types: tuple[tuple[str, str], ...]) -> tuple[tempfile.TemporaryDirectory, Path]:
    """A bundle that lives as long as the tests run."""
    definition = load_algorithm(source)
    record = find_schedule(source, definition, None, (target,), None)
    package = package_of(definition, record, (target,), dict(types), {}, with_example=False)
    owner = tempfile.TemporaryDirectory(prefix="texpr-counted-")
    folder = Path(owner.name) / definition.name
    write_bundle(package, folder, BuildOptions(targets=(target,)))
    return owner, folder


def counted(
    source: str,
    target: str,
    types: Mapping[str, str],
    dims: Mapping[str, int],
    variant: str,
    arrays: Mapping[str, np.ndarray[Any, Any]] | None = None,
    absent: Collection[str] = (),
) -> Counters:
    """Counters of a call with dense, aligned tensors that are all present but for `absent`, random ones but for
    `arrays`; it must reach `variant`."""
    _, folder = _bundle(source, target, tuple(types.items()))
    (function,) = load_manifest(folder)["functions"]
    algorithm = load_algorithm(source).bind(function["types"], function["statics"])
    tensors = [param for param in algorithm.params if isinstance(param, Tensor)]
    strides = {f"{t.name}_stride_{d}": dims[str(t.shape[-1])] for t in tensors for d in t.strided}
    case = Case(dims, strides, {}, {t.name: 0 for t in tensors}, frozenset(absent), frozenset(), Values.NORMAL)
    symbols = symbols_of(algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    bench = Bench(folder, Library(read_manifest(folder)), function["symbol"], algorithm, TARGETS[target].capability)
    try:
        inputs = make_inputs(algorithm, case, symbols, 0)
        inputs = dataclasses.replace(inputs, arrays={**inputs.arrays, **(arrays or {})})
        assert bench.run(case, inputs, symbols)[0].variant_name == variant
        return bench.count(case, inputs, symbols)
    finally:
        bench.close()
