"""Schedules: how an algorithm is computed.

In: YAML text or Python calls. Out: ``Schedule``, frozen records keyed by names (``records.py``), each with its place.
Invariant: whatever leaves this folder satisfies every rule that can be seen without the algorithm; a directive that is
unknown or not lowered yet is refused with its line, never ignored; ``load_schedule(dump_schedule(s)) == s``.
"""

from texpr.schedule.builder import each_kernel, edit, kernel, mma, place, schedule, stage, variant
from texpr.schedule.files import dump_schedule, load_schedule
from texpr.schedule.jsonschema import json_schema
from texpr.schedule.reference import reference_markdown

__all__ = [
    "dump_schedule",
    "each_kernel",
    "edit",
    "json_schema",
    "kernel",
    "load_schedule",
    "mma",
    "place",
    "reference_markdown",
    "schedule",
    "stage",
    "variant",
]
