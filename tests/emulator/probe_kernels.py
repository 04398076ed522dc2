"""Triton kernels that make its compiler emit as many instruction forms as possible; only compiled, never run."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def scan_sort(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + i)
    total = tl.cumsum(value, 0)
    product = tl.cumprod(value, 0, reverse=True)
    ordered = tl.sort(value)
    tl.store(y + i, total + product + ordered + tl.flip(value, 0) + tl.max(value, 0) + tl.min(value, 0))
    tl.store(y + N, tl.argmax(value, 0).to(value.dtype) + tl.argmin(value, 0).to(value.dtype))
    tl.store(y + N + 1, tl.xor_sum(value.to(tl.int32, bitcast=value.dtype.primitive_bitwidth == 32), 0).to(value.dtype))


@triton.jit
def histogram_gather(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + i)
    counts = tl.histogram(value, 64)
    tl.store(y + tl.arange(0, 64), counts)
    tl.store(y + 64 + i, tl.gather(value, value & (N - 1), 0))


@triton.jit
def atomics(x, y, N: tl.constexpr, ORDER: tl.constexpr, SCOPE: tl.constexpr):
    i = tl.arange(0, N)
    value = tl.load(x + i)
    tl.store(x + i, tl.atomic_add(y + i, value, sem=ORDER, scope=SCOPE))
    tl.atomic_add(y + i // 2, value, sem=ORDER, scope=SCOPE)
    if value.dtype != tl.bfloat16 and value.dtype != tl.float16:
        tl.store(x + i, tl.atomic_max(y + i, value, sem=ORDER, scope=SCOPE))
        tl.store(x + i, tl.atomic_min(y + i, value, sem=ORDER, scope=SCOPE))
    tl.store(x + i, tl.atomic_xchg(y + i, value, sem=ORDER, scope=SCOPE))
    old = tl.atomic_cas(y + i, value, value + 1, sem=ORDER, scope=SCOPE)
    tl.store(x + i, old)
    if value.dtype.is_int():
        tl.store(x + i, tl.atomic_and(y + i, value, sem=ORDER, scope=SCOPE))
        tl.store(x + i, tl.atomic_or(y + i, value, sem=ORDER, scope=SCOPE))
        tl.store(x + i, tl.atomic_xor(y + i, value, sem=ORDER, scope=SCOPE))


@triton.jit
def atomic_scalar(x, y, ORDER: tl.constexpr, SCOPE: tl.constexpr):
    value = tl.load(x)
    tl.store(x, tl.atomic_add(y, value, sem=ORDER, scope=SCOPE))
    tl.store(x, tl.atomic_cas(y, value, value + 1, sem=ORDER, scope=SCOPE))


@triton.jit
def converts(x, y, N: tl.constexpr, TO: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y + i, tl.load(x + i).to(TO))


@triton.jit
def rounds(x, y, N: tl.constexpr, MODE: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y + i, tl.load(x + i).to(y.dtype.element_ty, fp_downcast_rounding=MODE))


@triton.jit
def dots(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    total = tl.zeros((M, N), ACC)
    for step in range(4):
        left = tl.load(a + m[:, None] * K * 4 + (k + step * K)[None, :])
        right = tl.load(b + n[None, :] * K * 4 + (k + step * K)[:, None])
        total = tl.dot(left, right, total, input_precision=PRECISION, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], total)


@triton.jit
def dots_transposed(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, ACC: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + m[:, None] + k[None, :] * M)
    right = tl.load(b + n[None, :] + k[:, None] * N)
    total = tl.dot(left, right, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], total)


@triton.jit
def scaled_dots(a, a_scale, b, b_scale, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, KIND: tl.constexpr):
    m, n, k, s = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K), tl.arange(0, K // 32)
    left = tl.load(a + m[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n[None, :])
    left_scale = tl.load(a_scale + m[:, None] * (K // 32) + s[None, :])
    right_scale = tl.load(b_scale + n[:, None] * (K // 32) + s[None, :])
    total = tl.dot_scaled(left, left_scale, KIND, right, right_scale, KIND)
    tl.store(c + m[:, None] * N + n[None, :], total)


@triton.jit
def arithmetic(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(x + N + i)
    tl.store(y + i, a + b)
    tl.store(y + N + i, a - b)
    tl.store(y + 2 * N + i, a * b)
    tl.store(y + 3 * N + i, -a)
    tl.store(y + 4 * N + i, tl.abs(a))
    tl.store(y + 5 * N + i, tl.maximum(a, b))
    tl.store(y + 6 * N + i, tl.minimum(a, b))
    tl.store(y + 7 * N + i, tl.where(a < b, a, b))
    tl.store(y + 8 * N + i, tl.clamp(a.to(tl.float32), 0.0, 6.0).to(a.dtype))
    tl.store(y + 9 * N + i, a * b + a)


@triton.jit
def float_functions(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(x + N + i)
    tl.store(y + i, a / b)
    tl.store(y + N + i, tl.math.fma(a, b, a))
    tl.store(y + 2 * N + i, tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL))
    tl.store(y + 3 * N + i, tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL))
    wide = a.to(tl.float32)
    tl.store(y + 4 * N + i, tl.exp(wide) + tl.exp2(wide) + tl.log(wide) + tl.log2(wide))
    tl.store(y + 5 * N + i, tl.sin(wide) + tl.cos(wide) + tl.sqrt(wide) + tl.rsqrt(wide) + tl.erf(wide))
    tl.store(y + 6 * N + i, tl.math.div_rn(wide, wide + 1) + tl.sqrt_rn(wide) + tl.floor(wide) + tl.ceil(wide))
    tl.store(y + 7 * N + i, tl.sigmoid(wide) + tl.softmax(wide))


@triton.jit
def integer_functions(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(x + N + i)
    tl.store(y + i, a // b)
    tl.store(y + N + i, a % b)
    tl.store(y + 2 * N + i, a << (b & 7))
    tl.store(y + 3 * N + i, a >> (b & 7))
    tl.store(y + 4 * N + i, (a & b) | (a ^ ~b))
    tl.store(y + 5 * N + i, a // 7 + a % 10)
    tl.store(y + 6 * N + i, tl.umulhi(a.to(tl.uint32), b.to(tl.uint32)).to(a.dtype))
    tl.store(y + 7 * N + i, tl.cdiv(a, 3))


@triton.jit
def libdevice_functions(x, y, n, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    b = a.to(tl.int32, bitcast=True)
    tl.store(n + i, libdevice.clz(b) + libdevice.popc(b) + libdevice.brev(b) + libdevice.ffs(b))
    tl.store(n + N + i, libdevice.mulhi(b, b) + libdevice.mul24(b, b) + libdevice.sad(b, b, b.to(tl.uint32)))
    tl.store(n + 2 * N + i, libdevice.byte_perm(b, b, b) + libdevice.hadd(b, b) + libdevice.rhadd(b, b))
    tl.store(n + 3 * N + i, libdevice.float2int_rn(a) + libdevice.float2int_ru(a) + libdevice.float_as_int(a))
    tl.store(y + i, libdevice.tanh(a) + libdevice.fast_expf(a) + libdevice.fast_sinf(a) + libdevice.fast_dividef(a, a))
    tl.store(y + N + i, libdevice.rsqrt(a) + libdevice.rcp_rn(a) + libdevice.add_rz(a, a) + libdevice.mul_ru(a, a))
    tl.store(y + 2 * N + i, libdevice.nearbyint(a) + libdevice.trunc(a) + libdevice.round(a) + libdevice.saturatef(a))
    tl.store(y + 3 * N + i, libdevice.pow(a, a) + libdevice.fmod(a, a) + libdevice.atan2(a, a) + libdevice.log1p(a))
    tl.store(y + 4 * N + i, libdevice.copysign(a, a) + libdevice.ldexp(a, b) + libdevice.cbrt(a) + libdevice.lgamma(a))
    tl.store(y + 5 * N + i, libdevice.fma_rd(a, a, a) + libdevice.sqrt_rz(a) + libdevice.div_rd(a, a) + libdevice.j0(a))


@triton.jit
def cached_accesses(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i, eviction_policy="evict_first")
    b = tl.load(x + N + i, eviction_policy="evict_last")
    c = (
        tl.load(x + 2 * N + i, volatile=True)
        + tl.load(x + i, cache_modifier=".cg")
        + tl.load(x + i, cache_modifier=".cv")
    )
    d = tl.load(x + 3 * N + i, mask=i < 100, other=0.0)
    tl.store(y + i, a, eviction_policy="evict_first")
    tl.store(y + N + i, b, eviction_policy="evict_last")
    tl.store(y + 4 * N + i, tl.load(x + i, cache_modifier=".ca"), cache_modifier=".wb")
    tl.store(y + 5 * N + i, b, cache_modifier=".cg")
    tl.store(y + 2 * N + i, c, cache_modifier=".cs")
    tl.store(y + 3 * N + i, d, cache_modifier=".wt", mask=i < 100)


@triton.jit
def transposes(x, y, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    value = tl.load(x + m[:, None] * N + n[None, :])
    tl.store(y + n[:, None] * M + m[None, :], tl.trans(value))
    tl.debug_barrier()
    tl.store(
        y + m[:, None] * N + n[None, :],
        tl.join(value, value).reshape(M, 2 * N).reshape(2 * M, N).reshape(M, 2, N).permute(0, 2, 1).split()[0],
    )


@triton.jit
def descriptors(x, y, M, K, BM: tl.constexpr, BK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, K], [K, 1], [BM, BK])
    target = tl.make_tensor_descriptor(y, [M, K], [K, 1], [BM, BK])
    block = source.load([0, BK])
    target.store([0, 0], block)
    target.atomic_add([BM, 0], block)


@triton.jit
def random_numbers(y, seed, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(y + i, tl.rand(seed, i) + tl.randn(seed, i))


@triton.jit
def dependent_launch(x, y, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.extra.cuda.gdc_wait()
    value = tl.load(x + i)
    tl.extra.cuda.gdc_launch_dependents()
    tl.store(y + i, value)
    if tl.program_id(0) > 3:
        tl.device_print("value", value)
    tl.device_assert(value > 0)
    tl.store(y + N, tl.extra.cuda.globaltimer().to(tl.float32) + tl.extra.cuda.smid().to(tl.float32))
