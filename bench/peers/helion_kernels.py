"""Helion: kernels of ours in its language, tuned by it as long as HELION_AUTOTUNE_EFFORT says (quick, unless set).

Texts are expressions over the kernels of ``helion_source.py``: ``matmul(x, w)``, ``softmax(x)``.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from bench.measure.contest import Ready
from bench.peers import Call, imported
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    _kernels(extras)
    return importlib.metadata.version("helion")


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    kernels = _kernels(call.extras)
    return ready(text, call, torch, {"matmul": kernels.matmul, "softmax": kernels.softmax})


def _kernels(extras: Path) -> Any:
    """Raises Absent."""
    os.environ.setdefault("HELION_AUTOTUNE_EFFORT", "quick")
    return imported("bench.peers.helion_source", extras)
