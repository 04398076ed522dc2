"""The typing rules of tile expressions: what the verifier demands of every node, whatever statement it stands in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from texpr.dtypes import DType
from texpr.lang.ir import COMPARISONS, Monoid, OpName, ReduceOp
from texpr.math.expr import Const
from texpr.plan.words import MOST_WORDS, word_count
from texpr.tile.declarations import Barriers, Buffer, Dims, PointerParam, Space, TensorMapParam
from texpr.tile.ir import (
    Argument,
    Cast,
    Choose,
    DotStep,
    Elementwise,
    Expr,
    Full,
    Half,
    InlinePtx,
    Lane,
    Literal,
    Load,
    Rank,
    Reduce,
    Relayout,
    Scan,
    SharedGather,
    SharedTile,
    TileCall,
    Uniform,
    Var,
)
from texpr.tile.layouts import Bases, Blocked, Linear, MmaV2, MmaV3, Nvmma, Operand, ctas_of


class TypeProblem(Exception):
    """A node breaks a rule; the verifier adds the statement it stands in."""


@dataclass(frozen=True, slots=True)
class Context:
    """What expressions refer to. ``scalars`` are the types of scalar parameters that are read as values."""

    warps: int
    pointers: Mapping[str, PointerParam]
    scalars: Mapping[str, DType]
    buffers: Mapping[str, Buffer]
    maps: Mapping[str, TensorMapParam]
    barriers: Mapping[str, Barriers]
    programs: int = 1  # of a cluster


def require(condition: bool, problem: str) -> None:
    if not condition:
        raise TypeProblem(problem)


def check_node(expr: Expr, context: Context) -> None:
    """Raise TypeProblem unless ``expr`` is well typed, given that its operands are."""
    if expr.space is not None:
        check_space(expr.space, context.warps, context.programs)
        rank = len(expr.space.dims)
        require(tuple(sorted(set(expr.dims))) == expr.dims, f"dims {expr.dims} are not ascending")
        require(all(0 <= dim < rank for dim in expr.dims), f"dims {expr.dims} are not those of space {expr.space.name}")
    else:
        require(not expr.dims, "a value without a space has dims")
    match expr:
        case Uniform(dtype=dtype):
            require(dtype in (DType.I32, DType.I64), f"a uniform integer has type {dtype}")
        case Argument(name=name, dtype=dtype):
            require(context.scalars.get(name) is dtype, f"{name} is no scalar parameter of type {dtype}")
        case Literal() | Lane() | Var():
            pass
        case Elementwise():
            _elementwise(expr)
        case Choose(condition=condition, then=then, otherwise=otherwise, dtype=dtype):
            require(condition.dtype is DType.BOOL, "the condition of a choice is no bool")
            same = then.dtype is otherwise.dtype is dtype
            require(same, f"a choice of {dtype} between {then.dtype} and {otherwise.dtype}")
            _joins(expr, (condition, then, otherwise))
        case Cast(value=value):
            _joins(expr, (value,))
        case InlinePtx(args=args, dtypes=dtypes, component=component):
            require(0 <= component < len(dtypes), f"result {component} of {len(dtypes)}")
            _joins(expr, args)
        case Load():
            check_load(expr, context)
        case SharedTile():
            _shared_tile(expr, context)
        case SharedGather():
            buffer = _buffer(expr.buffer, expr.stage is not None, context)
            require(len(buffer.shape) == 1, f"buffer {buffer.name} is gathered from but is not flat")
            require(expr.dtype is buffer.dtype, f"a gather of {expr.dtype} from {buffer.dtype}")
            require(expr.index.dtype in (DType.I32, DType.I64), "the index of a gather is no i32 or i64")
            _joins(expr, (expr.index,))
        case Reduce():
            _reduce(expr)
        case Rank():
            _rank(expr)
        case TileCall():
            _tile_call(expr, context)
        case Scan():
            _scan(expr)
        case Relayout():
            _relayout(expr)
        case Half():
            _half(expr)
        case DotStep():
            _dot(expr, context)
        case Full(value=value, dtype=dtype):
            require(value.dtype is dtype, f"a tile of {dtype} filled with {value.dtype}")
        case _:
            assert_never(expr)


def check_parts(what: str, shape: Sequence[int], ctas: Bases, programs: int) -> None:
    """Every program of a cluster has a part of what has this shape, and parts are halves of halves."""
    require(1 << len(ctas) == programs, f"{what} has parts for {1 << len(ctas)} programs of {programs}")
    for d, size in enumerate(shape):
        require(all(len(basis) == len(shape) for basis in ctas), f"the parts of {what} have another rank")
        units = sorted(basis[d] for basis in ctas if basis[d])
        halves = units == [1 << n for n in range(len(units))] and size >> len(units) > 0
        require(halves, f"the parts of {what} along dim {d} are {units}")


def check_space(space: Space, warps: int, programs: int) -> None:
    """The layout fits the space's rank and shape, the program's warps and its cluster."""
    name, rank = space.name, len(space.dims)
    for dim in space.dims:
        require(dim.size > 0 and dim.size & (dim.size - 1) == 0, f"dim {dim} of space {name} is no power of two")
    check_parts(f"space {name}", space.shape, ctas_of(space.layout), programs)
    match space.layout:
        case Blocked() as layout:
            _blocked(name, layout, rank, warps)
        case MmaV2(warps=split):
            require(rank == 2, f"space {name} has a matrix layout and {rank} dims")
            require(split[0] * split[1] == warps, f"the layout of space {name} is for {split[0] * split[1]} warps")
        case MmaV3(warps=split, instruction=(rows, columns, _)):
            require(rank == 2, f"space {name} has a matrix layout and {rank} dims")
            require(split[0] * split[1] == warps, f"the layout of space {name} is for {split[0] * split[1]} warps")
            require(split[0] % 4 == 0 and rows == 16, f"the layout of space {name} is for no whole warpgroups")
            require(columns % 8 == 0 and 8 <= columns <= 256, f"the layout of space {name} has {columns} columns")
        case Operand(index=index, parent=parent):
            require(rank == 2 and index in (0, 1), f"space {name} is no operand of a matrix product")
            if isinstance(parent, Blocked):
                _blocked(name, parent, rank, warps)
            else:
                require(parent.warps[0] * parent.warps[1] == warps, f"the layout of space {name} is for other warps")
        case Linear(registers=registers, lanes=lanes, warps=bases, shape=shape):
            require(shape == space.shape, f"the layout of space {name} is for shape {shape}")
            require(len(lanes) == 5, f"the layout of space {name} has {len(lanes)} lane bits")
            require(1 << len(bases) == warps, f"the layout of space {name} is for {1 << len(bases)} warps")
            ranks = {len(basis) for basis in (*registers, *lanes, *bases)}
            require(ranks <= {rank}, f"the layout of space {name} is for another rank than {rank}")
        case _:
            assert_never(space.layout)


def check_load(load: Load, context: Context) -> None:
    """Also used for the load inside an asynchronous copy."""
    pointer = _pointer(load.tensor, context)
    require(load.dtype is pointer.dtype, f"{load.tensor} has {pointer.dtype} elements, not {load.dtype}")
    require(load.other.dtype is load.dtype, f"masked elements of {load.tensor} are {load.other.dtype}")
    check_access(load.offset, load.mask)
    _joins(load, tuple(e for e in (load.offset, load.mask) if e is not None))


def check_access(offset: Expr | None, mask: Expr | None) -> None:
    require(offset is None or offset.dtype in (DType.I32, DType.I64), "an offset is no i32 or i64")
    require(mask is None or mask.dtype is DType.BOOL, "a mask is no bool")


def check_buffer_tile(buffer: Buffer, shape: tuple[int, ...], dtype: DType) -> None:
    """A tile that is written to a whole stage of ``buffer``."""
    require(shape == buffer.shape, f"a tile of shape {shape} for buffer {buffer.name} of shape {buffer.shape}")
    require(dtype is buffer.dtype, f"buffer {buffer.name} holds {buffer.dtype}, not {dtype}")


def check_word(dtypes: Sequence[DType], widths: Sequence[int]) -> None:
    """The components of a value that is published in words."""
    require(len(dtypes) == len(widths) > 0, f"{len(dtypes)} components in {len(widths)} widths")
    require(word_count(widths) <= MOST_WORDS, f"{word_count(widths)} words for one value")
    for dtype, width in zip(dtypes, widths, strict=True):
        whole = width == (1 if dtype is DType.BOOL else dtype.bits)
        require(whole or (dtype.is_int and 0 < width < dtype.bits), f"{dtype} in {width} bits of a word")


def _blocked(name: str, layout: Blocked, rank: int, warps: int) -> None:
    parts = (layout.each, layout.lanes, layout.warps, layout.order)
    require(all(len(part) == rank for part in parts), f"the layout of space {name} is for another rank than {rank}")
    require(_product(layout.lanes) == 32, f"the layout of space {name} has {_product(layout.lanes)} lanes")
    require(_product(layout.warps) == warps, f"the layout of space {name} is for {_product(layout.warps)} warps")
    require(tuple(sorted(layout.order)) == tuple(range(rank)), f"the order of space {name} is no permutation")


def _elementwise(expr: Elementwise) -> None:
    types = {DType.F32 if arg.dtype is DType.TF32 else arg.dtype for arg in expr.args}
    require(len(expr.args) == _ARITY.get(expr.op, 2), f"{expr.op.value} has {len(expr.args)} operands")
    shift = expr.op in (OpName.SHL, OpName.SHR) and all(t.is_int for t in types)
    require(len(types) == 1 or shift, f"{expr.op.value} mixes {', '.join(sorted(t.value for t in types))}")
    operand = expr.args[0].dtype
    result = DType.BOOL if expr.op in COMPARISONS else operand
    require(expr.dtype is result, f"{expr.op.value} of {operand} gives {result}, not {expr.dtype}")
    if operand.is_float:
        require(operand in (DType.F32, DType.F64, DType.TF32), f"{expr.op.value} computes in {operand}")
        require(expr.op not in _INTEGER_ONLY, f"{expr.op.value} of {operand}")
    elif operand is DType.BOOL:
        require(expr.op in _ON_BOOL, f"{expr.op.value} of bool")
    else:
        require(expr.op not in _FLOAT_ONLY, f"{expr.op.value} of {operand}")
    _joins(expr, expr.args)


_ARITY = {
    OpName.NEG: 1, OpName.ABS: 1, OpName.NOT: 1, OpName.EXP: 1, OpName.EXP2: 1, OpName.LOG: 1, OpName.LOG2: 1,
    OpName.SQRT: 1, OpName.RSQRT: 1, OpName.SIN: 1, OpName.COS: 1, OpName.TANH: 1, OpName.ERF: 1,
    OpName.FLOOR: 1, OpName.CEIL: 1, OpName.FMA: 3,
}  # fmt: skip
_INTEGER_ONLY = frozenset({OpName.AND, OpName.OR, OpName.XOR, OpName.NOT, OpName.SHL, OpName.SHR})
_FLOAT_ONLY = frozenset({
    OpName.DIV, OpName.EXP, OpName.EXP2, OpName.LOG, OpName.LOG2, OpName.SQRT, OpName.RSQRT, OpName.SIN, OpName.COS,
    OpName.TANH, OpName.ERF, OpName.FLOOR, OpName.CEIL, OpName.FMA,
})  # fmt: skip
_ON_BOOL = frozenset({
    OpName.AND, OpName.OR, OpName.XOR, OpName.NOT, OpName.EQ, OpName.NE, OpName.MIN, OpName.MAX,
})  # fmt: skip


def _shared_tile(expr: SharedTile, context: Context) -> None:
    buffer = _buffer(expr.buffer, expr.stage is not None, context)
    require(expr.dtype is buffer.dtype, f"a tile of {expr.dtype} from {buffer.dtype} in buffer {buffer.name}")
    shape = list(buffer.shape)
    for dim, start, length in expr.slices:
        require(start >= 0 and start + length <= shape[dim], f"a slice leaves buffer {buffer.name}")
        require(start % length == 0, f"a slice of buffer {buffer.name} starts at {start}, no multiple of {length}")
        shape[dim] = length
    require(tuple(sorted(expr.order)) == tuple(range(len(shape))), f"order {expr.order} does not permute {buffer.name}")
    seen = tuple(shape[dim] for dim in expr.order)
    wanted = _shape(expr.space, expr.dims)
    require(seen == wanted, f"buffer {buffer.name} gives a tile of shape {seen}, the space wants {wanted}")


def _reduce(expr: Reduce) -> None:
    source = tuple(sorted((*expr.dims, expr.dim)))
    require(expr.dim not in expr.dims, "a reduction keeps the dim that it reduces")
    require(0 <= expr.dim < len(expr.space.dims), f"space {expr.space.name} has no dim {expr.dim}")
    for arg in expr.args:
        require(arg.space is None or arg.space == expr.space, f"a reduction in {expr.space.name} of a value elsewhere")
        require(set(arg.dims) <= set(source), "a reduction drops a dim that it does not reduce")
    require(any(expr.dim in arg.dims for arg in expr.args), "a reduction along a dim that no operand has")
    inside = not any(basis[expr.dim] for basis in ctas_of(expr.space.layout))
    require(inside, f"a reduction along {expr.space.dims[expr.dim]}, which programs of a cluster divide")
    count = len(expr.op.left) if isinstance(expr.op, Monoid) else 2 if expr.op in _TUPLES else 1
    require(len(expr.args) == count, f"a reduction of {len(expr.args)} values by an operator on {count}")
    require(0 <= expr.component < count, f"component {expr.component} of {count}")
    reduced = expr.args[expr.component].dtype
    require(expr.dtype is reduced, f"a reduction of {reduced} to {expr.dtype}")
    if isinstance(expr.op, Monoid):
        require(expr.op.commutative, f"monoid {expr.op.name} is not commutative, tiles are reduced in any order")


def _tile_call(expr: TileCall, context: Context) -> None:
    check_space(expr.inner, context.warps, context.programs)
    require(0 <= expr.component < len(expr.op.results), f"result {expr.component} of {len(expr.op.results)}")
    home = next((arg.space for arg in expr.args if arg.dims), None)
    require(home is not None, "no operand is a tile")
    assert home is not None
    others = tuple(dim for dim in range(len(home.dims)) if dim != expr.dim)
    sizes = math.prod(home.dims[dim].size for dim in others), home.dims[expr.dim].size
    require(sizes == expr.inner.shape, f"rows and lines {expr.inner.shape} of a tile {home.shape}")
    given = others if expr.op.per_line[expr.component] else tuple(range(len(home.dims)))
    require(expr.dims == given and expr.space == (home if given else None), f"a result along {expr.dims}")
    for operand, arg in zip(expr.op.operands, expr.args, strict=True):
        require(arg.dtype is operand.dtype, f"operand {operand.name} of {operand.dtype} is {arg.dtype}")
        wanted = {*(others if operand.rows and expr.op.rows else ()), *([expr.dim] if operand.line else [])}
        if operand.rows and not expr.op.rows:
            wanted |= set(arg.dims) & set(others)
        require(set(arg.dims) == wanted, f"operand {operand.name} varies along {arg.dims}, not {sorted(wanted)}")
        require(not arg.dims or arg.space == home, f"operand {operand.name} is in another space")


def _rank(expr: Rank) -> None:
    words, best = expr.words, expr.best
    require(expr.dtype in (DType.U32, DType.U64), f"words of type {expr.dtype} are ranked")
    require(words.dtype is expr.dtype, f"words of {words.dtype} ranked as {expr.dtype}")
    require(expr.dim in words.dims, "a ranking along a dim that its words do not have")
    require(expr.dims == tuple(range(len(expr.space.dims))), "the ranks do not have all dims of their space")
    assert words.space is not None
    kept = [dim for d, dim in enumerate(words.space.dims) if d != expr.dim]
    made = [dim for dim in expr.space.dims if dim not in kept]
    same = len(made) == 1 and [dim for dim in expr.space.dims if dim in kept] == kept
    require(same, "the ranks differ from the words in more than one dim")
    require(expr.rounds or made[0].size <= words.space.dims[expr.dim].size, "more ranks than words")
    require(best is None or expr.rounds, "words are sorted together with others")
    require(best is None or (best.dtype, best.space, best.dims) == (expr.dtype, expr.space, expr.dims), "other ranks")


def _scan(expr: Scan) -> None:
    every = tuple(range(len(expr.space.dims)))
    require(isinstance(expr.space.layout, Blocked), f"a scan in {expr.space.name}, whose layout is not blocked")
    require(expr.dims == every, "a scan of a slice of its space")
    require(0 <= expr.dim < len(every), f"space {expr.space.name} has no dim {expr.dim}")
    for arg in expr.args:
        require(arg.space == expr.space and arg.dims == every, f"a scan in {expr.space.name} of a value elsewhere")
    require(isinstance(expr.op, Monoid) or expr.op not in _TUPLES, "a scan of positions")
    count = len(expr.op.left) if isinstance(expr.op, Monoid) else 1
    require(len(expr.args) == count, f"a scan of {len(expr.args)} values by an operator on {count}")
    require(0 <= expr.component < count, f"component {expr.component} of {count}")
    require(expr.dtype is expr.args[expr.component].dtype, f"a scan of another type than {expr.dtype}")


_TUPLES = (ReduceOp.ARGMAX, ReduceOp.ARGMIN)


def _relayout(expr: Relayout) -> None:
    value = expr.value
    require(value.space is not None and value.dims != (), "a uniform value has no layout to change")
    require(value.dtype is expr.dtype, "a change of layout changes the type")
    assert value.space is not None
    before = sorted(str(value.space.dims[dim]) for dim in value.dims)
    after = sorted(str(expr.space.dims[dim]) for dim in expr.dims)
    require(before == after, f"a change of layout from dims {before} to {after}")
    stays = _parts_by_dim(value.space, value.dims) == _parts_by_dim(expr.space, expr.dims)
    require(stays, "a change of layout moves values to other programs of a cluster")


def _parts_by_dim(space: Space, dims: Dims) -> dict[str, tuple[int, ...]]:
    """For each dim, how far along it the bits of a program's number lead."""
    ctas = ctas_of(space.layout)
    return {str(space.dims[dim]): tuple(basis[dim] for basis in ctas) for dim in dims}


