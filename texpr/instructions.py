"""The instructions a schedule can count on, as data: matrix units, asynchronous copies, and how exact scalar
operations are.

Matrix forms are those of Triton's ``mma_v2`` (PTX ``mma.sync``), which every target has, and of its
``warpgroup_mma`` (PTX ``wgmma``), which sm_90a has; read off the PTX that Triton 3.9 emits. Errors are stated for the
instruction sequences that :mod:`texpr.gluon` emits, in units in the last place of the result, from the accuracy tables
of the PTX ISA (``ex2.approx``, ``sqrt.approx``, ...) and of the CUDA math library (``logf``, ``erff``, ``powf``, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from texpr.dtypes import DType
from texpr.lang.ir import OpName
from texpr.targets import Target


@dataclass(frozen=True, slots=True)
class MmaForm:
    """One warp-level matrix instruction ``c[m, n] += a[m, k] * b[k, n]``.

    ``k`` is also the least number of steps along K in one tile. ``k_width`` is how many consecutive K elements a
    thread holds (the operand layout's parameter). ``saturates``: an i32 sum outside the range sticks at its end
    instead of wrapping. ``accuracy`` says in words how the products are added up.
    """

    a: DType
    b: DType
    accumulator: DType
    m: int
    n: int
    k: int
    k_width: int
    needs_fp8: bool
    saturates: bool
    accuracy: str

    @property
    def name(self) -> str:
        """As in the loop nest: ``m16n8k16``."""
        return f"m{self.m}n{self.n}k{self.k}"


_EXACT_PRODUCTS = "products exact; sums in f32, truncated to at least 23 bits within one instruction"
_FP8_SUMS = "products exact; on sm_89 and sm_90 sums within one instruction keep about 14 bits"

MMA_FORMS: Final = (
    MmaForm(DType.F16, DType.F16, DType.F32, 16, 8, 16, 2, False, False, _EXACT_PRODUCTS),
    MmaForm(DType.BF16, DType.BF16, DType.F32, 16, 8, 16, 2, False, False, _EXACT_PRODUCTS),
    MmaForm(DType.TF32, DType.TF32, DType.F32, 16, 8, 8, 1, False, False, _EXACT_PRODUCTS),
    MmaForm(DType.I8, DType.I8, DType.I32, 16, 8, 32, 4, False, True, "exact while sums fit i32"),
    MmaForm(DType.F64, DType.F64, DType.F64, 8, 8, 4, 1, False, False, "IEEE fused multiply-add"),
    MmaForm(DType.F8E4M3, DType.F8E4M3, DType.F32, 16, 8, 32, 4, True, False, _FP8_SUMS),
    MmaForm(DType.F8E4M3, DType.F8E5M2, DType.F32, 16, 8, 32, 4, True, False, _FP8_SUMS),
    MmaForm(DType.F8E5M2, DType.F8E4M3, DType.F32, 16, 8, 32, 4, True, False, _FP8_SUMS),
    MmaForm(DType.F8E5M2, DType.F8E5M2, DType.F32, 16, 8, 32, 4, True, False, _FP8_SUMS),
)

@dataclass(frozen=True, slots=True)
class WarpgroupForm:
    """One instruction of a warpgroup (four warps): ``c[64, n] += a[64, k] * b[k, n]``, n a multiple of 8 up to 256.

    B is read from shared memory, A from there or from registers. ``any_major``: operands in shared memory may be
    contiguous along the rows or columns as well; else along K only. ``k_width`` as in :class:`MmaForm`. A 32-bit sum
    wraps around. ``coarse``: a sum is rounded to fewer bits than f32 has with every instruction that adds to it.
    """

    a: DType
    b: DType
    accumulator: DType
    k: int
    k_width: int
    any_major: bool
    accuracy: str
    coarse: bool = False

    def name(self, columns: int) -> str:
        """As in the loop nest: ``m64n256k16``."""
        return f"m{WARPGROUP_ROWS}n{min(columns, WARPGROUP_MOST_COLUMNS)}k{self.k}"


WARPGROUP_WARPS: Final = 4
WARPGROUP_ROWS: Final = 64
WARPGROUP_LEAST_COLUMNS: Final = 8
WARPGROUP_MOST_COLUMNS: Final = 256

_FP8_CHAINS: Final = "products exact; sums keep about 14 bits, also from one instruction to the next"

WARPGROUP_FORMS: Final = (
    WarpgroupForm(DType.F16, DType.F16, DType.F32, 16, 2, True, _EXACT_PRODUCTS),
    WarpgroupForm(DType.BF16, DType.BF16, DType.F32, 16, 2, True, _EXACT_PRODUCTS),
    WarpgroupForm(DType.TF32, DType.TF32, DType.F32, 8, 1, False, _EXACT_PRODUCTS),
    WarpgroupForm(DType.I8, DType.I8, DType.I32, 32, 4, False, "exact; sums wrap around"),
    WarpgroupForm(DType.F8E4M3, DType.F8E4M3, DType.F32, 32, 4, False, _FP8_CHAINS, True),
    WarpgroupForm(DType.F8E4M3, DType.F8E5M2, DType.F32, 32, 4, False, _FP8_CHAINS, True),
    WarpgroupForm(DType.F8E5M2, DType.F8E4M3, DType.F32, 32, 4, False, _FP8_CHAINS, True),
    WarpgroupForm(DType.F8E5M2, DType.F8E5M2, DType.F32, 32, 4, False, _FP8_CHAINS, True),
)

FMA_LEAST_K: Final = {DType.F32: 8, DType.F64: 4}
"""Operand and accumulator types of the contraction on scalar fused multiply-adds, which every target has, and the least
number of steps along K in one tile (Triton's ``dot`` takes no fewer)."""

I8_SATURATION_FREE_K: Final = 131_071
"""The longest i8 contraction whose i32 sum cannot leave the range: K * 128 * 128 < 2**31."""

COPY_ASYNC_BYTES: Final = (16, 8, 4)
"""Sizes of one cp.async; only 16 bypasses L1. A thread's contiguous, aligned run of a tile must be at least 4 bytes.
"""

MAX_VECTOR_BYTES: Final = 16
"""The widest global or shared access of one thread."""


def mma_form(a: DType, b: DType, target: Target) -> MmaForm | None:
    """The matrix instruction for these operand types on ``target``, or None."""
    for form in MMA_FORMS:
        if form.a is a and form.b is b and (target.has_fp8_mma or not form.needs_fp8):
            return form
    return None


def warpgroup_form(a: DType, b: DType, target: Target) -> WarpgroupForm | None:
    """The instruction of a warpgroup for these operand types on ``target``, or None."""
    if not target.has_wgmma:
        return None
    return next((form for form in WARPGROUP_FORMS if form.a is a and form.b is b), None)


def warpgroup_warps(rows: int, cols: int, warps: int) -> tuple[int, int]:
    """Warps along the rows and columns of a tile that warpgroups multiply: whole groups along the rows as far as the
    rows go, since all groups along them read the same operand B; a tile too narrow for the rest is multiplied twice."""
    along_rows = min(warps, max(WARPGROUP_WARPS, rows // (WARPGROUP_ROWS // WARPGROUP_WARPS)))
    while cols // (warps // along_rows) < WARPGROUP_LEAST_COLUMNS:
        along_rows *= 2
    return along_rows, warps // along_rows


def mma_operand_types(target: Target) -> tuple[tuple[DType, DType], ...]:
    """The operand type pairs that have a matrix instruction on ``target``, for error messages."""
    return tuple((form.a, form.b) for form in MMA_FORMS if target.has_fp8_mma or not form.needs_fp8)


def copy_async_bytes(run_bytes: int) -> int | None:
    """The cp.async size for a thread's contiguous run of ``run_bytes`` aligned bytes, None if it is too short."""
    return next((size for size in COPY_ASYNC_BYTES if run_bytes % size == 0), None)


@dataclass(frozen=True, slots=True)
class OpError:
    """|computed - exact| <= ``ulp`` units in the last place of the result + ``absolute`` + ``per_input`` * |first
    operand| * |result|.

    ``per_input`` is for ``exp``, whose argument reduction multiplies the argument in its own type. ``flushes``:
    subnormal operands or results count as zero (covered by ``absolute``, except for ``sqrt`` and ``rsqrt`` of a
    subnormal, where the result is 0 or infinite).
    """

    ulp: float = 0.0
    absolute: float = 0.0
    per_input: float = 0.0
    flushes: bool = False


EXACT: Final = OpError()
_ROUNDED: Final = OpError(ulp=0.5)
_TINY: Final = 2.0**-126

_F32_ERRORS: Final = {
    OpName.ADD: _ROUNDED,
    OpName.SUB: _ROUNDED,
    OpName.MUL: _ROUNDED,
    OpName.FMA: _ROUNDED,
    OpName.DIV: OpError(ulp=2.0),  # div.full.f32
    # ex2.approx.f32(x * log2 e), the product and the constant each rounded; two ulps of a subnormal result are 2**-148
    OpName.EXP: OpError(ulp=2.0, per_input=2.0**-23, absolute=2.0**-148),
    OpName.EXP2: OpError(ulp=2.0, absolute=_TINY, flushes=True),  # ex2.approx.ftz.f32
    OpName.LOG: OpError(ulp=1.0),  # logf
    OpName.LOG2: OpError(ulp=1.0),  # log2f
    OpName.SQRT: OpError(ulp=1.0, absolute=_TINY, flushes=True),  # sqrt.approx.ftz.f32
    OpName.RSQRT: OpError(ulp=2.0, flushes=True),  # rsqrt.approx.ftz.f32
    OpName.SIN: OpError(ulp=2.0, absolute=_TINY, flushes=True),  # sinf
    OpName.COS: OpError(ulp=2.0),  # cosf
    OpName.TANH: OpError(ulp=4.0, absolute=_TINY),  # the helper tanh_f32
    OpName.ERF: OpError(ulp=2.0, absolute=_TINY, flushes=True),  # erff
    # powf; half an ulp per multiplication for small whole exponents
    OpName.POW: OpError(ulp=4.0, absolute=_TINY, flushes=True),
}

_F64_ERRORS: Final = {
    OpName.ADD: _ROUNDED,
    OpName.SUB: _ROUNDED,
    OpName.MUL: _ROUNDED,
    OpName.FMA: _ROUNDED,
    OpName.DIV: _ROUNDED,
    OpName.SQRT: _ROUNDED,
    OpName.EXP: OpError(ulp=1.0),
    OpName.EXP2: OpError(ulp=1.0),
    OpName.LOG: OpError(ulp=1.0),
    OpName.LOG2: OpError(ulp=2.0),
    OpName.RSQRT: OpError(ulp=2.0),
    OpName.SIN: OpError(ulp=2.0),
    OpName.COS: OpError(ulp=2.0),
    OpName.TANH: OpError(ulp=2.0),
    OpName.ERF: OpError(ulp=2.0),
    OpName.POW: OpError(ulp=2.0),
}


def op_error(op: OpName, dtype: DType) -> OpError:
    """How far the emitted code for ``op`` on operands of ``dtype`` may be from the exact result; integers and
    comparisons are exact.
    """
    if not dtype.is_float:
        return EXACT
    return (_F64_ERRORS if dtype is DType.F64 else _F32_ERRORS).get(op, EXACT)
