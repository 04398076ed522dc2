"""Schedules in which products of a step are in flight beside those of the step before, and their tile programs."""

from __future__ import annotations

from pathlib import Path

from texpr.compile import compile_variant, load_algorithm
from texpr.schedule import load_schedule
from texpr.tile.ir import TileProgram

ATTENTION = f"{Path(__file__).parents[2] / 'kernels'}/attention.py:attention"
ROLES = """
    persistent: true
    roles:
      load: {warps: 1, registers: 40, runs: [stage.q, stage.k, stage.v]}
      compute: {warps: 4, registers: 232, runs: [online, s, p, o, lse]}"""
TWO_GROUPS = ROLES.replace("warps: 4,", "warps: 4, times: 2, split: i,")
ALONE = "\n    warps: 4"
COPIES = {  # how tiles come, and what runs beside the role that computes
    "fetched by a role": ("{copy}depth: 2, copy: tma", "{copy}depth: 2, copy: tma", "tma", ROLES),
    "fetched for two groups": ("{copy}depth: 2, copy: tma", "{copy}depth: 2, copy: tma", "tma", TWO_GROUPS),
    "keys with fewer slots": ("{copy}depth: 2, copy: tma", "{copy}depth: 4, copy: tma", "tma", ROLES),
    "boxes of its own": ("{copy}depth: 2, copy: tma", "{copy}depth: 3, copy: tma", "async", ALONE),
    "cp.async": ("{copy}depth: 2, copy: async", "{copy}depth: 4, ahead: 1, copy: async", "async", ALONE),
    "cp.async, two steps ahead": ("{copy}depth: 3, copy: async", "{copy}depth: 4, copy: async", "async", ALONE),
    "both": ("{copy}depth: 2, copy: async", "{copy}depth: 3, copy: tma", "async", ALONE),
}


def schedule(how: str, trim: str = "split", overlap: bool = True, keys: int = 64) -> str:
    """Attention of 64 columns, 64 queries to a group of warps, with keys copied in one of the ways of ``COPIES``."""
    k, v, q, rest = COPIES[how]
    word = ", overlap: u" if overlap else ""
    rows = 128 if rest == TWO_GROUPS else 64
    staged = "at: u.j, in: shared, "
    return f"""
texpr: 1
algorithm: attention
variants:
- name: overlapped
  target: sm_90a
  when: D == 64 and L >= 1 and S >= 1 and B * G * R >= 1 and aligned(q, k, v, o, 16)
  relax: [{{rounding: p}}]
  assume: [finite(q), finite(k), finite(v)]
  kernels:
  - name: forward
    writes: [o, lse]
    grid: {{b: 1, g: 1, r: 1, i: {rows}}}
    whole: {{d: 64, e: 64}}
    online: {{funcs: [m, l, u], at: tile, loop: {{j: {keys}}}, trim: {{j: {trim}}}{word}}}
    place:
      s: {{at: u.j, mma: {{op: wgmma, rows: i, cols: j}}}}
      p: {{at: u.j}}
      u: {{mma: {{op: wgmma, rows: i, cols: e, a: registers}}}}
    stage:
      q: {{at: tile, in: shared, copy: {q}}}
      k: {{{k.format(copy=staged)}}}
      v: {{{v.format(copy=staged)}}}{rest}
- name: rest
  target: sm_90a
  relax: [{{rounding: p}}]
  assume: [finite(q), finite(k), finite(v)]
  kernels:
  - name: forward
    writes: [o, lse]
    grid: {{b: 1, g: 1, r: 1, i: 16}}
    whole: {{d: 64, e: 64}}
    warps: 1
    online: {{funcs: [m, l, u], at: tile, loop: {{j: 16}}}}
    place: {{s: {{at: u.j}}, p: {{at: u.j}}}}
"""


def program(how: str, trim: str = "split", overlap: bool = True) -> TileProgram:
    """The tile program of such a schedule."""
    record = load_schedule(schedule(how, trim, overlap), "overlapped.yaml").variants[0]
    (compiled,) = compile_variant(load_algorithm(ATTENTION).bind({"T": "f16"}), record, ["sm_90a"], "attention")
    (found,) = compiled.programs
    return found
