"""Plans of clusters: tiles are those of one program, what lies beyond the end of an axis is known of all together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from texpr.compile import find_schedule, load_algorithm
from texpr.lang.algorithm import AlgorithmDef
from texpr.math.expr import ceildiv, conjunction, eq, sym
from texpr.plan.build import plan_variant
from texpr.plan.checks import nodes_of
from texpr.plan.clusters import shared_along
from texpr.plan.errors import ClusterInvalid
from texpr.plan.ir import KernelPlan, Stage, VariantPlan
from texpr.plan.show import show_variant
from texpr.schedule.base import Map
from texpr.targets import TARGETS

KERNELS = Path(__file__).parents[2] / "kernels"
PRODUCT = f"{KERNELS}/linear.py:matmul_nn"
M, N = sym("M"), sym("N")


def planned(source: str, variant: str, cluster: dict[str, int], rows: int = 1) -> tuple[AlgorithmDef, VariantPlan]:
    """A variant of the repository's schedules, with another cluster and one group of computing warps, for a multiple of
    so many rows."""
    definition = load_algorithm(source)
    record = next(v for v in find_schedule(source, definition, None, None).variants if v.name == variant)
    (kernel,) = record.kernels
    places = Map.of({name: place for name, place in kernel.place.items() if name != "y"})  # stored in one piece
    roles = Map.of(
        {
            name: dataclasses.replace(role, warps=role.warps * role.times, times=1, split=None)
            for name, role in kernel.roles.items()
        }
    )
    record = dataclasses.replace(
        record,
        kernels=(dataclasses.replace(kernel, cluster=Map.of(cluster), place=places, roles=roles),),
        when=conjunction(record.when, eq(M % rows, 0)) if rows > 1 else record.when,
    )
    return definition, plan_variant(definition.bind({"T": "f16"}), record, TARGETS["sm_90a"])


def kernel_of(variant: str, cluster: dict[str, int], rows: int = 1) -> KernelPlan:
    return planned(PRODUCT, variant, cluster, rows)[1].kernels[0]


@pytest.mark.parametrize(
    ("cluster", "shared"),
    [({"i": 2}, {"w": ["i"]}), ({"j": 4}, {"x": ["j"]}), ({"i": 2, "j": 2}, {"w": ["i"], "x": ["j"]})],
)
def test_boxes_are_shared_along_the_axes_that_they_do_not_depend_on(
    cluster: dict[str, int], shared: dict[str, list[str]]
) -> None:
    kernel = kernel_of("clustered", cluster)
    stages = [node for node in nodes_of(kernel.nodes) if isinstance(node, Stage)]
    found = {stage.name: [axis.name for axis in shared_along(stage, kernel)] for stage in stages}
    assert {name: axes for name, axes in found.items() if axes} == shared


def test_tiles_are_of_one_program_and_counted_together() -> None:
    kernel = kernel_of("clustered", {"i": 2})
    rows, columns = kernel.tile
    assert (rows.size, rows.programs, columns.size, columns.programs) == (128, 2, 256, 1)
    assert (rows.count, columns.count) == (ceildiv(M, 256), ceildiv(N, 256))
    assert kernel.persistence is not None
    assert str(kernel.persistence.programs).endswith("max(sms//2, 1))")


@pytest.mark.parametrize(("rows", "full"), [(128, False), (256, True)])
def test_the_last_tile_is_full_if_those_of_all_programs_are(rows: int, full: bool) -> None:
    assert kernel_of("clustered", {"i": 2}, rows).tile[0].full == full


def test_what_is_shared_is_printed() -> None:
    definition, plan = planned(PRODUCT, "clustered", {"i": 2})
    text = show_variant(plan, definition.bind({"T": "f16"}))
    assert "cluster i:2" in text and "grid ceil(M/256) * ceil(N/256)" in text
    (line,) = (line for line in text.splitlines() if "load w" in line)
    assert "role load, multicast along i" in line
    assert text.count("multicast") == 1


def test_steps_that_depend_on_data_of_other_programs_are_refused() -> None:
    """Which keys a tile of queries needs is found in data: the last query of all programs says it."""
    with pytest.raises(ClusterInvalid, match="leaves out steps of j by a guard found in data along i"):
        planned(f"{KERNELS}/attention.py:attention", "d64_fetched", {"i": 2})
