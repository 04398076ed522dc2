"""Triton: kernels of ours in its language, tuned by it. Texts are expressions over those of ``triton_source.py``:
``matmul(x, w)``, ``softmax(x)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.measure.contest import Ready
from bench.peers import Call, imported
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    _kernels(extras)
    return str(imported("triton", extras).__version__)


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    kernels = _kernels(call.extras)
    return ready(text, call, torch, {"matmul": kernels.matmul, "softmax": kernels.softmax})


def _kernels(extras: Path) -> Any:
    """Raises Absent."""
    return imported("bench.peers.triton_source", extras)
