"""Floating-point arithmetic: f16, bf16, f32, f64 and their packed forms.

add, sub, mul, fma, div, sqrt and rcp are correctly rounded in every rounding mode.  The `.approx` and `.full`
forms are computed at least as accurately as the hardware does and are therefore not bit-identical to it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from texpr.emulator.floats import (
    F64,
    FORMATS,
    bf16_bits,
    by_rationals,
    direct,
    flush_subnormals,
    fma32,
    fma64,
    fma_odd,
    in_safe_range,
    plain_fma,
    sum_odd,
    to_odd,
    two_product,
    two_sum,
)
from texpr.emulator.rows import Array, ArrayFunction, Modifiers, Row, elementwise, family

_CANONICAL_NAN = np.uint32(0x7FFFFFFF).view(np.float32)

# Building blocks --------------------------------------------------------------------------------------------


def element_format(modifiers: Modifiers) -> str:
    """The element type of a row's `type`: f16x2 has elements of f16."""
    return modifiers.get("type", "f32").removesuffix("x2")


def canonical(result: Array) -> Array:
    """Single-precision operations do not keep the payloads or signs of NaNs but give 0x7fffffff (PTX ISA, "Floating
    Point Instructions"): two threads that add the same numbers in either order agree to the bit."""
    if result.dtype != np.float32:
        return result
    nan = np.isnan(result)
    return np.where(nan, _CANONICAL_NAN, result) if nan.any() else result


def with_modifiers(function: ArrayFunction, modifiers: Modifiers) -> ArrayFunction:
    """Add .ftz (flush inputs and result), .sat (clamp to [0, 1], NaN to 0) and .relu around a function, and make NaNs
    of single precision canonical."""
    flush, saturate, relu = "ftz" in modifiers, "sat" in modifiers, "relu" in modifiers
    if not (flush or saturate or relu):
        return lambda *sources: canonical(function(*sources))

    def run(*sources: Array) -> Array:
        if flush:
            sources = tuple(flush_subnormals(source) for source in sources)
        result = canonical(function(*sources))
        if flush:
            result = flush_subnormals(result)
        zero, one = result.dtype.type(0), result.dtype.type(1)
        if saturate:
            # Not only below: -0 too becomes +0.
            result = np.where(result > zero, np.minimum(result, one), zero)
        if relu:
            result = np.where(result <= zero, zero, result)
        return np.asarray(result)

    return run


def through_float32(function: ArrayFunction, modifiers: Modifiers) -> ArrayFunction:
    """A bf16 function from one on float32 whose result is then rounded (exact for +, -, * by precision)."""
    wrapped = with_modifiers(function, modifiers)
    decode = FORMATS["bf16"].decode
    return lambda *sources: bf16_bits(wrapped(*(decode(source) for source in sources)))


def narrow(value: F64, name: str, rounding: str) -> Array:
    """float64 (exact, or rounded to odd) -> a smaller format."""
    form = FORMATS[name]
    bits = form.encode(value, rounding)
    result: Array = bits if name == "bf16" else bits.view(f"f{form.storage.itemsize}")
    return result


_DIRECTED: dict[str, ArrayFunction] = {
    "add": sum_odd,
    "sub": lambda a, b: sum_odd(a, -np.asarray(b)),
    "mul": lambda a, b: np.asarray(a, np.float64) * np.asarray(b, np.float64),
    "fma": fma_odd,
    "div": lambda a, b: to_odd(*_quotient(a, b)),
    "sqrt": lambda a: to_odd(*_root(a)),
    "rcp": lambda a: to_odd(*_quotient(np.ones(1), a)),
}


def _directed(name: str, rounding: str) -> ArrayFunction:
    exact = _DIRECTED[name]
    if rounding != "rm" or name not in _ADDENDS:
        return lambda *sources: narrow(exact(*sources), "f32", rounding)

    def run(*sources: Array) -> Array:
        total = exact(*sources)
        return narrow(np.where(total == 0, _downward_zero(*_ADDENDS[name](*sources)), total), "f32", rounding)

    return run


