"""Operations and instructions that packages offer: found by entry points when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import texpr as te
from tests.integration.running import bundle
from texpr.emulator import instructions
from texpr.emulator.isa import find_row
from texpr.emulator.rows import elementwise
from texpr.lang.errors import UnknownNameError
from texpr.plugins import PluginBroken, PluginConflict

MODULE = '''
import numpy as np
import texpr as te
from texpr.emulator.rows import elementwise


def distance(a, b, c):
    """Per byte of a and b the distance, all added to c."""
    pairs = [((a >> s) & 255, (b >> s) & 255) for s in map(np.uint32, (0, 8, 16, 24))]
    return c + sum(np.maximum(p, q) - np.minimum(p, q) for p, q in pairs)


byte_distance = te.op(
    "byte_distance", "vabsdiff4.u32.u32.u32.add $0, $1, $2, $3;", operands=["u32", "u32", "u32"], dtype="u32",
    reference=distance, exact=True,
)
ROWS = [elementwise("vabsdiff4.d:u32.a:u32.b:u32.add", "u32 = u32 u32 u32", distance)]
OLD = elementwise("add.type:(u32|u33)", "u32 = u32 u32", lambda a, b: a)
'''

Installed = Callable[..., Path]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Puts a distribution on the path, as an installer would."""

    def install(name: str, entries: str, module: str = MODULE) -> Path:
        folder = tmp_path / name
        info = folder / f"{name}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(entries)
        (folder / f"{name}.py").write_text(module)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return folder

    return install


BOTH = "[texpr.ops]\nbyte_distance = {name}:byte_distance\n\n[texpr.instructions]\nvideo = {name}:ROWS\n"


@te.algorithm("x: u32[M, N], z: u32[N] -> y: u32[M]")
def distances(x: Any, z: Any, y: Any) -> None:
    i, j = te.axes(i="M", j="N")
    y[i] = te.sum(te.ops.byte_distance(x[i, j] ^ te.u32(1), z[j], 0), over=j)


def test_an_operation_and_its_instruction_come_from_a_package(installed: Installed, tmp_path: Path) -> None:
    installed("distances_for_texpr", BOTH.format(name="distances_for_texpr"))
    schedule = "  - {name: k, writes: [y], grid: {i: 4}, place: {y: {at: tile, loop: {j: 64}}}}\n"
    built = bundle(distances, schedule, tmp_path)
    rng = np.random.default_rng(3)
    x, z = rng.integers(0, 2**32, (5, 99), dtype=np.uint32), rng.integers(0, 2**32, 99, dtype=np.uint32)
    bytes_of = [a.view(np.uint8).reshape(*a.shape, 4).astype(np.int64) for a in (x ^ 1, z)]
    wanted = np.abs(bytes_of[0] - bytes_of[1]).sum((1, 2)).astype(np.uint32)
    np.testing.assert_array_equal(built(x, z), wanted)
    np.testing.assert_array_equal(te.reference(distances)(x=x, z=z)["y"], wanted)


def test_nothing_is_imported_before_it_is_asked_for(installed: Installed) -> None:
    folder = installed("lazy_for_texpr", BOTH.format(name="lazy_for_texpr"))
    code = (
        "import sys, texpr as te, texpr.emulator; dir(te.ops); assert 'lazy_for_texpr' not in sys.modules;"
        "te.ops.byte_distance; assert 'lazy_for_texpr' in sys.modules"
    )
    search = [str(folder), *sys.path]
    subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {search!r}; {code}"], check=True)
    assert "byte_distance" in dir(te.ops)


def test_an_operation_that_nobody_offers_is_named(installed: Installed) -> None:
    installed("named_for_texpr", BOTH.format(name="named_for_texpr"))
    with pytest.raises(UnknownNameError, match=r"unknown operation 'te.ops.byte_distanz'") as caught:
        te.ops.byte_distanz  # noqa: B018
    assert "did you mean 'byte_distance'?" in caught.value.hint


def test_two_packages_that_offer_one_name_are_refused(installed: Installed) -> None:
    installed("one_for_texpr", "[texpr.ops]\ntwice = one_for_texpr:byte_distance\n")
    installed("two_for_texpr", "[texpr.ops]\ntwice = two_for_texpr:byte_distance\n")
    with pytest.raises(PluginConflict) as caught:
        te.ops.twice  # noqa: B018
    said = "texpr.ops 'twice' is offered by two_for_texpr 1.2 and by one_for_texpr 1.2"
    assert caught.value.message == said


def test_a_package_that_cannot_be_imported_is_named(installed: Installed) -> None:
    installed("torn_for_texpr", "[texpr.ops]\ntorn = torn_for_texpr:nothing\n", "import no_such_module\n")
    message = r"texpr\.ops 'torn' of torn_for_texpr 1\.2: importing it failed with ModuleNotFoundError"
    with pytest.raises(PluginBroken, match=message):
        te.ops.torn  # noqa: B018


def test_an_entry_point_that_is_no_operation_is_refused(installed: Installed) -> None:
    installed("number_for_texpr", "[texpr.ops]\nnumber = number_for_texpr:NUMBER\n", "NUMBER = 7\n")
    with pytest.raises(PluginBroken, match="it is no operation, but 7"):
        te.ops.number  # noqa: B018


def test_an_instruction_that_the_emulator_has_is_not_replaced(installed: Installed) -> None:
    installed("old_for_texpr", "[texpr.instructions]\nold = old_for_texpr:OLD\n")
    message = r"instruction add\.u32 is offered by the emulator and by old_for_texpr 1\.2"
    with pytest.raises(PluginConflict, match=message):
        find_row("vadd4.u32.u32.u32")


def test_what_is_no_row_is_refused(installed: Installed) -> None:
    installed("rowless_for_texpr", "[texpr.instructions]\nrowless = rowless_for_texpr:ROWS\n", "ROWS = ['add']\n")
    with pytest.raises(PluginBroken, match="it is no row, nor a sequence of rows, but holds 'add'"):
        find_row("vadd4.u32.u32.u32")


def test_instructions_are_given_for_a_while() -> None:
    row = elementwise("vadd4.d:u32.a:u32.b:u32", "u32 = u32 u32 u32", lambda a, b, c: a)
    assert find_row("vadd4.u32.u32.u32") is None
    with instructions(row):
        found = find_row("vadd4.u32.u32.u32")
        assert found is not None and found[0] is row
        other = elementwise("vadd4.d:u32.a:(u32|s32).b:u32", "u32 = u32 u32 u32", lambda a, b, c: b)
        with instructions(other), pytest.raises(PluginConflict, match="instruction vadd4"):
            find_row("vadd4.u32.u32.u32")
    assert find_row("vadd4.u32.u32.u32") is None
