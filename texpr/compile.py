"""The whole compiler, front to back: an algorithm and a schedule become a ``Package`` for the ahead-of-time layer.

    bind -> plan (per target) -> tile program -> Gluon source -> Package

Nothing here imports Triton; ``aot`` does, in worker processes, when cubins are wanted.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import assert_never

from texpr.aot.ir import (
    Argument,
    CountedDim,
    Entry,
    Fill,
    KernelSource,
    KernelValue,
    Launch,
    Package,
    ScalarArgument,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
    WorkspacePointer,
)
from texpr.errors import Location, TExprError
from texpr.gluon.ejected import contract_of, ejected_source, module_of
from texpr.gluon.emit import emit
from texpr.gluon.extern import extern_source
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm, Scalar, Tensor
from texpr.math.bounds import Facts
from texpr.math.coverage import Gap, uncovered, unreachable
from texpr.math.expr import (
    FALSE,
    BoolExpr,
    IntExpr,
    lt,
    substitute,
)
from texpr.math.integer import product, total
from texpr.plan.access import buffer_name, tensor_strides
from texpr.plan.build import plan_variant
from texpr.plan.errors import GuardsDoNotCover, VariantUnreachable, WrongAlgorithm
from texpr.plan.excerpt import in_kernel
from texpr.plan.ir import Fill as PlannedFill
from texpr.plan.ir import VariantPlan
from texpr.plan.mentions import check_schedule
from texpr.plan.resolve import variant_facts
from texpr.plan.usable import resolved, usable_variants
from texpr.plan.workspace import buffer_bytes
from texpr.schedule.files import dump_schedule, load_schedule
from texpr.schedule.records import Schedule
from texpr.schedule.records import Variant as VariantRecord
from texpr.schedule.words import Start
from texpr.targets import TARGETS, Target, target_named
from texpr.tile.declarations import PointerParam, TensorMapParam
from texpr.tile.ir import TileProgram
from texpr.tile.program import lower_kernel
from texpr.tile.trace import check_synchronisation
from texpr.tile.verify import verify

_OFFSET_LIMIT = 1 << 31


class SourceError(TExprError):
    """The ``file.py:name`` that names an algorithm."""

    code = "TX0001"
    title = "no such algorithm"
    template = "{source}: {why}"
    default_hint = "path/to/file.py:algorithm_name"


class UnknownTarget(TExprError):
    """A target that TExpr does not know, or that no variant is for."""

    code = "TX0002"
    title = "unknown target"
    template = "{name}: {why}"
    default_hint = "one of {known}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """One variant of one binding on the targets that get the same code."""

    plan: VariantPlan
    targets: tuple[str, ...]
    programs: tuple[TileProgram, ...]
    sources: tuple[KernelSource, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """One choice of types and statics with its compiled variants, in schedule order."""

    algorithm: Algorithm
    symbol: str
    variants: tuple[tuple[VariantRecord, tuple[Compiled, ...]], ...]


# ---- finding things -------------------------------------------------------------------------------------------------


def load_algorithm(source: str) -> AlgorithmDef:
    """The algorithm that ``path/to/file.py:name`` (or ``package.module:name``) names; the name may be left out if
    there is one."""
    path, _, name = source.partition(":")
    module = _import(source, path)
    found = {key: value for key, value in vars(module).items() if isinstance(value, AlgorithmDef)}
    own = {key: value for key, value in found.items() if value.body.__module__ == module.__name__}
    if not name and len(own) == 1:
        return next(iter(own.values()))
    if name not in found:
        listed = ", ".join(found) or "none"
        raise SourceError(source=source, why=f"{path} defines {listed}")
    return found[name]


def _import(source: str, path: str) -> ModuleType:
    if not path.endswith(".py"):
        try:
            return importlib.import_module(path)
        except ModuleNotFoundError as error:
            raise SourceError(source=source, why=str(error)) from None
    file = Path(path)
    if not file.is_file():
        raise SourceError(source=source, why="no such file")
    name = f"texpr_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_schedule(
    source: str,
    definition: AlgorithmDef,
    schedule: Path | None,
    targets: Sequence[str] | None,
    statics: Mapping[str, int] | None = None,
) -> Schedule:
    """The schedule file given (``default``: the analytic one), else ``schedules/<algorithm>.yaml`` beside the folder of
    the source, else the analytic one."""
    if schedule is None:
        beside = Path(source.partition(":")[0]).parent.resolve().parent / "schedules" / f"{definition.name}.yaml"
        schedule = Path(os.path.relpath(beside)) if beside.is_file() else None
    if schedule is None or schedule == Path("default"):
        from texpr.plan.default import default_schedule  # only here: most runs bring a schedule

        return default_schedule(definition, targets or list(TARGETS), statics)
    loaded = load_schedule(schedule)
    if loaded.algorithm != definition.name:
        raise WrongAlgorithm(scheduled=loaded.algorithm, algorithm=definition.name, at=Location(str(schedule)))
    return loaded


def chosen_targets(schedule: Schedule, targets: Sequence[str] | None) -> tuple[str, ...]:
    """The targets to compile for: those asked for, else all that the schedule has variants for, in canonical order."""
    offered = {t.name for variant in schedule.variants for t in map(target_named, variant.target) if t is not None}
    if targets is None:
        return tuple(name for name in TARGETS if name in offered)
    result = []
    for name in targets:
        target = target_named(name)
        if target is None:
            raise UnknownTarget(name=name, why="no such target", known=", ".join(TARGETS))
        if target.name not in offered:
            raise UnknownTarget(name=name, why="the schedule has no variant for it", known=", ".join(sorted(offered)))
        result.append(target.name)
    return tuple(name for name in TARGETS if name in result)


# ---- compiling ------------------------------------------------------------------------------------------------------


def compile_binding(algorithm: Algorithm, schedule: Schedule, targets: Sequence[str], symbol: str) -> Binding:
    """Plan, lower and emit every variant of the schedule that this binding can use."""
    usable = usable_variants(schedule, algorithm)
    serving: dict[str, list[VariantRecord]] = {}
    for name in targets:
        here = [record for record in usable if _serves(record, name)]
        check_coverage(algorithm, here, TARGETS[name])
        serving[name] = reachable(algorithm, here)
    compiled = []
    for record in usable:
        chosen = [name for name in targets if record in serving[name]]
        if chosen:
            compiled.append((record, compile_variant(algorithm, record, chosen, symbol)))
    return Binding(algorithm, symbol, tuple(compiled))


def _serves(record: VariantRecord, name: str) -> bool:
    return any(target is not None and target.name == name for target in map(target_named, record.target))


def compile_variant(
    algorithm: Algorithm, record: VariantRecord, targets: Sequence[str], prefix: str
) -> tuple[Compiled, ...]:
    """Plan and emit a variant for its targets. Targets whose kernels come out the same share their source."""
    groups: dict[tuple[str, ...], Compiled] = {}
    named = (algorithm.params, algorithm.dims, algorithm.counts)
    arguments = [each.name for group in named for each in group]
    for name in targets:
        target = TARGETS[name]
        plan = plan_variant(algorithm, record, target)
        facts = variant_facts(algorithm, record, target)
        some_early = any(kernel.record.start is Start.EARLY for kernel in plan.kernels)
        programs = tuple(
            dataclasses.replace(
                _checked(lower_kernel(kernel, f"{prefix}_{record.name}_{kernel.name}", facts, record.when, arguments)),
                early=kernel.record.start is Start.EARLY,
                makes_room=some_early and kernel.extern is None,
            )
            for kernel in plan.kernels
        )
        sources = _sources(plan, programs, (name,), algorithm.facts)
        key = tuple(source.text + "".join(source.preamble) for source in sources)
        if key in groups:
            groups[key] = dataclasses.replace(groups[key], targets=(*groups[key].targets, name))
        else:
            groups[key] = Compiled(plan, (name,), programs, sources)
    several = len(groups) > 1
    return tuple(_finished(compiled, several, algorithm.facts) for compiled in groups.values())


def _checked(program: TileProgram) -> TileProgram:
    """The program, which means what it says and waits for what it reads: what is wrong here is a bug of the compiler.
    """
    verify(program)
    check_synchronisation(program)
    return program


def _finished(compiled: Compiled, several: bool, require: Sequence[BoolExpr]) -> Compiled:
    """Fill in the targets; groups of targets with different code get different kernel names."""
    if not several:
        sources = tuple(dataclasses.replace(source, targets=compiled.targets) for source in compiled.sources)
        return dataclasses.replace(compiled, sources=sources)
    suffix = f"_{compiled.targets[0]}"
    programs = tuple(dataclasses.replace(p, name=p.name + suffix) for p in compiled.programs)
    sources = _sources(compiled.plan, programs, compiled.targets, require)
    return dataclasses.replace(compiled, programs=programs, sources=sources)


def _sources(
    plan: VariantPlan, programs: Sequence[TileProgram], targets: tuple[str, ...], require: Sequence[BoolExpr]
) -> tuple[KernelSource, ...]:
    """The Gluon of every kernel: the compiler's own, that of a file it was ejected to, or a call of the function that
    the schedule names."""
    found = []
    for kernel, program in zip(plan.kernels, programs, strict=True):
        pointers = _pointers(plan, program)
        if kernel.extern is not None:
            found.append(extern_source(program, kernel.extern, targets, pointers))
            continue
        source = emit(program, targets, pointers)
        if kernel.record.source is not None:
            with in_kernel(kernel.record, VariantRecord(name=plan.name, target=()), plan.target):
                source = ejected_source(source, contract_of(plan, kernel, program, source, require), kernel)
        found.append(source)
    return tuple(found)


def _pointers(plan: VariantPlan, program: TileProgram) -> dict[str, KernelValue]:
    workspace = {buffer_name(buffer.name) for buffer in plan.workspace}
    pointers = [p.name for p in program.parameters if isinstance(p, PointerParam)]
    mapped = [p.tensor for p in program.parameters if isinstance(p, TensorMapParam)]
    return {
        name: WorkspacePointer(name) if name in workspace else TensorPointer(name) for name in (*pointers, *mapped)
    }


def check_coverage(algorithm: Algorithm, variants: Sequence[VariantRecord], target: Target) -> None:
    """The variants for a target take every size, alignment and optional argument that the algorithm admits."""
    gap = uncovered([variant.when for variant in variants], domain_facts(algorithm))
    at = variants[-1].location if variants else None
    if gap is not None:
        example = "every call"
        if isinstance(gap, Gap):
            parts = [f"{name} = {value}" for name, value in sorted(gap.example.items())]
            parts += [str(atom) if value else f"not {atom}" for atom, value in gap.atoms.items()]
            example = ", ".join(parts) or example
        raise GuardsDoNotCover(target=target, example=example, at=at)


def reachable(algorithm: Algorithm, variants: Sequence[VariantRecord]) -> list[VariantRecord]:
    """The variants that some call is given to."""
    never = set(unreachable([variant.when for variant in variants], domain_facts(algorithm)))
    return [variant for n, variant in enumerate(variants) if n not in never]


def domain_facts(algorithm: Algorithm) -> Facts:
    """What the launcher has checked before it chooses a variant."""
    everything = VariantRecord(name="", target=())
    return variant_facts(algorithm, everything, next(iter(TARGETS.values())))


# ---- packaging ------------------------------------------------------------------------------------------------------


def build_package(
    source: str,
    schedule: Path | None = None,
    targets: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    statics: Mapping[str, int] | None = None,
) -> Package:
    """Everything the ahead-of-time layer needs for the algorithm at ``source``.

    ``targets``: all that the schedule names if None. ``types``: some or all type variables; those left out take every
    combination, each an entry of its own. Raises ``TExprError`` subclasses for whatever is wrong in the algorithm or
    the schedule.
    """
    definition = load_algorithm(source)
    record = find_schedule(source, definition, schedule, targets, statics)
    return package_of(definition, record, chosen_targets(record, targets), types or {}, statics or {})


def package_of(
    definition: AlgorithmDef,
    schedule: Schedule,
    targets: Sequence[str],
    types: Mapping[str, str],
    statics: Mapping[str, int],
    *,
    with_example: bool = True,
) -> Package:
    """The package of an algorithm with a schedule, with an example of its first entry unless told otherwise."""
    chosen = [b for b in definition.bindings() if all(b.get(name) == value for name, value in types.items())]
    if not chosen:
        chosen = [dict(types)]  # not a declared combination: binding it says what is wrong
    check_schedule(definition, definition.bind(chosen[0], statics), schedule)
    entries: list[Entry] = []
    kernels: list[KernelSource] = []
    used: set[str] = set()
    for binding in chosen:
        algorithm = definition.bind(binding, statics)
        symbol = definition.name if len(chosen) == 1 else "_".join([definition.name, *binding.values()])
        bound = compile_binding(algorithm, schedule, targets, symbol)
        entries.append(entry_of(bound))
        kernels += [s for _, group in bound.variants for compiled in group for s in compiled.sources]
        used.update(record.name for record, _ in bound.variants)
    if len(chosen) == len(definition.bindings()):
        check_all_used(schedule, targets, used, dict(definition.bind(chosen[0], statics).statics))
    example = None
    if with_example:
        from texpr.example import example_for

        first = definition.bind(chosen[0], statics)
        example = example_for(entries[0], first, schedule.variants, domain_facts(first), targets)
    first = definition.bind(chosen[0], statics)
    texts = (dump_schedule(resolved(definition, schedule, chosen, statics)), source_text(definition))
    lines = schedule_lines(kernels, schedule)
    return Package(definition.name, tuple(entries), tuple(kernels), *texts, example, lines)


def schedule_lines(kernels: Iterable[KernelSource], schedule: Schedule) -> dict[str, str]:
    """The text of every line of the user's schedule that an origin names, as ``linear.yaml:12``; lines of files that
    cannot be read are left out."""
    records = [schedule, *schedule.variants, *(kernel for variant in schedule.variants for kernel in variant.kernels)]
    files = {Path(record.location.file).name: record.location.file for record in records if record.location}
    places = {origin.schedule for kernel in kernels for _, origin in kernel.origins if origin.schedule}
    texts: dict[str, str] = {}
    for place in sorted(places):
        name, _, line = place.rpartition(":")
        if name in files and (text := linecache.getline(files[name], int(line)).rstrip()):
            texts[place] = text
    return texts


def check_all_used(schedule: Schedule, targets: Sequence[str], used: Set[str], statics: Mapping[str, int]) -> None:
    """Every variant for one of the targets is chosen for some binding and call. Variants for other values of the
    statics are left out."""
    for variant in schedule.variants:
        served = [name for name in targets if _serves(variant, name)]
        elsewhere = substitute(variant.when, statics) is FALSE
        if served and variant.name not in used and not elsewhere:
            raise VariantUnreachable(name=variant.name, target=served[0], at=variant.location)


def source_text(definition: AlgorithmDef) -> str:
    """The Python text of the algorithm, for the bundle's record."""
    try:
        return inspect.getsource(definition.body)
    except OSError:
        return ""