_ADDENDS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "add": lambda a, b: (np.asarray(a), np.asarray(b)),
    "sub": lambda a, b: (np.asarray(a), -np.asarray(b)),
    "fma": lambda a, b, c: (np.multiply(a, b, dtype=np.float64), np.asarray(c)),
}
"""What is added, for the operations that add; products of float32 are exact in float64."""


def _downward_zero(a: Array, b: Array) -> Array:
    """The zero that a sum of nothing is when it is rounded down: -0 unless both addends are +0."""
    return np.where(np.signbit(a) | np.signbit(b), -0.0, 0.0)


def _quotient(a: Array, b: Array) -> tuple[F64, F64]:
    x, y = np.atleast_1d(np.asarray(a, np.float64)), np.atleast_1d(np.asarray(b, np.float64))
    quotient = x / y
    product, error = two_product(quotient, y)
    residual = (x - product) - error
    return quotient, np.where(y < 0, -residual, residual)


def _root(a: Array) -> tuple[F64, F64]:
    x = np.atleast_1d(np.asarray(a, np.float64))
    root = np.sqrt(x)
    product, error = two_product(root, root)
    return root, (x - product) - error


def _root_scaled(a: Array) -> tuple[F64, F64]:
    """Like `_root`, with tiny and huge values moved into the safe range by an even power of two."""
    x = np.atleast_1d(np.asarray(a, np.float64))
    shift = np.where(x < 2.0**-400, 600, np.where(x > 2.0**400, -600, 0))
    root, error = _root(np.ldexp(x, shift))
    return np.ldexp(root, -shift // 2), error


_WITH_ERROR: dict[str, Callable[..., tuple[F64, F64]]] = {
    "add": two_sum,
    "sub": lambda a, b: two_sum(a, -b),
    "mul": two_product,
    "div": _quotient,
    "sqrt": _root_scaled,
    "rcp": lambda a: _quotient(np.ones(1), a),
}
"""float64 results rounded to nearest, with the sign (and for +, -, * the value) of what was rounded off.

Valid in the safe range; a directed rounding then differs from the nearest by at most one place.
"""

_RATIONAL: dict[str, Callable[..., Fraction]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "rcp": lambda a: 1 / a,
}


def _directed_double(name: str, rounding: str) -> ArrayFunction:
    """float64 arithmetic in the directed modes; in rational arithmetic where error terms might not be exact."""
    operation = _WITH_ERROR[name]

    def run(*sources: Array) -> Array:
        values = tuple(np.atleast_1d(source) for source in sources)
        result = direct(*operation(*values), rounding)
        safe = in_safe_range(*values)
        if not (safe.all() or name == "sqrt"):
            result = by_rationals(_RATIONAL[name], result, safe, values, rounding, _NEAREST[name](*values))
        if rounding == "rm" and name in _ADDENDS:
            result = np.where(result == 0, _downward_zero(*_ADDENDS[name](*values)), result)
        return result

    return run


def _fused_double(rounding: str) -> ArrayFunction:
    """fma of float64 in the directed modes, in rational arithmetic."""

    def run(*sources: Array) -> Array:
        a, b, c = (np.atleast_1d(source) for source in sources)
        plain = plain_fma(a, b, c)
        if rounding == "rm":
            plain = np.where(plain == 0, _downward_zero(a * b, c), plain)
        nothing_safe = np.zeros(plain.shape, np.bool_)
        return by_rationals(lambda x, y, z: x * y + z, plain, nothing_safe, (a, b, c), rounding, plain)

    return run


# Arithmetic -------------------------------------------------------------------------------------------------

_NEAREST: dict[str, ArrayFunction] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "sqrt": np.sqrt,
    "rcp": lambda a: np.divide(a.dtype.type(1), a),
}


def _arithmetic(modifiers: Modifiers) -> ArrayFunction:
    """add, sub, mul, div, sqrt, rcp of f32, f64 and f16 (NumPy rounds each of them once, to nearest)."""
    name, rounding = modifiers["name"], modifiers.get("rnd", "rn")
    if element_format(modifiers) == "bf16":
        return through_float32(_NEAREST[name], modifiers)
    if rounding == "rn":
        return with_modifiers(_NEAREST[name], modifiers)
    if modifiers["type"] == "f64":
        return _directed_double(name, rounding)
    return with_modifiers(_directed(name, rounding), modifiers)


