"""A bundle without a compiler: hand-written PTX with a line map, as an emulated GPU loads it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.emulator.faulty_ptx import MODULE, PARAMS, REGISTERS, START
from tests.emulator.snippets import kernel
from texpr.emulator.gpu import VirtualGpu

GLUON = ['"""A kernel."""', "", "def test(x, y):", "    first = gl.load(x)", "    gl.store(y, first)"]
SCHEDULE = "        acc: {at: tile, in: shared}"


def write_bundle(folder: Path, body: str, threads: int, *, target: str = "sm_120", declarations: str = "") -> bytes:
    """A bundle whose one kernel is ``body`` behind the usual start; every line of it comes from line 5 of kernel.py,
    func acc, line 12 of the schedule. Returns its cubin."""
    text = kernel(
        START + body, PARAMS, declarations=REGISTERS + declarations, threads=threads, module=MODULE, target=target
    )
    first = next(number for number, line in enumerate(text.split("\n"), 1) if "mov.u32 %t" in line)
    lines = [[number, 5] for number in range(first, len(text.split("\n")) + 1)]
    cubin = b"\x7fELF" + hashlib.sha256(text.encode()).digest()
    digest = hashlib.sha256(cubin).hexdigest()
    (folder / "ptx").mkdir(parents=True)
    (folder / "ptx" / f"{digest}.ptx").write_text(text)
    node = {"node": "acc", "schedule": "dense.yaml:12", "text": SCHEDULE}
    record = {"version": 1, "kernel": "test", "target": target, "gluon": "kernel.py", "lines": lines,
              "nodes": {"5": node}}
    (folder / "ptx" / f"{digest}.lines.json").write_text(json.dumps(record))
    (folder / "kernel.py").write_text("\n".join(GLUON) + "\n")
    image = {"target": target, "sha256": digest, "ptx": f"ptx/{digest}.ptx", "lines": f"ptx/{digest}.lines.json",
             "registers": 32, "stack_bytes": 0, "shared_bytes": 0, "threads": threads}
    parameters = [{"kind": "tensor", "name": name, "value": name} for name in ("x", "y")]
    tensor = {"kind": "tensor", "dtype": "u32", "groups": [1, 1], "strides": []}
    arguments = [tensor | {"name": "x", "shape": ["8", "8"]}, tensor | {"name": "y", "shape": ["M", "64"]}]
    function = {"arguments": arguments, "variants": [{"launches": [{"kernel": "test"}]}]}
    manifest = {"texpr_manifest": 1, "functions": [function],
                "kernels": [{"name": "test", "parameters": parameters, "images": [image]}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return cubin


def launch(folder: Path, cubin: bytes, threads: int, *, sm: int = 120) -> None:
    """Run the kernel with 64 words for x and 1024 unwritten ones for y."""
    gpu = VirtualGpu([folder], sm=sm)
    gpu.device.step_limit = 5000
    x, y = gpu.allocate(256), gpu.allocate(4096)
    gpu.write(x, b"".join(number.to_bytes(4, "little") for number in range(64)))
    function = gpu.function(gpu.load_module(cubin), "test")
    parameters = [address.to_bytes(8, "little") for address in (x, y)]
    gpu.launch(function, grid=(1, 1, 1), block=(threads, 1, 1), shared=0, params=parameters)
