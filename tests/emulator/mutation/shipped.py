"""Kernels of the repository as they ship, with the calls that `texpr check` would choose, as the bundle's own launcher
makes them."""

from __future__ import annotations

import hashlib
import math
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.emulator.mutation.calls import Buffer, Built, Call, Launch
from tests.kernels.test_kernels_on_emulator import SOURCES
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.manifest import load_manifest
from texpr.checking.bound import accuracy_of, compare, expected_outputs
from texpr.checking.calls import Candidate, Case, chosen, is_legal, storage_of, symbols_of
from texpr.checking.cases import Problem, choose_cases, work_of
from texpr.checking.execute import MULTIPROCESSORS, Bench
from texpr.checking.inputs import make_inputs
from texpr.checking.rows import Effort
from texpr.checking.tiles import dim_sizes
from texpr.compile import domain_facts, find_schedule, load_algorithm, package_of
from texpr.emulator import Device
from texpr.lang.arrays import storage_dtype
from texpr.lang.bounded import Bounded
from texpr.lang.ir import Algorithm
from texpr.math.parse import parse_bool
from texpr.plan.default import default_schedule
from texpr.runtime.library import Library
from texpr.runtime.manifest import read_manifest
from texpr.schedule.records import Schedule
from texpr.targets import TARGETS

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class _Bundle:
    folder: Path
    algorithm: Algorithm
    schedule: Schedule
    function: Mapping[str, Any]


def build_variant(
    name: str,
    variant: str,
    target: str,
    types: tuple[tuple[str, str], ...],
    schedule: str,
    effort: Effort,
    further: int,
) -> Built:
    """A variant of a kernel of the repository under its `own` schedule, or the `default` one, with the calls that
    `texpr check` makes with this effort and `further` calls of other sizes."""
    bundle = _bundle(name, target, types, schedule)
    variants = bundle.function["variants"]
    candidates = [
        Candidate(position, record["name"], parse_bool(record["guard"]))
        for position, record in enumerate(variants)
        if target in record["targets"]
    ]
    wanted = next(candidate for candidate in candidates if candidate.name == variant)
    record = next(record for record in bundle.schedule.variants if record.name == variant)
    facts = domain_facts(bundle.algorithm)
    problem = Problem(bundle.algorithm, record, wanted, candidates, facts, MULTIPROCESSORS, effort.work)
    seed = zlib.crc32(f"{effort.seed} {bundle.function['symbol']} {variant} {target}".encode())  # as the check does
    cases = [case for case in choose_cases(problem, effort.calls, seed) if not _is_empty(bundle.algorithm, case)]
    cases.sort(key=lambda case: _work(problem, case))
    others = _other_sizes(problem, cases, further, seed)
    used = {launch["kernel"] for launch in variants[wanted.position]["launches"]}
    images = [
        (kernel["name"], image)
        for kernel in load_manifest(bundle.folder)["kernels"]
        for image in kernel["images"]
        if kernel["name"] in used and image["target"] == target
    ]
    kernels = {kernel: (bundle.folder / image["ptx"]).read_text() for kernel, image in images}
    recorded = [_record(bundle, case, target, seed + number) for number, case in enumerate([*cases, *others])]
    return Built(kernels, tuple(recorded[: len(cases)]), tuple(recorded[len(cases) :]))


def variants_of(name: str, target: str, types: tuple[tuple[str, str], ...], schedule: str) -> Sequence[str]:
    """Names of the variants that exist for a target and binding of types."""
    return [v["name"] for v in _bundle(name, target, types, schedule).function["variants"] if target in v["targets"]]


@cache
def _bundle(name: str, target: str, types: tuple[tuple[str, str], ...], schedule: str) -> _Bundle:
    definition = load_algorithm(SOURCES[name])
    bound = dict(types)
    record = (
        default_schedule(definition, [target])
        if schedule == "default"
        else find_schedule(SOURCES[name], definition, None, None)
    )
    package = package_of(definition, record, [target], bound, {}, with_example=False)
    key = hashlib.sha256(repr((name, target, types, schedule)).encode()).hexdigest()[:12]
    folder = _ROOT / "build" / "mutation" / key / name
    write_bundle(package, folder, BuildOptions(targets=(target,)))
    (function,) = load_manifest(folder)["functions"]
    return _Bundle(folder, definition.bind(function["types"], function["statics"]), record, function)


