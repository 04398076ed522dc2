"""Why a mutant that nothing notices is no error: reasons that a machine can check."""

from __future__ import annotations

from tests.emulator.mutation.statements import parse
from texpr.emulator import load_ptx
from texpr.emulator.kernel import Block, Kernel
from texpr.emulator.rows import ControlKind

UNUSED = "what the mask hides lies inside of the buffer and is never used: other values there change nothing"
NO_ACCESS = "no memory is accessed between this barrier and the next one (or the end), or the one before (or the start)"
NO_USE = "between this barrier and the next one, or the end, no shared memory is accessed and nothing is loaded"
SAME_VALUE = "the threads that the mask excludes store the value that is there anyway"
EXTRA_STEP = "only the number of steps of a loop changes, and the step too many does nothing"

_ACCESSES = ("ld.", "st.", "atom.", "red.", "ldmatrix", "stmatrix", "cp.", "mbarrier", "wgmma", "fence", "membar")
_NO_ACCESSES = ("ld.param", "ld.const", "cp.async.commit_group", "cp.async.wait")


def redundant_barrier(ptx: str, name: str, line: int) -> str:
    """A reason why the barrier at a line of the unmutated kernel orders nothing, or an empty string."""
    kernel = load_ptx(ptx).kernels[name]
    for number, block in enumerate(kernel.blocks):
        operation = block.transfer.operation
        if operation is not None and operation.instruction.line == line:
            following = block.transfer.following
            if _quiet(kernel, following, _NO_ACCESSES) or (
                not _accesses(block, _NO_ACCESSES) and _quiet_before(kernel, number)
            ):
                return NO_ACCESS
            return NO_USE if _quiet(kernel, following, (*_NO_ACCESSES, "st.global")) else ""
    return ""


def without_effect(kind: str, ptx: str, line: int) -> str:
    """A reason why a mutant that acts differently leaves exactly the same memory behind, or an empty string. Assumes
    that it did so in every call."""
    if kind == "store mask dropped":
        return SAME_VALUE
    if kind == "bound off by one":
        statements = parse(ptx).statements
        predicate = next(s.operands[0] for s in statements if s.line == line and s.opcode.startswith("setp"))
        uses = [s for s in statements if predicate == s.guard.lstrip("@!") or predicate in s.operands[1:]]
        if uses and all(s.guard.lstrip("@!") == predicate and s.opcode.startswith("bra") for s in uses):
            return EXTRA_STEP
    return ""


def _is_barrier(block: Block) -> bool:
    return block.transfer.kind is ControlKind.BARRIER


def _accesses(block: Block, harmless: tuple[str, ...]) -> bool:
    operations = [*block.operations, *([block.transfer.operation] if block.transfer.operation else [])]
    opcodes = [operation.instruction.opcode for operation in operations]
    return any(opcode.startswith(_ACCESSES) and not opcode.startswith(harmless) for opcode in opcodes)


def _successors(kernel: Kernel) -> list[tuple[int, ...]]:
    found = []
    for block in kernel.blocks:
        last = block.transfer
        goes_on = last.kind is None or last.kind in (ControlKind.BARRIER, ControlKind.MBARRIER_WAIT)
        guarded = last.operation is not None and last.operation.instruction.guard is not None
        following = (last.following,) if (goes_on or guarded) and last.following >= 0 else ()
        found.append((*last.targets, *following))
    return found


def _quiet(kernel: Kernel, start: int, harmless: tuple[str, ...]) -> bool:
    """Whether no path from the beginning of a block comes to an access, other than the harmless ones, before it comes
    to a barrier or to the end."""
    successors = _successors(kernel)
    todo, seen = [start] if start >= 0 else [], set()
    while todo:
        number = todo.pop()
        if number in seen:
            continue
        seen.add(number)
        if _accesses(kernel.blocks[number], harmless):
            return False
        if not _is_barrier(kernel.blocks[number]):
            todo += successors[number]
    return True


def _quiet_before(kernel: Kernel, number: int) -> bool:
    """The same, backwards from the beginning of a block."""
    successors = _successors(kernel)
    before = [[n for n, after in enumerate(successors) if block in after] for block in range(len(kernel.blocks))]
    todo, seen = list(before[number]), set()
    while todo:
        previous = todo.pop()
        if previous in seen or _is_barrier(kernel.blocks[previous]):
            continue
        seen.add(previous)
        if _accesses(kernel.blocks[previous], _NO_ACCESSES):
            return False
        todo += before[previous]
    return True
