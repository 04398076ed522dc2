"""The cases of a bundle: per entry, variant and group of targets a few small ones to check, and a large one to time.

Targets share cases where they have the same variants and the same accuracy; a case is run on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from texpr.aot.bundle import SCHEDULE_FILE
from texpr.aot.manifest import load_manifest
from texpr.checking.bound import accuracy_of
from texpr.checking.calls import Candidate
from texpr.checking.calls import Case as Call
from texpr.checking.cases import Problem, choose_cases
from texpr.checking.execute import MULTIPROCESSORS
from texpr.compile import domain_facts
from texpr.lang.accuracy import Accuracy
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.math.expr import free_symbols
from texpr.math.parse import parse_bool
from texpr.packing.emulation import Emulation
from texpr.packing.errors import SizeRefused
from texpr.packing.expect import key_of, prepare
from texpr.packing.requests import SizeRequest
from texpr.packing.runner.records import Case, Emulated
from texpr.packing.sizes import Limits, is_empty, large_case, reached, sized_case
from texpr.runtime.library import Library
from texpr.runtime.manifest import read_manifest
from texpr.schedule.files import load_schedule
from texpr.schedule.records import Variant

_Json = Mapping[str, Any]

_USUAL_MULTIPROCESSORS, _MOST_MULTIPROCESSORS = 108, 512
"""Of GPUs on which variants are tried that the emulator's few do not reach; more than any GPU has."""
_TRIED: Final = 3
"""Calls looked at for each one packed: many of those that cover sizes well are empty."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Per variant, binding and group of targets: ``calls`` small cases of at most ``work`` points, and a large case
    within ``limits``, if ``large``. ``emulate``: the small ones are run on the emulator while packing."""

    calls: int = 4
    work: int = 250_000
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    emulate: bool = True
    large: bool = True


@dataclass(frozen=True, slots=True)
class _Group:
    """Targets of an entry for which the launcher chooses among the same variants, with the same accuracy."""

    targets: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    accuracy: Accuracy


