"""A PTX emulator: runs the PTX that ships, on the CPU, and reports what is wrong with it.

In: PTX text (`load_ptx`), buffers on an emulated `Device`, launches with raw parameter bytes.
Out: the bytes a GPU would have written, or a `Fault` that names the PTX line, the source line and the buffer.
Invariant: an instruction either has a row in the instruction table or the module does not load; no instruction
is ever skipped.  The package knows PTX and nothing of the compiler whose PTX it runs.
"""

from texpr.emulator.counters import Counters
from texpr.emulator.faults import Fault, FaultKind, LaunchError, PtxError
from texpr.emulator.kernel import Kernel, PtxModule
from texpr.emulator.launch import Device
from texpr.emulator.module import load_ptx
from texpr.emulator.ptx import Param, SourceLine
from texpr.emulator.run_ptx import PtxRun, run_ptx
from texpr.emulator.statistics import LaunchStats
from texpr.emulator.tensor_maps import encode_tiled
from texpr.emulator.user_rows import instructions

__all__ = [
    "Counters",
    "Device",
    "Fault",
    "FaultKind",
    "Kernel",
    "LaunchError",
    "LaunchStats",
    "Param",
    "PtxError",
    "PtxModule",
    "PtxRun",
    "SourceLine",
    "encode_tiled",
    "instructions",
    "load_ptx",
    "run_ptx",
]
