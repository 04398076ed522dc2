"""Algorithms with hand-written schedules whose loop nests are kept as golden texts: one of each construct."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import texpr as te
from tests.lang import examples
from texpr.lang.algorithm import AlgorithmDef
from texpr.lang.ir import Algorithm
from texpr.plan.build import plan_variant
from texpr.plan.ir import VariantPlan
from texpr.schedule import load_schedule
from texpr.targets import TARGETS


@dataclass(frozen=True)
class Nest:
    definition: AlgorithmDef
    variant: str  # YAML below ``variants:``
    target: str = "sm_80"
    types: tuple[tuple[str, str], ...] = ()

    def algorithm(self) -> Algorithm:
        return self.definition.bind(dict(self.types))

    def plan(self) -> VariantPlan:
        text = f"texpr: 1\nalgorithm: {self.definition.name}\nvariants:\n{self.variant.strip()}\n"
        (variant,) = load_schedule(text, f"{self.definition.name}.yaml").variants
        return plan_variant(self.algorithm(), variant, TARGETS[self.target])


@te.algorithm("a: f32[N, L], b: f32[N, L] -> re: f32[N], im: f32[N]")
def complex_products(a: Any, b: Any, re: Any, im: Any) -> None:
    n, t = te.axes(n="N", t="L")
    times = te.monoid(
        lambda p, q: (p[0] * q[0] - p[1] * q[1], p[0] * q[1] + p[1] * q[0]),
        identity=(1.0, 0.0),
        commutative=True,
        name="times",
    )
    re[n], im[n] = te.reduce(times, (a[n, t], b[n, t]), over=t)


@te.algorithm("x: f32[N, K], first: i32[N] -> s: f32[N], t: f32[N]")
def parts_of_rows(x: Any, first: Any, s: Any, t: Any) -> None:
    i, k = te.axes(i="N", k="K")
    s[i] = te.sum(x[i, k], over=k, where=(k >= first[i]) & (k <= 2 * i) & (x[i, k] > 0))
    t[i] = te.sum(x[i, k], over=k, where=(k < i) & ((k + 8) % 3 == 1))


@te.algorithm("key: i32[N], x: f32[N, C], like: u8[B] -> s: f32[B, C], n: i32[32]")
def by_key(key: Any, x: Any, like: Any, s: Any, n: Any) -> None:
    i, b, c, d = te.axes(i="N", b="B", c="C", d=32)
    s[b, c] = te.sum(x[i, c], over=i, where=(key[i] == b) & (x[i, 0] > 0))
    n[d] = te.sum(te.i32(1), over=i, where=key[i] // 4 == d)


@te.algorithm("x: i32[M, N], first: bool[N] -> y: i32[M, N], z: f32[M, N]")
def segments(x: Any, first: Any, y: Any, z: Any) -> None:
    i, j = te.axes(i="M", j="N")
    s = te.func("s")
    y[i, j] = te.scan("max", x[i, j], along=j, reverse=True)
    s[i, j] = te.scan("+", x[i, j], along=j, reset=first[j], exclusive=True, reverse=True)
    z[i, j] = s[i, j].to("f32") / 2


@te.algorithm("x: f16[M, K], w: f16[K, N] -> y: f32[M, N]")
def below(x: Any, w: Any, y: Any) -> None:
    i, j, k = te.axes(i="M", j="N", k="K")
    y[i, j] = te.sum(x[i, k] * w[k, j], over=k, where=j <= i)


@te.algorithm(
    "x: f32[N, K], key: i32[N, K], order: hint i32[N]? permutation(N), on: hint i32[ROWS, K + 1] lists(K) -> y: f32[N]"
)
def listed(x: Any, key: Any, order: Any, on: Any, y: Any) -> None:
    n, k = te.axes(n="N", k="K")
    y[n] = te.sum(x[n, k], over=k, where=key[n, k] == 3)


@te.algorithm("x: f32[M, C] -> count: i32[], y: f32[N, C]", dims=dict(N="count[] <= M"))
def counted_rows(x: Any, count: Any, y: Any) -> None:
    i, n, c = te.axes(i="M", n="N", c="C")
    count[()] = te.sum(te.where(x.padded(0)[i, 0] > 0, te.i32(1), 0), over=i)
    y[n, c] = x[n, c] * 2.0


F16 = (("T", "f16"),)

NESTS = {
    "pipelined_contraction": Nest(
        examples.linear_gelu,
        """
