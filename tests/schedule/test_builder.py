"""The Python spelling."""

from __future__ import annotations

import inspect

import pytest

from texpr.dtypes import DType
from texpr.math.parse import parse_bool, parse_int
from texpr.schedule import dump_schedule, each_kernel, edit, kernel, load_schedule, mma, place, schedule, stage, variant
from texpr.schedule.errors import MissingKey, NotLoweredYet, NotPowerOfTwo, ScheduleError, UnknownKey, WrongShape
from texpr.schedule.like import written_out_kernels
from texpr.schedule.places import Mma
from texpr.schedule.records import Order
from texpr.schedule.words import Combine, Copy, Memory, OrderKind, Program, Tile

YAML = """\
texpr: 1
algorithm: linear_gelu
variants:
- name: wide
  target: [sm_80, sm_90a]
  when: M >= 128 and aligned(x, w, y, 16)
  types: {T: f16}
  relax: [{rounding: p}]
  kernels:
  - name: linear_gelu
    writes: [y]
    grid: {i: 128, j: 128}
    order: {group: i, by: 8}
    persistent: true
    warps: 4
    place:
      acc: {at: tile, in: registers, loop: {k: 32}, mma: {rows: i, cols: j}}
      z: {with: acc}
    stage:
      x: {at: acc.k, in: shared, copy: async, depth: 3}
"""


def linear_gelu():
    return schedule(
        "linear_gelu",
        variant("wide", target=["sm_80", "sm_90a"], when="M >= 128 and aligned(x, w, y, 16)", types=dict(T="f16"),
            relax=[dict(rounding="p")], kernels=[
            kernel("linear_gelu", writes=["y"], grid=dict(i=128, j=128), order=dict(group="i", by=8),
                persistent=True, warps=4,
                place=dict(
                    acc=place(at="tile", in_="registers", loop=dict(k=32), mma=mma(rows="i", cols="j")),
                    z=place(with_="acc"),
                ),
                stage=dict(x=stage(at="acc.k", in_="shared", copy="async", depth=3))),
        ]),
    )  # fmt: skip


def here() -> int:
    """The line of the caller."""
    return inspect.currentframe().f_back.f_lineno


def test_both_spellings_give_the_same_records():
    assert linear_gelu() == load_schedule(YAML)
    assert dump_schedule(linear_gelu()) == YAML


def test_values_may_be_the_records_own():
    record = kernel(
        "k",
        writes=("y",),
        order=Order(OrderKind.REVERSE, ("i",)),
        persistent=dict(programs=parse_int("2 * sms")),
        place=dict(a=place(at=Tile(), in_=Memory.SHARED, mma=Mma(rows=("i",)))),
        stage=dict(x=stage(at=Program(), in_=Memory.SHARED, copy=Copy.ASYNC)),
    )
    text = kernel(
        "k",
        writes="y",
        order=dict(reverse="i"),
        persistent=dict(programs="2 * sms"),
        place=dict(a=dict(at="tile", in_="shared", mma=dict(rows="i"))),
        stage=dict(x={"at": "program", "in": "shared", "copy": "async"}),
    )
    assert record == text
    typed = variant("v", target="sm_80", when=parse_bool("M > 1"), types=dict(T=DType.F16), kernels=[record])
    assert typed == variant("v", target="sm_80", when="M > 1", types=dict(T="f16"), kernels=[text])


def test_none_means_not_given():
    assert kernel("k", writes="y", warps=None, grid=dict(i=4, j=None)) == kernel("k", writes="y", grid=dict(i=4))


def test_records_know_the_line_of_their_call():
    line = here()
    record = kernel("k", writes="y",
        place=dict(
            a=place(at="tile")))  # fmt: skip
    assert (record.location.file, record.location.line) == (__file__, line + 1)
    assert record.location_of("writes") == record.location
    assert record.place["a"].location.line == line + 3


def test_mistakes_name_the_line_of_the_call():
    with pytest.raises(NotPowerOfTwo) as caught:
        kernel("k", writes="y", grid=dict(i=48))
    assert caught.value.at.file == __file__
    assert 'kernel("k", writes="y", grid=dict(i=48))' in caught.value.excerpt
    assert caught.value.hint == "i: 32 or 64"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: kernel("k", writes="y", gird=dict(i=4)), UnknownKey),
        (lambda: kernel("k"), MissingKey),
        (lambda: kernel("k", writes="y", programs=4), NotLoweredYet),
        (lambda: kernel("k", writes="y", warps="4"), WrongShape),
        (lambda: kernel("k", writes="y", warps=4.0), WrongShape),
        (lambda: kernel("k", writes="y", grid=["i"]), WrongShape),
        (lambda: kernel("k", writes="y", persistent="true"), WrongShape),
        (lambda: place(at=Copy.SYNC), WrongShape),
        (lambda: stage(at="tile", in_=Copy.SYNC), WrongShape),
        (lambda: place(combine=Combine.CLUSTER), NotLoweredYet),
        (lambda: variant("v", target="sm_80", kernels=[object()]), WrongShape),
        (lambda: stage(at="tile", in_="registers", copy="async"), ScheduleError),
    ],
)
def test_python_values_are_checked_like_yaml(call, error):
    with pytest.raises(error) as caught:
        call()
    assert caught.value.at.file == __file__
    assert caught.value.hint


def test_edit_changes_what_is_named_and_keeps_the_rest():
    before = linear_gelu().variants[0].kernels[0]
    after = edit(before, warps=8, persistent=None, grid=dict(i=64))
    assert (after.warps, after.persistent, dict(after.grid)) == (8, None, {"i": 64})
    assert after.place == before.place
    assert after.place["acc"].location == before.place["acc"].location
    assert edit(before) == before


def test_edit_checks_what_it_makes():
    with pytest.raises(ScheduleError):
        edit(kernel("k", writes="y", grid=dict(i=4)), whole=dict(i=4))
    with pytest.raises(UnknownKey):
        edit(kernel("k", writes="y"), wraps=4)


def test_edit_undoes_a_key_that_is_a_python_word():
    assert edit(place(at="tile", in_="shared"), in_=None) == place(at="tile")


def test_each_kernel_changes_every_kernel():
    twice = schedule("a", *(variant(n, target="sm_80", kernels=[kernel("k", writes="y")]) for n in ("v", "w")))
    changed = each_kernel(twice, lambda record: edit(record, warps=2))
    assert [record.kernels[0].warps for record in changed.variants] == [2, 2]
    assert changed.algorithm == "a"


def test_like_takes_what_is_not_given_but_not_what_concerns_its_writes() -> None:
    own = {"fill": {"h": 0, "state": 1}, "scratch": {"state": "u32[N]"}}
    first = kernel("first", writes=["h"], grid={"i": 64}, warps=8, **own)
    second = kernel("second", writes=["y"], grid={"i": 32}, like="first")
    made = written_out_kernels(variant("any", target="sm_80", kernels=[first, second])).kernels[1]
    assert (made.name, made.writes, dict(made.grid), made.warps, made.like) == ("second", ("y",), {"i": 32}, 8, None)
    assert (dict(made.fill), dict(made.scratch)) == ({"state": 1}, dict(first.scratch))
