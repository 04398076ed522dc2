"""Peers: other implementations of what our kernels compute, used where they are installed.

In: a case's tensors in device memory, and a text that says what to compute, in the peer's own terms. Out: a ``Ready``.
Each peer is a module with ``version() -> str``, which raises ``Absent`` in words where the peer is not there, and
``prepare(text, call) -> Ready``. Invariant: a peer that is missing or refuses is reported as that, never guessed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench.measure.contest import Ready, Sets
from bench.measure.devices import Bench

PEERS: Final[Mapping[str, str]] = {
    "copy": "device_copy",
    "cublas": "torch_eager",
    "cudnn": "torch_eager",
    "torch": "torch_eager",
    "sdpa_flash": "sdpa",
    "sdpa_cudnn": "sdpa",
    "sdpa_efficient": "sdpa",
    "sdpa_math": "sdpa",
    "torch_compile": "torch_compiled",
    "triton": "triton_kernels",
    "helion": "helion_kernels",
    "liger": "liger",
    "cub": "cub",
    "spconv": "spconv_peer",
    "spconv_triton": "spconv_peer",
    "torchsparse": "torchsparse_peer",
}
"""The module of each peer. Several names of one module differ in the backend that they want of it."""


class Absent(Exception):
    """The peer is not there; the text says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a peer is given. ``pack`` is the folder of the pack, ``extras`` that of what was built or put there for
    peers."""

    peer: str
    bench: Bench
    sets: Sets
    pack: Path
    extras: Path


PACKED: Final = "python"
"""Where in ``extras`` packages lie that were put there unpacked."""


def imported(name: str, extras: Path) -> Any:
    """A module that is installed, or unpacked among the extras. Raises Absent."""
    packed = str(extras / PACKED)
    if packed not in sys.path:
        sys.path.append(packed)
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise Absent(f"{name}: {error}") from None


def module_of(peer: str) -> ModuleType:
    """Raises KeyError for a name that is no peer's."""
    return importlib.import_module(f"bench.peers.{PEERS[peer]}")


def version_of(peer: str, extras: Path) -> str:
    """The version of a peer. Raises Absent."""
    return str(module_of(peer).version(peer, extras))


def prepare(text: str, call: Call) -> Ready:
    """Raises Absent, and whatever the peer raises for what it does not take."""
    return module_of(call.peer).prepare(text, call)
