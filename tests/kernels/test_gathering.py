"""Kernels of which one role gathers: what the machine code of its warps and of those that multiply must look like, and
runs on the emulator that are longer than those of a check."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import bundle, halves, worst
from tests.kernels.sass import compiled, disassembled
from texpr.compile import find_schedule, load_algorithm
from texpr.lang.accuracy import Accuracy
from texpr.schedule import dump_schedule

KERNELS = Path(__file__).parents[2] / "kernels"
PAGED = f"{KERNELS}/attention.py:attention_paged"


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_only_the_role_that_gathers_copies(dtype: str) -> None:
    """64 rows of 128 bytes are 512 pieces of 16, four of each of 128 threads, beside one box of the filter; every
    thread arrives. The other warps wait, fence and multiply."""
    kernel = compiled(f"{KERNELS}/sparse.py:sparse_conv", "gathered", "sm_90a", T=dtype)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    registers = {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", kernel.ptx)}
    assert {64, 168} <= registers
    assert kernel.ptx.count("cp.async.mbarrier.arrive.noinc.shared") == 1
    assert len(re.findall(r"mbarrier\.init\S* \[%r\d+\], 129;", kernel.ptx)) == 4
    code = disassembled(kernel)
    multiplies, gathers = code.shortest_loop("HGMMA"), code.shortest_loop("LDGSTS")
    assert multiplies.count("HGMMA") == kernel.ptx.count("wgmma.mma_async.sync.aligned.m64n128k16.") == 4
    assert multiplies.count("LDGSTS") == multiplies.count("LDG") == multiplies.count("UTMALDG") == 0
    assert multiplies.count("FENCE") == 1 and multiplies.count("BAR") <= 1
    assert gathers.count("LDGSTS", "128") == gathers.count("LDGSTS") == code.count("LDGSTS") == 4
    assert gathers.count("HGMMA") == gathers.count("STS") == 0 and gathers.count("ARRIVES") == 1


@pytest.mark.parametrize(("size", "copies", "products"), [(64, 8, 4 + 8), (128, 8, 8 + 4)])
def test_attention_over_pages_is_multiplied_beside_their_copies(size: int, copies: int, products: int) -> None:
    """A step's keys and values are in two rings, whose slots come free one after the other."""
    kernel = compiled(PAGED, f"d{size}_gathered", "sm_90a", statics={"D": size}, T="f16")
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    code = disassembled(kernel)
    step, gathers = code.shortest_loop("HGMMA"), code.shortest_loop("LDGSTS")
    assert (step.count("HGMMA"), step.count("SYNCS")) == (products, 4)
    assert step.count("LDGSTS") == step.count("LDG") == step.count("LDSM") == step.count("STS") == 0
    assert step.count("BAR") <= 2 and step.count("FENCE") <= 2
    assert gathers.count("LDGSTS", "128") == gathers.count("LDGSTS") == copies
    assert gathers.count("HGMMA") == 0


def test_attention_over_pages_is_right_where_pages_and_rings_end(tmp_path: Path) -> None:
    """More steps than slots, keys that end inside of a page, of a step and before the first, the causal edge."""
    definition = load_algorithm(PAGED)
    schedule = find_schedule(PAGED, definition, None, None)
    gathered = tuple(one for one in schedule.variants if one.name in ("d64_gathered", "small_pages"))
    path = tmp_path / "gathered.yaml"
    path.write_text(dump_schedule(dataclasses.replace(schedule, variants=gathered)))
    run = bundle(definition, path, tmp_path, {"T": "f16"}, "sm_90a")
    rng = np.random.default_rng(0)
    for b, s, pages, n in ((1, 130, 41, [650]), (2, 64, 25, [0, 385]), (1, 200, 8, [128])):
        q = halves(rng, b, 2, s, 64)
        k, v = (halves(rng, 50, 16, 1, 64) for _ in "kv")
        tab = rng.permuted(np.arange(50, dtype=np.int32)[None].repeat(b, 0), axis=1)[:, :pages].copy()
        arrays = {"q": q, "k": k, "v": v, "tab": tab, "n": np.array(n, np.int32), "scale": np.float32(0.125)}
        assert worst(run, definition, arrays, {"T": "f16"}, Accuracy(relaxed=frozenset(["p"]))) <= 1, (b, s, pages)
