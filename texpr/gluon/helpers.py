"""Device functions that generated kernels call: what Gluon has no exact operation for.

Each is a constant text, so that kernels of one bundle share them. Errors are relative to results of IEEE arithmetic in
the same type; those without a stated error are exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

TRITON: Final = "import triton.language as tl"
ASYNC_COPY: Final = "from triton.experimental.gluon.language.nvidia.ampere import async_copy"
MMA: Final = "from triton.experimental.gluon.language.nvidia.ampere import mma_v2"
MBARRIER: Final = "from triton.experimental.gluon.language.nvidia.hopper import mbarrier"
TENSOR_COPY: Final = "from triton.experimental.gluon.language.nvidia.hopper import tma"
CLUSTER: Final = "from triton.experimental.gluon.language.nvidia.hopper import cluster"
FENCE_ASYNC: Final = "from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared"
WARPGROUP_MMA: Final = "from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma"
WARPGROUP_WAIT: Final = "from triton.experimental.gluon.language.nvidia.hopper import warpgroup_mma_wait"
LIBDEVICE: Final = "from triton.language.extra import libdevice"


@dataclass(frozen=True, slots=True)
class Helper:
    """``needs`` names other helpers and import lines that must come first."""

    text: str
    needs: tuple[str, ...] = ()


def _function(text: str, *needs: str) -> Helper:
    return Helper("@gluon.jit\n" + text.strip("\n"), needs)


def _convert(name: str, source: str, target: str) -> Helper:
    """A float to a 32- or 64-bit integer as PTX does it; NaN gives 0 there only from f32 to 32 bits."""
    instruction, constraint = _CONVERSIONS[source, target]
    lines = [
        f"def {name}(x):",
        f'    """{source} to {target}: truncated toward zero, saturated, NaN gives 0."""',
        "    converted = gl.inline_asm_elementwise(",
        f'        "cvt.rzi.{instruction} $0, $1;", "{constraint}", [x], dtype=gl.{target}, is_pure=True, pack=1',
        "    )",
    ]
    if (source, target) in (("float32", "int32"), ("float32", "uint32")):
        lines.append("    return converted")
    else:
        lines.append("    return gl.where(x == x, converted, 0)")
    return _function("\n".join(lines))


_CONVERSIONS: Final = {
    ("float32", "int32"): ("s32.f32", "=r,f"),
    ("float32", "uint32"): ("u32.f32", "=r,f"),
    ("float32", "int64"): ("s64.f32", "=l,f"),
    ("float32", "uint64"): ("u64.f32", "=l,f"),
    ("float64", "int32"): ("s32.f64", "=r,d"),
    ("float64", "uint32"): ("u32.f64", "=r,d"),
    ("float64", "int64"): ("s64.f64", "=l,d"),
    ("float64", "uint64"): ("u64.f64", "=l,d"),
}

HELPERS: Final[dict[str, Helper]] = {
    "floor_div": _function('''
def floor_div(a, b):
    """a // b rounded toward minus infinity (Triton truncates)."""
    quotient = a // b
    return gl.where((a % b != 0) & ((a < 0) != (b < 0)), quotient - 1, quotient)
'''),
    "floor_mod": _function('''
def floor_mod(a, b):
    """a % b with the sign of b (Triton's has the sign of a)."""
    rest = a % b
    return gl.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
'''),
    "find_group": _function('''
def find_group(offsets, groups, slot, size: gl.constexpr):
    """The last group e with offsets[e] // size + e <= slot: the one whose tiles have the number slot among them."""
    low = slot - slot
    high = groups + low
    while high - low > 1:
        middle = (low + high) // 2
        before = gl.load(offsets + middle).to(gl.int32) // size + middle <= slot
        low = gl.where(before, middle, low)
        high = gl.where(before, high, middle)
    return low
'''),
    "half_of_columns": _function('''
