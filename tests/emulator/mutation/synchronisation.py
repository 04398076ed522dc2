"""Mutations of synchronisation: barriers, waits, commits, arrivals and fences that are missing or too weak."""

from __future__ import annotations

from collections.abc import Iterator

from tests.emulator.mutation.mutants import Edit, Mutation, changed, every, rebuilt, removed
from tests.emulator.mutation.statements import Ptx, Statement


def removal(*prefixes: str, but: tuple[str, ...] = ()) -> Mutation:
    """Removes each statement of these opcodes, except where a part of the opcode is in `but`."""

    def mutation(ptx: Ptx) -> Iterator[Edit]:
        for statement in every(ptx, *prefixes):
            if not set(but) & set(statement.opcode.split(".")):
                yield removed(statement)

    return mutation


def weaker_wait(prefix: str) -> Mutation:
    """Each wait lets one group more be pending."""

    def mutation(ptx: Ptx) -> Iterator[Edit]:
        for statement in every(ptx, prefix):
            if len(statement.operands) == 1:
                count = int(statement.operands[0], 0)
                yield changed(statement, rebuilt(statement, operands=[str(count + 1)]), f"{count} -> {count + 1}")

    return mutation


def bulk_wait_for_reads_only(ptx: Ptx) -> Iterator[Edit]:
    """`wait_group.read` says that sources may be written again, not that the data has arrived."""
    for statement in every(ptx, "cp.async.bulk.wait_group"):
        if "read" not in statement.opcode.split("."):
            yield changed(statement, rebuilt(statement, opcode=statement.opcode + ".read"), "only for reads")


def mbarrier_wait_removed(ptx: Ptx) -> Iterator[Edit]:
    """The first try succeeds, whatever the phase."""
    for statement in every(ptx, "mbarrier.try_wait", "mbarrier.test_wait"):
        guard = f"{statement.guard} " if statement.guard else ""
        yield changed(statement, f"{guard}setp.eq.u32 {statement.operands[0]}, 0, 0;", "always succeeds")


def mbarrier_parity_flipped(ptx: Ptx) -> Iterator[Edit]:
    """The wait is for the phase before."""
    for statement in every(ptx, "mbarrier.try_wait.parity", "mbarrier.test_wait.parity"):
        done, address, parity, *rest = statement.operands
        flipped = rebuilt(statement, operands=[done, address, "%flipped", *rest])
        text = f"{{ .reg .b32 %flipped; xor.b32 %flipped, {parity}, 1; {flipped} }}"
        yield changed(statement, text, "the other parity")


def expected_bytes_halved(ptx: Ptx) -> Iterator[Edit]:
    for statement in ptx.statements:
        if statement.opcode.startswith("mbarrier.") and "expect_tx" in statement.opcode:
            amount = statement.operands[-1]
            if amount.isdigit():
                halved = rebuilt(statement, operands=[*statement.operands[:-1], str(int(amount) // 2)])
                yield changed(statement, halved, f"{amount} -> {int(amount) // 2}")


def mbarrier_count_raised(ptx: Ptx) -> Iterator[Edit]:
    """One arrival more completes a phase."""
    for statement in every(ptx, "mbarrier.init"):
        address, count = statement.operands
        if count.isdigit():
            yield changed(statement, rebuilt(statement, operands=[address, str(int(count) + 1)]), "one arrival more")


def _is_memory_fence(statement: Statement) -> bool:
    return statement.opcode.startswith("membar") or statement.opcode.startswith(("fence.acq_rel", "fence.sc"))


def memory_fence_removed(ptx: Ptx) -> Iterator[Edit]:
    yield from (removed(statement) for statement in ptx.statements if _is_memory_fence(statement))


SYNCHRONISATION: dict[str, Mutation] = {
    "barrier removed": removal("bar.sync", "barrier.sync", "bar.red", "barrier.red", "bar.cta"),
    "barrier arrival removed": removal("bar.arrive", "barrier.arrive", "barrier.cluster"),
    "warp barrier removed": removal("bar.warp.sync"),
    "cp.async wait removed": removal("cp.async.wait_group", "cp.async.wait_all"),
    "cp.async wait weakened": weaker_wait("cp.async.wait_group"),
    "cp.async commit removed": removal("cp.async.commit_group"),
    "cp.async arrival removed": removal("cp.async.mbarrier"),
    "mbarrier wait removed": mbarrier_wait_removed,
    "mbarrier parity flipped": mbarrier_parity_flipped,
    "mbarrier arrival removed": removal("mbarrier.arrive", but=("expect_tx",)),
    "mbarrier initialisation removed": removal("mbarrier.init"),
    "mbarrier count raised": mbarrier_count_raised,
    "expected bytes halved": expected_bytes_halved,
    "expectation removed": removal("mbarrier.arrive.expect_tx", "mbarrier.expect_tx"),
    "initialisation fence removed": removal("fence.mbarrier_init"),
    "proxy fence removed": removal("fence.proxy"),
    "memory fence removed": memory_fence_removed,
    "wgmma fence removed": removal("wgmma.fence"),
    "wgmma commit removed": removal("wgmma.commit_group"),
    "wgmma wait removed": removal("wgmma.wait_group"),
    "wgmma wait weakened": weaker_wait("wgmma.wait_group.sync.aligned"),
    "bulk commit removed": removal("cp.async.bulk.commit_group"),
    "bulk wait removed": removal("cp.async.bulk.wait_group"),
    "bulk wait weakened": weaker_wait("cp.async.bulk.wait_group"),
    "bulk wait for reads only": bulk_wait_for_reads_only,
}
