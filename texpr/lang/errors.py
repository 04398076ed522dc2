"""Mistakes in a signature, an algorithm's body, a binding or the arguments of a reference call: codes TX0101 to TX0199.

TX010x signature text, TX011x signature meaning, TX012x binding, TX013x names and indices in the body, TX014x types,
TX015x definitions, TX016x reductions, TX017x bounds, TX018x the reference.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable

from texpr.errors import Location, TExprError

_OWN_FOLDERS = (
    os.path.dirname(os.path.abspath(__file__)) + os.sep,
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "math") + os.sep,
)


def user_location() -> Location:
    """The innermost caller's line outside the language's own files."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FOLDERS):
        frame = frame.f_back
    return Location(frame.f_code.co_filename, frame.f_lineno)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """``did you mean 'acc'?`` followed by the choices, or just the choices."""
    choices = sorted(set(candidates))
    folded = {choice.casefold(): choice for choice in choices}
    close = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)]
    listed = f"one of: {', '.join(choices)}" if choices else "there are none here"
    return f"did you mean '{close[0]}'? ({listed})" if close else listed


def caret(text: str, column: int, width: int = 1) -> str:
    """``text`` with ``^`` under ``column`` (0-based)."""
    return f"{text}\n{' ' * column}{'^' * max(1, width)}"


# ---- TX010x: the text of a signature, a dim or a require condition


class SignatureSyntaxError(TExprError):
    code = "TX0101"
    title = "syntax error in a signature"
    template = "signature: {problem}"
    default_hint = "'x: T[M, K], b: T[K]?, eps: f32 -> y: T[M]' (inputs, then '->', then outputs)"


class NotSupportedYetError(TExprError):
    code = "TX0102"
    title = "part of the language that is not supported yet"
    template = "{what} is not supported yet"
    default_hint = "{instead}"


# ---- TX011x: what a signature says


class UnknownTypeError(TExprError):
    code = "TX0111"
    title = "unknown element type"
    template = "unknown type '{name}'"
    default_hint = (
        "a type such as f16, bf16, f32, f64, f8e4m3, i32, u8, bool, or a type variable given as T=('f16', 'bf16')"
    )


class UnknownDimError(TExprError):
    code = "TX0112"
    title = "unknown dim"
    template = "unknown dim '{name}' in {where}"
    default_hint = "{choices}"


class UnderivedDimError(TExprError):
    code = "TX0113"
    title = "dim that no input determines"
    template = "dim '{name}' is named in no input's shape, so nothing determines it"
    default_hint = "derive it, dims=dict({name}='...'), or make it static, static=['{name}']"


class DuplicateNameError(TExprError):
    code = "TX0114"
    title = "name used twice"
    template = "'{name}' is used twice: {uses}"
    default_hint = "give one of them another name"


class ContractError(TExprError):
    code = "TX0115"
    title = "contract that does not apply"
    template = "{name}: {problem}"
    default_hint = "x: i32[N] in [0, M), b: T[N]? -> y: T[N] alias(x)"


class DerivedDimError(TExprError):
    code = "TX0116"
    title = "derived dim that cannot be computed"
    template = "derived dim '{name}': {problem}"
    default_hint = "a derived dim is an expression of the dims of inputs, statics and other derived dims"


class DeviceDimError(TExprError):
    code = "TX011A"
    title = "dim that only the device knows"
    template = "device dim '{name}': {problem}"
    default_hint = "dims=dict(N='count[] <= CAP'), with an input or output 'count: i32[]'"


class BodySignatureError(TExprError):
    code = "TX0117"
    title = "body whose parameters do not match the signature"
    template = "the body of {name} takes ({found}), the signature says ({expected})"
    default_hint = "def {name}({expected}): the signature's arguments in order; statics only after '*'"


# ---- TX012x: binding types and statics


class BindingError(TExprError):
    code = "TX0121"
    title = "binding of types or statics that does not fit"
    template = "{name}: {problem}"
    default_hint = ".bind({{'T': 'f16'}}, {{'D': 64}})"


class FactFalseError(TExprError):
    code = "TX0122"
    title = "require condition that this binding makes false"
    template = "require '{fact}' is false for {binding}"
    default_hint = "bind other statics"


# ---- TX013x: names and indices in a body


class OutsideBodyError(TExprError):
    code = "TX0131"
    title = "construct used outside an algorithm's body"
    template = "te.{what} works only while the body of a te.algorithm runs"
    default_hint = "call it from the decorated function, or from a helper that the function calls"


class UnknownNameError(TExprError):
    code = "TX0132"
    title = "unknown name"
    template = "unknown {kind} '{name}'"
    default_hint = "{choices}"