class CaseMaker:
    """Makes cases; ``warnings`` collects what could not be made."""

    def __init__(self, effort: Effort, sizes: Sequence[SizeRequest], said: Callable[[str], None]) -> None:
        self.warnings: list[str] = []
        self._effort = effort
        self._sizes = sizes
        self._said = said

    def check_requests(self, definitions: Sequence[AlgorithmDef]) -> None:
        """Sizes are for kernels that are packed, and name each of their free dims. Raises SizeRefused."""
        free = {
            each.name: [dim.name for dim in each.bind(each.bindings()[0]).dims if dim.value is None]
            for each in definitions
        }
        for size in self._sizes:
            if size.name not in free:
                raise SizeRefused(text=size.text, why=f"{size.name} is not packed", dims=", ".join(free))
            if set(size.dims) != set(free[size.name]):
                why = f"it gives {', '.join(size.dims)}"
                raise SizeRefused(text=size.text, why=why, dims=", ".join(free[size.name]))

    def cases(self, definition: AlgorithmDef, bundle: Path, pack: Path) -> list[Case]:
        """All cases of the bundle in the folder ``bundle``; their arrays are written to ``pack/cases``. Where the
        folder has another name than the algorithm, ids begin with it. Raises SizeRefused."""
        manifest = load_manifest(bundle)
        schedule = load_schedule(bundle / SCHEDULE_FILE)
        records = {record.name: record for record in schedule.variants}
        library = Library(read_manifest(bundle))
        found: list[Case] = []
        for function in manifest["functions"]:
            algorithm = definition.bind(function["types"], function["statics"])
            emulation = Emulation(bundle, pack, manifest, library, function, algorithm)
            writer = _Writer(bundle.name, definition.name, function, algorithm, emulation, pack, self._effort.emulate)
            for group in _groups(function, manifest["targets"], algorithm, schedule.variants):
                for wanted in group.candidates:
                    found += self._of_variant(writer, group, wanted, records[wanted.name])
                found += self._requested(writer, group, records, definition.name)
            emulation.close()
        return found

    def _of_variant(self, writer: _Writer, group: _Group, wanted: Candidate, record: Variant) -> list[Case]:
        effort, algorithm = self._effort, writer.algorithm
        problem = Problem(
            algorithm, record, wanted, group.candidates, domain_facts(algorithm), MULTIPROCESSORS, effort.work
        )
        place = f"{writer.place}/{wanted.name}/{group.targets[0]}"
        many = replace(problem, multiprocessors=_USUAL_MULTIPROCESSORS) if _asks_for_sms(group) else problem
        seed = key_of(effort.seed, place) % (1 << 32)
        calls = self._small_calls(problem, seed)
        if many is not problem and all(is_empty(algorithm, call) for call in calls):
            calls = self._small_calls(many, seed)
        large = None
        if effort.large:
            large = large_case(problem, calls, effort.limits) or large_case(many, calls, effort.limits)
        if not calls:
            self.warnings.append(f"{place}: no small call was found that this variant takes")
        if large is None and effort.large:
            self.warnings.append(f"{place}: no large call was found that this variant takes")
        named = [(f"{place}/{n}", call, False) for n, call in enumerate(calls)]
        named += [] if large is None else [(f"{place}/large", large, True)]
        found = [writer.write(name, call, record, group, effort.seed, large=big) for name, call, big in named]
        for case in found:
            faults = [each.fault for each in case.emulated.values() if each.fault is not None]
            self.warnings += [f"{case.id}: the emulator refuses it: {fault.splitlines()[0]}" for fault in faults[:1]]
        self._said(f"{place}  {len(found)} cases")
        return found

    def _small_calls(self, problem: Problem, seed: int) -> list[Call]:
        """Calls of interesting sizes, of which at most one has nothing to compute."""
        calls = choose_cases(problem, _TRIED * self._effort.calls, seed)
        full = [call for call in calls if not is_empty(problem.algorithm, call)]
        empty = [call for call in calls if is_empty(problem.algorithm, call)]
        kept = full[: self._effort.calls - 1 if empty and full else self._effort.calls]
        return [*kept, *empty[: self._effort.calls - len(kept)][:1]]

    def _requested(self, writer: _Writer, group: _Group, records: Mapping[str, Variant], name: str) -> list[Case]:
        """The sizes asked for of this kernel, with whichever variant takes them."""
        found = []
        for size in self._sizes:
            if size.name != name:
                continue
            _check_tensors(size, writer.algorithm)
            call = sized_case(writer.algorithm, size.dims, size.absent)
            taken = None if call is None else reached(group.candidates, writer.algorithm, call, MULTIPROCESSORS)
            if call is None or taken is None:
                facts = ", ".join(str(fact) for fact in writer.algorithm.facts) or "none"
                why = f"no variant takes them (required: {facts})"
                raise SizeRefused(text=size.text, why=why, dims=", ".join(size.dims))
            shown = size.label or "x".join(str(value) for value in size.dims.values())
            case_id = f"{writer.place}/{taken.name}/{group.targets[0]}/{shown}"
            record = records[taken.name]
            found.append(writer.write(case_id, call, record, group, self._effort.seed, size, large=True))
        return found


def takes(definition: AlgorithmDef, bundle: Path, size: SizeRequest) -> list[bool]:
    """For every entry of a bundle and group of its targets, whether some variant takes a size."""
    manifest = load_manifest(bundle)
    schedule = load_schedule(bundle / SCHEDULE_FILE)
    found = []
    for function in manifest["functions"]:
        algorithm = definition.bind(function["types"], function["statics"])
        call = sized_case(algorithm, size.dims, size.absent)
        for group in _groups(function, manifest["targets"], algorithm, schedule.variants):
            found.append(call is not None and reached(group.candidates, algorithm, call, MULTIPROCESSORS) is not None)
    return found


