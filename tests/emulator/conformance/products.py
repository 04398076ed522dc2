"""Matrix products: mma.sync in all types, and wgmma with every swizzle; small numbers, so that any order is exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output
from tests.emulator.conformance.formats import FORMATS

rng = np.random.default_rng(29)
ACCUMULATORS = {"f32": np.float32, "f16": np.float16, "s32": np.int32, "f64": np.float64}


def elements(kind: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Random elements: their storage, and their values, small enough for exact sums in f16."""
    if kind in ("s8", "u8"):
        data = rng.integers(-128 if kind == "s8" else 0, 128 if kind == "s8" else 256, shape)
        return data.astype("i1" if kind == "s8" else "u1"), data.astype(np.float64)
    values = rng.integers(-4, 5, shape) / 2.0
    if kind == "f64":
        return values, values
    form = FORMATS[kind]
    table = {v: encoded(form.name, v) for v in np.unique(values).tolist()}
    bits = np.vectorize(table.__getitem__, otypes=[np.uint32])(values)
    if kind == "tf32":
        # The hardware reads only the upper 19 bits.
        bits = bits | rng.integers(0, 0x1000, shape).astype(np.uint32)
    return bits.astype(f"u{max(form.width // 8, 1)}"), values


def encoded(name: str, value: float) -> int:
    from fractions import Fraction

    from tests.emulator.conformance.formats import number

    return FORMATS[name].encode(number(Fraction(value)))


