"""Counters of memory accesses against numbers worked out by hand: bytes, sectors, bank conflicts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulator.counting import count, find
from texpr.emulator.counters import Channel, Level, Traffic, Way

LANES = range(32)


# Sectors of global memory -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("opcode", "registers", "width", "offsets", "sectors", "unique"), [
    ("b32", "%r0", 4, [4 * i for i in LANES], 4, 128),                # side by side
    ("b32", "%r0", 4, [4 * (31 - i) for i in LANES], 4, 128),         # the order does not matter
    ("b32", "%r0", 4, [8 * i for i in LANES], 8, 128),                # every second word
    ("b32", "%r0", 4, [128 * i for i in LANES], 32, 128),             # a column of a matrix
    ("b32", "%r0", 4, [4 * i + 4 for i in LANES], 5, 128),            # one word off
    ("b32", "%r0", 4, [0 for _ in LANES], 1, 4),                      # all the same word
    ("b32", "%r0", 4, [4 * (i // 2) for i in LANES], 2, 64),          # pairs share
    ("b8", "%h0", 1, [i for i in LANES], 1, 32),
    ("b16", "%h0", 2, [2 * i for i in LANES], 2, 64),
    ("b64", "%x0", 8, [8 * i for i in LANES], 8, 256),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", 16, [16 * i for i in LANES], 16, 512),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", 16, [16 * i + 16 for i in LANES], 17, 512),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", 16, [512 * (i // 4) + 16 * (i % 4) for i in LANES], 16, 512),
    ("v8.b32", "{%r0, %r1, %r2, %r3, %r4, %r5, %r6, %r7}", 32, [32 * i for i in LANES], 32, 1024),
])
def test_sectors_of_a_load(
    opcode: str, registers: str, width: int, offsets: list[int], sectors: int, unique: int
) -> None:
    entry = find(count(f"ld.global.{opcode} {registers}, [%at];", offsets), f"ld.global.{opcode}")
    expected = Traffic(requests=1, accesses=32, bytes=32 * width, unique_bytes=unique, sectors=sectors,
                       ideal_sectors=-(-unique // 32))
    assert entry.memory == {Channel(Level.GLOBAL, Way.LOAD, width): expected}
    assert entry.traffic(Level.GLOBAL).efficiency == unique / (32 * sectors)


def test_warps_are_separate_requests_even_for_the_same_sectors() -> None:
    entry = find(count("st.global.b32 [%at], %t;", [4 * (i % 8) for i in range(64)]), "st.global.b32")
    assert entry.traffic(Level.GLOBAL) == Traffic(2, 64, 256, 64, 2, 2)


def test_only_active_lanes_are_counted() -> None:
    body = "setp.lt.u32 %p, %t, 40; @%p ld.global.b32 %r0, [%at];"
    entry = find(count(body, [4 * i for i in range(96)]), "ld.global.b32")
    assert entry.traffic(Level.GLOBAL) == Traffic(2, 40, 160, 160, 5, 5)
    assert entry.executed.warps == 2 and entry.executed.threads == 40


def test_a_load_that_overwrites_its_own_address_counts_the_address_it_used() -> None:
    entry = find(count("ld.global.b64 %at, [%at];", [256 * i for i in LANES]), "ld.global.b64")
    assert entry.traffic(Level.GLOBAL).sectors == 32


def test_programs_that_run_side_by_side_are_counted_like_one_after_the_other() -> None:
    counters = count("ld.global.b32 %r0, [%at];", [32 * i for i in LANES], programs=37)
    assert find(counters, "ld.global.b32").traffic(Level.GLOBAL) == Traffic(37, 37 * 32, 37 * 128, 37 * 128,
                                                                            37 * 32, 37 * 4)


def test_atomics_of_global_memory() -> None:
    entry = find(count("red.global.add.u32 [%at], 1;", [0] * 16 + [64] * 16), "red.global.add.u32")
    assert entry.memory == {Channel(Level.GLOBAL, Way.ATOMIC, 4): Traffic(1, 32, 128, 8, 2, 1)}


def test_local_memory_and_parameters() -> None:
    body = """
    { .local .align 8 .b8 own[16]; .reg .b32 %l; mov.u32 %l, own; st.local.b64 [%l+8], %at; ld.local.b32 %r0, [%l+8]; }
    """
    memory = count(body, [0] * 32).memory()
    assert memory[Channel(Level.LOCAL, Way.STORE, 8)] == Traffic(1, 32, 256)
    assert memory[Channel(Level.LOCAL, Way.LOAD, 4)] == Traffic(1, 32, 128)
    assert {channel.level for channel in memory} == {Level.LOCAL, Level.GLOBAL}  # and the offsets' load


def test_generic_addresses_are_counted_where_they_lead() -> None:
    body = """
    cvt.u64.u32 %x0, %s; cvta.shared.u64 %x1, %x0; setp.lt.u32 %p, %t, 8; selp.b64 %x2, %x1, %at, %p;
    st.b32 [%x2], %t; ld.b32 %r0, [%x2];
    """
    memory = find(count(body, [4 * i for i in LANES]), "ld.b32").memory
    assert memory[Channel(Level.SHARED, Way.LOAD, 4)] == Traffic(1, 8, 32, wavefronts=1, ideal_wavefronts=1)
    assert memory[Channel(Level.GLOBAL, Way.LOAD, 4)] == Traffic(1, 24, 96, 96, 3, 3)


# Banks of shared memory -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("opcode", "registers", "offsets", "wavefronts", "ideal"), [
    ("b32", "%r0", [4 * i for i in LANES], 1, 1),
    ("b32", "%r0", [8 * i for i in LANES], 2, 1),
    ("b32", "%r0", [16 * i for i in LANES], 4, 1),
    ("b32", "%r0", [32 * i for i in LANES], 8, 1),
    ("b32", "%r0", [128 * i for i in LANES], 32, 1),
    ("b32", "%r0", [132 * i for i in LANES], 1, 1),                        # padded by a word
    ("b32", "%r0", [12 * i for i in LANES], 1, 1),                         # odd strides never conflict
    ("b32", "%r0", [0 for _ in LANES], 1, 1),                              # broadcast
    ("b32", "%r0", [128 * (i % 2) for i in LANES], 2, 1),                  # two words of one bank
    ("b32", "%r0", [4 * ((i * 5) % 32) for i in LANES], 1, 1),             # any permutation
    ("b32", "%r0", [128 * i + 4 * ((i * 4) % 32) for i in LANES], 4, 1),   # a swizzle that is too small
    ("b32", "%r0", [128 * i + 4 * (7 ^ i) for i in LANES], 1, 1),          # a column of a swizzled tile
    ("b8", "%h0", [i for i in LANES], 1, 1),                               # bytes of the same word
    ("b16", "%h0", [2 * i for i in LANES], 1, 1),
    ("b16", "%h0", [64 * i for i in LANES], 16, 1),
    ("b64", "%x0", [8 * i for i in LANES], 2, 2),                          # half warps
    ("b64", "%x0", [16 * i for i in LANES], 4, 2),
    ("b64", "%x0", [128 * i for i in LANES], 32, 2),
    ("b64", "%x0", [8 * (i % 16) for i in LANES], 2, 2),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [16 * i for i in LANES], 4, 4),     # quarter warps
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [32 * i for i in LANES], 8, 4),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [128 * i for i in LANES], 32, 4),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [144 * i for i in LANES], 4, 4),    # rows padded by 16 bytes
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [128 * i + 16 * (i % 8) for i in LANES], 4, 4),
    ("v4.b32", "{%r0, %r1, %r2, %r3}", [128 * i + 16 * (i // 2 % 4) for i in LANES], 8, 4),
])
@pytest.mark.parametrize("store", [False, True])
def test_wavefronts(
    opcode: str, registers: str, offsets: list[int], wavefronts: int, ideal: int, store: bool
) -> None:
    name = f"{'st' if store else 'ld'}.shared.{opcode}"
    operands = f"[%s], {registers}" if store else f"{registers}, [%s]"
    traffic = find(count(f"{name} {operands};", offsets), name).traffic(Level.SHARED)
    assert (traffic.requests, traffic.wavefronts, traffic.ideal_wavefronts) == (1, wavefronts, ideal)
    assert traffic.conflicts == wavefronts - ideal


def test_half_a_warp_needs_one_wavefront_of_wide_accesses() -> None:
    body = "setp.lt.u32 %p, %t, 16; @%p ld.shared.b64 %x0, [%s];"
    traffic = find(count(body, [8 * i for i in LANES]), "ld.shared.b64").traffic(Level.SHARED)
    assert traffic == Traffic(1, 16, 128, wavefronts=1, ideal_wavefronts=1)


def test_atomics_of_one_word_are_served_one_after_the_other() -> None:
    body = "atom.shared.add.u32 %r0, [%s], 1;"
    traffic = find(count(body, [4 * (i // 4) for i in LANES]), "atom.shared.add.u32").traffic(Level.SHARED)
    assert traffic == Traffic(1, 32, 128, wavefronts=4, ideal_wavefronts=1)


@pytest.mark.parametrize(("matrices", "offsets", "wavefronts"), [
    (4, [16 * i for i in LANES], 4),
    (4, [128 * i for i in LANES], 32),                                      # eight rows of one bank group
    (4, [128 * i + 16 * (i % 8) for i in LANES], 4),                        # the swizzle for rows of 128 bytes
    (4, [64 * i + 16 * (i // 2 % 4) for i in LANES], 4),                    # and of 64 bytes
    (4, [64 * i for i in LANES], 16),
    (2, [128 * i for i in LANES], 16),
    (1, [16 * i for i in LANES], 1),
])
@pytest.mark.parametrize("store", [False, True])
def test_matrix_rows(matrices: int, offsets: list[int], wavefronts: int, store: bool) -> None:
    registers = "{" + ", ".join(f"%r{i}" for i in range(matrices)) + "}"
    name = f"{'st' if store else 'ld'}matrix.sync.aligned.m8n8.x{matrices}.shared.b16"
    operands = f"[%s], {registers}" if store else f"{registers}, [%s]"
    way = Way.MATRIX_STORE if store else Way.MATRIX_LOAD
    entry = find(count(f"{name} {operands};", offsets), name)
    assert entry.memory == {Channel(Level.SHARED, way, 4 * matrices): Traffic(
        1, 8 * matrices, 128 * matrices, wavefronts=wavefronts, ideal_wavefronts=matrices)}


def test_asynchronous_copies_read_sectors_and_write_banks() -> None:
    body = "cp.async.cg.shared.global [%s], [%at], 16; cp.async.wait_all;"
    memory = find(count(body, [32 * i for i in LANES]), "cp.async.cg.shared.global").memory
    assert memory[Channel(Level.GLOBAL, Way.COPY, 16)] == Traffic(1, 32, 512, 512, 32, 16)
    assert memory[Channel(Level.SHARED, Way.COPY, 16)] == Traffic(1, 32, 512, wavefronts=8, ideal_wavefronts=4)


def test_asynchronous_copies_that_read_less_write_all() -> None:
    """Lanes 0 to 7 read 16 bytes, 8 to 15 read 6, the others nothing."""
    body = """
    setp.lt.u32 %p, %t, 8; selp.u32 %r0, 16, 6, %p; setp.lt.u32 %q, %t, 16; selp.u32 %r0, %r0, 0, %q;
    cp.async.cg.shared.global [%s], [%at], 16, %r0; cp.async.wait_all;
    """
    memory = find(count(body, [16 * i for i in LANES]), "cp.async.cg.shared.global").memory
    assert memory[Channel(Level.GLOBAL, Way.COPY, 16)] == Traffic(1, 16, 176, 176, 8, 6)
    assert memory[Channel(Level.SHARED, Way.COPY, 16)].bytes == 512


def test_bulk_copies_count_bytes_and_sectors() -> None:
    body = """
    setp.eq.u32 %p, %t, 0; mov.u32 %r1, buffer; add.u32 %r2, %r1, 16;
    @%p mbarrier.init.shared.b64 [%r1], 1;
    fence.mbarrier_init.release.cluster;
    @%p mbarrier.arrive.expect_tx.shared.b64 _, [%r1], 80;
    add.s64 %x1, %data, 16;
    @%p cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r2], [%x1], 80, [%r1];
    wait: mbarrier.try_wait.parity.shared.b64 %q, [%r1], 0; @!%q bra wait;
    @%p cp.async.bulk.global.shared::cta.bulk_group [%x1], [%r2], 64;
    cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;
    """
    memory = count(body, [0] * 32).memory()
    assert memory[Channel(Level.GLOBAL, Way.BULK_LOAD, 0)] == Traffic(1, 1, 80, 80, 3, 3)
    assert memory[Channel(Level.SHARED, Way.BULK_LOAD, 0)] == Traffic(1, 1, 80)
    assert memory[Channel(Level.GLOBAL, Way.BULK_STORE, 0)] == Traffic(1, 1, 64, 64, 3, 2)
    assert memory[Channel(Level.SHARED, Way.BULK_STORE, 0)] == Traffic(1, 1, 64)


# Any pattern ------------------------------------------------------------------------------------------------

def test_random_patterns_match_a_count_lane_by_lane() -> None:
    random = np.random.default_rng(5)
    for width, name, registers in ((1, "b8", "%h0"), (4, "b32", "%r0"), (8, "b64", "%x0"),
                                   (16, "v4.b32", "{%r0, %r1, %r2, %r3}")):
        offsets = [int(place) * width for place in random.integers(0, 1024 // width, 96)]
        active = [i for i in range(96) if i % 32 < 20]
        body = f"""
        and.b32 %r7, %t, 31; setp.lt.u32 %p, %r7, 20;
        @%p ld.shared.{name} {registers}, [%s]; @%p ld.global.{name} {registers}, [%at];
        """
        counters = count(body, offsets)
        sectors = wavefronts = 0
        for warp in range(3):
            mine = [i for i in active if i // 32 == warp]
            sectors += len({offsets[i] // 32 for i in mine})
            together = 32 if width <= 4 else 128 // width
            for first in range(0, 32, together):
                words = {w for i in mine if first <= i % 32 < first + together
                         for w in range(offsets[i] // 4, (offsets[i] + width - 1) // 4 + 1)}
                wavefronts += max((sum(w % 32 == bank for w in words) for bank in range(32)), default=0)
        assert find(counters, f"ld.global.{name}").traffic(Level.GLOBAL).sectors == sectors
        assert find(counters, f"ld.shared.{name}").traffic(Level.SHARED).wavefronts == wavefronts
