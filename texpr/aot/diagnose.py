"""Turns a compiler's failure into an error that a user of TExpr can act on."""

from __future__ import annotations

import signal
import sys

from texpr.aot.errors import (
    AssemblerError,
    CompilerAbortError,
    CompilerPassError,
    CompileTimeoutError,
    GluonFrontEndError,
    WorkerStartError,
)
from texpr.aot.ir import KernelSource, Origin
from texpr.aot.kernel_text import kernel_module, leading_blank_lines
from texpr.aot.protocol import CompileRequest, Died, Failure, Refused, Stage, TimedOut, Unusable
from texpr.errors import Location, TExprError
from texpr.targets import Target

_CONTEXT_LINES = 3
_OUTPUT_LINES = 8
_OUT_OF_MEMORY = "the system may have run out of memory: compile with fewer --jobs"
_REFUSALS: dict[Stage, type[TExprError]] = {
    Stage.FRONT_END: GluonFrontEndError,
    Stage.PASSES: CompilerPassError,
    Stage.ASSEMBLER: AssemblerError,
}


def explain(failure: Failure, kernel: KernelSource, target: Target, request: CompileRequest) -> TExprError:
    """The error to raise for ``failure`` of ``kernel`` on ``target``."""
    line = failure.line if isinstance(failure, Refused) else 0
    at = location_of(kernel, target, _line_within(kernel, line))
    excerpt = _excerpt(request.text, line)
    match failure:
        case Refused(stage, problem, _, output):
            error = _REFUSALS[stage]
            return error(at=at, excerpt=excerpt or _tail(output), kernel=kernel.name, target=target, problem=problem)
        case Died(cause, output):
            return CompilerAbortError(
                at=at,
                excerpt=_tail(output),
                kernel=kernel.name,
                target=target,
                cause=cause,
                problem=_last_words(output),
                hint=_OUT_OF_MEMORY if cause == signal.SIGKILL.name else None,
            )
        case Unusable(problem):
            return WorkerStartError(problem=problem, python=sys.executable)
        case TimedOut(seconds):
            return CompileTimeoutError(at=at, kernel=kernel.name, target=target, seconds=seconds)


def origin_of(kernel: KernelSource, line: int) -> Origin | None:
    """The origin of 0-based ``line`` of ``kernel.text``: its own, else that of the nearest line above that has one."""
    above = [(start, origin) for start, origin in kernel.origins if start <= line]
    return max(above, key=lambda pair: pair[0])[1] if above else None


def location_of(kernel: KernelSource, target: Target, line: int | None) -> Location:
    """The schedule line behind 0-based ``line`` of ``kernel.text`` (None: behind the kernel as a whole).

    The generated file stands in when no schedule line is known.
    """
    context = f"kernel {kernel.name}, {target}"
    if line is None:
        origin = min(kernel.origins, key=lambda pair: pair[0])[1] if kernel.origins else None
    else:
        origin = origin_of(kernel, line)
        context += f", {origin.node}" if origin is not None and origin.node else ""
    if origin is None or not origin.schedule:
        return Location("kernel.py", 0, context)
    file, _, number = origin.schedule.rpartition(":")
    return Location(file, int(number), context) if number.isdigit() else Location(origin.schedule, 0, context)


def _line_within(kernel: KernelSource, module_line: int) -> int | None:
    """0-based line of ``kernel.text`` for a 1-based line of the module compiled; None when it lies in the preamble or
    is unknown.
    """
    line = module_line - kernel_module([kernel]).first_line(kernel.name) + leading_blank_lines(kernel.text)
    return line if module_line and line >= 0 else None


def _excerpt(text: str, line: int) -> str:
    """The generated lines around 1-based ``line``, that one marked; empty when it is unknown."""
    if not line:
        return ""
    start = max(1, line - _CONTEXT_LINES)
    shown = text.splitlines()[start - 1 : line + _CONTEXT_LINES]
    return "\n".join(
        f"{'>' if number == line else ' '} kernel.py:{number}: {content}" for number, content in enumerate(shown, start)
    )


def _tail(output: str) -> str:
    """The end of what the compiler printed, without a dying LLVM's stack dump."""
    words = output.partition("Stack dump:")[0].partition("PLEASE submit a bug report")[0]
    return "\n".join([line for line in words.splitlines() if line.strip()][-_OUTPUT_LINES:])


def _last_words(output: str) -> str:
    """The line in which a dying compiler says why."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if "LLVM ERROR" in line or "Assertion" in line or " error: " in line:
            return line
    return lines[-1] if lines else "it printed nothing"
