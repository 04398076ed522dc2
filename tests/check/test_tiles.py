from __future__ import annotations

from tests.check.algorithms import SCALED, scaled, schedule, shrunk
from texpr.checking.tiles import dim_sizes, interesting, long_runs, tile_sizes
from texpr.compile import domain_facts
from texpr.math.expr import TRUE
from texpr.math.parse import parse_bool

MATMUL = """
texpr: 1
algorithm: matmul
variants:
- name: any
  target: sm_80
  kernels:
  - name: matmul
    writes: [y]
    grid: {i: 128, j: 64}
    order: {group: i, by: 8}
    place: {acc: {at: tile, loop: {k: 32}}, y: {at: tile, by: {j: 16}}}
    stage: {x: {at: acc.k, in: shared, depth: 4, copy: async}}
"""
SHRUNK = """
texpr: 1
algorithm: shrunk
variants:
- name: any
  target: sm_80
  kernels:
  - {name: shrunk, writes: [y], grid: {p: 8, q: 32}}
"""


def test_sizes_are_those_at_the_edges_of_tiles() -> None:
    assert interesting([16]) == [0, 1, 15, 16, 17, 29, 48]


def test_every_size_in_which_an_axis_is_cut_counts() -> None:
    (variant,) = schedule(MATMUL).variants
    assert tile_sizes(variant) == {"i": (128,), "j": (16, 64), "k": (32,)}


def test_pipelines_come_round_and_groups_of_tiles_are_passed() -> None:
    (variant,) = schedule(MATMUL).variants
    assert long_runs(variant) == {"k": {6 * 32 - 1}, "i": {8 * 128 + 1}}


def test_dims_get_the_multiples_that_the_facts_allow() -> None:
    algorithm = scaled.bind({"T": "f16"})
    variant = schedule(SCALED).variants[0]
    sizes = dim_sizes(algorithm, variant, parse_bool("M >= 8"), domain_facts(algorithm))
    assert all(size % 4 == 0 for size in sizes["N"])
    assert {0, 28, 32, 36, 96} <= set(sizes["N"])
    assert {0, 1, 7, 8, 9, 24} <= set(sizes["M"])


def test_a_guard_that_asks_for_more_gets_its_multiples_as_well() -> None:
    algorithm = scaled.bind({"T": "f16"})
    variant = schedule(SCALED).variants[0]
    sizes = dim_sizes(algorithm, variant, parse_bool("N % 24 == 0"), domain_facts(algorithm))
    assert {24, 48, 96} <= set(sizes["N"])


def test_numbers_in_the_guard_are_limits_to_try() -> None:
    algorithm = scaled.bind({"T": "f16"})
    variant = schedule(SCALED).variants[0]
    sizes = dim_sizes(algorithm, variant, parse_bool("M >= 100 or M < 3"), domain_facts(algorithm))
    assert {2, 3, 4, 99, 100, 101} <= set(sizes["M"])


def test_extents_that_are_computed_are_reached_through_their_dims() -> None:
    algorithm = shrunk.bind()
    (variant,) = schedule(SHRUNK).variants
    sizes = dim_sizes(algorithm, variant, TRUE, domain_facts(algorithm))
    rows = {(h - 1) // 2 + 1 for h in sizes["H"]}
    assert {1, 7, 8, 9, 24} <= rows
    assert {31 + 2, 32 + 2, 33 + 2} <= set(sizes["W"])
