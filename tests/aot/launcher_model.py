"""What a launcher must do with a call, written again in Python from the contract: the judge of the fuzz tests.

It shares nothing with the generator but the IR. Integers are exact; a value beyond int64 anywhere on the way raises
Overflow, and so does a division by zero.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

from texpr.aot.abi import args_fields
from texpr.aot.ir import (
    Entry,
    IntValue,
    KernelParam,
    Package,
    PresentFlag,
    ScalarArgument,
    ScalarValue,
    TensorArgument,
    TensorPointer,
    Variant,
    WorkspaceBuffer,
    WorkspacePointer,
)
from texpr.dtypes import DType
from texpr.math.expr import (
    Add,
    And,
    Atom,
    AtomKind,
    BoolExpr,
    Compare,
    Const,
    FloorDiv,
    IntExpr,
    Literal,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Sym,
    holds,
)

OK, NULL, DIM, REQUIRE, MISALIGNED, OVERLAP, RANGE = 0, -1, -3, -4, -5, -6, -7
SCALAR, STRIDE, WORKSPACE, WORKSPACE_ALIGN, NO_VARIANT = -8, -9, -10, -11, -12

_DIM_MAX = 0x7FFF0000
_INT64 = range(-(2**63), 2**63)
_SCALAR_FORMATS = {
    DType.F32: "I", DType.F64: "Q", DType.F16: "H", DType.BF16: "H", DType.BOOL: "B", DType.I8: "b", DType.U8: "B",
    DType.I16: "h", DType.U16: "H", DType.I32: "i", DType.U32: "I", DType.I64: "q", DType.U64: "Q",
}  # fmt: skip


class Overflow(Exception):
    pass


class Refused(Exception):
    """The call is illegal: ``where`` is (status, argument, other, dim) as texpr_error reports it."""

    def __init__(self, status: int, argument: int = -1, other: int = -1, dim: int = -1) -> None:
        self.where = (status, argument, other, dim)
        super().__init__(str(self.where))


@dataclass
class Launched:
    kernel: str
    grid: int
    params: bytes


@dataclass
class Outcome:
    """``variant`` is -1 when there is nothing to do; ``launches`` are those with a grid of at least one."""

    variant: int = -1
    grids: list[int] = field(default_factory=list)
    workspace_bytes: int = 0
    launches: list[Launched] = field(default_factory=list)


Env = Mapping[str, int]
Number = Callable[[Env], int]


def number(expr: IntExpr) -> Number:
    """``expr`` as a function of the symbols; built once, called often."""

    def checked(value: int) -> int:
        if value not in _INT64:
            raise Overflow
        return value

    match expr:
        case Const(value):
            return lambda env: value
        case Sym(name):
            return lambda env: env[name]
        case Add(args):
            terms = [number(arg) for arg in args]

            def add(env: Env) -> int:
                result = terms[0](env)
                for term in terms[1:]:
                    result = checked(result + term(env))
                return result

            return add
        case Mul(args):
            factors = [number(arg) for arg in args]

            def multiply(env: Env) -> int:
                result = factors[0](env)
                for factor in factors[1:]:
                    result = checked(result * factor(env))
                return result

            return multiply
        case FloorDiv(num, den) | Mod(num, den):
            a, b = number(num), number(den)
            quotient = isinstance(expr, FloorDiv)

            def divide(env: Env) -> int:
                x, y = a(env), b(env)
                if y == 0:
                    raise Overflow
                return checked(x // y) if quotient else x % y

            return divide
        case Min(args):
            values = [number(arg) for arg in args]
            return lambda env: min([value(env) for value in values])
        case Max(args):
            values = [number(arg) for arg in args]
            return lambda env: max([value(env) for value in values])
    raise AssertionError(expr)


class Model:
    """One entry on one device: ``predict`` says what launch does with a call; ``available`` names the variants with
    images.
    """

    def __init__(self, package: Package, entry: Entry, available: tuple[str, ...], sms: int) -> None:
        self.package, self.entry, self.available, self.sms = package, entry, available, sms
        self.kernels = {kernel.name: kernel for kernel in package.kernels}
        self.tensors = [argument for argument in entry.arguments if isinstance(argument, TensorArgument)]
        self.index = {argument.name: position for position, argument in enumerate(entry.arguments)}
        self.entry_fields = [(one.name, one.role) for one in args_fields(entry)]
        self._numbers: dict[IntExpr, Number] = {}

    def value(self, expr: IntExpr, env: Env) -> int:
        if expr not in self._numbers:
            self._numbers[expr] = number(expr)
        return self._numbers[expr](env)

    def condition(self, expr: BoolExpr, env: Env, ranges: Mapping[str, tuple[int, int]]) -> bool:
        match expr:
            case Literal(value):
                return value
            case Compare(op, lhs, rhs):
                return holds(op, self.value(lhs, env), self.value(rhs, env))
            case And(args):
                return all(self.condition(arg, env, ranges) for arg in args)
            case Or(args):
                return any(self.condition(arg, env, ranges) for arg in args)
            case Not(arg):
                return not self.condition(arg, env, ranges)
            case Atom(AtomKind.ALIGNED, (name,), to):
                return ranges[name][0] % to == 0
            case Atom(AtomKind.PRESENT, (name,), _):
                return ranges[name][0] != 0
            case Atom(AtomKind.DISJOINT, (a, b), _):
                return not _overlap(ranges[a], ranges[b])
        raise AssertionError(expr)

    def predict(
        self, args: Mapping[str, int], workspace: int, workspace_bytes: int
    ) -> tuple[Outcome | None, tuple[int, ...]]:
        """``args`` holds every field by user name (pointers as addresses, floats as bits). Returns what query
        describes (None if it is refused) and the (status, argument, other, dim) of launch.
        """
        try:
            outcome = self.plan(args, workspace)
        except Refused as refused:
            return None, refused.where
        except Overflow:
            return None, (RANGE, -1, -1, -1)
        try:
            self.check_workspace(args, outcome.workspace_bytes, workspace, workspace_bytes)
        except Refused as refused:
            return outcome, refused.where
        return outcome, (OK, -1, -1, -1)

    def plan(self, args: Mapping[str, int], workspace: int) -> Outcome:
        env = self.check_numbers(args)
        ranges = self.check_tensors(args, env)
        if all(ranges[tensor.name][1] == 0 for tensor in self.tensors if tensor.output):
            return Outcome()
        for position, variant in enumerate(self.entry.variants):
            if (
                variant.name in self.available
                and self.condition(variant.guard, env, ranges)
                and self.assumed(variant, args, env)
            ):
                return self.plan_variant(position, variant, args, env, ranges, workspace)
        raise Refused(NO_VARIANT)

    def assumed(self, variant: Variant, args: Mapping[str, int], env: Env) -> bool:
        """Every parameter is as divisible as its kernel was told."""
        for launch in variant.launches:
            for param in self.kernels[launch.kernel].params:
                match param.value:
                    case TensorPointer(name) | ScalarValue(name):
                        value = args[name]
                    case IntValue(expr):
                        value = self.value(expr, env)
                    case _:
                        value = 0
                if value % param.divisibility:
                    return False
        return True

    def check_numbers(self, args: Mapping[str, int]) -> Env:
        env = {"sms": self.sms}
        for argument in self.entry.arguments:
            if isinstance(argument, ScalarArgument) and argument.dtype.is_int:
                env[argument.name] = min(args[argument.name], 2**63 - 1)
            if isinstance(argument, TensorArgument):
                for _, name in argument.strided:
                    env[name] = 0 if argument.optional and args[argument.name] == 0 else args[name]
        for position, name in enumerate(self.entry.dims):
            env[name] = args[name]
            if not 0 <= args[name] <= _DIM_MAX:
                raise Refused(DIM, position)
        for position, (name, expr) in enumerate(self.entry.derived, start=len(self.entry.dims)):
            try:
                env[name] = self.value(expr, env)
            except Overflow:
                raise Refused(DIM, position) from None
            if not 0 <= env[name] <= _DIM_MAX:
                raise Refused(DIM, position)
        for position, fact in enumerate(self.entry.facts):
            if not self.condition(fact, env, {}):
                raise Refused(REQUIRE, position)
        self.check_scalars(args, env)
        self.check_strides(args, env)
        return env

    def check_scalars(self, args: Mapping[str, int], env: Env) -> None:
        for argument in self.entry.arguments:
            if not isinstance(argument, ScalarArgument):
                continue
            position = self.index[argument.name]
            if argument.dtype is DType.BOOL and args[argument.name] > 1:
                raise Refused(SCALAR, position)
            for bound, sign in ((argument.low, 1), (argument.high, -1)):
                if bound is None:
                    continue
                try:
                    limit = self.value(bound, env)
                except Overflow:
                    raise Refused(RANGE, position) from None
                if (sign > 0 and args[argument.name] < limit) or (sign < 0 and args[argument.name] >= limit):
                    raise Refused(SCALAR, position)

    def check_strides(self, args: Mapping[str, int], env: Env) -> None:
        for tensor in self.tensors:
            if tensor.optional and args[tensor.name] == 0:
                continue
            for dim, name in sorted(tensor.strided, reverse=True):
                try:
                    row = self.row(tensor, dim, env)
                except Overflow:
                    raise Refused(RANGE, self.index[tensor.name]) from None
                if env[name] < row:
                    raise Refused(STRIDE, self.index[tensor.name], dim=dim)

    def extents(self, tensor: TensorArgument, env: Env) -> list[int]:
        logical = iter(tensor.shape)
        return [_product([self.value(next(logical), env) for _ in range(count)]) for count in tensor.groups]

    def step(self, tensor: TensorArgument, dim: int, env: Env) -> int:
        strided = dict(tensor.strided)
        return env[strided[dim]] if dim in strided else self.row(tensor, dim, env)

    def row(self, tensor: TensorArgument, dim: int, env: Env) -> int:
        if dim + 1 == len(tensor.groups):
            return 1
        return _product([self.extents(tensor, env)[dim + 1], self.step(tensor, dim + 1, env)])

    def elements(self, tensor: TensorArgument, env: Env) -> int:
        extents = self.extents(tensor, env)
        if not tensor.strided:
            return _product(extents)
        if 0 in extents:
            return 0
        span = 1 + sum((extent - 1) * self.step(tensor, dim, env) for dim, extent in enumerate(extents))
        if span not in _INT64:
            raise Overflow
        return span

    def check_tensors(self, args: Mapping[str, int], env: Env) -> dict[str, tuple[int, int]]:
        """Address and bytes of every tensor."""
        ranges: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            position, address = self.index[tensor.name], args[tensor.name]
            for dim, extent in enumerate(tensor.shape):
                if self.value(extent, env) < 0:
                    raise Refused(DIM, -1, position, dim)
            try:
                count = self.elements(tensor, env)
                size = -(-count * tensor.dtype.bits // 8)
                too_many = size not in _INT64
            except Overflow:
                count, size, too_many = 1, 0, True
            ranges[tensor.name] = (address, size if address else 0)
            if address == 0 and tensor.optional:
                continue
            if address == 0 and count:
                raise Refused(NULL, position)
            if address % max(tensor.dtype.bits // 8, 1):
                raise Refused(MISALIGNED, position)
            if too_many or address + size > 2**64 - 1:
                raise Refused(RANGE, position)
        self.check_overlap(ranges, env)
        return ranges

    def check_overlap(self, ranges: Mapping[str, tuple[int, int]], env: Env) -> None:
        done: set[str] = set()
        for output in self.tensors:
            if not output.output:
                continue
            done.add(output.name)
            for other in self.tensors:
                if other.name == output.name or (other.output and other.name in done):
                    continue
                if _overlap(ranges[output.name], ranges[other.name]) and not self.same(output, other, ranges, env):
                    raise Refused(OVERLAP, self.index[output.name], self.index[other.name])

    def same(self, a: TensorArgument, b: TensorArgument, ranges: Mapping[str, tuple[int, int]], env: Env) -> bool:
        if a.may_alias != b.name and b.may_alias != a.name:
            return False
        if ranges[a.name] != ranges[b.name]:
            return False
        dims = range(len(a.groups))
        return not (a.strided or b.strided) or [self.step(a, d, env) for d in dims] == [
            self.step(b, d, env) for d in dims
        ]

    def plan_variant(
        self,
        position: int,
        variant: Variant,
        args: Mapping[str, int],
        env: Env,
        ranges: Mapping[str, tuple[int, int]],
        workspace: int,
    ) -> Outcome:
        if not all(self.condition(limit, env, ranges) for limit in variant.limits):
            raise Refused(RANGE)
        outcome = Outcome(position, [self.value(launch.grid, env) for launch in variant.launches])
        if any(not 0 <= grid < 2**31 for grid in outcome.grids):
            raise Refused(RANGE)
        offsets: dict[str, int] = {}
        slots: dict[int | str, list[WorkspaceBuffer]] = {}
        for buffer in variant.workspace:
            slots.setdefault(buffer.name if buffer.slot is None else buffer.slot, []).append(buffer)
        for buffers in slots.values():
            start = -(-outcome.workspace_bytes // 256) * 256
            offsets.update({buffer.name: start for buffer in buffers})
            size = max(self.value(buffer.bytes, env) for buffer in buffers)
            if not 0 <= size <= 2**63 - 1 - 256 - start:
                raise Refused(RANGE)
            outcome.workspace_bytes = start + size
        for launch, grid in zip(variant.launches, outcome.grids, strict=True):
            params = [
                self.param_bytes(param, args, env, offsets, workspace) for param in self.kernels[launch.kernel].params
            ]
            for fill in launch.fills:
                count = self.value(fill.count, env)
                match fill.target:
                    case TensorPointer(name):
                        address = args[name]
                    case WorkspacePointer(name):
                        address = (workspace + offsets[name]) % 2**64
                if count > 0:
                    numbers = struct.pack("<QQQ", address, fill.pattern, count)
                    outcome.launches.append(Launched(f"fill {fill.bits}", 0, numbers))
            if grid:
                outcome.launches.append(Launched(launch.kernel, grid, b"".join(params) + bytes(16)))
        return outcome

    def param_bytes(
        self, param: KernelParam, args: Mapping[str, int], env: Env, offsets: Mapping[str, int], workspace: int
    ) -> bytes:
        match param.value:
            case TensorPointer(name):
                return struct.pack("<Q", args[name])
            case WorkspacePointer(buffer):
                return struct.pack("<Q", (workspace + offsets[buffer]) % 2**64)
            case ScalarValue(name):
                argument = self.entry.arguments[self.index[name]]
                return struct.pack("<" + _SCALAR_FORMATS[argument.dtype], args[name])
            case PresentFlag(name):
                return struct.pack("<i", args[name] != 0)
            case IntValue(expr, wide):
                value = self.value(expr, env)
                if not wide and not -(2**31) <= value < 2**31:
                    raise Refused(RANGE)
                return struct.pack("<q" if wide else "<i", value)

    def check_workspace(self, args: Mapping[str, int], needed: int, workspace: int, workspace_bytes: int) -> None:
        if needed == 0:
            return
        if workspace == 0 or workspace_bytes < needed:
            raise Refused(WORKSPACE)
        if workspace % 256:
            raise Refused(WORKSPACE_ALIGN)
        if workspace + needed > 2**64 - 1:
            raise Refused(RANGE)
        ranges = self.check_tensors(args, self.check_numbers(args))
        for tensor in self.tensors:
            if _overlap(ranges[tensor.name], (workspace, needed)):
                raise Refused(OVERLAP, self.index[tensor.name])


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return bool(a[1] and b[1]) and a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


def _product(factors: list[int]) -> int:
    """Overflows as soon as a partial product does, as the contract says (left to right)."""
    for count in range(2, len(factors) + 1):
        if prod(factors[:count]) not in _INT64:
            raise Overflow
    return prod(factors)
