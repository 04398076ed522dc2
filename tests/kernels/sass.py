"""Machine code of a compiled kernel, as far as the tests look at it: instructions, and the loop that does the work."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from texpr.aot.cubin import CompiledKernel, compile_kernels
from texpr.compile import build_package

_LABEL = re.compile(r"\s*(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)(.*)")


@dataclass(frozen=True)
class Code:
    """``opcodes`` in order, each with its ``operands`` as text; ``loops`` as (first, last) positions, from backward
    branches."""

    opcodes: tuple[str, ...]
    loops: tuple[tuple[int, int], ...]
    operands: tuple[str, ...] = ()

    def count(self, *parts: str) -> int:
        """Instructions whose opcode is ``parts[0]`` and has all other parts as modifiers."""
        return _count(self.opcodes, parts)

    def main_loop(self) -> Code:
        """The loop with the most matrix instructions, else the longest."""
        first, last = max(
            self.loops, key=lambda loop: (_count(self.opcodes[loop[0] : loop[1] + 1], ("HMMA",)), loop[1] - loop[0])
        )
        return Code(self.opcodes[first : last + 1], ())

    def shortest_loop(self, *parts: str) -> Code:
        """The shortest loop that has such instructions: of a loop split by a guard, the one that need not test it."""
        bodies = [
            Code(self.opcodes[first : last + 1], (), self.operands[first : last + 1]) for first, last in self.loops
        ]
        return min((body for body in bodies if body.count(*parts)), key=lambda body: len(body.opcodes))

    def innermost(self) -> list[Code]:
        """The loops that have no other inside, in order."""
        own = [one for one in self.loops if not any(one != other and one[0] <= other[0] and other[1] <= one[1]
                                                    for other in self.loops)]  # fmt: skip
        return [Code(self.opcodes[first : last + 1], ()) for first, last in own]

    def memory_accesses(self) -> Counter[str]:
        """Opcodes of global and shared accesses with their counts."""
        kinds = ("LDG", "STG", "LDS", "STS", "LDSM", "STSM", "LDGSTS", "LDL", "STL")
        return Counter(opcode for opcode in self.opcodes if opcode.split(".")[0] in kinds)


def _count(opcodes: tuple[str, ...], parts: tuple[str, ...]) -> int:
    wanted = set(parts[1:])
    return sum(opcode.split(".")[0] == parts[0] and wanted <= set(opcode.split(".")) for opcode in opcodes)


def compiled(
    source: str,
    variant: str,
    target: str,
    statics: Mapping[str, int] | None = None,
    schedule: Path | None = None,
    kernel: str = "",
    **types: str,
) -> CompiledKernel:
    """The one kernel of a variant of the algorithm's schedule, or of another one; or the one of that name."""
    package = build_package(source, None if schedule is None else str(schedule), [target], types, statics)
    start = f"{package.name}_{variant}_"
    (wanted,) = (k for k in package.kernels if k.name.startswith(start) and k.name.endswith(kernel))
    (found,) = compile_kernels([wanted], [target])
    return found


def disassembled(kernel: CompiledKernel) -> Code:
    """The cubin through the nvdisasm of the Triton wheel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.cubin)
        file.flush()
        text = subprocess.run([str(tool), "-c", file.name], capture_output=True, text=True, check=True).stdout
    return parse(text)


def parse(text: str) -> Code:
    """Opcodes and loops of a listing."""
    labels: dict[str, int] = {}
    instructions: list[tuple[str, str]] = []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label.group(1)] = len(instructions)
        if instruction := _INSTRUCTION.search(line):
            instructions.append((instruction.group(1), instruction.group(2)))
    loops = []
    for position, (opcode, operands) in enumerate(instructions):
        target = re.search(r"\.L_x_\d+", operands) if opcode.startswith("BRA") else None
        start = labels.get(target.group(0), position) if target else position
        if start < position:
            loops.append((start, position))
    return Code(
        tuple(opcode for opcode, _ in instructions), tuple(loops), tuple(operands for _, operands in instructions)
    )
