"""The domain of a contract: at which elements the range of a tensor's values holds, as an expression of the algorithm.

In ``tab: i32[B, MB] in [0, NB) where jb*PS < n[b]`` the names that are no dims are indices of ``tab``. Which one is
along which dim follows from their extents: what ``n[b]`` indexes has extent B, and the other dim is ``jb``'s. Where
they do not say it, the indices are listed: ``where [b, jb]: jb < 3``.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from texpr.contracts import ContractKind
from texpr.domains import Domain as NamedDomain
from texpr.domains import fold, mentioned, parse_condition, with_statics
from texpr.dtypes import dtype_named
from texpr.errors import Location
from texpr.lang.errors import ContractError, UnknownDimError, did_you_mean
from texpr.lang.ir import (
    INDEX,
    NO_BOUNDARY,
    Axis,
    AxisRef,
    DimRef,
    Domain,
    Expr,
    Param,
    Read,
    Scalar,
    ScalarRef,
    Tensor,
    map_children,
)
from texpr.lang.syntax import ParamSyntax
from texpr.lang.value import Value, cast
from texpr.math.expr import IntExpr, sym


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An index name and the extents that it has where the condition indexes with it."""

    name: str
    extents: tuple[IntExpr, ...]


def read_domain(param: ParamSyntax, params: Sequence[ParamSyntax], known: Collection[str]) -> NamedDomain:
    """The domain of ``param``'s range, its index names found. ``known`` are dims and statics. Raises ContractError,
    UnknownDimError."""
    assert param.domain is not None and param.dims is not None
    extents = tuple(itertools.chain.from_iterable(param.dims))
    text, listed = _listed_indices(param, param.domain, len(extents))
    try:
        parse_condition(text)
    except ValueError as error:
        raise _refused(param, f"its range holds where {error}", "comparisons of integers, joined by 'and'") from None
    found = mentioned(text)
    by_name = {other.name: other for other in params}
    for name, indices in found.reads:
        _check_read(param, name, indices, by_name)
        fixed = next((index for index in indices if index in known or index in by_name), None)
        if fixed is not None:
            raise _refused(param, f"'{fixed}' in '{name}[...]' of its domain is no index", f"{name}[i]")
    scalars = {other.name for other in params if other.dims is None}
    _check_scalars(param, found.names & scalars, by_name)
    names = sorted(found.names - set(known) - scalars, key=text.index)
    tensors = next((name for name in names if name in by_name), None)
    if tensors is not None:
        raise _refused(param, f"'{tensors}' is a tensor, in 'where {text}' it has no index", f"{tensors}[...]")
    wanted = [_Wanted(name, _extents_of(name, found.reads, by_name)) for name in names]
    if not names:
        raise _refused(param, f"'where {text}' names no index of it", "i < n, with a name of its own for the index")
    fits = [
        dims
        for dims in itertools.permutations(range(len(extents)), len(wanted))
        if all(extents[dim] is extent for dim, one in zip(dims, wanted, strict=True) for extent in one.extents)
        and (not listed or all(listed[dim] == one.name for dim, one in zip(dims, wanted, strict=True)))
    ]
    if not fits:
        lost = next((one.name for one in wanted if any(extent not in extents for extent in one.extents)), names[-1])
        where = f"'where {text}' of {param.name}"
        raise UnknownDimError(name=lost, where=where, choices=did_you_mean(lost, known))
    if len(fits) > 1:
        first = next(one.name for n, one in enumerate(wanted) if len({dims[n] for dims in fits}) > 1)
        problem = f"'where {text}' does not say along which dim {first} runs"
        every = ", ".join(list(dict.fromkeys([*names, *"ijklmnop"]))[: len(extents)])
        raise _refused(param, problem, f"where [{every}]: {text}, with an index for every dim, in order")
    along = {dim: one.name for dim, one in zip(fits[0], wanted, strict=True)}
    return NamedDomain(text, tuple(along.get(dim, "") for dim in range(len(extents))))


def _listed_indices(param: ParamSyntax, text: str, rank: int) -> tuple[str, tuple[str, ...]]:
    """A condition and the indices that are listed before it, if there are any."""
    if not text.startswith("["):
        return text, ()
    inside, _, rest = text[1:].partition("]")
    names = tuple(name.strip() for name in inside.split(","))
    if not rest.lstrip().startswith(":") or not all(name.isidentifier() for name in names):
        raise _refused(param, f"'where {text}' lists indices and has no condition", "where [i, j]: i < j")
    if len(names) != rank or len(set(names)) != rank:
        raise _refused(param, f"'where {text}' lists {len(set(names))} indices of {rank} dims", "one for every dim")
    return rest.lstrip()[1:].strip(), names