- name: wide
  target: sm_80
  when: aligned(x, w, y, 16)
  kernels:
  - name: linear
    writes: [y]
    grid: {i: 128, j: 128}
    order: {group: i, by: 8}
    warps: 4
    place: {acc: {at: tile, loop: {k: 32}, mma: {op: mma, rows: i, cols: j}}}
    stage:
      x: {at: acc.k, in: shared, depth: 4, copy: async}
      w: {at: acc.k, in: shared, depth: 4, copy: async}
""",
        types=F16,
    ),
    "epilogue_in_pieces": Nest(
        examples.linear_gelu,
        """
- name: pieces
  target: sm_90a
  kernels:
  - name: linear
    writes: [y]
    grid: {i: 64, j: 128}
    persistent: {programs: "2 * sms"}
    warps: 4
    place:
      acc: {at: tile, loop: {k: 32}}
      y: {at: tile, by: {j: 64}}
""",
        target="sm_90a",
        types=F16,
    ),
    "whole_rows": Nest(
        examples.softmax,
        """
- name: rows
  target: sm_80
  when: N <= 1024 and N % 8 == 0 and aligned(x, y, 16)
  kernels:
  - name: softmax
    writes: [y]
    grid: {i: 4}
    order: {reverse: i}
    whole: {j: 1024}
    warps: 4
    stage: {x: {at: tile, in: registers}}
""",
        types=F16,
    ),
    "looped_rows": Nest(
        examples.softmax,
        """
- name: long
  target: sm_80
  kernels:
  - name: softmax
    writes: [y]
    grid: {i: 1}
    warps: 8
    place:
      m: {at: tile, loop: {j: 4096}}
      total: {at: tile, loop: {j: 4096}}
      y: {at: tile, loop: {j: 4096}}
""",
        types=F16,
    ),
    "held_output": Nest(
        examples.layernorm,
        """
- name: rows
  target: sm_80
  when: N <= 2048 and N % 8 == 0 and aligned(x, g, b, y, 16)
  kernels:
  - name: layernorm
    writes: [y, mu, rs]
    grid: {i: 1}
    whole: {j: 2048}
    warps: 4
""",
        types=F16,
    ),
    "windows": Nest(
        examples.blur,
        """
- name: any
  target: sm_80
  kernels:
  - name: blur
    writes: [y]
    grid: {i: 32, j: 128}
    warps: 8
    place: {bx: {at: tile, in: shared, by: {i: 2, j: 512}}}
    stage: {x: {at: tile, in: shared, by: {i: 2, j: 1024}}}
""",
    ),
    "convolution": Nest(
        examples.conv2d,
        """
- name: implicit
  target: sm_80
  when: C % 8 == 0 and K % 8 == 0 and aligned(x, w, y, 16)
  kernels:
  - name: conv
    writes: [y]
    grid: {n: 1, p: 8, q: 8, g: 1, k: 64}
    warps: 4
    place: {acc: {at: tile, loop: {r: 1, s: 1, c: 32}}}
    stage:
      x: {at: acc.c, in: shared, depth: 3, copy: async}
      w: {at: acc.c, in: shared, depth: 3, copy: async}
""",
        types=F16,
    ),
    "unrolled": Nest(
        examples.maxpool2,
        """
- name: any
  target: sm_80
  kernels:
  - name: pool
    writes: [y]
    grid: {n: 1, p: 4, q: 4, c: 64}
    warps: 4
    place: {y: {at: tile, loop: {r: 1, s: 1}, unroll: [r, s]}}
