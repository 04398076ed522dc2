"""Mutations of accesses: masks, bounds, staged data, ring slots, atomics, memory order and shuffles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tests.emulator.mutation.mutants import Edit, Mutation, Replacements, changed, every, executed, rebuilt, removed
from tests.emulator.mutation.statements import Ptx, Statement

_OTHER_BOUND = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt"}
_ORDERS = {"acquire", "release", "acq_rel"}
_ADDRESS = re.compile(r"\[\s*(%\w+)\s*(?:\+\s*0\s*)?\]")


def mask_dropped(*prefixes: str) -> Mutation:
    """Each guarded access of these opcodes happens for all threads."""

    def mutation(ptx: Ptx) -> Iterator[Edit]:
        for statement in every(ptx, *prefixes):
            if statement.guard:
                negated = "!" in statement.guard
                predicate = statement.guard.lstrip("@!")
                masked = f"{'mov' if negated else 'not'}.pred %differs, {predicate};"
                noise = _noise([statement])
                yield changed(statement, rebuilt(statement, guard=""), "for all threads", masked, noise)

    return mutation


_SMALL = {"8": 0x3E, "16": 0x3E00, "32": 0x3FC03E00, "64": 0x3FF8000000000000}


def _noise(loads: Sequence[Statement]) -> tuple[Replacements, ...]:
    """These masked loads, and behind each its targets set where it is masked: to all ones (NaN as a float), and to
    small numbers. Nothing if some of them are no loads."""
    widths = [re.sub(r"\D", "", load.opcode.split(".")[-1]) for load in loads]
    if any(not load.opcode.startswith("ld") for load in loads) or not set(widths) <= set(_SMALL):
        return ()
    return tuple(
        tuple(
            (load, f"{rebuilt(load)} {_filled(load, width, _SMALL[width] if small else (1 << int(width)) - 1)}")
            for load, width in zip(loads, widths, strict=True)
        )
        for small in (False, True)
    )


def _filled(load: Statement, width: str, value: int) -> str:
    """Statements that set the targets of a masked load where it is masked. Bytes are in registers of 16 bits."""
    targets = [target.strip() for target in load.operands[0].strip("{} ").split(",")]
    where = f"@{'' if '!' in load.guard else '!'}{load.guard.lstrip('@!')}"
    bits = "16" if width == "8" else width
    return " ".join(f"{where} mov.b{bits} {target}, {value};" for target in targets)


def copy_mask_dropped(ptx: Ptx) -> Iterator[Edit]:
    """A masked `cp.async` has a source size of 0 where the mask is false: here it is the whole size everywhere."""
    for statement in every(ptx, "cp.async.ca", "cp.async.cg"):
        if len(statement.operands) == 4:
            _, _, whole, size = statement.operands
            masked = f"setp.ne.u32 %differs, {size}, {whole};"
            text = rebuilt(statement, operands=statement.operands[:3])
            yield changed(statement, text, "the whole size", masked, _copied_noise(statement, ptx))


def _copied_noise(copy: Statement, ptx: Ptx) -> tuple[Replacements, ...]:
    """A copy that copies ones (NaN as floats), or small numbers, where its source size is 0. Traps if the size is not
    all or nothing."""
    entry = ptx.text.index(".visible .entry")
    before = Statement(entry, entry, 0, "", "", (), False)
    target, source, whole, size = copy.operands
    address = source.strip("[ ]").replace(" ", "").partition("+")[0]
    copied = rebuilt(copy, operands=[target, source.replace(address, "%from"), whole])
    text = (
        "{ .reg .pred %hidden; .reg .pred %part; .reg .b64 %from; .reg .b64 %noise; "
        f"setp.eq.u32 %hidden, {size}, 0; setp.ne.u32 %part, {size}, {whole}; @%hidden not.pred %part, %hidden; "
        f"@%part trap; mov.u64 %noise, noise; selp.b64 %from, %noise, {address}, %hidden; {copied} }}"
    )
    if not source.replace(" ", "").endswith(("+0]", f"{address}]")):
        return ()
    return tuple(
        ((before, f".global .align 16 .b8 noise[16] = {{{', '.join(values * 8)}}}; "), (copy, text))
        for values in (["255", "255"], ["0", "62"])
    )


def bound_off_by_one(ptx: Ptx) -> Iterator[Edit]:
    """`<` becomes `<=` and so on, in every comparison of integers."""
    for statement in every(ptx, "setp"):
        parts = statement.opcode.split(".")
        if parts[1] in _OTHER_BOUND and re.fullmatch(r"[su](16|32|64)", parts[-1]):
            opcode = ".".join([parts[0], _OTHER_BOUND[parts[1]], *parts[2:]])
            description = f"{parts[1]} -> {_OTHER_BOUND[parts[1]]}"
            equal = f"setp.eq.{parts[-1]} %differs, {statement.operands[1]}, {statement.operands[2]};"
            yield changed(statement, rebuilt(statement, opcode=opcode), description, equal, _noise_of(statement, ptx))


def _noise_of(comparison: Statement, ptx: Ptx) -> tuple[Replacements, ...]:
    """Noise where a predicate is false that is made in one place and does nothing but mask loads."""
    predicate = comparison.operands[0]
    uses = [s for s in ptx.statements if predicate in (s.guard.lstrip("@!"), *s.operands)]
    masked = [s for s in uses if s.guard == f"@{predicate}" and predicate not in s.operands]
    return _noise(masked) if masked and len(masked) == len(uses) - 1 else ()


def removal(*prefixes: str) -> Mutation:
    """Removes each statement of these opcodes."""

    def mutation(ptx: Ptx) -> Iterator[Edit]:
        yield from (removed(statement) for statement in every(ptx, *prefixes))

    return mutation


def stages_swapped(ptx: Ptx) -> Iterator[Edit]:
    """Two copies into the same allocation exchange their destinations."""
    definitions = {s.operands[0]: s for s in ptx.statements if s.opcode == "add.s32" and len(s.operands) == 3}
    copies = [(s, _target(s, definitions)) for s in every(ptx, "cp.async.ca", "cp.async.cg")]
    for position, (_, first) in enumerate(copies):
        for _, second in copies[position + 1 :]:
            if first is None or second is None or first.operands[1] != second.operands[1]:
                continue
            a, b = first.operands[2], second.operands[2]
            if a.isdigit() and b.isdigit() and a != b:
                pair = (
                    (first, rebuilt(first, operands=[*first.operands[:2], b])),
                    (second, rebuilt(second, operands=[*second.operands[:2], a])),
                )
                yield Edit(pair, f"exchanged with line {second.line}")
                break


def _target(copy: Statement, definitions: dict[str, Statement]) -> Statement | None:
    """The addition that made the address that a copy writes to."""
    place = _ADDRESS.fullmatch(copy.operands[0])
    return definitions.get(place[1]) if place else None


def ring_slot_moved(ptx: Ptx) -> Iterator[Edit]:
    """A slot number, or the offset of a slot, computed in a loop is one too large: powers of two are masked, other
    counts go back to zero by a comparison."""
    for statement in ptx.statements:
        if not statement.in_loop or not statement.operands:
            continue
        target = statement.operands[0]
        if statement.opcode == "and.b32" and _is_ring(statement.operands[2]):
            lowest = int(statement.operands[2]) & -int(statement.operands[2])
            yield changed(statement, f"{rebuilt(statement)} xor.b32 {target}, {target}, {lowest};", "the next slot")
        if statement.opcode in ("selp.b32", "selp.b64") and "0" in statement.operands[1:3]:
            wrapped = ["1" if operand == "0" else operand for operand in statement.operands[1:3]]
            moved = rebuilt(statement, operands=[target, *wrapped, statement.operands[3]])
            if _is_counter(statement, ptx):
                yield changed(statement, moved, "comes round to 1")


def _is_ring(mask: str) -> bool:
    """Ones in a row, as the mask of an offset into a ring of two or more slots of at least 64 elements."""
    if not mask.isdigit() or int(mask) == 0:
        return False
    value = int(mask)
    ones = value // (value & -value)
    return (value & -value) >= 64 and ones & (ones + 1) == 0


def _is_counter(selection: Statement, ptx: Ptx) -> bool:
    """Whether one of the choices is a register that was just counted up."""
    counted = {s.operands[0] for s in ptx.statements if s.opcode.startswith("add.s") and s.operands[2] == "1"}
    return bool(counted & set(selection.operands[1:3]))


def order_weakened(ptx: Ptx) -> Iterator[Edit]:
    for statement in every(ptx, "atom", "red", "ld", "st"):
        parts = statement.opcode.split(".")
        strong = _ORDERS & set(parts)
        if strong and "async" not in parts:
            opcode = ".".join("relaxed" if part in _ORDERS else part for part in parts)
            description = f"{strong.pop()} -> relaxed"
            yield changed(statement, rebuilt(statement, opcode=opcode), description, executed(statement))


def scope_narrowed(ptx: Ptx) -> Iterator[Edit]:
    for statement in every(ptx, "atom", "red", "ld", "st", "fence"):
        parts = statement.opcode.split(".")
        if "gpu" in parts and "shared" not in parts:
            opcode = ".".join("cta" if part == "gpu" else part for part in parts)
            yield changed(statement, rebuilt(statement, opcode=opcode), "gpu -> cta", executed(statement))


def atomic_made_plain(ptx: Ptx) -> Iterator[Edit]:
    """A load, the operation, and a store."""
    for statement in every(ptx, "atom", "red"):
        parts = statement.opcode.split(".")
        operation = next((part for part in parts if part in ("add", "min", "max", "and", "or", "xor", "exch")), None)
        kind = parts[-1]
        if operation is None or not re.fullmatch(r"[subf](32|64)", kind):
            continue
        old, address, value = statement.operands if parts[0] == "atom" else ("%before", *statement.operands)
        space = next((part for part in parts if part in ("global", "shared")), "")
        space = f".{space}" if space else ""
        guard = f"{statement.guard} " if statement.guard else ""
        bits = f"b{kind[1:]}"
        combine = f"mov.{bits}" if operation == "exch" else f"{operation}.{_arithmetic(operation, kind)}"
        sources = value if operation == "exch" else f"%before, {value}"
        keep = f"{guard}mov.{bits} {old}, %before;" if parts[0] == "atom" else ""
        yield changed(
            statement,
            f"{{ .reg .{bits} %before; .reg .{bits} %after; {guard}ld{space}.{bits} %before, {address}; "
            f"{guard}{combine} %after, {sources}; {guard}st{space}.{bits} {address}, %after; {keep} }}",
            "load, operation, store",
            executed(statement),
        )


def _arithmetic(operation: str, kind: str) -> str:
    if operation in ("and", "or", "xor"):
        return f"b{kind[1:]}"
    return {"b32": "u32", "b64": "u64"}.get(kind, kind)


def atomic_removed(ptx: Ptx) -> Iterator[Edit]:
    for statement in every(ptx, "red"):
        yield removed(statement)
    for statement in every(ptx, "atom"):
        width = re.sub(r"\D", "", statement.opcode.split(".")[-1]) or "32"
        target = statement.operands[0]
        if target == "_":
            yield removed(statement)
        elif width in ("16", "32", "64"):
            guard = f"{statement.guard} " if statement.guard else ""
            text = f"{guard}mov.b{width} {target}, 0;"
            yield changed(statement, text, "gives 0, changes nothing", executed(statement))


def shuffle_distance_changed(ptx: Ptx) -> Iterator[Edit]:
    for statement in every(ptx, "shfl.sync"):
        target, value, distance, *rest = statement.operands
        if distance.isdigit():
            other = {0: 1, 1: 2}.get(int(distance), int(distance) // 2)
            yield changed(
                statement, rebuilt(statement, operands=[target, value, str(other), *rest]), f"{distance} -> {other}"
            )


ACCESSES: dict[str, Mutation] = {
    "load mask dropped": mask_dropped("ld.global", "ld.relaxed", "ld.acquire", "ld.volatile"),
    "store mask dropped": mask_dropped("st.global", "st.relaxed", "st.release", "st.volatile"),
    "atomic mask dropped": mask_dropped("atom", "red"),
    "cp.async mask dropped": copy_mask_dropped,
    "bulk copy mask dropped": mask_dropped("cp.async.bulk.shared", "cp.async.bulk.global", "cp.async.bulk.tensor"),
    "bound off by one": bound_off_by_one,
    "shared store removed": removal("st.shared", "stmatrix"),
    "cp.async removed": removal("cp.async.ca", "cp.async.cg"),
    "bulk copy removed": removal("cp.async.bulk.shared", "cp.async.bulk.global", "cp.async.bulk.tensor"),
    "stages swapped": stages_swapped,
    "ring slot moved": ring_slot_moved,
    "memory order weakened": order_weakened,
    "scope narrowed": scope_narrowed,
    "atomic made plain": atomic_made_plain,
    "atomic removed": atomic_removed,
    "shuffle distance changed": shuffle_distance_changed,
}
