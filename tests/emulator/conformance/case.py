"""A conformance case: a kernel of one instruction form, its inputs, and the comparison that its outputs must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.emulator.conformance import portable
from tests.emulator.conformance.formats import FORMATS, Number
from texpr.emulator.accuracy import Bound
from texpr.emulator.isa import SINCE_EVERYWHERE, find_row
from texpr.emulator.since import has_target, missing, version_problem

Array = NDArray[np.generic]
THREADS = 64

TARGETS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_100a", "sm_120a")
VERSIONS = ("7.8", "8.0", "8.1", "8.2", "8.3", "8.4", "8.6", "8.7", "8.8", "9.1", "9.2", "9.4")


@dataclass(frozen=True)
class Output:
    """A buffer that the kernel fills.

    `form` '' compares bits; the name of a float format does too, but any NaN stands for every NaN.  With a `bound`,
    the expected values are exact results as float64, and may be missed by as much as documented.
    """

    dtype: str
    count: int
    form: str = ""
    bound: Bound | None = None


@dataclass(frozen=True)
class TensorMap:
    """What `cuTensorMapEncodeTiled` is told; the buffer's address comes from the launch.  Innermost extent first."""

    buffer: str
    element_type: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int = 0
    fill: int = 0


@dataclass(frozen=True)
class Case:
    """`inputs`, then `outputs`, then `maps` are the kernel's parameters; outputs named in `start` begin with that."""

    name: str
    opcodes: tuple[str, ...]
    body: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Output]
    expect: Callable[[], Mapping[str, Array]]
    threads: int = THREADS
    grid: int = 1
    declarations: str = ""
    module: str = ""
    maps: Mapping[str, TensorMap] = field(default_factory=dict)
    start: Mapping[str, Array] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    """Opcodes that the kernel uses besides and that decide its target."""

    @property
    def target(self) -> tuple[str, str]:
        """The least target and PTX version that have all its instructions."""
        return least_target((*self.opcodes, *self.also), self._operands)

    @property
    def _operands(self) -> int:
        return 4 if "three operands" in self.name else 0

    def text(self, target: str = "", version: str = "") -> str:
        """The PTX file, for the least target or another one that has the instructions."""
        least, oldest = self.target
        target = target or least
        if not version:
            version = next(v for v in VERSIONS[VERSIONS.index(oldest) :] if not version_problem(target, v))
        pointers = [f".param .u64 {name}" for name in (*self.inputs, *self.outputs)]
        blocks = [f".param .align 64 .b8 {name}[128]" for name in self.maps]
        return (
            f".version {version}\n.target {target}\n.address_size 64\n{self.module}\n"
            f".visible .entry test({', '.join([*pointers, *blocks])})\n.reqntid {self.threads}\n"
            f"{{\n{self.declarations}\n{self.body}\nret;\n}}\n"
        )

    def runs_on(self, target: str) -> bool:
        """Whether a GPU of the target (sm_90a: also what only 9.0a has) can run the case."""
        return has_target(target, self.target[0])

    def differences(self, got: Mapping[str, Array]) -> list[str]:
        """What is wrong with the outputs, a line for each."""
        expected = self.expect()
        return [
            f"{self.name}: {name}{line}"
            for name, output in self.outputs.items()
            for line in compare(output, got[name], expected[name])
        ]


def least_target(opcodes: Sequence[str], operands: int = 0) -> tuple[str, str]:
    sinces = []
    for opcode in opcodes:
        found = find_row(opcode)
        assert found is not None, opcode
        sinces.append((found[0].since, opcode))
    for target in TARGETS:
        for version in VERSIONS:
            if version_problem(target, version):
                continue
            if not any(missing(since, SINCE_EVERYWHERE, opcode, operands, target, version) for since, opcode in sinces):
                return target, version
    raise ValueError(f"no target has all of {opcodes}")


def compare(output: Output, got: Array, expected: Array) -> list[str]:
    """Up to four differences: where, and what."""
    form = FORMATS.get(output.form)
    shape = None if form is None else portable.Form(form.exponent, form.mantissa, form.infinity, form.dropped)
    bound = output.bound
    lines = portable.explain(
        got, expected, shape, None if bound is None else (bound.ulps, bound.relative, bound.absolute)
    )
    return lines if bound is None else [f"{line} ({bound})" for line in lines]


