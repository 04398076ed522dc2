"""Arithmetic on two abstractions of an unknown integer: its range, and its residue modulo a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the greatest value, both inclusive; None is unbounded. ``lo > hi``: contradictory facts."""

    lo: int | None
    hi: int | None

    @property
    def empty(self) -> bool:
        return self.lo is not None and self.hi is not None and self.lo > self.hi

    @property
    def value(self) -> int | None:
        """The only possible value, if there is just one."""
        return self.lo if self.lo == self.hi else None

    def meet(self, other: Bounds) -> Bounds:
        """Values in both."""
        return Bounds(_tighter(self.lo, other.lo, max), _tighter(self.hi, other.hi, min))

    def __add__(self, other: Bounds) -> Bounds:
        lo = None if self.lo is None or other.lo is None else self.lo + other.lo
        hi = None if self.hi is None or other.hi is None else self.hi + other.hi
        return Bounds(lo, hi)

    def __mul__(self, other: Bounds) -> Bounds:
        if self.empty or other.empty:
            return EMPTY
        corners = [_times(a, b) for a in self._ends() for b in other._ends()]
        lo, hi = min(corners), max(corners)
        return Bounds(None if lo == -math.inf else int(lo), None if hi == math.inf else int(hi))

    def _ends(self) -> tuple[float, float]:
        return (-math.inf if self.lo is None else self.lo, math.inf if self.hi is None else self.hi)

    def floordiv(self, den: Bounds) -> Bounds:
        """The quotients by divisors that are not negative (never zero then); unbounded for any other divisor."""
        if den.lo is None or den.lo < 0:
            return ANY
        den = den.meet(Bounds(1, None))
        if den.empty or den.lo is None:
            return ANY
        lo = self.lo
        if lo is not None:
            lo = lo // den.lo if lo < 0 else 0 if den.hi is None else lo // den.hi
        hi = self.hi
        if hi is not None:
            hi = hi // den.lo if hi >= 0 else -1 if den.hi is None else hi // den.hi
        return Bounds(lo, hi)

    def mod(self, den: Bounds) -> Bounds:
        """The remainders by divisors that are not negative (never zero then); unbounded for any other divisor."""
        if den.lo is None or den.lo < 0:
            return ANY
        den = den.meet(Bounds(1, None))
        if den.empty or den.lo is None:
            return ANY
        if den.value is not None and self.lo is not None and self.hi is not None:
            if self.lo // den.value == self.hi // den.value:
                return Bounds(self.lo % den.value, self.hi % den.value)
        elif self.lo is not None and self.lo >= 0 and self.hi is not None and self.hi < den.lo:
            return self
        largest = None if den.hi is None else den.hi - 1
        if self.lo is not None and self.lo >= 0:
            largest = _tighter(largest, self.hi, min)
        return Bounds(0, largest)


ANY: Final = Bounds(None, None)
EMPTY: Final = Bounds(1, 0)


def _tighter(a: int | None, b: int | None, choose: Callable[[int, int], int]) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return choose(a, b)


def _times(a: float, b: float) -> float:
    """Exact on ints; zero times infinity is zero, because the infinite end is never reached."""
    if a == 0 or b == 0:
        return 0
    if isinstance(a, float) or isinstance(b, float):
        return math.inf if (a > 0) == (b > 0) else -math.inf
    return a * b


@dataclass(frozen=True, slots=True)
class Residue:
    """``x % modulus == remainder``; modulus 1 says nothing, modulus 0 says ``x == remainder``."""

    modulus: int
    remainder: int

    @property
    def divisor(self) -> int:
        """The largest number known to divide x (0 for x == 0)."""
        return math.gcd(self.modulus, self.remainder)

    def __add__(self, other: Residue) -> Residue:
        return residue_class(math.gcd(self.modulus, other.modulus), self.remainder + other.remainder)

    def __mul__(self, other: Residue) -> Residue:
        m, r, n, s = self.modulus, self.remainder, other.modulus, other.remainder
        return residue_class(math.gcd(m * n, m * s, n * r), r * s)

    def floordiv(self, den: int) -> Residue:
        if self.modulus % den:
            return UNKNOWN
        return residue_class(self.modulus // den, self.remainder // den)

    def mod(self, den: int) -> Residue:
        if self.modulus % den == 0:
            return residue_class(0, self.remainder % den)
        return residue_class(math.gcd(self.modulus, den), self.remainder)

    def join(self, other: Residue) -> Residue:
        """What holds for a value that is either."""
        return residue_class(math.gcd(self.modulus, other.modulus, self.remainder - other.remainder), self.remainder)

    def meet(self, other: Residue) -> Residue:
        """What holds for a value that is both (Chinese remainders); ``self`` when they contradict each other."""
        if self.modulus == 0 or other.modulus == 0:
            return self if self.modulus == 0 else other
        common = math.gcd(self.modulus, other.modulus)
        gap = other.remainder - self.remainder
        if gap % common:
            return self
        steps = gap // common * pow(self.modulus // common, -1, other.modulus // common)
        return residue_class(math.lcm(self.modulus, other.modulus), self.remainder + self.modulus * steps)

    def tighten(self, range: Bounds) -> Bounds:
        """The range without ends that have the wrong remainder."""
        if self.modulus == 0:
            return range.meet(Bounds(self.remainder, self.remainder))
        lo, hi = range.lo, range.hi
        if lo is not None:
            lo += (self.remainder - lo) % self.modulus
        if hi is not None:
            hi -= (hi - self.remainder) % self.modulus
        return Bounds(lo, hi)


def residue_class(modulus: int, remainder: int) -> Residue:
    """With the remainder reduced to [0, modulus)."""
    return Residue(modulus, remainder % modulus if modulus else remainder)


UNKNOWN: Final = Residue(1, 0)
