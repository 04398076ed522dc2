"""C text of ``<symbol>_check``: everything about a call's arguments that does not depend on the variant.

Dims, derived dims, ``require=`` facts, scalar ranges, strides, tensors and overlap, in this order; the first failure
is reported.
"""

from __future__ import annotations

from texpr.aot.abi import DIM_MAX, argument_index, integer_scalars, stride_arguments, tensors
from texpr.aot.c_entry import EntryContext, elements_text, row_below, storage_extents, storage_steps
from texpr.aot.c_expr import ATOM, INT64_MAX, CInteger, c_condition, c_integer
from texpr.aot.c_names import comment
from texpr.aot.ir import ScalarArgument, TensorArgument
from texpr.dtypes import DType
from texpr.math.expr import IntExpr, free_symbols


def check_text(c: EntryContext) -> list[str]:
    """The structs that hold a call's numbers and memory, and the function that fills them or reports the first illegal
    argument.
    """
    body = [*_load_numbers(c), *_dims(c), *_facts(c), *_scalars(c), *_strides(c), *_tensors(c), *_overlaps(c)]
    text = "\n".join(body)
    declared = [
        f"  {declaration};"
        for name, declaration in (
            ("status", "texpr_status status"),
            ("elements", "int64_t elements"),
            ("least", "int64_t least"),
            ("holds", "int holds"),
            ("overflow", "int overflow = 0"),
        )
        if f"{name} =" in text or f"&{name}" in text
    ]
    return [
        *_structs(c),
        "",
        "/* Fills n and m from the arguments, or says what is wrong with them. */",
        f"static texpr_status {c.symbol}_check(const {c.symbol}_args *args, struct {c.symbol}_numbers *n,",
        f"    struct {c.symbol}_memory *m, texpr_error *error) {{",
        *declared,
        *body,
        "  return TEXPR_OK;",
        "}",
    ]


def _structs(c: EntryContext) -> list[str]:
    rows: list[str] = []
    rows += [f"  int64_t {c.names[name]};" for name in c.entry.dims]
    rows += [f"  int64_t {c.names[name]}; /* {comment(str(value))} */" for name, value in c.entry.derived]
    rows += [f"  int64_t {c.names[scalar.name]};" for scalar in integer_scalars(c.entry)]
    rows += [f"  int64_t {c.names[name]};" for name in stride_arguments(c.entry)]
    return [
        "/* The integers of a call. */",
        f"struct {c.symbol}_numbers {{",
        *rows,
        "  int64_t sms; /* multiprocessors of the GPU */",
        "};",
        "",
        "/* Where its tensors lie. */",
        f"struct {c.symbol}_memory {{",
        *[f"  struct {c.bundle}_range {c.names[tensor.name]};" for tensor in tensors(c.entry)],
        "};",
    ]


def _load_numbers(c: EntryContext) -> list[str]:
    lines = [f"  n->{c.names[name]} = args->{c.names[name]};" for name in c.entry.dims]
    for scalar in integer_scalars(c.entry):
        name = c.names[scalar.name]
        if scalar.dtype is DType.U64:
            lines.append(f"  n->{name} = args->{name} > {INT64_MAX} ? {INT64_MAX} : (int64_t)args->{name};")
        else:
            lines.append(f"  n->{name} = args->{name};")
    for tensor in tensors(c.entry):
        for _, user_name in tensor.strided:
            name = c.names[user_name]
            value = f"args->{c.names[tensor.name]} == NULL ? 0 : args->{name}" if tensor.optional else f"args->{name}"
            lines.append(f"  n->{name} = {value};")
    return lines


