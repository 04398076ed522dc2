"""The schema derived from the records, and what is generated from it."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from tests.schedule.random_schedules import random_schedule
from texpr.schedule import dump_schedule, json_schema, load_schedule, reference_markdown
from texpr.schedule.base import Spelling
from texpr.schedule.encode import to_plain
from texpr.schedule.errors import NotLoweredYet, ScheduleError
from texpr.schedule.jsonschema import json_schema as make_schema
from texpr.schedule.places import Group, Mma, Place, Scan, Skip, SplitReduction, Stage, TileTrim
from texpr.schedule.records import AxisMap, Kernel, Order, Persistent, Role, Schedule, Split, Variant
from texpr.schedule.schema import KEYS, Choice, form_of, title_of
from texpr.schedule.words import NOT_LOWERED

# Text around a mapping of each kind of record, and what the record needs besides the key under test.
VARIANT = "{texpr: 1, algorithm: a, variants: %s}"
KERNEL = VARIANT % "{name: v, target: sm_80, kernels: %s}"
IN_KERNEL = KERNEL % "{name: k, writes: y, warps: 32, %s}"
ONE_KERNEL = "{name: k, writes: y}"
ONE_VARIANT = "{name: v, target: sm_80, kernels: {name: k, writes: y}}"
SURROUNDINGS = {
    Schedule: ("%s", {"texpr": "1", "algorithm": "a", "variants": ONE_VARIANT}),
    Variant: (VARIANT, {"name": "v", "target": "sm_80", "kernels": ONE_KERNEL}),
    Kernel: (KERNEL, {"name": "k", "writes": "y"}),
    Order: (IN_KERNEL % "order: %s", {"group": "i", "by": "2"}),
    Persistent: (IN_KERNEL % "persistent: %s", {}),
    AxisMap: (IN_KERNEL % "map: {i: %s}", {}),
    Split: (IN_KERNEL % "split: {i: %s}", {"into": "[a, b]", "by": "2"}),
    Place: (IN_KERNEL % "place: {acc: %s}", {}),
    Stage: (IN_KERNEL % "stage: {x: %s}", {"at": "tile", "in": "shared"}),
    SplitReduction: (IN_KERNEL % "split_reduction: %s", {"of": "acc", "over": "k", "parts": "2"}),
    Group: (IN_KERNEL % "online: %s", {"funcs": "[m, l]", "at": "tile", "loop": "{j: 64}"}),
    Scan: (IN_KERNEL % "scan: {s: %s}", {"across": "loop", "by": "{i: 1024}"}),
    TileTrim: (IN_KERNEL % "trim: %s", {}),
    Skip: (IN_KERNEL % "place: {acc: {skip: {v: %s}}}", {}),
    Mma: (IN_KERNEL % "place: {acc: {mma: %s}}", {}),
    Role: (IN_KERNEL % "roles: {load: %s}", {"warps": "1", "runs": "[stage.x]"}),
}


def text_with(record, key, value):
    """A schedule in which a record of this kind has ``key: value`` and what it needs."""
    around, needed = SURROUNDINGS[record]
    if key == "by" and record is SplitReduction:  # stands in place of another key
        needed = {name: text for name, text in needed.items() if name != "parts"}
    return around % ("{" + ", ".join(f"{name}: {text}" for name, text in {**needed, key: value}.items()) + "}")


EXAMPLES = [
    (record, key.name, key.about.example)
    for record in SURROUNDINGS
    for key in KEYS[record]
    if record is not Order and key.name not in ("when", "like")
]


@pytest.mark.parametrize(("record", "key", "example"), EXAMPLES)
def test_every_example_in_the_reference_can_be_read(record, key, example):
    if key == "programs":
        example = f'"{example}"'
    load_schedule(text_with(record, key, example), "example.yaml")


def test_the_example_of_a_guard_can_be_read():
    when = next(key.about.example for key in KEYS[Variant] if key.name == "when")
    load_schedule(text_with(Variant, "when", f'"{when}"'), "example.yaml")


LATER = [(record, name) for record in KEYS for name in record.LATER]


@pytest.mark.parametrize(("record", "name"), LATER)
def test_every_directive_of_a_later_version_is_refused_by_name(record, name):
    with pytest.raises(NotLoweredYet, match=f"^TX0210 {name} "):
        load_schedule(text_with(record, name, "{}"), "later.yaml")


def test_every_word_of_a_later_version_is_refused_by_name():
    refused = []
    for record in SURROUNDINGS:
        for key in KEYS[record]:
            if isinstance(key.form, Choice):
                for word in set(key.form.words) & NOT_LOWERED:
                    with pytest.raises(NotLoweredYet, match=f"{key.name}: {word.value}"):
                        load_schedule(text_with(record, key.name, word.value), "later.yaml")
                    refused.append(word)
    assert set(refused) == NOT_LOWERED


def test_every_key_is_documented():
    for record, keys in KEYS.items():
        assert record.__doc__
        for key in keys:
            assert key.about.text.endswith("."), (title_of(record), key.name)
            assert key.about.example


def test_an_annotation_without_a_form_is_an_error():
    with pytest.raises(TypeError, match="float"):
        form_of(float)


# ---- JSON Schema -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    schema = make_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_json_schema_is_json():
    assert json.loads(json.dumps(json_schema())) == json_schema()


@pytest.mark.parametrize("seed", range(40))
def test_the_json_schema_accepts_what_is_read(validator, seed):
    validator.validate(to_plain(random_schedule(seed)))


REFUSED = [
    {"gird": {"i": 4}},
    {"grid": {"i": 48}},
    {"grid": {"i": 0}},
    {"grid": {"3i": 4}},
    {"warps": 64},
    {"roles": {"load": {"warps": 3, "runs": ["stage.x"]}}},
    {"order": {"group": "i", "reverse": "j"}},
    {"order": {"pieces": 8}},
    {"persistent": "true"},
    {"split": {"i": {"into": ["a"], "by": 2}}},
    {"place": {"acc": {"at": "til"}}},
    {"place": {"acc": {"mma": "tcgen05"}}},
    {"stage": {"x": {"at": "tile"}}},
    {"stage": {"x": {"at": "tile", "in": "global"}}},
    {"stage": {"x": {"at": "tile", "in": "shared", "depth": 0}}},
    {"split_reduction": {"of": ["acc"], "over": "k", "parts": 0}},
]


@pytest.mark.parametrize("directives", REFUSED)
def test_the_json_schema_refuses_what_is_refused(validator, directives):
    kernel = {"name": "k", "writes": ["y"], **directives}
    schedule = {"texpr": 1, "algorithm": "a", "variants": [{"name": "v", "target": "sm_80", "kernels": [kernel]}]}
    with pytest.raises(ScheduleError):
        load_schedule(json.dumps(schedule), "refused.yaml")
    assert not validator.is_valid(schedule)


def test_json_is_a_spelling_too():
    plain = to_plain(random_schedule(8))
    assert load_schedule(json.dumps(plain, indent=1)) == random_schedule(8)


# ---- reference -------------------------------------------------------------------------------------------------------


def test_the_reference_names_every_key_and_every_refused_directive():
    text = reference_markdown()
    for record, keys in KEYS.items():
        section = text.split(f"\n## {title_of(record)}\n")[1].split("\n## ")[0]
        if record.SPELLING is not Spelling.TAGGED:
            assert all(f"### `{key.name}`" in section for key in keys)
        assert all(f"- `{name}`: " in section for name in record.LATER)


def test_the_schedule_at_the_head_of_the_reference_is_canonical():
    example = re.search(r"```yaml\n(.*?)```", reference_markdown(), re.DOTALL)[1]
    assert dump_schedule(load_schedule(example)) == example


def test_links_in_the_reference_lead_to_sections():
    text = reference_markdown()
    for anchor in re.findall(r"\]\(#(\w+)\)", text):
        assert f"\n## {anchor}\n" in text