def _half(expr: Half) -> None:
    """All warps lie along the rows: then every thread has some of its columns in either half."""
    value, every = expr.value, (0, 1)
    require(value.space is not None and value.dims == expr.dims == every, "half of what is no matrix")
    assert value.space is not None
    require(value.dtype is expr.dtype, "half of a matrix has another type")
    whole, layout = value.space.layout, expr.space.layout
    require(isinstance(whole, MmaV3) and isinstance(layout, MmaV3), "half of what no warpgroup has computed")
    assert isinstance(whole, MmaV3) and isinstance(layout, MmaV3)
    require(whole.warps == layout.warps and whole.warps[1] == 1, "half of a matrix whose columns lie in several warps")
    require(whole.ctas == layout.ctas, "half of a matrix has other parts of programs")
    (rows, cols), half = value.space.shape, expr.space.shape
    require(half == (rows, cols // 2), f"half of {rows} x {cols} values is {half[0]} x {half[1]}")
    require(layout.instruction[1] == min(whole.instruction[1], half[1]), "columns change their threads")


def _dot(expr: DotStep, context: Context) -> None:
    layout = expr.space.layout
    if isinstance(layout, MmaV3):
        require(isinstance(expr.b, SharedTile), "operand B of a warpgroup's product is not in shared memory")
        for operand in (expr.a, expr.b):
            if isinstance(operand, SharedTile):
                form = _buffer(operand.buffer, operand.stage is not None, context).layout
                require(isinstance(form, Nvmma), f"a warpgroup cannot read buffer {operand.buffer} as it is laid out")
    for index, operand in enumerate((expr.a, expr.b)):
        where = f"operand {'AB'[index]}"
        require(operand.space is not None, f"{where} of a product is uniform")
        assert operand.space is not None
        own = operand.space.layout
        require(isinstance(own, Operand) and own.index == index, f"{where} of a product is not in an operand layout")
        require(isinstance(own, Operand) and own.parent == layout, f"{where} belongs to another accumulator layout")
    unit = MmaV2 | MmaV3 if expr.tensor_core else Blocked
    require(isinstance(layout, unit), "the accumulator's layout is for another unit")
    if isinstance(layout, MmaV2):
        wanted = (8, 8) if expr.dtype is DType.F64 else (16, 8)
        shape = layout.instruction
        require(shape == wanted, f"a product in {expr.dtype} by instructions of shape {shape}")
    require(expr.acc.space == expr.space and expr.acc.dtype is expr.dtype, "a product changes its accumulator's type")
    assert expr.a.space is not None and expr.b.space is not None
    (rows, depth), (depth_b, columns) = expr.a.space.dims, expr.b.space.dims
    require(depth == depth_b, f"operands of a product disagree on K: {depth} and {depth_b}")
    fits = (rows, columns) == expr.space.dims
    require(fits, f"a product of {rows} and {columns} for an accumulator over {_dims_text(expr.space)}")


def _joins(expr: Expr, args: tuple[Expr, ...]) -> None:
    """Operands share the node's space, and the node varies exactly where one of them does."""
    dims: set[int] = set()
    for arg in args:
        together = not arg.dims or arg.space == expr.space  # what has no dims, all threads hold
        require(together, f"operands live in {_name(arg.space)} and {_name(expr.space)}")
        dims.update(arg.dims)
    require(tuple(sorted(dims)) == expr.dims, f"operands vary along dims {sorted(dims)}, the value along {expr.dims}")


def _pointer(tensor: str, context: Context) -> PointerParam:
    require(tensor in context.pointers, f"no pointer parameter {tensor}")
    return context.pointers[tensor]


def _buffer(name: str, staged: bool, context: Context) -> Buffer:
    require(name in context.buffers, f"no buffer {name}")
    buffer = context.buffers[name]
    require(staged == (buffer.depth > 0), f"buffer {name} has {buffer.depth} stages")
    return buffer


def check_stage(name: str, stage: object, context: Context) -> Buffer:
    """The buffer, if ``stage`` says which stage exactly when it has stages."""
    buffer = _buffer(name, stage is not None, context)
    if isinstance(stage, Const):
        require(0 <= stage.value < buffer.depth, f"buffer {name} has no stage {stage}")
    return buffer


def _shape(space: Space, dims: Dims) -> tuple[int, ...]:
    return tuple(space.dims[dim].size for dim in dims)


def _dims_text(space: Space) -> str:
    return ", ".join(map(str, space.dims))


def _name(space: Space | None) -> str:
    return "no space" if space is None else space.name


def _product(values: tuple[int, ...]) -> int:
    total = 1
    for value in values:
        total *= value
    return total
