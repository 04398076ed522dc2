"""What contracts mean: the first element that breaks one, in NumPy values, in calls of the reference, in draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import texpr as te
from texpr.aot.bundle import BuildOptions, write_bundle
from texpr.aot.manifest import load_manifest
from texpr.checking.calls import Case, Values, is_legal, symbols_of
from texpr.checking.inputs import make_inputs
from texpr.compile import package_of
from texpr.contracts import ContractKind, violation
from texpr.errors import TExprError
from texpr.packing.runner.inputs import elements
from texpr.packing.runner.records import Fill, Style
from texpr.plan.default import default_schedule
from texpr.runtime.errors import ContractBrokenError

OFFSETS, SORTED, PERMUTATION, LISTS, UNIQUE, FINITE = ContractKind


@pytest.mark.parametrize(
    ("kind", "values", "limit", "position"),
    [
        (OFFSETS, [0, 2, 2, 7], 7, None),
        (OFFSETS, [0], 0, None),
        (OFFSETS, [], 0, 0),
        (OFFSETS, [1, 2, 7], 7, 0),
        (OFFSETS, [0, 3, 2, 7], 7, 2),
        (OFFSETS, [0, 3, 6], 7, 2),
        (SORTED, [-3, -3, 5], None, None),
        (SORTED, [1, 2, 1, 0], None, 2),
        (PERMUTATION, [2, 0, 1], 3, None),
        (PERMUTATION, [2, 0, 3], 3, 2),
        (PERMUTATION, [2, -1, 0], 3, 1),
        (PERMUTATION, [2, 0, 2], 3, 2),
        (UNIQUE, [9, 4, -1], None, None),
        (UNIQUE, [9, 4, 9, 4], None, 2),
        (FINITE, [0.0, 1e300], None, None),
        (FINITE, [0.0, np.nan, np.inf], None, 1),
    ],
)
def test_the_first_element_that_breaks_a_contract(
    kind: ContractKind, values: list[float], limit: int | None, position: int | None
) -> None:
    dtype = np.float64 if kind is FINITE else np.int64
    found = violation(kind, np.asarray(values, dtype), limit)
    assert (None if found is None else found[0]) == (None if position is None else (position,))


@pytest.mark.parametrize(
    ("rows", "position"),
    [
        ([[3, 0, 1, 2], [0, 3, 3, 3], [1, 2, 0, 0]], None),
        ([[0, 0, 0, 0], [4, 0, 1, 2]], (1, 0)),
        ([[-1, 0, 0, 0]], (0, 0)),
        ([[2, 0, 3, 0]], (0, 2)),
        ([[1, 0, 0, 4]], (0, 3)),
        ([[3, 0, 2, 2]], (0, 3)),
        ([[2, 1, 0, 0]], (0, 2)),
        (np.zeros((0, 4)), None),
    ],
)
def test_the_first_element_that_breaks_a_list(rows: list[list[int]], position: tuple[int, int] | None) -> None:
    found = violation(LISTS, np.asarray(rows, np.int64), 3)
    assert (None if found is None else found[0]) == position


@te.algorithm(
    "off: i32[E + 1] offsets(Z), l: hint i32[E, Z + 1] lists(Z), p: i32[Z] permutation(Z), s: u8[Z] sorted,"
    " u: i16[Z] in [-5, 400) unique,"
    " b: i32[Z] in [0, 10) sorted, f: f16[Z] finite -> y: f16[Z], z: i32[E]"
)
def promised(off, l, p, s, u, b, f, y, z):  # noqa: E741
    i, e = te.axes(i="Z", e="E")
    y[i] = f[p[i]]
    z[e] = off[e]


def case(values: Values = Values.NORMAL, **dims: int) -> Case:
    return Case(dims, {}, {}, {}, frozenset(), frozenset(), values)


@pytest.mark.parametrize(("groups", "size"), [(0, 0), (1, 0), (1, 9), (3, 1), (7, 300), (50, 4)])
def test_drawn_inputs_keep_their_contracts(groups: int, size: int) -> None:
    algorithm = promised.bind()
    call = case(Values.SPECIAL, E=groups, Z=size)
    symbols = symbols_of(algorithm, call, 2)
    assert symbols is not None and is_legal(algorithm, call, symbols)
    for seed in range(4):
        inputs = make_inputs(algorithm, call, symbols, seed)
        te.reference(promised)(**inputs.arrays)


def test_no_groups_have_no_elements() -> None:
    algorithm = promised.bind()
    for groups, size, legal in ((0, 0, True), (0, 1, False), (1, 500, False)):
        call = case(E=groups, Z=size)
        symbols = symbols_of(algorithm, call, 2)
        assert symbols is not None and is_legal(algorithm, call, symbols) is legal


def test_the_reference_refuses_a_broken_contract() -> None:
    algorithm = promised.bind()
    symbols = symbols_of(algorithm, case(E=3, Z=6), 2)
    assert symbols is not None
    arrays = dict(make_inputs(algorithm, case(E=3, Z=6), symbols, 0).arrays)
    arrays["off"] = np.asarray([0, 4, 2, 6], np.int32)
    with pytest.raises(TExprError, match=r"off: .*'offsets\(Z\)': element 2 is 2, less than 4") as caught:
        te.reference(promised)(**arrays)
    assert caught.value.code == "TX0181"


@pytest.mark.parametrize("size", [0, 1, 2, 9, 300])
def test_packed_inputs_keep_their_contracts(size: int) -> None:
    from texpr.dtypes import DType

    index = np.arange(size, dtype=np.uint64)

    def made(*names: str, low: int = 0, high: int = size - 1) -> np.ndarray:
        return elements(Fill(Style.INTEGERS, 12345, low, high, 0, names), DType.I32, index, size)

    if size:
        assert violation(PERMUTATION, made("permutation"), size) is None
        assert violation(UNIQUE, made("unique", low=-7, high=1000), None) is None
        assert violation(SORTED, made("sorted", low=-7, high=1000), None) is None
        fill, count = Fill(Style.INTEGERS, 5, 0, size, 0, ("lists",)), 2 * size + 2
        rows = elements(fill, DType.I32, np.arange(count, dtype=np.uint64), count)
        assert violation(LISTS, rows.reshape(2, size + 1), size) is None
    if size > 1:
        assert violation(OFFSETS, made("offsets", high=50), 50) is None


def test_the_emulated_path_refuses_a_broken_contract_before_it_launches(tmp_path: Path) -> None:
    @te.algorithm("at: i32[N] in [0, N) sorted, x: f32[N] finite, off: i32[E + 1] offsets(N) -> y: f32[N]")
    def picked(at, x, off, y):
        (i,) = te.axes(i="N")
        y[i] = x[at[i]]

    schedule = default_schedule(picked, ("sm_80",))
    package = package_of(picked, schedule, ("sm_80",), {}, {}, with_example=False)
    write_bundle(package, tmp_path / "picked", BuildOptions(targets=("sm_80",)))
    run = te.load(tmp_path / "picked")
    x, off = np.asarray([1, 2, 3], np.float32), np.asarray([0, 1, 3], np.int32)
    at = np.asarray([0, 1, 1], np.int32)
    np.testing.assert_array_equal(run(at, x, off), [1, 2, 2])
    for broken, message in (
        ({"at": np.asarray([0, 2, 1], np.int32)}, "at: element 2 is 1, less than 2 before it.* 'sorted'"),
        ({"at": np.asarray([0, 1, 3], np.int32)}, r"at: element 2 is 3.*'in \[0, 3\)'"),
        ({"x": np.asarray([1, np.inf, 3], np.float32)}, "x: element 1 is nan, which is not finite"),
        ({"off": np.asarray([0, 1, 2], np.int32)}, r"off: element 2 is 2; the last offset is 3.*'offsets\(N\)'"),
    ):
        with pytest.raises(ContractBrokenError, match=message):
            run(**({"at": at, "x": x, "off": off} | broken))
    manifest = load_manifest(tmp_path / "picked")
    arguments = {each["name"]: each for each in manifest["functions"][0]["arguments"]}
    assert arguments["off"]["contracts"] == [{"kind": "offsets", "limit": "N"}]
    assert "off: i32[E + 1] offsets(N)" in (tmp_path / "picked" / "picked.h").read_text()
