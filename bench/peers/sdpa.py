"""torch's scaled dot product attention with one backend allowed: flash, cudnn, efficient or math."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from bench.peers.torch_eager import ready, torch_or_absent

_BACKENDS: Final = {
    "sdpa_flash": "FLASH_ATTENTION",
    "sdpa_cudnn": "CUDNN_ATTENTION",
    "sdpa_efficient": "EFFICIENT_ATTENTION",
    "sdpa_math": "MATH",
}


def version(peer: str, extras: Path) -> str:
    torch = torch_or_absent()
    try:
        attention = importlib.import_module("torch.nn.attention")
        getattr(attention.SDPBackend, _BACKENDS[peer])
    except (ImportError, AttributeError) as error:
        raise Absent(f"torch {torch.__version__}: {error}") from None
    return f"torch {torch.__version__}"


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    attention = importlib.import_module("torch.nn.attention")
    backend = getattr(attention.SDPBackend, _BACKENDS[call.peer])
    return ready(text, call, torch, around=lambda: attention.sdpa_kernel(backend))
