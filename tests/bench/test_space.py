"""Schedules whose scalars are lists, and the choice among them by their times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.measure.questions import Own
from bench.sweep.best import write_best
from bench.sweep.casefile import CaseFile, read_cases
from bench.sweep.space import Candidate, expand, prune
from bench.sweep.yaml_lines import BenchError
from tests.bench.fakes import contestant, question, result
from texpr.compile import chosen_targets, load_algorithm, package_of
from texpr.errors import TExprError
from texpr.packing.sources import find_sources
from texpr.schedule.files import load_schedule

ROOT = Path(__file__).parents[2]
SPACE = """\
# sizes to try
texpr: 1
algorithm: copy
variants:
- name: all
  target: [sm_80, sm_90a]                        # a list that is a list
  kernels:
  - name: copy
    writes: [y]
    grid: {i: [1, 4], j: [64, 48]}
    warps: [2, 4]                                # and choices
"""


def space(folder: Path, text: str = SPACE) -> Path:
    (folder / "space.yaml").write_text(text)
    return folder / "space.yaml"


def test_every_choice_is_a_schedule_with_the_comments_of_the_file(tmp_path: Path) -> None:
    found = expand(space(tmp_path))
    assert len(found) == 8
    assert found[0].label == "i=1 j=64 warps=2"
    assert "grid: {i: 4, j: 48}" in found[-1].text and "warps: 4                                # and" in found[-1].text
    assert all("target: [sm_80, sm_90a]" in each.text for each in found)


def test_places_that_share_an_anchor_share_the_choice(tmp_path: Path) -> None:
    text = SPACE.replace("i: [1, 4], j: [64, 48]", "i: &size [8, 16], j: *size")
    found = expand(space(tmp_path, text))
    assert [each.label for each in found] == [f"i={i} warps={w}" for i in (8, 16) for w in (2, 4)]
    assert "grid: {i: 16, j: 16}" in found[-1].text


def test_illegal_schedules_are_left_out_and_counted(tmp_path: Path) -> None:
    definition = load_algorithm(f"{ROOT}/kernels/movement.py:copy")

    def legal(candidate: Candidate) -> None:
        record = load_schedule(candidate.text)
        names = chosen_targets(record, ["sm_80"])
        package_of(definition, record, names, {"T": "f16"}, {}, with_example=False)

    pruned = prune(expand(space(tmp_path)), legal)
    assert [each.label for each in pruned.kept] == [f"i={i} j=64 warps={w}" for i in (1, 4) for w in (2, 4)]
    ((code, count, example),) = pruned.refused
    assert count == 4 and "48" in example
    assert f"8 schedules, 4 are legal\n  4 x {code}" in pruned.text("space")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[2, 4]", "[]", "space.yaml:11: variants[all].kernels[copy].warps: choices are one value or more"),
        ("[2, 4]", "[2, [4]]", "space.yaml:11: variants[all].kernels[copy].warps: choices are one value or more"),
        ("[2, 4]", "[2, 2]", "space.yaml:11: variants[all].kernels[copy].warps: a choice stands here twice"),
        ("warps: [2, 4]", "warps:\n    - 2", "write the choices on one line"),
        ("texpr: 1", "texpr: [1", "space.yaml:"),
    ],
)
def test_mistakes_in_a_space(tmp_path: Path, old: str, new: str, error: str) -> None:
    with pytest.raises(BenchError) as caught:
        expand(space(tmp_path, SPACE.replace(old, new, 1)))
    assert error in str(caught.value)


def test_a_space_without_end_is_refused(tmp_path: Path) -> None:
    many = ", ".join(str(n) for n in range(1, 70))
    with pytest.raises(BenchError, match=r"9522 schedules, at most 4096"):
        expand(space(tmp_path, SPACE.replace("i: [1, 4]", f"i: [{many}]").replace("j: [64, 48]", f"j: [{many}]")))


# ---- the best


def measured(folder: Path, times: dict[str, list[float]], **more: Any) -> Path:
    """A result of two questions; ``times`` are those of each schedule in both."""
    own = tuple(Own(label, (), f"# of the space\ntexpr: 1\n# {label}\n") for label in times)
    answers = []
    for number in range(2):
        entrants: dict[str, Any] = {
            label: contestant([found[number]] * 5, own=True) for label, found in times.items() if found[number]
        }
        entrants["torch"] = contestant([12.0] * 5)
        answers.append((question(f"case/f16/{number}", own=own), entrants))
    path = folder / "result.json"
    path.write_text(json.dumps(result(answers, **more)))
    return path


def test_the_best_is_good_at_all_sizes(tmp_path: Path) -> None:
    times = {"a": [10.0, 40.0], "b": [12.0, 21.0], "c": [24.0, 10.0], "d": [1.0, 0.0]}
    text = write_best(measured(tmp_path, times), "case", "")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert text.endswith("texpr: 1\n# c\n") and "# of the space" not in text, "d did not answer everything"
    assert "Best of 3 schedules on GPU 1, driver 580.1, 2026-11-21, commit c0ffeec0ffee" in head[1]
    assert head[2] == "# Second: b (1.025 times)"
    assert head[3] == "# case/f16/0: 24.00 us (ratios: torch 0.500)"


def test_what_chooses_nothing(tmp_path: Path) -> None:
    times = {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    with pytest.raises(BenchError, match="the emulator's times choose nothing"):
        write_best(measured(tmp_path, times, measurement=False), "case", "")
    with pytest.raises(BenchError, match="no answers of the case other; there are case"):
        write_best(measured(tmp_path, times), "other", "")
    with pytest.raises(BenchError, match="there is nothing to choose"):
        write_best(measured(tmp_path, {"a": [1.0, 1.0]}), "case", "")


def test_a_list_of_what_is_short_for_a_record_is_a_choice(tmp_path: Path) -> None:
    text = SPACE.replace("warps: [2, 4]", "persistent: {programs: [2, 4]}")
    assert [each.label for each in expand(space(tmp_path, text))][:2] == ["i=1 j=64 programs=2", "i=1 j=64 programs=4"]


SPACES = [case for case in read_cases(ROOT / "bench" / "cases") if case.space is not None]


@pytest.mark.parametrize("case", SPACES, ids=lambda case: case.name)
def test_every_space_of_the_repository_has_a_legal_schedule(case: CaseFile) -> None:
    assert case.space is not None
    (source,) = find_sources([case.kernel], ROOT / "kernels")
    statics = dict(case.statics[0])
    refused = []
    for candidate in expand(case.space):
        record = load_schedule(candidate.text)
        try:
            names = chosen_targets(record, list(case.targets) or None)
            package_of(source.definition, record, names, dict(case.types[0]), statics, with_example=False)
        except TExprError as error:
            refused.append(f"{candidate.label}: {error}")
        else:
            return
    pytest.fail("\n".join(refused))
