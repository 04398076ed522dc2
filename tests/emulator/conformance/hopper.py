"""mbarriers, bulk and tensor copies: bytes that arrive, and boxes cut out by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output, TensorMap
from tests.emulator.conformance.formats import FORMATS, add, patterns
from tests.emulator.conformance.integers import signed

rng = np.random.default_rng(59)
REGISTERS = """.reg .b32 %t, %b, %s, %r<8>; .reg .b64 %in, %out, %m, %x<9>, %token; .reg .pred %first, %done, %p<4>;"""
MODULE = ".shared .align 1024 .b8 buffer[16384];"
START = """mov.u32 %t, %tid.x; mov.u32 %s, buffer; add.u32 %b, %s, 16320; setp.eq.u32 %first, %t, 0;
    ld.param.u64 %in, [in]; ld.param.u64 %out, [out];
    @%first mbarrier.init.shared::cta.b64 [%b], 1; fence.proxy.async.shared::cta; bar.sync 0;"""
WAIT = "W: mbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0; @!%done bra W;"
GROUPS = ("cp.async.bulk.commit_group", "cp.async.bulk.wait_group")
FINISH = "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"
EXPECT = "@%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], {};"
BASE = (
    "mbarrier.init.shared::cta.b64",
    "fence.proxy.async.shared::cta",
    "mbarrier.arrive.expect_tx.shared::cta.b64",
    "mbarrier.try_wait.parity.shared::cta.b64",
)


def case(
    name: str,
    opcodes: tuple[str, ...],
    body: str,
    given: Array,
    expected: Mapping[str, Array],
    *,
    maps: Mapping[str, TensorMap] | None = None,
    start: Mapping[str, Array] | None = None,
    threads: int = 64,
    begin: str = START,
    form: str = "",
) -> Case:
    outputs = {key: Output(array.dtype.str[1:], array.size, form) for key, array in expected.items()}
    return Case(
        name,
        opcodes,
        begin + body,
        {"in": given},
        outputs,
        lambda: {key: array.reshape(-1) for key, array in expected.items()},
        threads,
        declarations=REGISTERS,
        module=MODULE,
        maps=maps or {},
        start=start or {},
        also=BASE,
    )


def cases() -> Iterator[Case]:
    yield from barriers()
    yield from bulk()
    yield from tensors()
    yield from hints()


def barriers() -> Iterator[Case]:
    """One thread publishes a word through an mbarrier; everyone waits for it in the way the form says."""
    given = rng.integers(0, 1 << 32, 64, dtype=np.uint32)
    before = "@%first ld.global.b32 %r0, [%in]; @%first st.shared.b32 [%s], %r0;"
    after = "ld.shared.b32 %r1, [%s]; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r1;"
    for action in ("arrive", "arrive_drop"):
        for order in ("", ".release.cta", ".release.cluster"):
            for space in (".shared::cta", ".shared", ""):
                if order and not space:
                    continue
                opcode = f"mbarrier.{action}{order}{space}.b64"
                at = "%b" if space else "%x2"
                generic = "" if space else "cvt.u64.u32 %x1, %b; cvta.shared.u64 %x2, %x1;"
                for wait in waits(space):
                    body = f"{before} {generic} @%first {opcode} %token, [{at}]; {wait_text(wait, at, '0')} {after}"
                    yield case(
                        f"{opcode}, {wait}",
                        (opcode, wait, "mbarrier.init.shared::cta.b64"),
                        body,
                        given,
                        {"out": np.full(64, given[0])},
                    )
    for opcode in (
        "mbarrier.arrive.relaxed.cta.shared::cta.b64",
        "mbarrier.arrive_drop.relaxed.cluster.shared::cta.b64",
    ):
        yield case(
            opcode,
            (opcode, "bar.sync"),
            f"{before} @%first {opcode} %token, [%b]; {WAIT} bar.sync 0; {after}",
            given,
            {"out": np.full(64, given[0])},
        )
    # The token of the phase instead of its parity; arrivals counted; the object ended.
    for wait in ("mbarrier.try_wait.shared::cta.b64", "mbarrier.test_wait.shared::cta.b64"):
        body = f"""@%first mbarrier.inval.shared::cta.b64 [%b]; bar.sync 0;
            @%first mbarrier.init.shared::cta.b64 [%b], 64; bar.sync 0; {before}
            mbarrier.arrive.shared::cta.b64 %token, [%b]; V: {wait} %done, [%b], %token; @!%done bra V; {after}"""
        yield case(
            f"{wait} by token",
            (wait, "mbarrier.inval.shared::cta.b64", "mbarrier.arrive.shared::cta.b64"),
            body,
            given,
            {"out": np.full(64, given[0])},
        )
    for form in ("mbarrier.expect_tx", "mbarrier.complete_tx"):
        for suffix in (".relaxed.cta.shared::cta.b64", ".relaxed.cluster.shared::cta.b64"):
            pair = f"""@%first mbarrier.expect_tx{suffix} [%b], 64; @%first mbarrier.complete_tx{suffix} [%b], 64;
                @%first mbarrier.arrive.shared::cta.b64 %token, [%b];"""
            yield case(
                f"{form}{suffix}",
                (f"{form}{suffix}",),
                f"{before} {pair} {WAIT} {after}",
                given,
                {"out": np.full(64, given[0])},
            )
    for form in (
        "cp.async.mbarrier.arrive.noinc.shared::cta.b64",
        "cp.async.mbarrier.arrive.shared::cta.b64",
        "cp.async.mbarrier.arrive.noinc.shared.b64",
    ):
        count, more = (64, "") if "noinc" in form else (64, "mbarrier.arrive.shared::cta.b64 %token, [%b];")
        body = f"""@%first mbarrier.inval.shared::cta.b64 [%b]; bar.sync 0;
            @%first mbarrier.init.shared::cta.b64 [%b], {count}; bar.sync 0; mad.wide.u32 %x1, %t, 4, %in;
            mad.lo.u32 %r2, %t, 4, %s; cp.async.ca.shared.global [%r2], [%x1], 4; {form} [%b]; {more}
            {WAIT} xor.b32 %r3, %t, 33; mad.lo.u32 %r3, %r3, 4, %s; ld.shared.b32 %r1, [%r3];
            mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r1;"""
        yield case(form, (form,), body, given, {"out": given[np.arange(64) ^ 33]})
    fence = "fence.mbarrier_init.release.cluster"
    begin = START.replace("fence.proxy.async.shared::cta; bar.sync 0;", f"{fence}; bar.sync 0;")
    yield case(
        fence,
        (fence,),
        f"{before} @%first mbarrier.arrive.shared::cta.b64 _, [%b]; {WAIT} {after}",
        given,
        {"out": np.full(64, given[0])},
        begin=begin,
    )


def waits(space: str) -> tuple[str, ...]:
    orders = ("", ".acquire.cta", ".acquire.cluster") if space else ("",)
    return tuple(
        f"mbarrier.{action}.parity{order}{space}.b64" for action in ("try_wait", "test_wait") for order in orders
    )


def wait_text(wait: str, at: str, phase: str) -> str:
    return f"V: {wait} %done, [{at}], {phase}; @!%done bra V;"


LOAD = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
STORE = "cp.async.bulk.global.shared::cta.bulk_group"
REDUCTIONS: dict[str, tuple[tuple[str, ...], Callable[[int, int, int], int]]] = {
    "add": (("u32", "s32", "u64"), lambda a, b, n: a + b),
    "and": (("b32", "b64"), lambda a, b, n: a & b),
    "or": (("b32", "b64"), lambda a, b, n: a | b),
    "xor": (("b32", "b64"), lambda a, b, n: a ^ b),
    "inc": (("u32",), lambda a, b, n: 0 if a >= b else a + 1),
    "dec": (("u32",), lambda a, b, n: b if a == 0 or a > b else a - 1),
    "min": (("u32", "u64"), lambda a, b, n: min(a, b)),
    "max": (("u32", "u64"), lambda a, b, n: max(a, b)),
}


def bulk() -> Iterator[Case]:
    data = rng.integers(0, 256, 256).astype(np.uint8)
    policy = "createpolicy.fractional.L2::evict_first.b64 %x8, 1.0;"
    for space in ("shared::cluster", "shared::cta"):
        for hint in ("", ".L2::cache_hint"):
            load = f"cp.async.bulk.{space}.global.mbarrier::complete_tx::bytes{hint}"
            store = f"{STORE}{hint}"
            operand = ", %x8" if hint else ""
            for wait in ("cp.async.bulk.wait_group", "cp.async.bulk.wait_group.read"):
                body = f"""{policy if hint else ""} {EXPECT.format(256)} @%first {load} [%s], [%in], 256, [%b]{operand};
                    {WAIT}
                    @%first {store} [%out], [%s], 256{operand}; cp.async.bulk.commit_group; {wait} 0;"""
                yield case(
                    f"{load}, {wait}", (load, store, wait, "cp.async.bulk.commit_group"), body, data, {"out": data}
                )
    for operation, (scalars, function) in REDUCTIONS.items():
        for scalar in scalars:
            yield reduced(operation, scalar, function)
    for operation, choose in (("min", min), ("max", max)):
        for scalar in ("s32", "s64"):
            yield reduced(operation, scalar, lambda a, b, n, f=choose: f(a, b, key=lambda v: signed(v, n)))
    for scalar in ("f16", "bf16", "f32", "f64"):
        form = FORMATS[scalar]
        yield reduced(
            "add.noftz" if form.width == 16 else "add",
            scalar,
            lambda a, b, n, form=form: form.encode(add(form.decode(a), form.decode(b))),
        )
        if form.width == 16:
            for operation, largest in (("min", False), ("max", True)):
                yield reduced(operation, scalar, lambda a, b, n, form=form, largest=largest: pick(form, a, b, largest))


def pick(form: object, a: int, b: int, largest: bool) -> int:
    from tests.emulator.conformance.floats import limit

    return limit(form, largest, "")(a, b)  # type: ignore[arg-type]


def reduced(operation: str, scalar: str, function: Callable[[int, int, int], int]) -> Case:
    bits = int(scalar.lstrip("usbf"))
    dtype = np.dtype(f"u{bits // 8}")
    count = 256 // dtype.itemsize
    if scalar in FORMATS:
        form = FORMATS[scalar]
        usual = [
            x
            for x in patterns(form, 90, 3).tolist()
            if not form.decode(x).nan and not form.decode(x).infinite and form.flush(x) == x
        ]
        old, new = (np.resize(np.roll(np.array(usual, dtype), shift), count) for shift in (0, 7))
    else:
        old, new = (rng.integers(0, (1 << bits) - 1, count, dtype=dtype, endpoint=True) for _ in range(2))
        new[::3] = old[::3]
    opcode = f"cp.reduce.async.bulk.global.shared::cta.bulk_group.{operation}.{scalar}"
    body = f"""{EXPECT.format(256)} @%first {LOAD} [%s], [%in], 256, [%b]; {WAIT}
        @%first {opcode} [%out], [%s], 256; {FINISH}"""
    expected = np.array([function(int(a), int(b), bits) % (1 << bits) for a, b in zip(old, new, strict=True)], dtype)
    return case(opcode, (opcode,), body, new, {"out": expected}, start={"out": old})


# Tensor copies ------------------------------------------------------------------------------------------------------

BOXES = (
    ((100,), (32,), (80,)),
    ((100,), (32,), (-5,)),
    ((20, 40), (8, 16), (16, 30)),
    ((20, 40), (8, 16), (-3, -7)),
    ((6, 7, 24), (2, 4, 8), (5, 5, 20)),
    ((3, 4, 5, 16), (2, 2, 2, 8), (2, 3, 4, 12)),
    ((2, 3, 4, 5, 16), (2, 1, 2, 2, 8), (1, 2, 3, 4, -4)),
    ((20, 40), (8, 16), (30, 0)),
)
ELEMENTS = ((0, np.uint8), (1, np.uint16), (2, np.uint32), (4, np.uint64), (6, np.uint16), (7, np.uint32))


def window(source: Array, box: tuple[int, ...], corner: tuple[int, ...]) -> tuple[Array, Array]:
    """The box with zeros outside of the tensor, and a tensor of zeros with only the box kept."""
    pad = 64 if source.ndim < 4 else 8
    wide = np.zeros([extent + 2 * pad for extent in source.shape], source.dtype)
    wide[tuple(slice(pad, pad + extent) for extent in source.shape)] = source
    inside = wide[tuple(slice(pad + c, pad + c + b) for c, b in zip(corner, box, strict=True))]
    kept = np.zeros_like(source)
    region = tuple(slice(max(c, 0), max(c + b, 0)) for c, b in zip(corner, box, strict=True))
    kept[region] = source[region]
    return inside, kept


def boxed(
    source: Array,
    box: tuple[int, ...],
    corner: tuple[int, ...],
    kind: int,
    inside: Array,
    stored: Array,
    *,
    swizzle: int = 0,
    old: Array | None = None,
    operation: str = "",
    fill: int = 0,
    name: str = "",
    space: str = "shared::cluster",
    tile: str = "",
    form: str = "",
) -> Case:
    """Load a box, copy it out as it lies in shared memory, and store it to a tensor like the source."""
    rank, size = source.ndim, prod(box) * source.itemsize
    strides = tuple(int(np.prod(source.shape[axis + 1 :])) * source.itemsize for axis in range(rank - 1))[::-1]
    at = ", ".join(str(c) for c in corner[::-1])
    load = f"cp.async.bulk.tensor.{rank}d.{space}.global{tile}.mbarrier::complete_tx::bytes"
    store = (
        f"cp.reduce.async.bulk.tensor.{rank}d.global.shared::cta.{operation}{tile}.bulk_group"
        if operation
        else (f"cp.async.bulk.tensor.{rank}d.global.shared::cta{tile}.bulk_group")
    )
    body = f"""mov.b64 %m, source; cvta.param.u64 %m, %m; @%first prefetch.tensormap [%m];
        {EXPECT.format(size)} @%first {load} [%s], [%m, {{{at}}}], [%b]; {WAIT}
        @%first {STORE} [%out], [%s], {size}; mov.b64 %m, target; cvta.param.u64 %m, %m;
        @%first {store} [%m, {{{at}}}], [%s]; {FINISH}"""
    maps = {
        "source": TensorMap("in", kind, source.shape[::-1], strides, box[::-1], swizzle, fill),
        "target": TensorMap("tensor", kind, source.shape[::-1], strides, box[::-1], swizzle),
    }
    start = np.zeros_like(source) if old is None else old
    return case(
        name or f"{load} {source.shape} {corner} {source.dtype}",
        (load, store, "prefetch.tensormap"),
        body,
        source.reshape(-1),
        {"out": np.ascontiguousarray(inside).reshape(-1), "tensor": stored},
        maps=maps,
        start={"tensor": start.reshape(-1)},
        threads=32,
        form=form,
    )


def tensors() -> Iterator[Case]:
    for shape, box, corner in BOXES:
        source = rng.integers(1, 1 << 30, shape).astype(np.uint32)
        yield boxed(source, box, corner, 2, *window(source, box, corner))
        yield boxed(source, box, corner, 2, *window(source, box, corner), space="shared::cta", tile=".tile")
    for kind, dtype in ELEMENTS:
        source = rng.integers(1, 100, (9, 48)).astype(dtype)
        yield boxed(source, (4, 16), (7, 35), kind, *window(source, (4, 16), (7, 35)), name=f"elements of type {kind}")
    for swizzle, width in ((1, 32), (2, 64), (3, 128)):
        rows, pieces = 16, width // 16
        source = rng.integers(0, 1 << 30, (rows, width // 4)).astype(np.uint32)
        r, c = np.arange(rows)[:, None], np.arange(pieces)[None, :]
        turned = np.empty((rows, pieces, 4), np.uint32)
        turned[r, c ^ (r * width // 128 % pieces)] = source.reshape(rows, pieces, 4)
        yield boxed(
            source, (rows, width // 4), (0, 0), 2, turned, source, swizzle=swizzle, name=f"swizzle of {width} bytes"
        )
    functions: dict[str, Callable[[Array, Array], Array]] = {
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "inc": lambda a, b: np.where(a >= b, 0, a + 1).astype(a.dtype),
        "dec": lambda a, b: np.where((a == 0) | (a > b), b, a - 1).astype(a.dtype),
    }
    for rank in range(1, 6):
        shape = (2, 2, 2, 4, 16)[5 - rank :]
        for operation, function in functions.items():
            new, old = (rng.integers(0, 50, shape).astype(np.uint32) for _ in range(2))
            yield boxed(
                new,
                shape,
                (0,) * rank,
                2,
                new,
                function(old, new),
                old=old,
                operation=operation,
                name=f"{operation} of {rank} dimensions",
            )
    ones = np.full((4, 16), 0x3F80_0000, np.uint32)
    nan = np.full((4, 16), 0x7FC0_0000, np.uint32)
    nan[:2, :8] = ones[:2, :8]
    kept = np.zeros_like(ones)
    kept[2:, 8:] = ones[2:, 8:]
    yield boxed(ones, (4, 16), (2, 8), 7, nan, kept, fill=1, name="NaNs outside", form="f32")


def hints() -> Iterator[Case]:
    """Prefetches change nothing."""
    data = rng.integers(0, 256, 256).astype(np.uint8)
    move = f"{EXPECT.format(256)} @%first {LOAD} [%s], [%in], 256, [%b]; {WAIT}"
    move += f"@%first {STORE} [%out], [%s], 256; {FINISH}"
    policy = "createpolicy.fractional.L2::evict_first.b64 %x8, 1.0;"
    for hint, operand in (("", ""), (".L2::cache_hint", ", %x8")):
        opcode = f"cp.async.bulk.prefetch.L2.global{hint}"
        yield case(opcode, (opcode,), f"{policy} @%first {opcode} [%in], 256{operand}; {move}", data, {"out": data})
        for rank in range(1, 6):
            shape = (2, 2, 2, 2, 16)[5 - rank :]
            strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(rank - 1))[::-1]
            opcode = f"cp.async.bulk.prefetch.tensor.{rank}d.L2.global.tile{hint}"
            body = f"""{policy} mov.b64 %m, source; cvta.param.u64 %m, %m;
                @%first {opcode} [%m, {{{", ".join("0" * rank)}}}]{operand}; {move}"""
            yield case(
                opcode,
                (opcode,),
                body,
                data,
                {"out": data},
                maps={"source": TensorMap("in", 0, shape[::-1], strides, shape[::-1])},
            )
