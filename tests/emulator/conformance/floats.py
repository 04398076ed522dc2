"""Floating-point arithmetic in fractions, comparisons, and approximations within their documented error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from tests.emulator.conformance.case import Array, Case, Output, combinations, double, lanes
from tests.emulator.conformance.formats import (
    F16,
    F32,
    F64,
    FORMATS,
    NAN,
    Format,
    Number,
    add,
    divide,
    fused,
    multiply,
    negate,
    number,
    patterns,
    root,
)
from texpr.emulator.accuracy import bound_of

MODES = ("rn", "rz", "rm", "rp")
HALVES = ("f16", "bf16")


def result(form: Format, count: int = 1) -> Output:
    return Output(f"u{form.width * count // 8}", 0, form.name)


def finish(form: Format, value: Number, mode: str, flags: str) -> int:
    """Round, and apply .ftz, .sat and .relu to the result."""
    bits = form.encode(value, mode, relu="relu" in flags)
    if "ftz" in flags:
        bits = form.flush(bits)
    if "sat" in flags:
        rounded = form.decode(bits)
        one = form.encode(number(Fraction(1)))
        if rounded.nan or rounded.negative:
            return 0
        return min(bits, one)
    return bits


def apply(form: Format, function: Callable[..., Number], mode: str, flags: str) -> Callable[..., int]:
    """A function on patterns from one on numbers."""

    def run(*row: int) -> int:
        given = [form.flush(bits) if "ftz" in flags else bits for bits in row]
        return finish(form, function(*map(form.decode, given)), mode, flags)

    return run


def both_halves(function: Callable[..., int], width: int = 16) -> Callable[..., int]:
    limit = (1 << width) - 1

    def run(*row: int) -> int:
        return function(*(bits & limit for bits in row)) | function(*(bits >> width for bits in row)) << width

    return run


def doubled(arrays: list[Array]) -> list[Array]:
    """Pairs of neighbours as packed operands."""
    return [np.ascontiguousarray(array).view(f"u{2 * array.itemsize}") for array in arrays]


def operands(form: Format, count: int) -> list[Array]:
    """Patterns that meet each other, and near-cancellations of the first two (or the product and the third)."""
    columns = combinations(*[patterns(form, 64, seed) for seed in range(count)], count=160)
    for k in range(0, 160, 5):
        if count == 2:
            columns[1][k] = int(columns[0][k]) ^ form.sign ^ (k // 5 & 1)
        if count == 3:
            exact = multiply(form.decode(int(columns[0][k])), form.decode(int(columns[1][k])))
            columns[2][k] = form.encode(negate(exact)) & ~0 if not exact.nan else columns[2][k]
    return columns


def cases() -> Iterator[Case]:
    yield from arithmetic()
    yield from halves()
    yield from mixed()
    yield from signs_and_limits()
    yield from comparisons()
    yield from approximations()


def arithmetic() -> Iterator[Case]:
    binary: dict[str, Callable[[str], Callable[..., Number]]] = {
        "add": lambda mode: lambda a, b: add(a, b, mode),
        "sub": lambda mode: lambda a, b: add(a, negate(b), mode),
        "mul": lambda mode: multiply,
    }
    for form in (F32, F64):
        two, three = operands(form, 2), operands(form, 3)
        for mode in ("", *MODES):
            dot = f".{mode}" if mode else ""
            flags = ("", ".ftz", ".sat", ".ftz.sat") if form is F32 and mode in ("", "rn", "rz") else ("",)
            for flag in flags:
                for name, make in binary.items():
                    yield lanes(
                        f"{name}{dot}{flag}.{form.name}", two, result(form), apply(form, make(mode), mode or "rn", flag)
                    )
                if not mode:
                    continue
                for name in ("fma", "mad"):
                    if form is F64 and mode != "rn" and name == "mad":
                        continue
                    yield lanes(
                        f"{name}.{mode}{flag}.{form.name}",
                        three,
                        result(form),
                        apply(form, lambda a, b, c, m=mode: fused(a, b, c, m), mode, flag),
                    )
        for mode in MODES:
            for flag in ("", ".ftz") if form is F32 else ("",):
                yield lanes(f"div.{mode}{flag}.{form.name}", two, result(form), apply(form, divide, mode, flag))
                one = [patterns(form, 160, 3)]
                yield lanes(
                    f"rcp.{mode}{flag}.{form.name}",
                    one,
                    result(form),
                    apply(form, lambda a: divide(number(Fraction(1)), a), mode, flag),
                )
                yield lanes(f"sqrt.{mode}{flag}.{form.name}", one, result(form), apply(form, root, mode, flag))
    two, three = operands(F32, 2), operands(F32, 3)
    for mode in MODES:
        for name, make in binary.items():
            yield lanes(
                f"{name}.{mode}.f32x2", doubled(two), result(F32, 2), both_halves(apply(F32, make(mode), mode, ""), 32)
            )
        yield lanes(
            f"fma.{mode}.f32x2",
            doubled(three),
            result(F32, 2),
            both_halves(apply(F32, lambda a, b, c, m=mode: fused(a, b, c, m), mode, ""), 32),
        )
    yield lanes("add.ftz.f32x2", doubled(two), result(F32, 2), both_halves(apply(F32, add, "rn", "ftz"), 32))


def halves() -> Iterator[Case]:
    functions: dict[str, Callable[..., Number]] = {"add": add, "sub": lambda a, b: add(a, negate(b)), "mul": multiply}
    for name in HALVES:
        form = FORMATS[name]
        two, three = operands(form, 2), operands(form, 3)
        flags = ("", ".ftz", ".sat", ".ftz.sat") if name == "f16" else ("",)
        for opcode, function in functions.items():
            for flag in flags:
                for mode in ("", ".rn"):
                    scalar = apply(form, function, "rn", flag)
                    yield lanes(f"{opcode}{mode}{flag}.{name}", two, result(form), scalar)
                    yield lanes(f"{opcode}{mode}{flag}.{name}x2", doubled(two), result(form, 2), both_halves(scalar))
        for flag in (*flags, ".relu", ".ftz.relu") if name == "f16" else ("", ".relu"):
            scalar = apply(form, fused, "rn", flag)
            yield lanes(f"fma.rn{flag}.{name}", three, result(form), scalar)
            yield lanes(f"fma.rn{flag}.{name}x2", doubled(three), result(form, 2), both_halves(scalar))


def mixed() -> Iterator[Case]:
    for name in HALVES:
        form = FORMATS[name]
        a, b, c = combinations(patterns(form, 64, 1), patterns(form, 64, 2), patterns(F32, 64, 3))
        for mode in ("", *MODES):
            dot = f".{mode}" if mode else ""
            for flag in ("", ".sat"):
                for opcode, sign in (("add", False), ("sub", True)):
                    yield lanes(
                        f"{opcode}{dot}{flag}.f32.{name}",
                        [a, c],
                        result(F32),
                        lambda x, z, m=mode or "rn", s=sign, f=flag, form=form: finish(
                            F32, add(form.decode(x), negate(F32.decode(z)) if s else F32.decode(z), m), m, f
                        ),
                    )
                if mode:
                    yield lanes(
                        f"fma.{mode}{flag}.f32.{name}",
                        [a, b, c],
                        result(F32),
                        lambda x, y, z, m=mode, f=flag, form=form: finish(
                            F32, fused(form.decode(x), form.decode(y), F32.decode(z), m), m, f
                        ),
                    )


def limit(form: Format, largest: bool, flags: str) -> Callable[..., int]:
    """min and max on patterns: a NaN loses unless .NaN; -0 is below +0."""

    def rank(bits: int) -> int:
        return -(bits & form.sign - 1) - 1 if bits & form.sign else bits

    def run(*row: int) -> int:
        given = [form.flush(bits) if "ftz" in flags else bits for bits in row]
        sign = (given[0] ^ given[1]) & form.sign
        if ".abs" in flags:
            given = [bits & form.sign - 1 for bits in given]
        nans = [form.decode(bits).nan for bits in given]
        if all(nans) or ("NaN" in flags and any(nans)):
            return form.encode(NAN)
        rest = [bits for bits, nan in zip(given, nans, strict=True) if not nan]
        chosen = max(rest, key=rank) if largest else min(rest, key=rank)
        return chosen ^ sign if "xorsign" in flags else chosen

    return run


def signs_and_limits() -> Iterator[Case]:
    for name in (*HALVES, "f32", "f64"):
        form = FORMATS[name]
        two = operands(form, 2)
        # The sign and the payload of a NaN may be anything.
        one = [patterns(form, 192, 5)]
        for flag in ("", ".ftz") if name in ("f16", "f32") else ("",):
            for opcode, mask in (("neg", form.sign), ("abs", 0)):

                def change(a: int, form: Format = form, flag: str = flag, mask: int = mask) -> int:
                    a = form.flush(a) if flag else a
                    return a ^ mask if mask else a & form.sign - 1

                yield lanes(f"{opcode}{flag}.{name}", one, result(form), change)
                if name in HALVES:
                    yield lanes(f"{opcode}{flag}.{name}x2", doubled(one), result(form, 2), both_halves(change))
        all_flags = [""] if name == "f64" else ["", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs"]
        if name in ("f16", "f32"):
            all_flags += [".ftz" + flag for flag in all_flags]
        for flag in all_flags:
            for opcode, largest in (("min", False), ("max", True)):
                function = limit(form, largest, flag)
                yield lanes(f"{opcode}{flag}.{name}", two, result(form), function)
                if name in HALVES:
                    yield lanes(f"{opcode}{flag}.{name}x2", doubled(two), result(form, 2), both_halves(function))
        if name in ("f32", "f64"):
            yield lanes(
                f"copysign.{name}", two, result(form), lambda a, b, form=form: a & form.sign | b & form.sign - 1
            )
            for kind in ("finite", "infinite", "number", "notanumber", "normal", "subnormal"):
                yield lanes(
                    f"testp.{kind}.{name}",
                    one,
                    Output("u4", 0),
                    lambda a, k=kind, form=form: number_class(form, a, k),
                    body=f"testp.{kind}.{name} %p, %s0; selp.b32 %d, 1, 0, %p;",
                    registers=".reg .pred %p;",
                )
    three = combinations(*[patterns(F32, 64, seed) for seed in range(3)])
    for flag in ("", ".NaN", ".abs", ".ftz.NaN.abs", ".ftz"):
        for opcode, largest in (("min", False), ("max", True)):
            yield lanes(
                f"{opcode}{flag}.f32",
                three,
                result(F32),
                limit(F32, largest, flag),
                name=f"{opcode}{flag}.f32 of three operands",
            )


def number_class(form: Format, bits: int, kind: str) -> bool:
    value = form.decode(bits)
    finite = not value.nan and not value.infinite
    small = finite and not value.zero and form.flush(bits) != bits
    return {
        "finite": finite,
        "infinite": value.infinite,
        "number": not value.nan,
        "notanumber": value.nan,
        "normal": finite and not value.zero and not small,
        "subnormal": small,
    }[kind]


# Comparisons --------------------------------------------------------------------------------------------------------

ORDERED: dict[str, Callable[[object, object], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,  # type: ignore[operator]
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,  # type: ignore[operator]
}
UNSIGNED_NAMES = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
BOOLEANS: dict[str, Callable[[bool, bool], bool]] = {
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
}


def float_comparison(form: Format, name: str, flags: str = "") -> Callable[[int, int], bool]:
    def run(a: int, b: int) -> bool:
        x, y = (form.decode(form.flush(bits) if "ftz" in flags else bits) for bits in (a, b))
        unordered = x.nan or y.nan
        if name in ("num", "nan"):
            return unordered == (name == "nan")
        if unordered:
            return name.endswith("u")
        first, second = (math.copysign(math.inf, -v.negative or 1) if v.infinite else v.exact for v in (x, y))
        return ORDERED[name.removesuffix("u")](first, second)

    return run


def integer_comparison(scalar: str, name: str) -> Callable[[int, int], bool]:
    bits = int(scalar[1:])

    def run(a: int, b: int) -> bool:
        if scalar[0] == "s":
            a, b = (x - (1 << bits) if x >> bits - 1 else x for x in (a, b))
        return ORDERED[UNSIGNED_NAMES.get(name, name)](a, b)

    return run


def comparisons() -> Iterator[Case]:
    from tests.emulator.conformance.integers import words

    def case(opcode: str, arrays: list[Array], function: Callable[[int, int], bool]) -> Case:
        return lanes(
            opcode,
            arrays,
            Output("u4", 0),
            function,
            registers=".reg .pred %p;",
            body=f"{opcode} %p, %s0, %s1; selp.b32 %d, 1, 0, %p;",
        )

    def combined(opcode: str, arrays: list[Array], function: Callable[[int, int], bool], operator: str) -> Case:
        if "16" in opcode.rpartition(".")[2] and "f" in opcode.rpartition(".")[2]:  # which have no second predicate
            return lanes(
                opcode,
                [*arrays, np.resize(np.array([0, 1], np.uint32), len(arrays[0]))],
                Output("u4", 0),
                lambda a, b, c: BOOLEANS[operator](function(a, b), bool(c)),
                registers=".reg .pred %p, %r;",
                body=f"setp.ne.u32 %r, %s2, 0; {opcode} %p, %s0, %s1, %r; selp.b32 %d, 1, 0, %p;",
            )
        return lanes(
            opcode,
            [*arrays, np.resize(np.array([0, 1], np.uint32), len(arrays[0]))],
            {"d": Output("u4", 0), "e": Output("u4", 0)},
            lambda a, b, c: (
                BOOLEANS[operator](function(a, b), bool(c)),
                BOOLEANS[operator](not function(a, b), bool(c)),
            ),
            registers=".reg .pred %p, %q, %r;",
            body=f"setp.ne.u32 %r, %s2, 0; {opcode} %p|%q, %s0, %s1, %r;selp.b32 %d, 1, 0, %p; selp.b32 %e, 1, 0, %q;",
        )

    def value(opcode: str, arrays: list[Array], function: Callable[[int, int], bool], yes: int, bits: int) -> Case:
        return lanes(opcode, arrays, Output(f"u{bits // 8}", 0), lambda a, b: yes if function(a, b) else 0)

    ones = {
        "f32": 0x3F80_0000,
        "f16": 0x3C00,
        "bf16": 0x3F80,
        "u32": 0xFFFF_FFFF,
        "s32": 0xFFFF_FFFF,
        "u16": 0xFFFF,
        "s16": 0xFFFF,
    }
    for bits in (16, 32, 64):
        arrays = combinations(words(bits), words(bits, 2))
        arrays[1][::5] = arrays[0][::5]
        for kind in "bus":
            names = {"b": ("eq", "ne"), "u": (*ORDERED, *UNSIGNED_NAMES), "s": tuple(ORDERED)}[kind]
            for name in names:
                function = integer_comparison(f"{kind}{bits}", name)
                yield case(f"setp.{name}.{kind}{bits}", arrays, function)
                for to in ("u32", "s32", "f32"):
                    yield value(f"set.{name}.{to}.{kind}{bits}", arrays, function, ones[to], 32)
            function = integer_comparison(f"{kind}{bits}", names[-1])
            for operator in BOOLEANS:
                yield combined(f"setp.{names[-1]}.{operator}.{kind}{bits}", arrays, function, operator)
                opcode = f"set.{names[-1]}.{operator}.u32.{kind}{bits}"
                yield lanes(
                    opcode,
                    [*arrays, np.resize(np.array([0, 1], np.uint32), len(arrays[0]))],
                    Output("u4", 0),
                    lambda a, b, c, f=function, o=operator: -BOOLEANS[o](f(a, b), bool(c)),
                    registers=".reg .pred %r;",
                    body=f"setp.ne.u32 %r, %s2, 0; {opcode} %d, %s0, %s1, %r;",
                )
            third = np.resize(np.array([0, 1, 7], np.uint32), len(arrays[0]))
            if kind != "f":
                yield lanes(
                    f"selp.{kind}{bits}",
                    [*arrays, third],
                    Output(f"u{bits // 8}", 0),
                    lambda a, b, c: a if c else b,
                    registers=".reg .pred %p;",
                    body=f"setp.ne.u32 %p, %s2, 0; selp.{kind}{bits} %d, %s0, %s1, %p;",
                )
            for by in ("s32", "f32"):
                third = combinations(patterns(F32, 64, 9))[0]
                yield lanes(
                    f"slct.{kind}{bits}.{by}",
                    [*arrays, third],
                    Output(f"u{bits // 8}", 0),
                    lambda a, b, c, by=by: a if at_least_zero(c, by) else b,
                )
    for bits, name in ((32, "f32"), (64, "f64")):
        arrays = combinations(patterns(FORMATS[name], 64, 1), patterns(FORMATS[name], 64, 2))
        third = combinations(patterns(F32, 64, 9))[0]
        yield lanes(
            f"selp.{name}",
            [*arrays, third],
            Output(f"u{bits // 8}", 0),
            lambda a, b, c: a if c else b,
            registers=".reg .pred %p;",
            body=f"setp.ne.u32 %p, %s2, 0; selp.{name} %d, %s0, %s1, %p;",
        )
        for by in ("s32", "f32"):
            yield lanes(
                f"slct.{name}.{by}",
                [*arrays, third],
                Output(f"u{bits // 8}", 0),
                lambda a, b, c, by=by: a if at_least_zero(c, by) else b,
            )
    arrays = combinations(words(32), words(32, 2), patterns(F32, 64, 9))
    yield lanes(
        "slct.ftz.b32.f32", arrays, Output("u4", 0), lambda a, b, c: a if at_least_zero(F32.flush(c), "f32") else b
    )
    names = (*ORDERED, *(f"{name}u" for name in ORDERED), "num", "nan")
    for form_name in (*HALVES, "f32", "f64"):
        form = FORMATS[form_name]
        arrays = operands(form, 2)
        arrays[1][::7] = arrays[0][::7]
        for name in names:
            function = float_comparison(form, name)
            yield case(f"setp.{name}.{form_name}", arrays, function)
            results = ("f32", "u32", "s32") if form_name in ("f32", "f64") else ("u16", "s16", "u32", "s32", form_name)
            for to in results:
                yield value(
                    f"set.{name}.{to}.{form_name}",
                    arrays,
                    function,
                    ones[to],
                    FORMATS[to].width if to in FORMATS else int(to[1:]),
                )
            if form_name in HALVES:
                yield value_of_pairs(f"set.{name}.{form_name}x2.{form_name}x2", arrays, function, ones[form_name])
                yield lanes(
                    f"setp.{name}.{form_name}x2",
                    doubled(arrays),
                    {"d": Output("u4", 0), "e": Output("u4", 0)},
                    lambda a, b, f=function: (f(a & 0xFFFF, b & 0xFFFF), f(a >> 16, b >> 16)),
                    registers=".reg .pred %p, %q;",
                    body=f"setp.{name}.{form_name}x2 %p|%q, %s0, %s1;selp.b32 %d, 1, 0, %p; selp.b32 %e, 1, 0, %q;",
                )
        for operator in BOOLEANS:
            yield combined(f"setp.ltu.{operator}.{form_name}", arrays, float_comparison(form, "ltu"), operator)
    for opcode in ("setp.lt.ftz.f32", "setp.gt.ftz.f16"):
        form = FORMATS[opcode.split(".")[-1]]
        yield case(opcode, operands(form, 2), float_comparison(form, opcode.split(".")[1], "ftz"))
    for to in ("u32", "f32"):
        yield value(f"set.lt.ftz.{to}.f32", operands(F32, 2), float_comparison(F32, "lt", "ftz"), ones[to], 32)
    yield value_of_pairs("set.lt.ftz.f16x2.f16x2", operands(F16, 2), float_comparison(F16, "lt", "ftz"), ones["f16"])
    for operator in BOOLEANS:
        for name in ("f32", "f64"):
            arrays = operands(FORMATS[name], 2)
            function = float_comparison(FORMATS[name], "lt")
            opcode = f"set.lt.{operator}.f32.{name}"
            yield lanes(
                opcode,
                [*arrays, np.resize(np.array([0, 1], np.uint32), len(arrays[0]))],
                Output("u4", 0),
                lambda a, b, c, f=function, o=operator: BOOLEANS[o](f(a, b), bool(c)) and ones["f32"],
                registers=".reg .pred %r;",
                body=f"setp.ne.u32 %r, %s2, 0; {opcode} %d, %s0, %s1, %r;",
            )


def value_of_pairs(opcode: str, arrays: list[Array], function: Callable[[int, int], bool], yes: int) -> Case:
    return lanes(opcode, doubled(arrays), Output("u4", 0), both_halves(lambda a, b: yes if function(a, b) else 0))


def at_least_zero(bits: int, by: str) -> bool:
    if by == "s32":
        return not bits >> 31
    value = F32.decode(bits)
    return not value.nan and (value.zero or not value.negative)


# Approximations -----------------------------------------------------------------------------------------------------

SPECIAL: dict[str, Callable[[float], float]] = {
    "ex2": lambda x: math.inf if x > 1100 else 0.0 if x < -1200 else 2.0**x,
    "lg2": lambda x: math.nan if x < 0 else -math.inf if x == 0 else math.log2(x),
    "tanh": math.tanh,
    "rsqrt": lambda x: math.copysign(math.inf, x) if x == 0 else math.nan if x < 0 else 1 / math.sqrt(x),
    "sqrt": lambda x: x if x == 0 else math.nan if x < 0 else math.sqrt(x),
    "rcp": lambda x: math.copysign(math.inf, x) if x == 0 else 1 / x,
    "sin": math.sin,
    "cos": math.cos,
}


def approximation(name: str, form: Format, flags: str) -> Callable[[int], float]:
    """The exact value (to float64's precision), with .ftz on both sides."""

    def run(bits: int) -> float:
        given = form.decode(form.flush(bits) if "ftz" in flags else bits)
        if given.nan:
            return math.nan
        x = math.copysign(math.inf if given.infinite else abs(double(given)), -1 if given.negative else 1)
        if math.isinf(x):
            return {
                "ex2": math.inf if x > 0 else 0.0,
                "lg2": x if x > 0 else math.nan,
                "tanh": math.copysign(1, x),
                "rsqrt": 0.0 if x > 0 else math.nan,
                "sqrt": x if x > 0 else math.nan,
                "rcp": 0.0,
                "sin": math.nan,
                "cos": math.nan,
            }[name]
        y = SPECIAL[name](x)
        least = 2.0 ** (1 - form.bias)
        return math.copysign(0.0, y) if "ftz" in flags and abs(y) < least * (1 - 2.0**-20) else y

    return run


def near_one(form: Format, low: float, high: float, count: int = 192) -> Array:
    """Patterns of values between two bounds."""
    values = np.random.default_rng(77).uniform(low, high, count)
    return np.array([form.encode(number(Fraction(float(x)))) for x in values], f"u{form.width // 8}")


def approximations() -> Iterator[Case]:
    for name in SPECIAL:
        for flag in ("", ".ftz"):
            if name == "tanh" and flag:
                continue
            opcode = f"{name}.approx{flag}.f32"
            if name in ("sin", "cos"):
                given = near_one(F32, -2 * math.pi, 2 * math.pi)
            elif name in ("ex2", "lg2"):
                given = np.concatenate([near_one(F32, -126, 126), patterns(F32, 128, 4)])
            else:
                given = patterns(F32, 256, 4)
            # Results that .ftz may or may not flush are left out: the boundary is part of the error.
            yield lanes(opcode, [given], Output("u4", 0, "f32", bound_of(opcode)), approximation(name, F32, flag))
    for name, form_name, flag in (
        ("ex2", "f16", ""),
        ("tanh", "f16", ""),
        ("ex2", "bf16", ".ftz"),
        ("tanh", "bf16", ""),
    ):
        form = FORMATS[form_name]
        opcode = f"{name}.approx{flag}.{form_name}"
        exact = approximation(name, form, flag)
        given = np.concatenate([near_one(form, -14, 14), patterns(form, 64, 4)])
        yield lanes(opcode, [given], Output("u2", 0, form_name, bound_of(opcode)), exact)
        pairs = given.view(np.uint32)
        yield lanes(
            f"{opcode}x2",
            [pairs],
            {"d": Output("u2", 0, form_name, bound_of(opcode)), "e": Output("u2", 0, form_name, bound_of(opcode))},
            lambda a, f=exact: (f(a & 0xFFFF), f(a >> 16)),
            registers=".reg .b32 %x;",
            body=f"{opcode}x2 %x, %s0; mov.b32 {{%d, %e}}, %x;",
        )
    for opcode in ("div.full.f32", "div.full.ftz.f32", "div.approx.f32", "div.approx.ftz.f32"):
        arrays = combinations(near_one(F32, 2**-60, 2**60), near_one(F32, -(2**10), 2**10))
        yield lanes(
            opcode,
            arrays,
            Output("u4", 0, "f32", bound_of(opcode)),
            lambda a, b: double(divide(F32.decode(a), F32.decode(b))),
        )
    for name in ("rcp", "rsqrt"):
        opcode = f"{name}.approx.ftz.f64"
        given = near_one(F64, 1e-3, 1e6)
        yield lanes(opcode, [given], Output("u8", 0, "f64", bound_of(opcode)), approximation(name, F64, ".ftz"))
    given = near_one(F64, 1e-3, 1e6)
    yield lanes(
        "rsqrt.approx.f64",
        [given],
        Output("u8", 0, "f64", bound_of("rsqrt.approx.f64")),
        approximation("rsqrt", F64, ""),
    )