def _fused(modifiers: Modifiers) -> ArrayFunction:
    """fma: one rounding."""
    rounding = modifiers.get("rnd", "rn")
    match element_format(modifiers):
        case "f32" if rounding == "rn":
            function: ArrayFunction = fma32
        case "f32":
            function = _directed("fma", rounding)
        case "f64" if rounding == "rn":
            function = fma64
        case "f64":
            function = _fused_double(rounding)
        case "f16":
            function = _fused_half
        case _:
            return _fused_bfloat(modifiers)
    return with_modifiers(function, modifiers)


def _fused_half(a: Array, b: Array, c: Array) -> Array:
    return narrow(fma_odd(a, b, c), "f16", "rn")


def _fused_bfloat(modifiers: Modifiers) -> ArrayFunction:
    decode = FORMATS["bf16"].decode
    relu = "relu" in modifiers

    def run(a: Array, b: Array, c: Array) -> Array:
        return FORMATS["bf16"].encode(fma_odd(decode(a), decode(b), decode(c)), relu=relu)

    return run


def _mixed(modifiers: Modifiers) -> ArrayFunction:
    """add, sub, fma of f32 whose first operands are f16 or bf16 (sm_100 and later)."""
    decode = FORMATS[modifiers["from"]].decode
    rounding = modifiers.get("rnd", "rn")
    name = modifiers["name"]
    nearest = fma32 if name == "fma" else _NEAREST[name]
    saturated = with_modifiers(nearest if rounding == "rn" else _directed(name, rounding), modifiers)

    def as_float(source: Array) -> Array:
        return decode(np.asarray(source).view(np.uint16))

    return lambda *sources: saturated(*(as_float(source) for source in sources[:-1]), sources[-1])


def _negate(modifiers: Modifiers) -> ArrayFunction:
    if element_format(modifiers) == "bf16":
        return lambda a: a ^ np.uint16(0x8000)
    return with_modifiers(np.negative, modifiers)


def _magnitude(modifiers: Modifiers) -> ArrayFunction:
    if element_format(modifiers) == "bf16":
        return lambda a: a & np.uint16(0x7FFF)
    return with_modifiers(np.absolute, modifiers)


def _copy_sign(sign: Array, magnitude: Array) -> Array:
    return np.copysign(magnitude, sign)


# Minimum and maximum ----------------------------------------------------------------------------------------


def _extremum(modifiers: Modifiers) -> ArrayFunction:
    """min, max of two or three: -0 is less than +0; a NaN input loses unless .NaN is given.

    .abs compares (and gives) magnitudes, .xorsign gives the result the sign of the inputs' product.
    """
    largest = modifiers["name"] == "max"
    nan_wins, nan_loses = (np.maximum, np.fmax) if largest else (np.minimum, np.fmin)
    choose: np.ufunc = nan_wins if "NaN" in modifiers else nan_loses

    def pick(a: Array, b: Array) -> Array:
        result = choose(a, b)
        zeros = result == 0
        if zeros.any():
            # NumPy may return either of two zeros.
            negative = np.signbit(a) & np.signbit(b) if largest else np.signbit(a) | np.signbit(b)
            both = zeros & (a == 0) & (b == 0)
            result = np.where(both, np.where(negative, -result.dtype.type(0), result.dtype.type(0)), result)
        return np.asarray(result)

    def run(*values: Array) -> Array:
        given = tuple(np.abs(value) for value in values) if "abs" in modifiers else values
        result = pick(given[0], given[1])
        if len(values) == 3:
            result = pick(result, given[2])
        if "xorsign" not in modifiers:
            return result
        sign = np.signbit(values[0]) ^ np.signbit(values[1])
        return np.where(sign, -result, result)

    if element_format(modifiers) == "bf16":
        return through_float32(run, modifiers)
    return with_modifiers(run, modifiers)


# Approximations ---------------------------------------------------------------------------------------------


def _approximation(modifiers: Modifiers) -> ArrayFunction:
    """ex2, lg2, sin, cos, tanh, rsqrt: evaluated in the operand's precision or better."""
    function = _FUNCTIONS[modifiers["name"]]
    match element_format(modifiers):
        case "bf16":
            return through_float32(function, modifiers)
        case "f16":
            return with_modifiers(lambda a: function(a.astype(np.float32)).astype(np.float16), modifiers)
        case _:
            return with_modifiers(function, modifiers)


