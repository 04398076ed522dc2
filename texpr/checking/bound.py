"""The pass rule: an output is right if its error is within the bound that the algorithm's own operations give.

Sums of n terms may be off by ``gamma_n`` times the sum of magnitudes, every operation by its stated error on the
target; integers and moved data are exact. Where a comparison or a rounding could have gone the other way, the element
is undecided and counted as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from texpr.checking.inputs import Inputs
from texpr.dtypes import DType
from texpr.instructions import op_error
from texpr.lang.accuracy import DEFAULT_OPERATIONS, Accuracy, OpError
from texpr.lang.arguments import bind_arguments
from texpr.lang.arrays import Array, decode
from texpr.lang.bounded import Bounded
from texpr.lang.errorbound import run_bounded
from texpr.lang.ir import Algorithm, Cast, top_exprs, walk
from texpr.schedule.records import Variant
from texpr.schedule.words import RelaxKind
from texpr.targets import TARGETS

_ULP: Final = 2.0**-23
_COARSE_FP8_SUMS: Final = frozenset({89, 90})
"""Capabilities whose fp8 matrix units keep about 14 bits of a sum within one instruction, and from one to the next."""
_COARSE_SUM_ULPS: Final = 2.0**10


def accuracy_of(algorithm: Algorithm, targets: Iterable[str], records: Iterable[Variant] = ()) -> Accuracy:
    """The errors of the instructions that kernels are made of, on the least accurate of ``targets``, and of the
    roundings that the variants ``records`` relax."""
    operations = {}
    for name in DEFAULT_OPERATIONS:
        stated = op_error(name, DType.F32)
        absolute = max(stated.absolute, _least(name.value))
        operations[name] = OpError(stated.ulp, stated.per_input / _ULP, absolute, stated.flushes)
    coarse = _has_fp8(algorithm) and any(TARGETS[name].capability in _COARSE_FP8_SUMS for name in targets)
    roundings = [r.name for record in records for r in record.relax if r.kind is RelaxKind.ROUNDING]
    return Accuracy(operations, _COARSE_SUM_ULPS if coarse else 1.0, frozenset(roundings))


def _has_fp8(algorithm: Algorithm) -> bool:
    """Whether an fp8 matrix unit may multiply something: given as fp8, or converted to it on the way."""
    found = {param.dtype for param in algorithm.params}
    for definition in algorithm.defs:
        found.update(func.dtype for func in definition.funcs)
        found.update(node.dtype for expr in top_exprs(definition.top) for node in walk(expr) if isinstance(node, Cast))
    return not found.isdisjoint((DType.F8E4M3, DType.F8E5M2))


def _least(operation: str) -> float:
    """Products may round to a subnormal number: half of the least of them."""
    return 2.0**-149 if operation in ("*", "/", "fma") else 0.0


def expected_outputs(
    algorithm: Algorithm, inputs: Inputs, dims: Mapping[str, int], accuracy: Accuracy
) -> dict[str, Bounded]:
    """The reference's value of every output, in storage shape, with its error bound."""
    arguments = bind_arguments(algorithm, {**inputs.arrays, **inputs.scalars, **dims})
    return run_bounded(algorithm, arguments, accuracy)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An output against its reference. ``worst`` is the largest error in units of its bound (infinite where an exact
    element differs), ``undecided`` how many elements the bound says nothing about, ``wrong`` how many are beyond it;
    the rest is about the worst element, if one is wrong."""

    output: str
    worst: float
    elements: int
    undecided: int
    wrong: int
    index: tuple[int, ...] = ()
    actual: float = 0.0
    expected: float = 0.0
    bound: float = 0.0

    def text(self) -> str:
        """``y[3, 129] is 0.5, the reference 0.25 (bound 1e-05); 12 of 4096 elements are wrong``."""
        place = ", ".join(str(i) for i in self.index)
        said = (
            f"{self.output}[{place}] is {self.actual:.9g}, the reference {self.expected:.9g} (bound {self.bound:.3g})"
        )
        return f"{said}; {self.wrong} of {self.elements} elements are wrong"


def compare(name: str, expected: Bounded, stored: Array, dtype: DType) -> Comparison:
    """``stored`` is what the kernel wrote, in storage form and shape."""
    actual = decode(stored, dtype)
    if actual.size == 0:
        return Comparison(name, 0.0, 0, 0, 0)
    ratios = expected.ratios(actual)
    bounds = np.broadcast_to(expected.bound, actual.shape)
    elements = int(np.count_nonzero(~np.isnan(bounds)))
    undecided = int(np.count_nonzero(expected.ambiguous | np.isinf(bounds)))
    wrong = int(np.count_nonzero(~(ratios <= 1)))
    worst = float(ratios.max())
    if not wrong:
        return Comparison(name, worst, elements, undecided, 0)
    at = np.unravel_index(int(np.argmax(ratios)), actual.shape)
    index = tuple(int(i) for i in at)
    bound = float(bounds[at])
    value, reference = float(actual[at]), float(expected.value[at])
    return Comparison(name, worst, elements, undecided, wrong, index, value, reference, bound)
