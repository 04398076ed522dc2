"""What a signature means: arguments, free and derived dims, type variables, statics and facts, not yet bound to types
and values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from texpr.contracts import ContractKind
from texpr.domains import Domain
from texpr.dtypes import DType, dtype_named
from texpr.errors import Location, TExprError, located
from texpr.lang.counts import check_count, check_counted, read_counts
from texpr.lang.domains import check_owner, read_domain, with_domains
from texpr.lang.errors import (
    BindingError,
    ContractError,
    DerivedDimError,
    DuplicateNameError,
    FactFalseError,
    NotSupportedYetError,
    UnderivedDimError,
    UnknownDimError,
    UnknownTypeError,
    caret,
    did_you_mean,
)
from texpr.lang.ir import Contract, DeviceDim, Dim, Param, Role, Scalar, Tensor
from texpr.lang.packed import PACKED_TYPES, bytes_shape, check_packed, even_fact, packed_dim
from texpr.lang.syntax import ContractSyntax, ParamSyntax, RangeSyntax, parse_signature
from texpr.math.bounds import Facts, bounds
from texpr.math.expr import FALSE, TRUE, BoolExpr, Const, IntExpr, atoms_of, const, free_symbols, substitute
from texpr.math.parse import parse_bool, parse_int


@dataclass(frozen=True, slots=True)
class Signature:
    """A checked signature.

    ``types`` lists the choices of each type variable; ``statics`` the default of each static, None where it must be
    given; ``dims`` the free dims in order of appearance; ``derived`` the other dims, as expressions of free dims and
    statics only; ``domains`` say where the ranges of some arguments hold.
    """

    text: str
    params: tuple[ParamSyntax, ...]
    types: Mapping[str, tuple[DType, ...]]
    statics: Mapping[str, int | None]
    dims: tuple[str, ...]
    derived: Mapping[str, IntExpr]
    facts: tuple[BoolExpr, ...]
    domains: Mapping[str, Domain]
    location: Location | None
    counts: tuple[DeviceDim, ...] = ()

    def dim_names(self) -> tuple[str, ...]:
        """Every name that a dim expression in the body may use."""
        return (*self.dims, *self.derived, *self.statics, *(count.name for count in self.counts))


@dataclass(frozen=True, slots=True)
class BoundSignature:
    """A signature with every type variable and static replaced."""

    params: tuple[Param, ...]
    dims: tuple[Dim, ...]
    facts: tuple[BoolExpr, ...]
    types: Mapping[str, DType]
    statics: Mapping[str, int]
    counts: tuple[DeviceDim, ...] = ()

    def dim_names(self) -> tuple[str, ...]:
        """Every name of a dim, statics excepted."""
        return (*(dim.name for dim in self.dims), *(count.name for count in self.counts))


def read_signature(
    text: str,
    *,
    types: Mapping[str, object],
    static: Sequence[str] | Mapping[str, int | None],
    dims: Mapping[str, str],
    require: Iterable[str],
    at: Location | None,
) -> Signature:
    """Parses and checks. Raises the TX010x and TX011x errors, at ``at``."""
    with located(at):
        params = parse_signature(text, at)
        statics = _read_statics(static)
        checker = _Checker(text, params, _read_types(types), statics, at)
        checker.check_names()
        counts, host = read_counts(dims, params)
        free = checker.free_dims(host, counts)
        derived = _resolve_derived(host, free, statics, counts)
        checker.check_params(free, derived, counts)
        facts = tuple(_read_fact(fact, (*free, *derived, *statics)) for fact in require)
        even = (even_fact(param) for param in params)
        facts += tuple(fact for fact in dict.fromkeys(even) if fact is not TRUE and fact not in facts)
        domains = checker.domains({*free, *derived, *statics})
        return Signature(text, params, checker.types, statics, free, derived, facts, domains, at, counts)


def _read_types(types: Mapping[str, object]) -> dict[str, tuple[DType, ...]]:
    result: dict[str, tuple[DType, ...]] = {}
    for variable, value in types.items():
        if dtype_named(variable) is not None:
            raise DuplicateNameError(name=variable, uses="a type variable and an element type")
        names = (value,) if isinstance(value, str) else value
        if not isinstance(names, (tuple, list)) or not names:
            raise ContractError(name=variable, problem=f"a type variable takes a tuple of type names, got {value!r}")
        dtypes = []
        for name in names:
            dtype = dtype_named(name) if isinstance(name, str) else None
            if dtype is None:
                raise UnknownTypeError(name=name)
            if dtype in PACKED_TYPES:
                raise NotSupportedYetError(what=f"the packed type {dtype} in {variable}", instead="u4 by its name")
            dtypes.append(_storable(dtype, variable))
        result[variable] = tuple(dict.fromkeys(dtypes))
    return result


def _storable(dtype: DType, where: str) -> DType:
    if dtype is DType.TF32:
        raise ContractError(
            name=where, problem="tf32 is a precision, not a storage type", hint="f32 here, and .to('tf32') in the body"
        )
    return dtype


def _read_statics(static: Sequence[str] | Mapping[str, int | None]) -> dict[str, int | None]:
    if isinstance(static, str):
        raise ContractError(
            name="static",
            problem=f"takes a list of names or a dict of defaults, got {static!r}",
            hint=f"static=['{static}']",
        )
    items: list[tuple[str, int | None]] = (
        list(static.items()) if isinstance(static, Mapping) else [(name, None) for name in static]
    )
    for name, value in items:
        if not name.isidentifier():
            raise ContractError(name="static", problem=f"{name!r} is not a name")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise ContractError(name=f"static {name}", problem=f"its default must be an integer, got {value!r}")
    return dict(items)


class _Checker:
    """The checks that need the whole signature; holds it and nothing that changes."""

    def __init__(
        self,
        text: str,
        params: tuple[ParamSyntax, ...],
        types: Mapping[str, tuple[DType, ...]],
        statics: Mapping[str, int | None],
        at: Location | None,
    ) -> None:
        self.text = text
        self.params = params
        self.types = types
        self.statics = statics
        self.at = at

    def mark(self, param: ParamSyntax) -> str:
        return caret(self.text.replace("\n", " "), param.column, len(param.name))

    def check_names(self) -> None:
        seen: dict[str, str] = {}
        names = [(param.name, "an argument") for param in self.params]
        names += [(name, "a static") for name in self.statics]
        names += [(name, "a type variable") for name in self.types]
        for name, use in names:
            if name in seen:
                raise DuplicateNameError(name=name, uses=f"{seen[name]} and {use}")
            seen[name] = use

    def free_dims(self, derived: Mapping[str, str], counts: Sequence[DeviceDim]) -> tuple[str, ...]:
        """The symbols of the inputs' shapes that are neither static nor derived. A dim known on the device only takes
        the place of what there is room for."""
        found: dict[str, None] = {}
        rooms = {count.name: count.room for count in counts}
        for param in self.params:
            if not param.output and param.dims is not None:
                for dim in (substitute(d, rooms) for d in itertools.chain.from_iterable(param.dims)):
                    found.update(dict.fromkeys(sorted(free_symbols(dim), key=str(dim).index)))
        taken = {param.name for param in self.params} | set(self.types)
        for name in (*found, *derived, *rooms):
            if name in taken:
                raise DuplicateNameError(name=name, uses="a dim and an argument or type variable")
        for name in (*derived, *rooms):
            if name in self.statics:
                raise DuplicateNameError(name=name, uses="a static and a derived dim")
        return tuple(name for name in found if name not in self.statics and name not in derived)

    def check_params(
        self, free: tuple[str, ...], derived: Mapping[str, IntExpr], counts: Sequence[DeviceDim]
    ) -> None:
        known = {*free, *derived, *self.statics}
        for count in counts:
            check_count(count, self.params, self.types, known)
        rooms = {count.name: count.room for count in counts}
        for param in self.params:
            with _excerpt(self.mark(param)):
                self.check_type(param)
                for dim in itertools.chain.from_iterable(param.dims or ()):
                    for name in sorted(free_symbols(substitute(dim, rooms)) - known):
                        raise UnderivedDimError(name=name)
                check_counted(param, counts, self.params)
                if param.bounds is not None:
                    self.check_bounds(param, param.bounds, known)
                self.check_contracts(param)
                check_packed(param, self.dtypes(param))
                for contract in param.contracts:
                    self.check_contract(param, contract, known)

    def check_type(self, param: ParamSyntax) -> None:
        if param.type_name in self.types:
            return
        dtype = dtype_named(param.type_name)
        if dtype is None:
            variables = f" (type variables: {', '.join(self.types)})" if self.types else ""
            close = did_you_mean(param.type_name, [*self.types, *(d.value for d in DType)])
            raise UnknownTypeError(
                name=param.type_name, hint=close.split(" (")[0] + variables if "did you" in close else None
            )
        _storable(dtype, param.name)

    def check_bounds(self, param: ParamSyntax, bounds: RangeSyntax, known: set[str]) -> None:
        if not all(dtype.is_int for dtype in self.dtypes(param)):
            raise ContractError(
                name=param.name, problem=f"a range needs an integer type, not {param.type_name}", hint="drop the range"
            )
        for name in sorted((free_symbols(bounds.low) | free_symbols(bounds.high)) - known):
            raise UnknownDimError(name=name, where=f"the range of {param.name}", choices=did_you_mean(name, known))

    def domains(self, known: set[str]) -> dict[str, Domain]:
        found: dict[str, Domain] = {}
        for param in self.params:
            if param.domain is not None:
                with _excerpt(self.mark(param)):
                    found[param.name] = read_domain(param, self.params, known)
        return found

    def check_contracts(self, param: ParamSyntax) -> None:
        if param.output and param.dims is None:
            raise ContractError(
                name=param.name, problem="an output must be a tensor", hint=f"{param.name}: {param.type_name}[]"
            )
        if param.hint and (param.output or param.dims is None):
            raise ContractError(name=param.name, problem="only an input tensor may be a hint", hint="drop 'hint'")
        if param.optional and (param.output or param.dims is None):
            raise ContractError(name=param.name, problem="only an input tensor may be optional", hint="drop the '?'")
        if param.bounds is not None and param.output:
            raise ContractError(name=param.name, problem="only an input may have a range", hint="drop the range")
        if param.domain is not None:
            check_owner(param)
        if param.alias is not None:
            source = next((p for p in self.params if p.name == param.alias and not p.output), None)
            if not param.output or source is None:
                raise ContractError(
                    name=param.name,
                    problem=f"alias({param.alias}) stands on an output and names an input",
                    hint="x: T[N] -> y: T[N] alias(x)",
                )
            if (source.dims, source.type_name, source.strided) != (param.dims, param.type_name, param.strided):
                raise ContractError(
                    name=param.name,
                    problem=f"may alias {param.alias} only with the same shape and type",
                    hint=f"{param.name}: {source.type_name}[...] alias({source.name}), with the dims of {source.name}",
                )

    def check_contract(self, param: ParamSyntax, contract: ContractSyntax, known: set[str]) -> None:
        """What a contract asks of the argument that it stands on."""
        kind = contract.kind
        if param.output or param.dims is None:
            problem = f"only an input tensor may be {kind.value}"
            raise ContractError(name=param.name, problem=problem, hint=f"drop '{contract}'")
        if contract.limit is not None:
            for name in sorted(free_symbols(contract.limit) - known):
                raise UnknownDimError(name=name, where=f"{contract} of {param.name}", choices=did_you_mean(name, known))
        if kind is ContractKind.FINITE:
            if not all(dtype.is_float for dtype in self.dtypes(param)):
                problem = f"'finite' says something of floats, not of {param.type_name}"
                raise ContractError(name=param.name, problem=problem, hint="drop 'finite'")
            return
        if not all(dtype.is_int for dtype in self.dtypes(param)):
            problem = f"'{kind.value}' needs an integer type, not {param.type_name}"
            raise ContractError(name=param.name, problem=problem, hint=f"i32, or drop '{contract}'")
        if kind is ContractKind.LISTS:
            _check_lists(param, contract)
            return
        if len(param.dims) != 1 or len(param.dims[0]) != 1:
            problem = f"'{kind.value}' needs one dim, not {len(param.dims)}"
            raise ContractError(name=param.name, problem=problem, hint=f"{param.name}: {param.type_name}[N] {contract}")
        extent = param.dims[0][0]
        if contract.limit is not None and free_symbols(extent) - known:
            problem = f"'{kind.value}' speaks of all {extent} elements, and their number is known on the device only"
            raise ContractError(name=param.name, problem=problem, hint=f"drop '{contract}'")
        if contract.limit is not None and param.bounds is not None:
            problem = f"'{contract}' says its range already"
            raise ContractError(name=param.name, problem=problem, hint="drop 'in [...)'")
        if kind is ContractKind.PERMUTATION and extent is not contract.limit:
            problem = f"a permutation of {contract.limit} numbers has {contract.limit} elements, not {extent}"
            raise ContractError(name=param.name, problem=problem, hint=f"permutation({extent})")
        least = bounds(extent, Facts.nonnegative(sorted(known))).lo
        if kind is ContractKind.OFFSETS and (least is None or least < 1):
            problem = f"offsets of E groups have E + 1 elements; {extent} could be 0"
            raise ContractError(name=param.name, problem=problem, hint=f"{param.name}: {param.type_name}[E + 1]")

    def dtypes(self, param: ParamSyntax) -> tuple[DType, ...]:
        return self.types.get(param.type_name) or (DType(param.type_name),)


def _check_lists(param: ParamSyntax, contract: ContractSyntax) -> None:
    """A row has room for how many there are, and for all of them."""
    shape = [*itertools.chain.from_iterable(param.dims or ())]
    assert contract.limit is not None
    if len(param.dims or ()) != 2 or len(shape) != 2 or shape[1] != contract.limit + 1:
        problem = f"a list of numbers below {contract.limit} is a row of their count and {contract.limit} of them"
        raise ContractError(name=param.name, problem=problem, hint=f"i32[NT, {contract.limit + 1}] {contract}")
    if param.bounds is not None:
        raise ContractError(name=param.name, problem=f"'{contract}' says its range already", hint="drop 'in [...)'")


@contextmanager
def _excerpt(text: str) -> Iterator[None]:
    """Adds the marked signature to an error that has no excerpt of its own."""
    try:
        yield
    except TExprError as error:
        error.excerpt = error.excerpt or text
        raise


def _resolve_derived(
    dims: Mapping[str, str], free: tuple[str, ...], statics: Mapping[str, int | None], counts: Sequence[DeviceDim]
) -> dict[str, IntExpr]:
    """Each derived dim as an expression of free dims and statics; raises DerivedDimError on an unknown name or a
    cycle."""
    values: dict[str, IntExpr] = {}
    for name, text in dims.items():
        value = parse_int(str(text))
        for count in counts:
            if count.name in free_symbols(value):
                problem = f"{count.name} is known on the device only"
                raise DerivedDimError(name=name, problem=problem, hint=f"'{value}' itself as the extent of an axis")
        unknown = sorted(free_symbols(value) - {*free, *dims, *statics})
        if unknown:
            raise DerivedDimError(
                name=name, problem=f"'{unknown[0]}' is unknown", hint=did_you_mean(unknown[0], {*free, *dims, *statics})
            )
        values[name] = value
    for _ in range(len(values)):
        values = {
            name: substitute(value, {n: v for n, v in values.items() if n != name}) for name, value in values.items()
        }
    for name, value in values.items():
        if free_symbols(value) & set(dims):
            raise DerivedDimError(name=name, problem="it depends on itself")
    return values


def _read_fact(text: str, names: Iterable[str]) -> BoolExpr:
    fact = parse_bool(text, set(names))
    if atoms_of(fact):
        raise ContractError(
            name="require",
            problem=f"'{text}' is not about dims",
            hint="conditions on pointers and types belong in a schedule's when:",
        )
    return fact


def bind_signature(
    signature: Signature, name: str, types: Mapping[str, str], statics: Mapping[str, int]
) -> BoundSignature:
    """Replaces type variables and statics. Raises BindingError or FactFalseError.

    Type variables with a single choice and statics with a default may be left out.
    """
    chosen = _choose_types(signature, name, types)
    values = _choose_statics(signature, name, statics)
    try:
        counts = tuple(replace(count, room=substitute(count.room, values)) for count in signature.counts)
        params = tuple(_bind_param(param, chosen, values, counts, signature.location) for param in signature.params)
        params = with_domains(params, signature.domains, values, signature.location)
        derived = {dim: substitute(value, values) for dim, value in signature.derived.items()}
        facts = tuple(substitute(fact, values) for fact in signature.facts)
    except ZeroDivisionError as error:
        raise BindingError(name=name, problem=f"these statics divide by zero: {error}", hint="other statics") from None
    for fact, bound in zip(signature.facts, facts, strict=True):
        if bound is FALSE:
            raise FactFalseError(fact=fact, binding=", ".join(f"{k}={v}" for k, v in values.items()) or name)
    for param in params:
        if isinstance(param, Tensor):
            for dim in param.shape:
                if isinstance(dim, Const) and dim.value < 0:
                    raise BindingError(name=name, problem=f"a dim of {param.name} is {dim.value}", hint="other statics")
    dims = (*(Dim(dim) for dim in signature.dims), *(Dim(dim, value) for dim, value in derived.items()))
    kept = tuple(fact for fact in facts if fact is not TRUE)
    return BoundSignature(params, dims, kept, chosen, values, counts)


def _choose_types(signature: Signature, name: str, types: Mapping[str, str]) -> dict[str, DType]:
    for variable in types:
        if variable not in signature.types:
            raise BindingError(
                name=name, problem=f"no type variable '{variable}'", hint=did_you_mean(variable, signature.types)
            )
    chosen: dict[str, DType] = {}
    for variable, choices in signature.types.items():
        listed = ", ".join(f"{variable}={dtype}" for dtype in choices)
        if variable not in types:
            if len(choices) > 1:
                raise BindingError(name=name, problem=f"type variable {variable} is not bound", hint=listed)
            chosen[variable] = choices[0]
            continue
        dtype = dtype_named(str(types[variable]))
        if dtype not in choices:
            raise BindingError(name=name, problem=f"{variable}={types[variable]} is not one of its types", hint=listed)
        chosen[variable] = dtype
    return chosen


def _choose_statics(signature: Signature, name: str, statics: Mapping[str, int]) -> dict[str, int]:
    for static in statics:
        if static not in signature.statics:
            raise BindingError(name=name, problem=f"no static '{static}'", hint=did_you_mean(static, signature.statics))
    values: dict[str, int] = {}
    for static, default in signature.statics.items():
        value = statics.get(static, default)
        if value is None:
            raise BindingError(name=name, problem=f"static {static} has no value", hint=f"statics={{'{static}': 64}}")
        if isinstance(value, bool) or not isinstance(value, int):
            raise BindingError(
                name=name,
                problem=f"static {static} must be an integer, got {value!r}",
                hint=f"statics={{'{static}': 64}}",
            )
        values[static] = value
    return values


def _bind_param(
    param: ParamSyntax,
    types: Mapping[str, DType],
    statics: Mapping[str, int],
    counts: Sequence[DeviceDim],
    at: Location | None,
) -> Param:
    dtype = types.get(param.type_name) or DType(param.type_name)
    low = substitute(param.bounds.low, statics) if param.bounds else None
    high = substitute(param.bounds.high, statics) if param.bounds else None
    contracts = tuple(_bind_contract(contract, statics) for contract in param.contracts)
    for contract in contracts:
        if contract.limit is not None:  # offsets and counts reach it, the numbers of a permutation stay below it
            low = const(0)
            high = contract.limit if contract.kind is ContractKind.PERMUTATION else contract.limit + 1
    if param.dims is None:
        return Scalar(param.name, dtype, low, high, at)
    valid = tuple(substitute(dim, statics) for dim in itertools.chain.from_iterable(param.dims))
    shape = tuple(substitute(dim, {count.name: count.room for count in counts}) for dim in valid)
    packed = packed_dim(param)
    return Tensor(
        name=param.name,
        dtype=dtype if packed is None else DType.U8,
        shape=bytes_shape(shape, packed),
        groups=tuple(len(group) for group in param.dims),
        role=Role.OUTPUT if param.output else Role.INPUT,
        optional=param.optional,
        may_alias=param.alias,
        strided=param.strided,
        packed=packed,
        element=None if packed is None else dtype,
        low=low,
        high=high,
        contracts=contracts,
        hint=param.hint,
        location=at,
        valid=None if valid == shape else bytes_shape(valid, packed),
    )


def _bind_contract(contract: ContractSyntax, statics: Mapping[str, int]) -> Contract:
    return Contract(contract.kind, None if contract.limit is None else substitute(contract.limit, statics))
