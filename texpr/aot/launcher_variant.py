"""C text of a variant: when it may be chosen, and one function that plans it and either describes it or launches it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from texpr.aot.abi import WORKSPACE_ALIGNMENT, argument_index, tensors
from texpr.aot.c_entry import EntryContext
from texpr.aot.c_expr import ATOM, CInteger, Interval, c_condition, c_integer
from texpr.aot.c_names import C_TYPES, TRITON_TYPES, c_name, comment, comment_block, element_bytes, string_literal
from texpr.aot.ir import (
    Fill,
    IntValue,
    KernelParam,
    KernelSource,
    PresentFlag,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorMap,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
    WorkspacePointer,
)
from texpr.dtypes import DType
from texpr.math.expr import (
    And,
    Atom,
    AtomKind,
    BoolExpr,
    Compare,
    CompareOp,
    Const,
    IntExpr,
    Mod,
    aligned,
    conjunction,
    eq,
    maximum,
    sym,
    terms_of,
)

_INT32 = Interval(-(2**31), 2**31 - 1)
_GRID_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Passed:
    """How one parameter of the machine code is passed: a local variable set to ``value``; ``computed`` lines precede
    the launches. ``encoded``: the lines that fill the variable, a tensor map, once all others are set.
    """

    variable: str
    c_type: str
    value: str
    computed: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()


def effective_guard(c: EntryContext, variant: Variant, kernels: Mapping[str, KernelSource]) -> BoolExpr:
    """The guard, and what the kernels were compiled to assume about their parameters as far as the guard does not
    already say it.

    A kernel that assumes a divisibility which no guard promises would read misaligned memory; here such a variant is
    merely not chosen.
    """
    known = _conjuncts(conjunction(variant.guard, *c.entry.facts))
    assumed: list[BoolExpr] = []
    for launch in variant.launches:
        for param in kernels[launch.kernel].params:
            if param.divisibility > 1:
                assumed += _assumption(c, variant, param, known)
    return conjunction(variant.guard, *assumed)


def _conjuncts(condition: BoolExpr) -> tuple[BoolExpr, ...]:
    return condition.args if isinstance(condition, And) else (condition,)


def _assumption(
    c: EntryContext, variant: Variant, param: KernelParam, known: tuple[BoolExpr, ...]
) -> tuple[BoolExpr, ...]:
    """What remains to be tested for a parameter's divisibility: nothing, or one condition."""
    match param.value:
        case TensorPointer(name):
            promised = [
                atom.number or 1
                for atom in known
                if isinstance(atom, Atom) and atom.kind is AtomKind.ALIGNED and atom.names == (name,)
            ]
            promised.append(element_bytes(_tensor(c, name).dtype))
            return (
                ()
                if any(number % param.divisibility == 0 for number in promised)
                else (aligned(name, to=param.divisibility),)
            )
        case WorkspacePointer(buffer):
            if WORKSPACE_ALIGNMENT % param.divisibility:
                raise ValueError(
                    f"{c.symbol}, {variant.name}: workspace buffers are aligned to {WORKSPACE_ALIGNMENT} bytes; "
                    f"parameter {param.name} ({buffer}) wants {param.divisibility}"
                )
            return ()
        case IntValue(value):
            return _integer_assumption(value, param.divisibility, known)
        case ScalarValue(name):
            return _integer_assumption(sym(name), param.divisibility, known)
        case PresentFlag() | TensorMap():
            raise ValueError(
                f"{c.symbol}, variant {variant.name}: {param.name} cannot be a multiple of {param.divisibility}"
            )


def _integer_assumption(value: IntExpr, divisor: int, known: tuple[BoolExpr, ...]) -> tuple[BoolExpr, ...]:
    factors: dict[IntExpr, int] = {}
    for condition in known:
        match condition:
            case Compare(CompareOp.EQ, Mod(number, Const(modulus)), Const(0)):
                factors[number] = math.lcm(factors.get(number, 1), modulus)
            case _:
                pass
    if factors.get(value, 1) % divisor == 0:
        return ()
    for monomial, coefficient in terms_of(value).items():
        product = coefficient * math.prod(factors.get(factor, 1) for factor in monomial)
        if product % divisor:
            return (eq(value % divisor, 0),)
    return ()


