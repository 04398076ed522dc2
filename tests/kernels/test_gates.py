"""What the machine code must look like of every kernel that the copy engine or warpgroups serve, and of every kernel
with roles: read from the cubins, no GPU needed, no time measured.

What a schedule declares is looked for in the code, for all schedules of the repository. What one step of the loop that
multiplies executes is in a table.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.kernels.sass import Code, compiled, disassembled
from tests.kernels.test_kernels_on_emulator import ROOT, SOURCES
from texpr.aot.cubin import CompiledKernel
from texpr.compile import load_algorithm
from texpr.schedule import load_schedule
from texpr.schedule.records import Kernel
from texpr.schedule.words import Copy, MmaOp
from texpr.targets import TARGETS


@dataclass(frozen=True, slots=True)
class Subject:
    """A kernel of a variant, for one target; ``record`` is what the schedule says of it."""

    algorithm: str
    variant: str
    target: str
    record: Kernel
    statics: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.algorithm}.{self.variant}.{self.record.name}.{self.target}"

    @property
    def multiplies_by_warpgroups(self) -> bool:
        return any(place.mma is not None and place.mma.op is MmaOp.WGMMA for place in self.record.place.values())

    @property
    def fetches_boxes(self) -> bool:
        return any(stage.copy is Copy.TMA for stage in self.record.stage.values())

    @property
    def stores_boxes(self) -> bool:
        return any(place.copy is Copy.TMA for place in self.record.place.values())

    @property
    def registers(self) -> set[int]:
        return {role.registers for role in self.record.roles.values() if role.registers is not None}


def subjects() -> Iterator[Subject]:
    """Statics are those that the variant's guard names."""
    for path in sorted((ROOT / "schedules").glob("*.yaml")):
        schedule = load_schedule(path.read_text(), str(path))
        for variant in schedule.variants:
            statics = tuple((name, int(value)) for name, value in re.findall(r"\b(\w+) == (\d+)", str(variant.when)))
            for target in sorted({"sm_90a", "sm_120a"} & set(variant.target)):
                for kernel in variant.kernels:
                    found = Subject(schedule.algorithm, variant.name, target, kernel, statics)
                    if kernel.roles or found.multiplies_by_warpgroups or found.fetches_boxes or found.stores_boxes:
                        yield found


SUBJECTS = {str(subject): subject for subject in subjects()}


