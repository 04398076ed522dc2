"""Pairs of kernels for every kind of fault: one that commits it, and a near twin that does not.

The bodies run with 64 threads: `%t` is the thread, `%s` its own word of the shared `buffer`, `%in` a written
buffer of 64 words, `%out` an unwritten one of 1024 words.
"""

from __future__ import annotations

from dataclasses import dataclass

from texpr.emulator import FaultKind

PARAMS = ".param .u64 in, .param .u64 out"
REGISTERS = ".reg .b32 %t, %s, %r<8>; .reg .b64 %in, %out, %a, %x<4>; .reg .b16 %h<2>; .reg .pred %p, %q;"
MODULE = ".shared .align 16 .b8 buffer[1024]; .const .align 4 .b32 fixed = 7;"
START = """
    mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out]; mov.u32 %s, buffer;
    mad.lo.u32 %s, %t, 4, %s;
"""


@dataclass(frozen=True)
class Case:
    """`threads` per program; both bodies come behind `START`."""

    kind: FaultKind
    bad: str
    good: str
    threads: int = 64


MY_IN = "mad.wide.u32 %a, %t, 4, %in;"
MY_OUT = "mad.wide.u32 %a, %t, 4, %out;"
PUT = "st.shared.b32 [%s], %t;"
SYNC = "bar.sync 0;"
GET_NEIGHBOUR = "xor.b32 %r1, %s, 4; ld.shared.b32 %r0, [%r1];"
GET_OTHER_WARP = "xor.b32 %r1, %s, 128; ld.shared.b32 %r0, [%r1];"
GET_MINE = "ld.shared.b32 %r0, [%s];"
COPY = MY_IN + "cp.async.ca.shared.global [%s], [%a], 4;"
COMMIT = "cp.async.commit_group;"
WAIT_ALL = "cp.async.wait_all;"
PUT_ROWS = "mad.lo.u32 %r4, %t, 16, buffer; st.shared.v4.b32 [%r4], {%t, %t, %t, %t}; xor.b32 %r5, %r4, 512;"
GET_ROWS = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%r5];"
COUNT = "red.shared.add.u32 [buffer], 1;"
FIRST_WARP = "setp.lt.u32 %p, %t, 32; @%p bra A;"
SECOND_WARP = "setp.ge.u32 %p, %t, 32; @%p bra A;"

PUT_OUT = "mad.wide.u32 %a, %t, 4, %out; st.global.b32 [%a], %t;"
PUT_ONE = "mad.wide.u32 %a, %t, 4, %out; mov.u32 %r0, 1000; st.global.b32 [%a], %r0;"
GET_OUT = "xor.b32 %r1, %t, 32; mad.wide.u32 %a, %r1, 4, %out; ld.global.b32 %r0, [%a];"
ADD_OUT = "xor.b32 %r1, %t, 32; mad.wide.u32 %a, %r1, 4, %out; red.global.add.u32 [%a], 1;"
GET_CONSTANT = "mad.wide.u32 %a, %t, 4, %out; ld.global.nc.b32 %r0, [%a];"

