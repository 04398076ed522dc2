"""Clusters of programs in machine code: one instruction fetches a box for all, and nothing spills."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.kernels.sass import compiled, disassembled
from texpr.aot.cubin import CompiledKernel

KERNELS = Path(__file__).parents[2] / "kernels"
SCHEDULE = """
texpr: 1
algorithm: matmul_nn
variants:
- name: shared
  target: sm_90a
  when: T == f16 and M >= 1 and N >= 1 and K >= 1 and K % 8 == 0 and N % 8 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: product
    writes: [y]
    grid: {{i: 128, j: 256}}
    cluster: {cluster}
    persistent: true
    place:
      acc: {{at: tile, loop: {{k: 64}}, mma: {{op: wgmma, rows: i, cols: j}}}}
    stage:
      x: {{at: acc.k, in: shared, depth: 4, copy: tma}}
      w: {{at: acc.k, in: shared, depth: 4, copy: tma}}
    roles:
      load: {{warps: 1, registers: 40, runs: [stage.x, stage.w]}}
      compute: {{warps: 8, registers: 232, runs: [acc, y]}}
- name: any
  target: sm_90a
  kernels:
  - {{name: product, writes: [y], grid: {{i: 64, j: 64}}, place: {{acc: {{loop: {{k: 32}}}}}}}}
"""


@cache
def clustered(cluster: str) -> CompiledKernel:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clusters.yaml")
        path.write_text(SCHEDULE.format(cluster=cluster))
        return compiled(f"{KERNELS}/linear.py:matmul_nn", "shared", "sm_90a", schedule=path, T="f16")


@pytest.mark.parametrize(
    ("cluster", "own", "shared", "arrivals"),
    [("{i: 2}", 1, 4, 2), ("{i: 4, j: 2}", 0, 5, 3)],
)
def test_boxes_that_are_the_same_come_once(cluster: str, own: int, shared: int, arrivals: int) -> None:
    """Of 128 bytes along rows each: one instruction for x, four for w."""
    kernel = clustered(cluster)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    code = disassembled(kernel)
    fetches = code.shortest_loop("UTMALDG")
    assert fetches.count("UTMALDG") == own + shared
    assert fetches.count("UTMALDG", "MULTICAST") == shared
    step = code.shortest_loop("HGMMA")
    assert (step.count("HGMMA"), step.count("SYNCS"), step.count("BAR")) == (4, 1 + arrivals, arrivals)
    assert code.count("UCGABAR_ARV") == code.count("UCGABAR_WAIT") > 0


def test_programs_of_a_cluster_meet_before_their_barriers_are_used_and_when_they_end() -> None:
    ptx = clustered("{i: 2}").ptx
    assert ".reqnctapercluster 2" in ptx
    start = ptx.index("barrier.cluster.arrive")
    assert ptx.rindex("mbarrier.init") < ptx.index("fence.mbarrier_init.release.cluster") < start
    assert start < ptx.index("mbarrier.try_wait") and start < ptx.index("setmaxnreg.dec")
    given_back = ptx.index("mbarrier.inval")
    assert ptx.rindex("barrier.cluster.wait", 0, given_back) > ptx.rindex("mbarrier.arrive", 0, given_back)