def _tensor(c: EntryContext, name: str) -> TensorArgument:
    for tensor in tensors(c.entry):
        if tensor.name == name:
            return tensor
    raise ValueError(f"{c.symbol} has no tensor argument {name}")


def variant_function_name(c: EntryContext, variant: Variant) -> str:
    """Variant names are free text; the position keeps functions apart whose names differ only in letters C lacks."""
    words = "".join(char if char.isascii() and char.isalnum() else "_" for char in variant.name)
    return f"{c.symbol}_variant_{c.entry.variants.index(variant)}_{words}"


def variant_text(c: EntryContext, variant: Variant, kernels: Mapping[str, KernelSource]) -> list[str]:
    """The function that plans ``variant`` for one call. ValueError when a kernel parameter does not fit what is passed
    for it.
    """
    used = _used_buffers(variant, kernels)
    head, grids = _plan(c, variant, kernels, used)
    params = [_passed(c, variant, prefix, param) for prefix, param in _all_params(variant, kernels)]
    computed = [line for group in params for passed in group for line in passed.computed]
    plan = [*head, *computed]
    text = "\n".join(plan)
    checked = "&overflow" in text
    body = [
        *plan,
        *([f"  if (overflow) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);"] if checked else []),
        *_grid_limits(c, grids, [kernels[launch.kernel].ctas for launch in variant.launches]),
        "",
        *_describe(c, variant, kernels),
        *_workspace(c, variant),
        *_launches(c, variant, kernels, params),
        "  return TEXPR_OK;",
    ]
    return [
        *comment_block(f"Variant {variant.name} [{', '.join(variant.targets)}]: when {variant.guard}"),
        f"static texpr_status {variant_function_name(c, variant)}(const struct {c.symbol}_call *call) {{",
        *_locals(c, variant, [passed for group in params for passed in group], used, "\n".join(body)),
        "",
        *body,
        "}",
    ]


def _all_params(variant: Variant, kernels: Mapping[str, KernelSource]) -> list[tuple[str, KernelParam]]:
    """Every kernel parameter with the prefix of its variable: two launches may call different things by one name."""
    result: list[tuple[str, KernelParam]] = []
    for position, launch in enumerate(variant.launches):
        prefix = "p" if len(variant.launches) == 1 else f"p{position}"
        result += [(prefix, param) for param in kernels[launch.kernel].params]
    return result


def _used_buffers(variant: Variant, kernels: Mapping[str, KernelSource]) -> tuple[str, ...]:
    """Names of the workspace buffers that some kernel is given."""
    values = [param.value for _, param in _all_params(variant, kernels)]
    values += [fill.target for launch in variant.launches for fill in launch.fills]
    targets = [value.target if isinstance(value, TensorMap) else value for value in values]
    passed = {target.buffer for target in targets if isinstance(target, WorkspacePointer)}
    return tuple(buffer.name for buffer in variant.workspace if buffer.name in passed)


