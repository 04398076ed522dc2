"""Global memory accesses: strides, flat offsets, and how wide a vector access is proved to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from texpr.dtypes import DType
from texpr.lang.index import to_int_expr
from texpr.lang.ir import Axis, BoundaryMode, Expr, Func, Read, Tensor
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import And, Atom, AtomKind, BoolExpr, IntExpr, Sym, const, eq, free_symbols, sym
from texpr.math.integer import from_terms, terms_of
from texpr.plan.ir import Scratch

VECTOR_BYTES = 16
WORKSPACE_ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Memory:
    """A tensor in global memory as address arithmetic sees it: strides in elements per logical dim, and the pointer's
    alignment."""

    name: str
    dtype: DType
    shape: tuple[IntExpr, ...]
    strides: tuple[IntExpr, ...]
    alignment: int


def memory_of(source: Tensor | Func | Scratch, guard: BoolExpr) -> Memory:
    """The memory of an argument, of a func stored in the workspace (dense over its axes), or of scratch."""
    if isinstance(source, Scratch):
        return Memory(buffer_name(source.name), source.dtype, source.shape, _dense(source.shape), WORKSPACE_ALIGNMENT)
    if isinstance(source, Func) and source.output is None:
        shape = tuple(axis.extent for axis in source.axes)
        return Memory(buffer_name(source.name), source.dtype, shape, _dense(shape), WORKSPACE_ALIGNMENT)
    tensor = source.output if isinstance(source, Func) else source
    assert tensor is not None
    return Memory(
        tensor.name,
        tensor.dtype,
        tensor.extents,
        tensor_strides(tensor),
        max(alignment(tensor.name, guard), tensor.dtype.bytes),
    )


def buffer_name(name: str) -> str:
    """The name of the workspace buffer of a func: that of ``acc.part`` is ``acc_part``."""
    return name.replace(".", "_")


def tensor_strides(tensor: Tensor) -> tuple[IntExpr, ...]:
    """Element strides per logical dim: row-major, a starred storage dim taking its stride argument."""
    strides: list[IntExpr] = []
    step: IntExpr = const(1)
    logical = tensor.rank
    for storage in reversed(range(len(tensor.groups))):
        if storage in tensor.strided:
            step = sym(f"{tensor.name}_stride_{storage}")
        for _ in range(tensor.groups[storage]):
            logical -= 1
            strides.append(step)
            step = step * tensor.shape[logical]
    return tuple(reversed(strides))


def _dense(shape: Sequence[IntExpr]) -> tuple[IntExpr, ...]:
    strides: list[IntExpr] = []
    step: IntExpr = const(1)
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


def alignment(name: str, guard: BoolExpr) -> int:
    """The pointer alignment in bytes that a variant's guard demands of a tensor; 1 if it says nothing."""
    match guard:
        case Atom(kind=AtomKind.ALIGNED, names=names, number=int(number)) if name in names:
            return number
        case And(args=args):
            return max(alignment(name, arg) for arg in args)
        case _:
            return 1


@dataclass(frozen=True, slots=True)
class Vector:
    """``elements`` consecutive elements are proved contiguous and aligned; ``missing`` is the fact that would allow
    more."""

    elements: int
    missing: str


def vector_of(
    memory: Memory, indices: Sequence[Expr], boundary: BoundaryMode, fast: Axis, size: int, facts: Facts
) -> Vector:
    """How many elements along ``fast`` (a tile of ``size``, its origin a multiple of that) one thread may access at
    once."""
    most = min(VECTOR_BYTES * 8 // memory.dtype.bits, size & -size)
    offset = flat_offset(memory, indices)
    terms = terms_of(offset)
    own = [monomial for monomial in terms if fast.name in {s.name for s in monomial if isinstance(s, Sym)}]
    if (
        len(own) != 1
        or terms[own[0]] != 1
        or len(own[0]) != 1
        or any(fast.name in _symbols(m) for m in terms if m != own[0])
    ):
        return Vector(1, f"{memory.name} is not contiguous along {fast.name}")
    if fast.ragged is not None:
        return Vector(1, f"groups of {fast.name} begin anywhere")
    if boundary not in (BoundaryMode.NONE, BoundaryMode.FILL):
        return Vector(1, f"{memory.name} has a boundary along {fast.name}")
    rest = from_terms({m: c for m, c in terms.items() if m != own[0]})
    elements = most
    missing = ""
    per_pointer = memory.alignment // memory.dtype.bytes
    if per_pointer < elements:
        elements, missing = per_pointer, f"aligned({memory.name}, {most * memory.dtype.bytes})"
    for value, what in ((rest, rest), (fast.extent, fast.extent)):
        known = divisor(value, facts)
        power = most if known == 0 else known & -known
        if power < elements:
            elements, missing = power, str(eq(what % most, 0))
    return Vector(max(1, elements), missing)


def flat_offset(memory: Memory, indices: Sequence[Expr]) -> IntExpr:
    """The element offset over axis symbols; an index that depends on data stands for an unknown integer."""
    total: IntExpr = const(0)
    for d, (index, stride) in enumerate(zip(indices, memory.strides, strict=True)):
        value = to_int_expr(index)
        total = total + (sym(f"{memory.name}?{d}") if value is None else value) * stride
    return total


def fastest_axis(memory: Memory, read: Read | tuple[Expr, ...], axes: Sequence[Axis]) -> Axis | None:
    """The axis among ``axes`` that moves through memory with stride 1, if any."""
    indices = read.indices if isinstance(read, Read) else read
    found = affine_in(flat_offset(memory, indices), [axis.name for axis in axes])
    return next((axis for axis in axes if found.get(axis.name) == const(1)), None)


def affine_in(value: IntExpr, names: Sequence[str]) -> dict[str, IntExpr]:
    """The coefficient of every name in which ``value`` is linear (names that occur in any other way are left out)."""
    coefficients: dict[str, IntExpr] = {}
    broken: set[str] = set()
    for monomial, count in terms_of(value).items():
        inside = [n for n in names if n in _symbols(monomial)]
        for name in inside:
            plain = [factor for factor in monomial if isinstance(factor, Sym) and factor.name == name]
            others = tuple(factor for factor in monomial if not (isinstance(factor, Sym) and factor.name == name))
            if len(plain) != 1 or any(name in _symbols((o,)) for o in others) or len(inside) > 1:
                broken.add(name)
                continue
            coefficients[name] = coefficients.get(name, const(0)) + from_terms({others: count})
    return {name: c for name, c in coefficients.items() if name not in broken}


def _symbols(monomial: Sequence[IntExpr]) -> set[str]:
    found: set[str] = set()
    for factor in monomial:
        found |= free_symbols(factor)
    return found
