"""What a schedule names outside of its kernels' loops: dims and tensors in guards, types, launch-time numbers, declared
departures. ``check_schedule`` looks at the whole schedule before any of it is planned."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from texpr.errors import Location
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm, OpName, Tensor
from texpr.math.expr import Atom, AtomKind, IntExpr, TypeIn, atoms_of, free_symbols
from texpr.plan.errors import UnknownFunc, UnknownSymbol, near
from texpr.plan.extern import formal_numbers
from texpr.schedule.records import Schedule, Variant
from texpr.schedule.words import Num, RelaxKind


def check_schedule(definition: AlgorithmDef, algorithm: Algorithm, schedule: Schedule) -> None:
    """Every name that the variants' guards, types, numbers and declarations mention exists.

    ``algorithm`` is any binding of ``definition``. Raises ``UnknownSymbol`` and ``UnknownFunc``.
    """
    for variant in schedule.variants:
        check_types(definition, variant)
        check_mentions(algorithm, variant)


def check_types(definition: AlgorithmDef, variant: Variant) -> None:
    """The variant is for types that the algorithm takes."""
    declared = {name: [str(dtype) for dtype in dtypes] for name, dtypes in definition.signature.types.items()}
    mentioned = [(name, str(dtype), variant.types.location_of(name)) for name, dtype in variant.types.items()]
    for atom in atoms_of(variant.when):
        if isinstance(atom, TypeIn):
            mentioned += [(atom.variable, name, variant.location_of("when")) for name in atom.names]
    for variable, dtype, at in mentioned:
        if variable not in declared:
            raise _unknown("types" if variable in variant.types else "when", variable, "type variable", declared, at)
        if dtype not in declared[variable]:
            raise _unknown(variable, dtype, "type", declared[variable], at)


def check_mentions(algorithm: Algorithm, variant: Variant) -> None:
    """Guards, numbers, ``relax`` and ``assume`` speak of dims, tensors and funcs of the algorithm."""
    tensors = {param.name: param for param in algorithm.params if isinstance(param, Tensor)}
    dims = [dim.name for dim in algorithm.dims] + [name for name, _ in algorithm.statics]
    strides = [f"{name}_stride_{dim}" for name, tensor in tensors.items() for dim in tensor.strided]
    known = {*dims, *strides, "sms"}
    at = variant.location_of("when")
    for symbol in sorted(free_symbols(variant.when) - known):
        tensor = symbol.partition("_stride_")[0]
        if tensor in tensors and symbol != tensor:
            name = f"stride({tensor}, {symbol.rpartition('_')[2]})"
            free = [f"stride({n}, {dim})" for n, t in tensors.items() for dim in t.strided]
            raise _unknown("when", name, "free stride", free, at)
        raise _unknown("when", symbol, "dim", known, at)
    for atom in sorted((a for a in atoms_of(variant.when) if isinstance(a, Atom)), key=str):
        for name in atom.names:
            if name not in tensors:
                raise _unknown("when", name, "tensor", tensors, at)
            if atom.kind is AtomKind.PRESENT and not tensors[name].optional:
                raise _unknown("present", name, "optional tensor", [n for n, t in tensors.items() if t.optional], at)
    for kernel in variant.kernels:
        if kernel.persistent is not None and kernel.persistent.programs is not None:
            _check_number("programs", kernel.persistent.programs, known, kernel.location_of("persistent"))
        if kernel.split_reduction is not None and kernel.split_reduction.parts is not None:
            _check_number("parts", kernel.split_reduction.parts, known, kernel.split_reduction.location_of("parts"))
        if kernel.extern is not None:
            programs = Num(value=kernel.extern.programs)
            numbers = {*known, *formal_numbers(algorithm, kernel.writes)}
            _check_number("programs", programs, numbers, kernel.extern.location_of("programs"))
        for name, buffer in kernel.scratch.items():
            for extent in buffer.shape:
                numbers = {*known, *(formal_numbers(algorithm, kernel.writes) if kernel.extern is not None else ())}
                _check_number(f"scratch {name}", Num(value=extent), numbers, kernel.scratch.location_of(name))
    _check_declared(algorithm, variant, tensors)


def _check_number(what: str, number: Num, known: Collection[str], at: Location | None) -> None:
    value: IntExpr = number.value
    for symbol in sorted(free_symbols(value) - set(known)):
        raise _unknown(what, symbol, "dim", known, at)


def _check_declared(algorithm: Algorithm, variant: Variant, tensors: Collection[str]) -> None:
    funcs = {func.name for definition in algorithm.defs for func in definition.funcs}
    operations = {op.name.lower() for op in OpName} | {op.value for op in OpName}
    for relax in variant.relax:
        allowed = operations if relax.kind is RelaxKind.APPROX else funcs
        if relax.name not in allowed:
            raise _missing(algorithm, f"relax: {relax.kind.value}", relax.name, allowed, variant.location_of("relax"))
    for entry in variant.assume:
        name = entry.partition("(")[2].rstrip(") ").strip()
        if name not in funcs and name not in tensors:
            raise _missing(algorithm, "assume", name, [*funcs, *tensors], variant.location_of("assume"))


def _missing(
    algorithm: Algorithm, directive: str, name: str, choices: Iterable[str], at: Location | None
) -> UnknownFunc:
    return UnknownFunc(directive=directive, name=name, algorithm=algorithm.name, near=near(name, choices), at=at)


def _unknown(where: str, name: str, what: str, choices: Iterable[str], at: Location | None) -> UnknownSymbol:
    return UnknownSymbol(where=where, name=name, what=what, near=near(name, choices), at=at)
