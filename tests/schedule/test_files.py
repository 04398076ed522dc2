"""YAML text to records and back."""

from __future__ import annotations

import random

import pytest

from tests.schedule.random_schedules import random_schedule
from texpr.errors import TExprError
from texpr.schedule import dump_schedule, load_schedule
from texpr.schedule.base import Map, Spelling
from texpr.schedule.encode import to_plain
from texpr.schedule.errors import CannotRead, DuplicateKey, ScheduleError, ScheduleSyntax
from texpr.schedule.places import Mma
from texpr.schedule.records import Persistent, Relax
from texpr.schedule.schema import KEYS
from texpr.schedule.words import LoopOf, Memory, MmaOp, RelaxKind

HEADER = "texpr: 1\nalgorithm: a\nvariants:\n- name: any\n  target: sm_80\n"


def load_kernel(directives: str):
    """The one kernel of a schedule whose kernel has these lines besides name and writes."""
    lines = "".join(f"    {line}\n" for line in directives.splitlines())
    text = HEADER + "  kernels:\n  - name: k\n    writes: [y]\n" + lines
    return load_schedule(text, "a.yaml").variants[0].kernels[0]


@pytest.mark.parametrize("seed", range(120))
def test_dumped_text_reads_back_as_the_same_records(seed):
    schedule = random_schedule(seed)
    text = dump_schedule(schedule)
    again = load_schedule(text, "random.yaml")
    assert again == schedule
    assert dump_schedule(again) == text


def test_random_schedules_use_every_key():
    """The property test above is only as good as its inputs."""
    seen = set()

    def walk(value):
        if isinstance(value, dict):
            seen.update(value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    for seed in range(120):
        walk(to_plain(random_schedule(seed)))
    keys = {key.name for record, keys in KEYS.items() for key in keys if record.SPELLING is not Spelling.TAGGED}
    assert keys == seen & keys


def test_names_that_yaml_reads_as_booleans_stay_names():
    kernel = load_kernel("grid: {n: 1, y: 2, no: 4, on: 8, yes: 16, off: 32, true: 64, null: 128}")
    assert list(kernel.grid) == ["n", "y", "no", "on", "yes", "off", "true", "null"]
    assert list(load_kernel("reorder: [y, n, no]").reorder) == ["y", "n", "no"]


def test_every_key_knows_its_line():
    schedule = load_schedule(
        "# a comment\n" + HEADER + "  when: M > 1\n  kernels:\n"
        "  - name: k\n    writes: [y]\n    grid:\n      i: 64\n      j: 32\n"
        "    place:\n      acc: {at: tile, loop: {k: 8}}\n    stage: {x: {at: acc.k, in: shared}}\n",
        "b.yaml",
    )
    variant = schedule.variants[0]
    kernel = variant.kernels[0]
    assert (variant.location.file, variant.location.line) == ("b.yaml", 5)
    assert variant.location_of("when").line == 7
    assert kernel.location.line == 9
    assert kernel.location_of("writes").line == 10
    assert [kernel.grid.location_of(axis).line for axis in kernel.grid] == [12, 13]
    assert kernel.place.location_of("acc").line == 15
    assert kernel.place["acc"].location_of("loop").line == 15
    assert kernel.stage["x"].location.line == 16


def test_places_do_not_matter_for_equality():
    text = dump_schedule(random_schedule(1))
    assert load_schedule(text, "a") == load_schedule("# moved\n\n" + text, "b")


def test_order_of_axes_matters():
    assert load_kernel("grid: {i: 4, j: 8}") != load_kernel("grid: {j: 8, i: 4}")


def test_short_spellings_mean_the_long_ones():
    kernel = load_kernel(
        "persistent: true\nplace:\n  a: {at: tile, mma: fma}\n  b: {at: acc.part.k.part, mma: {rows: i, cols: [j, k]}}"
    )
    assert kernel.persistent == Persistent()
    assert kernel.place["a"].mma == Mma(MmaOp.FMA)
    assert kernel.place["b"].mma == Mma(MmaOp.AUTO, ("i",), ("j", "k"))
    assert kernel.place["b"].at == LoopOf("acc.part", "k.part")
    assert load_kernel("persistent: false").persistent is None
    assert load_kernel("persistent: {}").persistent == Persistent()


def test_a_launch_time_number_is_a_number_a_text_or_both_with_a_bound():
    plain = load_kernel("split_reduction: {of: acc, over: k, parts: 8}").split_reduction.parts
    number = '{value: "2 * sms", max: 64}'
    bounded = load_kernel(f"split_reduction: {{of: acc, over: k, parts: {number}}}").split_reduction.parts
    programs = load_kernel("persistent: {programs: 2 * sms}").persistent.programs
    assert (str(plain.value), plain.max) == ("8", None)
    assert (bounded.value, bounded.max) == (programs.value, 64)


def test_one_name_stands_for_a_list_of_one():
    text = HEADER + "  relax: {rounding: p}\n  kernels: [{name: k, writes: y}]\n"
    variant = load_schedule(text, "a.yaml").variants[0]
    assert variant.relax == (Relax(RelaxKind.ROUNDING, "p"),)
    assert variant.kernels[0].writes == ("y",)


def test_a_target_without_its_suffix_means_the_target():
    text = HEADER.replace("sm_80", "[sm_80, sm_90]") + "  kernels: {name: k, writes: y}\n"
    assert load_schedule(text, "a.yaml").variants[0].target == ("sm_80", "sm_90a")


def test_swizzle_auto_is_the_default():
    assert load_kernel("stage: {x: {at: tile, in: shared, swizzle: auto}}").stage["x"].swizzle is None
    assert load_kernel("stage: {x: {at: tile, in: shared}}").stage["x"].where is Memory.SHARED


def test_missing_maps_are_empty():
    assert load_kernel("").grid == Map()
    assert load_kernel("").place.get("acc") is None


def test_files_are_read_whatever_their_line_ends_and_mark(tmp_path):
    text = dump_schedule(random_schedule(3))
    path = tmp_path / "schedule.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    schedule = load_schedule(path)
    assert schedule == load_schedule(text)
    assert schedule.variants[0].location.file == str(path)
    assert schedule.variants[0].location.line == 4


def test_unreadable_files_say_so(tmp_path):
    with pytest.raises(CannotRead, match="No such file"):
        load_schedule(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CannotRead, match="UTF-8"):
        load_schedule(binary)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("a: &x 1\nb: *x\n", "alias"),
        ("a: &x [*x]\n", "alias"),
        ("a: !!int 1\n", "tags"),
        ("a: !!python/object:os.system x\n", "tags"),
        ("a: 1\n---\nb: 2\n", "document"),
        ("a:\n\t- b\n", "character"),
        ("a: 'b\n", "end of stream"),
        ("[a, b]: c\n", "a list"),
        ("a: \x01\n", "not allowed"),
        ("a: \ud800\n", "Unicode"),
        ("a: " + "[" * 100_000, "nested"),
        ("- " * 100_000, "nested"),
    ],
)
def test_what_is_not_plain_yaml_is_a_syntax_error(text, problem):
    with pytest.raises(ScheduleSyntax, match=problem) as caught:
        load_schedule(text, "bad.yaml")
    assert caught.value.at.file == "bad.yaml"
    assert caught.value.hint


