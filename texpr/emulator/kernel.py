"""Decoded kernels: operations (instruction + table row) in basic blocks, in scheduling order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from texpr.emulator.ptx import Instruction, Param, Variable
from texpr.emulator.rows import ControlKind, Modifiers, Row
from texpr.emulator.types import ScalarType


@dataclass(frozen=True, slots=True)
class Operation:
    """An instruction together with its row of the instruction table."""

    instruction: Instruction
    row: Row
    modifiers: Modifiers


@dataclass(frozen=True, slots=True)
class Transfer:
    """How a block ends: its control instruction (None: falls through) and the blocks that may follow.

    `targets` are the branch targets in operand order; `following` is the next block in the text, -1 at the end.
    """

    operation: Operation | None
    kind: ControlKind | None
    targets: tuple[int, ...]
    following: int


@dataclass(frozen=True, slots=True)
class Block:
    """A basic block: straight-line operations, then a transfer of control."""

    operations: tuple[Operation, ...]
    transfer: Transfer


@dataclass(frozen=True, slots=True)
class Kernel:
    """A decoded `.entry`; `blocks` are in scheduling order (see `cfg.py`), the first is the entry.

    `cluster` are the programs per cluster that it demands, if any; `explicit_cluster`: a launch must give them too.
    """

    name: str
    params: tuple[Param, ...]
    reqntid: tuple[int, int, int] | None
    line: int
    blocks: tuple[Block, ...]
    registers: Mapping[str, ScalarType]
    variables: tuple[Variable, ...]
    cluster: tuple[int, int, int] | None = None
    explicit_cluster: bool = False

    @property
    def operations(self) -> list[Operation]:
        """Every operation that can be reached, control included."""
        found: list[Operation] = []
        for block in self.blocks:
            found += block.operations
            if block.transfer.operation is not None:
                found.append(block.transfer.operation)
        return found


@dataclass(frozen=True, slots=True)
class PtxModule:
    """A loaded PTX file. `kernels` maps entry names to decoded kernels; `lines` is the text."""

    name: str
    target: str
    version: str
    kernels: Mapping[str, Kernel]
    variables: tuple[Variable, ...]
    lines: tuple[str, ...]