def _plan(
    c: EntryContext, variant: Variant, kernels: Mapping[str, KernelSource], used: tuple[str, ...]
) -> tuple[list[str], list[CInteger]]:
    """Limits, grids and workspace offsets."""
    lines: list[str] = []
    for limit in variant.limits:
        condition = c_condition(limit, c.checked)
        if condition.value is True:
            continue
        lines.append(f"  /* the 32-bit index arithmetic of this variant needs {comment(str(limit))} */")
        if condition.checked:
            lines.append(f"  holds = {condition.text};")
            lines.append(f"  if (overflow || !holds) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);")
        else:
            lines.append(f"  if (!({condition.text})) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);")
    grids = [c_integer(launch.grid, c.checked) for launch in variant.launches]
    for position, (launch, grid) in enumerate(zip(variant.launches, grids, strict=True)):
        ctas = kernels[launch.kernel].ctas
        what = "programs" if ctas == 1 else f"clusters of {ctas} programs"
        lines.append(f"  grid_{position} = {grid.text}; /* {what} of {comment(launch.kernel)} */")
    for position, launch in enumerate(variant.launches):
        for number, fill in enumerate(launch.fills):
            count = c_integer(fill.count, c.checked)
            note = comment(f"fill {_filled(fill)}: {fill.bits}-bit numbers")
            lines.append(f"  {_fill_count(position, number)} = {count.text}; /* {note} */")
    for buffers in _slots(variant):
        size = c_integer(maximum(*(buffer.bytes for buffer in buffers)), c.checked)
        targets = "".join(f"{_offset(buffer.name)} = " for buffer in buffers if buffer.name in used)
        note = comment("; ".join(f"{buffer.name}: {buffer.bytes} bytes" for buffer in buffers))
        lines.append(f"  {targets}{c.bundle}_place(&end, {size.text}, &overflow); /* {note} */")
    return lines, grids


def _slots(variant: Variant) -> list[tuple[WorkspaceBuffer, ...]]:
    """The workspace buffers that start at the same byte, slot by slot in order of first mention."""
    found: dict[int | str, list[WorkspaceBuffer]] = {}
    for buffer in variant.workspace:
        found.setdefault(buffer.name if buffer.slot is None else buffer.slot, []).append(buffer)
    return [tuple(buffers) for buffers in found.values()]


def _filled(fill: Fill) -> str:
    """The name of the tensor or buffer that is filled."""
    return fill.target.argument if isinstance(fill.target, TensorPointer) else fill.target.buffer


def _fill_count(position: int, number: int) -> str:
    return f"fill_{position}_{number}"


def _grid_limits(c: EntryContext, grids: list[CInteger], clusters: list[int]) -> list[str]:
    wrong: list[str] = []
    for position, (grid, ctas) in enumerate(zip(grids, clusters, strict=True)):
        most = _GRID_MAX // ctas
        wrong += [f"grid_{position} < 0"] if grid.interval.low < 0 else []
        wrong += [f"grid_{position} > {most}"] if grid.interval.high > most else []
    return [f"  if ({' || '.join(wrong)}) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);"] if wrong else []


def _offset(buffer: str) -> str:
    return f"offset_{c_name(buffer)}"


def _locals(c: EntryContext, variant: Variant, params: list[_Passed], used: tuple[str, ...], body: str) -> list[str]:
    lines: list[str] = []
    if "n->" in body:
        lines.append(f"  const struct {c.symbol}_numbers *n = &call->n;")
    if "m->" in body:
        lines.append(f"  const struct {c.symbol}_memory *m = &call->m;")
    if "args->" in body:
        lines.append(f"  const {c.symbol}_args *args = call->args;")
    lines += [f"  int64_t grid_{position};" for position in range(len(variant.launches))]
    lines += [
        f"  int64_t {_fill_count(position, number)};"
        for position, launch in enumerate(variant.launches)
        for number in range(len(launch.fills))
    ]
    lines += [f"  int64_t {_offset(buffer)};" for buffer in used]
    lines += ["  int64_t end = 0;"] if variant.workspace else []
    lines += [f"  int64_t {passed.variable}_value;" for passed in params if passed.computed]
    lines += ["  int holds;"] if "holds =" in body else []
    lines += ["  int overflow = 0;"] if "&overflow" in body else []
    return lines


