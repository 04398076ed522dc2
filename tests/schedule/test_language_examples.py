"""Schedules of the language's worked examples, as far as their directives are lowered, read and written again."""

from __future__ import annotations

import pytest

from texpr.schedule import dump_schedule, load_schedule

EXAMPLES = {
    "softmax": """
- name: rows_1024
  target: [sm_80, sm_90a]
  when: N <= 1024 and N % 8 == 0 and aligned(x, y, 16)
  kernels:
  - name: softmax
    writes: [y]
    grid: {i: 4}
    whole: {j: 1024}
    warps: 4
    map: {i: {warps: 4}, j: {lanes: 32, each: 8}}
    stage: {x: {at: tile, in: registers}}
- name: long
  target: [sm_80, sm_90a]
  kernels:
  - name: softmax
    writes: [y]
    grid: {i: 1}
    warps: 8
    place: {m: {at: tile, loop: {j: 4096}}, l: {at: tile, loop: {j: 4096}}, y: {at: tile, loop: {j: 4096}}}
""",
    "layernorm_bwd": """
- name: bwd
  target: [sm_80, sm_90a]
  when: N <= 4096
  kernels:
  - name: rows
    writes: [dx, dg.part, db.part]
    grid: {i: 2}
    whole: {j: 4096}
    persistent: {programs: "2 * sms"}
    warps: 8
    place: {"dg.part": {at: program}, "db.part": {at: program}}
    stage: {x: {at: tile, in: registers}, dy: {at: tile, in: registers}}
  - name: combine
    writes: [dg, db]
    grid: {j: 64}
    whole: {i.part: 512}
    warps: 4
""",
    "attention_decode": """
- name: decode
  target: sm_90a
  when: D == 128 and S * R <= 64
  relax: [{rounding: p}]
  kernels:
  - name: part
    writes: [m.part, l.part, u.part]
    fuse: {ri: [r, i]}
    grid: {b: 1, g: 1, j.part: 1}
    whole: {ri: 64, d: 128, e: 128}
    split_reduction:
      {of: [m, l, u], over: j, parts: {value: "clamp(4 * sms // (B * G), 1, 64)", max: 64}, combine: two_pass}
    warps: 4
  - name: combine
    writes: [o, lse]
    grid: {b: 1, g: 1, r: 1, i: 1}
    whole: {e: 128, j.part: 64}
    warps: 4
""",
    "convolution": """
- name: conv
  target: [sm_80, sm_86]
  when: sh == 1 and sw == 1 and C % 64 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: conv
    writes: [y]
    split: {p: {into: [po, pi], by: 2}, q: {into: [qo, qi], by: 2}}
    grid: {n: 1, po: 8, qo: 8, pi: 1, qi: 1, g: 1, k: 128}
    warps: 4
    place:
      acc: {at: tile, loop: {r: 1, s: 1, c: 64}, in: registers, mma: {op: mma, rows: [po, qo], cols: k, a: shared}}
    stage: {x: {at: acc.c, in: shared, depth: 4, copy: async}, w: {at: acc.c, in: shared, depth: 4, copy: async}}
""",
    "blur": """
- name: blur
  target: [sm_80, sm_90a]
  kernels:
  - {name: blur, writes: [y], grid: {i: 32, j: 128}, place: {bx: {at: tile, in: shared, by: {i: 2, j: 128}}},
     stage: {x: {at: tile, in: shared, by: {i: 2, j: 256}}}, warps: 8}
""",
    "lstm": """
- name: lstm
  target: sm_80
  kernels:
  - name: step
    writes: [hn, cn]
    grid: {b: 64, j: 64}
    warps: 4
    place: {gx: {at: tile, unroll: [q], loop: {k: 64}, in: registers, mma: {op: mma, rows: b, cols: j, a: shared}},
            gh: {into: gx, loop: {l: 64}}}
    stage: {x: {at: gx.k, in: shared, depth: 2, copy: async}, h: {at: gh.l, in: shared, depth: 2, copy: async}}
""",
    "mlp": """
- name: mlp
  target: sm_80
  when: N == 256
  assume: [finite(x)]
  kernels:
  - {name: mlp, writes: [y], grid: {i: 128}, whole: {j: 256},
     place: {y: {at: tile, loop: {f: 64}, by: {j: 64}, via: shared}, a: {at: y.f, loop: {k: 64}}},
     stage: {x: {at: a.k, in: shared, depth: 2, ahead: 1, copy: async}, w2: {at: y.f, in: shared}}, warps: 8}
""",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_worked_example_survives_the_round_trip(name):
    schedule = load_schedule(f"texpr: 1\nalgorithm: {name}\nvariants:{EXAMPLES[name]}")
    assert load_schedule(dump_schedule(schedule)) == schedule
