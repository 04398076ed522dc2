"""Kernels whose programs communicate through global memory, right as they are, and ways to weaken each of them.

Two warps per program. `%t` is the thread, `%p` the program, `%n` the number of programs; buffers are `data` (one word
per thread of every program, unwritten), `out` (the same), `flags` (64-bit words, zeros), `in` (a word per program).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.emulator.snippets import kernel, run_kernel
from texpr.emulator import Device, LaunchStats

THREADS = 64
_PARAMS = ".param .u64 data, .param .u64 out, .param .u64 flags, .param .u64 in"
_REGISTERS = """
    .reg .b32 %t, %p, %n, %g, %r<10>; .reg .b64 %data, %out, %flags, %in, %mine, %a, %b, %x<8>;
    .reg .pred %first, %q, %s;
"""
_START = """
    mov.u32 %t, %tid.x; mov.u32 %p, %ctaid.x; mov.u32 %n, %nctaid.x; setp.eq.u32 %first, %t, 0;
    ld.param.u64 %data, [data]; ld.param.u64 %out, [out]; ld.param.u64 %flags, [flags]; ld.param.u64 %in, [in];
    mad.lo.u32 %g, %p, 64, %t; mad.wide.u32 %mine, %g, 4, %data;
"""


@dataclass(frozen=True)
class Communicating:
    """`weakened`: by name, what to replace by what; each makes the kernel wrong.
    """

    body: str
    weakened: dict[str, tuple[str, str]]
    programs: int = 8
    by_luck: tuple[str, ...] = ()
    """Weaknesses that some schedules cannot show: there the acquire happens to see all that was released."""


# Every program writes a row; the last to take a ticket adds up the columns.
LAST_BLOCK = Communicating(
    """
    st.global.b32 [%mine], %g;
    bar.sync 0;
    @!%first bra WAIT;
    fence.acq_rel.gpu;
    atom.relaxed.gpu.global.add.u32 %r0, [%flags], 1;
    fence.acquire.gpu;
    st.shared.b32 [ticket], %r0;
    WAIT: bar.sync 1;
    ld.shared.b32 %r0, [ticket];
    sub.u32 %r1, %n, 1; setp.ne.u32 %q, %r0, %r1; @%q ret;
    mov.u32 %r2, 0; mov.u32 %r3, 0; mad.wide.u32 %a, %t, 4, %data;
    LOOP: ld.global.b32 %r4, [%a]; add.u32 %r3, %r3, %r4; add.s64 %a, %a, 256;
    add.u32 %r2, %r2, 1; setp.lt.u32 %q, %r2, %n; @%q bra LOOP;
    mad.wide.u32 %b, %t, 4, %out; st.global.b32 [%b], %r3;
    """,
    {
        "no fence before the ticket": ("fence.acq_rel.gpu;", ""),
        "no fence behind the ticket": ("fence.acquire.gpu;", ""),
        "the fence has the scope of the program": ("fence.acq_rel.gpu;", "fence.acq_rel.cta;"),
        "the ticket has the scope of the program": ("atom.relaxed.gpu", "atom.relaxed.cta"),
        "no barrier before the ticket": ("bar.sync 0;", ""),
        "no barrier behind the ticket": ("WAIT: bar.sync 1;", "WAIT:"),
    },
    20,
)

# The same with one atomic that acquires and releases: what Triton makes of `atomic_add`.
LAST_BLOCK_ATOMIC = Communicating(
    LAST_BLOCK.body.replace("fence.acq_rel.gpu;", "").replace("fence.acquire.gpu;", "").replace("relaxed", "acq_rel"),
    {
        "relaxed": ("atom.acq_rel.gpu", "atom.relaxed.gpu"),
        "only acquire": ("atom.acq_rel.gpu", "atom.acquire.gpu"),
        "only release": ("atom.acq_rel.gpu", "atom.release.gpu"),
        "scope of the program": ("atom.acq_rel.gpu", "atom.acq_rel.cta"),
        "no barrier before the ticket": ("bar.sync 0;", ""),
    },
    20,
)

# All threads execute a sequentially consistent fence before the barrier: `__threadfence(); __syncthreads(); atomicAdd`.
LAST_BLOCK_CUDA = Communicating(
    LAST_BLOCK.body.replace("bar.sync 0;", "membar.gl; bar.sync 0;")
    .replace("fence.acq_rel.gpu;", "")
    .replace("fence.acquire.gpu;", "membar.gl;"),
    {
        "no fence before": ("membar.gl; bar.sync 0;", "bar.sync 0;"),
        "no fence behind": ("membar.gl;\n    st.shared", "st.shared"),
        "narrow fence before": ("membar.gl; bar.sync 0;", "membar.cta; bar.sync 0;"),
    },
    20,
)

# Program p adds its row to the output when p - 1 has done so.
TURNSTILE = Communicating(
    """
    @!%first bra TURN;
    POLL: ld.acquire.gpu.global.b32 %r0, [%flags]; setp.ne.u32 %q, %r0, %p; @%q bra POLL;
    TURN: bar.sync 0;
    mad.wide.u32 %b, %t, 4, %out;
    mov.u32 %r1, 0; setp.eq.u32 %q, %p, 0; @%q bra ADD;
    ld.global.b32 %r1, [%b];
    ADD: add.u32 %r1, %r1, %g; st.global.b32 [%b], %r1;
    bar.sync 1;
    add.u32 %r2, %p, 1; @%first st.release.gpu.global.b32 [%flags], %r2;
    """,
    {
        "relaxed load": ("ld.acquire.gpu", "ld.relaxed.gpu"),
        "volatile load": ("ld.acquire.gpu", "ld.volatile"),
        "relaxed store": ("st.release.gpu", "st.relaxed.gpu"),
        "volatile store": ("st.release.gpu", "st.volatile"),
        "plain store": ("st.release.gpu.global", "st.global"),
        "narrow store": ("st.release.gpu", "st.release.cta"),
        "narrow load": ("ld.acquire.gpu", "ld.acquire.cta"),
        "no barrier behind the load": ("TURN: bar.sync 0;", "TURN:"),
        "no barrier before the store": ("bar.sync 1;", ""),
        "no waiting": ("@%q bra POLL;", ""),
    },
)

# The first program writes, the others wait for a flag and read; fences beside relaxed and volatile accesses.
FLAG = Communicating(
    """
    setp.ne.u32 %q, %p, 0; @%q bra CONSUMER;
    st.global.b32 [%mine], %t;
    bar.sync 0;
    mov.u32 %r1, 1;
    @%first fence.release.gpu;
    @%first st.relaxed.gpu.global.b32 [%flags], %r1;
    ret;
    CONSUMER: @!%first bra READY;
    POLL: ld.volatile.global.b32 %r0, [%flags]; setp.eq.u32 %q, %r0, 0; @%q bra POLL;
    fence.acquire.gpu;
    READY: bar.sync 0;
    mad.wide.u32 %a, %t, 4, %data; ld.global.b32 %r2, [%a];
    mad.wide.u32 %b, %g, 4, %out; st.global.b32 [%b], %r2;
    """,
    {
        "no fence by the producer": ("@%first fence.release.gpu;", ""),
        "no fence by the consumer": ("fence.acquire.gpu;", ""),
        "narrow fence by the producer": ("fence.release.gpu", "fence.release.cta"),
        "narrow fence by the consumer": ("fence.acquire.gpu", "fence.acquire.cta"),
        "an acquire fence instead of a release": ("fence.release.gpu", "fence.acquire.gpu"),
        "the flag is not strong": ("st.relaxed.gpu.global", "st.global"),
        "no barrier by the producer": ("bar.sync 0;\n    mov", "mov"),
        "no barrier by the consumer": ("READY: bar.sync 0;", "READY:"),
    },
)

# The flag is passed on by a program in the middle (causality), and by an atomic that orders nothing (release sequence).
CHAIN = Communicating(
    """
    mov.u32 %r1, 1;
    setp.eq.u32 %q, %p, 0; @%q bra A; setp.eq.u32 %q, %p, 1; @%q bra B; setp.eq.u32 %q, %p, 2; @%q bra C; ret;
    A: st.global.b32 [%mine], %t; bar.sync 0;
    @%first st.release.gpu.global.b32 [%flags], %r1;
    ret;
    B: @!%first ret;
    POLL_B: atom.relaxed.gpu.global.cas.b32 %r0, [%flags], 1, 2; setp.ne.u32 %q, %r0, 1; @%q bra POLL_B;
    ret;
    C: ld.acquire.gpu.global.b32 %r0, [%flags]; setp.ne.u32 %q, %r0, 2; @%q bra C;
    mad.wide.u32 %a, %t, 4, %data; ld.global.b32 %r2, [%a];
    mad.wide.u32 %b, %t, 4, %out; st.global.b32 [%b], %r2;
    """,
    {
        "relaxed at the start": ("st.release.gpu", "st.relaxed.gpu"),
        "relaxed at the end": ("ld.acquire.gpu", "ld.relaxed.gpu"),
        "passed on by a plain store": (
            "atom.relaxed.gpu.global.cas.b32 %r0, [%flags], 1, 2; setp.ne.u32 %q, %r0, 1; @%q bra POLL_B;",
            "ld.relaxed.gpu.global.b32 %r0, [%flags]; setp.ne.u32 %q, %r0, 1; @%q bra POLL_B;"
            "mov.u32 %r0, 2; st.relaxed.gpu.global.b32 [%flags], %r0;",
        ),
    },
    3,
    ("passed on by a plain store",),
)

# Flag and value in one word: nothing has to be ordered.
LOOK_BACK = Communicating(
    """
    @!%first ret;
    mad.wide.u32 %b, %p, 4, %in; ld.global.b32 %r0, [%b];
    cvt.u64.u32 %x0, %r0; or.b64 %x1, %x0, 0x100000000;
    mad.wide.u32 %a, %p, 8, %flags;
    setp.eq.u32 %q, %p, 0; @%q bra DONE;
    st.relaxed.gpu.global.b64 [%a], %x1;
    mov.b64 %b, %a;
    BACK: add.s64 %b, %b, -8;
    POLL: ld.relaxed.gpu.global.b64 %x2, [%b]; shr.u64 %x3, %x2, 32; setp.eq.u64 %q, %x3, 0; @%q bra POLL;
    and.b64 %x4, %x2, 0xffffffff; add.u64 %x0, %x0, %x4; setp.eq.u64 %q, %x3, 1; @%q bra BACK;
    DONE: or.b64 %x1, %x0, 0x200000000; st.relaxed.gpu.global.b64 [%a], %x1;
    mad.wide.u32 %b, %p, 4, %out; cvt.u32.u64 %r1, %x0; st.global.b32 [%b], %r1;
    """,
    {
        "plain store": ("DONE: or.b64 %x1, %x0, 0x200000000; st.relaxed.gpu", "DONE: or.b64 %x1, %x0, 0x200000000; st"),
        "plain load": ("ld.relaxed.gpu", "ld"),
    },
)

HISTOGRAM = Communicating(
    "and.b32 %r0, %g, 7; mad.wide.u32 %a, %r0, 4, %flags; red.relaxed.gpu.global.add.u32 [%a], 1;",
    {
        "narrow scope": ("red.relaxed.gpu", "red.relaxed.cta"),
        "a load and a store": (
            "red.relaxed.gpu.global.add.u32 [%a], 1;",
            "ld.global.u32 %r1, [%a]; add.u32 %r1, %r1, 1; st.global.u32 [%a], %r1;",
        ),
    },
    20,
)

# Programs take tiles until there are none left; whoever takes a tile writes it.
TICKETS = Communicating(
    """
    MORE: bar.sync 0;
    @%first atom.relaxed.gpu.global.add.u32 %r0, [%flags], 1;
    @%first st.shared.b32 [ticket], %r0;
    bar.sync 1;
    ld.shared.b32 %r0, [ticket];
    setp.ge.u32 %q, %r0, 8; @%q ret;
    mad.lo.u32 %r1, %r0, 64, %t; mad.wide.u32 %b, %r1, 4, %out; add.u32 %r2, %r1, %p; sub.u32 %r2, %r2, %p;
    st.global.b32 [%b], %r1;
    bra MORE;
    """,
    {
        "plain counter": (
            "@%first atom.relaxed.gpu.global.add.u32 %r0, [%flags], 1;",
            "@%first ld.global.u32 %r0, [%flags]; add.u32 %r1, %r0, 1; @%first st.global.u32 [%flags], %r1;",
        ),
    },
    3,
)

# A barrier of all programs, and a stencil over what the neighbours wrote before; twice.
GRID_BARRIER = Communicating(
    """
    mov.u32 %r5, 0; st.global.b32 [%mine], %g;
    STEP: bar.sync 0; add.u32 %r5, %r5, %n;
    @!%first bra PASSED;
    red.release.gpu.global.add.u32 [%flags], 1;
    POLL: ld.acquire.gpu.global.b32 %r0, [%flags]; setp.lt.u32 %q, %r0, %r5; @%q bra POLL;
    PASSED: bar.sync 0;
    shl.b32 %r6, %n, 1; setp.eq.u32 %s, %r5, %r6;
    @%s bra WRITE;
    add.u32 %r1, %p, 1; rem.u32 %r1, %r1, %n; mad.lo.u32 %r1, %r1, 64, %t; mad.wide.u32 %a, %r1, 4, %data;
    ld.global.b32 %r2, [%a];
    bra STEP;
    WRITE: st.global.b32 [%mine], %r2;
    mad.wide.u32 %b, %g, 4, %out; st.global.b32 [%b], %r2;
    """,
    {
        "relaxed arrival": ("red.release.gpu", "red.relaxed.gpu"),
        "relaxed wait": ("ld.acquire.gpu", "ld.relaxed.gpu"),
        "no wait": ("@%q bra POLL;", ""),
        "no barrier before": ("STEP: bar.sync 0;", "STEP:"),
    },
    by_luck=("no wait",),
)

KERNELS: dict[str, Communicating] = {
    "last block with fences": LAST_BLOCK,
    "last block with one atomic": LAST_BLOCK_ATOMIC,
    "last block with fences before the barrier": LAST_BLOCK_CUDA,
    "turnstile": TURNSTILE,
    "flag": FLAG,
    "chain": CHAIN,
    "look-back": LOOK_BACK,
    "histogram": HISTOGRAM,
    "tickets": TICKETS,
    "grid barrier": GRID_BARRIER,
}


def ptx_of(body: str) -> str:
    module = ".shared .align 4 .b32 ticket;"
    return kernel(_START + body, _PARAMS, declarations=_REGISTERS, threads=THREADS, module=module)


def run(body: str, programs: int, seed: int | None = None, batch: int | None = None) -> tuple[np.ndarray, LaunchStats]:
    """Gives `out` after a launch."""
    device = Device(sm=120, batch=batch or 16, seed=seed, step_limit=100_000)
    size = 4 * THREADS * programs
    arrays = {
        "data": size, "out": max(size, 4 * THREADS * 8), "flags": np.zeros(max(8, programs), np.uint64),
        "in": np.arange(1, programs + 1, dtype=np.uint32),
    }
    device, places, stats = run_kernel(ptx_of(body), arrays, threads=THREADS, grid=(programs,), device=device)
    out = np.frombuffer(device.read(places["out"], 4 * THREADS * programs), np.uint32)
    return out.reshape(programs, THREADS), stats