def _describe(c: EntryContext, variant: Variant, kernels: Mapping[str, KernelSource]) -> list[str]:
    """What query answers: the variant, its launches, the workspace it needs."""
    lines = [
        "  if (call->info != NULL) {",
        f"    call->info->variant = {c.entry.variants.index(variant)};",
        f"    call->info->variant_name = {string_literal(variant.name)};",
        f"    call->info->launches = {len(variant.launches)};",
    ]
    for position, launch in enumerate(variant.launches):
        image = f"call->state->images[{c.kernels.index(launch.kernel)}]"
        ctas = kernels[launch.kernel].ctas
        blocks = f"grid_{position}" if ctas == 1 else f"({ctas} * grid_{position})"
        lines += [
            f"    call->info->grid[{position}] = (uint32_t){blocks};",
            f"    call->info->block[{position}] = {c.bundle}_images[{image}].threads;",
            f"    call->info->shared_bytes[{position}] = {c.bundle}_images[{image}].shared_bytes;",
        ]
    if variant.workspace:
        lines.append("    call->info->workspace_bytes = (uint64_t)end;")
    return [*lines, "    return TEXPR_OK;", "  }"]


def _workspace(c: EntryContext, variant: Variant) -> list[str]:
    if not variant.workspace:
        return []
    lines = [
        "  {",
        f"    const texpr_status status = {c.bundle}_workspace(call->workspace, call->workspace_bytes,",
        "        (uint64_t)end, call->error);",
        "    if (status != TEXPR_OK) return status;",
        "  }",
    ]
    for tensor in tensors(c.entry):
        index = argument_index(c.entry, tensor.name)
        lines += [
            f"  if ({c.bundle}_inside_workspace(&call->m.{c.names[tensor.name]}, call->workspace, (uint64_t)end))",
            f"    return {c.bundle}_fail(call->error, TEXPR_E_OVERLAP, {index});",
        ]
    return lines


def _launches(
    c: EntryContext, variant: Variant, kernels: Mapping[str, KernelSource], params: list[tuple[_Passed, ...]]
) -> list[str]:
    lines: list[str] = []
    rest = list(params)
    for position, launch in enumerate(variant.launches):
        source = kernels[launch.kernel]
        groups, rest = rest[: len(source.params)], rest[len(source.params) :]
        passed = [one for group in groups for one in group]
        kernel = c.kernels.index(launch.kernel)
        start, passing = ("start_early", "params") if launch.early else ("start", "params, NULL, 0")
        if source.ctas > 1:
            start, passing = "start_clusters", f"params, {source.ctas}, {int(launch.early)}"
        for number, fill in enumerate(launch.fills):
            lines += _fill(c, variant, fill, _fill_count(position, number))
        lines += [
            "",
            f"  /* {_launch_comment(source)} */",
            f"  if (grid_{position} > 0) {{",
            *[
                f"    {one.c_type}{'' if one.c_type.endswith('*') else ' '}{one.variable} = {one.value};"
                for one in passed
                if not one.encoded
            ],
            *[f"    unsigned char {one.variable}_room[128 + 63];" for one in passed if one.encoded],
            *[f"    void *const {one.variable} = {one.value};" for one in passed if one.encoded],
            "    uint64_t scratch = 0; /* the two trailing parameters of every kernel: no scratch memory is used */",
            f"    void *params[{len(passed) + 2}];",
            "    int result;",
            *[line for one in passed for line in one.encoded],
            *[
                f"    params[{index}] = {'' if one.encoded else '&'}{one.variable};"
                for index, one in enumerate(passed)
            ],
            f"    params[{len(passed)}] = &scratch;",
            f"    params[{len(passed) + 1}] = &scratch;",
            f"    result = {c.bundle}_{start}(&call->state->device.driver, call->state->functions[{kernel}],",
            f"        &{c.bundle}_images[call->state->images[{kernel}]], grid_{position}, call->stream, {passing});",
            f"    if (result != 0) return {c.bundle}_driver_failed(call->error, result);",
            "  }",
        ]
    return lines


