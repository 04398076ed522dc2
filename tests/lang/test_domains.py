"""Ranges that hold where a condition does: what they prove, what is checked, and what inputs are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import texpr as te
from tests.check.test_inputs import inputs_of
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.manifest import load_manifest
from texpr.compile import package_of
from texpr.domains import Domain, holds_at, with_statics
from texpr.lang.errors import ReferenceArgumentError
from texpr.lang.reference import reference
from texpr.plan.default import default_schedule
from texpr.runtime.errors import ContractBrokenError


@te.algorithm(
    "x: f32[P, PS], page: i32[B, M] in [0, P) where j*PS < n[b], n: i32[B] in [0, M*PS + 1) -> y: f32[B]",
    static={"PS": 4},
)
def sum_of_pages(x, page, n, y, *, PS):
    b, j, r = te.axes(b="B", j="M", r="PS")
    y[b] = te.sum(x[page[b, j], r], over=(j, r), where=j * PS + r < n[b])


X = np.arange(12, dtype=np.float32).reshape(3, 4)
N = np.array([3, 8, 0], np.int32)


def test_indices_are_found_along_the_dims_of_their_extents() -> None:
    page = sum_of_pages.bind({}).inputs[1]
    assert page.domain is not None
    assert page.domain.named == Domain("j * 4 < n[b]", ("b", "j"))


def test_values_outside_the_domain_are_not_looked_at() -> None:
    page = np.array([[2, -77], [0, 1], [1000, 3]], np.int32)
    np.testing.assert_array_equal(reference(sum_of_pages)(x=X, page=page, n=N)["y"], [27, 28, 0])


def test_values_in_the_domain_keep_the_range() -> None:
    page = np.array([[2, 0], [0, 3], [0, 0]], np.int32)
    with pytest.raises(ReferenceArgumentError, match=r"\[0, 3\) where j \* 4 < n\[b\]"):
        reference(sum_of_pages)(x=X, page=page, n=N)


def test_a_range_proves_reads_where_its_condition_is_implied() -> None:
    @te.algorithm("x: f32[P], t: i32[N, 4] in [0, P) where [i, j]: j < 3 -> y: f32[N]")
    def first_two(x, t, y):
        i, j = te.axes(i="N", j=2)
        y[i] = te.sum(x[t[i, j]], over=j)

    assert first_two.bind({}).name == "first_two"


def test_drawn_inputs_have_garbage_outside_the_domain() -> None:
    found = inputs_of(sum_of_pages.bind({}), {"B": 9, "M": 6, "P": 5}).arrays
    used = np.arange(6)[None, :] * 4 < found["n"][:, None]
    valid = (found["page"] >= 0) & (found["page"] < 5)
    assert valid[used].all()
    assert not valid[~used].all()


def test_the_emulated_path_refuses_values_in_the_domain_only(tmp_path: Path) -> None:
    package = package_of(sum_of_pages, default_schedule(sum_of_pages, ("sm_80",)), ("sm_80",), {}, {})
    write_bundle(package, tmp_path / "sum", BuildOptions(targets=("sm_80",)))
    run = te.load(tmp_path / "sum")
    page = np.array([[2, -77], [0, 1], [1000, 3]], np.int32)
    np.testing.assert_array_equal(run(X, page, N), [27, 28, 0])
    with pytest.raises(ContractBrokenError, match=r"page: element \(1, 1\) is 3.*in \[0, 3\) where j \* 4 < n\[b\]"):
        run(X, np.array([[2, 0], [0, 3], [0, 0]], np.int32), N)
    arguments = {each["name"]: each for each in load_manifest(tmp_path / "sum")["functions"][0]["arguments"]}
    assert arguments["page"]["domain"] == {"where": "j * 4 < n[b]", "indices": ["b", "j"]}
    assert arguments["n"]["domain"] is None
    assert "page: i32[B, M] in [0, P) where j * 4 < n[b]" in (tmp_path / "sum" / "sum_of_pages.h").read_text()


def test_statics_become_numbers() -> None:
    assert with_statics("i*PS + PS < n[i] and PS > j", {"PS": 16}) == "i * 16 + 16 < n[i] and 16 > j"


def test_chained_comparisons_and_several_conditions() -> None:
    domain = Domain("lo <= i < hi and i % 2 == 0", ("i", ""))
    found = holds_at(domain, (6, 2), {"lo": 1, "hi": 5}, {})
    np.testing.assert_array_equal(found[:, 0], [False, False, True, False, True, False])
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
