"""Loading: PTX text -> decoded kernels whose every instruction has a row in the instruction table."""

from __future__ import annotations

from collections.abc import Mapping

from texpr.emulator.calls import inline_calls
from texpr.emulator.cfg import order_blocks
from texpr.emulator.faults import PtxError
from texpr.emulator.isa import SINCE_EVERYWHERE, find_row, not_emulated
from texpr.emulator.kernel import Block, Kernel, Operation, PtxModule, Transfer
from texpr.emulator.parse import parse_ptx
from texpr.emulator.ptx import (
    Address,
    Instruction,
    Integer,
    KernelText,
    ModuleText,
    Operand,
    Pair,
    Sink,
    SourceLine,
    Symbol,
    Vector,
)
from texpr.emulator.rows import Control, ControlKind, Modifiers, OperandSpec, Row
from texpr.emulator.since import missing, version_problem

__all__ = ["PtxModule", "load_ptx"]


def load_ptx(
    text: str,
    name: str = "<ptx>",
    line_map: Mapping[int, int | SourceLine] | None = None,
    source: str = "<source>",
) -> PtxModule:
    """Parse and decode a PTX file.

    `line_map` maps PTX lines (1-based) to lines of the file `source` (or to whole `SourceLine`s) and overrides
    the `.loc` directives.  Raises `PtxError`, with the PTX line, for a syntax error, an undeclared name or an
    instruction that has no row in the table.
    """
    places = {
        line: place if isinstance(place, SourceLine) else SourceLine(source, place)
        for line, place in (line_map or {}).items()
    }
    parsed = parse_ptx(text, name, places)
    if problem := version_problem(parsed.target, parsed.version):
        raise _error(parsed, problem, 1)
    functions = {function.name: function for function in parsed.functions}

    def complain(message: str, line: int) -> PtxError:
        return _error(parsed, message, line)

    inlined = [inline_calls(kernel, functions, complain) for kernel in parsed.kernels]
    kernels = {kernel.name: _decode_kernel(kernel, parsed) for kernel in inlined}
    return PtxModule(name, parsed.target, parsed.version, kernels, parsed.variables, parsed.lines)


def _decode_kernel(kernel: KernelText, module: ModuleText) -> Kernel:
    last_line = kernel.instructions[-1].line if kernel.instructions else kernel.line
    end = Instruction("ret", (), None, last_line, None, "ret")
    operations = [_decode(instruction, module) for instruction in (*kernel.instructions, end)]
    blocks = _form_blocks(operations, kernel, module)
    return Kernel(
        kernel.name,
        kernel.params,
        kernel.reqntid,
        kernel.line,
        blocks,
        kernel.registers,
        kernel.variables,
        kernel.cluster,
        kernel.explicit_cluster,
    )


def _error(module: ModuleText, message: str, line: int) -> PtxError:
    text = module.lines[line - 1] if 0 < line <= len(module.lines) else ""
    return PtxError(message, module=module.name, line=line, text=text)


def _decode(instruction: Instruction, module: ModuleText) -> Operation:
    found = find_row(instruction.opcode)
    if found is None:
        reason = not_emulated(instruction.opcode)
        because = f" ({reason})" if reason else "; texpr.emulator.instructions(row) would add it"
        message = f"unknown instruction {instruction.opcode!r}: it is not emulated{because}"
        raise _error(module, message, instruction.line)
    row, modifiers = found
    lacking = missing(
        row.since, SINCE_EVERYWHERE, instruction.opcode, len(instruction.operands), module.target, module.version
    )
    if lacking:
        raise _error(module, f"{instruction.opcode} {lacking}", instruction.line)
    problem = _operand_problem(instruction.operands, row, modifiers)
    if problem:
        raise _error(module, f"{instruction.opcode}: {problem}", instruction.line)
    return Operation(instruction, row, modifiers)


