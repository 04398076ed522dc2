"""A compiler process: Gluon text to PTX to cubin, one request after the other. Run as ``python -m texpr.aot.worker
FOLDER``.

Triton prints the errors of its passes on stderr, and LLVM may end the process, so this runs apart from the user's
program. Requests come in on stdin, replies leave on stdout (both pickled, length first), everything that libraries
print goes to stderr, which :mod:`texpr.aot.pool` has pointed at a file in FOLDER.

The stages are Triton's own (``CUDABackend.add_stages``), called one by one up to PTX, so that Triton's cache is never
touched. The assembler then gets the PTX with its line information taken out, and the flags of Triton under
TRITON_DISABLE_LINE_INFO=1: the cubin is byte for byte the one Triton would make, and names no file.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import pickle
import re
import struct
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from texpr.aot.lines import StrippedPtx, strip_line_info
from texpr.aot.protocol import Compiled, CompileRequest, Refused, Reply, Stage, Unusable

KERNEL_FILE = "kernel.py"
_STDERR = 2
_OUTPUT_TAIL = 20_000
_ASSEMBLER_FLAGS = ("-lineinfo", "-suppress-debug-info", "-v", "--regAllocOptLevel=2")


def read_message(stream: IO[bytes]) -> Any:
    """The next message, or None at the end of the stream."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    return pickle.loads(stream.read(struct.unpack("<Q", header)[0]))


def write_message(stream: IO[bytes], message: object) -> None:
    data = pickle.dumps(message)
    stream.write(struct.pack("<Q", len(data)) + data)
    stream.flush()


def compile_kernel(request: CompileRequest, folder: Path) -> Reply:
    """Compile one kernel; ``folder`` is an existing scratch folder that holds this process's ``stderr``."""
    try:
        importlib.import_module("triton.experimental.gluon._runtime")
    except Exception as error:
        return Unusable(f"importing Triton failed with {type(error).__name__}: {error}")
    source = folder / KERNEL_FILE
    source.write_text(request.text)
    try:
        ptx, metadata = _emit_ptx(request, source)
    except _StageError as failure:
        return _refusal(failure, request, source, folder)
    stripped = strip_line_info(ptx, str(source))
    assembled = _assemble(stripped.text, request, folder)
    if isinstance(assembled, str):
        return _assembler_refusal(assembled, stripped)
    cubin, log = assembled
    return Compiled(
        ptx=stripped.text,
        lines=stripped.lines,
        cubin=cubin,
        log=log,
        shared_bytes=metadata["shared"],
        warps=metadata["num_warps"],
        global_scratch_bytes=metadata["global_scratch_size"],
        profile_scratch_bytes=metadata["profile_scratch_size"],
        maps=tuple(
            (tuple(map_facts["block_size"]), (0, 32, 64, 128)[map_facts["swizzle"]])
            for map_facts in metadata["tensordesc_meta"] or ()
        ),
    )


class _StageError(Exception):
    """Carries the stage at which ``__cause__`` was raised."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.stage = stage


def _emit_ptx(request: CompileRequest, source: Path) -> tuple[str, dict[str, Any]]:
    """PTX with line information, and Triton's metadata. Raises _StageError."""
    from triton._C.libtriton import ir
    from triton.backends.compiler import GPUTarget, Language
    from triton.compiler.compiler import ASTSource, make_backend
    from triton.experimental.gluon._runtime import GluonASTSource

    target = GPUTarget("cuda", request.capability, 32)
    backend = make_backend(target)
    wanted: dict[str, Any] = {"num_warps": request.warps, "enable_fp_fusion": request.fp_fusion}
    options = backend.parse_options(wanted | {"maxnreg": request.registers, "num_ctas": request.ctas})
    stages: dict[str, Any] = {}
    metadata: dict[str, Any] = {"target": target, **vars(options)}
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    attributes = {
        (index,): [["tt.divisibility", divisibility]]
        for index, (_, _, divisibility) in enumerate(request.signature)
        if divisibility > 1
    }
    try:
        function = getattr(_load_module(source), request.kernel)
        signature = {name: kind for name, kind, _ in request.signature}
        in_gluon = function.is_gluon()  # a kernel of the user's own may be written in plain Triton
        kind = GluonASTSource if in_gluon else ASTSource
        backend.add_stages(stages, options, Language.GLUON if in_gluon else Language.TRITON)
        codegen = backend.get_codegen_implementation(options)
        program = kind(function, signature, constexprs={}, attrs=attributes)
        module = program.make_ir(target, options, codegen, backend.get_module_map(), context)
    except Exception as error:
        raise _StageError(Stage.FRONT_END) from error
    try:
        for stage in ("ttir", "ttgir", "llir", "ptx"):
            if stage in stages:
                module = stages[stage](module, metadata)
    except Exception as error:
        raise _StageError(Stage.PASSES) from error
    return str(module), metadata


