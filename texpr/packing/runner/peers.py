"""torch's own operator for a bundle, where the pack names one and torch is there.

The expression of a pack's ``peers`` is Python over the kernel's arguments, dims and statics by name, ``torch`` and
``F`` (``torch.nn.functional``); an absent optional input is None. It gives the first output, or a tuple of outputs in
order. Inputs are the very buffers that the kernel reads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from texpr.packing.runner.records import Case, Layout
from texpr.runtime.arrays import torch_dtype


@dataclass(frozen=True, slots=True)
class Peer:
    """A computation by torch that is ready to run: ``run`` queues it on the default stream and gives the outputs."""

    run: Callable[[], Any]

    def outputs(self) -> tuple[Any, ...]:
        found = self.run()
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def torch_or_none() -> Any:
    """The module if it is installed and can use a GPU."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError):
        return None
    return torch if torch.cuda.is_available() else None


def peer_of(expression: str, case: Case, addresses: Mapping[str, int], index: int, torch: Any) -> Peer:
    """``addresses`` are those of the case's tensors on GPU number ``index``."""
    names: dict[str, Any] = {**case.dims, **case.statics, **case.scalars}
    names |= dict.fromkeys(case.absent, None)
    for each in case.inputs:
        names[each.layout.name] = tensor_at(each.layout, addresses[each.layout.name], index, torch)
    names |= {"torch": torch, "F": torch.nn.functional}  # whatever dims are called
    code = compile(expression, "<peer>", "eval")
    return Peer(lambda: eval(code, names))


class _Memory:
    """Device memory that torch can wrap without copying."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3, "strides": None,
        }  # fmt: skip


def tensor_at(layout: Layout, address: int, index: int, torch: Any) -> Any:
    """A torch tensor over a case's tensor in device memory."""
    if 0 in layout.shape:
        return torch.empty(layout.shape, dtype=torch_dtype(layout.dtype), device=torch.device("cuda", index))
    span = 1 + sum((extent - 1) * stride for extent, stride in zip(layout.shape, layout.strides, strict=True))
    raw = torch.as_tensor(_Memory(address, span * layout.dtype.bytes), device=torch.device("cuda", index))
    return raw.view(torch_dtype(layout.dtype)).as_strided(layout.shape, layout.strides)


def difference(mine: Any, theirs: Any) -> dict[str, float]:
    """How far two outputs are apart: the largest absolute difference of finite elements, and the share of equal ones.
    No verdict: torch has errors of its own."""
    if tuple(mine.shape) != tuple(theirs.shape):
        theirs = theirs.reshape(mine.shape)
    a, b = mine.double(), theirs.double()
    equal = (a == b) | (a.isnan() & b.isnan())
    apart = (a - b).abs()
    apart = apart[apart.isfinite()]
    worst = float(apart.max()) if apart.numel() else 0.0
    return {"largest": worst, "equal": float(equal.double().mean()) if equal.numel() else 1.0}