def _operand_problem(operands: tuple[Operand, ...], row: Row, modifiers: Modifiers) -> str:
    """Why the operands do not have the shape of the row's signature ('' if they do)."""
    specs = row.signature.operands
    needed = sum(not spec.optional for spec in specs)
    if not needed <= len(operands) <= len(specs):
        expected = str(needed) if needed == len(specs) else f"{needed} to {len(specs)}"
        return f"{expected} operands expected, {len(operands)} given"
    for number, (operand, spec) in enumerate(zip(operands, specs, strict=False), 1):
        if not _fits(operand, spec, modifiers):
            return f"operand {number} should be a {spec.kind}"
    return ""


def _fits(operand: Operand, spec: OperandSpec, modifiers: Modifiers) -> bool:
    match spec.kind:
        case "address":
            return isinstance(operand, Address)
        case "vector":
            return isinstance(operand, Vector)
        case "integer":
            return isinstance(operand, Integer)
        case "label":
            return isinstance(operand, Symbol)
        case "any":
            return True
        case _:
            return not isinstance(operand, Address | Vector) or isinstance(operand, Sink | Pair)


def _form_blocks(operations: list[Operation], kernel: KernelText, module: ModuleText) -> tuple[Block, ...]:
    cuts = {0, *kernel.labels.values()}
    cuts.update(i + 1 for i, operation in enumerate(operations) if isinstance(operation.row.semantics, Control))
    starts = sorted(cut for cut in cuts if cut < len(operations))
    ranges = list(zip(starts, [*starts[1:], len(operations)], strict=True))
    block_at = {start: number for number, start in enumerate(starts)}
    targets = [_targets(operations[end - 1], kernel, module, block_at) for _, end in ranges]
    successors = [_successors(operations[end - 1], targets[i], i, len(ranges)) for i, (_, end) in enumerate(ranges)]
    ordered = order_blocks(ranges, successors)
    number = {block.start: new for new, block in enumerate(ordered)}
    renumber = {old: number[start] for old, start in enumerate(starts) if start in number}
    blocks: list[Block] = []
    for block in ordered:
        old = block_at[block.start]
        last = operations[block.end - 1]
        following = renumber.get(old + 1, -1)
        if isinstance(last.row.semantics, Control):
            kind = last.row.semantics.kind
            transfer = Transfer(last, kind, tuple(renumber[target] for target in targets[old]), following)
            blocks.append(Block(tuple(operations[block.start : block.end - 1]), transfer))
        else:
            blocks.append(Block(tuple(operations[block.start : block.end]), Transfer(None, None, (), following)))
    return tuple(blocks)


def _targets(
    last: Operation, kernel: KernelText, module: ModuleText, block_at: Mapping[int, int]
) -> tuple[int, ...]:
    """Blocks (in text order) that a block's last operation may jump to."""
    if not isinstance(last.row.semantics, Control):
        return ()
    names: tuple[str, ...] = ()
    match last.row.semantics.kind, last.instruction.operands:
        case ControlKind.BRANCH, (Symbol(name, _),):
            names = (name,)
        case ControlKind.TABLE_BRANCH, (_, Symbol(name, _)):
            if name not in kernel.branch_tables:
                raise _error(module, f"{name!r} is not a .branchtargets list", last.instruction.line)
            names = kernel.branch_tables[name]
    for name in names:
        if name not in kernel.labels:
            raise _error(module, f"{name!r} is not a label of this kernel", last.instruction.line)
    return tuple(block_at[kernel.labels[name]] for name in names)


def _successors(last: Operation, targets: tuple[int, ...], block: int, count: int) -> tuple[int, ...]:
    following = (block + 1,) if block + 1 < count else ()
    if not isinstance(last.row.semantics, Control):
        return following
    always = last.instruction.guard is None
    match last.row.semantics.kind:
        case ControlKind.BARRIER | ControlKind.MBARRIER_WAIT | ControlKind.CLUSTER_WAIT:
            return following
        case ControlKind.EXIT:
            return () if always else following
        case _:
            return targets if always else (*targets, *following)
