"""Counters: what launches executed, instruction by instruction, and sums over that.

Everything is exact and in units of instructions, requests or bytes.  Counters of several launches, or of parts of
one launch, are added with `+`; the same instruction of the same kernel is one entry in the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, TypeVar

from texpr.emulator.instruction_classes import InstructionClass
from texpr.emulator.ptx import SourceLine

_Key = TypeVar("_Key")
_Record = TypeVar("_Record", bound=Any)


class Level(Enum):
    """Where memory is."""

    GLOBAL = "global"
    SHARED = "shared"
    LOCAL = "local"


class Way(Enum):
    """How memory is accessed."""

    LOAD = "load"
    STORE = "store"
    ATOMIC = "atomic"
    MATRIX_LOAD = "ldmatrix"
    MATRIX_STORE = "stmatrix"
    COPY = "cp.async"
    BULK_LOAD = "bulk load"
    BULK_STORE = "bulk store"
    BULK_REDUCE = "bulk reduce"
    TENSOR_CORE = "wgmma operand"


@dataclass(frozen=True, slots=True)
class Channel:
    """One kind of memory access. `width`: bytes per thread and access; 0 for whole copies and matrix operands."""

    level: Level
    way: Way
    width: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Accesses through one channel.

    `requests` are instructions of a warp (of one thread for bulk copies, of four warps for matrix operands);
    `accesses` count every thread, `bytes` what they ask for.  Of global memory, `unique_bytes` counts a byte once per
    request, `sectors` are the 32-byte sectors touched and `ideal_sectors` the fewest that hold as many bytes.  Of
    shared memory, `wavefronts` are the passes over the banks, and `ideal_wavefronts` those without any conflict.
    """

    requests: int = 0
    accesses: int = 0
    bytes: int = 0
    unique_bytes: int = 0
    sectors: int = 0
    ideal_sectors: int = 0
    wavefronts: int = 0
    ideal_wavefronts: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return _sum_fields(self, other)

    @property
    def conflicts(self) -> int:
        """Wavefronts that bank conflicts cost."""
        return self.wavefronts - self.ideal_wavefronts

    @property
    def sectors_per_request(self) -> float:
        """Of global memory; 0 without requests."""
        return self.sectors / self.requests if self.requests else 0.0

    @property
    def efficiency(self) -> float:
        """The share of the bytes in the touched sectors that was asked for; 1 if no sector was touched."""
        return self.unique_bytes / (32 * self.sectors) if self.sectors else 1.0


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction of a kernel; `position` is its place in the kernel, `source` the line it was compiled from."""

    module: str
    kernel: str
    position: int
    line: int
    opcode: str
    text: str
    belongs: InstructionClass
    source: SourceLine | None


@dataclass(frozen=True, slots=True)
class Executed:
    """How often one instruction was executed.

    `warps`: by warps with at least one active thread (for a predicated instruction, one whose predicate holds);
    `threads`: by active threads; `partial`: by warps some of whose threads took no part; `splits`: branches after
    which a warp's threads stood at different places; `flops`: multiplications and additions of matrix instructions.
    """

    warps: int = 0
    threads: int = 0
    partial: int = 0
    splits: int = 0
    flops: int = 0

    def __add__(self, other: Executed) -> Executed:
        return _sum_fields(self, other)


@dataclass(frozen=True, slots=True)
class InstructionCounters:
    """What is known of one instruction."""

    site: Site
    executed: Executed
    memory: Mapping[Channel, Traffic]

    def __add__(self, other: InstructionCounters) -> InstructionCounters:
        return InstructionCounters(
            self.site, self.executed + other.executed, _sum_traffic((self.memory, other.memory))
        )

    def traffic(self, level: Level) -> Traffic:
        """All accesses to one level."""
        return sum((found for channel, found in self.memory.items() if channel.level is level), Traffic())


@dataclass(frozen=True, slots=True)
class Launched:
    """How many launches, programs, and warps and threads of these."""

    launches: int = 0
    programs: int = 0
    warps: int = 0
    threads: int = 0

    def __add__(self, other: Launched) -> Launched:
        return _sum_fields(self, other)


@dataclass(frozen=True, slots=True)
class Divergence:
    """`partial` of `warps` instructions ran with some threads of the warp inactive, with `active` of 32 active on
    average over all; `splits` of `branches` split a warp."""

    warps: int
    partial: int
    active: float
    branches: int
    splits: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one or more launches: a table of instructions, and views of it.

    Instructions that nobody executed are in the table too, with zeros.
    """

    launched: Mapping[str, Launched] = field(default_factory=dict)
    """By kernel."""
    instructions: tuple[InstructionCounters, ...] = ()

    def __add__(self, other: Counters) -> Counters:
        table: dict[Site, InstructionCounters] = {}
        for entry in (*self.instructions, *other.instructions):
            known = table.get(entry.site)
            table[entry.site] = entry if known is None else known + entry
        launched = dict(self.launched)
        for kernel, found in other.launched.items():
            launched[kernel] = launched.get(kernel, Launched()) + found
        return Counters(launched, tuple(table.values()))

    @staticmethod
    def total(parts: Iterable[Counters]) -> Counters:
        """The sum of any number of counters."""
        return sum(parts, Counters())

    # Views --------------------------------------------------------------------------------------------------

    def of(self, kernel: str) -> Counters:
        """Those of one kernel."""
        chosen = tuple(entry for entry in self.instructions if entry.site.kernel == kernel)
        return Counters({name: found for name, found in self.launched.items() if name == kernel}, chosen)

    @property
    def executed(self) -> Executed:
        """All instructions together."""
        return sum((entry.executed for entry in self.instructions), Executed())

    def by_class(self) -> dict[InstructionClass, Executed]:
        """Executed instructions by class, in the order of the classes; those that occur."""
        found: dict[InstructionClass, Executed] = {}
        for entry in self._ran():
            belongs = entry.site.belongs
            found[belongs] = found.get(belongs, Executed()) + entry.executed
        return {belongs: found[belongs] for belongs in InstructionClass if belongs in found}

    def by_opcode(self, belongs: InstructionClass) -> dict[str, Executed]:
        """Executed instructions of one class by their opcodes, in the order of the text."""
        found: dict[str, Executed] = {}
        for entry in self._ran():
            if entry.site.belongs is belongs:
                found[entry.site.opcode] = found.get(entry.site.opcode, Executed()) + entry.executed
        return found

    def by_line(self) -> dict[tuple[str, int], tuple[InstructionCounters, ...]]:
        """The instructions of each line of PTX, by module and line number; inlined functions have several per line."""
        return self._grouped(lambda site: (site.module, site.line))

    def by_source(self) -> dict[SourceLine | None, tuple[InstructionCounters, ...]]:
        """The instructions that were compiled from each line of the source."""
        return self._grouped(lambda site: site.source)

    def memory(self) -> dict[Channel, Traffic]:
        """Traffic by channel."""
        found = _sum_traffic(entry.memory for entry in self.instructions)
        levels, ways = list(Level), list(Way)
        order = sorted(found, key=lambda c: (levels.index(c.level), ways.index(c.way), c.width))
        return {channel: found[channel] for channel in order}

    def traffic(self, level: Level, *ways: Way) -> Traffic:
        """Traffic of a level, by some ways (default: all)."""
        return sum(
            (found for c, found in self.memory().items() if c.level is level and (not ways or c.way in ways)), Traffic()
        )

    @property
    def flops(self) -> int:
        """Of matrix instructions."""
        return self.executed.flops

    def tensor(self) -> dict[str, Executed]:
        """Matrix instructions by opcode: a wgmma counts once for each of its four warps."""
        return self.by_opcode(InstructionClass.TENSOR)

    def barriers(self) -> dict[str, Executed]:
        """Barriers, arrivals, waits and fences, by opcode."""
        return self.by_opcode(InstructionClass.BARRIER)

    def divergence(self) -> Divergence:
        """How much of the execution was not by whole warps."""
        all_of_it = self.executed
        active = all_of_it.threads / all_of_it.warps if all_of_it.warps else 0.0
        branches = sum(e.executed.warps for e in self.instructions if e.site.opcode.split(".")[0] in ("bra", "brx"))
        return Divergence(all_of_it.warps, all_of_it.partial, active, branches, all_of_it.splits)

    def worst(self, badness: Callable[[InstructionCounters], int], most: int) -> list[InstructionCounters]:
        """The instructions with the greatest badness, at most so many, none of badness 0; earlier ones first."""
        ordered = sorted(self.instructions, key=lambda entry: -badness(entry))
        return [entry for entry in ordered[:most] if badness(entry) > 0]

    def _ran(self) -> Iterator[InstructionCounters]:
        return (entry for entry in self.instructions if entry.executed.warps)

    def _grouped(self, key: Callable[[Site], _Key]) -> dict[_Key, tuple[InstructionCounters, ...]]:
        found: dict[_Key, list[InstructionCounters]] = {}
        for entry in self.instructions:
            found.setdefault(key(entry.site), []).append(entry)
        return {name: tuple(entries) for name, entries in found.items()}


def excess_sectors(entry: InstructionCounters) -> int:
    """Sectors of global memory beyond the fewest possible."""
    found = entry.traffic(Level.GLOBAL)
    return found.sectors - found.ideal_sectors


def conflicts(entry: InstructionCounters) -> int:
    """Wavefronts of shared memory that bank conflicts cost."""
    return entry.traffic(Level.SHARED).conflicts


def _sum_fields(one: _Record, other: _Record) -> _Record:
    """A record of numbers: the sums, field by field."""
    made: _Record = type(one)(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(one)))
    return made


def _sum_traffic(parts: Iterable[Mapping[Channel, Traffic]]) -> dict[Channel, Traffic]:
    found: dict[Channel, Traffic] = {}
    for part in parts:
        for channel, traffic in part.items():
            found[channel] = found.get(channel, Traffic()) + traffic
    return found
