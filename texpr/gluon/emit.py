"""A tile program as one Gluon function: names, signature and docstring around the statements, and line origins."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, assert_never

from texpr.aot.ir import (
    IntValue,
    KernelParam,
    KernelSource,
    KernelValue,
    Origin,
    PresentFlag,
    ScalarValue,
    TensorMap,
    TensorPointer,
    WorkspacePointer,
)
from texpr.gluon.function import INDENT, WIDTH, Block, Function, Line, TensorMapName
from texpr.gluon.helpers import Preamble
from texpr.gluon.integers import range_of
from texpr.gluon.layouts import shared_layout_text, tensor_map_layout_text
from texpr.gluon.names import Identifiers
from texpr.gluon.protocol import end_barriers, start_barriers
from texpr.gluon.roles import most_registers
from texpr.gluon.statements import statement
from texpr.gluon.text import Text, method
from texpr.gluon.tile_calls import reserve_functions
from texpr.gluon.types import dialect_of
from texpr.gluon.values import values_of
from texpr.math.expr import sym
from texpr.math.intervals import ANY, Bounds
from texpr.tile.communicate import LookBack, Receive, Ticket
from texpr.tile.declarations import (
    Conflict,
    IntParam,
    Parameter,
    PointerParam,
    PresentParam,
    ScalarParam,
    TensorMapParam,
)
from texpr.tile.ir import Assign, For, ScalarOf, Specialise, Statement, TileProgram, walk
from texpr.tile.uniform import FindGroup, ProgramId, Scalar


def emit(
    program: TileProgram,
    targets: tuple[str, ...],
    pointers: Mapping[str, KernelValue] | None = None,
    ranges: Mapping[str, Bounds] | None = None,
) -> KernelSource:
    """The Gluon function of a verified tile program, for ``targets`` (names as in :data:`texpr.targets.TARGETS`).

    ``pointers`` says what the launcher passes for a pointer parameter; those not listed are tensor arguments of the
    same name. ``ranges`` bounds the symbols of ``IntParam`` values; those not listed are not negative (dims are not,
    integer scalar arguments may be). An ``origin`` of a statement reads ``node`` or ``node @ schedule line``.
    Raises KeyError for an unknown target.
    """
    f = Function(
        name=program.name,
        warps=program.warps,
        values=values_of(program),
        dialect=dialect_of(targets),
        preamble=Preamble(),
        identifiers=Identifiers(),
        block=Block(None, frozenset(), 1),
    )
    f.identifiers.fresh(program.name)
    reserve_functions(f, f.values.exprs())
    params = _parameters(f, program.parameters, pointers or {}, ranges or {})
    _name_everything(f, program)
    _buffers(f, program)
    start_barriers(f, program.barriers, program.programs)
    _meet_other_kernels(f, program)
    for item in program.body:
        statement(f, item)
    end_barriers(f, program.barriers)
    text, origins = _assemble(f, program, params)
    roles = next((item for item in program.body if isinstance(item, Specialise)), None)
    registers = most_registers(roles) if roles is not None else None
    return KernelSource(
        program.name, text, f.preamble.chunks(), params, program.warps, targets, origins, registers, program.programs
    )


def _meet_other_kernels(f: Function, program: TileProgram) -> None:
    """Before anything in memory is touched: programmatic dependent launch (CUDA C++ Programming Guide, 6.2.4.6)."""
    if program.makes_room:
        f.emit('gl.inline_asm("griddepcontrol.launch_dependents;")  # the next kernel may start where there is room')
    if program.early:
        f.emit('gl.inline_asm("griddepcontrol.wait;")  # start: early, so the kernels before this one may still run')


def kernel_params(
    program: TileProgram, targets: tuple[str, ...], pointers: Mapping[str, KernelValue]
) -> tuple[KernelParam, ...]:
    """What the launcher passes to a kernel whose parameters have the names of the tile program's."""
    f = Function(
        name=program.name, warps=program.warps, values=values_of(program), dialect=dialect_of(targets),
        preamble=Preamble(), identifiers=Identifiers(), block=Block(None, frozenset(), 1),
    )  # fmt: skip
    return _parameters(f, program.parameters, pointers, {})


