"""Loads, stores, atomics, cp.async, matrices in shared memory and addresses: bytes, placed by index arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output
from tests.emulator.conformance.formats import FORMATS, add, patterns
from tests.emulator.conformance.integers import signed, words

rng = np.random.default_rng(31)
START = "mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; ld.param.u64 %out, [out];"
REGISTERS = """.reg .b32 %t, %r<9>, %row; .reg .b64 %in, %out, %a, %x<9>; .reg .b16 %h<9>; .reg .pred %p, %q;
.reg .f32 %f<9>; .reg .f64 %g<9>;"""
SHARED = ".shared .align 128 .b8 buffer[4096];"
SIZES = {"8": "h", "16": "h", "32": "r", "64": "x"}


def moved(
    name: str,
    opcodes: tuple[str, ...],
    body: str,
    given: Array,
    expected: Array,
    *,
    threads: int = 32,
    module: str = "",
    start: Array | None = None,
    also: tuple[str, ...] = (),
) -> Case:
    """A kernel from `in` to `out`, whose bytes are known."""
    return Case(
        name,
        opcodes,
        START + body,
        {"in": given},
        {"out": Output(expected.dtype.str[1:], expected.size)},
        lambda: {"out": expected.reshape(-1)},
        threads,
        declarations=REGISTERS,
        module=module,
        start={} if start is None else {"out": start},
        also=also,
    )


def random_bytes(count: int) -> Array:
    return rng.integers(0, 256, count).astype(np.uint8)


def register_list(scalar: str, count: int) -> str:
    letter = SIZES[scalar.strip("bufsx")]
    if scalar in ("f32", "f64"):
        letter = {"f32": "f", "f64": "g"}[scalar]
    names = ", ".join(f"%{letter}{i}" for i in range(count))
    return f"{{{names}}}" if count > 1 else names


def each(size: int) -> str:
    return f"mad.wide.u32 %in, %t, {size}, %in; mad.wide.u32 %out, %t, {size}, %out;"


SCALARS = ("b8", "b16", "b32", "b64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "f32", "f64")
LOAD_WORDS = (
    "weak.global",
    "relaxed.cta.global",
    "relaxed.cluster.global",
    "relaxed.gpu.global",
    "relaxed.sys.global",
    "acquire.gpu.global",
    "acquire.cta.global",
    "acquire.sys.global",
    "volatile.global",
    "mmio.relaxed.sys.global",
    "global.ca",
    "global.cg",
    "global.cs",
    "global.lu",
    "global.cv",
    "global.nc",
    "global.L1::evict_normal",
    "global.L1::evict_unchanged",
    "global.L1::evict_first",
    "global.L1::evict_last",
    "global.L1::no_allocate",
    "global.L2::64B",
    "global.L2::128B",
    "global.L2::256B",
    "global.nc.L1::no_allocate.L2::128B",
)
STORE_WORDS = (
    "weak.global",
    "relaxed.cta.global",
    "relaxed.cluster.global",
    "relaxed.gpu.global",
    "relaxed.sys.global",
    "release.gpu.global",
    "release.cta.global",
    "release.sys.global",
    "volatile.global",
    "mmio.relaxed.sys.global",
    "global.wb",
    "global.cg",
    "global.cs",
    "global.wt",
    "global.L1::evict_normal",
    "global.L1::evict_unchanged",
    "global.L1::evict_first",
    "global.L1::evict_last",
    "global.L1::no_allocate",
)


def cases() -> Iterator[Case]:
    yield from widths()
    yield from spaces_and_hints()
    yield from atomics()
    yield from copies()
    yield from matrices()


def widths() -> Iterator[Case]:
    for scalar in SCALARS:
        size = int(scalar[1:]) // 8
        for vector, count in (("", 1), (".v2", 2), (".v4", 4), (".v8", 8)):
            if size * count > 32 or (vector == ".v8" and size != 4):
                continue
            form, registers = f"{vector}.{scalar}", register_list(scalar, count)
            data = random_bytes(32 * size * count)
            yield moved(
                f"ld.global{form}",
                (f"ld.global{form}", f"st.global{form}"),
                f"{each(size * count)} ld.global{form} {registers}, [%in]; st.global{form} [%out], {registers};",
                data,
                data,
            )
            if size * count > 16:
                continue
            body = f"""{each(size * count)} ld.global{form} {registers}, [%in]; mov.u64 %a, buffer;
                mad.wide.u32 %a, %t, {size * count}, %a; st.shared{form} [%a], {registers};
                ld.shared{form} {registers}, [%a]; st.global{form} [%out], {registers};"""
            yield moved(f"ld.shared{form}", (f"ld.shared{form}", f"st.shared{form}"), body, data, data, module=SHARED)
            if vector != ".v8":
                body = f"{each(size * count)} ldu.global{form} {registers}, [%in]; st.global{form} [%out], {registers};"
                # A warp that uses ldu reads one address.
                uniform = f"""ldu.global{form} {registers}, [%in]; mad.wide.u32 %out, %t, {size * count}, %out;
                    st.global{form} [%out], {registers};"""
                yield moved(
                    f"ldu.global{form}", (f"ldu.global{form}",), uniform, data, np.tile(data[: size * count], 32)
                )
    for scalar, expected in (("u8", 0x81), ("s8", 0xFFFF_FF81), ("u16", 0x9281), ("s16", 0xFFFF_9281)):
        yield moved(
            f"ld.global.{scalar} extends",
            (f"ld.global.{scalar}",),
            f"ld.global.{scalar} %r0, [%in]; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r0;",
            np.array([0x81, 0x92, 0, 0], np.uint8),
            np.full(32, expected, np.uint32),
        )


def spaces_and_hints() -> Iterator[Case]:
    data = words(32)[:32]
    for given in LOAD_WORDS:
        yield moved(
            f"ld.{given}.b32",
            (f"ld.{given}.b32",),
            f"{each(4)} ld.{given}.b32 %r0, [%in]; st.global.b32 [%out], %r0;",
            data,
            data,
        )
    for given in STORE_WORDS:
        yield moved(
            f"st.{given}.b32",
            (f"st.{given}.b32",),
            f"{each(4)} ld.global.b32 %r0, [%in]; st.{given}.b32 [%out], %r0;",
            data,
            data,
        )
    for policy in ("L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"):
        for second in ("", ".L2::evict_unchanged", ".L2::evict_first"):
            if second and policy in ("L2::evict_unchanged", second[1:]):
                continue
            create = f"createpolicy.fractional.{policy}{second}.b64"
            body = f"""{each(4)} {create} %x0, 1.0; ld.global.L2::cache_hint.b32 %r0, [%in], %x0;
                st.global.L2::cache_hint.b32 [%out], %r0, %x0;"""
            yield moved(
                create, (create, "ld.global.L2::cache_hint.b32", "st.global.L2::cache_hint.b32"), body, data, data
            )
    for hint in (
        "prefetch.global.L1",
        "prefetch.global.L2",
        "prefetch.global.L2::evict_last",
        "prefetch.global.L2::evict_normal",
        "prefetch.L1",
        "prefetch.L2",
        "prefetchu.L1",
    ):
        yield moved(
            hint, (hint,), f"{each(4)} {hint} [%in]; ld.global.b32 %r0, [%in]; st.global.b32 [%out], %r0;", data, data
        )
    opcode = "applypriority.global.L2::evict_normal"
    yield moved(
        opcode,
        (opcode,),
        f"{opcode} [%in], 128; {each(4)} ld.global.b32 %r0, [%in]; st.global.b32 [%out], %r0;",
        data,
        data,
    )
    local = ".local .align 16 .b8 mine[16];"
    body = f"""{local} {each(4)} ld.global.b32 %r0, [%in]; st.local.b32 [mine+4], %r0; mov.u64 %x0, mine;
        cvta.local.u64 %x1, %x0; ld.b32 %r1, [%x1+4]; cvta.to.local.u64 %x2, %x1; ld.local.b32 %r2, [%x2+4];
        sub.u32 %r2, %r2, %r0; add.u32 %r1, %r1, %r2; isspacep.local %p, %x1; selp.u32 %r3, 0, 77, %p;
        add.u32 %r1, %r1, %r3; st.global.b32 [%out], %r1;"""
    yield moved(
        "local memory",
        ("st.local.b32", "ld.local.b32", "cvta.local.u64", "cvta.to.local.u64", "ld.b32", "isspacep.local"),
        body,
        data,
        data,
    )
    for space in ("shared", "shared::cta", "shared::cluster"):
        to_shared = f"cvta.to.{space}.u64"
        body = f"""{each(4)} ld.global.b32 %r0, [%in]; mov.u64 %x0, buffer; mad.wide.u32 %x0, %t, 4, %x0;
            cvta.{space}.u64 %x1, %x0; st.b32 [%x1], %r0; {to_shared} %x2, %x1; ld.{space}.b32 %r1, [%x2];
            isspacep.{space} %p, %x1; isspacep.global %q, %x1; selp.u32 %r2, 0, 5, %p; selp.u32 %r3, 7, 0, %q;
            add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; st.global.b32 [%out], %r1;"""
        yield moved(
            f"generic addresses of {space}",
            (f"cvta.{space}.u64", to_shared, f"isspacep.{space}", "st.b32", f"ld.{space}.b32", "isspacep.global"),
            body,
            data,
            data,
            module=SHARED,
        )
    body = """cvta.global.u64 %x0, %in; cvta.to.global.u64 %x1, %x0; mad.wide.u32 %x1, %t, 4, %x1;
        mad.wide.u32 %out, %t, 4, %out; ld.global.b32 %r0, [%x1]; st.global.b32 [%out], %r0;"""
    yield moved("generic addresses of global", ("cvta.global.u64", "cvta.to.global.u64"), body, data, data)
    body = """and.b32 %r0, %t, 3; mov.u64 %a, table; mad.wide.u32 %a, %r0, 4, %a; ld.const.b32 %r1, [%a];
        cvta.const.u64 %x0, %a; cvta.to.const.u64 %x1, %x0; ld.const.b32 %r2, [%x1]; sub.u32 %r2, %r2, %r1;
        add.u32 %r1, %r1, %r2; mad.wide.u32 %out, %t, 4, %out; st.global.b32 [%out], %r1;"""
    yield moved(
        "constant memory",
        ("ld.const.b32", "cvta.const.u64", "cvta.to.const.u64"),
        body,
        data,
        np.tile(np.array([11, 22, 33, 44], np.uint32), 8),
        module=".const .align 16 .b32 table[4] = {11, 22, 33, 44};",
    )
    for kind, letter in (("u32", "r"), ("u64", "x")):
        source = "mov.u32 %r1, buffer;" if kind == "u32" else "mov.u64 %x1, buffer;"
        body = f"""{source} mapa.shared::cluster.{kind} %{letter}2, %{letter}1, 0;
            getctarank.shared::cluster.{kind} %r4, %{letter}2; {each(4)} ld.global.b32 %r0, [%in];
            add.u32 %r0, %r0, %r4; st.global.b32 [%out], %r0;"""
        yield moved(
            f"mapa.shared::cluster.{kind}",
            (f"mapa.shared::cluster.{kind}", f"getctarank.shared::cluster.{kind}"),
            body,
            data,
            data,
            module=SHARED,
        )


# Atomics ------------------------------------------------------------------------------------------------------------

UPDATES: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda old, x, bits: old + x,
    "min.u": lambda old, x, bits: min(old, x),
    "max.u": lambda old, x, bits: max(old, x),
    "min.s": lambda old, x, bits: min(old, x, key=lambda v: signed(v, bits)),
    "max.s": lambda old, x, bits: max(old, x, key=lambda v: signed(v, bits)),
    "and": lambda old, x, bits: old & x,
    "or": lambda old, x, bits: old | x,
    "xor": lambda old, x, bits: old ^ x,
    "exch": lambda old, x, bits: x,
    "inc": lambda old, x, bits: 0 if old >= x else old + 1,
    "dec": lambda old, x, bits: x if old == 0 or old > x else old - 1,
}
INTEGER_FORMS = (
    *((f"add.{t}", "add") for t in ("u32", "s32", "u64")),
    ("min.u32", "min.u"),
    ("max.u32", "max.u"),
    ("min.s32", "min.s"),
    ("max.s32", "max.s"),
    ("min.u64", "min.u"),
    ("max.u64", "max.u"),
    ("min.s64", "min.s"),
    ("max.s64", "max.s"),
    ("and.b32", "and"),
    ("or.b32", "or"),
    ("xor.b32", "xor"),
    ("and.b64", "and"),
    ("or.b64", "or"),
    ("xor.b64", "xor"),
    ("exch.b32", "exch"),
    ("exch.b64", "exch"),
    ("inc.u32", "inc"),
    ("dec.u32", "dec"),
)
ORDERS = (
    "relaxed.cta",
    "relaxed.gpu",
    "relaxed.sys",
    "acquire.gpu",
    "release.gpu",
    "acq_rel.gpu",
    "acq_rel.sys",
    "relaxed.cluster",
)


def atomics() -> Iterator[Case]:
    """One thread per cell, so that the value found is known; sums of several threads where order does not matter."""
    for form, name in INTEGER_FORMS:
        yield from one_atomic(form, lambda old, x, b, f=UPDATES[name]: f(old, x, b))
    for order in ORDERS:
        yield from one_atomic("add.u32", UPDATES["add"], words_=f"{order}.global")
    yield from one_atomic("add.u32", UPDATES["add"], words_="global.L2::cache_hint")
    for scalar, noftz in (
        ("f32", ""),
        ("f64", ""),
        ("f16", ".noftz"),
        ("bf16", ".noftz"),
        ("f16x2", ".noftz"),
        ("bf16x2", ".noftz"),
    ):
        form = FORMATS[scalar.removesuffix("x2")]
        yield from one_atomic(f"add{noftz}.{scalar}", float_sum(scalar, form.name))
    for bits in (16, 32, 64):
        values = words(bits)[:32]
        old = np.where(np.arange(32) % 2 == 0, values, values + np.uint64(1).astype(values.dtype))
        letter, size = SIZES[str(bits)], bits // 8
        # The new value is the old one with all bits turned.
        body = f"""mad.wide.u32 %in, %t, {size}, %in; mad.wide.u32 %out, %t, {size}, %out;
            ld.global.b{bits} %{letter}0, [%in];
            not.b{bits} %{letter}2, %{letter}0; atom.global.cas.b{bits} %{letter}1, [%out], %{letter}0, %{letter}2;
            st.global.b{bits} [%in], %{letter}1;"""
        expected = np.where(old == values, ~values, old)
        yield moved(f"atom.global.cas.b{bits}", (f"atom.global.cas.b{bits}",), body, values, expected, start=old)
    # Many threads on one cell: sums of small numbers are exact in any order.
    values = (np.arange(32) % 8).astype(np.uint32)
    for space, target in (("global", "%out"), ("shared", "%a")):
        before = "mov.u64 %a, buffer; setp.eq.u32 %p, %t, 0; @%p st.shared.b32 [%a], 0; bar.sync 0;"
        after = "bar.sync 0; @%p ld.shared.b32 %r1, [%a]; @%p st.global.b32 [%out], %r1;"
        for head in ("red", "atom"):
            result = "%r1, " if head == "atom" else ""
            body = f"""mad.wide.u32 %in, %t, 4, %in; ld.global.b32 %r0, [%in]; {before if space == "shared" else ""}
                {head}.{space}.add.u32 {result}[{target}], %r0; {after if space == "shared" else ""}"""
            yield moved(
                f"{head}.{space}.add.u32 of many",
                (f"{head}.{space}.add.u32",),
                body,
                values,
                np.array([values.sum()], np.uint32),
                module=SHARED,
                start=np.zeros(1, np.uint32),
            )
    for vector, count, scalar, noftz in (
        ("v2", 2, "f32", ""),
        ("v4", 4, "f32", ""),
        ("v4", 4, "bf16x2", ".noftz"),
        ("v8", 8, "f16", ".noftz"),
        ("v2", 2, "f16", ".noftz"),
        ("v8", 8, "bf16", ".noftz"),
    ):
        form = FORMATS[scalar.removesuffix("x2")]
        bits = form.width * (2 if scalar.endswith("x2") else 1)
        given, old = (small_sums(form, 32 * count * bits // form.width, seed) for seed in (1, 2))
        registers = register_list(f"b{bits}", count)
        loads = "".join(f"ld.global.b{bits} %{SIZES[str(bits)]}{i}, [%in+{i * bits // 8}];" for i in range(count))
        opcode = f"red.global.add{noftz}.{vector}.{scalar}"
        expected = np.array(
            [form.encode(add(form.decode(int(x)), form.decode(int(y)))) for x, y in zip(old, given, strict=True)],
            given.dtype,
        )
        yield moved(
            opcode,
            (opcode,),
            f"{each(count * bits // 8)} {loads} {opcode} [%out], {registers};",
            given,
            expected,
            start=old,
        )


def small_sums(form: object, count: int, seed: int) -> Array:
    return np.resize(
        np.array(
            [
                x
                for x in patterns(form, 60, seed)
                if not form.decode(int(x)).nan  # type: ignore[arg-type, attr-defined]
                and not form.decode(int(x)).infinite
            ]
        ),
        count,
    )  # type: ignore[attr-defined]


def float_sum(scalar: str, name: str) -> Callable[[int, int, int], int]:
    form = FORMATS[name]

    def one(old: int, x: int) -> int:
        # A float atomic on global memory flushes f32 subnormals; the cases avoid them.
        return form.encode(add(form.decode(old), form.decode(x)))

    def run(old: int, x: int, bits: int) -> int:
        if not scalar.endswith("x2"):
            return one(old, x)
        return one(old & 0xFFFF, x & 0xFFFF) | one(old >> 16, x >> 16) << 16

    return run


def one_atomic(form: str, update: Callable[[int, int, int], int], words_: str = "global") -> Iterator[Case]:
    scalar = form.split(".")[-1]
    name = scalar.removesuffix("x2")
    bits = int(name.lstrip("usbf")) * (2 if scalar.endswith("x2") else 1)
    if name in FORMATS:
        element = FORMATS[name]
        values, old = (
            np.array(
                [x for x in small_sums(element, 64, seed) if name != "f32" or element.flush(int(x)) == int(x)],
                f"u{element.width // 8}",
            )
            for seed in (1, 2)
        )
        values, old = (np.resize(array, 64) for array in (values, old))
        if scalar.endswith("x2"):
            values, old = values.view(np.uint32), old.view(np.uint32)
        values, old = values[:32], old[:32]
    else:
        values, old = words(bits, 1)[:32], words(bits, 2)[::-1][:32]
    size, letter = bits // 8, SIZES[str(bits)]
    hint = "createpolicy.fractional.L2::evict_last.b64 %x8, 1.0;" if "cache_hint" in words_ else ""
    policy = ", %x8" if hint else ""
    # cache_hint follows the operation.
    space, _, rest = words_.partition(".L2::")
    opcode = f"{space}.{form.rpartition('.')[0]}{'.L2::' + rest if rest else ''}.{scalar}"
    new = np.array([update(int(x), int(y), bits) % (1 << bits) for x, y in zip(old, values, strict=True)], values.dtype)
    start = f"mad.wide.u32 %in, %t, {size}, %in; mad.wide.u32 %x0, %t, {size}, %out;"
    start += f"ld.global.b{bits} %{letter}1, [%in]; {hint}"
    if "exch" not in form and "acq" not in words_:
        yield moved(
            f"red.{opcode}",
            (f"red.{opcode}",),
            f"{start} red.{opcode} [%x0], %{letter}1{policy};",
            values,
            new,
            start=old,
        )
    both = np.concatenate([new, old])
    yield moved(
        f"atom.{opcode}",
        (f"atom.{opcode}",),
        f"{start} atom.{opcode} %{letter}2, [%x0], %{letter}1{policy}; "
        f"st.global.b{bits} [%x0+{32 * size}], %{letter}2;",
        values,
        both,
        start=np.concatenate([old, old]),
    )


# Copies and matrices ------------------------------------------------------------------------------------------------


def copies() -> Iterator[Case]:
    for cache in ("ca", "cg"):
        for space in ("shared", "shared::cta"):
            for hint in ("", ".L2::64B", ".L2::128B", ".L2::256B", ".L2::cache_hint"):
                for size in (4, 8, 16) if cache == "ca" else (16,):
                    if hint and size != 16:
                        continue
                    yield from copied(f"cp.async.{cache}.{space}.global{hint}", size)


def copied(opcode: str, size: int) -> Iterator[Case]:
    data = random_bytes(32 * size)
    policy = "createpolicy.fractional.L2::evict_first.b64 %x8, 1.0;" if "cache_hint" in opcode else ""
    hint = ", %x8" if policy else ""
    start = f"""{policy} mov.u32 %row, buffer; mad.lo.u32 %row, %t, {size}, %row; {each(size)}"""
    back = "".join(f"ld.shared.b32 %r0, [%row+{i}]; st.global.b32 [%out+{i}], %r0;" for i in range(0, size, 4))
    for wait in ("cp.async.commit_group; cp.async.wait_group 0;", "cp.async.wait_all;"):
        yield moved(
            f"{opcode} {size}, {wait}",
            (opcode, *(w.split()[0] for w in wait.split(";") if w)),
            f"{start} {opcode} [%row], [%in], {size}{hint}; {wait} {back}",
            data,
            data,
            module=SHARED,
        )
    wanted = np.arange(32) % (size + 1)
    kept = data.reshape(32, size) * (np.arange(size)[None] < wanted[:, None])
    yield moved(
        f"{opcode} {size}, fewer",
        (opcode,),
        f"{start} rem.u32 %r1, %t, {size + 1}; {opcode} [%row], [%in], {size}, %r1{hint}; cp.async.wait_all; {back}",
        data,
        kept.astype(np.uint8),
        module=SHARED,
    )


def matrices() -> Iterator[Case]:
    for count in (1, 2, 4):
        for turned in ("", ".trans"):
            for space in ("shared", "shared::cta"):
                elements = rng.integers(0, 1 << 16, (count, 8, 8)).astype(np.uint16)
                pairs = np.empty((32, count, 2), np.uint16)
                for lane in range(32):
                    for m in range(count):
                        for e in range(2):
                            row, column = lane // 4, 2 * (lane % 4) + e
                            pairs[lane, m, e] = elements[m, column, row] if turned else elements[m, row, column]
                form = f"m8n8.x{count}{turned}.{space}.b16"
                yield loaded(f"ldmatrix.sync.aligned.{form}", count, 8 * count, elements, pairs)
                yield stored(f"stmatrix.sync.aligned.{form}", count, 8 * count, pairs, elements)
    for count in (1, 2):
        elements = random_bytes(count * 256).reshape(count, 16, 16)
        spread = np.empty((32, count, 2, 4), np.uint8)
        for lane in range(32):
            for m in range(count):
                for r in range(2):
                    for e in range(4):
                        spread[lane, m, r, e] = elements[m, 4 * (lane % 4) + 2 * r + e % 2, lane // 4 + 8 * (e // 2)]
        yield loaded(f"ldmatrix.sync.aligned.m16n16.x{count}.trans.shared.b8", 2 * count, 16 * count, elements, spread)
    for count in (1, 2, 4):
        elements = random_bytes(count * 128).reshape(count, 8, 16)
        spread = np.empty((32, count, 4), np.uint8)
        for lane in range(32):
            for m in range(count):
                for e in range(4):
                    spread[lane, m, e] = elements[m, 2 * (lane % 4) + e % 2, lane // 4 + 8 * (e // 2)]
        yield stored(f"stmatrix.sync.aligned.m16n8.x{count}.trans.shared.b8", count, 8 * count, spread, elements)
    elements = rng.integers(0, 1 << 16, (8, 8)).astype(np.uint16)
    opcode = "movmatrix.sync.aligned.m8n8.trans.b16"
    yield moved(
        opcode,
        (opcode,),
        f"{each(4)} ld.global.b32 %r0, [%in]; {opcode} %r1, %r0; st.global.b32 [%out], %r1;",
        elements,
        np.ascontiguousarray(elements.T),
    )


ROW = "mov.u32 %row, buffer; mad.lo.u32 %row, %t, 16, %row;"
PIECE = "{%r5, %r6, %r7, %r8}"


def loaded(opcode: str, count: int, rows: int, given: Array, expected: Array) -> Case:
    body = f"""{ROW} setp.lt.u32 %p, %t, {rows}; mad.wide.u32 %in, %t, 16, %in;
        mad.wide.u32 %out, %t, {4 * count}, %out;
        @%p ld.global.v4.b32 {PIECE}, [%in]; @%p st.shared.v4.b32 [%row], {PIECE}; bar.sync 0;
        {opcode} {vector(count)}, [%row];"""
    body += "".join(f"st.global.b32 [%out+{4 * i}], %r{i};" for i in range(count))
    return moved(opcode, (opcode,), body, given, expected, module=SHARED)


def stored(opcode: str, count: int, rows: int, given: Array, expected: Array) -> Case:
    loads = "".join(f"ld.global.b32 %r{i}, [%in+{4 * i}];" for i in range(count))
    body = f"""{ROW} setp.lt.u32 %p, %t, {rows}; mad.wide.u32 %in, %t, {4 * count}, %in;
        mad.wide.u32 %out, %t, 16, %out;
        {loads} {opcode} [%row], {vector(count)}; bar.sync 0;
        @%p ld.shared.v4.b32 {PIECE}, [%row]; @%p st.global.v4.b32 [%out], {PIECE};"""
    return moved(opcode, (opcode,), body, given, expected, module=SHARED)


def vector(count: int) -> str:
    return "{" + ", ".join(f"%r{i}" for i in range(count)) + "}"
