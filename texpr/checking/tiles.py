"""The sizes that a schedule treats specially: tiles, loop steps and parts, per axis, and from them the sizes of dims
worth a call.

Wrong results hide at the edges: no element, one, a tile less one, a tile, a tile and one more, several tiles, a prime.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from texpr.lang.ir import Algorithm, Axis, Reduce
from texpr.math.bounds import Facts, divisor
from texpr.math.expr import (
    And,
    BoolExpr,
    Compare,
    Const,
    FloorDiv,
    IntExpr,
    Not,
    Or,
    Sym,
    children,
    evaluate,
    free_symbols,
    substitute,
    sym,
)
from texpr.schedule.records import Variant
from texpr.schedule.words import LoopOf

_LARGEST = 40_000
"""Sizes beyond this are never tried: the emulator would take too long."""
_SMALL = (0, 1, 2, 5, 17, 37)
"""Sizes of dims that no tile covers."""
_TURNS = 19
"""So many tiles that the programs of a persistent kernel on a small device work on several each."""
_SMALL_TILE = 16
"""Of larger tiles so many would take too long, and axes of the grid are rarely alone."""


def axes_of(algorithm: Algorithm) -> dict[str, Axis]:
    """Every axis that some definition runs over, by name."""
    found: dict[str, Axis] = {}
    for definition in algorithm.defs:
        over = definition.top.axes if isinstance(definition.top, Reduce) else ()
        for axis in (*definition.axes, *over):
            found.setdefault(axis.name, axis)
    return found


def tile_sizes(record: Variant) -> dict[str, tuple[int, ...]]:
    """Per axis name, the sizes in which some kernel of the variant covers it, ascending."""
    found: dict[str, set[int]] = {}
    for kernel in record.kernels:
        members = {name: tuple(parts) for name, parts in kernel.fuse.items()}
        members |= {part: (name,) for name, split in kernel.split.items() for part in split.into}
        places = [size for place in kernel.place.values() for size in (*place.loop.items(), *place.by.items())]
        stages = [size for stage in kernel.stage.values() for size in stage.by.items()]
        splits = [(name, split.by) for name, split in kernel.split.items()]
        splits += [item for scan in kernel.scan.values() for item in scan.by.items()]
        groups = [size for group in (kernel.online, kernel.merge) if group is not None for size in group.loop.items()]
        for name, size in (*kernel.grid.items(), *kernel.whole.items(), *places, *groups, *stages, *splits):
            for member in members.get(name, (name,)):
                found.setdefault(member, set()).add(size)
    return {name: tuple(sorted(sizes)) for name, sizes in found.items()}


def long_runs(record: Variant) -> dict[str, set[int]]:
    """Per axis name, extents of so many tiles that nothing is left out: a pipeline comes round, a group of tiles is
    followed by another, every part of a split reduction has something."""
    found: dict[str, set[int]] = {}
    for kernel in record.kernels:
        loops = {name: place.loop for name, place in kernel.place.items()}
        for group in (kernel.online, kernel.merge):
            loops.update({name: group.loop for name in group.funcs} if group is not None else {})
        for stage in kernel.stage.values():
            if isinstance(stage.at, LoopOf) and stage.at.func in loops:
                step = loops[stage.at.func].get(stage.at.axis, 1)
                found.setdefault(stage.at.axis, set()).add((stage.depth + 2) * step - 1)
        order = kernel.order
        if order is not None and order.by is not None:
            for axis in order.axes:
                found.setdefault(axis, set()).add(order.by * kernel.grid.get(axis, 1) + 1)
        if kernel.persistent is not None:
            for axis, size in kernel.grid.items():
                found.setdefault(axis, set()).update({_TURNS * size + 1} if size <= _SMALL_TILE else set())
        split = kernel.split_reduction
        if split is not None and split.parts is not None and isinstance(split.parts.value, Const):
            step = max(tile_sizes(record).get(split.over, (1,)))
            found.setdefault(split.over, set()).add(split.parts.value.value * step + 1)
    return found


def _divisors_in(record: Variant) -> list[tuple[str, int]]:
    """``(N, 8192)`` where a number known at launch depends on ``N // 8192``."""
    numbers = [
        number.value
        for kernel in record.kernels
        for number in (
            kernel.split_reduction.parts if kernel.split_reduction is not None else None,
            kernel.persistent.programs if kernel.persistent is not None else None,
        )
        if number is not None
    ]
    found: list[tuple[str, int]] = []
    while numbers:
        number = numbers.pop()
        if isinstance(number, FloorDiv) and isinstance(number.num, Sym) and isinstance(number.den, Const):
            found.append((number.num.name, number.den.value))
        numbers += [child for child in children(number) if isinstance(child, IntExpr)]
    return found


