"""The scalar operations of the algorithm IR."""

from __future__ import annotations

from enum import Enum
from typing import Final


class OpName(Enum):
    """Scalar operations. Comparison results are bool; the rest have their operands' dtype."""

    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "/"  # true division, floats only
    FLOORDIV = "//"  # integers (and INDEX): rounds toward minus infinity
    MOD = "%"  # integers: sign of the divisor
    NEG = "neg"
    ABS = "abs"
    MIN = "minimum"  # NaN if either operand is NaN
    MAX = "maximum"
    POW = "**"
    AND = "&"
    OR = "|"
    XOR = "^"
    NOT = "~"
    SHL = "<<"
    SHR = ">>"
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "=="
    NE = "!="
    EXP = "exp"
    EXP2 = "exp2"
    LOG = "log"
    LOG2 = "log2"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    SIN = "sin"
    COS = "cos"
    TANH = "tanh"
    ERF = "erf"
    FLOOR = "floor"
    CEIL = "ceil"
    FMA = "fma"


COMPARISONS: Final = frozenset({OpName.LT, OpName.LE, OpName.GT, OpName.GE, OpName.EQ, OpName.NE})