@functools.cache
def built(name: str) -> tuple[CompiledKernel, Code]:
    subject = SUBJECTS[name]
    source = SOURCES[subject.algorithm]
    definition = load_algorithm(source)
    statics = {name: value for name, value in subject.statics if name in definition.signature.statics}
    types = {name: str(dtype) for name, dtype in definition.bindings()[0].items()}
    kernel = compiled(source, subject.variant, subject.target, statics, None, f"_{subject.record.name}", **types)
    return kernel, disassembled(kernel)


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_the_schedule_declares_is_in_the_code(name: str) -> None:
    """Copies by the engine where they are asked for and nowhere else, registers moved between roles as declared, and
    nothing of what makes them useless: spills, products that wait for each other, more shared memory than there is."""
    subject = SUBJECTS[name]
    kernel, code = built(name)
    assert (kernel.spill_store_bytes, kernel.spill_load_bytes, kernel.stack_bytes) == (0, 0, 0)
    assert kernel.serialised == ""
    assert kernel.shared_bytes <= TARGETS[subject.target].shared_limit
    products = sum(code.count(opcode) for opcode in ("HGMMA", "QGMMA", "IGMMA"))
    assert (products > 0) == subject.multiplies_by_warpgroups
    assert (code.count("UTMALDG") > 0) == subject.fetches_boxes
    assert (code.count("UTMASTG") > 0) == subject.stores_boxes
    in_cluster = bool(subject.record.cluster)
    assert (code.count("UTMALDG", "MULTICAST") > 0) == (code.count("UCGABAR_WAIT") > 0) == in_cluster
    moved = {int(count) for count in re.findall(r"setmaxnreg\.\w+\.sync\.aligned\.u32\s+(\d+)", kernel.ptx)}
    assert subject.registers <= moved
    assert (code.count("USETMAXREG") > 0) == bool(subject.registers)
    assert sum(role.warps * role.times for role in subject.record.roles.values()) <= kernel.warps


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the loop that multiplies: the products and their shape (of a warpgroup's instruction), waits for and
    arrivals at phases of mbarriers, copies and loads of matrices by threads, fences before the engine or a warpgroup
    reads what threads wrote; at most so many barriers of warps, and instructions in all."""

    opcode: str
    products: int
    shape: str
    phases: int
    barriers: int
    longest: int
    copies: int = 0
    fences: int = 0
    matrices: int = 0


STEPS = {
    # roles: a wait for the boxes of the step, and an arrival that gives those of the step before back
    "matmul_nn.fetched.matmul.sm_90a": Step("HGMMA", 4, "m64n256k16", 2, 1, 60),
    "matmul_nt.fetched.matmul.sm_90a": Step("HGMMA", 4, "m64n256k16", 2, 1, 60),
    "matmul_tn.specialised.matmul.sm_90a": Step("HGMMA", 4, "m64n256k16", 2, 1, 60),
    "batched_matmul.fetched.matmul.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60),
    "linear_gelu.fetched.linear.sm_90a": Step("HGMMA", 4, "m64n256k16", 2, 1, 60),
    "swiglu_mlp.fetched.hidden.sm_90a": Step("HGMMA", 8, "m64n128k16", 2, 2, 70),
    "swiglu_mlp.fetched.down.sm_90a": Step("HGMMA", 4, "m64n256k16", 2, 1, 60),
    "conv2d.fetched.conv.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60),
    "conv2d.batch.conv.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60),
    "conv2d.narrow.conv.sm_90a": Step("HGMMA", 8, "m64n64k16", 2, 1, 75),
    "matmul_nn.split_fetched.matmul.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60),
    "conv3d.fetched.conv.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60),
    # two programs: one more arrival, at the barrier of the one that fetches for both
    "matmul_nn.clustered.matmul.sm_90a": Step("HGMMA", 4, "m64n256k16", 3, 2, 66),
    "linear_gelu.clustered.linear.sm_90a": Step("HGMMA", 4, "m64n256k16", 3, 2, 66),
    # for k and for v each
    "attention.d64_fetched.forward.sm_90a": Step("HGMMA", 4 + 8, "m64n64k16", 4, 2, 580),
    "attention.d128_fetched.forward.sm_90a": Step("HGMMA", 8 + 8, "m64n128k16", 4, 2, 640),
    # a warp's share of 128 x 128 x 32 in eight; each operand is read from shared memory once
    "matmul_nn.boxes.matmul.sm_120a": Step("HMMA", 32, "", 2, 1, 70, matrices=12),
    "linear_gelu.boxes.linear.sm_120a": Step("HMMA", 32, "", 2, 1, 70, matrices=12),
    # 128 queries x 64 keys, 128 queries x 32 keys
    "attention.d64_boxes.forward.sm_120a": Step("HMMA", 32 + 32, "", 2, 1, 400, matrices=36),
    "attention.d128_boxes.forward.sm_120a": Step("HMMA", 32 + 32, "", 2, 1, 330, matrices=40),
    # rows that threads of the other role gather: what they wrote is fenced
    "sparse_conv.gathered.conv.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 60, fences=1),
    "sparse_conv.unordered.conv.sm_90a": Step("HGMMA", 4, "m64n128k16", 2, 1, 80, fences=1),
    # without roles every warp copies 16 bytes at a time: operands go to where the instructions read them
    "matmul_tn.warpgroups.matmul.sm_90a": Step("HGMMA", 4, "m64n256k16", 0, 2, 180, copies=12, fences=1),
    "matmul_f8.warpgroups.matmul.sm_90a": Step("QGMMA", 4, "m64n256k32", 0, 2, 140, copies=12, fences=1),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_as_in_a_kernel_written_by_hand(name: str) -> None:
    step = STEPS[name]
    kernel, code = built(name)
    loop = code.shortest_loop(step.opcode)
    assert (loop.count(step.opcode), loop.count("SYNCS")) == (step.products, step.phases)
    assert step.shape in kernel.ptx
    assert loop.count("BAR") <= step.barriers
    assert loop.count("LDGSTS") == loop.count("LDGSTS", "128") == step.copies
    assert (loop.count("FENCE"), loop.count("LDSM")) == (step.fences, step.matrices)
    assert loop.count("LDG") == loop.count("STG") == loop.count("STS") == loop.count("UTMALDG") == 0
    assert len(loop.opcodes) <= step.longest
    if SUBJECTS[name].registers:  # the role that fetches has a loop of its own
        assert code.shortest_loop("UTMALDG").count(step.opcode) == 0