def _check_read(param: ParamSyntax, name: str, indices: tuple[str, ...], by_name: Mapping[str, ParamSyntax]) -> None:
    source = by_name.get(name)
    if source is None or source.dims is None or source.output:
        raise _refused(param, f"'{name}[...]' in its domain is no input tensor", "another input of integers")
    dtype = dtype_named(source.type_name)
    if dtype is None or not dtype.is_int or source.optional or source.packed is not None:
        raise _refused(param, f"its domain depends on {name}, which is no plain integer tensor", "i32 for it")
    if source.domain is not None:
        problem = f"its domain depends on {name}, whose own range has a domain"
        raise _refused(param, problem, f"a range of {name} that always holds")
    rank = sum(len(dims) for dims in source.dims)
    if rank != len(indices):
        raise _refused(param, f"{name} in its domain has {len(indices)} indices, not {rank}", "one per dim")


def _check_scalars(param: ParamSyntax, names: Collection[str], by_name: Mapping[str, ParamSyntax]) -> None:
    for name in names:
        dtype = dtype_named(by_name[name].type_name)
        if dtype is None or not dtype.is_int:
            raise _refused(param, f"its domain depends on {name}, which is no integer", "an integer scalar")


def _extents_of(
    name: str, reads: Sequence[tuple[str, tuple[str, ...]]], by_name: Mapping[str, ParamSyntax]
) -> tuple[IntExpr, ...]:
    found: list[IntExpr] = []
    for source, indices in reads:
        dims = tuple(itertools.chain.from_iterable(by_name[source].dims or ()))
        found += [dims[position] for position, index in enumerate(indices) if index == name]
    return tuple(found)


def _refused(param: ParamSyntax, problem: str, hint: str) -> ContractError:
    return ContractError(name=param.name, problem=problem, hint=hint)


def check_owner(param: ParamSyntax) -> None:
    """A domain stands on the range of an input tensor of integers, one that no other contract makes superfluous."""
    if param.bounds is None:
        raise _refused(param, "'where' says where a range holds, and there is none", "in [lo, hi) where ...")
    if param.dims is None:
        raise _refused(param, "a scalar has one value, which no 'where' can leave out", "drop 'where'")
    others = [contract for contract in param.contracts if contract.kind is not ContractKind.FINITE]
    if others:
        problem = f"'{others[0]}' holds for all elements, not where a condition does"
        raise _refused(param, problem, f"drop '{others[0]}'")


def with_domains(
    params: Sequence[Param], domains: Mapping[str, NamedDomain], statics: Mapping[str, int], at: Location | None
) -> tuple[Param, ...]:
    """The parameters of a binding with the domains of their ranges, which mention the other parameters."""
    by_name = {param.name: param for param in params}
    return tuple(
        replace(param, domain=_bound(param, domains[param.name], by_name, statics, at))
        if isinstance(param, Tensor) and param.name in domains
        else param
        for param in params
    )


def _bound(
    tensor: Tensor, domain: NamedDomain, by_name: Mapping[str, Param], statics: Mapping[str, int], at: Location | None
) -> Domain:
    axes = tuple(Axis(name, extent) for name, extent in zip(domain.indices, tensor.shape, strict=True))
    along = {axis.name: axis for axis in axes if axis.name}

    def name(wanted: str) -> Value:
        if wanted in along:
            return Value(AxisRef(along[wanted]))
        param = by_name.get(wanted)
        return cast(Value(ScalarRef(param)), INDEX) if isinstance(param, Scalar) else Value(DimRef(sym(wanted)))

    def read(wanted: str, indices: tuple[Value, ...]) -> Value:
        source = by_name[wanted]
        assert isinstance(source, Tensor)
        element = Read(source, tuple(index.expr for index in indices), NO_BOUNDARY, None, at)
        return cast(Value(element), INDEX)  # what is computed of it is exact

    text = with_statics(domain.text, statics)
    return Domain(axes, fold(text, name, read).expr, NamedDomain(text, domain.indices))


def condition_at(domain: Domain, indices: Sequence[Expr]) -> Expr:
    """The condition under which the range holds of the element at ``indices``."""
    values = {axis: index for axis, index in zip(domain.axes, indices, strict=True)}

    def at(expr: Expr) -> Expr:
        return values[expr.axis] if isinstance(expr, AxisRef) else map_children(expr, at)

    return at(domain.where)
