"""Which variants of a schedule a binding of types and statics can use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm
from texpr.math.expr import (
    FALSE,
    TRUE,
    And,
    BoolExpr,
    Not,
    Or,
    TypeIn,
    conjunction,
    disjunction,
    negation,
    substitute,
)
from texpr.plan.resolved import resolved_schedule
from texpr.schedule.records import Schedule, Variant


def usable_variants(schedule: Schedule, algorithm: Algorithm) -> list[Variant]:
    """The variants that a binding's types and statics admit, with what they say about those decided."""
    types = dict(algorithm.types)
    usable: list[Variant] = []
    for record in schedule.variants:
        guard = resolve_types(record.when, {name: str(dtype) for name, dtype in types.items()})
        guard = substitute(guard, dict(algorithm.statics))
        if all(types.get(name) is dtype for name, dtype in record.types.items()) and guard is not FALSE:
            usable.append(dataclasses.replace(record, when=guard))
    return usable


def resolve_types(guard: BoolExpr, types: Mapping[str, str]) -> BoolExpr:
    """Decide ``T in [..]`` atoms for a binding."""
    match guard:
        case TypeIn(variable=variable, names=names):
            return TRUE if types.get(variable) in names else FALSE
        case And(args=args):
            return conjunction(*(resolve_types(arg, types) for arg in args))
        case Or(args=args):
            return disjunction(*(resolve_types(arg, types) for arg in args))
        case Not(arg=arg):
            return negation(resolve_types(arg, types))
        case _:
            return guard


def resolved(
    definition: AlgorithmDef,
    schedule: Schedule,
    chosen: Sequence[Mapping[str, str]],
    statics: Mapping[str, int],
) -> Schedule:
    """The schedule with its defaults, every variant as of the first binding that it is for: a chosen one if it can."""
    found: dict[str, Algorithm] = {}
    for binding in (*chosen, *definition.bindings()):
        if len(found) < len(schedule.variants):
            algorithm = definition.bind(binding, statics)
            found = {record.name: algorithm for record in usable_variants(schedule, algorithm)} | found
    first = definition.bind(chosen[0], statics)
    return resolved_schedule(schedule, lambda variant: found.get(variant.name, first))
