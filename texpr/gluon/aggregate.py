"""Lanes of a warp that update the same element combine their values, and the first of them updates it.

The peers of a lane are found by ``match.any``; they combine as a tree in the order of the lanes: in each round every
other lane that is left takes the value of the next one (Westphal, Voting and shuffling to optimize atomic operations,
NVIDIA developer blog, 2015). Five rounds are enough for 32 lanes.
"""

from __future__ import annotations

from typing import Final

from texpr.dtypes import DType
from texpr.gluon.function import Function
from texpr.gluon.text import Level, Text, call, constant, infix, method
from texpr.lang.ir import ReduceOp

_INSTRUCTIONS: Final = {
    ReduceOp.SUM: "add",
    ReduceOp.MIN: "min",
    ReduceOp.MAX: "max",
    ReduceOp.AND: "and",
    ReduceOp.OR: "or",
    ReduceOp.XOR: "xor",
}
_PTX: Final = {
    DType.I32: ("s32", "r"),
    DType.U32: ("u32", "r"),
    DType.F32: ("f32", "f"),
    DType.I64: ("s64", "l"),
    DType.U64: ("u64", "l"),
    DType.F64: ("f64", "d"),
}
_BITWISE: Final = (ReduceOp.AND, ReduceOp.OR, ReduceOp.XOR)
_ROUNDS: Final = 5


def aggregated(
    f: Function,
    op: ReduceOp,
    element: Text | None,
    mask: Text | None,
    value: Text,
    dtype: DType,
    *,
    same: bool,
    wide: bool,
) -> tuple[Text, Text]:
    """What the first lane of each element updates it with, and the mask that leaves out the others. ``element`` tells
    elements apart (None: there is one), in 64 bits if ``wide``; lanes that the mask leaves out have none. ``same``:
    all lanes have the same value."""
    key = element if element is not None else constant("0")
    if mask is not None:
        key = call("gl.where", mask, key, constant("-1"))
    match = f.preamble.use("lanes_alike_64" if wide else "lanes_alike")
    peers = Text(f.identifiers.fresh("peers"))
    f.emit(f"{peers.code} = {call(match, key).code}")
    first = call(f.preamble.use("is_first_lane"), peers)
    updates = first if mask is None else infix(mask, "&", Level.AND, first)
    if same:
        return _of_one_value(f, op, value, peers, dtype), updates
    name = f"{op.value}_over_lanes_{dtype.value}"
    total = call(f.preamble.define(name, _tree(name, op, dtype)), value, peers)
    return total, updates


def _of_one_value(f: Function, op: ReduceOp, value: Text, peers: Text, dtype: DType) -> Text:
    """What so many times the same value come to."""
    if op not in (ReduceOp.SUM, ReduceOp.XOR):
        return value
    count = call(f.preamble.use("lane_count"), peers)
    if op is ReduceOp.XOR:
        count = infix(count, "&", Level.AND, constant("1"))
    return infix(value, "*", Level.PRODUCT, method(count, f"to({f.dialect.register(dtype)})"))


def _tree(name: str, op: ReduceOp, dtype: DType) -> str:
    kind, constraint = _PTX[dtype]
    bits = f"b{dtype.bits}"
    instruction = f"{_INSTRUCTIONS[op]}.{bits if op in _BITWISE else kind}"
    if dtype.bits == 32:
        fetch = ["mov.b32 low, own;", "shfl.sync.idx.b32 low, low, next, 31, 0xffffffff;", "mov.b32 far, low;"]
    else:
        fetch = [
            "mov.b64 {low, high}, own;",
            "shfl.sync.idx.b32 low, low, next, 31, 0xffffffff;",
            "shfl.sync.idx.b32 high, high, next, 31, 0xffffffff;",
            "mov.b64 far, {low, high};",
        ]
    lines = [
        f"{{ .reg .b32 rank, rest, next, keep, low, high; .reg .{kind} own, far; .reg .pred more, even;",
        f"mov.{bits} own, $1;",
        "mov.u32 rank, %lanemask_lt; and.b32 rank, rank, $2; popc.b32 rank, rank;",
        "mov.u32 rest, %lanemask_gt; and.b32 rest, rest, $2;",
    ]
    for _ in range(_ROUNDS):
        lines += [
            "brev.b32 next, rest; clz.b32 next, next;",
            *fetch,
            f"setp.ne.u32 more, rest, 0; @more {instruction} own, own, far;",
            "and.b32 keep, rank, 1; setp.eq.u32 even, keep, 0;",
            "vote.sync.ballot.b32 keep, even, 0xffffffff; and.b32 rest, rest, keep; shr.u32 rank, rank, 1;",
        ]
    lines.append(f"mov.{bits} $0, own; }}")
    text = "".join(f'        "{line} "\n' for line in lines)
    return (
        f"@gluon.jit\ndef {name}(value, peers):\n"
        f'    """The values of the lanes in peers combined by {_INSTRUCTIONS[op]}, right in the first of them."""\n'
        f"    return gl.inline_asm_elementwise(\n{text}"
        f'        , "={constraint},{constraint},r", [value, peers], dtype={_gluon(dtype)}, is_pure=False, pack=1\n    )'
    )


def _gluon(dtype: DType) -> str:
    names = {"i": "int", "u": "uint", "f": "float"}
    return f"gl.{names[dtype.value[0]]}{dtype.bits}"
