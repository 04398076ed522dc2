"""One rewriting of an algorithm's axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from texpr.lang.ir import Axis, Expr, Func


@dataclass(frozen=True, slots=True)
class Cut:
    """``old`` axes become ``new``; ``values`` express old in new, ``back`` old indices as new ones, and where ``guard``
    does not hold there is no old point. Only definitions of ``funcs`` are rewritten, if that is given."""

    old: tuple[Axis, ...]
    new: tuple[Axis, ...]
    values: tuple[Expr, ...]
    back: Callable[[Sequence[Expr]], tuple[Expr, ...]]
    guard: Expr | None
    funcs: frozenset[Func] | None = None

    def rewrites(self, func: Func) -> bool:
        return self.funcs is None or func in self.funcs