def _dims(c: EntryContext) -> list[str]:
    lines = ["", "  /* Dims. */"]
    for index, user_name in enumerate(c.entry.dims):
        name = c.names[user_name]
        lines += _refuse(f"n->{name} < 0 || n->{name} > {DIM_MAX}", f"TEXPR_E_DIM, {index}", c)
    for index, (user_name, value) in enumerate(c.entry.derived, start=len(c.entry.dims)):
        name = f"n->{c.names[user_name]}"
        number = c_integer(value, c.fresh)
        lines.append(f"  {name} = {number.text};")
        wrong = [
            *(["overflow"] if number.checked else []),
            *([f"{name} < 0"] if number.interval.low < 0 else []),
            *([f"{name} > {DIM_MAX}"] if number.interval.high > DIM_MAX else []),
        ]
        if wrong:
            lines += _refuse(" || ".join(wrong), f"TEXPR_E_DIM, {index}", c)
    return lines


def _facts(c: EntryContext) -> list[str]:
    lines: list[str] = []
    for index, fact in enumerate(c.entry.facts):
        condition = c_condition(fact, c.fresh)
        if condition.value is True:
            continue
        lines.append(f"  /* require {comment(str(fact))} */")
        if condition.checked:
            lines.append(f"  holds = {condition.text};")
            lines += _refuse("overflow", "TEXPR_E_RANGE, -1", c)
            lines += _refuse("!holds", f"TEXPR_E_REQUIRE, {index}", c)
        else:
            lines += _refuse(f"!({condition.text})", f"TEXPR_E_REQUIRE, {index}", c)
    return ["", *lines] if lines else []


def _scalars(c: EntryContext) -> list[str]:
    lines: list[str] = []
    used = _symbols_in_use(c)
    for index, argument in enumerate(c.entry.arguments):
        if not isinstance(argument, ScalarArgument):
            continue
        name = c.names[argument.name]
        if argument.dtype is DType.BOOL:
            lines += _refuse(f"args->{name} > 1", f"TEXPR_E_SCALAR, {index}", c)
        elif argument.dtype.is_int:
            lines += _scalar_bounds(argument, index, c)
            if argument.dtype is DType.U64 and argument.name in used:
                lines += _refuse(f"args->{name} > {INT64_MAX}", f"TEXPR_E_SCALAR, {index}", c)
    return ["", "  /* Scalars. */", *lines] if lines else []


def _scalar_bounds(argument: ScalarArgument, index: int, c: EntryContext) -> list[str]:
    lines: list[str] = []
    text, interval = c.fresh.symbols[argument.name]
    value = CInteger(text, ATOM, interval)
    for bound, operator in ((argument.low, "<"), (argument.high, ">=")):
        if bound is None:
            continue
        limit = c_integer(bound, c.fresh)
        if operator == "<" and not limit.checked and limit.interval.high <= value.interval.low:
            continue
        if operator == ">=" and not limit.checked and limit.interval.low > value.interval.high:
            continue
        if limit.checked:
            lines.append(f"  least = {limit.text};")
            lines += _refuse("overflow", f"TEXPR_E_RANGE, {index}", c)
            lines += _refuse(f"{value.text} {operator} least", f"TEXPR_E_SCALAR, {index}", c)
        else:
            lines += _refuse(f"{value.text} {operator} {limit.text}", f"TEXPR_E_SCALAR, {index}", c)
    return lines


def _symbols_in_use(c: EntryContext) -> frozenset[str]:
    """Symbols that some expression of the entry reads."""
    integers: list[IntExpr] = [value for _, value in c.entry.derived]
    names: set[str] = set()
    for tensor in tensors(c.entry):
        integers += tensor.shape
        integers += [tensor.elements] if tensor.elements is not None else []
    for scalar in integer_scalars(c.entry):
        integers += [bound for bound in (scalar.low, scalar.high) if bound is not None]
    for fact in c.entry.facts:
        names |= free_symbols(fact)
    for variant in c.entry.variants:
        names |= free_symbols(variant.guard).union(*(free_symbols(limit) for limit in variant.limits))
        integers += [launch.grid for launch in variant.launches] + [buffer.bytes for buffer in variant.workspace]
        integers += [fill.count for launch in variant.launches for fill in launch.fills]
    for integer in integers:
        names |= free_symbols(integer)
    return frozenset(names)


