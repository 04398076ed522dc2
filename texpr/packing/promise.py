"""When a GPU must give the very bits of the emulator.

The emulator computes integers, conversions and the IEEE operations exactly as the hardware does, in the order of the
PTX. It does not know the approximations of the special-function unit, nor the order in which matrix instructions and
floating-point atomics add; and the assembler may contract a product and a sum that name no rounding into one
instruction. Kernels without any of these have the emulator's bits on every GPU.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

_OPCODE: Final = re.compile(r"(?<![%$\w.])[a-z]\w*(?:\.\w+)+")
_APPROXIMATE_HEADS: Final = frozenset({"ex2", "lg2", "sin", "cos", "tanh"})
_MATRIX_HEADS: Final = frozenset({"mma", "wgmma", "tcgen05"})
_ATOMIC_HEADS: Final = frozenset({"atom", "red", "multimem"})
_FLOATS: Final = frozenset({"f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"})
_ROUNDINGS: Final = frozenset({"rn", "rz", "rm", "rp"})
_SMS: Final = re.compile(r"\bsms\b")

_Json = Mapping[str, Any]


def reason_against(ptx: Iterable[str], variant: _Json, kernels: Iterable[_Json]) -> str:
    """Why bits may differ from the emulator's, in words; empty if they must not. ``ptx`` are the texts of the
    variant's kernels, ``kernels`` their records in the manifest."""
    if not variant["reproducible"]:
        return "the variant is not reproducible from run to run"
    opcodes = {opcode for text in ptx for opcode in _OPCODE.findall(text)}
    for opcode in sorted(opcodes):
        reason = _inexact(opcode)
        if reason:
            return f"{opcode}: {reason}"
    sums = sorted(opcode for opcode in opcodes if _may_contract(opcode, {"add", "sub"}))
    products = sorted(opcode for opcode in opcodes if _may_contract(opcode, {"mul"}))
    if sums and products:
        return f"{products[0]} and {sums[0]} may be contracted by the assembler"
    numbers = [param["value"] for kernel in kernels for param in kernel["parameters"] if param["kind"] == "integer"]
    numbers += [buffer["bytes"] for buffer in variant["workspace"]]
    if any(_SMS.search(number) for number in numbers):
        return "the partition of the work depends on the number of multiprocessors"
    return ""


def _inexact(opcode: str) -> str:
    head, *rest = opcode.split(".")
    words = set(rest)
    if head in _APPROXIMATE_HEADS or words & {"approx", "full"}:
        return "an approximation of the hardware's own"
    if head in _MATRIX_HEADS and "s32" not in words:
        return "matrix instructions add in an order of their own"
    if head in _ATOMIC_HEADS and "add" in words and words & _FLOATS:
        return "atomics add in any order"
    return ""


def _may_contract(opcode: str, heads: set[str]) -> bool:
    head, *words = opcode.split(".")
    return head in heads and bool(_FLOATS & set(words)) and not _ROUNDINGS & set(words)


def code_of(ptx: Iterable[str]) -> str:
    """A hash of what the emulator executes: targets that get the same instructions have the same."""
    digest = hashlib.sha256()
    for text in ptx:
        lines = (line.split("//")[0].strip() for line in text.splitlines())
        code = [line for line in lines if line and not line.startswith((".version", ".target", ".loc", ".file"))]
        digest.update("\n".join(code).encode() + b"\0")
    return digest.hexdigest()
