"""Plots of results: per case the ratio of each peer's time to ours, with its spread. Needs matplotlib."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.sweep.result_files import Answer, Result
from bench.sweep.yaml_lines import BenchError


def draw(results: Sequence[Result], folder: Path) -> dict[str, Path]:
    """One SVG file per case; the files by case. Raises BenchError without matplotlib."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("svg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise BenchError(f"plots need matplotlib: {error} (pip install 'texpr[bench]')") from None
    matplotlib.rcParams["svg.hashsalt"] = "texpr"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for result in results:
        for case in dict.fromkeys(answer.question.case for answer in result.answers):
            answers = [each for each in result.answers if each.question.case == case and each.ours() is not None]
            path = folder / f"{result.file.stem}-{case}.svg"
            if _draw(pyplot, result, answers, path):
                found[case] = path
    return found


def _draw(pyplot: Any, result: Result, answers: Sequence[Answer], path: Path) -> bool:
    """Bars of ratios; whether there are any."""
    bars = [
        (answer.question.id, peer.name, ratio)
        for answer in answers
        for peer in answer.peers()
        if (ratio := answer.ratio_to(peer)) is not None
    ]
    if not bars:
        return False
    names = list(dict.fromkeys(name for _, name, _ in bars))
    rows = list(dict.fromkeys(question for question, _, _ in bars))
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.28 * len(rows) * max(len(names), 1)))
    height = 0.8 / len(names)
    for number, name in enumerate(names):
        mine = [(rows.index(question), ratio) for question, peer, ratio in bars if peer == name]
        places = [row + (number - (len(names) - 1) / 2) * height for row, _ in mine]
        middles = [ratio.median for _, ratio in mine]
        spread = [[r.median - r.low for _, r in mine], [r.high - r.median for _, r in mine]]
        axes.barh(places, middles, height, xerr=spread, label=name)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), rows, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("time of the peer / our time" + ("" if result.measurement else " (emulator: not a measurement)"))
    axes.set_title(f"{answers[0].question.title} on {result.device}", fontsize=9)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return True