def entry_of(binding: Binding) -> Entry:
    """The C entry of a binding."""
    algorithm = binding.algorithm
    return Entry(
        binding.symbol,
        algorithm.types,
        algorithm.statics,
        tuple(_argument(param) for param in algorithm.params),
        tuple(dim.name for dim in algorithm.dims if dim.value is None),
        tuple((dim.name, dim.value) for dim in algorithm.dims if dim.value is not None),
        algorithm.facts,
        tuple(_variant(record, compiled, algorithm) for record, group in binding.variants for compiled in group),
        tuple(CountedDim(count.name, count.source, count.room) for count in algorithm.counts),
    )


def stride_arguments(tensor: Tensor) -> tuple[tuple[int, str], ...]:
    """The free strides of a tensor: (storage dim, argument name)."""
    return tuple((dim, f"{tensor.name}_stride_{dim}") for dim in tensor.strided)


def _argument(param: Tensor | Scalar) -> Argument:
    match param:
        case Scalar(name=name, dtype=dtype, low=low, high=high):
            return ScalarArgument(name, dtype, low, high)
        case Tensor():
            return TensorArgument(
                param.name,
                param.dtype,
                param.shape,
                param.groups,
                param.role.value == "output",
                param.optional,
                param.may_alias,
                stride_arguments(param),
                addressable(param),
                param.low,
                param.high,
                None if param.domain is None else param.domain.named,
                param.contracts,
                param.hint,
                param.valid,
            )
        case _:
            assert_never(param)