def _load_module(source: Path) -> Any:
    """Execute the module. Its name is always the same, since Triton puts it into the names of functions that are not
    inlined.
    """
    import linecache

    linecache.checkcache(str(source))
    spec = importlib.util.spec_from_file_location(source.stem, source)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {source.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[source.stem] = module
    exec(compile(source.read_text(), str(source), "exec"), module.__dict__)
    return module


def _assemble(ptx: str, request: CompileRequest, folder: Path) -> tuple[bytes, str] | str:
    """``(cubin, log)``, or the log alone when the assembler refuses. Relative names keep the folder out of its
    messages.
    """
    (folder / "kernel.ptx").write_text(ptx)
    output = folder / "kernel.cubin"
    output.unlink(missing_ok=True)
    contraction = () if request.fp_fusion else ("--fmad=false",)
    flags = [*_ASSEMBLER_FLAGS[:2], *contraction, *_ASSEMBLER_FLAGS[2:], f"--gpu-name={request.arch}"]
    command = [request.assembler, *flags, "kernel.ptx", "-o", output.name]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode or not output.exists():
        return result.stderr or f"ended with status {result.returncode}"
    return output.read_bytes(), result.stderr


def _assembler_refusal(log: str, ptx: StrippedPtx) -> Refused:
    found = re.search(r"line (\d+); error\s*:\s*(.*)", log)
    if found is None:
        fatal = re.search(r"fatal\s*:\s*(.*)", log)
        return Refused(Stage.ASSEMBLER, fatal.group(1) if fatal else log.strip().splitlines()[-1], 0, log)
    number = int(found.group(1))
    text = ptx.text.splitlines()[number - 1].strip()
    return Refused(Stage.ASSEMBLER, f"{found.group(2)} in '{text}'", dict(ptx.lines).get(number, 0), log)


def _refusal(failure: _StageError, request: CompileRequest, source: Path, folder: Path) -> Refused:
    sys.stderr.flush()
    output = (folder / "stderr").read_text(errors="replace")[-_OUTPUT_TAIL:]
    error = failure.__cause__
    assert error is not None
    if failure.stage is Stage.FRONT_END:
        problem, line = _front_end_problem(error, request, source)
        return Refused(failure.stage, problem, line, output)
    problem, line = located_diagnostic(output, source)
    return Refused(failure.stage, problem or str(error), line, output)


def located_diagnostic(output: str, source: Path) -> tuple[str, int]:
    """The first error MLIR printed: its text, and the outermost line of ``source`` it is reported for (0: none)."""
    pattern = re.compile(r'^(?:loc\(")?([^\s:"]+)"?:(\d+):\d+\)?: (error|note): (.*)$')
    problem = ""
    line = 0
    for text in output.splitlines():
        found = pattern.match(text)
        if found is None:
            continue
        file, number, kind, message = found.groups()
        if kind == "error" and problem:
            break
        if kind == "error":
            problem = message
        if problem and file == str(source) and (kind == "error" or message == "called from"):
            line = int(number)
    return problem, line


def _front_end_problem(error: BaseException, request: CompileRequest, source: Path) -> tuple[str, int]:
    """What the front end says and the line of the kernel's function it says it about.

    Triton chains one CompilationError per function on the way to the mistake, the kernel's own first; their lines count
    from ``def``.
    """
    from triton.compiler.errors import CompilationError

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(link)
        link = link.__cause__
    compilation = [link for link in chain if isinstance(link, CompilationError)]
    if not compilation:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(source)]
        return f"{type(error).__name__}: {error}", frames[-1].lineno or 0 if frames else 0
    line = _definition_line(request) + getattr(compilation[0].node, "lineno", 1) - 1
    innermost = compilation[-1]
    problem = innermost.error_message or str(chain[-1])
    helper = re.match(r"def (\w+)", innermost.src or "")
    if helper and helper.group(1) != request.kernel:
        problem += f" (inside {helper.group(1)})"
    return problem, line


def _definition_line(request: CompileRequest) -> int:
    for node in ast.parse(request.text).body:
        if isinstance(node, ast.FunctionDef) and node.name == request.kernel:
            return node.lineno
    return 1


def main() -> None:
    folder = Path(sys.argv[1])
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(_STDERR, 1)
    requests = sys.stdin.buffer
    while (request := read_message(requests)) is not None:
        os.ftruncate(_STDERR, 0)
        write_message(replies, compile_kernel(request, folder))
    # Triton's bindings report their leaks when the interpreter ends normally.
    os._exit(0)


if __name__ == "__main__":
    main()
