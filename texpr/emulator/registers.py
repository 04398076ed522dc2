"""The register file of a batch, and operands as arrays over all its lanes.

Registers of one width share a 2-D array, one row per register, one column per lane.  Operands are decoded
once: a source becomes a view of a row (or a 0-d constant), so that executing an instruction is one call on
arrays that already exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from texpr.emulator.ptx import FloatBits, Integer, Negated, Operand, Register, Sink, Special, Symbol
from texpr.emulator.types import PREDICATE, SIGNED_OF_SIZE, UNSIGNED_OF_SIZE, Kind, ScalarType

Array = NDArray[Any]


class OperandError(ValueError):
    """An operand does not fit its instruction (found when a kernel is bound, before it runs)."""


class RegisterFile:
    """All registers of `lanes` threads, and what operands of their instructions refer to.

    `specials` are the rows of the special registers (`%tid.x`, ...); `symbols` the addresses of variables, `windows`
    those that differ from lane to lane.
    """

    def __init__(
        self,
        declared: Mapping[str, ScalarType],
        lanes: int,
        specials: Mapping[str, Array],
        symbols: Mapping[str, int],
        windows: Mapping[str, Array],
    ) -> None:
        self.lanes = lanes
        self.specials = specials
        self.symbols = symbols
        self.windows = windows
        self._rows: dict[str, Array] = {}
        self._banks: list[Array] = []
        by_dtype: dict[np.dtype[Any], list[str]] = {}
        for name, scalar in declared.items():
            dtype = scalar.dtype if scalar is PREDICATE else UNSIGNED_OF_SIZE[scalar.bytes].dtype
            by_dtype.setdefault(dtype, []).append(name)
        for dtype, names in by_dtype.items():
            bank = np.zeros((len(names), lanes), dtype)
            self._banks.append(bank)
            self._rows.update(zip(names, bank, strict=True))

    def clear(self) -> None:
        """All registers zero, as at the start of a program."""
        for bank in self._banks:
            bank.fill(0)

    def copies(self) -> list[Array]:
        """What all registers hold, for `equal`."""
        return [bank.copy() for bank in self._banks]

    def equal(self, copies: list[Array], lanes: Array) -> Array:
        """Per lane: whether all registers hold what they held when `copies` were made."""
        same = np.ones(len(lanes), np.bool_)
        for bank, copy in zip(self._banks, copies, strict=True):
            same &= (bank[:, lanes] == copy[:, lanes]).all(axis=0)
        return same

    def row(self, register: Register) -> Array:
        return self._rows[register.name]

    def source(self, operand: Operand, scalar: ScalarType, prologue: list[Callable[[], None]]) -> Array:
        """The operand's values seen as `scalar`: one per lane, or a 0-d constant.

        A negated predicate needs a scratch row, refreshed by a function added to `prologue`.
        """
        if isinstance(operand, Register):
            return scalar.view(self._fitting_row(operand, scalar))
        if isinstance(operand, Special):
            if operand.name not in self.specials:
                raise OperandError(f"special register {operand.name} is not emulated")
            return scalar.view(self.specials[operand.name])
        if isinstance(operand, Negated):
            return self._negated(operand, prologue)
        if isinstance(operand, Symbol) and operand.name in self.windows:
            address = self.windows[operand.name] + np.uint64(operand.offset % (1 << 64))
            return scalar.view(address.astype(f"u{scalar.bytes}"))
        return self._constant(operand, scalar)

    def destination(self, operand: Operand, scalar: ScalarType) -> Array | None:
        """Where results of type `scalar` go (None: nowhere); a wider register is zero- or sign-extended."""
        if isinstance(operand, Sink):
            return None
        if not isinstance(operand, Register):
            raise OperandError("the destination is not a register")
        row = self._fitting_row(operand, scalar)
        if row.itemsize == scalar.bytes:
            return scalar.view(row)
        if scalar.kind is Kind.FLOAT or scalar.count != 1:
            raise OperandError(f"{operand.name} is .{operand.type.name}, wider than .{scalar.name}")
        wide = SIGNED_OF_SIZE if scalar.kind is Kind.SIGNED else UNSIGNED_OF_SIZE
        return wide[row.itemsize].view(row)

    def _fitting_row(self, register: Register, scalar: ScalarType) -> Array:
        row = self._rows[register.name]
        if (scalar is PREDICATE) != (row.dtype == np.bool_):
            raise OperandError(f"{register.name} is .{register.type.name}, a .{scalar.name} is needed")
        if row.itemsize < scalar.bytes:
            raise OperandError(f"{register.name} is .{register.type.name}, too narrow for .{scalar.name}")
        return row

    def _negated(self, operand: Negated, prologue: list[Callable[[], None]]) -> Array:
        row = self._rows[operand.register.name]
        scratch = np.empty_like(row)
        prologue.append(lambda: np.copyto(scratch, ~row))
        return scratch

    def _constant(self, operand: Operand, scalar: ScalarType) -> Array:
        bits = self._constant_bits(operand, scalar) & ((1 << scalar.bits) - 1)
        if scalar is PREDICATE:
            return np.array(bool(bits & 1))
        data = np.frombuffer(bits.to_bytes(scalar.bytes, "little"), scalar.dtype)
        return data[0].reshape(()) if scalar.count == 1 else np.tile(data, self.lanes)

    def _constant_bits(self, operand: Operand, scalar: ScalarType) -> int:
        if isinstance(operand, Integer):
            return operand.value
        if isinstance(operand, Symbol):
            if operand.name not in self.symbols:
                raise OperandError(f"{operand.name!r} is not declared")
            return self.symbols[operand.name] + operand.offset
        if isinstance(operand, FloatBits):
            if scalar.bits == operand.width:
                return operand.bits
            value = np.array(operand.bits, f"u{operand.width // 8}").view(f"f{operand.width // 8}")
            if scalar.kind is Kind.FLOAT:
                return int.from_bytes(value.astype(scalar.dtype).tobytes(), "little")
        raise OperandError(f"this operand cannot be read as .{scalar.name}")
