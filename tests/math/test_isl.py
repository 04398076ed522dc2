import pathlib
import subprocess
import sys

import pytest

import texpr.math.isl as isl
from texpr.math.parse import parse_bool, parse_int


def conditions(*texts):
    return [parse_bool(text) for text in texts]


def test_points_satisfy_the_conditions():
    point = isl.find_point(conditions("a >= 0", "a % 7 == 3", "a//4 > min(b, 5)", "b == 2 or b > 100"))
    assert point["a"] % 7 == 3
    assert point["a"] // 4 > min(point["b"], 5)
    assert point["b"] == 2 or point["b"] > 100
    assert isl.find_point(conditions("a > 0", "a < 1")) is None


def test_greatest_values():
    assert isl.greatest(parse_int("(a + 3)//4 + a % 4"), conditions("a <= 17")) == 7
    with pytest.raises(isl.GaveUp, match="no greatest value"):
        isl.greatest(parse_int("a"), conditions("a >= 0"))


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("(16*b + t + 1)//4", "4*b", "4*b + 1"),
        ("(b + t)//4", "b//4", "(b + 6)//4"),
        ("2*b - t", "2*b - 6", "2*b"),
        ("(b + 3*t)//2", "b//2", "(b + 18)//2"),
    ],
)
def test_extrema_are_expressions_in_the_outer_symbols(text, lo, hi):
    found = isl.extrema(parse_int(text), conditions("0 <= t < 7", "b >= 0"), ["t"])
    assert found == (parse_int(lo), parse_int(hi))


def test_piecewise_extrema_are_not_answered():
    with pytest.raises(isl.GaveUp, match="2 forms"):
        isl.extrema(parse_int("min(b + t, H)"), conditions("0 <= t < 7"), ["t"])


def test_work_is_limited(monkeypatch):
    monkeypatch.setattr(isl, "OPERATION_LIMIT", 10)
    with pytest.raises(isl.GaveUp, match="too large for isl"):
        isl.find_point(conditions("a >= 0", "a % 7 == 3", "a//4 > b", "b == 2 or b > 100"))
    monkeypatch.undo()
    assert isl.find_point(conditions("a == 1")) == {"a": 1}


def test_only_one_module_names_the_library_and_imports_it_late():
    folder = pathlib.Path(isl.__file__).parent
    users = [path.name for path in folder.glob("*.py") if "import islpy" in path.read_text()]
    assert users == ["isl.py"]
    program = "import sys, texpr.math.coverage, texpr.math.footprint; sys.exit('islpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=folder.parents[1], check=False).returncode == 0
