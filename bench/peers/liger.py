"""Liger's kernels: expressions over ``liger``, the module ``liger_kernel.transformers.functional``."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Final

from bench.measure.contest import Ready
from bench.peers import Call, imported
from bench.peers.torch_eager import ready, torch_or_absent

_FUNCTIONS: Final = "liger_kernel.transformers.functional"


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    imported(_FUNCTIONS, extras)
    return importlib.metadata.version("liger-kernel")


def prepare(text: str, call: Call) -> Ready:
    return ready(text, call, torch_or_absent(), {"liger": imported(_FUNCTIONS, call.extras)})