def addressable(tensor: Tensor) -> IntExpr:
    """How many elements from the pointer on the tensor may touch: one past the last element of a non-empty tensor."""
    if not tensor.strided:
        return product(tensor.shape)
    strides = tensor_strides(tensor)
    return total([1, *((extent - 1) * stride for extent, stride in zip(tensor.shape, strides, strict=True))])


def _variant(record: VariantRecord, compiled: Compiled, algorithm: Algorithm) -> Variant:
    limits = tuple(dict.fromkeys(lt(limit, _OFFSET_LIMIT) for program in compiled.programs for limit in program.limits))
    room = algorithm.with_room
    workspace = tuple(
        WorkspaceBuffer(buffer_name(buffer.name), room(buffer_bytes(buffer.elements, buffer.dtype)), buffer.slot)
        for buffer in compiled.plan.workspace
    )
    launches = tuple(
        Launch(program.name, program.grid, tuple(_fill(fill, room(fill.count)) for fill in kernel.fills), program.early)
        for program, kernel in zip(compiled.programs, compiled.plan.kernels, strict=True)
    )
    return Variant(
        record.name, compiled.targets, record.when, launches, workspace, limits, reproducible=compiled.plan.reproducible
    )


def _fill(fill: PlannedFill, count: IntExpr) -> Fill:
    target = WorkspacePointer(buffer_name(fill.name)) if fill.output is None else TensorPointer(fill.output.name)
    return Fill(target, fill.bits, fill.pattern, count)