class BadNameError(TExprError):
    code = "TX0133"
    title = "name that cannot be used"
    template = "{kind} name '{name}' {problem}"
    default_hint = "letters, digits and '_', starting with a letter; 'part' is reserved"


class RankError(TExprError):
    code = "TX0134"
    title = "wrong number of indices"
    template = "{name} has {expected}, but is indexed with {found}"


class IndexTypeError(TExprError):
    code = "TX0135"
    title = "index that is not an integer"
    template = "index {position} of {name} is {found}, not an integer"
    default_hint = "an axis, a dim, an integer, or an integer expression of them; .to('i32') truncates a float"


class BareTensorError(TExprError):
    code = "TX0136"
    title = "tensor or func used without indices"
    template = "{name} is used without indices"
    default_hint = "{name}[...] with one index per dim; TExpr has no whole-array arithmetic"


class OptionalReadError(TExprError):
    code = "TX0137"
    title = "optional tensor read without a default, or a required one with it"
    template = "{name} {problem}"
    default_hint = "{name}.get({index}, 0)"


class HintReadError(TExprError):
    code = "TX013A"
    title = "hint read by a definition"
    template = "{name} is a hint: it may change how fast results come, not what they are"
    default_hint = "name it in a schedule (visit, skip: list); or drop 'hint' from the signature"


class BooleanContextError(TExprError):
    code = "TX0138"
    title = "expression used as a Python truth value"
    template = (
        "an expression has no truth value while the body runs:"
        " 'if', 'and', 'or', 'not', 'in' and a < b < c cannot use it"
    )
    default_hint = "te.where(condition, a, b) to choose; & | ~ to combine conditions, each in parentheses"


class NotIterableError(TExprError):
    code = "TX0139"
    title = "expression, tensor or func used as a Python sequence"
    template = "{what} cannot be iterated or unpacked"
    default_hint = (
        "use axes: i, = te.axes(i=...); only tuple reductions (te.argmax, te.reduce on a tuple) give several values"
    )


# ---- TX014x: types


class TypeMixError(TExprError):
    code = "TX0141"
    title = "operands whose types do not mix"
    template = "'{op}' mixes {left} and {right}"
    default_hint = "{fix}"


class OperandTypeError(TExprError):
    code = "TX0142"
    title = "operation that its operand's type does not have"
    template = "'{op}' does not take {found}"
    default_hint = "{fix}"


class LiteralError(TExprError):
    code = "TX0143"
    title = "Python number that does not fit the type"
    template = "{value!r} does not fit {dtype}"
    default_hint = "{fix}"


class ConditionError(TExprError):
    code = "TX0144"
    title = "condition that is not bool"
    template = "{where} must be bool, got {found}"
    default_hint = "compare it: value != 0"


class CastError(TExprError):
    code = "TX0145"
    title = "conversion that does not exist"
    template = "{found} cannot be converted to {dtype}"
    default_hint = "{fix}"


class OperandError(TExprError):
    code = "TX0146"
    title = "object that is not part of the language"
    template = "{what} takes {expected}, got {found}"
    default_hint = "tensors and funcs with indices, axes, te.dim(...), scalars and Python numbers"


class PtxError(TExprError):
    code = "TX0147"
    title = "te.ptx that is not well formed"
    template = "te.ptx: {problem}"
    default_hint = "te.ptx('lop3.b32 $0, $1, $2, $3, 0x96;', a, b, c, dtype='u32', reference=lambda a, b, c: a ^ b ^ c)"


class ExternError(TExprError):
    code = "TX0148"
    title = "te.extern or its call that does not fit"
    template = "extern {name}: {problem}"
    default_hint = "its signature is '{signature}'"


class OpError(TExprError):
    code = "TX014B"
    title = "te.op or its call that does not fit"
    template = "op {name} {problem}"
    default_hint = (
        "te.op('popcount', 'popc.b32 $0, $1;', operands=['u32'], dtype='u32', reference=np.bitwise_count, exact=True)"
    )


class GluonOpError(TExprError):
    code = "TX014A"
    title = "te.gluon_op or its call that does not fit"
    template = "gluon_op {name} {problem}"
    default_hint = "its signature is '{signature}'"


class UndeclaredErrorError(TExprError):
    code = "TX0149"
    title = "user's code whose error is not declared"
    template = "{what} {problem}"
    default_hint = "exact=True, ulps=1, or error=lambda values, bounds: ..."


# ---- TX015x: definitions


class LeftIndexError(TExprError):
    code = "TX0151"
    title = "left-hand index that is not an axis"
    template = "index {position} on the left of {name}[...] = is {found}, not an axis"
    default_hint = "define every point: {name}[i, j] = ..., with axes from te.axes; boundary cases belong in te.where"