def _is_empty(algorithm: Algorithm, case: Case) -> bool:
    symbols = symbols_of(algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    return any(0 in storage_of(output, symbols)[0] for output in algorithm.outputs)


def _work(problem: Problem, case: Case) -> int:
    symbols = symbols_of(problem.algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    return work_of(problem.algorithm, problem.record, symbols)


def _other_sizes(problem: Problem, cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Calls with sizes in between: what is compared with a size is compared with every residue, not only with those at
    the edges of tiles. One size of each is special to the schedule, such as one for which a pipeline comes round."""
    rng = random.Random(seed)
    special = dim_sizes(problem.algorithm, problem.record, problem.wanted.guard, problem.facts)
    steps = {name: max(math.gcd(*(case.dims[name] for case in cases)), 1) for name in cases[0].dims}
    most = {name: max(case.dims[name] for case in cases) for name in cases[0].dims}
    found: list[Case] = []
    for _ in range(40 * count):
        model = rng.choice(cases)
        dims = {name: rng.randint(1, max(most[name] // step, 1)) * step for name, step in steps.items()}
        chief = rng.choice(list(dims))
        dims[chief] = rng.choice(special[chief][len(special[chief]) // 2 :])  # the larger half
        longer = max(dims[name] - model.dims[name] for name in dims)
        strides = {name: stride + max(longer, 0) for name, stride in model.strides.items()}
        case = replace(model, dims=dims, strides=strides)
        symbols = symbols_of(problem.algorithm, case, MULTIPROCESSORS)
        if symbols is None or not is_legal(problem.algorithm, case, symbols) or _is_empty(problem.algorithm, case):
            continue
        cheap = _work(problem, case) <= problem.most_work // 4
        if cheap and chosen(problem.candidates, case, symbols) == problem.wanted:
            found.append(case)
        if len(found) == count:
            break
    return sorted(found, key=lambda case: _work(problem, case))


def _record(bundle: _Bundle, case: Case, target: str, seed: int) -> Call:
    """The call as the launcher makes it."""
    algorithm = bundle.algorithm
    symbols = symbols_of(algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    inputs = make_inputs(algorithm, case, symbols, seed)
    library = Library(read_manifest(bundle.folder))
    bench = Bench(bundle.folder, library, bundle.function["symbol"], algorithm, TARGETS[target].capability)
    gpu = bench._driver.gpu
    buffers: list[Buffer] = []
    launches: list[Launch] = []
    launch = gpu.launch

    def recording(handle: int, *, grid: Any, block: Any, shared: int, params: Any, cluster: Any = None) -> None:
        if not launches:
            buffers.extend(Buffer.of(allocation) for allocation in gpu.device.memory.live())
        kernel = gpu._function(handle).image.kernel
        launches.append(Launch(kernel, tuple(grid), tuple(block), shared, tuple(params), cluster))
        launch(handle, grid=grid, block=block, shared=shared, params=params, cluster=cluster)

    gpu.launch = recording  # type: ignore[method-assign]
    bench.run(case, inputs, symbols)
    bench.close()
    expected = expected_outputs(algorithm, inputs, case.dims, accuracy_of(algorithm, [target]))

    def judge(device: Device) -> str:
        return _complaint(device, tuple(buffers), algorithm, case, symbols, expected)

    return Call(case.text(), TARGETS[target].capability, tuple(buffers), tuple(launches), judge)


def _complaint(
    device: Device,
    buffers: tuple[Buffer, ...],
    algorithm: Algorithm,
    case: Case,
    symbols: Mapping[str, int],
    expected: Mapping[str, Bounded],
) -> str:
    """What is wrong with the outputs: elements not written, bytes beside them written, values beyond their bound."""
    for tensor in algorithm.outputs:
        name = tensor.may_alias if tensor.name in case.aliased else tensor.name
        buffer = next(buffer for buffer in buffers if buffer.name == name)
        allocation = device.memory.span(buffer.address, 0)[0]
        extents, strides = storage_of(tensor, symbols)
        size = tensor.dtype.bytes
        steps = [stride * size for stride in strides]
        start = case.offsets[tensor.name]
        octets = np.zeros(extents, np.int64) + start
        for axis, (extent, step) in enumerate(zip(extents, steps, strict=True)):
            octets += (np.arange(extent) * step).reshape([-1 if a == axis else 1 for a in range(len(extents))])
        places = octets[..., None] + np.arange(size)
        meant = buffer.written.copy()
        meant[places] = True
        written = allocation.written[: allocation.size] != 0
        if not (written == meant).all():
            return "not written" if (meant & ~written).any() else "written beside"
        values = allocation.data[: allocation.size][places].reshape(-1).view(storage_dtype(tensor.dtype))
        found = compare(tensor.name, expected[tensor.name], values.reshape(extents), tensor.dtype)
        if found.wrong:
            return found.text()
    return ""

