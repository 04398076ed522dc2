"""Tile programs as text, for ``texpr show --stage tile`` and for messages of the verifier.

One statement per line, indentation by ``| ``. A value that is used more than once is named ``t1``, ``t2``, ... before
the statement that uses it first; every named value says its type, space and axes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import assert_never

from texpr.lang.ir import Monoid
from texpr.math.expr import IntExpr
from texpr.tile.communicate import AwaitTurn, LookBack, PassTurn, Publish, Receive, Ticket
from texpr.tile.declarations import (
    Barriers,
    Buffer,
    IntParam,
    Parameter,
    PointerParam,
    PresentParam,
    ScalarParam,
    Space,
    TensorMapParam,
)
from texpr.tile.ir import (
    Argument,
    Assign,
    Atomic,
    AtomicShared,
    Barrier,
    Cast,
    Choose,
    Commit,
    CopyAsync,
    DotStep,
    Elementwise,
    Expr,
    For,
    Full,
    Half,
    If,
    InlinePtx,
    Lane,
    Literal,
    Load,
    Rank,
    Reduce,
    Relayout,
    Role,
    ScalarOf,
    Scan,
    SharedGather,
    SharedTile,
    Specialise,
    Statement,
    Store,
    StoreShared,
    TileCall,
    TileProgram,
    Uniform,
    Var,
    Wait,
    children,
    statement_exprs,
    walk,
)
from texpr.tile.layouts import Bases, Blocked, Layout, Linear, MmaV2, MmaV3, Nvmma, Operand, SharedLayout
from texpr.tile.protocol import (
    Advance,
    Arrive,
    ArriveCopies,
    CopyTensor,
    DotWait,
    Expect,
    FenceAsync,
    MeetCluster,
    StoreTensor,
    WaitBarrier,
    WaitStores,
)
from texpr.tile.show_protocol import protocol_text, staged
from texpr.tile.uniform import FindGroup, ProgramId, Scalar
from texpr.tile.uses import NamesOf, assigned_names, changed_by


def show(program: TileProgram) -> str:
    """The whole program."""
    printer = _Printer(_use_counts(program.body))
    spaces: dict[Space, None] = {}
    seen: set[int] = set()

    def collect(item: Statement) -> None:
        for expr in statement_exprs(item):
            _collect(expr, spaces, seen)

    walk(program.body, collect)
    together = "   cluster " + " ".join(f"{name}:{n}" for name, n in program.cluster) if program.cluster else ""
    lines = [f"tile program {program.name}   {program.warps} warps   grid {program.grid}{together}"]
    lines += [f"  {line}" for line in program.header]
    lines += [_parameter(parameter) for parameter in program.parameters]
    lines += [f"limit {limit} < 2**31" for limit in program.limits]
    lines += [_buffer(buffer) for buffer in program.buffers]
    lines += [_barriers(barriers) for barriers in program.barriers]
    lines += [
        f"no bank conflicts: {c.buffer} permuted {c.order} as {c.space.name}" if c.order != tuple(range(len(c.order)))
        else f"no bank conflicts: {c.buffer} as {c.space.name}"
        for c in program.conflicts
    ]  # fmt: skip
    lines += [f"space {space.name} ({', '.join(map(str, space.dims))})  {_layout(space.layout)}" for space in spaces]
    return "\n".join([*lines, "", *printer.statements(program.body, "")]) + "\n"


def statement_text(item: Statement) -> str:
    """One statement with its expressions printed in full; the body of a loop is left out."""
    printer = _Printer(Counter())
    return "\n".join(printer.statement(item, "", with_body=False))


def expr_text(expr: Expr) -> str:
    """One expression, printed in full."""
    return _Printer(Counter()).expr(expr)


def type_text(expr: Expr) -> str:
    """``f32 acc(i:128, j:128)``: element type, space and the dims along which the value varies."""
    if expr.space is None or not expr.dims:
        return str(expr.dtype)
    return f"{expr.dtype} {expr.space.name}({', '.join(str(expr.space.dims[dim]) for dim in expr.dims)})"


def _use_counts(body: tuple[Statement, ...]) -> Counter[int]:
    """How often each expression object is mentioned, by identity."""
    counts: Counter[int] = Counter()
    seen: set[int] = set()

    def mention(expr: Expr) -> None:
        counts[id(expr)] += 1
        if id(expr) not in seen:
            seen.add(id(expr))
            for child in children(expr):
                mention(child)

    def visit(item: Statement) -> None:
        for expr in statement_exprs(item):
            mention(expr)

    walk(body, visit)
    return counts


def _collect(expr: Expr, spaces: dict[Space, None], seen: set[int]) -> None:
    """Add the spaces that ``expr`` mentions, in order of mention."""
    if id(expr) in seen:
        return
    seen.add(id(expr))
    for child in children(expr):
        _collect(child, spaces, seen)
    if expr.space is not None:
        spaces.setdefault(expr.space)


@dataclass(slots=True)
class _Printer:
    """``named`` holds the values that have a name, by identity, until a name they depend on gets a new value."""

    counts: Counter[int]
    named: dict[int, tuple[Expr, str]] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    given: int = 0
    names_of: NamesOf = field(default_factory=NamesOf)

    def statements(self, body: tuple[Statement, ...], indent: str) -> list[str]:
        return [line for item in body for line in self.statement(item, indent)]

    def statement(self, item: Statement, indent: str, with_body: bool = True) -> list[str]:
        self.pending = []
        text = self._statement(item)
        lines = [indent + line for line in (*self.pending, text)]
        changed = changed_by(item) if isinstance(item, For | If) else frozenset(assigned_names(item))
        self._forget(changed)
        match item:
            case For(body=body) | If(body=body) if with_body:
                lines += self.statements(body, indent + "| ")
                self._forget(changed)
            case Specialise(roles=roles) if with_body:
                for role in roles:
                    lines += [f"{indent}| {_role(role)}", *self.statements(role.body, indent + "| | ")]
                    self.named = {}
            case _:
                pass
        return lines

    def _forget(self, changed: frozenset[str]) -> None:
        self.named = {
            key: (expr, name) for key, (expr, name) in self.named.items() if changed.isdisjoint(self.names_of(expr))
        }

    def _statement(self, item: Statement) -> str:
        match item:
            case Scalar(name=name, value=value, note=note):
                return _noted(f"{name} = {value}", note)
            case ScalarOf(name=name, value=value, note=note):
                return _noted(f"{name} = {self.expr(value)}", note)
            case FindGroup(name=name, offsets=offsets, slot=slot, size=size, note=note):
                return _noted(f"{name} = last e with {offsets}[e] // {size} + e <= {slot}", note)
            case ProgramId(name=name):
                return f"{name} = program index"
            case Ticket(name=name, words=words):
                return f"{name} = {words}[0], counted up"
            case Publish(words=words, at=at, final=final, values=values, origin=origin):
                known = "all up to it" if final else "the tile"
                texts = ", ".join(self.expr(value) for value in values)
                return _noted(f"publish {words}[{at}] = {texts}", known, origin)
            case LookBack():
                return _look_back(item)
            case AwaitTurn(words=words, at=at, turn=turn, origin=origin):
                return _noted(f"wait until {words}[{at}] is {turn}", "acquires", origin)
            case PassTurn(words=words, at=at, turn=turn):
                return _noted(f"{words}[{at}] = {turn}", "releases")
            case Receive(name=name, tensor=tensor, base=base, offset=offset):
                return f"{name} = receive {tensor}[{self._offset(base, offset)}]"
            case Assign(name=name, value=value, note=note, origin=origin):
                return _noted(f"{name} : {type_text(value)} = {self.expr(value)}", note, origin)
            case For(counter=counter, start=start, stop=stop, step=step, note=note, static=static):
                by = "" if str(step) == "1" else f" by {step}"
                return _noted(f"{'unrolled ' if static else ''}for {counter} in {start} .. {stop}{by}", note)
            case If(condition=condition, note=note):
                return _noted(f"if {self.expr(condition)}", note)
            case CopyAsync(buffer=buffer, stage=stage, load=load, origin=origin):
                return _noted(f"copy async {self.expr(load)} -> {staged(buffer, stage)}", "", origin)
            case Barrier(note=note):
                return _noted("barrier", note)
            case Commit():
                return "commit"
            case Wait(pending=pending):
                return f"wait until {pending} groups are in flight"
            case StoreShared(buffer=buffer, stage=stage, value=value, slice=part, origin=origin):
                where = staged(buffer, stage) + ("" if part is None else f"[{part[0]} +: {part[1]}]")
                return _noted(f"{where} = {self.expr(value)} : {type_text(value)}", "", origin)
            case Store(tensor=tensor, base=base, offset=offset, mask=mask, value=value, origin=origin):
                where = "" if mask is None else f" where {self.expr(mask)}"
                stored = f"{self.expr(value)} : {type_text(value)}"
                return _noted(f"{tensor}[{self._offset(base, offset)}] = {stored}{where}", "", origin)
            case Atomic(tensor=tensor, base=base, offset=offset, origin=origin):
                return _noted(self._update(item, f"{tensor}[{self._offset(base, offset)}]"), "", origin)
            case AtomicShared(buffer=buffer, index=index, origin=origin):
                return _noted(self._update(item, f"{buffer}[{self.expr(index)}]"), "", origin)
            case Specialise(roles=roles):
                return f"roles {', '.join(role.name for role in roles)}"
            case Expect() | CopyTensor() | WaitBarrier() | Arrive() | StoreTensor() | WaitStores() | FenceAsync():
                return _noted(*protocol_text(item))
            case ArriveCopies() | MeetCluster() | DotWait() | Advance():
                return _noted(*protocol_text(item))
            case _:
                assert_never(item)

    def _update(self, item: Atomic | AtomicShared, element: str) -> str:
        where = "" if item.mask is None else f" where {self.expr(item.mask)}"
        together = ", equal elements of a warp together" if item.aggregate else ""
        return f"atomic {item.op.value} {element}, {self.expr(item.value)}{where}{together}"

    def expr(self, expr: Expr) -> str:
        if id(expr) in self.named:
            return self.named[id(expr)][1]
        text = self._expr(expr)
        leaf = isinstance(expr, Uniform | Argument | Literal | Var)
        if leaf or self.counts[id(expr)] < 2:
            return text
        self.given += 1
        name = f"t{self.given}"
        self.pending.append(f"{name} : {type_text(expr)} = {text}")
        self.named[id(expr)] = (expr, name)
        return name

    def _expr(self, expr: Expr) -> str:
        match expr:
            case Uniform(value=value):
                return str(value)
            case Argument(name=name) | Var(name=name):
                return name
            case Literal(value=value):
                return str(value)
            case Lane(space=space, dim=dim):
                return f"lane({space.dims[dim]})"
            case Elementwise(op=op, args=args):
                texts = [self.expr(arg) for arg in args]
                infix = len(texts) == 2 and not op.value[0].isalpha()
                return f"({texts[0]} {op.value} {texts[1]})" if infix else f"{op.value}({', '.join(texts)})"
            case Choose(condition=condition, then=then, otherwise=otherwise):
                return f"where({self.expr(condition)}, {self.expr(then)}, {self.expr(otherwise)})"
            case Cast(value=value, dtype=dtype):
                return f"{dtype}({self.expr(value)})"
            case InlinePtx(template=template, args=args, dtypes=dtypes, component=component):
                picked = f".{component}" if len(dtypes) > 1 else ""
                return f"ptx({template!r}; {', '.join(self.expr(arg) for arg in args)}){picked}"
            case Load(tensor=tensor, base=base, offset=offset, mask=mask, other=other):
                where = "" if mask is None else f" where {self.expr(mask)} else {other.value}"
                return f"{tensor}[{self._offset(base, offset)}]{where}"
            case SharedTile(buffer=buffer, stage=stage, order=order, slices=slices):
                parts = "".join(f"[{dim}: {start}:{start + length}]" for dim, start, length in slices)
                turned = "" if order == tuple(range(len(order))) else f".permuted{order}"
                return staged(buffer, stage) + parts + turned
            case SharedGather(buffer=buffer, stage=stage, index=index):
                return f"{staged(buffer, stage)}[{self.expr(index)}]"
            case Reduce(op=op, args=args, dim=dim, component=component, space=space):
                name = op.name if isinstance(op, Monoid) else op.value
                result = f"{name}[{space.dims[dim]}]({', '.join(self.expr(arg) for arg in args)})"
                return f"{result}.{component}" if len(args) > 1 else result
            case TileCall(op=op, args=args, component=component):
                picked = f".{component}" if len(op.results) > 1 else ""
                return f"{op.name}({', '.join(self.expr(arg) for arg in args)}){picked}"
            case Rank(words=words, best=best, rounds=rounds, space=space):
                how = "least" if rounds else "sorted"
                rest = "" if best is None else f", {self.expr(best)}"
                return f"{how}[{space.name}]({self.expr(words)}{rest})"
            case Scan(op=op, args=args, dim=dim, reverse=reverse, component=component, space=space):
                name = op.name if isinstance(op, Monoid) else op.value
                along = f"{space.dims[dim]}{', reversed' if reverse else ''}"
                result = f"scan {name}[{along}]({', '.join(self.expr(arg) for arg in args)})"
                return f"{result}.{component}" if len(args) > 1 else result
            case Relayout(value=value, space=space):
                return f"as_{space.name}({self.expr(value)})"
            case Half(value=value, second=second):
                return f"{'second' if second else 'first'}_half({self.expr(value)})"
            case DotStep(a=a, b=b, acc=acc, tensor_core=tensor_core):
                return f"{self.expr(acc)} + {'mma' if tensor_core else 'fma'}({self.expr(a)}, {self.expr(b)})"
            case Full(value=value):
                return f"full({value.value})"
            case _:
                assert_never(expr)

    def _offset(self, base: IntExpr, offset: Expr | None) -> str:
        return str(base) if offset is None else f"{base} + {self.expr(offset)}"


def _look_back(item: LookBack) -> str:
    op = item.op.name if isinstance(item.op, Monoid) else item.op.value
    published = f"{item.words}[{item.first} +: {item.count}]"
    return _noted(f"{', '.join(item.names)} = look back {op} {published} by {item.window}", "", item.origin)


def _noted(text: str, note: str, origin: str = "") -> str:
    comment = "; ".join(part for part in (note, origin) if part)
    return f"{text}   # {comment}" if comment else text


def _parameter(parameter: Parameter) -> str:
    match parameter:
        case PointerParam(name=name, dtype=dtype, alignment=alignment):
            return f"param {name} : pointer to {dtype}, aligned to {alignment}"
        case IntParam(name=name, value=value, divisor=divisor):
            return f"param {name} : i32 = {value}" + (f", a multiple of {divisor}" if divisor > 1 else "")
        case ScalarParam(name=name, dtype=dtype):
            return f"param {name} : {dtype}"
        case PresentParam(name=name, tensor=tensor):
            return f"param {name} : i32, whether {tensor} was given"
        case TensorMapParam(name=name, tensor=tensor, box=box, layout=layout):
            shape, strides = (", ".join(map(str, values)) for values in (parameter.shape, parameter.strides))
            boxed = f"box {' x '.join(map(str, box))}  {_shared_layout(layout)}"
            return f"param {name} : tensor map of {tensor}[{shape}] strides {strides}  {boxed}"
        case _:
            assert_never(parameter)


def _buffer(buffer: Buffer) -> str:
    shape = " x ".join(map(str, buffer.shape))
    stages = f"{buffer.depth} stages of " if buffer.depth else ""
    swizzle = _shared_layout(buffer.layout)
    text = f"shared {buffer.name} : {stages}{buffer.dtype}[{shape}]  {swizzle}  {buffer.bytes} bytes"
    return _noted(text, buffer.note)


def _shared_layout(layout: SharedLayout) -> str:
    match layout:
        case Nvmma(swizzle_bytes=swizzle, transposed=transposed):
            return f"swizzle {swizzle} bytes{', transposed' if transposed else ''}{_parts(layout.ctas)}"
        case _:
            how = f"{layout.vec}/{layout.per_phase}/{layout.max_phase}"
            return f"swizzle {how} order {layout.order}{_parts(layout.ctas)}"


def _parts(ctas: Bases) -> str:
    return f" parts {ctas}" if ctas else ""


def _barriers(barriers: Barriers) -> str:
    arrivals = f"{barriers.arrivals} arrival{'s' if barriers.arrivals > 1 else ''}"
    whose = f" of each program that differs in bits {barriers.across}" if barriers.across else ""
    return _noted(f"barriers {barriers.name} : {barriers.count} of {arrivals}{whose}", barriers.note)


def _role(role: Role) -> str:
    registers = "" if role.registers is None else f"   {role.registers} registers"
    return f"role {role.name}   {role.warps} warps{registers}{'   default' if role.default else ''}"


def _layout(layout: Layout) -> str:
    match layout:
        case Blocked(each=each, lanes=lanes, warps=warps, order=order):
            return f"blocked each {each} lanes {lanes} warps {warps} order {order}{_parts(layout.ctas)}"
        case MmaV2(warps=warps, instruction=(rows, columns)):
            return f"mma {rows} x {columns} warps {warps}{_parts(layout.ctas)}"
        case MmaV3(warps=warps, instruction=(rows, columns, depth)):
            return f"wgmma {rows} x {columns} x {depth} warps {warps}{_parts(layout.ctas)}"
        case Operand(index=index, parent=parent, k_width=k_width):
            return f"operand {'AB'[index]} of {_layout(parent)}, k width {k_width}"
        case Linear(registers=registers, lanes=lanes, warps=warps):
            return f"linear registers {registers} lanes {lanes} warps {warps}"
        case _:
            assert_never(layout)
