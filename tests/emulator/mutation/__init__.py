"""Mutation: proof that the emulator's checks see what they are there for.

In:   compiled kernels (shipped ones and hand-written ones of further classes) and calls of them. Out: per kernel and
kind of mutation, how many mutants were noticed, by what, and which were not and why.
Keeps: a kernel is run unmutated first, under every schedule, and must be clean; mutants differ from it in one place;
kernels that were used while the checks were developed are never counted together with those held out.

`python -m tests.emulator.mutation` runs everything and writes the report.
"""