CASES: dict[str, Case] = {
    "load behind the end": Case(
        FaultKind.OUT_OF_BOUNDS, MY_IN + "ld.global.b32 %r0, [%a+4];", MY_IN + "ld.global.b32 %r0, [%a];"),
    "load before the start": Case(
        FaultKind.OUT_OF_BOUNDS, MY_IN + "ld.global.b32 %r0, [%a+-4];", MY_IN + "ld.global.b32 %r0, [%a+0];"),
    "store behind the end": Case(
        FaultKind.OUT_OF_BOUNDS, MY_OUT + "st.global.b32 [%a+4092], %t;", MY_OUT + "st.global.b32 [%a+3840], %t;"),
    "null pointer": Case(
        FaultKind.OUT_OF_BOUNDS, "mov.u64 %a, 0; ld.global.b32 %r0, [%a];", "mov.u64 %a, %in; ld.global.b32 %r0, [%a];"
    ),
    "shared memory behind its end": Case(
        FaultKind.OUT_OF_BOUNDS, "st.shared.b32 [%s+800], %t;", "st.shared.b32 [%s+768], %t;"),
    "asynchronous copy out of bounds": Case(
        FaultKind.OUT_OF_BOUNDS,
        "cp.async.ca.shared.global [%s], [%in+256], 4;" + WAIT_ALL,
        "cp.async.ca.shared.global [%s], [%in+256], 4, 0;" + WAIT_ALL,
    ),
    "atomic out of bounds": Case(
        FaultKind.OUT_OF_BOUNDS, "red.global.add.u32 [%in+256], 1;", "red.global.add.u32 [%in+252], 1;"),
    "output read before it is written": Case(
        FaultKind.UNINITIALISED,
        MY_OUT + "ld.global.b32 %r0, [%a];",
        MY_OUT + "st.global.b32 [%a], %t; ld.global.b32 %r0, [%a];",
    ),
    "output read of which half is written": Case(
        FaultKind.UNINITIALISED,
        MY_OUT + "cvt.u16.u32 %h0, %t; st.global.b16 [%a], %h0; ld.global.b32 %r0, [%a];",
        MY_OUT + "cvt.u16.u32 %h0, %t; st.global.b16 [%a], %h0; ld.global.b16 %h1, [%a];",
    ),
    "atomic on an unwritten output": Case(
        FaultKind.UNINITIALISED,
        "red.global.add.u32 [%out], 1;",
        "mov.u32 %r0, 0; st.global.b32 [%out], %r0;" + SYNC + "red.global.add.u32 [%out], 1;",
    ),
    "shared memory read before it is written": Case(FaultKind.UNINITIALISED, GET_MINE, PUT + GET_MINE),
    "shared atomic on unwritten memory": Case(
        FaultKind.UNINITIALISED, "red.shared.add.u32 [%s], 1;", "st.shared.b32 [%s], 0; red.shared.add.u32 [%s], 1;"),
    "read of another thread's store": Case(FaultKind.RACE, PUT + GET_NEIGHBOUR, PUT + SYNC + GET_NEIGHBOUR),
    "read of another warp's store behind a warp barrier": Case(
        FaultKind.RACE,
        PUT + "bar.warp.sync 0xffffffff;" + GET_OTHER_WARP,
        PUT + "bar.warp.sync 0xffffffff;" + GET_NEIGHBOUR,
    ),
    "store over what another thread has read": Case(
        FaultKind.RACE, PUT + SYNC + GET_NEIGHBOUR + PUT, PUT + SYNC + GET_NEIGHBOUR + SYNC + PUT),
    "two warps store different values": Case(
        FaultKind.RACE,
        "and.b32 %r1, %t, 31; mad.lo.u32 %r1, %r1, 4, buffer; st.shared.b32 [%r1], %t;",
        "and.b32 %r1, %t, 31; mad.lo.u32 %r2, %r1, 4, buffer; st.shared.b32 [%r2], %r1;",
    ),
    "matrix load of rows that another warp stores": Case(
        FaultKind.RACE, PUT_ROWS + GET_ROWS, PUT_ROWS + SYNC + GET_ROWS),
    "store over what another warp has loaded as a matrix": Case(
        FaultKind.RACE, PUT_ROWS + SYNC + GET_ROWS + PUT_ROWS, PUT_ROWS + SYNC + GET_ROWS + SYNC + PUT_ROWS),
    "atomic and plain store": Case(
        FaultKind.RACE, "st.shared.b32 [%s], 0;" + COUNT, "st.shared.b32 [%s], 0;" + SYNC + COUNT),
    "plain load of what others update atomically": Case(
        FaultKind.RACE,
        "st.shared.b32 [%s], 0;" + SYNC + COUNT + "ld.shared.b32 %r0, [buffer];",
        "st.shared.b32 [%s], 0;" + SYNC + COUNT + SYNC + "ld.shared.b32 %r0, [buffer];",
    ),
    "barrier of which some warps are not part": Case(
        FaultKind.RACE,
        PUT + "setp.lt.u32 %p, %t, 64; @%p bar.sync 1, 64; xor.b32 %r1, %s, 256; ld.shared.b32 %r0, [%r1];",
        PUT + "bar.sync 1, 128; xor.b32 %r1, %s, 256; ld.shared.b32 %r0, [%r1];",
        threads=128,
    ),
    "store behind an arrival that does not wait": Case(
        FaultKind.RACE,
        SECOND_WARP + "bar.arrive 1, 64;" + PUT + "bra B; A: bar.sync 1, 64;" + GET_OTHER_WARP + "B:",
        SECOND_WARP + PUT + "bar.arrive 1, 64; bra B; A: bar.sync 1, 64;" + GET_OTHER_WARP + "B:",
    ),
    "read of a copy that is not waited for": Case(
        FaultKind.ASYNC_NOT_WAITED, COPY + COMMIT + GET_MINE, COPY + COMMIT + "cp.async.wait_group 0;" + GET_MINE),
    "wait for too few groups": Case(
        FaultKind.ASYNC_NOT_WAITED,
        COPY + COMMIT + "cp.async.wait_group 1;" + SYNC + GET_MINE,
        COPY + COMMIT + COMMIT + "cp.async.wait_group 1;" + SYNC + GET_MINE,
    ),
    "store over a copy in flight": Case(FaultKind.ASYNC_NOT_WAITED, COPY + PUT + WAIT_ALL, COPY + WAIT_ALL + PUT),
    "others' copies read without a barrier": Case(
        FaultKind.RACE, COPY + WAIT_ALL + GET_NEIGHBOUR, COPY + WAIT_ALL + SYNC + GET_NEIGHBOUR),
    "copy over what others still read": Case(
        FaultKind.RACE,
        PUT + SYNC + GET_NEIGHBOUR + COPY + WAIT_ALL,
        PUT + SYNC + GET_NEIGHBOUR + SYNC + COPY + WAIT_ALL,
    ),
    "misaligned global access": Case(
        FaultKind.MISALIGNED, "ld.global.b32 %r0, [%in+2];", "ld.global.b32 %r0, [%in+4];"),
    "misaligned vector access": Case(
        FaultKind.MISALIGNED,
        "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%in+8];",
        "ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%in+16];",
    ),
    "misaligned shared access": Case(
        FaultKind.MISALIGNED, "add.u32 %s, %s, 1;" + PUT, "add.u32 %s, %s, 4;" + PUT),
    "barrier that some warps pass by": Case(
        FaultKind.DEADLOCK,
        FIRST_WARP + "bar.sync 1, 64; A: bar.sync 2, 64;",
        FIRST_WARP + "bar.sync 1, 32; A: bar.sync 2, 64;",
    ),
    "two groups wait at different barriers": Case(
        FaultKind.DEADLOCK,
        FIRST_WARP + "bar.sync 1; bra B; A: bar.sync 2; B:",
        FIRST_WARP + "bar.sync 1; bra B; A: bar.sync 1; B:",
    ),
    "endless loop": Case(
        FaultKind.STEP_LIMIT,
        "LOOP: add.u32 %r1, %r1, 1; ld.volatile.global.b32 %r0, [%in]; setp.eq.u32 %p, %r0, 0; @%p bra LOOP;",
        "LOOP: ld.volatile.global.b32 %r0, [%in]; setp.eq.u32 %p, %r0, 1; @%p bra LOOP;",
    ),
    "part of a warp at a barrier": Case(
        FaultKind.DIVERGENT_BARRIER,
        "setp.lt.u32 %p, %t, 16; @%p bra SKIP; bar.sync 0; SKIP:",
        "setp.lt.u32 %p, %t, 16; @%p bra SKIP; mov.u32 %r0, 1; SKIP: bar.sync 0;",
    ),
    "shuffle without some of its members": Case(
        FaultKind.DIVERGENT_WARP,
        "setp.lt.u32 %p, %t, 8; @%p shfl.sync.idx.b32 %r0, %t, 0, 31, 0xffffffff;",
        "setp.lt.u32 %p, %t, 64; @%p shfl.sync.idx.b32 %r0, %t, 0, 31, 0xffffffff;",
    ),
    "vote by a lane that is not a member": Case(
        FaultKind.DIVERGENT_WARP,
        "setp.lt.u32 %p, %t, 8; vote.sync.ballot.b32 %r0, %p, 0x0000ffff;",
        "setp.lt.u32 %p, %t, 8; vote.sync.ballot.b32 %r0, %p, 0xffffffff;",
    ),
    "matrix load by part of a warp": Case(
        FaultKind.DIVERGENT_WARP,
        PUT_ROWS + SYNC + "setp.lt.u32 %p, %t, 8; @%p " + GET_ROWS,
        PUT_ROWS + SYNC + "setp.lt.u32 %p, %t, 32; @%p " + GET_ROWS,
    ),
    "matrix load after part of the warp has exited": Case(
        FaultKind.DIVERGENT_WARP,
        PUT_ROWS + SYNC + "setp.eq.u32 %p, %t, 5; @%p exit; " + GET_ROWS,
        PUT_ROWS + SYNC + "setp.lt.u32 %p, %t, 32; @%p exit; " + GET_ROWS,
    ),
    "two threads store different values at once": Case(
        FaultKind.GLOBAL_CONFLICT, "st.global.b32 [%out], %t;", "mov.u32 %r0, 5; st.global.b32 [%out], %r0;"),
    "store to constant memory": Case(
        FaultKind.READ_ONLY,
        "mov.u64 %a, fixed; st.global.b32 [%a], %t;",
        "mov.u64 %a, fixed; ld.const.b32 %r0, [%a];",
    ),
    "read of what another warp stores to global memory": Case(
        FaultKind.GLOBAL_RACE, PUT_OUT + GET_OUT, PUT_OUT + SYNC + GET_OUT),
    "store over what another warp has read in global memory": Case(
        FaultKind.GLOBAL_RACE, PUT_OUT + SYNC + GET_OUT + PUT_ONE, PUT_OUT + SYNC + GET_OUT + SYNC + PUT_ONE),
    "atomic on what another warp stores plainly": Case(
        FaultKind.GLOBAL_RACE, PUT_OUT + ADD_OUT, PUT_OUT + SYNC + ADD_OUT),
    "constant load of what the kernel has written": Case(
        FaultKind.NOT_CONSTANT, PUT_OUT + GET_CONSTANT, PUT_OUT + GET_CONSTANT.replace(".nc", "")),
    "store to what was read as constant": Case(
        FaultKind.NOT_CONSTANT,
        (GET_CONSTANT + PUT_OUT).replace("%out", "%in"),
        GET_CONSTANT.replace("%out", "%in") + PUT_OUT,
    ),
    "barrier number out of range": Case(FaultKind.BARRIER_MISUSE, "bar.sync 16;", "bar.sync 15;"),
    "barrier with an odd thread count": Case(FaultKind.BARRIER_MISUSE, "bar.sync 1, 33;", "bar.sync 1, 64;"),
    "barrier with two different counts": Case(
        FaultKind.BARRIER_MISUSE,
        FIRST_WARP + "bar.sync 1, 64; bra B; A: bar.sync 1, 96; B:",
        FIRST_WARP + "bar.sync 1, 64; bra B; A: bar.sync 1, 64; B:",
    ),
    "trap": Case(
        FaultKind.TRAP, "setp.eq.u32 %p, %t, 3; @%p trap;", "setp.eq.u32 %p, %t, 300; @%p trap;"),
    "branch index beyond the table": Case(
        FaultKind.TRAP,
        "and.b32 %r0, %t, 3; T: .branchtargets A, B; brx.idx %r0, T; A: B:",
        "and.b32 %r0, %t, 1; T: .branchtargets A, B; brx.idx %r0, T; A: B:",
    ),
}
