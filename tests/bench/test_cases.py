"""Case files: the ones that ship are right, and every mistake is an error with its line."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench.peers import PEERS, module_of
from bench.sweep.casefile import read_case, read_cases
from bench.sweep.yaml_lines import BenchError
from texpr.packing.sources import algorithms_in, find_sources

ROOT = Path(__file__).parents[2]
GOOD = """\
bench: 1
kernel: copy
asked: 2026-11-21
types: {T: f16}
peers:
  torch: x.clone()
  copy: bytes
goal: {against: [copy], ratio: 0.9}
shapes:
- {M: 8, N: 16}
- {M: 1, N: 2, goal: 0.5, asked: 2026-11-22}
"""


def read(folder: Path, text: str) -> None:
    (folder / "a.yaml").write_text(text)
    read_case(folder / "a.yaml", Path("a.yaml"))


def test_the_files_that_ship_name_kernels_that_exist() -> None:
    offered = algorithms_in(ROOT / "kernels")
    cases = read_cases(ROOT / "bench" / "cases")
    assert {case.kernel for case in cases} <= set(offered)
    assert all(case.small for case in cases), "each can be tried on the emulator"
    assert all(case.goal is not None for case in cases)


def test_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    case = read_case(tmp_path / "a.yaml")
    assert [(dict(shape.dims), shape.goal and shape.goal.ratio, shape.asked) for shape in case.shapes] == [
        ({"M": 8, "N": 16}, 0.9, "2026-11-21"),
        ({"M": 1, "N": 2}, 0.5, "2026-11-22"),
    ]
    assert case.types == ({"T": "f16"},) and case.statics == ({},)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("bench: 1", "bench: 2", "a.yaml:1: this version reads 'bench: 1'"),
        ("kernel: copy", "kernle: copy", "a.yaml:2: a case has no key 'kernle'"),
        ("kernel: copy", "kernel: 3", "a.yaml:2: kernel should be a text, not 3"),
        ("asked: 2026-11-21\n", "", "a.yaml:1: a case needs the key 'asked'"),
        ("asked: 2026-11-21", "asked: soon", "a.yaml:3: asked should be a date"),
        ("  torch: x.clone()", "  tochr: x.clone()", "a.yaml:6: peers has no key 'tochr'"),
        ("against: [copy]", "against: [cub]", "a.yaml:8: cub is none of this case's peers: torch, copy"),
        ("ratio: 0.9", "ratio: -1", "a.yaml:8: a goal is a ratio between 0 and 100"),
        ("M: 8,", "M: 8.5,", "a.yaml:10: M should be a whole number, not 8.5"),
        ("M: 8,", "M: -8,", "a.yaml:10: a size is negative"),
        ("M: 8,", "M: 8, M: 9,", "a.yaml:10: the key 'M' stands here for the second time"),
        ("shapes:", "lidar:", "a.yaml:10: lidar has no key 'M'"),
        ("types: {T: f16}", "schedule: no.yaml", "a.yaml:4: there is no file"),
        ("types: {T: f16}", "types: []", "a.yaml:4: types is empty"),
        ("- {M: 8, N: 16}", "- {M: 8, N: 16", "a.yaml:11: "),
        ("goal: {against: [copy], ratio: 0.9}\n", "", "a.yaml:10: the case has no goal that says against whom"),
    ],
)
def test_mistakes_are_named_with_their_lines(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in GOOD
    with pytest.raises(BenchError) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert error in str(caught.value)


def test_expressions_of_peers_use_what_the_kernel_has() -> None:
    python = {name for name, module in PEERS.items() if module not in ("device_copy", "cub")} - {
        "spconv", "spconv_triton", "torchsparse"
    }  # fmt: skip
    theirs = {"_", "torch", "F", "liger", "matmul", "softmax"}
    for case in read_cases(ROOT / "bench" / "cases"):
        (source,) = find_sources([case.kernel], ROOT / "kernels")
        algorithm = source.definition.bind(case.types[0], case.statics[0])
        given = {each.name for each in (*algorithm.params, *algorithm.dims)} | set(dict(algorithm.statics))
        for name in python & set(case.peers):
            timed, _, finish = case.peers[name].partition("=>")
            tree = ast.parse("\n".join(part.strip() for part in [*timed.split(";"), finish]))
            names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
            made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
            assert used <= given | theirs | made, (case.name, name)


def test_every_peer_has_a_module_that_says_why_it_is_absent() -> None:
    for name in PEERS:
        if PEERS[name] != "device_copy":
            assert callable(module_of(name).prepare) and callable(module_of(name).version)
