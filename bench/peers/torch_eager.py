"""torch's operators, which call cuBLAS and cuDNN: an expression over the case's tensors, dims, statics and scalars.

``torch`` and ``F`` (torch.nn.functional, whatever dims are called) may be used in it; an absent optional input is None.
Assignments may come before the expression, separated by semicolons, and are done once per set of buffers: what a
program would do when it loads its weights. ``=>`` and an expression over ``_`` may come after it: what is done to the
result before it is looked at, and not timed. A kernel of ours that ends with an activation may thus be compared with an
operator that does not.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.measure.contest import Ready, Sets
from bench.measure.devices import CannotCapture
from bench.peers import Absent, Call
from texpr.packing.runner.peers import tensor_at


def torch_or_absent() -> Any:
    """The module, able to use a GPU. Raises Absent."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise Absent(f"torch: {error}") from None
    if not torch.cuda.is_available():
        raise Absent("torch has no GPU")
    return torch


def version(peer: str, extras: Path) -> str:
    torch = torch_or_absent()
    if peer == "cudnn":
        if not torch.backends.cudnn.is_available():
            raise Absent("torch has no cuDNN")
        return f"{torch.backends.cudnn.version()} through torch {torch.__version__}"
    cuda = torch.version.cuda
    return f"CUDA {cuda}, torch {torch.__version__}"


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    torch.backends.cudnn.benchmark = True
    return ready(text, call, torch)


def ready(
    text: str,
    call: Call,
    torch: Any,
    names: Mapping[str, Any] | None = None,
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    wrap: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda work: work,
) -> Ready:
    """A contestant of an expression; ``names`` are more that it may use, ``around`` is entered for every call, ``wrap``
    is applied to the function that computes it."""
    timed, _, finish = text.partition("=>")
    works = list(_works(timed, call, torch, names or {}, wrap))
    stream = torch.cuda.ExternalStream(call.bench.stream)
    kept: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        with torch.no_grad(), torch.cuda.stream(stream), around():
            kept[number] = works[number]()

    def capture(order: Sequence[int]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        call.bench.synchronize()
        try:
            with torch.no_grad(), torch.cuda.graph(graph, stream=stream), around():
                for number in order:
                    kept[number] = works[number]()  # held, so that outputs do not share memory
        except Exception as error:
            raise CannotCapture(f"{type(error).__name__}: {error}") from error

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    def results() -> list[Any]:
        return host_arrays(finished(kept[0], finish, torch), call.sets, torch)

    return Ready(run, results=results, capture=capture)


def finished(found: Any, finish: str, torch: Any) -> Any:
    """What is compared, of what was timed."""
    space = {"_": found, "torch": torch, "F": torch.nn.functional}
    return eval(finish.strip(), space) if finish.strip() else found


_Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _works(text: str, call: Call, torch: Any, names: Mapping[str, Any], wrap: _Wrap) -> Iterator[Callable[[], Any]]:
    """One function per set: the expression as a function of the names in it, so that it can be compiled as one."""
    *before, wanted = [part.strip() for part in text.split(";")]
    spaces = []
    for number in range(len(call.sets)):
        space = namespace(call.sets, number, torch) | dict(names)
        for part in before:
            exec(part, space)
        spaces.append(space)
    used = {node.id for node in ast.walk(ast.parse(wanted, mode="eval")) if isinstance(node, ast.Name)}
    arguments = [name for name in sorted(used & set(spaces[0])) if name not in {"torch", "F", *names}]
    made: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, **names}
    exec(f"def work({', '.join(arguments)}):\n    return {wanted}\n", made)
    work = wrap(made["work"])
    for space in spaces:
        yield lambda values=[space[name] for name in arguments]: work(*values)


def namespace(sets: Sets, number: int, torch: Any) -> dict[str, Any]:
    """The arguments of the case on one set of buffers, by name."""
    case = sets.case
    found: dict[str, Any] = {**case.dims, **case.statics, **case.scalars}
    found |= dict.fromkeys(case.absent, None)
    addresses = sets.addresses(number)
    for each in (*case.inputs, *case.outputs):
        found[each.layout.name] = tensor_at(each.layout, addresses[each.layout.name], 0, torch)
    return found | {"torch": torch, "F": torch.nn.functional}


def host_arrays(found: Any, sets: Sets, torch: Any) -> list[Any]:
    """Outputs as NumPy arrays of their bits, in the shapes of the case."""
    outputs = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    arrays = []
    for output, tensor in zip(sets.case.outputs, outputs, strict=False):
        plain = tensor.detach().reshape(output.layout.shape).contiguous()
        word = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()]
        arrays.append(plain.view(word).cpu().numpy())
    return arrays
