"""torch.compile of an expression, with the tuning that takes longest and without graphs of its own (we make them)."""

from __future__ import annotations

from pathlib import Path

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch = torch_or_absent()
    if not hasattr(torch, "compile"):
        raise Absent(f"torch {torch.__version__} has no compile")
    return f"torch {torch.__version__}, max-autotune-no-cudagraphs"


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    return ready(
        text, call, torch, wrap=lambda work: torch.compile(work, mode="max-autotune-no-cudagraphs", dynamic=False)
    )
