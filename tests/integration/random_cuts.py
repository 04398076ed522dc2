"""Random schedules of an algorithm: most of them legal, some not, every directive that is lowered in many
combinations."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from texpr.lang.ir import (
    Algorithm,
    Axis,
    AxisRef,
    Def,
    Func,
    Op,
    OpName,
    Read,
    Reduce,
    ReduceOp,
    Tensor,
    top_exprs,
    walk,
)
from texpr.math.expr import Const

Record = dict[str, Any]

_SMALL: Final = (1, 2, 4, 8)
_TILES: Final = (1, 1, 2, 4, 8, 16, 16, 32, 32, 64, 128)
_MOST_POINTS: Final = 1 << 12
"""Points of a tile that a draw stays below most of the time: the emulator is slow on large ones."""


@dataclass
class Cut:
    """One kernel as it is drawn. ``tile`` holds the size of every axis that the tile has, ``loops`` those of placed
    loops, as (func, axis): size; ``renamed`` the axes that stand for one that is split or fused."""

    rng: random.Random
    algorithm: Algorithm
    writes: tuple[Func, ...]
    needed: tuple[Def, ...]
    guards: set[str]
    record: Record
    tile: dict[str, int] = field(default_factory=dict)
    renamed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loops: dict[tuple[str, str], int] = field(default_factory=dict)

    def size(self, least: int = 1) -> int:
        """A tile size that keeps the tile small."""
        room = _MOST_POINTS
        for size in self.tile.values():
            room //= size
        sizes = [n for n in _TILES if least <= n <= max(room, 1)] or [least]
        return self.rng.choice(sizes)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability


def random_schedule(rng: random.Random, algorithm: Algorithm, target: str) -> Record:
    """A schedule as YAML data. Sizes that a guard must bound get a second variant for the rest."""
    guards: set[str] = set()
    kernels = _kernels(rng, algorithm, guards)
    aligned = [p.name for p in algorithm.params if isinstance(p, Tensor)]
    if rng.random() < 0.3:
        guards.add(f"aligned({', '.join(aligned)}, 16)")
    symbols = [dim.name for dim in algorithm.dims if dim.value is None]
    if symbols and rng.random() < 0.3:
        guards.add(f"{rng.choice(symbols)} % {rng.choice((2, 4, 8, 16))} == 0")
    first: Record = {"name": "first", "target": [target]}
    if guards:
        first["when"] = " and ".join(sorted(guards))
    if rng.random() < 0.3:
        first["assume"] = [f"finite({name})" for name in aligned]
    first["kernels"] = kernels
    variants = [first]
    if guards:
        variants.append({"name": "rest", "target": [target], "kernels": _plain(algorithm)})
    return {"texpr": 1, "algorithm": algorithm.name, "variants": variants}


def _plain(algorithm: Algorithm) -> list[Record]:
    """One kernel per output: a grid over its axes, loops for what it reduces."""
    kernels = []
    stored: set[Func] = set()
    for func in _outputs(algorithm):
        record: Record = {"name": f"plain_{func.name}", "writes": [func.name]}
        record["grid"] = {axis.name: 16 if n == len(func.axes) - 1 else 1 for n, axis in enumerate(func.axes)}
        place: Record = {}
        for definition in _needed(algorithm, (func,), stored):
            if isinstance(definition.top, Reduce):
                place[definition.name] = {"loop": {axis.name: 16 for axis in definition.top.axes}}
                missing = [a for a in definition.axes if a not in func.axes]
                if missing:
                    return []
        record["place"] = place
        kernels.append(record)
        stored.add(func)
    return kernels


def _outputs(algorithm: Algorithm) -> list[Func]:
    return [func for definition in algorithm.defs for func in definition.funcs if func.output is not None]


def _reads(definition: Def) -> list[Read]:
    found: dict[int, Read] = {}
    for expr in top_exprs(definition.top):
        for node in walk(expr):
            if isinstance(node, Read):
                found[id(node)] = node
    return list(found.values())


def _needed(algorithm: Algorithm, writes: Sequence[Func], stored: set[Func]) -> tuple[Def, ...]:
    wanted: dict[int, Def] = {}

    def visit(func: Func) -> None:
        definition = algorithm.definition(func)
        if func in stored or id(definition) in wanted:
            return
        wanted[id(definition)] = definition
        for read in _reads(definition):
            if isinstance(read.source, Func):
                visit(read.source)

    for func in writes:
        visit(func)
    return tuple(d for d in algorithm.defs if id(d) in wanted)


def _read_elsewhere(algorithm: Algorithm) -> set[Func]:
    """Funcs that some definition reads at other points than its own."""
    found: set[Func] = set()
    for definition in algorithm.defs:
        for read in _reads(definition):
            if isinstance(read.source, Func):
                plain = [index.axis if isinstance(index, AxisRef) else None for index in read.indices]
                if plain != list(read.source.axes):
                    found.add(read.source)
    return found


def _kernels(rng: random.Random, algorithm: Algorithm, guards: set[str]) -> list[Record]:
    """All kernels: funcs that a later one reads may be stored in between."""
    funcs = [func for definition in algorithm.defs for func in definition.funcs]
    elsewhere = _read_elsewhere(algorithm)
    groups: list[list[Func]] = []
    for func in funcs:
        reduced = isinstance(algorithm.definition(func).top, Reduce)
        if func.output is None and rng.random() > (0.9 if reduced and func in elsewhere else 0.25):
            continue
        apart = groups and any(g in elsewhere for g in groups[-1]) and rng.random() < 0.9
        if groups and not apart and rng.random() < (0.8 if set(groups[-1][0].axes) == set(func.axes) else 0.3):
            groups[-1].append(func)
        else:
            groups.append([func])
    stored: set[Func] = set()
    kernels: list[Record] = []
    for number, group in enumerate(groups):
        needed = _needed(algorithm, group, stored)
        record: Record = {"name": f"k{number}", "writes": [func.name for func in group]}
        cut = Cut(rng, algorithm, tuple(group), needed, guards, record)
        if not _split_reduction(cut, kernels):
            _draw(cut)
            kernels.append({key: value for key, value in record.items() if value not in ({}, [])})
        stored |= set(group)
    return kernels


def _draw(cut: Cut) -> None:
    record, rng = cut.record, cut.rng
    place: Record = {}
    record["place"] = place
    _recut(cut)
    _tiles(cut)
    _reductions(cut)
    _intermediates(cut)
    _outputs_placed(cut)
    _stages(cut)
    if cut.chance(0.6):
        record["warps"] = rng.choice((1, 2, 4, 4, 8))
    if record.get("grid") and cut.chance(0.15):
        record["persistent"] = rng.choice([True, {"programs": 3}, {"programs": {"value": "2 * sms", "max": 64}}])
    if record.get("grid") and cut.chance(0.15):
        axis = rng.choice(list(record["grid"]))
        record["order"] = rng.choice([{"group": axis, "by": rng.choice((2, 3))}, {"reverse": axis}])
    if len(record.get("grid", {})) > 1 and cut.chance(0.15):
        record["reorder"] = rng.sample(list(record["grid"]), len(record["grid"]))
    _map(cut)
    for name in [name for name, entry in place.items() if not entry]:
        del place[name]


def _free_axes(cut: Cut) -> tuple[list[Axis], list[Axis]]:
    """The axes of all writes, and those that only some of them have."""
    every: dict[Axis, None] = {}
    for func in cut.writes:
        every.update(dict.fromkeys(func.axes))
    common = [axis for axis in every if all(axis in func.axes for func in cut.writes)]
    return common, [axis for axis in every if axis not in common]


def _whole(cut: Cut, axis: Axis) -> int | None:
    """A size that covers the axis, guarded if that has to be assumed; None if it would be too large."""
    if isinstance(axis.extent, Const):
        size = 1 << max(0, axis.extent.value - 1).bit_length()
        return size * (2 if cut.chance(0.1) else 1)
    size = cut.size()
    if size < 4:
        return None
    cut.guards.add(f"{axis.extent} <= {size}")
    return size


def _tiles(cut: Cut) -> None:
    """Grid and whole, and loops of outputs for what neither covers."""
    common, rest = _free_axes(cut)
    grid: Record = {}
    whole: Record = {}
    for axis in reversed(common):
        if axis.name in cut.renamed:
            grid |= {name: cut.size() for name in reversed(cut.renamed[axis.name])}
            cut.tile |= {name: grid[name] for name in cut.renamed[axis.name]}
            continue
        roll = cut.rng.random()
        size = _whole(cut, axis) if roll < 0.15 else None
        if size is not None:
            whole[axis.name] = cut.tile[axis.name] = size
        elif roll < 0.3 and not any(isinstance(cut.algorithm.definition(f).top, Reduce) for f in cut.writes):
            _output_loop(cut, axis)
        else:
            grid[axis.name] = cut.tile[axis.name] = cut.size()
    for axis in rest:
        size = _whole(cut, axis) if cut.chance(0.5) else None
        if size is not None:
            whole[axis.name] = cut.tile[axis.name] = size
        else:
            _output_loop(cut, axis)
    cut.record["grid"] = dict(reversed(grid.items()))
    cut.record["whole"] = whole


def _output_loop(cut: Cut, axis: Axis) -> None:
    leader = ""
    for func in cut.writes:
        if axis not in func.axes:
            continue
        entry = cut.record["place"].setdefault(func.name, {})
        if leader and cut.chance(0.4):
            entry["with"] = leader
        else:
            size = cut.size()
            entry.setdefault("loop", {})[axis.name] = size
            cut.loops[func.name, axis.name] = size
            leader = func.name


def _recut(cut: Cut) -> None:
    """``split`` and ``fuse``: of axes that all writes have, or that a reduction runs over."""
    common, _ = _free_axes(cut)
    reduced = [d.top.axes for d in cut.needed if isinstance(d.top, Reduce)]
    groups = [common, *reduced]
    roll = cut.rng.random()
    if roll < 0.15:
        names = [axis.name for axis in cut.rng.choice(groups)]
        if names:
            name = cut.rng.choice(names)
            cut.renamed[name] = (f"{name}o", f"{name}i")
            cut.record["split"] = {name: {"into": list(cut.renamed[name]), "by": cut.rng.choice((2, 3, 8, 16))}}
    elif roll < 0.3:
        several = [group for group in groups if len(group) > 1]
        if several:
            group = cut.rng.choice(several)
            chosen = sorted(cut.rng.sample(list(group), 2), key=list(group).index)
            new = "".join(axis.name for axis in chosen)
            cut.renamed.update({chosen[0].name: (new,), chosen[1].name: ()})
            cut.record["fuse"] = {new: [axis.name for axis in chosen]}


def _reductions(cut: Cut) -> None:
    """Loops or whole tiles for every reduction, inside another one's loop where it needs that."""
    placed: list[tuple[Def, list[str]]] = []
    for definition in reversed(cut.needed):
        top = definition.top
        if not isinstance(top, Reduce):
            continue
        constant = all(isinstance(axis.extent, Const) and axis.extent.value <= 8 for axis in top.axes)
        constant = constant and not any(axis.name in cut.renamed for axis in top.axes)
        if constant and cut.chance(0.5) and all(axis.name not in cut.tile for axis in top.axes):
            continue  # written out
        entry: Record = cut.record["place"].setdefault(definition.name, {})
        entry.pop("loop", None)
        loop: Record = {}
        for axis in top.axes:
            if axis.name in cut.tile:
                continue
            if axis.name in cut.renamed:
                loop |= {name: cut.size() for name in cut.renamed[axis.name] if name not in cut.tile}
                continue
            size = _whole(cut, axis) if cut.chance(0.25) else None
            if size is not None:
                cut.record["whole"][axis.name] = cut.tile[axis.name] = size
            else:
                loop[axis.name] = cut.size()
                if isinstance(axis.extent, Const) and axis.extent.value <= 5 and cut.chance(0.3):
                    entry.setdefault("unroll", []).append(axis.name)
                    loop[axis.name] = 1
        if cut.chance(0.15):
            loop = dict(reversed(loop.items()))
        if loop:
            entry["loop"] = loop
            for name, size in loop.items():
                cut.loops[definition.name, name] = size
        at = _position_for(cut, definition, placed)
        if at or cut.chance(0.3):
            entry["at"] = at or "tile"
        if cut.chance(0.3 if _is_product(definition) else 0.03):
            entry["mma"] = cut.rng.choice(("auto", "mma", "fma"))
        others = [d.name for d, _ in placed if isinstance(d.top, Reduce) and d.axes == definition.axes]
        if others and cut.chance(0.1):
            entry["into"] = cut.rng.choice(others)
        placed.append((definition, list(loop)))


