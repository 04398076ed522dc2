"""One row of a check: the calls of one variant on one target, each run, compared, and its failures told like a
compiler's."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from texpr.checking.bound import accuracy_of, compare, expected_outputs
from texpr.checking.calls import Case, elements_of, symbols_of
from texpr.checking.cases import Problem, choose_cases, work_of
from texpr.checking.execute import MULTIPROCESSORS, Bench, NotWritten
from texpr.checking.hints import with_lists
from texpr.checking.inputs import Inputs, make_inputs
from texpr.checking.report import Failure, Row, Trouble, size_range
from texpr.checking.schedules import difference
from texpr.contracts import ContractKind
from texpr.emulator.cuda import CudaError
from texpr.emulator.faults import Fault, PtxError
from texpr.errors import TExprError
from texpr.lang.accuracy import Accuracy
from texpr.lang.ir import Tensor
from texpr.plan.build import plan_variant
from texpr.schedule.words import RelaxKind
from texpr.targets import TARGETS

_MOST_FAILURES: Final = 2
"""After so many failing calls a row is given up: more of them say nothing new."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to do: calls per row, points computed in one call, the seed of everything random, whether the largest
    call of each row is run once more with counters, and the seeds of the random schedules under which every call is run
    as well."""

    calls: int = 16
    work: int = 600_000
    seed: int = 0
    counters: bool = False
    schedules: tuple[int, ...] = ()


def check_row(row: Row, bench: Bench, problem: Problem, effort: Effort, scheduled: Mapping[int, Bench]) -> Row:
    """``row`` with the results of calls that reach its variant. ``scheduled`` holds a bench per random schedule."""
    seed = zlib.crc32(f"{effort.seed} {row.entry} {row.variant} {row.target}".encode())
    cases = choose_cases(problem, effort.calls, seed)
    if not cases:
        guard = f"when {problem.wanted.guard}"
        return replace(
            row, failures=(Failure(Trouble.UNREACHED, "any sizes", f"no call was found that is given to it: {guard}"),)
        )
    accuracy = accuracy_of(problem.algorithm, [row.target], [problem.record])
    done: list[Case] = []
    right: list[tuple[Case, int]] = []
    for number, case in enumerate(cases):
        done.append(case)
        before = len(row.failures)
        row = _after(row, bench, problem, case, seed + number, accuracy, scheduled)
        if len(row.failures) == before:
            right.append((case, seed + number))
        if len(row.failures) >= _MOST_FAILURES:
            break
    row = replace(row, calls=len(done), sizes=size_range(done))
    return _counted(row, bench, problem, right) if effort.counters and right else row


def _counted(row: Row, bench: Bench, problem: Problem, right: Sequence[tuple[Case, int]]) -> Row:
    """``row`` with counters of the call that computes the most points, or of those the one with the most elements,
    the first of several."""
    algorithm = problem.algorithm

    def size(call: tuple[Case, int]) -> tuple[int, int]:
        symbols = symbols_of(algorithm, call[0], MULTIPROCESSORS) or {}
        tensors = [p for p in algorithm.params if isinstance(p, Tensor) and p.name not in call[0].absent]
        return (
            work_of(algorithm, problem.record, symbols),
            sum(elements_of(tensor, symbols) for tensor in tensors),
        )

    case, seed = max(right, key=size)
    symbols = symbols_of(algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    inputs = _inputs(row, problem, case, symbols, seed)
    counters = bench.count(case, inputs, symbols)
    return replace(row, counters=counters, counted_call=case.text())


def _inputs(row: Row, problem: Problem, case: Case, symbols: Mapping[str, int], seed: int) -> Inputs:
    """The inputs of a call; lists of points are those that the row's variant needs."""
    algorithm = problem.algorithm
    inputs = make_inputs(algorithm, case, symbols, seed)
    if not any(tensor.contract(ContractKind.LISTS) for tensor in algorithm.inputs if tensor.name not in case.absent):
        return inputs
    plan = plan_variant(algorithm, problem.record, TARGETS[row.target])
    return with_lists(plan, algorithm, inputs, case.dims, seed)


def _after(
    row: Row,
    bench: Bench,
    problem: Problem,
    case: Case,
    seed: int,
    accuracy: Accuracy,
    scheduled: Mapping[int, Bench],
) -> Row:
    """``row`` with the result of one more call."""
    algorithm = problem.algorithm
    symbols = symbols_of(algorithm, case, MULTIPROCESSORS)
    assert symbols is not None
    inputs = _inputs(row, problem, case, symbols, seed)

    def failed(trouble: Trouble, text: str) -> Row:
        return replace(row, failures=(*row.failures, Failure(trouble, case.text(), text)))

    try:
        query, outputs = bench.run(case, inputs, symbols)
    except Fault as fault:
        return failed(Trouble.FAULT, str(fault))
    except NotWritten as error:
        return failed(Trouble.UNWRITTEN, str(error))
    except (TExprError, CudaError, PtxError) as error:
        return failed(Trouble.REFUSED, str(error))
    nothing = all(values.size == 0 for values in outputs.values())
    if query.variant != problem.wanted.position and not (nothing and query.variant < 0):
        return failed(Trouble.DISPATCH, f"the launcher chose {query.variant_name!r}, the guards say {row.variant!r}")
    expected = expected_outputs(algorithm, inputs, case.dims, accuracy)
    relaxed = any(relax.kind is RelaxKind.ORDER for relax in problem.record.relax)
    for tensor in algorithm.outputs:
        found = compare(tensor.name, expected[tensor.name], outputs[tensor.name], tensor.dtype)
        row = replace(row, elements=row.elements + found.elements, undecided=row.undecided + found.undecided)
        if found.worst > row.worst:
            row = replace(row, worst=found.worst, worst_call=case.text())
        if found.wrong:
            return failed(Trouble.WRONG, found.text())
    for schedule, other in scheduled.items():
        try:
            _, again = other.run(case, inputs, symbols)
        except Fault as fault:
            return failed(Trouble.FAULT, f"{fault}\n  with --schedule-seed {schedule}")
        except NotWritten as error:
            return failed(Trouble.UNWRITTEN, f"{error}, with --schedule-seed {schedule}")
        if relaxed:  # the order may show in the last bits, but not beyond the bound
            for tensor in algorithm.outputs:
                found = compare(tensor.name, expected[tensor.name], again[tensor.name], tensor.dtype)
                if found.wrong:
                    return failed(Trouble.WRONG, f"{found.text()}\n  with --schedule-seed {schedule}")
        elif text := difference(algorithm, outputs, again, schedule):
            return failed(Trouble.ORDER, text)
    return row
