"""Why a mutant that nothing notices is no error: reasons that a machine can check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tests.emulator.mutation.mutants import Edit, apply, every, executed, rebuilt
from tests.emulator.mutation.statements import Ptx, Statement, parse
from texpr.emulator import load_ptx
from texpr.emulator.kernel import Block, Kernel
from texpr.emulator.rows import ControlKind

UNUSED = "what the mask hides lies inside of the buffer and is never used: other values there change nothing"
NO_ACCESS = "no memory is accessed between this barrier and the next one (or the end), or the one before (or the start)"
NO_USE = "between this barrier and the next one, or the end, no shared memory is accessed and nothing is loaded"
SAME_VALUE = "the threads that the mask excludes store the value that is there anyway"
NOTHING_IN_FLIGHT = "no shared memory is accessed after the wait, and what is in flight at the end moves no bytes"
ONE_WARP = "a single warp makes all accesses between the barrier before this one and the one after it"
ANOTHER_BARRIER = "others order the same accesses: without it and them there is a fault, with it in their place none"
EXTRA_STEP = "only the number of steps of a loop changes, and the step too many does nothing"

_ACCESSES = ("ld.", "st.", "atom.", "red.", "ldmatrix", "stmatrix", "cp.", "mbarrier", "wgmma", "fence", "membar")
_NO_ACCESSES = ("ld.param", "ld.const", "cp.async.commit_group", "cp.async.wait")
_NOT_SHARED = (*_NO_ACCESSES, "ld.global", "st.global", "atom.global", "red.global")
_FENCES = ("fence", "membar", "wgmma.fence")
_BARRIERS = ("bar.sync", "barrier.sync", "bar.red", "barrier.red", "bar.cta")
_MOST_WARPS = 16


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


def unneeded_wait(ptx: str, name: str, line: int) -> str:
    """A reason why nothing needs the `cp.async.wait_group` at a line. Assumes that no run without it found copies in
    flight at the end (the emulator does not count those of zero bytes)."""
    kernel = load_ptx(ptx).kernels[name]
    successors = _successors(kernel)
    (start,) = (n for n, block in enumerate(kernel.blocks) if line in _lines(block))
    seen: set[int] = set()
    todo = list(successors[start])
    while todo:
        number = todo.pop()
        if number not in seen:
            seen.add(number)
            todo += successors[number]
    after = [opcode for at, opcode in _opcodes(kernel.blocks[start]) if at > line or start in seen]
    after += [opcode for number in seen for _, opcode in _opcodes(kernel.blocks[number])]
    return "" if any(_is_access(opcode, _NOT_SHARED) for opcode in after) else NOTHING_IN_FLIGHT


def replaced_barrier(ptx: str, name: str, line: int, noticed: Callable[[str], bool]) -> str:
    """A reason why the kernel does not need the barrier at a line as long as the others are there. `noticed` says
    whether the checks notice another kernel: they are asked what the barriers order."""
    text = parse(ptx)
    accesses = [s for s in text.statements if s.line in _around(load_ptx(ptx).kernels[name], line)]
    if any(not noticed(apply(text, _by_warp(accesses, warp))) for warp in range(_MOST_WARPS)):
        return ONE_WARP
    barriers = list(every(text, *_BARRIERS))
    (here,) = (n for n, barrier in enumerate(barriers) if barrier.line == line)
    others = sorted((n for n in range(len(barriers)) if n != here), key=lambda n: abs(n - here))
    together: list[Statement] = []
    for other in others:
        together.append(barriers[other])
        if noticed(_without(text, [barriers[here], *together])):
            if not noticed(_without(text, together)):
                return ANOTHER_BARRIER
            together.pop()
    return ""


def _without(text: Ptx, statements: Iterable[Statement]) -> str:
    return apply(text, Edit(tuple((statement, "") for statement in statements), ""))


def _by_warp(accesses: Iterable[Statement], warp: int) -> Edit:
    """A trap wherever another warp makes one of these accesses."""
    return Edit(
        tuple(
            (
                access,
                f"{{ .reg .pred %differs; .reg .pred %other; .reg .b32 %warp; {executed(access)} "
                f"mov.u32 %warp, %tid.x; shr.u32 %warp, %warp, 5; setp.ne.u32 %other, %warp, {warp}; "
                f"and.pred %differs, %differs, %other; @%differs trap; }} {rebuilt(access)}",
            )
            for access in accesses
        ),
        "",
    )


def _around(kernel: Kernel, line: int) -> set[int]:
    """The lines of all accesses on paths from a barrier (or the start), over that at the line, to a barrier."""
    (here,) = (
        number
        for number, block in enumerate(kernel.blocks)
        if block.transfer.operation is not None and block.transfer.operation.instruction.line == line
    )
    successors = _successors(kernel)
    before = [[n for n, after in enumerate(successors) if number in after] for number in range(len(successors))]
    found = {here}
    todo = [n for n in before[here] if not _is_barrier(kernel.blocks[n])]
    while todo:
        number = todo.pop()
        if number not in found:
            found.add(number)
            todo += [n for n in before[number] if not _is_barrier(kernel.blocks[n])]
    todo = list(successors[here])
    behind: set[int] = set()
    while todo:
        number = todo.pop()
        if number not in behind:
            behind.add(number)
            todo += () if _is_barrier(kernel.blocks[number]) else successors[number]
    opcodes = (item for number in found | behind for item in _opcodes(kernel.blocks[number]))
    return {at for at, opcode in opcodes if _is_access(opcode, (*_NO_ACCESSES, *_FENCES))}


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


def _opcodes(block: Block) -> Iterator[tuple[int, str]]:
    """The lines and opcodes of a block."""
    for operation in (*block.operations, *([block.transfer.operation] if block.transfer.operation else [])):
        yield operation.instruction.line, operation.instruction.opcode


def _lines(block: Block) -> set[int]:
    return {line for line, _ in _opcodes(block)}


def _is_access(opcode: str, harmless: tuple[str, ...]) -> bool:
    return opcode.startswith(_ACCESSES) and not opcode.startswith(harmless)


def _accesses(block: Block, harmless: tuple[str, ...]) -> bool:
    return any(_is_access(opcode, harmless) for _, opcode in _opcodes(block))


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