def _reciprocal_root(a: Array) -> Array:
    root: Array = np.sqrt(a)
    return np.asarray(np.divide(root.dtype.type(1), root, dtype=root.dtype))


def _approximate_f64(modifiers: Modifiers) -> ArrayFunction:
    """rcp and rsqrt.approx.ftz.f64: the result's low 32 bits are zero."""
    function = _NEAREST["rcp"] if modifiers["name"] == "rcp" else _reciprocal_root

    def run(a: Array) -> Array:
        return (function(a).view(np.uint64) & np.uint64(0xFFFF_FFFF_0000_0000)).view(np.float64)

    return run


_FUNCTIONS: dict[str, ArrayFunction] = {
    "ex2": np.exp2,
    "lg2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sqrt": np.sqrt,
    "rcp": _NEAREST["rcp"],
    "rsqrt": _reciprocal_root,
}

_BRAIN = "bf16|bf16x2: sm_90 ptx7.8"

ROWS: tuple[Row, ...] = (
    family("name:(add|sub|mul).rnd:ROUND?.ftz?.sat?.type:f32", "type = type type", _arithmetic),
    family("name:(add|sub|mul).rnd:ROUND?.type:f64", "type = type type", _arithmetic),
    family("name:(add|sub|mul).rnd:rn?.ftz?.sat?.type:HALF", "type = type type", _arithmetic, since=_BRAIN),
    family("name:(add|sub|mul).rnd:ROUND?.ftz?.type:f32x2", "type = type type", _arithmetic, since="sm_100 ptx8.6"),
    family("name:(add|sub).rnd:ROUND?.sat?.f32.from:(f16|bf16)", "f32 = from f32", _mixed, since="sm_100 ptx8.6"),
    family("name:fma.rnd:ROUND.sat?.f32.from:(f16|bf16)", "f32 = from from f32", _mixed,
           since="sm_100 ptx8.6"),
    family("name:fma.rnd:ROUND.ftz?.sat?.type:(f32|f32x2)", "type = type type type", _fused,
           since="f32x2: sm_100 ptx8.6"),
    family("name:(fma|mad).rnd:ROUND.type:f64", "type = type type type", _fused),
    family("name:mad.rnd:ROUND.ftz?.sat?.type:f32", "type = type type type", _fused),
    family("name:fma.rnd:rn.ftz?.sat?.relu?.type:HALF", "type = type type type", _fused),
    family("name:(div|sqrt|rcp).rnd:ROUND.ftz?.type:f32", "type = type type?", _arithmetic),
    family("name:(div|sqrt|rcp).rnd:ROUND.type:f64", "type = type type?", _arithmetic),
    family("name:div.(full|approx).ftz?.type:f32", "type = type type", _arithmetic),
    family("neg.ftz?.type:(HALF|FLOAT)", "type = type", _negate),
    family("abs.ftz?.type:(HALF|FLOAT)", "type = type", _magnitude),
    elementwise("copysign.type:FLOAT", "type = type type", _copy_sign),
    family("name:(min|max).ftz?.NaN?.type:f32", "type = type type type?", _extremum,
           since="4 operands: sm_100 ptx8.8"),
    family("name:(min|max).ftz?.NaN?.type:(HALF|f64)", "type = type type", _extremum),
    family("name:(min|max).ftz?.NaN?.xorsign.abs.type:(HALF|f32)", "type = type type", _extremum,
           since="sm_86 ptx7.2"),
    family("name:(min|max).ftz?.NaN?.abs.type:f32", "type = type type type", _extremum, since="sm_100 ptx8.8"),
    family("name:(ex2|lg2|sin|cos|tanh|rsqrt|sqrt|rcp).approx.ftz?.type:f32", "type = type", _approximation),
    family("name:(ex2|tanh).approx.ftz?.type:HALF", "type = type", _approximation, since=_BRAIN),
    family("name:(rcp|rsqrt).approx.ftz.type:f64", "type = type", _approximate_f64),
    family("name:rsqrt.approx.type:f64", "type = type", _approximation),
)