def _program_steps(record: Variant) -> list[tuple[str, int]]:
    """``(N, 4096)`` where a hand-written kernel has as many programs as ``N`` has tiles of 4096."""
    numbers: list[IntExpr] = [kernel.extern.programs for kernel in record.kernels if kernel.extern is not None]
    found: list[tuple[str, int]] = []
    while numbers:
        number = numbers.pop()
        if isinstance(number, FloorDiv) and isinstance(number.den, Const):
            found += [(name, number.den.value) for name in sorted(free_symbols(number.num))]
        numbers += [child for child in children(number) if isinstance(child, IntExpr)]
    return found


def interesting(tiles: Iterable[int]) -> list[int]:
    """Extents that exercise the edges of tiles of these sizes, ascending."""
    found = {0, 1}
    for tile in tiles:
        found |= {tile - 1, tile, tile + 1, _next_prime(tile + tile // 2), 3 * tile}
    return sorted(size for size in found if 0 <= size <= _LARGEST)


def _next_prime(start: int) -> int:
    number = max(start, 2)
    while any(number % factor == 0 for factor in range(2, math.isqrt(number) + 1)):
        number += 1
    return number


def dim_sizes(algorithm: Algorithm, record: Variant, guard: BoolExpr, facts: Facts) -> dict[str, tuple[int, ...]]:
    """Sizes worth trying for every free dim under ``guard``, ascending; ``facts`` holds for every call of the
    algorithm."""
    free = [dim.name for dim in algorithm.dims if dim.value is None]
    derived = {dim.name: dim.value for dim in algorithm.dims if dim.value is not None} | algorithm.rooms
    wanted: dict[str, set[int]] = {name: set() for name in free}
    tiles, runs = tile_sizes(record), long_runs(record)
    for name, axis in axes_of(algorithm).items():
        if name in tiles:
            extent = expanded(axis.extent, derived)
            sizes = {*interesting(tiles[name]), *runs.get(name, ())}
            for dim, size in inverted(extent, sorted(sizes), free):
                wanted[dim].add(size)
    for dim, step in _divisors_in(record):
        if dim in wanted:
            wanted[dim].update({2 * step - 1, 3 * step + 1})
    for dim, step in _program_steps(record):
        if dim in wanted:
            wanted[dim].update(interesting([step]))
    for dim, limit in _limits_of(guard):
        if dim in wanted:
            wanted[dim].update(size for size in (limit - 1, limit, limit + 1) if size >= 0)
    assumed = facts.assume(guard)
    return {
        name: _stepped(wanted[name] or set(_SMALL), {divisor(sym(name), facts), divisor(sym(name), assumed)})
        for name in free
    }


def expanded(extent: IntExpr, derived: Mapping[str, IntExpr]) -> IntExpr:
    """``extent`` over free dims only."""
    while free_symbols(extent) & derived.keys():
        extent = substitute(extent, derived)
    return extent


def inverted(extent: IntExpr, sizes: Iterable[int], free: Iterable[str]) -> list[tuple[str, int]]:
    """Values of a dim for which ``extent`` takes the ``sizes``, the other dims of ``extent`` being 1."""
    if isinstance(extent, Sym):
        return [(extent.name, size) for size in sizes]
    found = []
    for dim in sorted(free_symbols(extent) & set(free)):
        missing = set(sizes)
        others = dict.fromkeys(free_symbols(extent), 1)
        for value in range(_LARGEST // 8):
            reached = _value(extent, others | {dim: value})
            if reached in missing:
                missing.remove(reached)
                found.append((dim, value))
            if not missing:
                break
    return found


def _value(extent: IntExpr, values: Mapping[str, int]) -> int | None:
    try:
        return evaluate(extent, values)
    except (KeyError, ZeroDivisionError):
        return None


def _limits_of(guard: BoolExpr) -> list[tuple[str, int]]:
    """``(M, 128)`` for every comparison of a dim with a number, such as ``M >= 128``."""
    match guard:
        case And(args=args) | Or(args=args):
            return [limit for arg in args for limit in _limits_of(arg)]
        case Not(arg=arg):
            return _limits_of(arg)
        case Compare(lhs=Sym(name=name), rhs=Const(value=value)) | Compare(lhs=Const(value=value), rhs=Sym(name=name)):
            return [(name, value)]
        case _:
            return []


def _stepped(sizes: set[int], steps: set[int]) -> tuple[int, ...]:
    """``sizes`` and, where only multiples of a step are admitted, the multiples on either side of each."""
    found = set(sizes)
    for step in steps:
        if step > 1:
            found |= {size // step * step for size in sizes} | {-(-size // step) * step for size in sizes}
    smallest = max(steps, default=1)
    return tuple(sorted(size for size in found if size % max(min(steps), 1) == 0 and size <= _LARGEST + smallest))
