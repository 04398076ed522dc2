"""The printed loop nest."""

from __future__ import annotations

import pytest

from tests.plan.nests import NESTS
from texpr.plan.show import show_variant
from texpr.plan.show_text import size_text


@pytest.mark.parametrize("name", NESTS)
def test_the_loop_nest_is_printed_as_it_was(name, golden):
    nest = NESTS[name]
    golden(name, show_variant(nest.plan(), nest.algorithm()))


@pytest.mark.parametrize("name", NESTS)
def test_a_nest_does_not_depend_on_who_prints_it(name):
    """Planning twice gives the same text: nothing is ordered by address or hash."""
    nest = NESTS[name]
    assert show_variant(nest.plan(), nest.algorithm()) == show_variant(nest.plan(), nest.algorithm())


def lines(name):
    nest = NESTS[name]
    return show_variant(nest.plan(), nest.algorithm()).splitlines()


def test_loops_have_the_names_that_at_accepts():
    loops = [line.replace("| ", "") for line in lines("convolution") if "for " in line]
    assert [loop.split()[1] for loop in loops] == ["acc.r", "acc.s", "acc.c"]


def test_a_contraction_says_how_many_instructions_a_warp_runs_per_step():
    (dot,) = [line for line in lines("pipelined_contraction") if "mma m16n8k16" in line]
    assert dot.endswith("[128 x 32] x [32 x 128]: 64 a warp")


def test_shared_memory_counts_every_stage_of_the_pipeline():
    assert "shared 64 KB of 163 KB" in lines("pipelined_contraction")[2]


def test_a_guard_names_the_fact_that_removes_it():
    text = lines("whole_rows")
    assert "  i < M   the last tile may be partial; M % 4 == 0 removes it" in text


def test_three_passes_over_a_row_are_three_reads():
    assert "reads/tile: x 1x by m, 1x by total, 1x by y" in lines("looped_rows")


def test_an_unaligned_tensor_says_which_fact_is_missing():
    assert any("x 2 bytes (along j; missing: aligned(x, 16))" in line for line in lines("looped_rows"))


def test_the_accumulator_layout_is_converted_for_the_store():
    assert "conversions: y: layout of acc -> rows of y, through shared memory" in lines("pipelined_contraction")


def test_a_workspace_is_part_of_the_variant():
    assert any(line.startswith("workspace re.part [") and ", N] f32" in line for line in lines("monoid_in_parts"))


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (1000, "1000 bytes"), (65536, "64 KB"), (33000, "32.2 KB")])
def test_sizes_are_written_as_people_say_them(size, text):
    assert size_text(size) == text