# Kernels of one instruction per thread ------------------------------------------------------------------------------


def register(bits: int) -> str:
    return f".b{max(bits, 16)}"


def lanes(
    opcode: str,
    sources: Sequence[Array],
    results: Mapping[str, Output] | Output,
    reference: Callable[..., object],
    *,
    body: str = "",
    constants: str = "",
    registers: str = "",
    name: str = "",
    opcodes: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
) -> Case:
    """One thread per element: `opcode %d, %s0, %s1, ...`, or a body of your own.

    `reference` takes the patterns of one element as integers and gives the result's (a tuple of several results').
    """
    count = len(sources[0])
    padded = -(-count // THREADS) * THREADS
    inputs = {f"s{i}": pad(array, padded) for i, array in enumerate(sources)}
    outputs = {"d": results} if isinstance(results, Output) else dict(results)
    outputs = {key: Output(out.dtype, padded, out.form, out.bound) for key, out in outputs.items()}
    lines = [
        ".reg .b64 %address, %offset; .reg .b32 %thread, %program, %index;",
        registers,
        "mov.u32 %thread, %tid.x; mov.u32 %program, %ctaid.x;",
        f"mad.lo.u32 %index, %program, {THREADS}, %thread;",
    ]
    for key, array in inputs.items():
        bits = 8 * array.itemsize
        lines.append(f".reg {register(bits)} %{key}; {_place(key, bits)} ld.global.b{bits} %{key}, [%address];")
    lines += [f".reg {register(8 * np.dtype(out.dtype).itemsize)} %{key};" for key, out in outputs.items()]
    operands = ", ".join(["%d", *(f"%{key}" for key in inputs), *([constants] if constants else [])])
    lines.append(body or f"{opcode} {operands};")
    for key, out in outputs.items():
        bits = 8 * np.dtype(out.dtype).itemsize
        lines.append(f"{_place(key, bits)} st.global.b{bits} [%address], %{key};")

    def expect() -> dict[str, Array]:
        columns: list[list[object]] = [[] for _ in outputs]
        for row in zip(*(array.tolist() for array in inputs.values()), strict=True):
            value = reference(*row)
            for column, part in zip(columns, value if isinstance(value, tuple) else (value,), strict=True):
                column.append(part)
        return {
            key: np.array(column, np.float64) if out.bound else _patterns(column, np.dtype(out.dtype))
            for (key, out), column in zip(outputs.items(), columns, strict=True)
        }

    return Case(
        name or opcode,
        opcodes or (opcode,),
        "\n".join(lines),
        inputs,
        outputs,
        expect,
        grid=padded // THREADS,
        also=also,
    )


def _patterns(column: Iterable[object], dtype: np.dtype[np.generic]) -> Array:
    limit = 1 << 8 * dtype.itemsize
    return np.array([int(value) % limit for value in column], np.uint64).astype(dtype)  # type: ignore[call-overload]


def pad(array: Array, count: int) -> Array:
    result = np.zeros(count, array.dtype)
    result[: len(array)] = array
    return result


def _place(key: str, bits: int) -> str:
    return (
        f"ld.param.u64 %address, [{key}]; mul.wide.u32 %offset, %index, {bits // 8};"
        "add.u64 %address, %address, %offset;"
    )


def combinations(*arrays: Array, count: int = 192) -> list[Array]:
    """Columns of the same length in which each array's elements meet many of the others'."""
    return [
        np.resize(np.roll(array, 7 * i * (i + 1) // 2), count)
        if i == 0
        else np.array(
            [array[(k * (2 * i + 1) + k // len(array) * 5 + 3 * i) % len(array)] for k in range(count)], array.dtype
        )
        for i, array in enumerate(arrays)
    ]


def double(value: Number) -> float:
    """For bounds: the number as float64."""
    if value.nan:
        return float("nan")
    size = float(value.size) if value.size is not None else 0.0
    return -size if value.negative else size