def fragment_a(data: Array) -> Array:
    """[lanes, registers] of an A operand, from the manual's tables."""
    rows, columns = data.shape
    each = max(4 // data.itemsize, 1)
    high = rows // 8
    count = rows * columns // 32 // each
    result = np.empty((32, count, each), data.dtype)
    for lane in range(32):
        for r in range(count):
            for e in range(each):
                row, column = lane // 4 + 8 * (r % high), (lane % 4) * each + e + 4 * each * (r // high)
                result[lane, r, e] = data[row, column]
    return result.reshape(32, -1)


def fragment_b(data: Array) -> Array:
    """[lanes, registers] of a B operand ([K, 8])."""
    depth = data.shape[0]
    each = max(4 // data.itemsize, 1)
    count = depth * 8 // 32 // each
    result = np.empty((32, count, each), data.dtype)
    for lane in range(32):
        for r in range(count):
            for e in range(each):
                result[lane, r, e] = data[(lane % 4) * each + e + 4 * each * r, lane // 4]
    return result.reshape(32, -1)


def fragment_c(data: Array) -> Array:
    """[lanes, elements] of an accumulator ([M, 8])."""
    count = data.shape[0] * 8 // 32
    result = np.empty((32, count), data.dtype)
    for lane in range(32):
        for j in range(count):
            result[lane, j] = data[lane // 4 + 8 * (j // 2), 2 * (lane % 4) + j % 2]
    return result


FORMS = (
    *((shape, "f16", "f16", acc) for shape in ("m16n8k8", "m16n8k16") for acc in ("f32", "f16")),
    *((shape, "bf16", "bf16", "f32") for shape in ("m16n8k8", "m16n8k16")),
    *((shape, "tf32", "tf32", "f32") for shape in ("m16n8k4", "m16n8k8")),
    *((shape, a, b, "s32") for shape in ("m16n8k16", "m16n8k32") for a in ("s8", "u8") for b in ("s8", "u8")),
    *(
        (shape, a, b, acc)
        for shape in ("m16n8k16", "m16n8k32")
        for a in ("e4m3", "e5m2")
        for b in ("e4m3", "e5m2")
        for acc in ("f32", "f16")
    ),
    *((shape, "f64", "f64", "f64") for shape in ("m8n8k4", "m16n8k4", "m16n8k8", "m16n8k16")),
)


def cases() -> Iterator[Case]:
    for shape, a, b, accumulator in FORMS:
        yield product(shape, a, b, accumulator, "")
        if accumulator == "s32":
            yield product(shape, a, b, accumulator, ".satfinite")
        if accumulator == "f64":
            yield product(shape, a, b, accumulator, ".rn")
    yield from wgmma_cases()


def product(shape: str, a_type: str, b_type: str, accumulator: str, flag: str) -> Case:
    rows, depth = int(shape[1:].split("n")[0]), int(shape.split("k")[1])
    a, a_values = elements(a_type, (rows, depth))
    b, b_values = elements(b_type, (depth, 8))
    dtype = ACCUMULATORS[accumulator]
    c = rng.integers(-50, 50, (rows, 8)).astype(dtype)
    if accumulator == "s32":
        # Half of the sums leave the range: they wrap, or stay at its end.
        c[::2] = np.where(rng.integers(0, 2, c[::2].shape) == 1, 2**31 - 10, -(2**31) + 10)
    exact = a_values @ b_values + c.astype(np.float64)
    if accumulator == "s32":
        whole = np.clip(exact, -(2**31), 2**31 - 1) if flag else (exact + 2**31) % 2**32 - 2**31
        expected = whole.astype(np.int64).astype(np.int32)
    else:
        expected = exact.astype(dtype)
        assert (expected == exact).all()
    opcode = f"mma.sync.aligned.{shape}.row.col{flag}.{accumulator}.{a_type}.{b_type}.{accumulator}"
    width = 64 if accumulator == "f64" else 32
    given = {"a": fragment_a(a), "b": fragment_b(b), "c": fragment_c(c)}
    counts = {name: fragment.nbytes // 32 // (width // 8) for name, fragment in given.items()}
    counts["d"] = counts["c"]
    lists = {name: [f"%{name}{i}" for i in range(count)] for name, count in counts.items()}
    body = ["mov.u32 %t, %tid.x;"]
    for name in "abc":
        body.append(place(name, counts[name] * width // 8))
        body += [f"ld.global.b{width} {r}, [%p+{i * width // 8}];" for i, r in enumerate(lists[name])]
    operands = ", ".join("{" + ", ".join(lists[name]) + "}" for name in "dabc")
    body += [f"{opcode} {operands};", place("d", counts["d"] * width // 8)]
    body += [f"st.global.b{width} [%p+{i * width // 8}], {r};" for i, r in enumerate(lists["d"])]
    registers = f".reg .b{width} " + ", ".join(r for names in lists.values() for r in names) + ";"
    fragments = {name: np.ascontiguousarray(array).reshape(-1) for name, array in given.items()}
    return Case(
        opcode,
        (opcode,),
        "\n".join(body),
        fragments,
        {"d": Output(fragments["c"].dtype.str[1:], c.size)},
        lambda: {"d": fragment_c(expected).reshape(-1)},
        32,
        declarations=f".reg .b32 %t; .reg .b64 %p; {registers}",
    )


def place(name: str, size: int) -> str:
    return f"ld.param.u64 %p, [{name}]; mad.wide.u32 %p, %t, {size}, %p;"


# wgmma --------------------------------------------------------------------------------------------------------------

TYPES = {"f16": 2, "bf16": 2, "tf32": 4, "e4m3": 1, "e5m2": 1, "s8": 1, "u8": 1}


def wgmma_cases() -> Iterator[Case]:
    for columns in range(8, 257, 8):
        yield group_product(columns, "f16", "f16", "f32", "")
    for a, b, accumulator, flag in (
        ("f16", "f16", "f16", ""),
        ("bf16", "bf16", "f32", ""),
        ("tf32", "tf32", "f32", ""),
        *((x, y, acc, "") for x in ("e4m3", "e5m2") for y in ("e4m3", "e5m2") for acc in ("f32", "f16")),
        *((x, y, "s32", flag) for x in ("s8", "u8") for y in ("s8", "u8") for flag in ("", ".satfinite")),
    ):
        for columns in (8, 64, 192):
            yield group_product(columns, a, b, accumulator, flag)
    for kind in ("f16", "tf32", "e4m3", "s8"):
        accumulator = "s32" if kind == "s8" else "f32"
        for swizzle in (32, 64, 128):
            yield group_product(32, kind, kind, accumulator, "", swizzle=swizzle)
            yield group_product(32, kind, kind, accumulator, "", swizzle=swizzle, from_registers=True)
    for signs in ((-1, 1), (1, -1), (-1, -1)):
        yield group_product(16, "f16", "f16", "f32", "", signs=signs)
    yield group_product(16, "f16", "f16", "f32", "", turned=True)
    yield group_product(16, "bf16", "bf16", "f32", "", turned=True)


def image(data: Array, swizzle: int, turned: bool) -> Array:
    """The bytes of a K-major operand in shared memory: whole rows of the swizzle, or 8 x 16-byte cores without."""
    octets = np.ascontiguousarray(data).view(np.uint8).reshape(len(data), -1)
    if not swizzle:
        cores = octets.reshape(-1, 8, 2, 16)
        if turned:
            pairs = np.ascontiguousarray(cores).view(np.uint16)
            cores = np.ascontiguousarray(pairs.transpose(0, 3, 2, 1)).view(np.uint8)
        return np.ascontiguousarray(cores.transpose(2, 0, 1, 3)).reshape(-1)
    pieces = octets.reshape(len(data), swizzle // 16, 16)
    result = np.empty_like(pieces)
    for row in range(len(data)):
        for piece in range(swizzle // 16):
            result[row, piece ^ (row * swizzle // 128 % (swizzle // 16))] = pieces[row, piece]
    return result.reshape(-1)


def group_product(
    columns: int,
    a_type: str,
    b_type: str,
    accumulator: str,
    flag: str,
    *,
    swizzle: int = 0,
    from_registers: bool = False,
    signs: tuple[int, int] = (1, 1),
    turned: bool = False,
) -> Case:
    """D = 7 + A B of 64 x K by K x N, in steps of 32 bytes along K."""
    size = TYPES[a_type]
    steps = max(swizzle // 32, 1)
    depth, total = 32 // size, steps * 32 // size
    a, a_values = elements(a_type, (64, total))
    b, b_values = elements(b_type, (columns, total))
    opcode = f"wgmma.mma_async.sync.aligned.m64n{columns}k{depth}{flag}.{accumulator}.{a_type}.{b_type}"
    exact = 7 + signs[0] * signs[1] * a_values @ b_values.T
    packed = accumulator == "f16"
    count = columns // (4 if packed else 2)
    a_image, b_image = image(a, swizzle, turned), image(b, swizzle, turned)
    b_at = -(-len(a_image) // 1024) * 1024
    whole = np.zeros(b_at + -(-len(b_image) // 2048) * 2048, np.uint8)
    whole[: len(a_image)], whole[b_at : b_at + len(b_image)] = a_image, b_image
    data = {"in": whole}
    seven = {"f32": "0f40E00000", "s32": "7", "f16": "0x47004700"}[accumulator]
    given = "{" + ", ".join(f"%d{i}" for i in range(count)) + "}"
    body = ["mov.u32 %t, %tid.x; ld.param.u64 %in, [in]; mov.u32 %s, buffer;"]
    for start in range(0, len(whole), 2048):
        body.append(
            f"mad.wide.u32 %x, %t, 16, %in; mad.lo.u32 %i, %t, 16, %s; ld.global.v4.b32 {{%r0, %r1, %r2, %r3}},"
            f" [%x+{start}]; st.shared.v4.b32 [%i+{start}], {{%r0, %r1, %r2, %r3}};"
        )
    body.append("fence.proxy.async.shared::cta; bar.sync 0;")
    body += [f"mov.b32 %d{i}, {seven};" for i in range(count)]
    if from_registers:
        fragments = (
            np.stack(
                [
                    fragment_a(part)
                    for warp in range(4)
                    for part in np.split(a[16 * warp : 16 * warp + 16], steps, axis=1)
                ]
            )
            .reshape(4, steps, 32, -1)
            .transpose(0, 2, 1, 3)
        )
        data["a"] = np.ascontiguousarray(fragments).view(np.uint32).reshape(-1)
        body.append(f"ld.param.u64 %x, [a]; mad.wide.u32 %x, %t, {16 * steps}, %x;")
        body += [f"ld.global.b32 %a{i}, [%x+{4 * i}];" for i in range(4 * steps)]
    body.append("wgmma.fence.sync.aligned;")
    for step in range(steps):
        body += [descriptor("%da", 32 * step, swizzle, 64), descriptor("%db", b_at + 32 * step, swizzle, columns)]
        first = "{" + ", ".join(f"%a{4 * step + i}" for i in range(4)) + "}" if from_registers else "%da"
        scales = "" if accumulator == "s32" else f", {signs[0]}, {signs[1]}"
        if size == 2:
            scales += f", {int(turned)}" * (1 if from_registers else 2)
        body.append(f"{opcode} {given}, {first}, %db, 1{scales};")
    body += [
        "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
        "ld.param.u64 %x, [out];",
        f"mad.wide.u32 %x, %t, {4 * count}, %x;",
        *(f"st.global.b32 [%x+{4 * i}], %d{i};" for i in range(count)),
    ]

    def expect() -> dict[str, Array]:
        # [warp, half of rows, group, block of columns, place, pair] -> [thread, block, half, pair]
        parts = exact.reshape(4, 2, 8, columns // 8, 4, 2).transpose(0, 2, 4, 3, 1, 5)
        typed = np.ascontiguousarray(parts).astype(ACCUMULATORS[accumulator])
        assert (typed == parts).all()
        return {"out": typed.reshape(-1).view(np.uint32)}

    name = opcode + "".join(
        text
        for text, on in (
            (f" swizzle {swizzle}", swizzle),
            (" A in registers", from_registers),
            (f" signs {signs}", signs != (1, 1)),
            (" turned", turned),
        )
        if on
    )
    orders = (
        "wgmma.fence.sync.aligned",
        "wgmma.commit_group.sync.aligned",
        "wgmma.wait_group.sync.aligned",
        "fence.proxy.async.shared::cta",
    )
    return Case(
        name,
        (opcode, *orders),
        "\n".join(body),
        data,
        {"out": Output("u4", 128 * count)},
        expect,
        128,
        declarations=f".reg .b32 %t, %s, %i, %r<4>, %a<{4 * steps}>, %d<{count}>; .reg .b64 %in, %x, %da, %db;",
        module=f".shared .align 1024 .b8 buffer[{len(whole)}];",
    )


def descriptor(register: str, offset: int, swizzle: int, rows: int) -> str:
    """Bits 0-13 address, 16-29 leading and 32-45 stride offset, all in 16 bytes; bits 62-63 the swizzle."""
    leading, stride = (16, 8 * swizzle) if swizzle else (rows * 16, 128)
    bits = (leading >> 4) << 16 | (stride >> 4) << 32 | {0: 0, 128: 1, 64: 2, 32: 3}[swizzle] << 62
    signed = bits - (1 << 64) if bits >> 63 else bits
    return (
        f"add.u32 %i, %s, {offset}; shr.u32 %i, %i, 4; cvt.u64.u32 {register}, %i;"
        f"or.b64 {register}, {register}, {signed};"
    )
