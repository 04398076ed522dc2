"""Every case on the emulator, and that the cases reach the whole table."""

from __future__ import annotations

import pytest

from tests.emulator.conformance import on_emulator
from tests.emulator.conformance.case import Case
from tests.emulator.conformance.catalogue import all_cases, groups
from tests.emulator.conformance.coverage import (
    WITHOUT_CASE,
    excused,
    opcodes_by_row,
    unreached_words,
)
from texpr.emulator.accuracy import ACCURACY, bound_of
from texpr.emulator.isa import TABLE
from texpr.emulator.rows import Row

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("number", range(len(groups())))
def test_the_emulator_agrees_with_the_references(number: int) -> None:
    wrong = [line for case in groups()[number] for line in case.differences(on_emulator.run(case))]
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.pattern)
def test_every_row_has_a_case_for_every_word(row: Row) -> None:
    opcodes = opcodes_by_row(all_cases()).get(row.pattern, set())
    assert bool(opcodes) != excused(row), "a row without a case, or an excuse that is not needed any more"
    assert not opcodes or not unreached_words(row, opcodes)


def test_no_excuse_is_left_over() -> None:
    assert all(any(row.pattern.startswith(start) for row in TABLE) for start in WITHOUT_CASE)


def test_every_documented_error_is_tried() -> None:
    bounds = {bound_of(opcode) for case in all_cases() for opcode in case.opcodes}
    assert set(ACCURACY.values()) <= bounds


def test_a_wrong_result_is_seen() -> None:
    case = next(case for case in all_cases() if case.name == "add.rn.f32")
    got = dict(on_emulator.run(case))
    right = got["d"].copy()
    right[5] ^= 1
    assert not case.differences(got) and len(case.differences({"d": right})) == 1


def by_name(name: str) -> Case:
    return next(case for case in all_cases() if case.name == name)


def test_a_documented_error_is_the_limit() -> None:
    case = by_name("ex2.approx.f32")
    got = on_emulator.run(case)["d"].copy()
    got[3] += 2
    assert not case.differences({"d": got})
    got[3] += 2
    assert "2 ulp" in case.differences({"d": got})[0]


@pytest.mark.parametrize(
    "name",
    [
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes (20, 40) (16, 30) uint32",
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16",
    ],
)
def test_cases_hold_under_random_schedules(name: str) -> None:
    case = by_name(name)
    for seed in (1, 2, 3):
        assert not case.differences(on_emulator.run(case, seed))
