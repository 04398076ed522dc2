"""TExpr: tensor expressions and schedules, compiled ahead of time to CUDA kernels.

In:        ``import texpr as te``; every public name is loaded on first use, so the import itself costs nothing.
Out:       the names of the language (``te.algorithm``, ``te.sum``, ...), of the reference, and the package's version.
Invariant: importing this package imports neither NumPy, nor Triton, nor islpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from texpr.version import VERSION as __version__

_HOME = {
    "texpr.lang.algorithm": ("AlgorithmDef", "algorithm", "axes", "dim", "func", "funcs", "ragged", "type"),
    "texpr.lang.extern": ("extern",),
    "texpr.lang.tile_op": ("gluon_op",),
    "texpr.lang.user_ops": ("op", "ops"),
    "texpr.lang.ops": (
        "bf16", "ceil", "cos", "erf", "exp", "exp2", "f16", "f32", "f64", "f8e4m3", "f8e5m2", "floor", "fma", "gelu",
        "i16", "i32", "i64", "i8", "log", "log2", "maximum", "minimum", "present", "ptx", "relu", "rsqrt", "sigmoid",
        "silu", "sin", "sqrt", "tanh", "tf32", "u16", "u32", "u64", "u8", "where",
    ),
    "texpr.lang.reductions": (
        "all", "any", "argmax", "argmin", "argsort", "max", "mean", "min", "prod", "reduce", "sort", "sum", "topk",
    ),
    "texpr.lang.scans": ("scan",),
    "texpr.lang.monoid": ("monoid",),
    "texpr.lang.reference": ("reference",),
    "texpr.runtime": ("Bundle", "load"),
    "texpr.dtypes": ("DType",),
    "texpr.errors": ("TExprError",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_LATER = frozenset({"scatter", "fold"})

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        later = " yet" if name in _LATER else ""
        raise AttributeError(f"texpr has no '{name}'{later}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