def _is_product(definition: Def) -> bool:
    top = definition.top
    if not isinstance(top, Reduce) or top.op is not ReduceOp.SUM:
        return False
    return isinstance(top.exprs[0], Op) and top.exprs[0].name is OpName.MUL


def _position_for(cut: Cut, definition: Def, placed: Sequence[tuple[Def, list[str]]]) -> str | None:
    """The loop of a reader that supplies the axes which the tile lacks."""
    missing = {axis.name for axis in definition.axes} - set(cut.tile)
    if not missing and not cut.chance(0.1):
        return None
    for func, axis in reversed(cut.loops):
        if axis in missing and func != definition.name:
            return f"{func}.{axis}"
    return None


def _intermediates(cut: Cut) -> None:
    """Elementwise funcs: inlined, or kept in registers or shared memory."""
    for definition in cut.needed:
        small = isinstance(definition.top, Reduce) and definition.name not in cut.record["place"]
        if any(func in cut.writes for func in definition.funcs) or (isinstance(definition.top, Reduce) and not small):
            continue
        if cut.chance(0.5):
            continue
        entry: Record = {"at": "tile" if cut.chance(0.8) or not cut.loops else _some_loop(cut)}
        if cut.chance(0.5):
            entry["in"] = cut.rng.choice(("shared", "shared", "registers"))
        if cut.chance(0.2):
            axes = [axis.name for axis in definition.axes]
            entry["by"] = {name: cut.rng.choice(_SMALL) for name in axes if cut.chance(0.6)}
        cut.record["place"][definition.name] = entry


