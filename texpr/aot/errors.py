"""Mistakes and failures between Gluon text and a bundle: codes TX0601 to TX0699.

TX060x the compiler's refusal of a kernel, TX061x resources of a compiled kernel, TX062x the toolchain, TX063x bundles
on disk, TX064x what the command line was given.
"""

from __future__ import annotations

from texpr.errors import TExprError

# ---- TX060x: a kernel that does not compile


class GluonFrontEndError(TExprError):
    code = "TX0601"
    title = "Gluon refused a kernel"
    template = "Gluon refused kernel '{kernel}' for {target}: {problem}"
    default_hint = (
        "the generated line is shown above; change the directive that asked for it, or report it with the schedule"
    )


class CompilerPassError(TExprError):
    code = "TX0602"
    title = "a compiler pass failed on a kernel"
    template = "Triton failed on kernel '{kernel}' for {target}: {problem}"
    default_hint = "change the directive that asked for this line, or leave {target} out of the variant's targets"


class CompilerAbortError(TExprError):
    code = "TX0603"
    title = "the compiler's process died on a kernel"
    template = "Triton's process died ({cause}) on kernel '{kernel}' for {target}: {problem}"
    default_hint = "an operation that {target} does not have is the usual cause; give {target} a variant of its own"


class AssemblerError(TExprError):
    code = "TX0604"
    title = "ptxas refused a kernel"
    template = "ptxas refused kernel '{kernel}' for {target}: {problem}"
    default_hint = "if the kernel contains inline PTX, check it against the PTX manual for {target}"


class CompileTimeoutError(TExprError):
    code = "TX0605"
    title = "compiling a kernel took too long"
    template = "compiling kernel '{kernel}' for {target} took more than {seconds:g} s and was stopped"
    default_hint = "use smaller tiles or less unrolling, or allow more time with --timeout"


class KernelTextError(TExprError):
    code = "TX0606"
    title = "Gluon text and its description disagree"
    template = "kernel '{kernel}': {problem}"
    default_hint = (
        "the Gluon function must take exactly the described parameters, and every shared name must mean one thing"
    )


class KernelAbiError(TExprError):
    code = "TX0607"
    title = "a compiled kernel is not called as described"
    template = "kernel '{kernel}' for {target}: the cubin has {actual}; the launcher would assume {expected}"
    default_hint = (
        "this Triton version lays parameters out differently; use the pinned version (pip install 'texpr[compile]')"
    )


# ---- TX061x: resources


class SharedMemoryLimitError(TExprError):
    code = "TX0611"
    title = "a kernel needs more shared memory than the target has"
    template = "kernel '{kernel}' needs {needed} bytes of shared memory, {target} allows {limit} per block"
    default_hint = "reduce the depth of a staged tile or the tile itself"


class SharedMemoryGateError(TExprError):
    code = "TX0612"
    title = "a kernel needs more shared memory than --max-shared allows"
    template = "kernel '{kernel}' for {target} needs {needed} bytes of shared memory, more than the {limit} allowed"
    default_hint = "reduce the depth of a staged tile or the tile itself, or raise --max-shared"


class SpillError(TExprError):
    code = "TX0613"
    title = "a kernel spills registers"
    template = (
        "kernel '{kernel}' for {target} spills registers: {stores} bytes of stores, {loads} bytes of loads, "
        "with {registers} registers and a stack of {stack} bytes"
    )
    default_hint = "use more warps or a smaller tile per warp, or drop --forbid-spills"


class RegisterGateError(TExprError):
    code = "TX0614"
    title = "a kernel uses more registers than --max-registers allows"
    template = "kernel '{kernel}' for {target} uses {registers} registers per thread, more than the {limit} allowed"
    default_hint = "use more warps or a smaller tile per warp, or raise --max-registers"


class ScratchMemoryError(TExprError):
    code = "TX0615"
    title = "a kernel needs scratch memory that launchers do not provide"
    template = "kernel '{kernel}' for {target} needs {bytes} bytes of {kind} scratch memory per block"
    default_hint = "device-side tensor descriptors and profiling need it; use host descriptors or plain loads"


class BlockSizeError(TExprError):
    code = "TX0616"
    title = "a kernel's block has more threads than the target allows"
    template = "kernel '{kernel}' needs {warps} warps per block, {target} allows {limit}"
    default_hint = "use fewer warps"


class ClusterSizeError(TExprError):
    code = "TX0617"
    title = "a kernel's clusters are larger than the target allows"
    template = "kernel '{kernel}' has clusters of {programs} programs, {target} allows {limit}"
    default_hint = "let fewer programs share a cluster"


# ---- TX062x: the toolchain


class MissingCompilerError(TExprError):
    code = "TX0621"
    title = "a package needed to compile is missing"
    template = "cannot compile kernels: {problem}"
    default_hint = "pip install 'texpr[compile]' (Triton {wanted}); loading existing bundles needs none of it"


class MissingAssemblerError(TExprError):
    code = "TX0622"
    title = "ptxas cannot be run"
    template = "cannot run ptxas at '{path}': {problem}"
    default_hint = "leave --ptxas out to use the one inside the Triton wheel"


class UnknownTargetError(TExprError):
    code = "TX0623"
    title = "unknown target"
    template = "unknown target '{name}'"
    default_hint = "one of: {choices}"


class NoTargetLeftError(TExprError):
    code = "TX0624"
    title = "the schedule has nothing for the targets asked for"
    template = "none of the targets {asked} is among those of the schedule: {have}"
    default_hint = "add a variant for it to the schedule, or ask for one of: {have}"


class CCompilerError(TExprError):
    code = "TX0625"
    title = "the C compiler failed on the launcher"
    template = "'{command}' failed: {problem}"
    default_hint = (
        "set CC to a working C compiler, or build without a library (--no-library) and compile the bundle's .c yourself"
    )


class WorkerStartError(TExprError):
    code = "TX0626"
    title = "a compiler process could not be started"
    template = "the compiler process could not be started: {problem}"
    default_hint = "run: {python} -c 'import triton'"


class AssemblerTargetError(TExprError):
    code = "TX0627"
    title = "the assembler given does not know a target"
    template = "'{path}' ({release}) does not assemble for {target}: {problem}"
    default_hint = "leave {target} out (--target), or name a newer ptxas; without --ptxas the Triton wheel's is used"


# ---- TX063x: bundles on disk


class OccupiedFolderError(TExprError):
    code = "TX0631"
    title = "a bundle would replace something that is no bundle"
    template = "'{path}' {problem}"
    default_hint = "name a new folder, or an existing bundle (it has a manifest.json written by texpr)"


class BundleDamagedError(TExprError):
    code = "TX0632"
    title = "a bundle's files are not those its manifest lists"
    template = "'{path}': {problem}"
    default_hint = "build the bundle again; the files of a bundle belong together and must not be edited one by one"


class OutputFolderError(TExprError):
    code = "TX0633"
    title = "a bundle cannot be written"
    template = "cannot write a bundle to '{path}': {problem}"
    default_hint = "choose an --out folder whose parent can be written"
