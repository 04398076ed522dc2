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
from texpr.gluon.text import Text, call
from texpr.gluon.types import plain_constant
from texpr.lang.ir import Monoid
from texpr.plan.monoids import identity
from texpr.plan.words import Field, fields_of, word_count
from texpr.tile.communicate import LookBack, Publish, Ticket

_RELAXED: Final = ('sem="relaxed"', 'scope="gpu"')


def ticket(f: Function, item: Ticket) -> str:
    """The number of a program."""
    return f'gl.atomic_add({f.pointers[item.words]}, 1, sem="relaxed").to(gl.int32)'


def publish(f: Function, item: Publish) -> str:
    """The call that stores the words of a value."""
    parts = [typed(f, part, value(f, part, Hint(item.words))) for part in item.values]
    name = _define_publish(f, [part.dtype for part in item.values], item.widths)
    stride = _stride(f, item)
    return call(name, pointer(f, item.words, item.at), *stride, "2" if item.final else "1", *parts).code


def look_back(f: Function, item: LookBack) -> str:
    """The call that waits for earlier tiles; it returns all components."""
    if isinstance(item.op, Monoid):
        combine = monoid_name(f, item.op)
    else:
        combine = f.preamble.use(combine_helper(item.op, item.dtypes[0]))
    layout = f"gl.BlockedLayout([{max(1, item.window // (32 * f.warps))}], [32], [{f.warps}], [0])"
    name = _define_look_back(f, item, combine)
    count = narrow_text(item.count, f.symbols())
    start, stride = pointer(f, item.words, item.first), _stride(f, item)
    return call(name, start, *stride, count, str(item.window), layout).code


def _stride(f: Function, item: Publish | LookBack) -> list[Text]:
    """What lies between the words of a value, if there are several."""
    return [narrow_text(item.stride, f.symbols())] if word_count(item.widths) > 1 else []


# ---- device functions ----------------------------------------------------------------------------------------------


def _define_publish(f: Function, dtypes: Sequence[DType], widths: Sequence[int]) -> str:
    """The function that stores a state and values."""
    values, fields = _numbered("value", len(dtypes)), fields_of(widths)
    bits = [f"    {name} = {_bits(name, dtype)}" for name, dtype in zip(values, dtypes, strict=True)]
    stores = []
    for word in range(word_count(widths)):
        parts = [_field(values, field, widths) for field in fields if field.word == word]
        at = f"words + {_times(word)}" if word else "words"
        stores.append(f"    gl.atomic_store({at}, {' | '.join(['state', *parts])}, {', '.join(_RELAXED)})")
    name = f"publish_{_types(dtypes, widths)}"
    stride = ["stride"] if len(stores) > 1 else []
    lines = [
        "@gluon.jit",
        f"def {name}({', '.join(['words', *stride, 'state', *values])}):",
        '    """Tells others what is known; in the highest bits how much, 1: of a tile, 2: of everything up to it."""',
        "    state = gl.to_tensor(state).to(gl.uint64) << 62",
        *bits,
        *stores,
    ]
    return f.preamble.define(name, "\n".join(lines))


def _define_look_back(f: Function, item: LookBack, combine: str) -> str:
    """The function that combines what earlier tiles have published, in order, until everything before is known."""
    start, count = identity(item.op, item.dtypes), len(item.dtypes)
    constants = [plain_constant(e.value, dtype, f.dialect) for e, dtype in zip(start, item.dtypes, strict=True)]
    registers = [f.dialect.register(dtype) for dtype in item.dtypes]
    before, values = _numbered("before", count), _numbered("value", count)
    words = _numbered("word", word_count(item.widths))
    name = f"look_back_{combine}"
    if not isinstance(item.op, Monoid):  # the name of a monoid's function is its own
        name += f"_{_types(item.dtypes, item.widths)}"
    stride = "stride, " if len(words) > 1 else ""
    lines = [
        "@gluon.jit",
        f"def {name}(",
        f"    words, {stride}count, window: gl.constexpr, layout: gl.constexpr",
        "):",
        '    """What words[0], .., words[count - 1] come to, in this order, once they are there. Windows are read from',
        '    the last on, until a word knows everything up to it (Merrill and Garland, 2016)."""',
        "    lane = gl.arange(0, window, layout)",
        *(f"    {b} = gl.full([], {e}, {t})" for b, e, t in zip(before, constants, registers, strict=True)),
        "    end = count",
        "    while end > 0:",
        "        at = end - window + lane",
        *(
            f"        {word} = gl.atomic_load(words + {f'{_times(n)} + ' if n else ''}at, mask=at >= 0,"
            f" {', '.join(_RELAXED)})"
            for n, word in enumerate(words)
        ),
        f"        known = ({words[0]} >> 62).to(gl.int32)",
        *(f"        known = gl.where(({word} >> 62).to(gl.int32) == known, known, 0)" for word in words[1:]),
        "        alone = (at < 0) | (known == 1)",
        "        # after the last lane that is not there yet (odd), or from the last one that knows the rest (even)",
        "        last = gl.max(gl.where(alone, -1, 2 * lane + (known == 0).to(gl.int32)), 0)",
        "        first = (last + 1) >> 1",
        "        take = (lane >= first) & (at >= 0)",
        *(
            f"        {v} = gl.where(take, {_value(f, words, n, item)}, {e})"
            for n, (v, e) in enumerate(zip(values, constants, strict=True))
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


def _bits(name: str, dtype: DType) -> str:
    """The bits of a value, zeros above them."""
    if dtype.is_float:
        pattern = f"{name}.to(gl.uint{dtype.bits}, bitcast=True)"
    else:
        pattern = name if dtype is DType.BOOL else f"{name}.to(gl.uint{dtype.bits})"
    return pattern if dtype.bits == 64 else f"{pattern}.to(gl.uint64)"


def _field(values: Sequence[str], field: Field, widths: Sequence[int]) -> str:
    """A field of a value's bits, where it lies in its word."""
    code = values[field.component]
    if field.shift:
        code = f"({code} >> {field.shift})"
    elif field.width < widths[field.component]:
        code = f"({code} & {(1 << field.width) - 1:#x})"
    return f"({code} << {field.start})" if field.start else code


def _value(f: Function, words: Sequence[str], component: int, item: LookBack) -> str:
    """A component put together from its fields."""
    dtype, width = item.dtypes[component], item.widths[component]
    parts = []
    for field in fields_of(item.widths):
        if field.component == component:
            code = f"({words[field.word]} >> {field.start})" if field.start else words[field.word]
            alone = field.width == width == dtype.bits  # converting it drops the other bits
            code = code if alone else f"({code} & {(1 << field.width) - 1:#x})"
            parts.append(f"({code} << {field.shift})" if field.shift else code)
    bits = parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"
    if dtype is DType.BOOL:
        return f"{bits} != 0"
    if dtype.is_float:
        narrow = bits if dtype.bits == 64 else f"{bits}.to(gl.uint{dtype.bits})"
        return f"{narrow}.to({f.dialect.register(dtype)}, bitcast=True)"
    return f"{bits}.to({f.dialect.register(dtype)})"


def _times(word: int) -> str:
    return "stride" if word == 1 else f"{word} * stride"


def _types(dtypes: Sequence[DType], widths: Sequence[int]) -> str:
    fields = zip(dtypes, widths, strict=True)
    return "_".join("bit" if width == 1 else str(dtype) for dtype, width in fields)


def _numbered(stem: str, count: int) -> list[str]:
    return [stem] if count == 1 else [f"{stem}_{n}" for n in range(count)]
