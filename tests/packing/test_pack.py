"""Making a pack: what is in it, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.packing.packs import KERNELS, ROOT, small_request
from texpr.aot.manifest import verify_bundle
from texpr.errors import TExprError
from texpr.packing import errors
from texpr.packing.cases import Effort
from texpr.packing.pack import write_pack
from texpr.packing.requests import parse_size
from texpr.packing.runner.records import read_pack
from texpr.packing.sizes import Limits
from texpr.packing.sources import algorithms_in, find_sources, peers_of


def test_what_is_in_a_pack(built: Path) -> None:
    pack = read_pack(built)
    assert pack.bundles == KERNELS
    assert set(pack.peers) == set(KERNELS)
    assert {path.name for path in built.iterdir()} == {"run.py", "pack.json", "bundles", "cases", "texpr"}
    variants = {(case.bundle, case.variant) for case in pack.cases}
    assert variants == {("copy", "aligned"), ("copy", "any"), ("sum_rows", "few_rows"), ("sum_rows", "any")}
    for variant in variants:
        cases = [case for case in pack.cases if (case.bundle, case.variant) == variant]
        assert sum(case.large for case in cases) == 1
        assert 1 <= sum(not case.large for case in cases) <= 2
        assert all(output.expected is not None for case in cases for output in case.outputs)
    for name in KERNELS:
        verify_bundle(pack.bundle_folder(name))


def test_bits_come_with_a_promise_where_arithmetic_is_exact(built: Path) -> None:
    cases = [case for case in read_pack(built).cases if not case.large]
    assert all(case.emulated["sm_80"].promised for case in cases if case.bundle == "copy")
    assert all(set(case.emulated["sm_80"].bits) == {"y"} for case in cases)


def test_nothing_of_the_compiler_is_brought_along(built: Path) -> None:
    folders = {path.name for path in (built / "texpr").iterdir() if path.is_dir()}
    assert folders == {"lang", "packing", "runtime", "emulator"}
    assert {path.name for path in (built / "texpr" / "lang").iterdir()} == {"__init__.py", "arrays.py"}
    texts = [path.read_text() for path in built.rglob("*") if path.suffix in (".json", ".py", ".yaml")]
    assert not any(str(ROOT) in text for text in texts)


def test_the_same_request_makes_the_same_pack(built: Path, tmp_path: Path) -> None:
    write_pack(small_request(KERNELS), tmp_path / "again")
    assert read_pack(tmp_path / "again").id == read_pack(built).id
    names = [path.relative_to(built) for path in built.rglob("*") if path.suffix in (".npz", ".py", ".so")]
    assert names
    assert all((tmp_path / "again" / name).read_bytes() == (built / name).read_bytes() for name in names)


def test_a_pack_is_replaced_and_nothing_else_is(pack: Path, tmp_path: Path) -> None:
    (pack / "results").mkdir()
    write_pack(small_request(["copy"]), pack)
    assert read_pack(pack).bundles == ("copy",)
    assert not (pack / "results").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(errors.OccupiedPack, match="is no pack"):
        write_pack(small_request(["copy"]), tmp_path / "mine")


def test_a_pack_that_is_too_large_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(errors.PackTooLarge, match=r"allows 0\.1 MB; largest: .*texpr/"):
        write_pack(small_request(["copy"], limit=100_000), tmp_path / "pack")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["softmix"], r"softmix: no algorithm .* has this name\n  try: .*softmax"),
        (["copy", "kernels/none.py:x"], "no such file"),
    ],
)
def test_unknown_kernels(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(TExprError) as raised:
        write_pack(small_request(names), tmp_path / "pack")
    assert re.search(message, str(raised.value))


def test_names_are_found_without_importing_anything(tmp_path: Path) -> None:
    body = "import nowhere\n\n@te.algorithm('x: f32[M] -> y: f32[M]')\ndef f(x, y): ...\n\ndef g(): ...\n"
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(body)
    assert {name: len(files) for name, files in algorithms_in(tmp_path).items()} == {"f": 2}
    with pytest.raises(errors.UnknownKernel, match="say which one"):
        find_sources(["f"], tmp_path)


@pytest.mark.parametrize("text", ["copy", "copy:M", "copy:M=x", "copy:M=4,,N=4", "co py:M=4"])
def test_sizes_that_are_not_understood(text: str) -> None:
    with pytest.raises(errors.SizeRefused, match="not understood"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("copy:M=4", "it gives M"),
        ("softmax:M=4,N=4", "softmax is not packed"),
        ("sum_rows:M=4,N=4,K=4", "it gives M, N, K"),
    ],
)
def test_sizes_that_do_not_fit(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(errors.SizeRefused, match=why):
        write_pack(small_request(KERNELS, sizes=(parse_size(text),)), tmp_path / "pack")


def test_sizes_asked_for_are_timed(tmp_path: Path) -> None:
    effort = Effort(calls=1, emulate=False, limits=Limits(bytes=1 << 12, work=1 << 12))
    write_pack(small_request(["copy"], sizes=(parse_size("copy:M=30,N=160"),), effort=effort), tmp_path / "pack")
    (case,) = [case for case in read_pack(tmp_path / "pack").cases if case.id.endswith("30x160")]
    assert (case.variant, dict(case.dims), case.large) == ("aligned", {"M": 30, "N": 160}, True)


def test_files_of_peers(tmp_path: Path) -> None:
    sources = find_sources(["copy"], ROOT / "kernels")
    file = tmp_path / "peers.yaml"
    for text in ("- copy", "copy: 'x +'", "copy: 5", "{"):
        file.write_text(text)
        with pytest.raises(errors.PeersFile, match=r"peers\.yaml"):
            peers_of(sources, file)
    file.write_text("copy: x.clone()\nother: x")
    assert peers_of(sources, file) == {"copy": "x.clone()"}


def test_targets_that_a_schedule_lacks_are_left_out_with_a_warning(tmp_path: Path) -> None:
    request = small_request(["matmul_f8", "copy"], targets=("sm_80", "sm_89"), types={"T": "f8e4m3"})
    with pytest.raises(TExprError, match="f8e4m3"):  # copy has no such type
        write_pack(request, tmp_path / "pack")
    effort = Effort(calls=1, emulate=False, limits=Limits(bytes=1 << 16, work=1 << 17))
    only = small_request(["matmul_f8"], targets=("sm_80", "sm_89"), types={"T": "f8e4m3"}, effort=effort)
    report = write_pack(only, tmp_path / "pack")
    assert report.warnings == ("matmul_f8: its schedule has nothing for sm_80",)
    assert {target for case in report.cases for target in case.targets} == {"sm_89"}
    with pytest.raises(TExprError, match="sm_80: the schedule has no variant for it"):
        write_pack(small_request(["matmul_f8"], types={"T": "f8e4m3"}), tmp_path / "pack")


def test_what_only_the_device_counts_is_not_packed() -> None:
    with pytest.raises(errors.NotComparable, match="only the device knows N"):
        find_sources(["compact"], ROOT / "kernels")