class RepeatedAxisError(TExprError):
    code = "TX0152"
    title = "axis twice on the left"
    template = "axis '{axis}' stands twice on the left of {name}[...] ="
    default_hint = "use a second axis of the same extent, and te.where(i == j, ...) for a diagonal"


class ExtentMismatchError(TExprError):
    code = "TX0153"
    title = "axis whose extent is not the output's dim"
    template = "axis '{axis}' has extent {extent}, but dim {position} of {name} is {dim}"
    default_hint = "te.axes({axis}='{dim}')"


class InputWriteError(TExprError):
    code = "TX0154"
    title = "write to an input"
    template = "{name} is an input and cannot be defined"
    default_hint = "name an output after '->' in the signature, or a func: te.func('{name}2')"


class DefinedTwiceError(TExprError):
    code = "TX0155"
    title = "func defined twice"
    template = "{name} is already defined at {first}"
    default_hint = "one definition covers all points: use te.where for cases, or a second func"


class ReadBeforeDefinitionError(TExprError):
    code = "TX0156"
    title = "func read before its definition"
    template = "{name} is read before it is defined"
    default_hint = "move its definition up; a func that needs itself is a scan, which comes later"


class SelfReadError(TExprError):
    code = "TX0157"
    title = "func that reads itself"
    template = "{name} reads itself, which makes the definition cyclic"
    default_hint = "use a reduction (te.sum, te.max, te.reduce) over an axis, or a second func"


class OutputUndefinedError(TExprError):
    code = "TX0158"
    title = "output that is never defined"
    template = "output {name} is never defined"
    default_hint = "{name}[{axes}] = ..."


class NeverDefinedError(TExprError):
    code = "TX0159"
    title = "func that is declared but never defined"
    template = "func {name} is declared but never defined"
    default_hint = "define it, or delete te.func('{name}')"


class FreeAxisError(TExprError):
    code = "TX015A"
    title = "axis neither on the left nor reduced"
    template = "axis '{axis}' is used in the definition of {name} but is neither on the left nor reduced"
    default_hint = "put it on the left, {name}[..., {axis}], or reduce it: te.sum(..., over={axis})"


class DefinitionTypeError(TExprError):
    code = "TX015B"
    title = "value whose type does not convert to the func's"
    template = "{name} has type {dtype}, its definition has {found}"
    default_hint = "convert explicitly: (...).to('{dtype}')"


class TupleDefinitionError(TExprError):
    code = "TX015C"
    title = "tuple definition over different axes"
    template = "{name} must have the axes of {first} in the same order: both are one tuple definition"
    default_hint = "v[i], a[i] = te.argmax(..., over=j)"


# ---- TX016x: reductions


class RaggedAxisError(TExprError):
    code = "TX0164"
    title = "ragged axis that has no groups"
    template = "ragged axis {axis}: {problem}"


class ReductionAxisError(TExprError):
    code = "TX0161"
    title = "reduction axis that is wrong"
    template = "{op} over axis '{axis}': {problem}"
    default_hint = "{fix}"


class ReductionError(TExprError):
    code = "TX0162"
    title = "reduction that is not well formed"
    template = "{op}: {problem}"
    default_hint = "te.sum(x[i, j], over=j), te.reduce('or', x[i, j], over=j)"


class NotAssociativeError(TExprError):
    code = "TX0163"
    title = "monoid that is not one"
    template = "te.monoid is not {law}: {evidence}"
    default_hint = "combine must be associative with the given identity, because reductions are reordered"


# ---- TX017x: bounds


class OutOfRangeError(TExprError):
    code = "TX0171"
    title = "read that may leave its source"
    template = "read of {name}: index {position}, {index}, {verdict} 0 .. {extent}"
    default_hint = "{fix}"


class EmptySourceError(TExprError):
    code = "TX0173"
    title = "boundary of a source that may be empty"
    template = "read of {name}: an empty one has no element to take instead, and {extent} >= 1 is not proved"
    default_hint = "require=['{extent} >= 1']; or {name}.padded(0)[...]"


class BoundaryError(TExprError):
    code = "TX0172"
    title = "boundary that cannot be used"
    template = "{name}: {problem}"
    default_hint = "x.padded(0)[...], with a Python number"


# ---- TX018x: the reference


class ReferenceArgumentError(TExprError):
    code = "TX0181"
    title = "argument of a reference call that does not fit"
    template = "{name}: {problem}"


class ReferenceRangeError(TExprError):
    code = "TX0182"
    title = "integer read out of range during a reference call"
    template = "{name} is read at index {index} of dim {position}, which has {extent} elements"
    default_hint = "guard the read with where= or te.where, or give the source a boundary"


class ReferenceResultError(TExprError):
    code = "TX0183"
    title = "reference function that returns something else than it should"
    template = "the reference of {what} returns {found}, not {expected}"
    default_hint = "return {expected}"