""",
        types=F16,
    ),
    "guarded_reduction": Nest(
        examples.histogram,
        """
- name: any
  target: sm_80
  kernels:
  - name: histogram
    writes: [h]
    grid: {b: 8}
    warps: 4
    place: {h: {at: tile, loop: {i: 256}}}
""",
    ),
    "trimmed_loops": Nest(
        parts_of_rows,
        """
- name: any
  target: sm_80
  kernels:
  - name: rows
    writes: [s, t]
    grid: {i: 8}
    warps: 4
    place: {s: {loop: {k: 64}, trim: {k: split}}, t: {loop: {k: 1}, trim: [k]}}
""",
    ),
    "skipping_loops": Nest(
        examples.sparse_conv,
        """
- name: any
  target: sm_80
  when: V <= 40
  assume: [finite(w)]
  kernels:
  - name: conv
    writes: [y]
    grid: {i: 64, k: 64}
    warps: 4
    place: {acc: {at: tile, loop: {v: 1, c: 32}, skip: {v: {test: mask}}}}
""",
        types=F16,
    ),
    "trimmed_tiles": Nest(
        below,
        """
- name: any
  target: sm_80
  kernels:
  - name: below
    writes: [y]
    grid: {i: 32, j: 32}
    trim: {grid: j}
    warps: 2
    place: {y: {loop: {k: 16}, mma: mma}}
""",
    ),
    "listed_points": Nest(
        listed,
        """
- name: any
  target: sm_80
  when: present(order) and ROWS == ceil(N / 16)
  kernels:
  - name: listed
    writes: [y]
    visit: {n: order}
    grid: {n: 16}
    place: {y: {loop: {k: 1}, skip: {k: {list: on}}}}
""",
    ),
    "inverted": Nest(
        by_key,
        """
- name: any
  target: sm_80
  relax: [{order: s}]
  kernels:
  - name: keys
    writes: [s, n]
    fill: {s: 0, n: 0}
    grid: {i: 64, c: 32}
    warps: 4
    place: {s: {invert: i}, n: {invert: i, in: shared, once: c}}
""",
    ),
    "inverted_in_parts": Nest(
        by_key,
        """
- name: any
  target: sm_80
  kernels:
  - name: parts
    writes: [s.part]
    split_reduction: {of: [s], over: i, parts: 4}
    fill: {s.part: 0}
    grid: {i.part: 1, c: 32}
    warps: 1
    place: {s.part: {invert: i, loop: {i: 1}}}
  - name: counts
    writes: [n]
    fill: {n: 0}
    grid: {i: 128}
    warps: 4
    place: {n: {at: tile, invert: i, in: shared, aggregate: warp}}
  - name: sums
    writes: [s]
    grid: {b: 4, c: 32}
    whole: {i.part: 4}
    warps: 4
""",
    ),
    "counted_rows": Nest(
        counted_rows,
        """
- name: any
  target: sm_80
  kernels:
  - name: count
    writes: [count]
    warps: 4
    place: {count: {loop: {i: 1024}}}
  - name: rows
    writes: [y]
    grid: {n: 128, c: 8}
    warps: 4
""",
    ),
    "monoid_in_parts": Nest(
        complex_products,
        """
- name: any
  target: sm_80
  kernels:
  - name: pieces
    writes: [re.part, im.part]
    grid: {n: 1, t.part: 1}
    warps: 4
    split_reduction: {of: [re], over: t, parts: {value: "clamp(L // 4096, 1, 16)", max: 16}}
    place: {re.part: {at: tile, loop: {t: 512}}}
  - name: combine
    writes: [re, im]
    grid: {n: 4}
    whole: {t.part: 16}
    warps: 4
""",
    ),
    "looking_back": Nest(
        segments,
        """
- name: any
  target: sm_80
  kernels:
  - name: scan
    writes: [y, z]
    grid: {i: 1, j: 512}
    warps: 4
    scan:
      y: {across: lookback, by: {j: 512}}
      s: {across: lookback, by: {j: 512}, window: 64}
""",
    ),
}
