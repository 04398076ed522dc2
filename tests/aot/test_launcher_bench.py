"""bench/launcher.py still builds and runs; its numbers are not judged here."""

from __future__ import annotations

from bench.launcher import measure


def test_the_benchmark_measures_launches() -> None:
    samples = measure("cc", ["-O1"], calls=1000, repeats=2)
    assert len(samples) == 2 and all(sample > 0 for sample in samples)
