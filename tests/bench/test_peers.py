"""Peers: what they are given, what they say where they are missing, and how their results are judged."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import bench.peers.torch_eager as torch_eager
from bench.measure.answers import checked
from bench.peers import Absent, Call, cub, device_copy, version_of
from bench.sweep.extras import build_cub, unpack_wheels
from bench.sweep.yaml_lines import BenchError
from texpr.dtypes import DType
from texpr.packing.runner.compare import encode_bound
from texpr.packing.runner.records import Expected, Fill, Input, Layout, Output, Style

X = Layout("x", DType.F32, (2, 3), (3, 1), 0)
Y = Layout("y", DType.F32, (2, 3), (3, 1), 0)


def sets_of(count: int = 2, **case: Any) -> Any:
    outputs = (Output(Y, None, Expected("y.value", "y.bound", (None, (0, 2)))),)
    values = {
        "inputs": (Input(X, Fill(Style.NORMAL, 0)),), "outputs": outputs, "dims": {"M": 2, "F": 3}, "statics": {},
        "scalars": {"eps": 0.5}, "absent": ("b",), "bytes": 48, "arrays": None,
    } | case  # fmt: skip

    class Sets:
        case = SimpleNamespace(**values)

        def __len__(self) -> int:
            return count

        def addresses(self, number: int) -> Mapping[str, int]:
            return {"x": 1000 * (number + 1), "y": 1000 * (number + 1) + 500}

    return Sets()


class Memory:
    """A device and a bench of bytes."""

    stream = 0

    def __init__(self) -> None:
        self.device = self
        self.sizes: dict[int, int] = {}
        self.copies: list[tuple[int, int, int]] = []

    def allocate(self, size: int) -> int:
        address = 1 + len(self.sizes)
        self.sizes[address] = size
        return address

    def free(self, address: int) -> None:
        del self.sizes[address]

    def fill(self, address: int, value: int, size: int) -> None:
        assert self.sizes[address] == size

    def copy(self, target: int, source: int, size: int) -> None:
        self.copies.append((target, source, size))


def call_of(peer: str, folder: Path, sets: Any) -> Call:
    memory: Any = Memory()
    return Call(peer, memory, sets, folder, folder)


def test_a_copy_moves_as_many_bytes_as_the_case(tmp_path: Path) -> None:
    call = call_of("copy", tmp_path, sets_of())
    memory: Any = call.bench
    ready = device_copy.prepare("bytes", call)
    ready.run(1)
    assert memory.copies == [(4, 3, 24)], "24 bytes read and 24 written"
    ready.close()
    assert memory.sizes == {}
    device_copy.prepare("y", call).run(0)
    assert memory.copies[-1][2] == 24
    with pytest.raises(ValueError, match="one of bytes, y"):
        device_copy.prepare("z", call)


def test_expressions_see_the_arguments_of_their_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``F`` is torch's functions even where a dim has this name; what comes before the last semicolon is done once."""
    monkeypatch.setattr(torch_eager, "tensor_at", lambda layout, address, index, torch: address)
    made: list[int] = []
    torch: Any = SimpleNamespace(nn=SimpleNamespace(functional=SimpleNamespace(twice=lambda v: 2 * v)))
    wrapped: list[Any] = []

    def wrap(work: Any) -> Any:
        wrapped.append(work)
        return work

    names = {"note": lambda value: made.append(value) or value}
    text = "w = note(x + M); F.twice(w) + eps if b is None else 0"
    works = list(torch_eager._works(text, call_of("torch", tmp_path, sets_of()), torch, names, wrap))
    assert made == [1002, 2002]
    assert [work() for work in works] == [2004.5, 4004.5]
    assert len(wrapped) == 1, "one function for all sets, so that it is compiled once"
    assert made == [1002, 2002]


def test_what_is_done_for_the_comparison_is_not_timed() -> None:
    torch: Any = SimpleNamespace(nn=SimpleNamespace(functional=None), relu=lambda value: max(value, 0))
    assert torch_eager.finished(-3, " torch.relu(_) ", torch) == 0
    assert torch_eager.finished(-3, "", torch) == -3


def test_absent_peers_say_why(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="was not built: python -m bench peers"):
        version_of("cub", tmp_path)
    (tmp_path / "cub").mkdir()
    (tmp_path / cub.LIBRARY).write_text("no library")
    with pytest.raises(Absent, match="libtexpr_cub"):
        version_of("cub", tmp_path)


