"""``python -m bench report``: a Markdown summary of results, with a table per case and, if wanted, plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.measure.statistics import Summary
from bench.sweep.result_files import Answer, Entrant, Result, read_results

NOTHING: Final = "Nothing has been measured yet. A pack that is ready to run is described in [README.md](README.md).\n"
_DRIFTING: Final = 0.03
_SPREAD: Final = 0.10
_HEAD: Final = """\
# Measurements

Written by `python -m bench report`. Times are medians in microseconds; a ratio is the peer's time over ours, the
median over rounds in which all were timed one after the other, so above 1 ours is faster. The limit is the larger of
bytes over the rate of a copy and operations over the rate of a matrix product, both measured in the same run.
"""
_NOT_MEASURED: Final = """\
**These are not measurements**: they come from the emulator, whose times say nothing about a GPU.
"""


def write_report(files: Sequence[Path], plots: Path | None, out: Path | None) -> str:
    """The summary; written to ``out`` as well, if there is one. Raises BenchError."""
    results = read_results(files)
    pictures = {}
    if plots is not None:
        from bench.sweep.plots import draw

        pictures = draw(results, plots)
    text = summary_text(results, {} if out is None else {k: _beside(v, out) for k, v in pictures.items()})
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    return text


def _beside(path: Path, out: Path) -> str:
    try:
        return path.resolve().relative_to(out.resolve().parent).as_posix()
    except ValueError:
        return path.as_posix()


def summary_text(results: Sequence[Result], pictures: dict[str, str] | None = None) -> str:
    """``pictures`` are links to plots by case."""
    parts = [_HEAD]
    if not any(result.answers for result in results):
        return "\n".join([*parts, NOTHING])
    if not all(result.measurement for result in results):
        parts.append(_NOT_MEASURED)
    for result in results:
        parts += [_circumstances(result), _goals(result)]
        for case in dict.fromkeys(answer.question.case for answer in result.answers):
            answers = [answer for answer in result.answers if answer.question.case == case]
            parts.append(_table(result, answers))
            if pictures and case in pictures:
                parts.append(f"![{case}]({pictures[case]})\n")
    return "\n".join(parts)


def _circumstances(result: Result) -> str:
    run, device = result.run, result.run["device"]
    smi = device.get("nvidia_smi") or {}
    copy = run["limits"]["copy"]["per_second"] / 1e12
    facts = [
        f"{run['time'][:10]}, commit {run['commit'][:12]}",
        f"compute capability {device['capability'] / 10:.1f}",
    ]
    if smi:
        clocks = f"{smi.get('clocks.sm')} of {smi.get('clocks.max.sm')}, memory {smi.get('clocks.mem')}"
        facts += [f"driver {smi.get('driver_version')}", f"clocks {clocks}"]
    facts.append(f"copy {copy:.3g} TB/s")
    for unit, found in run["limits"]["matmul"].items():
        if "per_second" in found:
            facts.append(f"{unit} product {found['per_second'] / 1e12:.0f} TFLOP/s")
    lines = [f"## {result.device}", "", "; ".join(facts) + ".", ""]
    if run["peers"]:
        lines += ["Peers: " + "; ".join(f"{name} {version}" for name, version in run["peers"].items()) + ".", ""]
    lines += [f"Absent: {name} ({why})." for name, why in run["absent"].items()]
    return "\n".join(lines) + "\n"


def _goals(result: Result) -> str:
    """A line per goal: met or not, or why that is not known."""
    rows = [("question", "goal", "found", "")]
    for answer in result.answers:
        goal = answer.question.goal
        if goal is None:
            continue
        found = goal_ratio(answer)
        wanted = f"{goal.ratio:g} x {' / '.join(goal.against)}"
        if found is None:
            rows.append((answer.question.id, wanted, "-", _why_no_ratio(answer)))
        else:
            rows.append((answer.question.id, wanted, _ratio(found), "met" if found.median >= goal.ratio else "not met"))
    return _markdown(rows) if len(rows) > 1 else ""


def goal_ratio(answer: Answer) -> Summary | None:
    """Our ratio to the fastest of the peers that the goal names; None unless one of them has a time."""
    assert answer.question.goal is not None
    named = [each for each in answer.peers() if each.name in answer.question.goal.against]
    found = [ratio for each in named if (ratio := answer.ratio_to(each)) is not None]
    return min(found, key=lambda each: each.median, default=None)


def _why_no_ratio(answer: Answer) -> str:
    if answer.trouble:
        return answer.trouble
    if answer.ours() is None:
        whys = [each.why for each in answer.entrants if each.own and each.why]
        return f"ours: {whys[0] if whys else 'no time'}"
    return "; ".join(f"{each.name}: {_why(each)}" for each in answer.peers()) or "no peer"


def _why(entrant: Entrant) -> str:
    if entrant.agrees is False:
        return "other results"
    return "absent" if entrant.absent else entrant.why or "no time"


def _table(result: Result, answers: Sequence[Answer]) -> str:
    names = list(dict.fromkeys(each.name for answer in answers for each in answer.peers()))
    rows: list[tuple[str, ...]] = [("question", "ours", "of limit", *names)]
    for answer in answers:
        ours = answer.ours()
        if ours is None:
            blank = [""] * (len(names) + 1)
            rows.append((answer.question.id, _why_no_ratio(answer), *blank))
            continue
        peers = {each.name: each for each in answer.peers()}
        cells = [_peer_cell(answer, peers.get(name)) for name in names]
        several = sum(each.own for each in answer.entrants) > 1
        name = f"{answer.question.id} ({ours.name})" if several else answer.question.id
        rows.append((name, _time(ours), _of_limit(result, answer, ours), *cells))
    title = answers[0].question.title
    return f"### {title[:1].upper()}{title[1:]}\n\n{_markdown(rows)}{_marks(answers)}"


def _of_limit(result: Result, answer: Answer, ours: Entrant) -> str:
    limit = result.limit(answer.question)
    return "-" if limit is None else f"{100 * limit / ours.time.median:.0f} %"


def _peer_cell(answer: Answer, peer: Entrant | None) -> str:
    if peer is None:
        return ""
    found = answer.ratio_to(peer)
    return _why(peer) if found is None else _ratio(found) + _mark(peer)


def _time(entrant: Entrant) -> str:
    return f"{entrant.time.median:.2f}{_mark(entrant)}"


def _ratio(found: Summary) -> str:
    return f"{found.median:.3f} ({found.low:.3f}-{found.high:.3f})"


def _mark(entrant: Entrant) -> str:
    marks = "~" if abs(entrant.drift) > _DRIFTING else ""
    marks += "*" if entrant.time.spread > _SPREAD else ""
    return marks + ("" if entrant.graph else "^")


def _marks(answers: Sequence[Answer]) -> str:
    """What the marks in a table mean, as far as it has any."""
    used = {mark for answer in answers for each in answer.entrants if each.samples for mark in _mark(each)}
    texts = {
        "~": f"~ times drifted by more than {100 * _DRIFTING:.0f} %",
        "*": f"* 10 to 90 % of the samples lie further apart than {100 * _SPREAD:.0f} % of the median",
        "^": "^ could not be put into a graph: calls one by one",
    }
    return "" if not used else "\n" + "; ".join(text for mark, text in texts.items() if mark in used) + ".\n"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"
