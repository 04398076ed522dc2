"""cvt in all its forms, in fractions and Python integers."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output, combinations, lanes
from tests.emulator.conformance.floats import MODES, finish, result
from tests.emulator.conformance.formats import F32, FORMATS, Format, Number, number, patterns
from tests.emulator.conformance.integers import out, read, width, words

INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
FLOATS = ("f16", "bf16", "f32", "f64")
INTEGRAL = ("rni", "rzi", "rmi", "rpi")


def integral(value: Number, mode: str) -> Number:
    """Rounded to a whole number, in one of the modes with i."""
    if value.nan or value.infinite:
        return value
    down, rest = divmod(value.exact, 1)
    up = {
        "rni": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2 == 1),
        "rmi": False,
        "rpi": rest > 0,
        "rzi": value.negative and rest > 0,
    }[mode]
    whole = Fraction(down + up)
    return Number(value.negative, abs(whole))


def limits(scalar: str) -> tuple[int, int]:
    bits = width(scalar)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if scalar[0] == "s" else (0, (1 << bits) - 1)


def around(form: Format, given: Format, seed: int) -> Array:
    """Patterns of `given` where rounding to `form` is delicate: values, midpoints, neighbours, and awkward ones."""
    rng = np.random.default_rng(seed)
    found = []
    for bits in rng.integers(0, form.overflow >> form.dropped, 30):
        low = form.decode(int(bits) << form.dropped)
        if not isinstance(low.size, Fraction):
            continue
        above = form.decode(int(bits) + 1 << form.dropped)
        if not isinstance(above.size, Fraction):
            continue
        middle = given.encode(number((low.size + above.size) / 2))
        found += [given.encode(low), middle, middle + 1, max(middle - 1, 0)]
    found = [bits for bits in found if bits < given.overflow]
    found += [bits | given.sign for bits in found[::2]]
    return np.concatenate([np.array(found, f"u{given.width // 8}"), patterns(given, 60, seed)])


def cases() -> Iterator[Case]:
    yield from between_integers()
    yield from to_integers()
    yield from from_integers()
    yield from between_floats()
    yield from small_floats()


def register(scalar: str) -> int:
    return max(width(scalar), 16)


def stored(value: int, scalar: str) -> int:
    """A value as it lies in its register: an 8-bit result fills a 16-bit register by its sign."""
    return value % (1 << register(scalar))


def between_integers() -> Iterator[Case]:
    for given in INTEGERS:
        array, value = words(width(given)), read(given)
        for to in INTEGERS:
            low, high = limits(to)
            wrap = read(to)
            mask = (1 << width(to)) - 1
            yield lanes(
                f"cvt.{to}.{given}",
                [array],
                out(register(to)),
                lambda a, v=value, w=wrap, m=mask, to=to: stored(w(v(a) & m), to),
            )
            narrows = limits(given)[0] < low or limits(given)[1] > high
            if narrows:
                yield lanes(
                    f"cvt.sat.{to}.{given}",
                    [array],
                    out(register(to)),
                    lambda a, v=value, low=low, high=high, to=to: stored(min(max(v(a), low), high), to),
                )
    for to in ("u16", "s16"):
        low, high = limits(to)
        yield lanes(
            f"cvt.pack.sat.{to}.s32",
            combinations(words(32), words(32, 2)),
            out(32),
            lambda a, b, low=low, high=high: clamped(a, low, high, 16) << 16 | clamped(b, low, high, 16),
        )
    for to in ("u8", "s8"):
        low, high = limits(to)
        yield lanes(
            f"cvt.pack.sat.{to}.s32.b32",
            combinations(words(32), words(32, 2), words(32, 3)),
            out(32),
            lambda a, b, c, low=low, high=high: c << 16 | clamped(a, low, high, 8) << 8 | clamped(b, low, high, 8),
        )


def clamped(pattern: int, low: int, high: int, bits: int) -> int:
    return min(max(read("s32")(pattern), low), high) % (1 << bits)


def to_integers() -> Iterator[Case]:
    for given in FLOATS:
        form = FORMATS[given]
        array = np.concatenate(
            [
                patterns(form, 96, 6),
                np.array(
                    [
                        form.encode(number(Fraction(x)))
                        for x in (
                            "1/2",
                            "-1/2",
                            "3/2",
                            "5/2",
                            "-5/2",
                            "403/4",
                            "-29/4",
                            "127",
                            "128",
                            "255",
                            "256",
                            "32768",
                            "-32769",
                            "2147483648",
                            "-2147483648",
                            "4294967296",
                            "9223372036854775808",
                            "18446744073709551616",
                        )
                    ],
                    f"u{form.width // 8}",
                ),
            ]
        )
        for to in INTEGERS:
            if given == "bf16" and width(to) == 8:
                continue
            low, high = limits(to)
            nan = 1 << width(to) - 1 if given == "f64" or width(to) == 64 else 0
            for mode in INTEGRAL:
                for flag in ("", ".sat", ".ftz") if given == "f32" else ("",):

                    def convert(
                        bits: int,
                        m: str = mode,
                        low: int = low,
                        high: int = high,
                        nan: int = nan,
                        form: Format = form,
                        flag: str = flag,
                        to: str = to,
                    ) -> int:
                        value = form.decode(form.flush(bits) if flag == ".ftz" else bits)
                        if value.nan:
                            # Of 8 bits the upper ones repeat the sign.
                            return stored(read(to)(nan), to)
                        if value.infinite:
                            return stored(low if value.negative else high, to)
                        return stored(min(max(int(integral(value, m).exact), low), high), to)

                    yield lanes(f"cvt.{mode}{flag}.{to}.{given}", [array], out(register(to)), convert)


def from_integers() -> Iterator[Case]:
    for given in INTEGERS:
        array, value = words(width(given)), read(given)
        for to in FLOATS:
            if to == "bf16" and width(given) == 8:
                continue
            form = FORMATS[to]
            for mode in MODES:
                yield lanes(
                    f"cvt.{mode}.{to}.{given}",
                    [array],
                    result(form),
                    lambda a, v=value, m=mode, form=form: form.encode(number(Fraction(v(a))), m),
                )


EXACT_PAIRS = (("f32", "f16"), ("f64", "f32"), ("f64", "f16"), ("f32", "bf16"), ("f64", "bf16"))


def between_floats() -> Iterator[Case]:
    for to, given in EXACT_PAIRS:
        form, other = FORMATS[to], FORMATS[given]
        for flag in ("", ".ftz", ".sat") if (to, given) == ("f32", "f16") else ("",):
            yield lanes(
                f"cvt{flag}.{to}.{given}",
                [patterns(other, 160, 8)],
                result(form),
                lambda a, f=form, g=other, flag=flag: finish(f, g.decode(a), "rn", flag),
            )
        for mode in MODES:
            narrow = around(form=other, given=form, seed=9)
            yield lanes(
                f"cvt.{mode}.{given}.{to}",
                [narrow],
                result(other),
                lambda a, f=form, g=other, m=mode: g.encode(f.decode(a), m),
            )
    for name in ("f16", "bf16"):
        other = "bf16" if name == "f16" else "f16"
        for mode in MODES:
            array = around(FORMATS[name], FORMATS[other], 9) if name == "bf16" else patterns(FORMATS[other], 160, 9)
            yield lanes(
                f"cvt.{mode}.{name}.{other}",
                [array],
                result(FORMATS[name]),
                lambda a, f=FORMATS[name], g=FORMATS[other], m=mode: f.encode(g.decode(a), m),
            )
    yield lanes(
        "cvt.rn.ftz.f32.f64",
        [around(F32, FORMATS["f64"], 3)],
        result(F32),
        lambda a: finish(F32, FORMATS["f64"].decode(a), "rn", "ftz"),
    )
    yield lanes(
        "cvt.rn.sat.f32.f64",
        [around(F32, FORMATS["f64"], 3)],
        result(F32),
        lambda a: finish(F32, FORMATS["f64"].decode(a), "rn", "sat"),
    )
    for name in ("f16", "f32", "f64", "bf16"):
        form = FORMATS[name]
        array = np.concatenate(
            [
                patterns(form, 96, 5),
                np.array(
                    [
                        form.encode(number(Fraction(x)))
                        for x in ("1/2", "-1/2", "3/2", "5/2", "-5/2", "403/4", "-29/4", "1000")
                    ],
                    f"u{form.width // 8}",
                ),
            ]
        )
        for mode in INTEGRAL:
            for flag in ("", ".ftz", ".sat", ".ftz.sat") if name == "f32" else ("",):
                yield lanes(
                    f"cvt.{mode}{flag}.{name}.{name}",
                    [array],
                    result(form),
                    lambda a, m=mode, f=form, flag=flag: finish(
                        f, integral(f.decode(f.flush(a) if "ftz" in flag else a), m), "rn", flag
                    ),
                )
    for flag in ("", ".ftz", ".sat"):
        yield lanes(
            f"cvt{flag}.f32.f32",
            [patterns(F32, 160, 5)],
            result(F32),
            lambda a, flag=flag: finish(F32, F32.decode(a), "rn", flag),
        )
    for name in ("f16", "bf16", "f64"):
        form = FORMATS[name]
        yield lanes(
            f"cvt.{name}.{name}", [patterns(form, 160, 5)], result(form), lambda a, f=form: f.encode(f.decode(a))
        )


def small_floats() -> Iterator[Case]:
    """To formats of 16 bits and fewer with .relu and .satfinite, one by one and in pairs."""
    for name in ("f16", "bf16", "tf32"):
        form = FORMATS[name]
        array = around(form, F32, 10)
        for mode in ("rn", "rz", "rna") if name == "tf32" else ("rn", "rz"):
            for flags in ("", ".relu", ".satfinite", ".relu.satfinite", ".satfinite.relu"):
                if (mode == "rna" and "relu" in flags) or (name != "tf32" and flags in ("", ".satfinite.relu")):
                    continue
                options = {"saturate": "satfinite" in flags, "relu": "relu" in flags}
                yield lanes(
                    f"cvt.{mode}{flags}.{name}.f32",
                    [array],
                    Output(f"u{max(form.width // 8, 2)}", 0, name),
                    lambda a, f=form, m=mode, o=options: f.encode(F32.decode(a), m, **o),
                )
    for name in ("f16", "bf16"):
        form = FORMATS[name]
        arrays = combinations(around(form, F32, 11), around(form, F32, 12))
        for mode in ("rn", "rz"):
            for flags in ("", ".relu", ".satfinite", ".relu.satfinite"):
                options = {"saturate": "satfinite" in flags, "relu": "relu" in flags}
                yield lanes(
                    f"cvt.{mode}{flags}.{name}x2.f32",
                    arrays,
                    Output("u4", 0, name),
                    lambda a, b, f=form, m=mode, o=options: (
                        f.encode(F32.decode(a), m, **o) << 16 | f.encode(F32.decode(b), m, **o)
                    ),
                )
    for name in ("e4m3", "e5m2"):
        form = FORMATS[name]
        for relu in ("", ".relu"):
            options = {"saturate": True, "relu": bool(relu)}
            arrays = combinations(around(form, F32, 13), around(form, F32, 14))
            yield lanes(
                f"cvt.rn.satfinite{relu}.{name}x2.f32",
                arrays,
                Output("u2", 0, name),
                lambda a, b, f=form, o=options: f.encode(F32.decode(a), **o) << 8 | f.encode(F32.decode(b), **o),
            )
            for given in ("f16", "bf16"):
                other = FORMATS[given]
                pairs = around(form, other, 15)
                pairs = pairs[: len(pairs) // 2 * 2].view(np.uint32)
                yield lanes(
                    f"cvt.rn.satfinite{relu}.{name}x2.{given}x2",
                    [pairs],
                    Output("u2", 0, name),
                    lambda a, f=form, g=other, o=options: (
                        f.encode(g.decode(a >> 16), **o) << 8 | f.encode(g.decode(a & 0xFFFF), **o)
                    ),
                )
                every = np.arange(256, dtype=np.uint16)
                yield lanes(
                    f"cvt.rn{relu}.{given}x2.{name}x2",
                    [every | every[::-1] << 8],
                    Output("u4", 0, given),
                    lambda a, f=form, g=other, r=bool(relu): (
                        g.encode(f.decode(a >> 8), relu=r) << 16 | g.encode(f.decode(a & 0xFF), relu=r)
                    ),
                )
