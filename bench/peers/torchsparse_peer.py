"""TorchSparse, tuned: the best of its implicit-GEMM modes with sorting, which its defaults leave out.

Texts are those of ``spconv_peer``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.measure.contest import Ready
from bench.peers import Call, imported
from bench.peers.torch_eager import ready, torch_or_absent


def version(peer: str, extras: Path) -> str:
    torch_or_absent()
    return str(getattr(imported("torchsparse", extras), "__version__", "unknown"))


def prepare(text: str, call: Call) -> Ready:
    """All launches of TorchSparse go to the legacy default stream, so that no graph can hold them."""
    torch = torch_or_absent()
    library = imported("torchsparse", call.extras)
    nn = imported("torchsparse.nn", call.extras)
    functional = imported("torchsparse.nn.functional", call.extras)
    words = dict(word.split("=", 1) for word in text.split()[1:])
    if text.split()[0] != "subm":
        raise ValueError(f"{text!r}: only submanifold convolutions keep the order of the points")
    with np.load(call.pack / words["file"], allow_pickle=False) as file:
        points = torch.from_numpy(np.ascontiguousarray(file["value"])).cuda()
    functional.set_conv_mode(functional.ConvMode.mode1)
    case = call.sets.case
    side = round(case.dims["V"] ** (1 / 3))
    layer = nn.Conv3d(case.dims["C"], case.dims["K"], side, bias=False).cuda().half().eval()
    kept: dict[str, Any] = {}

    def convolve(x: Any, w: Any) -> Any:
        if not kept:
            layer.kernel.data.copy_(w.reshape(layer.kernel.shape))
        tensor = library.SparseTensor(x, points)
        tensor._caches = kept.setdefault("caches", tensor._caches)
        return layer(tensor).feats

    return ready("convolve(x, w) => torch.relu(_)", call, torch, {"convolve": convolve})
