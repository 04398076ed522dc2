"""Branches, barriers and fences: kernels in which the wrong path or a missing order would change what is stored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output

LANES = np.arange(64, dtype=np.uint32)
START = "mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mad.wide.u32 %out, %t, 4, %out;"
STORE = "st.global.b32 [%out], %r0;"
REGISTERS = ".reg .b32 %t, %s, %r<9>; .reg .b64 %in, %out, %x<4>; .reg .pred %p, %q;"
MODULE = ".shared .align 16 .b8 buffer[512];"


def made(name: str, opcodes: tuple[str, ...], body: str, expected: Array) -> Case:
    return Case(
        name,
        opcodes,
        START + body + STORE,
        {"in": LANES},
        {"out": Output("u4", 64)},
        lambda: {"out": expected.astype(np.uint32)},
        64,
        declarations=REGISTERS,
        module=MODULE,
    )


def cases() -> Iterator[Case]:
    for branch in ("bra", "bra.uni"):
        yield made(
            branch,
            (branch,),
            f"""mov.u32 %r0, 0; mov.u32 %r1, 20; LOOP: setp.eq.u32 %p, %r1, 0; @%p bra DONE;
            add.u32 %r0, %r0, %r1; sub.u32 %r1, %r1, 1; {branch} LOOP; DONE:""",
            np.full(64, 210),
        )
    yield made(
        "bra, divergent",
        ("bra",),
        """mov.u32 %r0, 0; mov.u32 %r1, %t; LOOP: setp.eq.u32 %p, %r1, 0; @%p bra DONE;
        add.u32 %r0, %r0, %r1; sub.u32 %r1, %r1, 1; bra LOOP; DONE:""",
        LANES * (LANES + 1) // 2,
    )
    for branch, index in (("brx.idx", "and.b32 %r1, %t, 3;"), ("brx.idx.uni", "mov.u32 %r1, 2;")):
        expected = np.tile([10, 20, 30, 10], 16) if branch == "brx.idx" else np.full(64, 30)
        yield made(
            branch,
            (branch,),
            f"""{index} TABLE: .branchtargets A, B, C, A; {branch} %r1, TABLE;
            A: mov.u32 %r0, 10; bra DONE; B: mov.u32 %r0, 20; bra DONE; C: mov.u32 %r0, 30; DONE:""",
            expected,
        )
    for leave in ("ret", "exit"):
        yield made(
            leave,
            (leave,),
            f"""mov.u32 %r0, 5; {STORE} setp.ge.u32 %p, %t, 40; @%p {leave}; mov.u32 %r0, %t;""",
            np.where(LANES < 40, LANES, 5),
        )
    yield made("ret.uni", ("ret.uni",), f"mov.u32 %r0, 5; {STORE} ret.uni; mov.u32 %r0, 6;", np.full(64, 5))
    exchange = """mov.u32 %s, buffer; mad.lo.u32 %r1, %t, 4, %s; st.shared.b32 [%r1], %t; {}
        xor.b32 %r2, %t, 33; mad.lo.u32 %r2, %r2, 4, %s; ld.shared.b32 %r0, [%r2];"""
    for sync in (
        "bar.sync",
        "bar.cta.sync",
        "barrier.sync",
        "barrier.cta.sync",
        "barrier.sync.aligned",
        "barrier.cta.sync.aligned",
    ):
        for operands in ("0", "3, 64"):
            yield made(f"{sync} {operands}", (sync,), exchange.format(f"{sync} {operands};"), LANES ^ 33)
    for arrive in (
        "bar.arrive",
        "bar.cta.arrive",
        "barrier.arrive",
        "barrier.cta.arrive",
        "barrier.arrive.aligned",
        "barrier.cta.arrive.aligned",
    ):
        body = f"""mov.u32 %s, buffer; and.b32 %r1, %t, 31; mad.lo.u32 %r1, %r1, 4, %s; mov.u32 %r0, 0;
            setp.ge.u32 %p, %t, 32; @%p bra CONSUME; st.shared.b32 [%r1], %t; {arrive} 1, 64; bra DONE;
            CONSUME: bar.sync 1, 64; ld.shared.b32 %r0, [%r1]; DONE:"""
        yield made(arrive, (arrive, "bar.sync"), body, np.where(LANES < 32, 0, LANES - 32))
    for order in ("", ".release", ".relaxed"):
        for aligned in ("", ".aligned"):
            # A launch without clusters has one program in each. A relaxed arrival orders nothing.
            acquire = "" if order else ".acquire"
            arrive, wait = f"barrier.cluster.arrive{order}{aligned}", f"barrier.cluster.wait{acquire}{aligned}"
            between = "bar.sync 0;" if order == ".relaxed" else ""
            yield made(arrive, (arrive, wait), exchange.format(f"{arrive}; {wait}; {between}"), LANES ^ 33)
    plain = [
        *(f"membar.{scope}" for scope in ("cta", "gl", "sys")),
        *(
            f"fence{order}.{scope}"
            for order in (".sc", ".acq_rel", ".acquire", ".release", "")
            for scope in ("cta", "cluster", "gpu", "sys")
        ),
        "fence.proxy.alias",
        "fence.proxy.async",
        "fence.proxy.async.global",
        "fence.proxy.async.shared::cta",
        "fence.proxy.async.shared::cluster",
        "griddepcontrol.wait",
        "griddepcontrol.launch_dependents",
        *(f"fence.proxy.tensormap::generic.release.{scope}" for scope in ("cta", "cluster", "gpu", "sys")),
    ]
    for opcode in plain:
        yield made(opcode, (opcode,), exchange.format(f"{opcode}; bar.sync 0;"), LANES ^ 33)
    yield made("nanosleep.u32", ("nanosleep.u32",), "nanosleep.u32 20; mov.u32 %r0, %t;", LANES)
    for opcode in ("pmevent", "pmevent.mask"):
        yield made(opcode, (opcode,), f"{opcode} 1; mov.u32 %r0, %t;", LANES)