def test_calls_of_cub_are_checked(tmp_path: Path) -> None:
    for text, error in (("scan x", "is no call of CUB"), ("scan(x, z)", "z is no tensor of the case")):
        with pytest.raises(ValueError, match=error):
            cub.prepare(text, call_of("cub", tmp_path, sets_of()))


# ---- results


def judged(tmp_path: Path, values: list[list[float]]) -> dict[str, Any]:
    """Of a reference that is known in the first and the last column, within 0.25."""
    wanted = np.asarray([[1.0, 3.0], [4.0, 6.0]], np.float32)
    np.savez(tmp_path / "a.npz", **{"y.value": wanted, "y.bound": encode_bound(np.full((2, 2), 0.25))})
    pack: Any = SimpleNamespace(folder=tmp_path)
    return checked([np.asarray(values, np.float32).view(np.int32)], sets_of(arrays="a.npz"), pack)


def test_a_peer_may_be_off_by_some_times_our_bound(tmp_path: Path) -> None:
    assert judged(tmp_path, [[1, 9, 3], [4, 9, 6]]) == {"worst": 0.0, "agrees": True, "text": ""}
    near = judged(tmp_path, [[1, 9, 3], [4, 9, 7]])
    assert near["agrees"] and near["worst"] == pytest.approx(4.0, rel=0.01)
    far = judged(tmp_path, [[1, 9, 3], [4, 9, 60]])
    assert not far["agrees"] and "y[1, 1]" in far["text"]


def test_without_a_reference_our_bits_are_compared() -> None:
    sets = sets_of(outputs=(Output(Layout("y", DType.I32, (3,), (1,), 0), None, None),))
    data = np.asarray([1, 2, 3], np.int32)
    device = SimpleNamespace(read=lambda address, size: data.tobytes())
    sets.placed = [SimpleNamespace(device=device, addresses={"y": 0})]
    pack: Any = SimpleNamespace(folder=Path())
    assert checked([data], sets, pack)["agrees"] is True
    assert checked([data + 1], sets, pack)["agrees"] is False


# ---- extras


def test_wheels_are_unpacked_within_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("pkg/__init__.py", "x = 1\n")
    unpack_wheels(tmp_path, [tmp_path / "a.whl"])
    assert (tmp_path / "extras" / "python" / "pkg" / "__init__.py").is_file()
    assert "0.0 MB" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "b.whl", "w") as archive:
        archive.writestr("../out.py", "")
    with pytest.raises(BenchError, match="outside of the folder"):
        unpack_wheels(tmp_path, [tmp_path / "b.whl"])
    with pytest.raises(BenchError, match="no pack of the bench"):
        unpack_wheels(tmp_path / "extras", [])


def test_cub_needs_a_compiler_that_works(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(BenchError, match="nothing-of-this-name was not found"):
        build_cub(tmp_path, "nothing-of-this-name", "sm_90")
    (tmp_path / "nvcc").write_text("#!/bin/sh\necho 'no cub.cuh' >&2; exit 1\n")
    (tmp_path / "nvcc").chmod(0o755)
    with pytest.raises(BenchError, match=r"no cub\.cuh"):
        build_cub(tmp_path, str(tmp_path / "nvcc"), "sm_90")


@pytest.mark.parametrize("number", [0, 9])
def test_the_product_in_triton_fetches_boxes_for_warpgroups(number: int) -> None:
    """Compiled as it will be tuned: whether it is right is asked where there is a GPU, before it is timed."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from bench.peers.triton_source import _CONFIGURATIONS, _matmul

    chosen = _CONFIGURATIONS[number]
    rows, columns, inner, band = (chosen.kwargs[name] for name in ("ROWS", "COLUMNS", "INNER", "BAND"))
    boxes = {"x": (rows, inner), "w": (inner, columns), "y": (rows, columns)}
    signature = {name: f"tensordesc<bf16[{height},{width}]>" for name, (height, width) in boxes.items()}
    signature |= dict.fromkeys(("m", "n", "k"), "i32") | dict.fromkeys(chosen.kwargs, "constexpr")
    constants = dict(zip(((6,), (7,), (8,), (9,)), (rows, columns, inner, band), strict=True))
    source = ASTSource(_matmul.fn, signature=signature, constexprs=constants)
    options = {"num_warps": chosen.num_warps, "num_stages": chosen.num_stages}
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    assert "wgmma.mma_async" in ptx and "cp.async.bulk.tensor" in ptx