def half_of_columns(x, second: gl.constexpr, layout: gl.constexpr):
    """The first or second half of the columns of a matrix, where no value moves to another thread."""
    halves = x.reshape([x.shape[0], 2, x.shape[1] // 2]).permute((0, 2, 1)).split()
    return gl.convert_layout(halves[second], layout, assert_trivial=True)
'''),
    "lanes_alike": _function('''
def lanes_alike(key):
    """A bit for every lane of the warp that has the same 32-bit key."""
    return gl.inline_asm_elementwise(
        "match.any.sync.b32 $0, $1, 0xffffffff;", "=r,r", [key], dtype=gl.int32, is_pure=False, pack=1
    )
'''),
    "lanes_alike_64": _function('''
def lanes_alike_64(key):
    """A bit for every lane of the warp that has the same 64-bit key."""
    return gl.inline_asm_elementwise(
        "match.any.sync.b64 $0, $1, 0xffffffff;", "=r,l", [key], dtype=gl.int32, is_pure=False, pack=1
    )
'''),
    "is_first_lane": _function('''
def is_first_lane(lanes):
    """Whether none of the lanes comes before this one."""
    before = gl.inline_asm_elementwise(
        "{ .reg .b32 before; mov.u32 before, %lanemask_lt; and.b32 $0, before, $1; }", "=r,r", [lanes],
        dtype=gl.int32, is_pure=True, pack=1,
    )
    return before == 0
'''),
    "lane_count": _function('''
def lane_count(lanes):
    """How many lanes there are."""
    return gl.inline_asm_elementwise("popc.b32 $0, $1;", "=r,r", [lanes], dtype=gl.int32, is_pure=True, pack=1)
'''),
    "max_nan": _function('''
def max_nan(a, b):
    """The greater of two floats, NaN if either is NaN."""
    return gl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
''', TRITON),
    "min_nan": _function('''
def min_nan(a, b):
    """The lesser of two floats, NaN if either is NaN."""
    return gl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
''', TRITON),
    "max_int": _function('''
def max_int(a, b):
    return gl.maximum(a, b)
'''),
    "min_int": _function('''
def min_int(a, b):
    return gl.minimum(a, b)
'''),
    "add": _function('''
def add(a, b):
    return a + b
'''),
    "multiply": _function('''
def multiply(a, b):
    return a * b
'''),
    "bit_and": _function('''
def bit_and(a, b):
    return a & b
'''),
    "bit_or": _function('''
def bit_or(a, b):
    return a | b
'''),
    "bit_xor": _function('''
def bit_xor(a, b):
    return a ^ b
'''),
    "argmax_int": _function('''
def argmax_int(key, index, other_key, other_index):
    """The greater key and its index; ties take the lower index, -1 (no element) last."""
    lower = (other_index == -1) | ((index != -1) & (index < other_index))
    take = (key > other_key) | ((key == other_key) & lower)
    return gl.where(take, key, other_key), gl.where(take, index, other_index)
'''),
    "argmin_int": _function('''
def argmin_int(key, index, other_key, other_index):
    """The lesser key and its index; ties take the lower index, -1 (no element) last."""
    lower = (other_index == -1) | ((index != -1) & (index < other_index))
    take = (key < other_key) | ((key == other_key) & lower)
    return gl.where(take, key, other_key), gl.where(take, index, other_index)
'''),
    "argmax_float": _function('''
def argmax_float(key, index, other_key, other_index):
    """The greater key and its index; NaN beats every number, ties take the lower index, -1 (no element) last."""
    nan = key != key
    other_nan = other_key != other_key
    lower = (other_index == -1) | ((index != -1) & (index < other_index))
    tie = (key == other_key) | (nan & other_nan)
    take = (((key > other_key) | nan) & ~other_nan) | (tie & lower)
    return gl.where(take, key, other_key), gl.where(take, index, other_index)
'''),
    "argmin_float": _function('''
def argmin_float(key, index, other_key, other_index):
    """The lesser key and its index; NaN beats every number, ties take the lower index, -1 (no element) last."""
    nan = key != key
    other_nan = other_key != other_key
    lower = (other_index == -1) | ((index != -1) & (index < other_index))
    tie = (key == other_key) | (nan & other_nan)
    take = (((key < other_key) | nan) & ~other_nan) | (tie & lower)
    return gl.where(take, key, other_key), gl.where(take, index, other_index)
'''),
    "sorted_words": _function('''
def sorted_words(x, at, outer: gl.constexpr, n: gl.constexpr, inner: gl.constexpr, count: gl.constexpr):
    """The count least of n unsigned integers along the middle dim, ascending: a bitonic network. at: positions there.

    In each step the partners differ in one bit of the position: an exchange of registers, of lanes, or (where the
    layout has the bit in the warps) through shared memory.
    """
    bits: gl.constexpr = n.bit_length() - 1
    for block in gl.static_range(bits):
        for step in gl.static_range(block, -1, -1):
            x = gl.reshape(x, [outer * (n >> (step + 1)), 2, inner << step])
            at = gl.reshape(at, [outer * (n >> (step + 1)), 2, inner << step])
            partner = x ^ gl.expand_dims(gl.reduce(x, 1, bit_xor), 1)
            least = ((at >> step) & 1) == ((at >> (block + 1)) & 1)
            x = gl.where(least, gl.minimum(x, partner), gl.maximum(x, partner))
    if count < n:
        x = gl.reduce(gl.reshape(x, [outer, n // count, count * inner]), 1, min_int)
    return x
''', "bit_xor", "min_int"),
    "least_words": _function('''
def least_words(x, best, at, axis: gl.constexpr, made: gl.constexpr, source: gl.constexpr, target: gl.constexpr):
    """The least unsigned integers of x along dim axis (and of best along dim made), ascending along dim made: in each
    round the least one is taken out. All ones stand for nothing. at: positions along dim made of the result."""
    nothing: gl.constexpr = (1 << x.dtype.primitive_bitwidth) - 1
    count: gl.constexpr = at.shape[made]
    rows: gl.constexpr = len(at.shape) > 1
    found = gl.full(at.shape, nothing, x.dtype, target)
    for rank in range(count):
        least = gl.reduce(x, axis, min_int)
        placed = least
        if rows:
            placed = gl.convert_layout(least, gl.SliceLayout(made, target))
        if best is not None:
            placed = gl.minimum(placed, gl.reduce(best, made, min_int))
            least = placed
            if rows:
                least = gl.convert_layout(placed, gl.SliceLayout(axis, source))
                placed = gl.expand_dims(placed, made)
            best = gl.where(best == placed, nothing, best)
        elif rows:
            placed = gl.expand_dims(placed, made)
        if rows:
            least = gl.expand_dims(least, axis)
        x = gl.where(x == least, nothing, x)
        found = gl.where(at == rank, placed, found)
    return found
''', "min_int"),
    "tanh_f32": _function('''
def tanh_f32(x):
    """tanh to 4 units in the last place: Cephes' odd polynomial below 0.55, 1 - 2 / (exp(2 |x|) + 1) above."""
    size = gl.abs(x)
    square = x * x
    series = -5.70498872745e-3
    series = series * square + 2.06390887954e-2
    series = series * square - 5.37397155531e-2
    series = series * square + 1.33314422036e-1
    series = series * square - 3.33332819422e-1
    tail = 1.0 - 2.0 / (gl.exp2(size * 2.8853900817779268) + 1.0)
    return gl.where(size < 0.55, x + x * square * series, gl.where(x < 0.0, -tail, tail))
'''),
    "floor_f32": _function('''
def floor_f32(x):
    """The greatest integer not above x. gl.floor takes subnormals for zero."""
    return gl.inline_asm_elementwise("cvt.rmi.f32.f32 $0, $1;", "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1)
'''),
    "ceil_f32": _function('''
def ceil_f32(x):
    """The least integer not below x. gl.ceil takes subnormals for zero."""
    return gl.inline_asm_elementwise("cvt.rpi.f32.f32 $0, $1;", "=f,f", [x], dtype=gl.float32, is_pure=True, pack=1)
'''),
    "int_power": _function('''
def int_power(x, exponent):
    """x ** exponent for integers and an exponent that is not negative, by repeated squaring; wraps."""
    bits: gl.constexpr = exponent.dtype.primitive_bitwidth
    result = x * 0 + 1
    for bit in gl.static_range(bits):
        result = gl.where((exponent >> bit) & 1 != 0, result * x, result)
        x = x * x
    return result
'''),
    "round_tf32": _function('''
def round_tf32(x):
    """f32 to tf32: 10 bits of mantissa, to nearest, ties away from zero."""
    return gl.inline_asm_elementwise("cvt.rna.tf32.f32 $0, $1;", "=r,r", [x], dtype=gl.float32, is_pure=True, pack=1)
'''),
    "f64_to_f32_odd": _function('''
def f64_to_f32_odd(x):
    """f64 to f32, inexact results rounded to the neighbour with an odd mantissa: rounding once more is then exact."""
    nearest = x.to(gl.float32)
    back = nearest.to(gl.float64)
    bits = nearest.to(gl.int32, bitcast=True)
    toward_zero = gl.where(gl.abs(back) > gl.abs(x), bits - 1, bits)
    return gl.where(back == x, bits, toward_zero | 1).to(gl.float32, bitcast=True)
'''),
    "long_to_f64_odd": _function('''
def long_to_f64_odd(x):
    """A 64-bit integer to f64 from which rounding on is exact: in a large one bit 11 stands for the 12 lowest."""
    low = x & 0xFFF
    sticky = gl.where(low == 0, low, 0x800)
    small = (x >> 12) * 4096
    exact = gl.where(gl.abs(x) < 0x10000000000000, x, small | sticky)
    return exact.to(gl.float64)
'''),
    "f32_to_e4m3": _function('''
def f32_to_e4m3(x):
    """f32 to the bits of f8e4m3: to nearest, ties to even, saturated to +-448, NaN to 0x7f."""
    bits = x.to(gl.uint32, bitcast=True)
    sign = (bits >> 24) & 0x80
    size = bits & 0x7FFFFFFF
    rounded = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20) - 960
    subnormal = (size.to(gl.float32, bitcast=True) + 16384.0).to(gl.uint32, bitcast=True) - 0x46800000
    code = gl.minimum(gl.where(size < 0x3C800000, subnormal, rounded), 0x7E)
    code = gl.where(size < 0x43F00000, code, 0x7E)
    return (gl.where(size > 0x7F800000, 0x7F, code) | sign).to(gl.uint8)
'''),
    "f32_to_e5m2": _function('''
def f32_to_e5m2(x):
    """f32 to the bits of f8e5m2: to nearest, ties to even, infinity beyond 57344, NaN to 0x7f."""
    bits = x.to(gl.uint32, bitcast=True)
    sign = (bits >> 24) & 0x80
    size = bits & 0x7FFFFFFF
    rounded = ((size + 0xFFFFF + ((size >> 21) & 1)) >> 21) - 448
    subnormal = (size.to(gl.float32, bitcast=True) + 128.0).to(gl.uint32, bitcast=True) - 0x43000000
    code = gl.where(size < 0x38800000, subnormal, rounded)
    code = gl.where(size < 0x47700000, code, 0x7C)
    return (gl.where(size > 0x7F800000, 0x7F, code) | sign).to(gl.uint8)
'''),
    "e4m3_to_f32": _function('''
def e4m3_to_f32(bits):
    """The value of an f8e4m3 given as its bits: those of an f16 whose exponent is too small by 8."""
    wide = bits.to(gl.uint16)
    half = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    value = half.to(gl.float16, bitcast=True).to(gl.float32) * 256.0
    return gl.where((wide & 0x7F) == 0x7F, float("nan"), value)
'''),
    "f32_to_int32": _convert("f32_to_int32", "float32", "int32"),
    "f32_to_uint32": _convert("f32_to_uint32", "float32", "uint32"),
    "f32_to_int64": _convert("f32_to_int64", "float32", "int64"),
    "f32_to_uint64": _convert("f32_to_uint64", "float32", "uint64"),
    "f64_to_int32": _convert("f64_to_int32", "float64", "int32"),
    "f64_to_uint32": _convert("f64_to_uint32", "float64", "uint32"),
    "f64_to_int64": _convert("f64_to_int64", "float64", "int64"),
    "f64_to_uint64": _convert("f64_to_uint64", "float64", "uint64"),
}  # fmt: skip


@dataclass(slots=True)
class Preamble:
    """What a kernel turned out to need, each chunk once: imports first, helpers before those that call them."""

    imports: dict[str, None] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)

    def use(self, name: str) -> str:
        """Make sure that the helper is there; returns its name."""
        if name not in self.functions:
            helper = HELPERS[name]
            self._require(helper.needs)
            self.functions[name] = helper.text
        return name

    def use_import(self, line: str) -> None:
        self.imports[line] = None

    def define(self, name: str, text: str) -> str:
        """Add a function made for this kernel; its text must not change under the same name."""
        assert self.functions.setdefault(name, text) == text, f"two helpers are called {name}"
        return name

    def chunks(self) -> tuple[str, ...]:
        return (*sorted(self.imports), *self.functions.values())

    def _require(self, names: Iterable[str]) -> None:
        for name in names:
            if name in HELPERS:
                self.use(name)
            else:
                self.use_import(name)
