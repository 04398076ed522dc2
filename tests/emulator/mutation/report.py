"""The report: what became of the mutants, by kernel class and kind, development kernels and held-out ones apart."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.emulator.mutation.engine import KINDS, How

Record = Mapping[str, Any]
Tally = Counter[How]

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "barriers": ("barrier removed", "barrier arrival", "warp barrier"),
    "cp.async waits": ("cp.async wait", "cp.async commit", "cp.async arrival"),
    "mbarriers": ("mbarrier", "expect"),
    "fences": ("initialisation fence", "proxy fence", "memory fence", "wgmma fence"),
    "wgmma, bulk waits": ("wgmma commit", "wgmma wait", "bulk commit", "bulk wait"),
    "masks": ("load mask", "store mask", "atomic mask", "cp.async mask", "bulk copy mask"),
    "bounds": ("bound off",),
    "data, stages": ("shared store", "cp.async removed", "bulk copy removed", "stages", "ring slot"),
    "atomics": ("atomic made", "atomic removed"),
    "order, scope": ("memory order", "scope"),
    "shuffles": ("shuffle",),
}
_NOTICED: Final = (How.FAULT.value, How.RESULT.value)
_PARTS: Final = (("Development", False), ("Held out", True))


def family_of(kind: str) -> str:
    """The family that a kind of mutation belongs to."""
    return next(family for family, prefixes in FAMILIES.items() if kind.startswith(prefixes))


def facts() -> dict[str, str]:
    """When and with what the report was made; `+` behind the commit: files differed from it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": (commit.stdout.strip() or "unknown") + ("+" if dirty.stdout.strip() else ""),
        "python": platform.python_version(),
    }


def tally(mutants: Iterable[Record]) -> Tally:
    return Counter(How(mutant["how"]) for mutant in mutants)


def _mutants(records: Iterable[Record], held_out: bool) -> list[Record]:
    return [
        {**mutant, "class": record["class"], "subject": record["name"]}
        for record in records
        if record["held_out"] == held_out
        for mutant in record["mutants"]
    ]


def compact(record: Record) -> dict[str, Any]:
    """A kernel's results as they are kept: of mutants that were noticed only how, of the others everything."""
    short = ("kind", "line", "how", "detail", "seed", "further")
    mutants = []
    for mutant in record["mutants"]:
        noticed = mutant["how"] in _NOTICED
        kept = {name: mutant[name] for name in (short if noticed else mutant)}
        if mutant["how"] == How.RESULT.value:
            kept["detail"] = ""
        mutants.append({name: value for name, value in kept.items() if value not in (None, "", False)})
    return {**record, "mutants": mutants}


def markdown(records: Sequence[Record], missing: Sequence[str]) -> str:
    """The tables and lists of docs/mutation.md; `missing` are the kernels that did not run."""
    made = sorted({(record["made"]["date"], record["made"]["commit"]) for record in records})
    parts = ["Made " + ", ".join(f"on {date} at commit `{commit}`" for date, commit in made) + ".", ""]
    parts += _false_alarms(records)
    if missing:
        parts += ["", f"{len(missing)} kernels have not run since they were last changed: {', '.join(missing)}."]
    parts += ["", "### Totals", "", *_totals(records)]
    for title, held_out in _PARTS:
        mutants = _mutants(records, held_out)
        parts += ["", f"### {title}: by class and family", "", *_matrix(mutants)]
        parts += ["", f"### {title}: by kind", "", *_by_kind(mutants)]
    parts += ["", "### Equivalent, and why", "", *_reasons(records)]
    for title, held_out in _PARTS:
        parts += ["", f"### {title}: survivors", "", *_survivors(_mutants(records, held_out))]
    return "\n".join(parts) + "\n"


def _false_alarms(records: Sequence[Record]) -> list[str]:
    alarms = [record for record in records if record["failure"]]
    runs = sum(record.get("clean_runs", 0) for record in records)
    if not alarms:
        return [f"{len(records)} kernels, {runs} runs of them unmutated: no false alarm."]
    return [f"**Not clean, or not run:** {', '.join(record['name'] for record in alarms)}."]


_HEAD: Final = "| | mutants | fault | wrong result | equivalent | never differs | survived |"
_RULE: Final = "|---|---:|---:|---:|---:|---:|---:|"


def _line(name: str, counts: Tally) -> str:
    cells = [str(counts[how] or "") for how in How]
    return f"| {name} | {counts.total()} | " + " | ".join(cells) + " |"


def _totals(records: Sequence[Record]) -> list[str]:
    lines = [_HEAD, _RULE]
    for title, held_out in _PARTS:
        mutants = _mutants(records, held_out)
        lines.append(_line(title, tally(mutants)))
    everything = [mutant for _, held_out in _PARTS for mutant in _mutants(records, held_out)]
    noticed = [mutant for mutant in everything if mutant["how"] in _NOTICED]
    ways: list[tuple[str, Callable[[Record], bool]]] = [
        ("in lockstep, with calls that `texpr check` chooses", lambda m: "seed" not in m and "further" not in m),
        ("in lockstep, only with further sizes", lambda m: "seed" not in m and "further" in m),
        ("only under a random schedule", lambda m: "seed" in m),
    ]
    lines += ["", f"Of the {len(noticed)} that were noticed:", ""]
    lines += [f"- {name}: {sum(map(holds, noticed))}" for name, holds in ways]
    return lines


def _matrix(mutants: Sequence[Record]) -> list[str]:
    """Per class and family, noticed mutants of those that some call could tell from the kernel."""
    classes = list(dict.fromkeys(mutant["class"] for mutant in mutants))
    lines = ["| | " + " | ".join(FAMILIES) + " |", "|---|" + "---:|" * len(FAMILIES)]
    for kernel_class in classes:
        cells = []
        for family in FAMILIES:
            counts = tally(m for m in mutants if m["class"] == kernel_class and family_of(m["kind"]) == family)
            noticed = counts[How.FAULT] + counts[How.RESULT]
            open_ones = noticed + counts[How.SURVIVED]
            cells.append(f"{noticed}/{open_ones}" if counts.total() else "")
        lines.append(f"| {kernel_class} | " + " | ".join(cells) + " |")
    return lines


def _by_kind(mutants: Sequence[Record]) -> list[str]:
    lines = [_HEAD, _RULE]
    for kind in KINDS:
        counts = tally(mutant for mutant in mutants if mutant["kind"] == kind)
        if counts.total():
            lines.append(_line(kind, counts))
    return lines


def _reasons(records: Sequence[Record]) -> list[str]:
    lines = ["| reason | development | held out |", "|---|---:|---:|"]
    counts = [
        Counter(m.get("detail", "") for m in _mutants(records, held_out) if m["how"] == How.EQUIVALENT.value)
        for _, held_out in _PARTS
    ]
    for reason in sorted(set(counts[0]) | set(counts[1])):
        lines.append(f"| {reason} | {counts[0][reason] or ''} | {counts[1][reason] or ''} |")
    return lines


def _survivors(mutants: Sequence[Record]) -> list[str]:
    lines = []
    for m in mutants:
        if m["how"] == How.SURVIVED.value:
            edit = f"`{m['statement'][:90]}` {m.get('description', '')}"
            lines.append(f"- {m['subject']}: {m['kind']}, line {m['line']}: {edit} ({m['detail']})")
    return lines or ["None."]