def _strides(c: EntryContext) -> list[str]:
    lines: list[str] = []
    for tensor in tensors(c.entry):
        index = argument_index(c.entry, tensor.name)
        for dim, user_name in sorted(tensor.strided, reverse=True):
            name = c.names[user_name]
            row = row_below(tensor, dim, c.fresh)
            place = f"TEXPR_E_STRIDE, {index}, -1, {dim}"
            checks: list[str] = []
            if row.checked:
                checks.append(f"  least = {row.text};")
                checks += _refuse("overflow", f"TEXPR_E_RANGE, {index}", c)
                checks += _refuse_at(f"n->{name} < 0 || n->{name} < least", place, c)
            else:
                low = "" if row.interval.low >= 0 else f"n->{name} < 0 || "
                checks += _refuse_at(f"{low}n->{name} < {row.text}", place, c)
            if tensor.optional:
                checks = [f"  if (args->{c.names[tensor.name]} != NULL) {{", *[f"  {line}" for line in checks], "  }"]
            lines += checks
    return ["", "  /* Strides, in elements. */", *lines] if lines else []


def _tensors(c: EntryContext) -> list[str]:
    lines = ["", "  /* Tensors. */"]
    for tensor in tensors(c.entry):
        index = argument_index(c.entry, tensor.name)
        for dim, extent in enumerate(tensor.shape):
            value = c_integer(extent, c.checked)
            if value.interval.low < 0:
                lines.append(f"  least = {value.text};")
                wrong = "overflow || least < 0" if value.checked else "least < 0"
                lines += _refuse_at(wrong, f"TEXPR_E_DIM, -1, {index}, {dim}", c)
        elements = elements_text(tensor, c.checked)
        overflow = "&overflow" if "&overflow" in elements else "NULL"
        name = c.names[tensor.name]
        optional = 1 if tensor.optional else 0
        lines += [
            f"  elements = {elements};",
            f"  status = {c.bundle}_locate(&m->{name}, args->{name}, elements, {tensor.dtype.bits}, {optional}, "
            f"{overflow}, {index}, error);",
            "  if (status != TEXPR_OK) return status;",
        ]
    return lines


def _overlaps(c: EntryContext) -> list[str]:
    """Each output against every other tensor; a pair of outputs once. ``may_alias`` allows the very same memory and
    nothing else.
    """
    lines: list[str] = []
    everything = tensors(c.entry)
    for position, output in enumerate(everything):
        if not output.output:
            continue
        for other_position, other in enumerate(everything):
            if other_position == position or (other.output and other_position < position):
                continue
            a, b = (c.names[output.name], c.names[other.name])
            condition = f"{c.bundle}_overlap(&m->{a}, &m->{b})"
            if output.may_alias == other.name or other.may_alias == output.name:
                condition += f" && !({_same_memory(output, other, c)})"
            place = (
                f"TEXPR_E_OVERLAP, {argument_index(c.entry, output.name)}, {argument_index(c.entry, other.name)}, -1"
            )
            lines += _refuse_at(condition, place, c)
    return ["", "  /* No output overlaps another tensor. */", *lines] if lines else []


def _same_memory(a: TensorArgument, b: TensorArgument, c: EntryContext) -> str:
    """Both tensors put every element at the same address."""
    first, second = f"m->{c.names[a.name]}", f"m->{c.names[b.name]}"
    parts = [f"{first}.begin == {second}.begin", f"{first}.bytes == {second}.bytes"]
    if a.strided or b.strided:
        if len(storage_extents(a)) != len(storage_extents(b)):
            raise ValueError(
                f"{c.symbol}: {a.name} may alias {b.name}, but they have different numbers of storage dims"
            )
        steps = zip(storage_steps(a, c.checked), storage_steps(b, c.checked), strict=True)
        parts += [f"{x.text} == {y.text}" for x, y in steps if x.text != y.text]
    return " && ".join(parts)


def _refuse(condition: str, arguments: str, c: EntryContext) -> list[str]:
    return [f"  if ({condition}) return {c.bundle}_fail(error, {arguments});"]


def _refuse_at(condition: str, arguments: str, c: EntryContext) -> list[str]:
    return [f"  if ({condition}) return {c.bundle}_fail_at(error, {arguments});"]