def _check_tensors(size: SizeRequest, algorithm: Algorithm) -> None:
    """What is wanted of arguments is possible. Raises SizeRefused."""
    tensors = {each.name: each for each in algorithm.params if isinstance(each, Tensor)}
    inputs = {each.name for each in algorithm.inputs}
    allowed = (
        ("integer inputs", size.constants, {name for name in inputs if tensors[name].dtype.is_int}),
        ("inputs", size.arrays, inputs),
        ("scalars", size.scalars, {each.name for each in algorithm.params if isinstance(each, Scalar)}),
        ("optional inputs", size.absent, {name for name in inputs if tensors[name].optional}),
    )
    for what, named, known in allowed:
        for name in named:
            if name not in known:
                why = f"{name} is none of its {what} ({', '.join(sorted(known)) or 'none'})"
                raise SizeRefused(text=size.text, why=why, dims=", ".join(size.dims))


def _groups(
    function: _Json, targets: Sequence[str], algorithm: Algorithm, records: Sequence[Variant]
) -> list[_Group]:
    found: list[_Group] = []
    for target in targets:
        accuracy = accuracy_of(algorithm, [target], records)
        candidates = tuple(
            Candidate(position, variant["name"], parse_bool(variant["guard"]))
            for position, variant in enumerate(function["variants"])
            if target in variant["targets"]
        )
        shown = [(each.name, each.guard) for each in candidates]
        for number, group in enumerate(found):
            if shown == [(each.name, each.guard) for each in group.candidates] and accuracy == group.accuracy:
                found[number] = _Group((*group.targets, target), group.candidates, accuracy)
                break
        else:
            if candidates:
                found.append(_Group((target,), candidates, accuracy))
    return found


def _asks_for_sms(group: _Group) -> bool:
    return any("sms" in free_symbols(candidate.guard) for candidate in group.candidates)


def _chosen_by_multiprocessors(group: _Group, algorithm: Algorithm, call: Call) -> tuple[tuple[int, str], ...]:
    """From how many multiprocessors on which variant takes a call, where that changes."""
    found: list[tuple[int, str]] = []
    for count in range(1, _MOST_MULTIPROCESSORS + 1 if _asks_for_sms(group) else 2):
        taken = reached(group.candidates, algorithm, call, count)
        if taken is not None and (not found or found[-1][1] != taken.name):
            found.append((count, taken.name))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Makes the cases of one entry and writes their arrays."""

    bundle: str
    definition: str
    function: _Json
    algorithm: Algorithm
    emulation: Emulation
    pack: Path
    emulate: bool

    @property
    def place(self) -> str:
        """How ids of its cases begin."""
        symbol: str = self.function["symbol"]
        return symbol if self.bundle == self.definition else f"{self.bundle}/{symbol}"

    def write(
        self, name: str, call: Call, record: Variant, group: _Group, seed: int, wanted: SizeRequest | None = None,
        *, large: bool,
    ) -> Case:  # fmt: skip
        """The case called ``name``, on every target of the group."""
        key = key_of(seed, name)
        prepared = prepare(
            self.algorithm, record, call, key, group.accuracy, self.pack, wanted, large=large
        )
        arrays = dict(prepared.arrays)
        emulated: Mapping[str, Emulated] = {}
        here = reached(group.candidates, self.algorithm, call, MULTIPROCESSORS)
        if self.emulate and not large and here is not None and here.name == record.name:
            emulated, bits = self.emulation.run(prepared, record.name, group.targets)
            arrays |= bits
        file = f"cases/{name.replace('/', '.')}.npz" if arrays else None
        if file is not None:
            (self.pack / file).parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(self.pack / file, allow_pickle=False, **arrays)
        taking = _chosen_by_multiprocessors(group, self.algorithm, call)
        names = {record.name, *(taken for _, taken in taking)}
        variants = [each for each in self.function["variants"] if each["name"] in names]
        return Case(
            id=name,
            bundle=self.bundle,
            entry=self.function["symbol"],
            variant=record.name if here is None else here.name,
            chosen=taking,
            targets=group.targets,
            text=call.text(),
            dims=dict(call.dims),
            statics=dict(self.algorithm.statics),
            strides=dict(call.strides),
            scalars=prepared.scalars,
            inputs=prepared.inputs,
            outputs=prepared.outputs,
            absent=tuple(sorted(call.absent)),
            reproducible=all(each["reproducible"] for each in variants),
            large=large,
            work=prepared.work,
            emulated=emulated,
            arrays=file,
        )
