"""Samples and what is made of them, with a clock that only work moves on."""

from __future__ import annotations

import pytest

from bench.measure.rounds import Rules, calls_needed, sets_needed, settle, take_samples
from bench.measure.statistics import drift, quantile, ratio, summary
from tests.bench.fakes import FakeTimer


def test_median_and_spread() -> None:
    found = summary([1.0, 9.0, 2.0, 3.0, 4.0])
    assert (found.median, found.least, found.count) == (3.0, 1.0, 5)
    assert (found.low, found.high) == pytest.approx((1.4, 7.0))
    assert found.spread == pytest.approx(5.6 / 3)
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_a_ratio_is_made_round_by_round() -> None:
    own, theirs = [1.0, 2.0, 4.0], [2.0, 4.0, 8.0]
    assert ratio(theirs, own).median == 2.0, "clocks that change cancel"
    assert ratio(theirs, own).spread == 0.0
    with pytest.raises(ValueError):
        ratio(theirs, own[:2])


def test_drift_compares_the_last_third_with_the_first() -> None:
    assert drift([1.0] * 3 + [5.0] * 3 + [1.1] * 3) == pytest.approx(0.1)
    assert drift([1.0, 9.0]) == 0.0


def test_contestants_take_turns_and_heat_tells_none_of_them_apart() -> None:
    timer = FakeTimer(heat=0.01)
    pieces = [timer.piece("a", 10.0, calls=4), timer.piece("b", 20.0, calls=2)]
    found = take_samples(timer, pieces, Rules(warm=0.0, budget=0.01, rounds=(4, 60)))
    assert len(found["a"]) == len(found["b"]) == 60
    assert found["a"][-1] > 1.5 * found["a"][0], "the device did get slower"
    assert ratio(found["b"], found["a"]).median == pytest.approx(2.0, rel=0.01)


def test_who_is_first_changes() -> None:
    timer = FakeTimer()
    order: list[str] = []
    pieces = [timer.piece(name, 1.0) for name in "abc"]

    def noted(name: str) -> None:
        order.append(name)

    noting = [type(p)(p.name, lambda p=p: (noted(p.name), p.work())[1], 1, True) for p in pieces]
    take_samples(timer, noting, Rules(warm=0.0, budget=0.0, rounds=(3, 3)))
    assert "".join(order[3:]) == "abcbcacab"


def test_host_time_is_hidden_only_where_there_is_no_graph() -> None:
    timer = FakeTimer()
    take_samples(timer, [timer.piece("a", 1.0, graph=False)], Rules(warm=0.0, budget=0.0, rounds=(2, 2)))
    assert timer.hidden == [True] * 3


def test_rounds_follow_the_budget_within_their_limits() -> None:
    timer = FakeTimer()
    rules = Rules(warm=0.0, budget=0.001, rounds=(5, 50))
    assert len(take_samples(timer, [timer.piece("a", 100.0)], rules)["a"]) == 10
    assert len(take_samples(timer, [timer.piece("a", 1e6)], rules)["a"]) == 5
    assert len(take_samples(timer, [timer.piece("a", 0.1)], rules)["a"]) == 50


def test_settling_lasts_as_long_as_asked() -> None:
    timer = FakeTimer()
    settle(timer, [timer.piece("a", 1000.0)], 0.5)
    assert 0.5e6 <= timer.now < 0.502e6
    settle(timer, [], 0.5)


def test_buffers_exceed_the_cache_twice() -> None:
    assert sets_needed(10 << 20, 60 << 20, 1 << 40) == 12
    assert sets_needed(1 << 30, 60 << 20, 1 << 40) == 2, "never the same buffers twice in a row"
    assert sets_needed(1 << 10, 60 << 20, 1 << 40) == 256
    assert sets_needed(1 << 30, 60 << 20, 3 << 29) == 1, "as many as fit"
    with pytest.raises(MemoryError):
        sets_needed(1 << 30, 0, 1 << 20)


def test_pieces_are_long_enough_and_use_all_sets_alike() -> None:
    rules = Rules(piece=200e-6)
    assert calls_needed(1400.0, 2, rules) == 2
    assert calls_needed(10.0, 12, rules) == 24
    assert calls_needed(0.01, 7, rules) == 2044, "no graph without end"
    assert calls_needed(0.0, 3000, rules) == 3000
