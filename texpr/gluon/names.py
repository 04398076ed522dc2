"""Identifiers of a generated function: readable, unique, and never a word that means something to Python or Gluon."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass, field

from texpr.gluon.helpers import HELPERS
from texpr.gluon.operations import word
from texpr.lang.ir import COMPARISONS, Monoid, OpName
from texpr.math.expr import Const
from texpr.tile.ir import (
    Cast,
    Choose,
    Elementwise,
    Expr,
    Half,
    Lane,
    Literal,
    Load,
    Rank,
    Reduce,
    Relayout,
    Scan,
    SharedGather,
    SharedTile,
    Uniform,
)

_RESERVED = frozenset({
    "gl", "gluon", "tl", "libdevice", "async_copy", "mma_v2", "mbarrier", "tma", "fence_async_shared", "warpgroup_mma",
    "warpgroup_mma_wait", "float", "range", "int", "min", "max",
})  # fmt: skip


@dataclass(slots=True)
class Identifiers:
    """Gives out each identifier once."""

    taken: set[str] = field(default_factory=set)

    def fresh(self, *wanted: str) -> str:
        """The first of ``wanted`` that is free, else the first one with a number."""
        cleaned = [_clean(name) for name in wanted]
        for name in cleaned:
            if self._free(name):
                self.taken.add(name)
                return name
        n = 2
        while not self._free(f"{cleaned[0]}_{n}"):
            n += 1
        self.taken.add(f"{cleaned[0]}_{n}")
        return f"{cleaned[0]}_{n}"

    def _free(self, name: str) -> bool:
        return not (name in self.taken or name in _RESERVED or name in HELPERS or keyword.iskeyword(name))


def _clean(name: str) -> str:
    cleaned = re.sub(r"\W+", "_", name)
    return cleaned if cleaned and not cleaned[0].isdigit() else f"v{cleaned}"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a value is computed for. ``stem`` starts the names of the values inside it; ``exact`` is the name of the
    value itself, if its role has one (``x_mask``)."""

    stem: str
    exact: str = ""

    @property
    def inner(self) -> Hint:
        """For the operands of the value."""
        return Hint(self.stem)


def suggestions(expr: Expr, hint: Hint) -> tuple[str, ...]:
    """What to call the value of ``expr``, best first: what it is, else its role, else what was done for what."""
    natural = _natural_names(expr)
    if natural:
        return natural
    if hint.exact:
        return (hint.exact,)
    stem = hint.stem
    match expr:
        case Elementwise(op=op):
            return (f"{stem}_{word(op)}",)
        case Choose():
            return (f"{stem}_chosen",)
        case Cast(dtype=dtype):
            return (f"{stem}_{dtype.value}",)
        case Reduce(op=op):
            return (f"{stem}_{op.name.lower() if isinstance(op, Monoid) else op.value}",)
        case Rank():
            return (f"{stem}_ranked",)
        case Scan():
            return (f"{stem}_prefixes",)
        case Half(space=space):
            return (f"{space.name.lower()}",)
        case Relayout(space=space):
            name = space.name.lower()
            return (name if name.startswith(stem) else f"{stem}_{name}", f"{stem}_{name}")
        case _:
            return (stem,)


def _natural_names(expr: Expr) -> tuple[str, ...]:
    """The names of values that mean the same wherever they are used; empty for all others."""
    match expr:
        case Lane(space=space, dim=dim):
            axes = "_".join(name for name, _ in space.dims[dim].axes)
            return axes, f"{axes}_{space.name.lower()}", f"{axes}_lane"
        case Load(tensor=tensor, dims=dims):
            return (f"{tensor}_tile" if dims else f"{tensor}_value",)
        case SharedTile(buffer=buffer) | SharedGather(buffer=buffer):
            return (f"{buffer.removesuffix('_shared')}_tile",)
        case Elementwise(op=op, args=args):
            return _operation_names(op, args)
        case Cast(value=Load(tensor=tensor), dtype=dtype):
            return (f"{tensor}_{dtype.value}",)
        case Cast(value=value, dtype=dtype):
            axis = axis_of(value)
            return (f"{axis}_{dtype.value}",) if axis else ()
        case Relayout(value=value, space=space):
            axis = axis_of(value)
            return (f"{axis}_{space.name.lower()}",) if axis else ()
        case _:
            return ()


def _operation_names(op: OpName, args: tuple[Expr, ...]) -> tuple[str, ...]:
    axis = axis_of(args[0]) if args else None
    if op in COMPARISONS and axis is not None:
        return (f"{axis}_inside" if op is OpName.LT else f"{axis}_{word(op)}",)
    parts = [axis_of(arg) for arg in args]
    if op in (OpName.FLOORDIV, OpName.MOD) and parts[0] is not None and isinstance(args[0], Lane):
        found = _fused_axis(op, args)
        if found is not None:
            return (found, f"{found}_lane")
    if op is OpName.ADD and any(parts) and any(isinstance(arg, Uniform) for arg in args):
        name = next(part for part in parts if part)
        return f"{name}_index", f"{name}_at"
    return ()


def axis_of(expr: Expr) -> str | None:
    """The axis whose position ``expr`` is, up to a uniform term; None if it is something else."""
    match expr:
        case Lane(space=space, dim=dim):
            return "_".join(name for name, _ in space.dims[dim].axes)
        case Elementwise(op=OpName.FLOORDIV | OpName.MOD as op, args=args):
            return _fused_axis(op, args)
        case Elementwise(op=OpName.ADD, args=(left, right)):
            if isinstance(left, Uniform):
                return axis_of(right)
            return axis_of(left) if isinstance(right, Uniform) else None
        case Relayout(value=value):
            return axis_of(value)
        case _:
            return None


def _fused_axis(op: OpName, args: tuple[Expr, ...]) -> str | None:
    """Which of the axes fused into a dim ``lane // a`` or ``lane // a % b`` is."""
    lane, inner = args[0], 1
    if op is OpName.MOD and isinstance(lane, Elementwise) and lane.op is OpName.FLOORDIV:
        inner = _number(lane.args[1]) or 0
        lane = lane.args[0]
    if op is OpName.FLOORDIV:
        inner = _number(args[1]) or 0
    if not isinstance(lane, Lane):
        return None
    stride = 1
    for name, size in reversed(lane.space.dims[lane.dim].axes):
        if stride == inner:
            return name
        stride *= size
    return None


def _number(expr: Expr) -> int | None:
    match expr:
        case Literal(value=value):
            return int(value)
        case Uniform(value=Const(value)):
            return value
        case _:
            return None
