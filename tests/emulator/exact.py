"""Reference rounding by search in a table of all values of a format: shares no method with the emulator."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction


class ValueTable:
    """All non-negative finite values of a small float format, by bit pattern."""

    def __init__(self, exponent: int, mantissa: int, *, infinity: bool = True) -> None:
        bias = (1 << (exponent - 1)) - 1
        patterns = ((1 << exponent) - 1) << mantissa if infinity else (1 << (exponent + mantissa)) - 1
        self.values: list[float] = []
        for bits in range(patterns):
            field, fraction = bits >> mantissa, bits & ((1 << mantissa) - 1)
            significand = fraction + ((1 << mantissa) if field else 0)
            self.values.append(float(significand) * 2.0 ** (max(field, 1) - bias - mantissa))
        self.infinity = patterns
        self.nan = (1 << (exponent + mantissa)) - 1
        self.sign = 1 << (exponent + mantissa)

    def round(self, value: float, mode: str = "rn", *, saturate: bool = False, relu: bool = False) -> int:
        """The bit pattern that `value` (a float64) rounds to."""
        if value != value:
            return self.nan
        negative = str(value)[0] == "-"
        if negative and relu:
            return 0
        bits = self._magnitude(abs(value), mode, negative)
        if bits >= self.infinity:
            bits = self.infinity - 1 if saturate else self.infinity
        return bits | (self.sign if negative else 0)

    def _magnitude(self, value: float, mode: str, negative: bool) -> int:
        """The pattern of a non-negative value; the one after the largest stands for everything too large."""
        last = len(self.values) - 1
        if value == float("inf"):
            return self.infinity
        below = bisect_right(self.values, value) - 1
        low = Fraction(self.values[below])
        above = Fraction(self.values[below + 1]) if below < last else 2 * low - Fraction(self.values[below - 1])
        exact = Fraction(value)
        if exact == low:
            return below
        away = {"rz": False, "rm": negative, "rp": not negative}.get(mode)
        if away is None:
            middle = (low + above) / 2
            tie = below % 2 == 1 if mode == "rn" else True
            away = exact > middle or (exact == middle and tie)
        if below == last and not away:
            return last
        return below + 1 if away else below


F16 = ValueTable(5, 10)
BF16 = ValueTable(8, 7)
E5M2 = ValueTable(5, 2)
E4M3 = ValueTable(4, 3, infinity=False)
