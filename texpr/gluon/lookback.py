"""Words that programs publish, and how others look back over them, as Gluon code.

Every word is moved by one relaxed access: value and state arrive together, and nothing else hangs on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from texpr.dtypes import DType
from texpr.gluon.expressions import monoid_name, typed, value
from texpr.gluon.function import Function
from texpr.gluon.integers import narrow_text
from texpr.gluon.memory import pointer
from texpr.gluon.names import Hint
from texpr.gluon.reductions import combine_helper
from texpr.gluon.text import call
from texpr.gluon.types import plain_constant
from texpr.lang.ir import Monoid
from texpr.plan.monoids import identity
from texpr.tile.communicate import LookBack, Publish, Ticket

_RELAXED: Final = ('sem="relaxed"', 'scope="gpu"')


def ticket(f: Function, item: Ticket) -> str:
    """The number of a program."""
    return f'gl.atomic_add({f.pointers[item.words]}, 1, sem="relaxed").to(gl.int32)'


def publish(f: Function, item: Publish) -> str:
    """The store of one word."""
    parts = [typed(f, part, value(f, part, Hint(item.words))) for part in item.values]
    name = _define_word(f, [part.dtype for part in item.values], item.widths)
    word = call(name, "2" if item.final else "1", *parts)
    return call("gl.atomic_store", pointer(f, item.words, item.at), word, *_RELAXED).code


def look_back(f: Function, item: LookBack) -> str:
    """The call that waits for earlier tiles; it returns all components."""
    if isinstance(item.op, Monoid):
        combine = monoid_name(f, item.op)
    else:
        combine = f.preamble.use(combine_helper(item.op, item.dtypes[0]))
    layout = f"gl.BlockedLayout([{max(1, item.window // (32 * f.warps))}], [32], [{f.warps}], [0])"
    name = _define_look_back(f, item, combine)
    count = narrow_text(item.count, f.symbols())
    return call(name, pointer(f, item.words, item.first), count, str(item.window), layout).code


# ---- device functions ----------------------------------------------------------------------------------------------


def _define_word(f: Function, dtypes: Sequence[DType], widths: Sequence[int]) -> str:
    """The function that puts a state and values into a word."""
    values = _numbered("value", len(dtypes))
    lines = ["    word = gl.to_tensor(state).to(gl.uint64) << 62"]
    for name, dtype, width, start in zip(values, dtypes, widths, _starts(widths), strict=True):
        lines.append(f"    word |= {_bits(name, dtype, width)}" + (f" << {start}" if start else ""))
    name = f"word_of_{_types(dtypes, widths)}"
    text = f'''
@gluon.jit
def {name}(state, {", ".join(values)}):
    """What a program publishes: in the highest bits how much is known, 1: of one tile, 2: of everything up to it."""
{chr(10).join(lines)}
    return word
'''
    return f.preamble.define(name, text.strip("\n"))


def _define_look_back(f: Function, item: LookBack, combine: str) -> str:
    """The function that combines what earlier tiles have published, in order, until everything before is known."""
    count = len(item.dtypes)
    start = identity(item.op, item.dtypes)
    constants = [plain_constant(e.value, dtype, f.dialect) for e, dtype in zip(start, item.dtypes, strict=True)]
    registers = [f.dialect.register(dtype) for dtype in item.dtypes]
    before, values = _numbered("before", count), _numbered("value", count)
    fields = zip(values, item.dtypes, item.widths, _starts(item.widths), constants, strict=True)
    name = f"look_back_{combine}"
    if not isinstance(item.op, Monoid):  # the name of a monoid's function is its own
        name += f"_{_types(item.dtypes, item.widths)}"
    lines = [
        "@gluon.jit",
        f"def {name}(",
        "    words, count, window: gl.constexpr, layout: gl.constexpr",
        "):",
        '    """What words[0], .., words[count - 1] come to, in this order, once they are there. Windows are read from',
        '    the last on, until a word knows everything up to it (Merrill and Garland, 2016)."""',
        "    lane = gl.arange(0, window, layout)",
        *(f"    {b} = gl.full([], {e}, {t})" for b, e, t in zip(before, constants, registers, strict=True)),
        "    end = count",
        "    while end > 0:",
        "        at = end - window + lane",
        f"        word = gl.atomic_load(words + at, mask=at >= 0, {', '.join(_RELAXED)})",
        "        known = (word >> 62).to(gl.int32)",
        "        alone = (at < 0) | (known == 1)",
        "        # after the last lane that is not there yet (odd), or from the last one that knows the rest (even)",
        "        last = gl.max(gl.where(alone, -1, 2 * lane + (known == 0).to(gl.int32)), 0)",
        "        first = (last + 1) >> 1",
        "        take = (lane >= first) & (at >= 0)",
        *(
            f"        {v} = gl.where(take, {_value(f, 'word', dtype, width, at)}, {e})"
            for v, dtype, width, at, e in fields
        ),
        *_combined(f, item, combine, values),
        f"        {', '.join(before)} = {combine}({', '.join((*values, *before))})",
        "        end = gl.where((last >= 0) & (last & 1 == 0), 0, end - window + first)",
        f"    return {', '.join(before)}",
    ]
    return f.preamble.define(name, "\n".join(lines))


def _combined(f: Function, item: LookBack, combine: str, values: Sequence[str]) -> list[str]:
    """The values of a window as one: by a reduction, or the last prefix where the operator does not commute."""
    together = values[0] if len(values) == 1 else f"({', '.join(values)})"
    if not isinstance(item.op, Monoid) or item.op.commutative:
        return [f"        {', '.join(values)} = gl.reduce({together}, 0, {combine})"]
    lines = [f"        {', '.join(values)} = gl.associative_scan({together}, 0, {combine})"]
    for name, dtype in zip(values, item.dtypes, strict=True):
        nothing = "False" if dtype is DType.BOOL else "-0.0" if dtype.is_float else "0"
        pick = f.preamble.use("bit_or" if dtype is DType.BOOL else "add")
        lines.append(f"        {name} = gl.reduce(gl.where(lane == window - 1, {name}, {nothing}), 0, {pick})")
    return lines


def _bits(name: str, dtype: DType, width: int) -> str:
    """A value as the low bits of a word."""
    if dtype.is_float:
        return f"{name}.to(gl.uint{dtype.bits}, bitcast=True).to(gl.uint64)"
    if dtype is DType.BOOL or width < dtype.bits:
        return f"{name}.to(gl.uint64)"
    return f"{name}.to(gl.uint{dtype.bits}).to(gl.uint64)"


def _value(f: Function, word: str, dtype: DType, width: int, start: int) -> str:
    """The value whose bits begin at ``start``."""
    field = f"({word} >> {start})" if start else word
    register = f.dialect.register(dtype)
    if dtype is DType.BOOL:
        return f"({field} & 1) != 0"
    if dtype.is_float:
        return f"{field}.to(gl.uint{dtype.bits}).to({register}, bitcast=True)"
    if width < dtype.bits:
        return f"({field} & {(1 << width) - 1}).to({register})"
    return f"{field}.to({register})"


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:n]) for n in range(len(widths))]


def _types(dtypes: Sequence[DType], widths: Sequence[int]) -> str:
    fields = zip(dtypes, widths, strict=True)
    return "_".join("bit" if width == 1 else str(dtype) for dtype, width in fields)


def _numbered(stem: str, count: int) -> list[str]:
    return [stem] if count == 1 else [f"{stem}_{n}" for n in range(count)]
