"""What kind of work an instruction is, for counting: a table from opcodes to classes.

The first rule that fits decides.  A rule names the first words of opcodes and, where these do not say enough, words
one of which must occur behind them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache


class InstructionClass(Enum):
    """Classes of instructions, in the order in which they are listed."""

    INTEGER = "integer"
    FLOAT32 = "float32"
    HALF = "float16"
    FLOAT64 = "float64"
    SPECIAL = "special function"
    CONVERSION = "conversion"
    MOVE = "move and predicate"
    TENSOR = "tensor core"
    GLOBAL = "global memory"
    SHARED = "shared memory"
    LOCAL = "local memory"
    PARAMETER = "parameters"
    GENERIC = "generic memory"
    COPY = "asynchronous copy"
    ATOMIC = "atomic"
    WARP = "across the warp"
    BARRIER = "barrier and fence"
    CONTROL = "control"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Rule:
    heads: frozenset[str]
    words: frozenset[str]
    belongs: InstructionClass

    def fits(self, head: str, words: frozenset[str]) -> bool:
        return head in self.heads and (not self.words or not self.words.isdisjoint(words))


def _rule(heads: str, words: str, belongs: InstructionClass) -> _Rule:
    return _Rule(frozenset(heads.split()), frozenset(words.split()), belongs)


_ARITHMETIC = "add sub mul fma mad neg abs min max copysign"
_HALF = "f16 f16x2 bf16 bf16x2"

_RULES: tuple[_Rule, ...] = (
    _rule("mma", "", InstructionClass.TENSOR),
    _rule("wgmma", "mma_async", InstructionClass.TENSOR),
    _rule("wgmma fence membar bar barrier mbarrier griddepcontrol", "", InstructionClass.BARRIER),
    _rule("cp", "wait_group wait_all commit_group mbarrier", InstructionClass.BARRIER),
    _rule("cp", "", InstructionClass.COPY),
    _rule("tensormap", "", InstructionClass.COPY),
    _rule("atom red", "", InstructionClass.ATOMIC),
    _rule("ldmatrix stmatrix", "", InstructionClass.SHARED),
    _rule("ld ldu st", "global", InstructionClass.GLOBAL),
    _rule("ld ldu st", "shared shared::cta shared::cluster", InstructionClass.SHARED),
    _rule("ld ldu st", "local", InstructionClass.LOCAL),
    _rule("ld ldu st", "param param::entry param::func const", InstructionClass.PARAMETER),
    _rule("ld ldu st", "", InstructionClass.GENERIC),
    _rule("prefetch prefetchu applypriority discard", "", InstructionClass.GLOBAL),
    _rule("shfl vote match redux elect activemask", "", InstructionClass.WARP),
    _rule("bra brx ret exit call trap brkpt nanosleep pmevent setmaxnreg", "", InstructionClass.CONTROL),
    _rule("div sqrt rcp", "f32 f64", InstructionClass.SPECIAL),
    _rule("ex2 lg2 sin cos tanh rsqrt", "", InstructionClass.SPECIAL),
    _rule("cvt", "", InstructionClass.CONVERSION),
    _rule("mov movmatrix setp set selp slct testp createpolicy", "", InstructionClass.MOVE),
    _rule("cvta isspacep mapa getctarank", "", InstructionClass.MOVE),
    _rule("and or xor not", "pred", InstructionClass.MOVE),
    _rule(_ARITHMETIC, "f64", InstructionClass.FLOAT64),
    _rule(_ARITHMETIC, "f32 f32x2", InstructionClass.FLOAT32),
    _rule(_ARITHMETIC, _HALF, InstructionClass.HALF),
    _rule(
        "add addc sub subc mul mad madc neg abs min max div rem sad mul24 mad24 dp4a dp2a and or xor not cnot lop3 shl "
        "shr shf bfe bfi bmsk szext prmt popc clz bfind brev fns",
        "",
        InstructionClass.INTEGER,
    ),
)


@cache
def class_of(opcode: str) -> InstructionClass:
    """The class of an opcode with all its words, such as `ld.global.v4.b32`."""
    head, *words = opcode.split(".")
    found = frozenset(words)
    return next((rule.belongs for rule in _RULES if rule.fits(head, found)), InstructionClass.OTHER)