def _fill(c: EntryContext, variant: Variant, fill: Fill, count: str) -> list[str]:
    """A memset in stream order: on a stream that is being captured it becomes a node of the graph."""
    types = {8: "unsigned char", 16: "unsigned short", 32: "unsigned int"}
    if fill.bits not in types or not 0 <= fill.pattern < 1 << fill.bits:
        raise ValueError(f"{c.symbol}, {variant.name}: {_filled(fill)} cannot be filled with {fill.pattern:#x}")
    match fill.target:
        case TensorPointer(name):
            if not _tensor(c, name).output:
                raise ValueError(f"{c.symbol}, {variant.name}: {name} is an input, which nothing may fill")
            pointer = f"args->{c.names[name]}"
        case WorkspacePointer(buffer):
            if buffer not in [known.name for known in variant.workspace]:
                raise ValueError(f"{c.symbol}, {variant.name}: {buffer} is filled, but is no workspace buffer")
            pointer = f"((unsigned char *)call->workspace + {_offset(buffer)})"
    return [
        "",
        f"  if ({count} > 0) {{ /* fill {comment(_filled(fill))} */",
        f"    const int result = call->state->device.driver.memset_d{fill.bits}_async((uint64_t)(uintptr_t){pointer},",
        f"        ({types[fill.bits]}){fill.pattern}u, (size_t){count}, call->stream);",
        f"    if (result != 0) return {c.bundle}_driver_failed(call->error, result);",
        "  }",
    ]


def _launch_comment(source: KernelSource) -> str:
    """The kernel, and the schedule lines its nodes came from."""
    places = dict.fromkeys(origin.schedule for _, origin in source.origins if origin.schedule)
    where = f" (schedule {', '.join(list(places)[:3])})" if places else ""
    together = "" if source.ctas == 1 else f", clusters of {source.ctas}"
    return comment(f"{source.name}: {source.warps} warps{together}{where}")


def _passed(c: EntryContext, variant: Variant, prefix: str, param: KernelParam) -> tuple[_Passed, ...]:
    """What is passed for a parameter of the function: one value, or what a tensor map consists of."""
    variable = f"{prefix}_{c_name(param.name)}"
    if param.type not in _accepted_types(c, param):
        raise ValueError(
            f"{c.symbol}, variant {variant.name}: the kernel's parameter {param.name} has type {param.type}, "
            f"which is not what is passed for it"
        )
    match param.value:
        case TensorPointer() | WorkspacePointer() as target:
            return (_Passed(variable, *_address(c, variant, target)),)
        case ScalarValue(name):
            return (_Passed(variable, C_TYPES[_scalar(c, name).dtype], f"args->{c.names[name]}"),)
        case IntValue(value, wide):
            return (_integer(c, variable, value, wide),)
        case PresentFlag(name):
            return (_Passed(variable, "int32_t", f"m->{c.names[_tensor(c, name).name]}.begin != 0"),)
        case TensorMap() as tensor_map:
            return _tensor_map(c, variant, variable, tensor_map)


def _address(c: EntryContext, variant: Variant, target: TensorPointer | WorkspacePointer) -> tuple[str, str]:
    """The C type and the C text of a pointer."""
    match target:
        case TensorPointer(name):
            tensor = _tensor(c, name)
            return "void *" if tensor.output else "const void *", f"args->{c.names[name]}"
        case WorkspacePointer(buffer):
            if buffer not in [known.name for known in variant.workspace]:
                raise ValueError(f"{c.symbol}, {variant.name}: {buffer} is passed, which is no workspace buffer")
            return "void *", f"(unsigned char *)call->workspace + {_offset(buffer)}"


_ELEMENTS: Final = {
    DType.F16: 6, DType.F32: 7, DType.TF32: 7, DType.F64: 8, DType.BF16: 9,
    DType.I8: 0, DType.U8: 0, DType.BOOL: 0, DType.F8E4M3: 0, DType.F8E5M2: 0,
    DType.I16: 1, DType.U16: 1, DType.U32: 2, DType.I32: 3, DType.U64: 4, DType.I64: 5,
}  # fmt: skip
"""CUtensorMapDataType of the types that copies move; the engine does not look into elements."""


