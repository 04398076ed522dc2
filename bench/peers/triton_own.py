"""Kernels that the installed Triton brings: ``triton.ops`` up to Triton 2, the package ``triton_kernels`` since."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    name, _, found = _kernels()
    return f"{name} of Triton {found}"


def prepare(text: str, call: Call) -> Ready:
    """``ops`` is the module of the kernels."""
    torch = torch_or_absent()
    _, ops, _ = _kernels()
    return ready(text, call, torch, {"ops": ops})


def _kernels() -> tuple[str, Any, str]:
    """Name and module, and Triton's version. Raises Absent."""
    try:
        triton = importlib.import_module("triton")
    except ImportError as error:
        raise Absent(f"triton: {error}") from None
    for name in ("triton.ops", "triton_kernels"):
        try:
            return name, importlib.import_module(name), triton.__version__
        except ImportError:
            continue
    raise Absent(f"Triton {triton.__version__} brings no kernels of its own (triton.ops, triton_kernels)")
