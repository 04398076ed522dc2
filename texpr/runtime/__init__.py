"""Runs bundles from Python through their own C launcher: no compiler, no Triton, torch optional.

In: a bundle directory (`manifest.json`, `lib<name>.so`) and arrays (torch, NumPy, anything with
`__cuda_array_interface__`). Out: the output arrays, computed on the arrays' GPU or, for host arrays, by the PTX
emulator. Invariant: an argument reaches the launcher only after its type, shape, layout and place were checked against
the manifest; every refusal of the launcher comes back as an error that names the argument.
"""

from texpr.runtime.bundle import Bundle, load
from texpr.runtime.library import LaunchInfo, QueryResult

__all__ = ["Bundle", "LaunchInfo", "QueryResult", "load"]