def _some_loop(cut: Cut) -> str:
    func, axis = cut.rng.choice(list(cut.loops))
    return f"{func}.{axis}"


def _outputs_placed(cut: Cut) -> None:
    """Pieces of outputs, and their way through shared memory."""
    for func in cut.writes:
        entry: Record = cut.record["place"].setdefault(func.name, {})
        definition = cut.algorithm.definition(func)
        alone = not isinstance(definition.top, Reduce) and all(isinstance(r.source, Tensor) for r in _reads(definition))
        if cut.chance(0.2 if alone or _is_product(definition) else 0.03):
            names = [axis.name for axis in func.axes if cut.tile.get(axis.name, 1) > 1]
            entry["by"] = {name: max(1, cut.tile[name] // cut.rng.choice((2, 4))) for name in names[-1:]}
        if cut.chance(0.2 if _is_product(definition) else 0.05):
            entry["via"] = "shared"


def _stages(cut: Cut) -> None:
    """Tensors, and what earlier kernels have stored, held close by at a level where they are read."""
    tensors: dict[str, list[str]] = {}
    own_funcs = {func for definition in cut.needed for func in definition.funcs}
    for definition in cut.needed:
        for read in _reads(definition):
            if read.source not in own_funcs:
                own = [f"{func}.{axis}" for func, axis in cut.loops if func == definition.name]
                tensors.setdefault(read.source.name, []).extend(own if cut.chance(0.3) else own[-1:])
    stage: Record = {}
    for name, levels in tensors.items():
        if not cut.chance(0.3):
            continue
        choices = [*levels, *(["tile"] if not levels or cut.chance(0.2) else [])]
        choices += ["program"] if cut.chance(0.1) else []
        if cut.loops and cut.chance(0.2):
            choices.append(_some_loop(cut))
        entry: Record = {"at": cut.rng.choice(choices), "in": cut.rng.choice(("shared", "shared", "registers"))}
        in_loop = "." in entry["at"]
        if entry["in"] == "shared" and cut.chance(0.5):
            entry["copy"] = cut.rng.choice(("async", "async", "sync"))
        if in_loop and entry["in"] == "shared" and cut.chance(0.6):
            entry["depth"] = cut.rng.randint(2, 4)
            if cut.chance(0.3):
                waits = entry.get("copy") != "async"  # in registers
                entry["ahead"] = cut.rng.randint(int(waits), entry["depth"] - (0 if waits else 1))
        elif in_loop and cut.chance(0.2):
            entry["ahead"] = 1
        if cut.chance(0.03):
            names = list(cut.tile) or ["i"]
            entry["by"] = {cut.rng.choice(names): cut.rng.choice(_SMALL)}
        stage[name] = entry
    cut.record["stage"] = stage


def _map(cut: Cut) -> None:
    """All lanes and warps spread over the axes of the tile; now and then a few too few."""
    if not cut.tile or cut.loops or not cut.chance(0.35):
        return
    entries: Record = {name: {} for name in cut.tile}
    warps = cut.record.setdefault("warps", 4)
    for what, count in (("lanes", 32), ("warps", warps)):
        while count > 1 and not cut.chance(0.02):
            entry = entries[cut.rng.choice(list(entries))]
            entry[what] = entry.get(what, 1) * 2
            count //= 2
    for entry in entries.values():
        if cut.chance(0.4):
            entry["each"] = cut.rng.choice((1, 2, 4, 8))
    cut.record["map"] = {name: entry for name, entry in entries.items() if entry}


def _split_reduction(cut: Cut, kernels: list[Record]) -> bool:
    """Two kernels in place of one: pieces of reductions, and their combination."""
    tops = [(f, cut.algorithm.definition(f)) for f in cut.writes]
    reduced = [d for _, d in tops if isinstance(d.top, Reduce)]
    if len(reduced) != len(tops) or not cut.chance(0.2):
        return False
    if any(isinstance(d.top, Reduce) and d not in reduced for d in cut.needed):
        return False
    top = reduced[0].top
    assert isinstance(top, Reduce)
    over = cut.rng.choice(top.axes).name
    parts: Any = cut.rng.choice((2, 3, 4))
    if cut.chance(0.3):
        parts = {"value": f"clamp({top.axes[0].extent} // 8, 1, 8)", "max": 8}
    most = 8 if isinstance(parts, dict) else 4
    grid = {axis.name: cut.rng.choice((1, 2, 8, 16)) for axis in reduced[0].axes}
    place = {}
    for definition in reduced:
        assert isinstance(definition.top, Reduce)
        place[f"{definition.name}.part"] = {
            "at": "tile",
            "loop": {a.name: cut.rng.choice((4, 16)) for a in definition.top.axes},
        }
    name = cut.record["name"]
    written = [f"{func.name}.part" for d in reduced for func in d.funcs]
    kernels.append(
        {
            "name": f"{name}_parts",
            "writes": written,
            "grid": {**grid, f"{over}.part": 1},
            "split_reduction": {"of": [d.name for d in reduced], "over": over, "parts": parts},
            "place": place,
        }
    )
    last: Mapping[str, Any] = {
        "name": name,
        "writes": [f.name for f in cut.writes],
        "grid": grid,
        "whole": {f"{over}.part": most},
    }
    kernels.append(dict(last))
    return True
