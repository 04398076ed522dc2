"""The mutation engine itself, and a fast part of what `python -m tests.emulator.mutation` runs in full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.emulator.mutation.engine import KINDS, FalseAlarm, How, clean_trials, examine, mutants
from tests.emulator.mutation.mutants import mutants_of
from tests.emulator.mutation.reasons import NO_ACCESS, redundant_barrier
from tests.emulator.mutation.report import FAMILIES, family_of
from tests.emulator.mutation.statements import parse
from tests.emulator.mutation.synchronisation import SYNCHRONISATION

pytest.importorskip("triton")

HEAD = ".version 8.0\n.target sm_80\n.address_size 64"
PTX = HEAD + """
.visible .entry f(.param .u64 out)
{
  .reg .pred %p<4>;
  .reg .b32 %r<9>;
  .reg .b64 %rd<4>;
  .shared .align 4 .b32 tile[64];
  ld.param.u64 %rd1, [out]; // a comment; with a semicolon
  mov.u32 %r1, %tid.x;
  setp.lt.u32 %p1, %r1, 32;
LOOP:
  bar.sync 0;
  @!%p1 ld.global.b32 { %r2 }, [%rd1];
  { .reg .b32 t; add.u32 t, %r1, 1; mov.u32 %r3, t; }
  @%p1 bra LOOP;
  st.shared.b32 [tile], %r2;
  bar.sync 0;
  mov.u32 %r4, 1;
  bar.sync 0;
  ret;
}
"""


def text_of(kind: str) -> list[tuple[int, str]]:
    return [(mutant.line, mutant.ptx.split("\n")[mutant.line - 1].strip())
            for mutant in mutants_of(parse(PTX), kind, KINDS[kind])]


def test_statements_have_their_parts_and_places() -> None:
    statements = {s.line: s for s in parse(PTX).statements}
    load = statements[15]
    assert (load.guard, load.opcode, load.operands) == ("@!%p1", "ld.global.b32", ("{ %r2 }", "[%rd1]"))
    assert load.in_loop and not statements[18].in_loop
    assert [s.opcode for s in parse(PTX).statements if s.line == 16] == ["add.u32", "mov.u32"]


def test_mutants_differ_in_one_place_and_keep_their_lines() -> None:
    for kind, mutation in KINDS.items():
        for mutant in mutants_of(parse(PTX), kind, mutation):
            old, new = PTX.split("\n"), mutant.ptx.split("\n")
            assert [n for n, (a, b) in enumerate(zip(old, new, strict=True), 1) if a != b] == [mutant.line]


@pytest.mark.parametrize(("kind", "expected"), [
    ("barrier removed", [(14, ""), (19, ""), (21, "")]),
    ("load mask dropped", [(15, "ld.global.b32 { %r2 }, [%rd1];")]),
    ("bound off by one", [(12, "setp.le.u32 %p1, %r1, 32;")]),
    ("shared store removed", [(18, "")]),
])  # fmt: skip
def test_a_mutation_makes_these(kind: str, expected: list[tuple[int, str]]) -> None:
    assert text_of(kind) == expected


def test_a_barrier_between_no_accesses_orders_nothing() -> None:
    assert [redundant_barrier(PTX, "f", line) for line in (14, 19, 21)] == ["", NO_ACCESS, NO_ACCESS]


def test_every_kind_belongs_to_a_family() -> None:
    assert {family_of(kind) for kind in KINDS} == set(FAMILIES)


def test_a_kernel_that_is_not_clean_has_no_mutants() -> None:
    from tests.emulator.mutation.handwritten import histogram

    built = histogram()
    wrong = {name: ptx.replace("bar.sync", "//bar.sync") for name, ptx in built.kernels.items()}
    with pytest.raises(FalseAlarm):
        clean_trials(replace(built, kernels=wrong))


FAST = ("transpose.any f32 sm_80", "linear_gelu.tile32 f16 sm_80", "wgmma_product", "gather_rows.any")
"""A row of shared memory, a pipeline of asynchronous copies, tensor copies with wgmma, and one that is held out."""


@pytest.mark.parametrize("name", FAST)
def test_missing_synchronisation_is_noticed(name: str) -> None:
    """Every mutant of synchronisation and two of each other kind, but for those of which the reason is known."""
    from tests.emulator.mutation.subjects import SUBJECTS

    (subject,) = (subject for subject in SUBJECTS if subject.name.startswith(name))
    built = subject.build()
    trials = clean_trials(built)
    missed = []
    noticed = 0
    for kernel, ptx in built.kernels.items():
        for mutant, _ in mutants(ptx, KINDS, 2):
            outcome = examine(built.kernels, kernel, mutant, trials)
            noticed += outcome.how in (How.FAULT, How.RESULT)
            if outcome.how is How.SURVIVED and mutant.kind in SYNCHRONISATION:
                missed.append((mutant.kind, mutant.line))
    assert not missed
    assert noticed >= 5