def _parameters(
    f: Function,
    parameters: Sequence[Parameter],
    pointers: Mapping[str, KernelValue],
    ranges: Mapping[str, Bounds],
) -> tuple[KernelParam, ...]:
    found = []
    for parameter in parameters:
        identifier = f.identifiers.fresh(parameter.name)
        match parameter:
            case PointerParam(name=name, dtype=dtype, alignment=alignment):
                f.pointers[name] = identifier
                value = pointers.get(name, TensorPointer(name))
                found.append(KernelParam(identifier, "*" + f.dialect.signature(dtype), value, alignment))
            case IntParam(name=name, value=expr, divisor=divisor):
                f.define(name, identifier, range_of(expr, ranges))
                f.parameters.add(name)
                found.append(KernelParam(identifier, "i32", IntValue(expr), divisor))
            case ScalarParam(name=name, dtype=dtype):
                f.define(name, identifier, ranges.get(name, ANY))
                found.append(KernelParam(identifier, f.dialect.signature(dtype), ScalarValue(name)))
            case PresentParam(name=name, tensor=tensor):
                f.define(name, identifier, Bounds(0, 1))
                found.append(KernelParam(identifier, "i32", PresentFlag(tensor)))
            case TensorMapParam(name=name, tensor=tensor, dtype=dtype, box=box, layout=layout, part=part):
                f.maps[name] = TensorMapName(identifier, dtype, box, layout)
                target = pointers.get(tensor, TensorPointer(tensor))
                assert isinstance(target, TensorPointer | WorkspacePointer), f"{tensor} is no memory"
                kind = f"tensordesc<{f.dialect.signature(dtype)}{list(box)},{tensor_map_layout_text(layout)}>"
                inner = min(part[-1], 8 * layout.swizzle_bytes // layout.element_bits or part[-1])
                moved = (*part[:-1], inner)  # one instruction for every piece of a row that the swizzle keeps together
                value = TensorMap(target, dtype, parameter.shape, parameter.strides, moved, layout.swizzle_bytes)
                found.append(KernelParam(identifier, kind.replace(" ", ""), value))
            case _:
                assert_never(parameter)
    return tuple(found)


def _name_everything(f: Function, program: TileProgram) -> None:
    """Give the names of the tile program their identifiers before any local can take them."""

    def visit(item: Statement) -> None:
        match item:
            case (
                Scalar(name=name) | ScalarOf(name=name) | ProgramId(name=name) | Ticket(name=name)
                | FindGroup(name=name)
            ) if name not in f.scalars:
                f.scalars[name] = f.identifiers.fresh(name)
            case LookBack(names=names):
                f.variables.update({name: f.identifiers.fresh(name) for name in names})
            case (Assign(name=name) | Receive(name=name)) if name not in f.variables:
                f.variables[name] = f.identifiers.fresh(name, f"{name}_tile", f"{name}_value")
            case For(counter=counter, static=static) if (counter, static) not in f.counters:
                f.counters[counter, static] = f.identifiers.fresh(counter)
            case _:
                pass

    for buffer in program.buffers:
        f.buffers[buffer.name] = f.identifiers.fresh(buffer.name, f"{buffer.name}_shared")
        f.shapes[buffer.name] = buffer.shape
    for barriers in program.barriers:
        f.barriers[barriers.name] = f.identifiers.fresh(barriers.name, f"{barriers.name}_barriers")
    walk(program.body, visit)


def _buffers(f: Function, program: TileProgram) -> None:
    for buffer in program.buffers:
        shape = [buffer.depth, *buffer.shape] if buffer.depth else [*buffer.shape]
        name = f.buffers[buffer.name]
        if buffer.note:
            f.emit(f"# {buffer.note}")
        element, layout = f.dialect.storage(buffer.dtype), shared_layout_text(buffer.layout)
        f.emit(f"{name} = gl.allocate_shared_memory({element}, {shape}, {layout})")
    for conflict in program.conflicts:
        _assert_no_conflict(f, program, conflict)
    if program.buffers:
        f.blank()


def _assert_no_conflict(f: Function, program: TileProgram, conflict: Conflict) -> None:
    buffer = next(buffer for buffer in program.buffers if buffer.name == conflict.buffer)
    name = f.buffers[buffer.name]
    layout = f.space_name(conflict.space)
    view = method(Text(name), "index(0)") if buffer.depth else Text(name)
    if conflict.order != tuple(range(len(conflict.order))):
        view = method(view, f"permute({conflict.order})")
    tile = f"gl.distributed_type({f.dialect.storage(buffer.dtype)}, {list(conflict.space.shape)}, {layout})"
    message = f'"{name} has bank conflicts when accessed as {layout}"'
    f.emit(f"gl.static_assert(gl.bank_conflicts({tile}, {view.code}.type) == 0, {message})")


# ---- the text ------------------------------------------------------------------------------------------------------


_BETWEEN: Final = (Line("", None), Line("", None))


def _assemble(
    f: Function, program: TileProgram, params: tuple[KernelParam, ...]
) -> tuple[str, tuple[tuple[int, Origin], ...]]:
    """The function's text, and the origin of each of its lines that has one."""
    head = ["@gluon.jit", *_signature(program.name, [param.name for param in params]), *_docstring(program)]
    lines = [Line(code, None) for code in head]
    for constant in f.layout_lines:
        lines += [Line(code, None) for code in constant.split("\n")]
    lines.append(Line("", None))
    lines += f.block.lines
    tidy = [line for function in f.functions for line in (*_without_extra_blanks(function), *_BETWEEN)]
    tidy += _without_extra_blanks(lines)
    origins = tuple((n, line.origin) for n, line in enumerate(tidy) if line.origin is not None and line.code)
    return "\n".join(line.code for line in tidy) + "\n", origins


def _signature(name: str, parameters: Sequence[str]) -> list[str]:
    """On one line if it fits, else with the parameters on lines of their own."""
    single = f"def {name}({', '.join(parameters)}):"
    if len(single) <= WIDTH:
        return [single]
    rows = textwrap.wrap(", ".join(parameters), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    return [f"def {name}(", *rows, "):"]


def _docstring(program: TileProgram) -> list[str]:
    """What the kernel is, then one paragraph per kind of parameter."""
    described: list[tuple[str, list[str]]] = [
        ("Pointers", [_pointer_text(p) for p in program.parameters if isinstance(p, PointerParam)]),
        ("Maps", [_map_text(p) for p in program.parameters if isinstance(p, TensorMapParam)]),
        ("Integers", [_integer_text(p) for p in program.parameters if isinstance(p, IntParam)]),
        ("Scalars", [f"{p.name} {p.dtype}" for p in program.parameters if isinstance(p, ScalarParam)]),
        ("Optional", [f"{p.name} ({p.tensor} given)" for p in program.parameters if isinstance(p, PresentParam)]),
        ("Grid", [f"{program.grid} {_programs_text(program)} of {program.warps} warps"]),
    ]
    header = [_plain(line) for line in program.header] or [f"{program.name}."]
    lines = [f'{INDENT}"""{header[0]}', *((INDENT + line).rstrip() for line in header[1:]), ""]
    for title, items in described:
        if items:
            label = INDENT + f"{title}:".ljust(10)
            lines += textwrap.wrap(", ".join(items), WIDTH, initial_indent=label, subsequent_indent=" " * len(label))
    return [*lines, f'{INDENT}"""']


def _programs_text(program: TileProgram) -> str:
    """``programs``, or ``clusters of 2 programs (2 along i)``."""
    if not program.cluster:
        return "programs"
    along = ", ".join(f"{count} along {axis}" for axis, count in program.cluster)
    return f"clusters of {program.programs} programs ({along})"


def _pointer_text(parameter: PointerParam) -> str:
    aligned = f" aligned to {parameter.alignment}" if parameter.alignment > 1 else ""
    return f"{parameter.name} {parameter.dtype}{aligned}"


def _map_text(parameter: TensorMapParam) -> str:
    return f"{parameter.name} of {parameter.tensor} in boxes of {' x '.join(map(str, parameter.box))}"


def _integer_text(parameter: IntParam) -> str:
    value = "" if parameter.value == sym(parameter.name) else f" = {parameter.value}"
    multiple = f" (a multiple of {parameter.divisor})" if parameter.divisor > 1 else ""
    return f"{parameter.name}{value}{multiple}"


def _plain(line: str) -> str:
    """A line that cannot end the docstring."""
    return line.replace("\\", "/").replace('"""', "'''")


def _without_extra_blanks(lines: Iterable[Line]) -> list[Line]:
    """No blank line at the start of a block, at the end, or after another."""
    kept: list[Line] = []
    for line in lines:
        if not line.code and (not kept or not kept[-1].code or kept[-1].code.endswith(":")):
            continue
        kept.append(line)
    while kept and not kept[-1].code:
        kept.pop()
    return kept
