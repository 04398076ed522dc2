"""Mistakes in a schedule that can be seen without the algorithm: codes TX0201 to TX0299."""

from __future__ import annotations

from typing import ClassVar

from texpr.errors import TExprError


class ScheduleError(TExprError):
    """Base of the mistakes found while a schedule is read."""


class ScheduleSyntax(ScheduleError):
    code: ClassVar[str] = "TX0201"
    title: ClassVar[str] = "YAML that cannot be read"
    template: ClassVar[str] = "cannot read this YAML: {problem}"
    default_hint: ClassVar[str] = "{remedy}"


class WrongShape(ScheduleError):
    code: ClassVar[str] = "TX0202"
    title: ClassVar[str] = "wrong kind of value"
    template: ClassVar[str] = "{subject} takes {expected}, and this is {found}"
    default_hint: ClassVar[str] = "{example}"


class UnknownKey(ScheduleError):
    code: ClassVar[str] = "TX0203"
    title: ClassVar[str] = "unknown key"
    template: ClassVar[str] = "{owner} has no key {key!r}"
    default_hint: ClassVar[str] = "{remedy}"


class MissingKey(ScheduleError):
    code: ClassVar[str] = "TX0204"
    title: ClassVar[str] = "missing key"
    template: ClassVar[str] = "{owner} needs the key {key!r}"
    default_hint: ClassVar[str] = "{key}: {example}"


class DuplicateKey(ScheduleError):
    code: ClassVar[str] = "TX0205"
    title: ClassVar[str] = "key given twice"
    template: ClassVar[str] = "the key {key!r} is given twice (first in line {first})"
    default_hint: ClassVar[str] = "keep one of the two"


class DuplicateName(ScheduleError):
    code: ClassVar[str] = "TX0206"
    title: ClassVar[str] = "name used twice"
    template: ClassVar[str] = "{subject} names {name!r} twice"
    default_hint: ClassVar[str] = "{remedy}"


class NotPowerOfTwo(ScheduleError):
    code: ClassVar[str] = "TX0207"
    title: ClassVar[str] = "not a power of two"
    template: ClassVar[str] = "{subject} must be {kind}, and {value} is not"
    default_hint: ClassVar[str] = "{remedy}"


class OutOfRange(ScheduleError):
    code: ClassVar[str] = "TX0208"
    title: ClassVar[str] = "number out of range"
    template: ClassVar[str] = "{subject} must be {limits}, and this is {value}"
    default_hint: ClassVar[str] = "{remedy}"


class UnknownWord(ScheduleError):
    code: ClassVar[str] = "TX0209"
    title: ClassVar[str] = "unknown word"
    template: ClassVar[str] = "{subject} takes one of {words}, and this is {word!r}"
    default_hint: ClassVar[str] = "{remedy}"


class NotLoweredYet(ScheduleError):
    code: ClassVar[str] = "TX0210"
    title: ClassVar[str] = "not lowered yet"
    template: ClassVar[str] = "{directive} is not lowered yet"
    default_hint: ClassVar[str] = "{remedy}"


class BadName(ScheduleError):
    code: ClassVar[str] = "TX0211"
    title: ClassVar[str] = "not a name"
    template: ClassVar[str] = "{text!r} cannot be {what}: {reason}"
    default_hint: ClassVar[str] = "{remedy}"


class BadPosition(ScheduleError):
    code: ClassVar[str] = "TX0212"
    title: ClassVar[str] = "not a position"
    template: ClassVar[str] = "{text!r} is no position in a loop nest"
    default_hint: ClassVar[str] = "{remedy}"


class UnknownTarget(ScheduleError):
    code: ClassVar[str] = "TX0213"
    title: ClassVar[str] = "unknown target"
    template: ClassVar[str] = "{name!r} is no target; known are {known}"
    default_hint: ClassVar[str] = "{remedy}"


class UnknownType(ScheduleError):
    code: ClassVar[str] = "TX0214"
    title: ClassVar[str] = "unknown element type"
    template: ClassVar[str] = "{name!r} is no element type; known are {known}"
    default_hint: ClassVar[str] = "{remedy}"


class BadAssumption(ScheduleError):
    code: ClassVar[str] = "TX0215"
    title: ClassVar[str] = "unknown assumption"
    template: ClassVar[str] = "{text!r} is no assumption that a schedule can make"
    default_hint: ClassVar[str] = "finite(x), for an input x"


class NothingThere(ScheduleError):
    code: ClassVar[str] = "TX0216"
    title: ClassVar[str] = "empty list"
    template: ClassVar[str] = "{subject} is empty"
    default_hint: ClassVar[str] = "{example}"


class AxisTwice(ScheduleError):
    code: ClassVar[str] = "TX0217"
    title: ClassVar[str] = "axis covered twice"
    template: ClassVar[str] = "axis {axis} is both in {first} and in {second}"
    default_hint: ClassVar[str] = "{remedy}"


class BadOrder(ScheduleError):
    code: ClassVar[str] = "TX0218"
    title: ClassVar[str] = "bad tile order"
    template: ClassVar[str] = "{problem}"
    default_hint: ClassVar[str] = "{remedy}"


class MapTooLarge(ScheduleError):
    code: ClassVar[str] = "TX0220"
    title: ClassVar[str] = "map asks for more threads than there are"
    template: ClassVar[str] = "map spreads its axes over {product} {what}, and there are {available}"
    default_hint: ClassVar[str] = "{remedy}"


class NoBound(ScheduleError):
    code: ClassVar[str] = "TX0221"
    title: ClassVar[str] = "launch-time number without a bound"
    template: ClassVar[str] = "{subject} is {value}, known only at launch, and has no bound"
    default_hint: ClassVar[str] = '{{value: "{value}", max: 64}}'


class CopyNeedsShared(ScheduleError):
    code: ClassVar[str] = "TX0222"
    title: ClassVar[str] = "asynchronous copy into registers"
    template: ClassVar[str] = "copy: {copy} fills shared memory, and this tile is in {memory}"
    default_hint: ClassVar[str] = "in: shared, or copy: sync"


class NeverTrue(ScheduleError):
    code: ClassVar[str] = "TX0223"
    title: ClassVar[str] = "guard that never holds"
    template: ClassVar[str] = "the guard of variant {name} never holds"
    default_hint: ClassVar[str] = "leave the variant out, or correct its guard"


class WrittenTwice(ScheduleError):
    code: ClassVar[str] = "TX0224"
    title: ClassVar[str] = "written by two kernels"
    template: ClassVar[str] = "{name} is written by kernel {first} and again by kernel {second}"
    default_hint: ClassVar[str] = "write {name} in one of them"


class LikeUnknown(ScheduleError):
    code: ClassVar[str] = "TX0230"
    title: ClassVar[str] = "like names no earlier kernel"
    template: ClassVar[str] = "kernel {kernel} is like {name}, which is no earlier kernel of its variant"
    default_hint: ClassVar[str] = "kernels before it: {choices}"


class CannotRead(ScheduleError):
    code: ClassVar[str] = "TX0225"
    title: ClassVar[str] = "schedule cannot be read"
    template: ClassVar[str] = "cannot read the schedule {file}: {problem}"
    default_hint: ClassVar[str] = "check the path"
