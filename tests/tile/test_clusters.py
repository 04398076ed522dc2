"""Tile programs of clusters: parts of tiles, copies that go to several programs, and a protocol of which no statement
can be left out."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path

import pytest

from tests.tile.test_trace import changed, statements
from texpr.compile import compile_variant, load_algorithm
from texpr.lang.ir import ReduceOp
from texpr.plan.errors import NotLowered
from texpr.schedule import kernel, mma, place, stage, variant
from texpr.tile.clusters import Cluster
from texpr.tile.declarations import Buffer
from texpr.tile.ir import Assign, Reduce, Relayout, Store, TileProgram
from texpr.tile.protocol import Advance, Arrive, CopyTensor, DotWait, Expect, MeetCluster, WaitBarrier
from texpr.tile.sync import ProtocolError
from texpr.tile.trace import check_synchronisation
from texpr.tile.verify import TileError, verify

LINEAR = f"{Path(__file__).parents[2] / 'kernels'}/linear.py:matmul_nn"
PROTOCOL = (Advance, Arrive, CopyTensor, DotWait, Expect, MeetCluster, WaitBarrier)


@cache
def multiplied(depth: int = 3, persistent: bool = True, **cluster: int) -> TileProgram:
    """x @ w by programs of 64 x 64, of which ``cluster`` share their boxes."""
    boxes = stage(at="acc.k", in_="shared", depth=depth, copy="tma")
    product = kernel(
        "product",
        writes="y",
        grid=dict(i=64, j=64),
        cluster=cluster,
        persistent=persistent or None,
        place=dict(acc=place(at="tile", loop=dict(k=64), mma=mma("wgmma", rows="i", cols="j"))),
        stage=dict(x=boxes, w=boxes),
        roles=dict(
            load=dict(warps=1, runs=["stage.x", "stage.w"]),
            compute=dict(warps=4, runs=["acc", "y"]),
        ),
    )
    guard = "K % 8 == 0 and N % 8 == 0 and K >= 1 and N >= 1 and M >= 1 and aligned(x, w, 16)"
    one = variant("one", target="sm_90a", when=guard, kernels=[product])
    algorithm = load_algorithm(LINEAR).bind({"T": "f16"}, {})
    (compiled,) = compile_variant(algorithm, one, ["sm_90a"], "matmul")
    return compiled.programs[0]


@pytest.mark.parametrize(
    ("axes", "dims", "bases"),
    [
        ((("i", 2),), ("i", "k"), ((1, 0),)),
        ((("i", 2),), ("k", "j"), ((0, 0),)),
        ((("i", 4),), ("i", "j"), ((1, 0), (2, 0))),
        ((("i", 2), ("j", 4)), ("i", "j"), ((0, 1), (0, 2), (1, 0))),
    ],
)
def test_every_bit_of_a_programs_number_halves_a_dim_or_none(axes, dims, bases) -> None:
    assert Cluster(axes).bases([(dim,) for dim in dims]) == bases


def test_an_axis_inside_of_a_dim_has_no_halves() -> None:
    with pytest.raises(NotLowered):
        Cluster((("q", 2),)).bases([("p", "q")])


@pytest.mark.parametrize("cluster", [{"i": 2}, {"j": 2}, {"i": 4}, {"i": 2, "j": 2}, {"i": 4, "j": 2}])
@pytest.mark.parametrize("persistent", [True, False])
def test_what_programs_do_not_divide_comes_once_for_all_of_them(cluster: dict[str, int], persistent: bool) -> None:
    program = multiplied(persistent=persistent, **cluster)
    copies = {item.buffer[0]: item for item in statements(program, CopyTensor)}
    assert {name: copy.multicast for name, copy in copies.items()} == {"x": "j" in cluster, "w": "i" in cluster}
    assert program.programs == math.prod(cluster.values())
    for buffer in program.buffers:
        assert buffer.bytes == 3 * 64 * 64 * 2  # of one program


def test_a_kernel_without_a_cluster_has_no_parts() -> None:
    program = multiplied()
    assert program.cluster == () and not any(buffer.layout.ctas for buffer in program.buffers)
    assert len(program.barriers) == 2 and not statements(program, MeetCluster)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_protocol_is_right_for_every_depth(depth: int) -> None:
    check_synchronisation(multiplied(depth, i=2))


@pytest.mark.parametrize("cluster", [{"i": 2}, {"i": 2, "j": 2}])
def test_no_statement_of_the_protocol_can_be_left_out(cluster: dict[str, int]) -> None:
    program = multiplied(3, **cluster)
    for item in statements(program, PROTOCOL):
        with pytest.raises(ProtocolError):
            check_synchronisation(changed(program, item))
            raise AssertionError(f"not missed: {item}")


def test_no_arrival_or_copy_can_be_made_twice() -> None:
    program = multiplied(2, i=2)
    for item in statements(program, (Expect, Arrive, CopyTensor)):
        with pytest.raises(ProtocolError):
            check_synchronisation(changed(program, item, item, item))
            raise AssertionError(f"not noticed: {item}")


def test_barriers_of_one_program_do_not_guard_a_copy_for_two() -> None:
    """The slots of all programs are given back to each alone."""
    program = multiplied(2, i=2)
    alone = tuple(dataclasses.replace(barriers, across=()) for barriers in program.barriers)
    with pytest.raises(ProtocolError):
        check_synchronisation(dataclasses.replace(program, barriers=alone))


def test_programs_that_fetch_for_themselves_are_not_ordered_by_barriers_of_all() -> None:
    """The second one arrives for the next step before the first one has waited for the last."""
    program = multiplied(2, i=2)
    (copy,) = (item for item in statements(program, CopyTensor) if item.multicast)
    with pytest.raises(ProtocolError):
        check_synchronisation(changed(program, copy, dataclasses.replace(copy, multicast=False)))


def test_a_copy_for_several_programs_goes_to_equal_parts() -> None:
    program = multiplied(2, i=2)
    halves = tuple(_in_halves(buffer) for buffer in program.buffers)
    with pytest.raises(TileError, match="no two programs have the same part"):
        verify(dataclasses.replace(program, buffers=halves))


def _in_halves(buffer: Buffer) -> Buffer:
    return dataclasses.replace(buffer, layout=dataclasses.replace(buffer.layout, ctas=((1, 0),)))


def test_nothing_is_summed_over_programs() -> None:
    program = multiplied(2, i=2)
    (stored,) = (item for item in statements(program, Store))
    assert isinstance(stored.value, Relayout)
    space, every = stored.value.space, stored.value.dims
    assert space is not None and every == (0, 1)
    for dim, divided in ((0, True), (1, False)):
        total = Reduce(ReduceOp.SUM, (stored.value,), dim, 0, stored.value.dtype, space, (1 - dim,))
        kept = changed(program, stored, Assign("total", total), stored)
        if divided:
            with pytest.raises(TileError, match="which programs of a cluster divide"):
                verify(kept)
        else:
            verify(kept)


def test_values_stay_in_their_program() -> None:
    program = multiplied(2, i=2)
    (stored,) = (item for item in statements(program, Store))
    assert isinstance(stored.value, Relayout)
    layout = dataclasses.replace(stored.value.space.layout, ctas=((0, 1),))
    space = dataclasses.replace(stored.value.space, layout=layout)
    moved = Relayout(stored.value.value, stored.value.dtype, space, stored.value.dims)
    with pytest.raises(TileError, match="other programs of a cluster"):
        verify(changed(program, stored, Assign("moved", moved), stored))


def test_layouts_have_a_part_for_every_program() -> None:
    program = multiplied(2, i=2)
    lacking = tuple(
        dataclasses.replace(buffer, layout=dataclasses.replace(buffer.layout, ctas=())) for buffer in program.buffers
    )
    with pytest.raises(TileError, match="parts for 1 programs of 2"):
        verify(dataclasses.replace(program, buffers=lacking))