def test_a_key_given_twice_is_refused():
    with pytest.raises(DuplicateKey) as caught:
        load_kernel("grid: {i: 1}\nwarps: 4\ngrid: {i: 2}")
    assert caught.value.at.line == 11
    assert "line 9" in str(caught.value)


def test_excerpts_show_the_line_with_a_caret():
    with pytest.raises(ScheduleError) as caught:
        load_kernel("grid: {i: 48}")
    assert caught.value.excerpt == "9 |     grid: {i: 48}\n                  ^"


def test_rules_about_whole_records_show_their_line_too():
    with pytest.raises(ScheduleError) as caught:
        load_kernel("grid: {i: 64}\nwhole: {i: 64}")
    assert caught.value.excerpt == "10 |     whole: {i: 64}"


def test_dump_writes_what_people_compare_on_lines_of_their_own():
    text = dump_schedule(
        load_schedule(
            HEADER
            + "  when: M >= 128 and aligned(x, 16)\n"
            + "  kernels: [{name: k, writes: [y], grid: {i: 4}, place: {a: {at: tile}}, stage: {}}]\n",
            "a.yaml",
        )
    )
    assert text == (
        HEADER
        + "  when: M >= 128 and aligned(x, 16)\n"
        + "  kernels:\n  - name: k\n    writes: [y]\n    grid: {i: 4}\n    place:\n      a: {at: tile}\n"
    )


def test_long_lines_are_broken():
    directives = "place: {y: {at: tile, loop: {" + ", ".join(f"axis_number_{n}: 16" for n in range(12)) + "}}}"
    schedule = load_schedule(HEADER + "  kernels:\n  - name: k\n    writes: [y]\n    " + directives + "\n", "a.yaml")
    text = dump_schedule(schedule)
    assert max(map(len, text.splitlines())) <= 118
    assert load_schedule(text) == schedule


def test_names_in_guards_may_have_any_letters():
    schedule = load_schedule(HEADER + "  when: Mé > 1\n  kernels: {name: k, writes: y}\n", "a.yaml")
    assert load_schedule(dump_schedule(schedule)) == schedule


def test_a_schedule_is_hashable():
    schedule = random_schedule(5)
    assert hash(schedule) == hash(load_schedule(dump_schedule(schedule)))


@pytest.mark.parametrize("seed", range(60))
def test_damaged_text_is_read_or_refused_with_a_place(seed):
    """Whatever is typed, reading ends in records or in an error that names the file."""
    rng = random.Random(seed)
    text = dump_schedule(random_schedule(seed % 20))
    for _ in range(20):
        start = rng.randrange(len(text))
        end = start + rng.choice([0, 1, 1, 5])
        damage = rng.choice(["", " ", "\n", "[", "}", ":", "'", "#", "0", "x", "- ", "é", "&"])
        damaged = text[:start] + damage + text[end:]
        try:
            load_schedule(damaged, "damaged.yaml")
        except TExprError as error:
            assert error.at.file == "damaged.yaml"
            assert error.hint or error.code == "TX0110"
