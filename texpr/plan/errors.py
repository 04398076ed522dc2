"""What a schedule can get wrong about an algorithm (TX03xx: names, coverage, placement; TX04xx: hardware limits)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from texpr.errors import TExprError


class PlanError(TExprError):
    """Base of the errors found while planning; the excerpt shows the loop nest that the schedule asks for.

    ``kernel`` is the kernel that was being planned, if one was.
    """

    code = "TX0300"
    title = "plan"
    kernel: str = ""


class UnknownFunc(PlanError):
    code = "TX0301"
    title = "unknown func"
    template = "{directive} names {name}, which is not a func, output or tensor of {algorithm}"
    default_hint = "{near}"


class UnknownAxis(PlanError):
    code = "TX0302"
    title = "unknown axis"
    template = "{directive} names axis {name}, which {owner} does not have"
    default_hint = "{near}"


class AxisNotCovered(PlanError):
    code = "TX0303"
    title = "axis not covered"
    template = "axis {axis} of {func} is in neither grid, whole nor a loop of {func}"
    default_hint = (
        "grid: {{{axis}: 64}}, or whole: {{{axis}: N}} where a when-guard bounds it, "
        "or place: {{{func}: {{loop: {{{axis}: 64}}}}}}"
    )


class AxisCoveredTwice(PlanError):
    code = "TX0304"
    title = "axis covered twice"
    template = "axis {axis} is in {first} and in {second}"
    default_hint = "keep one of them"


class WholeNotProved(PlanError):
    code = "TX0305"
    title = "whole tile not proved to cover its axis"
    template = "whole: {{{axis}: {size}}} needs {extent} <= {size}, which the facts do not prove ({why})"
    default_hint = "when: {extent} <= {size}, or a loop over {axis}"


class NotWritten(PlanError):
    code = "TX0306"
    title = "output never written"
    template = "no kernel of the variant writes {name}"
    default_hint = "add {name} to a kernel's writes"


class ReadBeforeWritten(PlanError):
    code = "TX0307"
    title = "func written by a later kernel"
    template = "kernel {kernel} needs {name}, which only the later kernel {later} writes"
    default_hint = "move {later} before {kernel}"


class WrittenTwice(PlanError):
    code = "TX0308"
    title = "func written by two kernels"
    template = "{name} is written by {first} and by {second}"
    default_hint = "remove it from one of them"


class ReplicatedWrite(PlanError):
    code = "TX0309"
    title = "grid axis that the written func does not have"
    template = "the grid runs {func} once for every tile of {axis}, which is not an axis of {func}"
    default_hint = "write {func} in a kernel of its own, or take {axis} out of the grid"


class BadPosition(PlanError):
    code = "TX0310"
    title = "position does not exist"
    template = "at: {position} of {name}: {why}"
    default_hint = "one of {choices}"


class StageNotRead(PlanError):
    code = "TX0311"
    title = "staged tensor is not read there"
    template = "stage {name} at {position}: nothing computed there reads {name}"
    default_hint = "stage it where it is read ({choices}), or remove the stage"


class NotAligned(PlanError):
    code = "TX0312"
    title = "func in registers is read at another point"
    template = "{func} is kept in registers but {reader} reads it at {index}, not at its own axes"
    default_hint = "place {func} in shared memory, or do not place it (it is then recomputed)"


class PlaceAfterUse(PlanError):
    code = "TX0313"
    title = "placed after its use"
    template = "{func} is placed at {position} but {reader}, which needs it, is computed at {other}"
    default_hint = "place {func} at {other}"


class LoopAxisInvalid(PlanError):
    code = "TX0314"
    title = "loop over an axis that is not the func's"
    template = "{func} cannot loop over {axis}: {why}"
    default_hint = "loop over one of {choices}"


class DependsOnLoop(PlanError):
    code = "TX0315"
    title = "func depends on a loop that it is outside of"
    template = "{func} runs over {axis}, which only {loop} visits piece by piece"
    default_hint = "place: {{{func}: {{at: {loop}}}}}"


class GuardsDoNotCover(PlanError):
    code = "TX0316"
    title = "variants do not cover the domain"
    template = "no variant for {target} takes {example}"
    default_hint = "add a last variant without when, or state the missing fact in require"


class VariantUnreachable(PlanError):
    code = "TX0317"
    title = "variant never chosen"
    template = "variant {name} is never chosen on {target}: the earlier ones take everything it would"
    default_hint = "move it before them, or remove it"


class UnrollNotConstant(PlanError):
    code = "TX0318"
    title = "unroll of an axis without a constant extent"
    template = "unroll: {axis} needs a constant extent; it is {extent}"
    default_hint = "make the dim static, or drop unroll"


class NotLowered(PlanError):
    code = "TX0319"
    title = "not lowered yet"
    template = "{what} is not lowered yet"
    default_hint = "{instead}"


class WrongAlgorithm(PlanError):
    code = "TX0320"
    title = "schedule of another algorithm"
    template = "the schedule is for {scheduled}, not for {algorithm}"
    default_hint = "algorithm: {algorithm}"


class SplitNotAssociative(PlanError):
    code = "TX0321"
    title = "split of a reduction that cannot be split"
    template = "split_reduction of {func}: {why}"
    default_hint = "loop over the axis instead"


class PartialsMissing(PlanError):
    code = "TX0322"
    title = "split reduction without its two kernels"
    template = "split_reduction of {func}: {why}"
    default_hint = "one kernel writes {func}.part, a later one writes {func} with whole: {{{axis}.part: N}}"


class NeedsFinite(PlanError):
    code = "TX0324"
    title = "guard that would multiply zero by infinity"
    template = (
        "where {guard} zeroes only one operand of {func}; "
        "a point it excludes would still contribute 0 * Inf from {other}"
    )
    default_hint = "assume: [finite({tensor})], or a reduction without mma"


class AliasNotElementwise(PlanError):
    code = "TX0325"
    title = "aliased input read after it may have been overwritten"
    template = (
        "{output} may share memory with {input}, and kernel {kernel} reads {index} "
        "where {output} may be written already"
    )
    default_hint = "read {input} only at the point being stored or in an earlier node, or drop alias({input})"


class RegisterTileTooSmall(PlanError):
    code = "TX0326"
    title = "window read needs shared memory"
    template = "stage {name} in registers: its reads touch overlapping or unequal points ({why})"
    default_hint = "in: shared"


class WindowNotAffine(PlanError):
    code = "TX0327"
    title = "footprint unknown"
    template = "the part of {name} that {position} reads cannot be inferred: {why}"
    default_hint = "remove the stage of {name} (it is then read from global memory)"


class NeverComputed(PlanError):
    code = "TX0328"
    title = "placed func is not needed"
    template = "{func} is placed in kernel {kernel}, which does not need it"
    default_hint = "remove it from place"


class WithNotWritten(PlanError):
    code = "TX0331"
    title = "with names no loop to join"
    template = "with: {leader} of {func}: {leader} is not a written func of this kernel with loops of its own"
    default_hint = "one of {choices}"


class PieceOfRegisters(PlanError):
    code = "TX0332"
    title = "pieces of a value held whole in registers"
    template = "{output} is stored in pieces along {axis}, but {name} is held in registers over all of {axis}"
    default_hint = "do not hold {name} in registers, or drop by: of {output}"


class IntoNotSum(PlanError):
    code = "TX0329"
    title = "into needs a sum"
    template = "into: {into} for {func}: {why}"
    default_hint = "read them only as {into} + {func}, over the same axes"


class StageTooDeep(PlanError):
    code = "TX0330"
    title = "stage runs further ahead than it can"
    template = "stage {name} with depth {depth} runs {ahead} steps ahead; here it can run at most {most}"
    default_hint = (
        "async copies in a loop run up to depth - 1 steps ahead, sync copies depth, indices of a role that gathers 8, "
        "others none"
    )


class ReducedInGrid(PlanError):
    code = "TX0340"
    title = "reduction over an axis of the grid"
    template = "{func} reduces over {axis}, of which a program of the grid has only one tile"
    default_hint = "take {axis} out of the grid and loop over it: place: {{{func}: {{loop: {{{axis}: 64}}}}}}"


class ScanInTiles(PlanError):
    code = "TX0345"
    title = "scan that does not see its whole axis"
    template = "{func} scans along {axis}: {why}"
    default_hint = (
        "whole: {{{axis}: N}} where a when-guard bounds it, "
        "or scan: {{{func}: {{across: loop, by: {{{axis}: 1024}}}}}}"
    )


class LookBackInvalid(PlanError):
    code = "TX0346"
    title = "look-back that is not possible"
    template = "{func} looks back along {axis}: {why}"
    default_hint = "scan: {{{func}: {{across: loop, by: {{{axis}: 1024}}}}}}"


class TurnstileInvalid(PlanError):
    code = "TX0347"
    title = "turnstile that is not possible"
    template = "the parts of {func} cannot be combined in turn: {why}"
    default_hint = "combine: two_pass"


class FlattenInvalid(PlanError):
    code = "TX0348"
    title = "flatten that is not possible"
    template = "order: flatten: {why}"
    default_hint = "another order"


class ByInvalid(PlanError):
    code = "TX0341"
    title = "by that does not fit its func"
    template = "by: of {func}: {why}"
    default_hint = "remove by"


class PlaceIgnored(PlanError):
    code = "TX0342"
    title = "place of an inlined func"
    template = "{func} is computed where it is read; its place says nothing of where else"
    default_hint = "place: {{{func}: {{at: tile}}}}, or remove it from place"


class NoEffect(PlanError):
    code = "TX0344"
    title = "directive without effect"
    template = "{directive} of {name} changes nothing: {why}"
    default_hint = "remove it"


class UnknownSymbol(PlanError):
    code = "TX0343"
    title = "unknown dim, tensor or type in a guard or number"
    template = "{where} names {name}, which is no {what} of the algorithm"
    default_hint = "{near}"


class FillOfOthers(PlanError):
    code = "TX0350"
    title = "fill of something the kernel does not write"
    template = "kernel {kernel} fills {name}, which is neither written by it nor its scratch"
    default_hint = "it has: {choices}"


class FillNotPossible(PlanError):
    code = "TX0351"
    title = "fill that a memset cannot do"
    template = "{name} cannot be filled with {value}: {why}"
    default_hint = "{hint}"


class ExternMismatch(PlanError):
    code = "TX0365"
    title = "hand-written kernel that does not fit"
    template = "{source}: {why}"
    default_hint = "{fix}"


class StaleKernel(PlanError):
    code = "TX0366"
    title = "ejected kernel that does not fit any more"
    template = "{source}: {why}"
    default_hint = "eject the kernel again (texpr eject) and carry your changes over"


class ExternNeeded(PlanError):
    code = "TX0367"
    title = "extern func that no hand-written kernel writes"
    template = "{func} is computed by extern {extern}, and {why}"
    default_hint = "{fix}"


class LinesNotWhole(PlanError):
    code = "TX0368"
    title = "function over tiles that does not get whole lines"
    template = "{func} is {op} of whole lines along {axis}: {why}"
    default_hint = "whole: {{{axis}: N}}"


class NotOnline(PlanError):
    code = "TX0360"
    title = "reduction that cannot share a pass"
    template = (
        "{directive}: {func} cannot be merged with {others}\n"
        "  {func} = {summand}\n"
        "  factor {factor} {why}"
    )
    default_hint = "place {func} after {others} (two passes)"


class TrimInvalid(PlanError):
    code = "TX0370"
    title = "loop that no guard trims"
    template = "trim: {axis} of {func}: {why}"
    default_hint = "remove {axis} from trim (the guard is then tested at every point)"


class SkipInvalid(PlanError):
    code = "TX0373"
    title = "loop whose steps no guard can leave out"
    template = "skip: {axis} of {func}: {why}"
    default_hint = "remove {axis} from skip (the guard is then tested at every point)"


class VisitInvalid(PlanError):
    code = "TX0374"
    title = "axis that cannot be visited in another order"
    template = "visit of {axis} by {name}: {why}"
    default_hint = "remove visit"


class InvertInvalid(PlanError):
    code = "TX0371"
    title = "reduction that cannot be inverted"
    template = "invert of {func}: {why}"
    default_hint = "remove invert (every point of {func} then tests all of its summands)"


class OrderNotRelaxed(PlanError):
    code = "TX0372"
    title = "floats added in an order that differs from run to run"
    template = "{what} of {func} ({dtype}) come in any order ({why}), and sums of floats depend on it"
    default_hint = "relax: [{{order: {summed}}}], or {instead}"


class CountInvalid(PlanError):
    code = "TX0379"
    title = "dim that the device does not know yet"
    template = "device dim {dim}: {why}"
    default_hint = "{hint}"


class SharedOverLimit(PlanError):
    code = "TX0401"
    title = "shared memory over the limit"
    template = "kernel {kernel} needs {bytes} bytes of shared memory; {target} has {limit}"
    default_hint = "{hint}"


class RegistersOverLimit(PlanError):
    code = "TX0402"
    title = "register tile too large"
    template = (
        "{func} keeps {values} values of {dtype} per thread in registers; {target} has {limit} registers per thread"
    )
    default_hint = "smaller tiles, more warps, or a loop"


class RegistersNeeded(PlanError):
    code = "TX0409"
    title = "registers over the limit"
    template = "a thread of {kernel} keeps {needed} registers of tiles at once; with {warps} warps a thread has {limit}"
    default_hint = "smaller tiles, more warps, or tiles that are read again instead of kept"


class NoInstruction(PlanError):
    code = "TX0403"
    title = "no mma instruction fits"
    template = "mma of {func}: {why}"
    default_hint = "{hint}"


class AsyncTooNarrow(PlanError):
    code = "TX0404"
    title = "async copy narrower than 4 bytes"
    template = "copy: async of {name} needs 4-byte pieces; proved: {proved} contiguous bytes ({missing})"
    default_hint = "copy: sync here, or a variant with when: {fact}"


class AsyncNeedsTensor(PlanError):
    code = "TX0405"
    title = "async copy of something computed"
    template = "copy: async of {name}: {why}"
    default_hint = "copy: sync"


class MapDoesNotFit(PlanError):
    code = "TX0406"
    title = "map does not fit"
    template = "map spreads over {lanes} lanes and {warps} warps; a program has 32 lanes and {have} warps"
    default_hint = "make the lanes multiply to 32 and the warps to {have}"


class TooManyWarps(PlanError):
    code = "TX0407"
    title = "more warps than the tile can use"
    template = "{warps} warps do not fit {what}"
    default_hint = "{hint}"


class RankTooHigh(PlanError):
    code = "TX0408"
    title = "tile with too many values"
    template = "the tile of {func} has {values} elements; a tile holds at most {limit}"
    default_hint = "smaller tiles, or a loop over an axis"


class RolesInvalid(PlanError):
    code = "TX0380"
    title = "roles that do not divide the kernel"
    template = "roles: {why}"
    default_hint = "warps in place of roles"


class RoleCannotRun(PlanError):
    code = "TX0381"
    title = "node that a role cannot run for another"
    template = "role {role} cannot run {node}: {why}"
    default_hint = "run it in the role that computes"


class ClusterInvalid(PlanError):
    code = "TX0385"
    title = "programs that cannot form a cluster"
    template = "cluster: {why}"
    default_hint = "remove cluster"


class RegistersOfRoles(PlanError):
    code = "TX0414"
    title = "registers of roles over the limit"
    template = "the roles have {terms} = {total} registers; {target} has {limit}"
    default_hint = "fewer registers or warps of a role"


class TargetLacks(PlanError):
    code = "TX0411"
    title = "hardware that the target does not have"
    template = "{what} needs {least} or newer; the variant is for {target}"
    default_hint = "{instead}, or a variant with target: {least}"


class BoxRefused(PlanError):
    code = "TX0412"
    title = "tile that the copy engine cannot move"
    template = "copy: tma of {name}: {why}"
    default_hint = "copy: async"


class BoxNotAligned(PlanError):
    code = "TX0413"
    title = "copy engine without proved alignment"
    template = (
        "copy: tma needs the address and the strides of {name} to be multiples of 16 bytes\n"
        "  proved: {proved}\n"
        "  not proved: {missing}"
    )
    default_hint = "copy: async"


class CannotKeep(PlanError):
    code = "TX0421"
    title = "tiles that cannot be kept"
    template = "keep of stage {name}: {why}"
    default_hint = "{hint}"


class CannotLag(PlanError):
    code = "TX0420"
    title = "product that cannot lag a step behind"
    template = "overlap of {func}: {why}"
    default_hint = "{hint}"


def near(name: str, choices: Iterable[str]) -> str:
    """``did you mean x`` or the list of what there is."""
    options = sorted(set(choices))
    close = difflib.get_close_matches(name, options, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return "one of " + ", ".join(options) if options else "there is none"
