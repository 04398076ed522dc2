"""How far the approximate instructions may be from the exact result: the errors that the PTX manual documents.

This is what hardware promises, and what the emulator keeps.  Everything that is not listed is exact: correctly
rounded, or an integer.  Matrix products are exact too while every partial sum fits their accumulator; beyond, the
order of additions is the hardware's own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """|result - exact| <= ulps * ulp(exact) + relative * |exact| + absolute, for inputs as in `inputs`."""

    ulps: float = 0
    relative: float = 0
    absolute: float = 0
    inputs: str = ""

    def __str__(self) -> str:
        parts = []
        if self.ulps:
            parts.append(f"{self.ulps:g} ulp")
        for size, what in ((self.relative, "relative"), (self.absolute, "absolute")):
            if size:
                parts.append(f"{what} {_power(size)}")
        text = " + ".join(parts)
        return f"{text}, {self.inputs}" if self.inputs else text


def _power(size: float) -> str:
    from math import log2

    return f"2^{log2(size):.4g}"


ACCURACY: dict[str, Bound] = {
    "div.approx.f32": Bound(ulps=2, inputs="divisor from 2^-126 to 2^126"),
    "div.full.f32": Bound(ulps=2),
    "rcp.approx.f32": Bound(ulps=1),
    "rcp.approx.f64": Bound(relative=2.0**-19),
    "sqrt.approx.f32": Bound(relative=2.0**-23, ulps=0.5),
    "rsqrt.approx.f32": Bound(relative=2.0**-22.9, ulps=0.5),
    "rsqrt.approx.f64": Bound(relative=2.0**-19),
    "sin.approx.f32": Bound(absolute=2.0**-20.5, inputs="from -2 pi to 2 pi"),
    "cos.approx.f32": Bound(absolute=2.0**-20.5, inputs="from -2 pi to 2 pi"),
    "lg2.approx.f32": Bound(relative=2.0**-22, absolute=2.0**-22),
    "ex2.approx.f32": Bound(ulps=2),
    "ex2.approx.f16": Bound(relative=2.0**-9.9),
    "ex2.approx.bf16": Bound(relative=2.0**-7),
    "tanh.approx.f32": Bound(relative=2.0**-11),
    "tanh.approx.f16": Bound(absolute=2.0**-10.987),
    "tanh.approx.bf16": Bound(absolute=2.0**-8),
}
"""By opcode, without .ftz; packed types as their elements."""


def bound_of(opcode: str) -> Bound | None:
    """The documented error of an opcode, or None if its result is exact."""
    words = [word for word in opcode.split(".") if word != "ftz"]
    words[-1] = words[-1].removesuffix("x2")
    return ACCURACY.get(".".join(words))
