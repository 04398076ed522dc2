"""spconv and spconv-triton, which has the same interface: a submanifold convolution whose map is kept.

The text is ``subm file=... shape=ZxYxX``: ``file`` in the pack holds the points' coordinates (``value``: int32[N, 4] of
batch, z, y, x) in the order of the rows of ``x``. The map is built before anything is timed. The weights ``w[V, C, K]``
go in as [K, z, y, x, C], once. Our kernel's relu is not asked of these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.measure.contest import Ready
from bench.peers import Call, imported
from bench.peers.torch_eager import ready, torch_or_absent

_MODULES: Final = {"spconv": "spconv.pytorch", "spconv_triton": "spconv_triton.pytorch"}


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    return str(getattr(imported(_MODULES[peer].partition(".")[0], extras), "__version__", "unknown"))


def prepare(text: str, call: Call) -> Ready:
    torch = torch_or_absent()
    spconv = imported(_MODULES[call.peer], call.extras)
    words = dict(word.split("=", 1) for word in text.split()[1:])
    if text.split()[0] != "subm":
        raise ValueError(f"{text!r}: only submanifold convolutions keep the order of the points")
    with np.load(call.pack / words["file"], allow_pickle=False) as file:
        points = np.ascontiguousarray(file["value"])
    shape = [int(extent) for extent in words["shape"].split("x")]
    case = call.sets.case
    side = round(case.dims["V"] ** (1 / 3))
    kind = {"f16": torch.float16, "bf16": torch.bfloat16}[case.inputs[0].layout.dtype.value]
    coordinates = torch.from_numpy(points).cuda()
    layer = spconv.SubMConv3d(case.dims["C"], case.dims["K"], side, bias=False, indice_key="map")
    layer = layer.to(device="cuda", dtype=kind).eval()
    kept: dict[str, Any] = {}

    def convolve(x: Any, w: Any) -> Any:
        """The layer on features ``x``; the first call makes the map, which all others use."""
        if "weight" not in kept:
            kept["weight"] = w.reshape(side, side, side, *w.shape[1:]).permute(4, 0, 1, 2, 3).contiguous()
            layer.weight.data.copy_(kept["weight"].reshape(layer.weight.shape))
        tensor = spconv.SparseConvTensor(x, coordinates, shape, 1)
        tensor.indice_dict.update(kept.get("map", {}))
        found = layer(tensor)
        kept["map"] = found.indice_dict
        return found.features

    return ready("convolve(x, w) => torch.relu(_)", call, torch, {"convolve": convolve})