# ---- ejecting -------------------------------------------------------------------------------------------------------


def eject(
    source: str,
    kernel: str,
    schedule: Path | None = None,
    targets: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    statics: Mapping[str, int] | None = None,
    variant: str | None = None,
) -> str:
    """The text of a file with what the compiler writes for one kernel, in every binding, for ``source:`` in the
    schedule. ``variant``: of that one only. Raises SourceError if there is no such kernel."""
    definition = load_algorithm(source)
    record = _without_source(find_schedule(source, definition, schedule, targets, statics), kernel)
    chosen = [b for b in definition.bindings() if all(b.get(name) == value for name, value in (types or {}).items())]
    found: list[tuple[KernelSource, tuple[str, ...]]] = []
    names: dict[str, None] = {}
    for binding in chosen:
        algorithm = definition.bind(binding, statics or {})
        symbol = definition.name if len(definition.bindings()) == 1 else "_".join([definition.name, *binding.values()])
        bound = compile_binding(algorithm, record, chosen_targets(record, targets), symbol)
        for compiled in (c for r, group in bound.variants for c in group if variant in (None, r.name)):
            for plan, program, text in zip(compiled.plan.kernels, compiled.programs, compiled.sources, strict=True):
                names[plan.name] = None
                if plan.name == kernel and plan.extern is None:
                    contract = contract_of(compiled.plan, plan, program, text, algorithm.facts)
                    found.append((text, contract))
    if not found:
        raise SourceError(source=source, why=f"no kernel '{kernel}' to eject; there is {', '.join(names) or 'none'}")
    return module_of(found)


