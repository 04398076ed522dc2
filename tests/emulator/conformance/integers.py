"""Integer arithmetic and bit operations, in Python integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output, combinations, lanes

INTEGERS = ("u16", "s16", "u32", "s32", "u64", "s64")


def width(scalar: str) -> int:
    return int(scalar.lstrip("usbf").removesuffix("x2"))


def words(bits: int, seed: int = 1, *, limit: int = 0) -> Array:
    """Corner values, and random ones of every length; `limit` bounds them (shift amounts and the like)."""
    rng = np.random.default_rng(seed + bits)
    dtype = np.dtype(f"u{bits // 8}")
    if limit:
        return rng.integers(0, limit, 64).astype(dtype)
    values = rng.integers(0, (1 << bits) - 1, 50, dtype=dtype, endpoint=True) >> rng.integers(0, bits, 50).astype(dtype)
    top = 1 << bits - 1
    corners = [0, 1, 2, 3, (1 << bits) - 1, (1 << bits) - 2, top, top - 1, top + 1, (1 << bits // 2) - 1]
    return np.concatenate([np.array(corners, dtype), values])


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def read(scalar: str) -> Callable[[int], int]:
    """A pattern as a value of the type."""
    bits = width(scalar)
    return (lambda value: signed(value, bits)) if scalar[0] == "s" else (lambda value: value)


def out(bits: int) -> Output:
    return Output(f"u{bits // 8}", 0)


def typed(opcode: str, scalar: str, count: int, function: Callable[..., int], result: int = 0, **more: object) -> Case:
    """`count` operands of one type, read as its values."""
    bits, value = width(scalar), read(scalar)
    arrays = combinations(*[words(bits, i) for i in range(count)])
    return lanes(opcode, arrays, out(result or bits), lambda *row: function(*map(value, row)), **more)  # type: ignore[arg-type]


def cases() -> Iterator[Case]:
    yield from arithmetic()
    yield from packed()
    yield from extended()
    yield from moves()
    yield from bits_of_words()


def quotient(a: int, b: int) -> int:
    """Truncated; a division by zero gives all ones, as GPUs do."""
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def arithmetic() -> Iterator[Case]:
    for scalar in INTEGERS:
        bits = width(scalar)
        yield typed(f"add.{scalar}", scalar, 2, lambda a, b: a + b)
        yield typed(f"sub.{scalar}", scalar, 2, lambda a, b: a - b)
        yield typed(f"mul.lo.{scalar}", scalar, 2, lambda a, b: a * b)
        yield typed(f"mul.hi.{scalar}", scalar, 2, lambda a, b, n=bits: a * b >> n)
        yield typed(f"mad.lo.{scalar}", scalar, 3, lambda a, b, c: a * b + c)
        yield typed(f"mad.hi.{scalar}", scalar, 3, lambda a, b, c, n=bits: (a * b >> n) + c)
        yield typed(f"sad.{scalar}", scalar, 3, lambda a, b, c: abs(a - b) + c)
        yield typed(f"div.{scalar}", scalar, 2, quotient)
        yield typed(f"rem.{scalar}", scalar, 2, lambda a, b: a - quotient(a, b) * b if b else a)
        yield typed(f"min.{scalar}", scalar, 2, min)
        yield typed(f"max.{scalar}", scalar, 2, max)
        if scalar[0] == "s":
            yield typed(f"abs.{scalar}", scalar, 1, abs)
            yield typed(f"neg.{scalar}", scalar, 1, lambda a: -a)
    for scalar in ("u16", "s16", "u32", "s32"):
        bits, value = width(scalar), read(scalar)
        yield typed(f"mul.wide.{scalar}", scalar, 2, lambda a, b: a * b, 2 * bits)
        arrays = combinations(words(bits), words(bits, 2), words(2 * bits))
        yield lanes(f"mad.wide.{scalar}", arrays, out(2 * bits), lambda a, b, c, v=value: v(a) * v(b) + c)
    for scalar in ("u32", "s32"):

        def low(value: int, scalar: str = scalar) -> int:
            return signed(value & 0xFF_FFFF, 24) if scalar == "s32" else value & 0xFF_FFFF

        for half, shift in (("lo", 0), ("hi", 16)):
            yield typed(f"mul24.{half}.{scalar}", scalar, 2, lambda a, b, s=shift, low=low: low(a) * low(b) >> s)
            yield typed(
                f"mad24.{half}.{scalar}", scalar, 3, lambda a, b, c, s=shift, low=low: (low(a) * low(b) >> s) + c
            )

    def clamp(value: int) -> int:
        return min(max(value, -(2**31)), 2**31 - 1)

    yield typed("add.sat.s32", "s32", 2, lambda a, b: clamp(a + b))
    yield typed("sub.sat.s32", "s32", 2, lambda a, b: clamp(a - b))
    yield typed("min.relu.s32", "s32", 2, lambda a, b: max(min(a, b), 0))
    yield typed("max.relu.s32", "s32", 2, lambda a, b: max(a, b, 0))
    for first in ("u32", "s32"):
        for second in ("u32", "s32"):
            arrays = combinations(words(32), words(32, 2), words(32, 3))
            yield lanes(
                f"dp4a.{first}.{second}",
                arrays,
                out(32),
                lambda a, b, c, f=first, s=second: c + sum(part(a, i, 8, f) * part(b, i, 8, s) for i in range(4)),
            )
            for half, start in (("lo", 0), ("hi", 2)):
                yield lanes(
                    f"dp2a.{half}.{first}.{second}",
                    arrays,
                    out(32),
                    lambda a, b, c, f=first, s=second, start=start: (
                        c + sum(part(a, i, 16, f) * part(b, start + i, 8, s) for i in range(2))
                    ),
                )


def part(value: int, index: int, bits: int, scalar: str) -> int:
    piece = value >> bits * index & (1 << bits) - 1
    return signed(piece, bits) if scalar[0] == "s" else piece


def halves(function: Callable[[int, int], int], scalar: str) -> Callable[[int, int], int]:
    def run(a: int, b: int) -> int:
        results = [function(part(a, i, 16, scalar), part(b, i, 16, scalar)) % 65536 for i in range(2)]
        return results[0] | results[1] << 16

    return run


def packed() -> Iterator[Case]:
    arrays = combinations(words(32), words(32, 2))
    functions: dict[str, Callable[[int, int], int]] = {"add": lambda a, b: a + b, "min": min, "max": max}
    for scalar in ("u16x2", "s16x2"):
        for name, function in functions.items():
            yield lanes(f"{name}.{scalar}", arrays, out(32), halves(function, scalar))
    yield lanes("min.relu.s16x2", arrays, out(32), halves(lambda a, b: max(min(a, b), 0), "s16x2"))
    yield lanes("max.relu.s16x2", arrays, out(32), halves(lambda a, b: max(a, b, 0), "s16x2"))


def extended() -> Iterator[Case]:
    """Numbers of two words: a carry comes out of the first instruction and goes into the second."""
    for scalar in ("u32", "s32", "u64", "s64"):
        bits, value = width(scalar), read(scalar)
        whole = (1 << 2 * bits) - 1
        arrays = combinations(*[words(bits, i) for i in range(4)])
        pair = {"d": out(bits), "e": out(bits)}

        def split(total: int, bits: int = bits, whole: int = whole) -> tuple[int, int]:
            return total & (1 << bits) - 1, (total & whole) >> bits

        for name, sign in (("add", 1), ("sub", -1)):
            first, middle, last = f"{name}.cc.{scalar}", f"{name}c.cc.{scalar}", f"{name}c.{scalar}"
            yield lanes(
                first,
                arrays,
                pair,
                lambda a, b, c, d, s=sign, n=bits, split=split: split((a | c << n) + s * (b | d << n)),
                body=f"{first} %d, %s0, %s1; {last} %e, %s2, %s3;",
                opcodes=(first, last),
            )
            three = pair | {"f": out(bits)}
            yield lanes(
                middle,
                arrays,
                three,
                lambda a, b, c, d, s=sign, n=bits: tuple(
                    ((a | c << n | a << 2 * n) + s * (b | d << n | b << 2 * n)) >> i * n for i in range(3)
                ),
                body=f"{first} %d, %s0, %s1; {middle} %e, %s2, %s3; {last} %f, %s0, %s1;",
                opcodes=(middle,),
            )
        for half in ("lo", "hi"):
            names = (f"mad.{half}.cc.{scalar}", f"madc.{half}.cc.{scalar}", f"madc.{half}.{scalar}")

            def product(a: int, b: int, half: str = half, bits: int = bits, value: Callable[[int], int] = value) -> int:
                both = value(a) * value(b)
                return (both if half == "lo" else both >> bits) & (1 << bits) - 1

            yield lanes(
                names[0],
                arrays,
                {"d": out(bits), "e": out(bits), "f": out(bits)},
                lambda a, b, c, d, n=bits, p=product: tuple(
                    ((p(a, b) | p(b, c) << n | p(c, d) << 2 * n) + (c | d << n | a << 2 * n)) >> i * n for i in range(3)
                ),
                body=f"{names[0]} %d, %s0, %s1, %s2; {names[1]} %e, %s1, %s2, %s3; {names[2]} %f, %s2, %s3, %s0;",
                opcodes=names,
            )


def moves() -> Iterator[Case]:
    for scalar in ("b16", "b32", "b64", *INTEGERS, "f32", "f64"):
        bits = width(scalar)
        yield lanes(f"mov.{scalar}", [words(bits)], out(bits), lambda a: a)
    yield lanes(
        "mov.pred",
        [words(32)],
        out(32),
        lambda a: a & 1,
        registers=".reg .pred %p, %q; .reg .b32 %x;",
        body="and.b32 %x, %s0, 1; setp.ne.u32 %p, %x, 0; mov.pred %q, %p; selp.b32 %d, 1, 0, %q;",
    )
    yield lanes(
        "mov.b32",
        combinations(words(16), words(16, 2)),
        out(32),
        lambda a, b: a | b << 16,
        body="mov.b32 %d, {%s0, %s1};",
        name="mov.b32 packs",
    )
    yield lanes(
        "mov.b64",
        combinations(words(32), words(32, 2)),
        out(64),
        lambda a, b: a | b << 32,
        body="mov.b64 %d, {%s0, %s1};",
        name="mov.b64 packs",
    )
    yield lanes(
        "mov.b64",
        combinations(*[words(16, i) for i in range(4)]),
        out(64),
        lambda a, b, c, d: a | b << 16 | c << 32 | d << 48,
        body="mov.b64 %d, {%s0, %s1, %s2, %s3};",
        name="mov.b64 packs four",
    )
    yield lanes(
        "mov.b32",
        [words(32)],
        {"d": out(16), "e": out(16)},
        lambda a: (a & 0xFFFF, a >> 16),
        body="mov.b32 {%d, %e}, %s0;",
        name="mov.b32 unpacks",
    )
    yield lanes(
        "mov.b64",
        [words(64)],
        {"d": out(32), "e": out(32)},
        lambda a: (a & 0xFFFF_FFFF, a >> 32),
        body="mov.b64 {%d, %e}, %s0;",
        name="mov.b64 unpacks",
    )


def bits_of_words() -> Iterator[Case]:
    logic: dict[str, Callable[[int, int], int]] = {
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }
    flags = "and.b32 %x, %s0, 1; setp.ne.u32 %p, %x, 0; and.b32 %x, %s1, 1; setp.ne.u32 %q, %x, 0;"
    predicates = ".reg .pred %p, %q, %r; .reg .b32 %x;"
    for name, function in logic.items():
        for bits in (16, 32, 64):
            yield lanes(f"{name}.b{bits}", combinations(words(bits), words(bits, 2)), out(bits), function)
        yield lanes(
            f"{name}.pred",
            combinations(words(32), words(32, 2)),
            out(32),
            lambda a, b, f=function: f(a, b) & 1,
            body=f"{flags} {name}.pred %r, %p, %q; selp.b32 %d, 1, 0, %r;",
            registers=predicates,
        )
    yield lanes(
        "not.pred",
        combinations(words(32), words(32, 2)),
        out(32),
        lambda a, b: ~a & 1,
        body=f"{flags} not.pred %r, %p; selp.b32 %d, 1, 0, %r;",
        registers=predicates,
    )
    for bits in (16, 32, 64):
        yield lanes(f"not.b{bits}", [words(bits)], out(bits), lambda a: ~a)
        yield lanes(f"cnot.b{bits}", [words(bits)], out(bits), lambda a: int(a == 0))
        amounts = combinations(words(bits), words(32, limit=100))
        yield lanes(f"shl.b{bits}", amounts, out(bits), lambda a, n, w=bits: a << n if n < w else 0)
        for kind in "ub":
            yield lanes(f"shr.{kind}{bits}", amounts, out(bits), lambda a, n: a >> n)
        yield lanes(f"shr.s{bits}", amounts, out(bits), lambda a, n, w=bits: signed(a, w) >> min(n, w - 1))
    for table in (0x00, 0x80, 0xEA, 0x96, 0xFF, 0x1B):
        yield lanes(
            "lop3.b32",
            combinations(*[words(32, i) for i in range(3)]),
            out(32),
            lambda a, b, c, t=table: sum(
                (t >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i for i in range(32)
            ),
            constants=hex(table),
            name=f"lop3.b32 {table:#x}",
        )
    shifts = combinations(words(32), words(32, 2), words(32, limit=80))
    for mode, amount in (("wrap", lambda n: n & 31), ("clamp", lambda n: min(n, 32))):
        yield lanes(f"shf.l.{mode}.b32", shifts, out(32), lambda a, b, n, f=amount: ((b << 32 | a) << f(n)) >> 32)
        yield lanes(f"shf.r.{mode}.b32", shifts, out(32), lambda a, b, n, f=amount: (b << 32 | a) >> f(n))
        lengths = combinations(words(32, limit=40), words(32, 2, limit=40))
        yield lanes(
            f"bmsk.{mode}.b32",
            lengths,
            out(32),
            lambda a, b, m=mode: (
                ((1 << (b & 31 if m == "wrap" else min(b, 32))) - 1) << (a & 31 if m == "wrap" else min(a, 32))
            ),
        )
        for kind in "us":
            yield lanes(
                f"szext.{mode}.{kind}32",
                combinations(words(32), words(32, 2, limit=40)),
                out(32),
                lambda a, n, k=kind, m=mode: extended_field(a, n & 31 if m == "wrap" else min(n, 32), k),
            )
    for bits in (32, 64):
        for kind in "us":
            for limits in ((40, 40), (300, 300), (bits, 12)):
                arrays = combinations(words(bits), words(32, 2, limit=limits[0]), words(32, 3, limit=limits[1]))
                yield lanes(
                    f"bfe.{kind}{bits}",
                    arrays,
                    out(bits),
                    lambda a, p, n, k=kind, w=bits: extracted(a, p & 255, n & 255, k, w),
                    name=f"bfe.{kind}{bits} below {limits}",
                )
            yield lanes(f"bfind.{kind}{bits}", [words(bits)], out(32), lambda a, k=kind, w=bits: top_bit(a, k, w))
            yield lanes(
                f"bfind.shiftamt.{kind}{bits}",
                [words(bits)],
                out(32),
                lambda a, k=kind, w=bits: -1 if top_bit(a, k, w) < 0 else w - 1 - top_bit(a, k, w),
            )
        arrays = combinations(words(bits), words(bits, 2), words(32, limit=300), words(32, 3, limit=70))
        yield lanes(f"bfi.b{bits}", arrays, out(bits), lambda a, b, p, n, w=bits: inserted(a, b, p & 255, n & 255, w))
        yield lanes(f"popc.b{bits}", [words(bits)], out(32), lambda a: a.bit_count())
        yield lanes(f"clz.b{bits}", [words(bits)], out(32), lambda a, w=bits: w - a.bit_length())
        yield lanes(f"brev.b{bits}", [words(bits)], out(bits), lambda a, w=bits: int(f"{a:0{w}b}"[::-1], 2))
    selectors = combinations(words(32), words(32, 2), words(32, 3))
    yield lanes("prmt.b32", selectors, out(32), lambda a, b, c: permuted(a, b, [c >> 4 * i & 15 for i in range(4)]))
    for mode, choices in PERMUTATIONS.items():
        yield lanes(f"prmt.b32.{mode}", selectors, out(32), lambda a, b, c, t=choices: permuted(a, b, t[c & 3]))


PERMUTATIONS = {
    "f4e": [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]],
    "b4e": [[0, 7, 6, 5], [1, 0, 7, 6], [2, 1, 0, 7], [3, 2, 1, 0]],
    "rc8": [[0] * 4, [1] * 4, [2] * 4, [3] * 4],
    "ecl": [[0, 1, 2, 3], [1, 1, 2, 3], [2, 2, 2, 3], [3, 3, 3, 3]],
    "ecr": [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 2, 2], [0, 1, 2, 3]],
    "rc16": [[0, 1, 0, 1], [2, 3, 2, 3], [0, 1, 0, 1], [2, 3, 2, 3]],
}


def permuted(a: int, b: int, nibbles: list[int]) -> int:
    octets = [(b << 32 | a) >> (8 * i) & 255 for i in range(8)]
    chosen = [(255 if octets[n & 7] & 128 else 0) if n & 8 else octets[n & 7] for n in nibbles]
    return sum(octet << (8 * i) for i, octet in enumerate(chosen))


def extracted(a: int, position: int, length: int, kind: str, bits: int) -> int:
    top = bits - 1
    sign = 0 if kind == "u" or length == 0 else a >> min(position + length - 1, top) & 1
    return sum((a >> position + i & 1 if i < length and position + i <= top else sign) << i for i in range(bits))


def inserted(a: int, b: int, position: int, length: int, bits: int) -> int:
    for i in range(length):
        if position + i < bits:
            b = b & ~(1 << position + i) | (a >> i & 1) << position + i
    return b


def extended_field(a: int, length: int, kind: str) -> int:
    field = a & (1 << length) - 1
    return field - (1 << length) if kind == "s" and length and field >> length - 1 else field


def top_bit(a: int, kind: str, bits: int) -> int:
    """The highest bit that differs from the sign, or -1."""
    if kind == "s" and a >> bits - 1:
        a = ~a & (1 << bits) - 1
    return a.bit_length() - 1
