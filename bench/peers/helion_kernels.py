"""Helion: kernels of ours in its language, tuned by it as long as HELION_AUTOTUNE_EFFORT says (quick, unless set).

Texts are expressions over the kernels of ``helion_source.py``: ``matmul(x, w)``, ``softmax(x)``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from bench.peers.spconv_peer import PYTHON
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
    packed = str(extras / PYTHON)
    if packed not in sys.path:
        sys.path.append(packed)
    try:
        return importlib.import_module("bench.peers.helion_source")
    except ImportError as error:
        raise Absent(f"helion: {error}") from None
