"""Scalar operations of the user's own: data that algorithms import, or find among what installed packages offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from texpr.dtypes import DType, dtype_named
from texpr.lang.errors import OpError, UnknownNameError, did_you_mean, user_location
from texpr.lang.ops import Operand, ptx
from texpr.lang.value import coerce, retype
from texpr.plugins import OPS, broken, loaded, offered


class ScalarOp:
    """What ``te.op`` makes. Called in a body, it gives its result, or a tuple of them."""

    def __init__(
        self,
        name: str,
        template: str,
        operands: tuple[DType, ...],
        results: DType | tuple[DType, ...],
        reference: Callable[..., object],
        ulps: float,
        constraints: str | None,
    ) -> None:
        self.name = name
        self.template = template
        self.operands = operands
        self.results = results
        self.reference = reference
        self.ulps = ulps
        self.constraints = constraints

    def __repr__(self) -> str:
        return f"<op {self.name}({', '.join(map(str, self.operands))})>"

    def __call__(self, *operands: Operand) -> Any:
        """The operation on values of just these types; Python numbers take the operand's type. Raises OpError."""
        if len(operands) != len(self.operands):
            problem = f"takes {len(self.operands)} operands, got {len(operands)}"
            raise OpError(name=self.name, problem=problem, hint=repr(self), at=user_location())
        typed = []
        for number, (operand, dtype) in enumerate(zip(operands, self.operands, strict=True), 1):
            value = coerce(operand, self.name)
            value = retype(value, dtype) if value.weak else value
            if value.dtype is not dtype:
                problem = f"takes {dtype} as operand {number}, got {value.dtype}"
                raise OpError(name=self.name, problem=problem, hint=f"(...).to('{dtype}')", at=user_location())
            typed.append(value)
        return ptx(
            self.template,
            *typed,
            dtype=self.results,
            reference=self.reference,
            constraints=self.constraints,
            max_ulp=self.ulps,
        )


def op(
    name: str,
    template: str,
    *,
    operands: Sequence[str],
    dtype: str | tuple[str, ...],
    reference: Callable[..., object],
    exact: bool = False,
    ulps: float | None = None,
    constraints: str | None = None,
) -> ScalarOp:
    """A scalar operation by PTX: ``popcount = te.op("popcount", "popc.b32 $0, $1;", operands=["u32"], dtype="u32",
    reference=np.bitwise_count, exact=True)``, and in a body ``popcount(x[i])``.

    Template, types and reference are those of :func:`texpr.ptx`; the error is declared, as ``exact=True`` or as
    ``ulps=n``. A package offers it by an entry point of the group ``texpr.ops``, and algorithms find it as
    ``te.ops.popcount``. Raises OpError.
    """
    at = user_location()

    def typed(text: object) -> DType:
        found = dtype_named(text) if isinstance(text, str) else None
        if found is None:
            raise OpError(name=name, problem=f"has no type {text!r}", at=at)
        return found

    if exact == (ulps is not None):
        problem = "declares no error bound" if ulps is None else "declares its error twice: exact and ulps"
        raise OpError(name=name, problem=problem, hint="exact=True, or ulps=1", at=at)
    if not callable(reference):
        raise OpError(name=name, problem="has a reference= that is no function on NumPy arrays", at=at)
    if isinstance(operands, str) or not operands:
        raise OpError(name=name, problem=f"takes a list of types as operands=, got {operands!r}", at=at)
    results = tuple(map(typed, dtype)) if isinstance(dtype, tuple) else typed(dtype)
    return ScalarOp(name, template, tuple(map(typed, operands)), results, reference, ulps or 0.0, constraints)


class Ops:
    """``te.ops``: operations that installed packages offer under ``texpr.ops``, by name. They are looked for when they
    are asked for."""

    def __getattr__(self, name: str) -> Any:
        """The operation called ``name``. Raises UnknownNameError, PluginConflict and PluginBroken."""
        if name.startswith("__"):
            raise AttributeError(name)
        entries = offered(OPS)
        if name not in entries:
            choices = did_you_mean(name, entries)
            raise UnknownNameError(kind="operation", name=f"te.ops.{name}", choices=choices, at=user_location())
        found = loaded(OPS, entries[name])
        if not callable(found):
            raise broken(OPS, entries[name], f"it is no operation, but {found!r}")
        return found

    def __dir__(self) -> list[str]:
        return sorted(offered(OPS))


ops = Ops()
