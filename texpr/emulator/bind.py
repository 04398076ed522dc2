"""Binding: a decoded operation + the state of a batch -> a step, a function of the mask of executing lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from texpr.emulator.batch import Batch
from texpr.emulator.faults import PtxError
from texpr.emulator.kernel import Operation
from texpr.emulator.ptx import Guard, Instruction, Operand
from texpr.emulator.registers import OperandError
from texpr.emulator.rows import Array, ArrayFunction, Elementwise, Mask, Special, Step
from texpr.emulator.types import ScalarType


def bind(batch: Batch, operation: Operation) -> Step:
    """The step that executes an operation; raises `PtxError` if an operand does not fit the instruction."""
    try:
        match operation.row.semantics:
            case Elementwise(make):
                step = _bind_elementwise(batch, operation, make(operation.modifiers))
            case Special(bind_special):
                step = bind_special(batch, operation.instruction, operation.modifiers)
            case _:
                raise AssertionError("control instructions are carried out by the machine")
        batch.fragments.bound(operation)
        step = batch.wgmma.watch(operation, step)
        guard = operation.instruction.guard
        return step if guard is None else _guarded(batch, guard, step)
    except OperandError as error:
        raise operand_error(batch, operation.instruction, str(error)) from None


def operand_error(batch: Batch, instruction: Instruction, message: str) -> PtxError:
    text = batch.module.lines[instruction.line - 1]
    name = batch.module.name
    return PtxError(f"{instruction.opcode}: {message}", module=name, line=instruction.line, text=text)


def guard_lanes(batch: Batch, guard: Guard) -> Callable[[Mask], Array]:
    """A function giving, as a boolean per lane, which lanes of a mask pass the guard."""
    predicate = batch.registers.row(guard.register)
    scratch = np.empty_like(predicate)

    def passing(mask: Mask) -> Array:
        if guard.negated:
            np.logical_not(predicate, out=scratch)
            chosen: Array = scratch
        else:
            chosen = predicate
        return chosen if mask is None else chosen & mask

    return passing


def _guarded(batch: Batch, guard: Guard, step: Step) -> Step:
    passing = guard_lanes(batch, guard)
    lanes = batch.lanes

    def run(mask: Mask) -> None:
        chosen = passing(mask)
        count = np.count_nonzero(chosen)
        if count == lanes:
            step(None)
        elif count:
            # A copy: the step may write the guard's own register.
            step(chosen.copy())

    return run


def _bind_elementwise(batch: Batch, operation: Operation, function: ArrayFunction) -> Step:
    instruction, modifiers = operation.instruction, operation.modifiers
    signature = operation.row.signature
    prologue: list[Callable[[], None]] = []
    result = _scalar(signature.outputs[0].scalar(modifiers), instruction)
    destination = batch.registers.destination(instruction.operands[0], result)
    if destination is None:
        return lambda mask: None
    sources: list[Array] = []
    for operand, spec in zip(instruction.operands[1:], signature.inputs, strict=False):
        scalar = _scalar(spec.scalar(modifiers), instruction)
        sources.append(batch.registers.source(operand, scalar, prologue))
    step = elementwise_step(function, sources, destination, result.count)
    return step if not prologue else _after(prologue, step)


def _scalar(scalar: ScalarType | None, instruction: Instruction) -> ScalarType:
    if scalar is None:
        raise OperandError(f"{instruction.opcode} has an operand without a type")
    return scalar


def _after(prologue: list[Callable[[], None]], step: Step) -> Step:
    def run(mask: Mask) -> None:
        for prepare in prologue:
            prepare()
        step(mask)

    return run


def elementwise_step(function: ArrayFunction, sources: list[Array], destination: Array, elements: int = 1) -> Step:
    """Apply a function to whole rows; results go where the mask allows (`elements` of them per lane)."""
    if isinstance(function, np.ufunc):
        return _ufunc_step(function, sources, destination, elements)

    def run(mask: Mask) -> None:
        store(destination, function(*sources), mask, elements)

    return run


def _ufunc_step(function: np.ufunc, sources: list[Array], destination: Array, elements: int) -> Step:
    def run(mask: Mask) -> None:
        if mask is None:
            function(*sources, out=destination)
        else:
            function(*sources, out=destination, where=mask if elements == 1 else np.repeat(mask, elements))

    return run


def store(destination: Array, values: Any, mask: Mask, elements: int = 1) -> None:
    """Write `values` (one array element per lane and packed element, or one lane's for all) where the mask allows."""
    if elements > 1 and np.size(values) == elements:
        values = np.tile(values, destination.size // elements)
    if mask is None:
        destination[...] = values
    else:
        np.copyto(destination, values, where=mask if elements == 1 else np.repeat(mask, elements))


def source(batch: Batch, operand: Operand, scalar: ScalarType) -> Array:
    """An operand of a special instruction as one value per lane or a constant; predicates may not be negated."""
    prologue: list[Callable[[], None]] = []
    values = batch.registers.source(operand, scalar, prologue)
    if prologue:
        raise OperandError("a negated predicate is not allowed here")
    return values


def per_lane(batch: Batch, operand: Operand, scalar: ScalarType) -> Array:
    """Like `source`, but always one value per lane."""
    values = source(batch, operand, scalar)
    return values if values.ndim else np.full(batch.lanes, values)
