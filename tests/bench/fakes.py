"""A device without a GPU: a clock that only work moves on, and results as a GPU would leave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.measure.questions import Goal, Own, Question
from bench.measure.results import RESULT_VERSION, plain
from bench.measure.rounds import Piece


class FakeTimer:
    """Work takes the time that it adds to ``now``; ``slow`` is a factor that grows by ``heat`` with every piece."""

    def __init__(self, heat: float = 0.0) -> None:
        self.now = 0.0
        self.slow = 1.0
        self.heat = heat
        self.hidden: list[bool] = []

    def elapsed(self, work: Callable[[], None], *, hide: bool) -> float:
        before = self.now
        work()
        self.hidden.append(hide)
        self.slow += self.heat
        return self.now - before

    def piece(self, name: str, microseconds: float, calls: int = 1, *, graph: bool = True) -> Piece:
        """A contestant that takes so long per call, and says so when it runs."""

        def work() -> None:
            self.now += calls * microseconds * self.slow

        return Piece(name, work, calls, graph)


def question(name: str = "case/f16/8", **changes: Any) -> Question:
    values: dict[str, Any] = {
        "id": name, "case": name.split("/")[0], "title": "a case", "asked": "2026-11-21", "dims": {"N": 8},
        "bytes": 1000, "flops": None, "unit": None, "own": (Own("texpr", ("a/b/sm_80/8",)),), "peers": (),
        "goal": Goal(("torch",), 0.9), "small": False, "facts": {},
    }  # fmt: skip
    return Question(**(values | changes))


def contestant(samples: Sequence[float], *, own: bool = False, **more: Any) -> dict[str, Any]:
    return {"own": own, "samples": list(samples), "graph": True, "calls": 4, **more}


def result(
    answers: Sequence[tuple[Question, Mapping[str, Any]]], *, measurement: bool = True, **run: Any
) -> dict[str, Any]:
    """The JSON of a result file."""
    smi = {"driver_version": "580.1", "clocks.sm": "1980 MHz", "clocks.max.sm": "1980 MHz", "clocks.mem": "3201 MHz"}
    circumstances = {
        "time": "2026-11-21T12:00:00Z", "measurement": measurement, "commit": "c0ffee" * 6, "texpr": "0",
        "device": {"name": "GPU 1", "capability": 90, "multiprocessors": 132, "nvidia_smi": smi},
        "python": "3.12", "numpy": "2", "system": "Linux", "peers": {"torch": "2"}, "absent": {"cub": "not built"},
        "limits": {
            "copy": {"per_second": 4e12, "bytes": 1, "samples": [1.0]},
            "matmul": {"f16": {"per_second": 8e14, "flops": 1, "samples": [1.0]}, "bf16": {"absent": "no torch"}},
        },
        "cubins": {},
    }  # fmt: skip
    return {
        "texpr_bench_result": RESULT_VERSION,
        "measurement": measurement,
        "pack": "0123",
        "runs": [circumstances | run],
        "answers": [
            {"question": plain(asked), "case": asked.id, "target": "sm_90a", "contestants": dict(entrants)}
            for asked, entrants in answers
        ],
    }