def _tensor_map(c: EntryContext, variant: Variant, variable: str, tensor_map: TensorMap) -> tuple[_Passed, ...]:
    """The map, then the shape and the strides, as the compiled kernel takes them."""
    rank, dtype = len(tensor_map.shape), tensor_map.dtype
    shape = [_integer(c, f"{variable}_dim_{d}", n, False) for d, n in enumerate(tensor_map.shape)]
    strides = [_integer(c, f"{variable}_stride_{d}", n, True) for d, n in enumerate(tensor_map.strides)]
    _, address = _address(c, variant, tensor_map.target)
    argument = -1
    if isinstance(tensor_map.target, TensorPointer):
        argument = argument_index(c.entry, tensor_map.target.argument)
    given = (("dims", shape), ("strides", strides))
    places = [(name, d, one) for name, numbers in given for d, one in enumerate(numbers)]
    swizzle = (0, 32, 64, 128).index(tensor_map.swizzle)
    lines = (
        "    {",
        f"      const uint32_t box[{rank}] = {{{', '.join(map(str, tensor_map.box))}}};",
        f"      int32_t dims[{rank}];",
        f"      int64_t strides[{rank}];",
        "      texpr_status status;",
        *[f"      {name}[{d}] = {one.variable};" for name, d, one in places],
        f"      status = {c.bundle}_tensor_map(&call->state->device.driver, {variable},",
        f"          {_ELEMENTS[dtype]} /* {comment(str(dtype))} */, {element_bytes(dtype)}, {rank}, {address},",
        f"          dims, strides, box, {swizzle}, {argument}, call->error);",
        "      if (status != TEXPR_OK) return status;",
        "    }",
    )
    start = f"(void *)(((uintptr_t){variable}_room + 63) / 64 * 64)"
    return (_Passed(variable, "", start, encoded=lines), *shape, *strides)


def _accepted_types(c: EntryContext, param: KernelParam) -> frozenset[str]:
    """The Triton types of a parameter for which the launcher's object has the size and meaning the kernel expects."""
    match param.value:
        case TensorPointer() | WorkspacePointer():
            return frozenset([param.type] if param.type.startswith("*") else [])
        case ScalarValue(name):
            return TRITON_TYPES[_scalar(c, name).dtype]
        case IntValue(_, wide):
            return frozenset(["i64"] if wide else ["i32"])
        case PresentFlag():
            return frozenset(["i32"])
        case TensorMap():
            return frozenset([param.type] if param.type.startswith("tensordesc<") else [])


def _scalar(c: EntryContext, name: str) -> ScalarArgument:
    argument = c.entry.arguments[argument_index(c.entry, name)]
    if not isinstance(argument, ScalarArgument):
        raise ValueError(f"{c.symbol}: the value of {name} is wanted, which is a tensor")
    return argument


def _integer(c: EntryContext, variable: str, value: IntExpr, wide: bool) -> _Passed:
    """An integer computed at launch. What may overflow, or may not fit 32 bits, is computed and checked before
    anything is launched.
    """
    number = c_integer(value, c.checked)
    c_type = "int64_t" if wide else "int32_t"
    if not number.checked and (wide or number.interval.fits(_INT32)):
        return _Passed(variable, c_type, number.text if wide else f"(int32_t){number.enclosed(ATOM)}")
    lines = [f"  {variable}_value = {number.text};"]
    if not wide:
        low, high = f"{variable}_value < -2147483647 - 1", f"{variable}_value > 2147483647"
        lines.append(f"  if ({low} || {high}) return {c.bundle}_fail(call->error, TEXPR_E_RANGE, -1);")
    return _Passed(variable, c_type, f"{'' if wide else '(int32_t)'}{variable}_value", tuple(lines))