def _without_source(schedule: Schedule, kernel: str) -> Schedule:
    """The schedule in which the compiler writes ``kernel`` itself."""

    def own(record: VariantRecord) -> VariantRecord:
        kernels = (dataclasses.replace(k, source=None) if k.name == kernel else k for k in record.kernels)
        return dataclasses.replace(record, kernels=tuple(kernels))

    return dataclasses.replace(schedule, variants=tuple(map(own, schedule.variants)))


# ---- showing --------------------------------------------------------------------------------------------------------


def show(
    source: str,
    schedule: Path | None = None,
    targets: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    statics: Mapping[str, int] | None = None,
    stage: str = "plan",
) -> str:
    """The compiler's view of an algorithm at a stage: ``schedule`` (resolved), ``plan``, ``tile`` or ``gluon``."""
    from texpr.plan.show import show_variant
    from texpr.tile.show import show as show_program

    definition = load_algorithm(source)
    record = find_schedule(source, definition, schedule, targets, statics)
    chosen = [b for b in definition.bindings() if all(b.get(k) == v for k, v in (types or {}).items())]
    algorithm = definition.bind(chosen[0] if chosen else types or {}, statics or {})
    names = chosen_targets(record, targets)
    texts = []
    if stage == "schedule":
        return dump_schedule(resolved(definition, record, chosen or [types or {}], statics or {}))
    if stage == "plan":
        for variant in usable_variants(record, algorithm):
            for name in [t for t in names if _serves(variant, t)][:1]:
                texts.append(show_variant(plan_variant(algorithm, variant, TARGETS[name]), algorithm))
    else:
        bound = compile_binding(algorithm, record, names[:1], definition.name)
        for _, group in bound.variants:
            for compiled in group:
                if stage == "tile":
                    texts += [show_program(program) for program in compiled.programs]
                else:
                    texts += ["\n".join(source.preamble) + "\n" + source.text for source in compiled.sources]
    return "\n".join(texts)
