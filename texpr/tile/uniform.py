"""Statements that find an integer which is the same for all threads, from other such integers."""

from __future__ import annotations

from dataclasses import dataclass

from texpr.math.expr import IntExpr


@dataclass(frozen=True, slots=True)
class Scalar:
    """``name = value``: a uniform integer with a name, i32."""

    name: str
    value: IntExpr
    note: str = ""


@dataclass(frozen=True, slots=True)
class ProgramId:
    """``name`` = the index of this program."""

    name: str


@dataclass(frozen=True, slots=True)
class FindGroup:
    """``name`` = the last group e < ``groups`` with ``offsets[e] // size + e <= slot``: i32, found by bisection."""

    name: str
    offsets: str
    groups: IntExpr
    slot: IntExpr
    size: int
    note: str = ""
