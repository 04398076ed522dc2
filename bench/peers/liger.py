"""Liger's kernels: expressions over ``liger``, the module ``liger_kernel.transformers.functional``."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from bench.measure.contest import Ready
from bench.peers import Absent, Call
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    _functions()
    return importlib.metadata.version("liger-kernel")


def prepare(text: str, call: Call) -> Ready:
    return ready(text, call, torch_or_absent(), {"liger": _functions()})


def _functions() -> Any:
    try:
        return importlib.import_module("liger_kernel.transformers.functional")
    except ImportError as error:
        raise Absent(f"liger_kernel: {error}") from None
