"""``python -m bench pack``: case files become a pack: bundles, cases to check, and questions to answer."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import bench
from bench.measure.questions import BENCH_FILE, Asked, Own, Question, questions_text
from bench.sweep.casefile import CaseFile, Shape
from bench.sweep.space import Candidate, expand, prune
from bench.sweep.workloads import Workload, workloads_of
from bench.sweep.yaml_lines import BenchError, Spot
from texpr.aot.cubin import Progress
from texpr.checking.calls import symbols_of
from texpr.compile import chosen_targets, package_of
from texpr.errors import TExprError
from texpr.lang.ir import Algorithm
from texpr.math.expr import evaluate, free_symbols
from texpr.math.parse import parse_int
from texpr.packing.cases import CaseMaker, Effort, takes
from texpr.packing.errors import OccupiedPack
from texpr.packing.pack import add_runner, check_size, commit, is_replaceable
from texpr.packing.requests import SizeRequest
from texpr.packing.runner.records import PACK_FILE, Case, pack_text
from texpr.packing.sizes import sized_case
from texpr.packing.sources import Source, build, find_sources
from texpr.schedule.files import load_schedule
from texpr.version import VERSION

RUN_FILE: Final = "bench.py"
_TRAVELLING: Final = ("__init__.py", "measure", "peers")
_RUN_TEXT: Final = '''\
"""Checks this pack's kernels and answers its questions: python bench.py --help"""

import sys
from pathlib import Path

folder = Path(__file__).resolve().parent
sys.path.insert(0, str(folder))  # where bench is a folder, which Python prefers to this file
sys.dont_write_bytecode = True

from bench.measure.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(folder))
'''


@dataclass(frozen=True, slots=True)
class Request:
    """``targets`` None: those of the case files, else all of each schedule. ``calls`` small cases are checked per
    variant. ``keep_going``: a kernel that does not compile is left out and noted. ``limit`` is the most bytes of the
    pack, without what is put beside it for peers."""

    cases: tuple[CaseFile, ...]
    kernels: Path
    targets: tuple[str, ...] | None = None
    calls: int = 2
    emulate: bool = True
    keep_going: bool = False
    limit: int = 60_000_000


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    questions: tuple[Question, ...]
    bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entrant:
    """One of our kernels in one binding and schedule: a bundle, and the sizes that are asked of it."""

    label: str
    source: Source
    types: Mapping[str, str]
    statics: Mapping[str, int]
    targets: tuple[str, ...] | None
    schedule: Path | None
    bundle: str
    sizes: dict[str, SizeRequest] = field(default_factory=dict)
    tolerated: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A question whose cases are not made yet: entrants with the label of the size."""

    question: Question
    entrants: tuple[tuple[_Entrant, str], ...]
    bytes_given: bool


def write_bench_pack(
    request: Request,
    out: Path,
    progress: Callable[[Progress], None] = lambda progress: None,
    said: Callable[[str], None] = lambda text: None,
) -> Report:
    """Write the pack to ``out``, replacing a pack that is there. Raises BenchError with the line of a case file, the
    TX080x errors, and what compiling raises; then nothing is changed."""
    if out.exists() and not is_replaceable(out):
        raise OccupiedPack(path=out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        folder = Path(name) / out.name
        folder.mkdir()
        maker = _Maker(request, folder, progress, said)
        for case in request.cases:
            maker.add(case)
        cases, questions = maker.finished()
        bundles = tuple(name for name in maker.entrants if (folder / "bundles" / name).is_dir())
        (folder / PACK_FILE).write_text(pack_text(VERSION, commit(), bundles, {}, cases))
        (folder / BENCH_FILE).write_text(questions_text(questions, tuple(maker.notes)))
        add_runner(folder)
        _add_bench(folder)
        size = check_size(folder, request.limit)
        if out.exists():
            for kept in ("extras", "results"):
                if (out / kept).exists():
                    (out / kept).rename(folder / kept)
            out.rename(Path(name) / "replaced")
        folder.rename(out)
    return Report(questions, size, tuple(maker.notes))


def _add_bench(folder: Path) -> None:
    home = Path(bench.__file__).parent
    for name in _TRAVELLING:
        source, target = home / name, folder / "bench" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (folder / RUN_FILE).write_text(_RUN_TEXT)


class _Maker:
    """Collects questions and the bundles that they need; ``finished`` builds these and makes the cases."""

    def __init__(
        self, request: Request, folder: Path, progress: Callable[[Progress], None], said: Callable[[str], None]
    ) -> None:
        self.entrants: dict[str, _Entrant] = {}
        self.notes: list[str] = []
        self._request = request
        self._folder = folder
        self._progress = progress
        self._said = said
        self._wanted: list[_Wanted] = []

    def add(self, case: CaseFile) -> None:
        """The questions of a case file. Raises BenchError."""
        try:
            (source,) = find_sources([case.kernel], self._request.kernels)
        except TExprError as error:
            raise case.spots["kernel"].error(error.message) from None
        for types in case.types:
            _check_types(case, source, types)
            for statics in case.statics:
                entrants = self._entrants(case, source, types, statics)
                if not entrants:
                    continue
                try:
                    algorithm = source.definition.bind(types, statics)
                except TExprError as error:
                    raise case.spots["kernel"].error(error.message) from None
                for workload in self._workloads(case):
                    self._ask(case, algorithm, types, statics, entrants, workload)

    def _workloads(self, case: CaseFile) -> list[Workload]:
        """Shapes, layers and the small sizes alike."""
        found = [Workload(_shown(shape.dims), shape, {}, {}, {}) for shape in case.shapes]
        found += workloads_of(case, self._folder)
        if case.small is not None:
            spot = case.spots["small"]
            shape = Shape(case.small, None, case.asked, spot)
            numbers = dict(case.small_numbers)
            found.append(Workload(_shown(case.small), shape, {}, {}, numbers, small=True))
        return found

    def _entrants(
        self, case: CaseFile, source: Source, types: Mapping[str, str], statics: Mapping[str, int]
    ) -> list[_Entrant]:
        targets = self._request.targets or case.targets or None
        if case.space is None:
            return [self._entrant("texpr", source, types, statics, targets, case.schedule, tolerated=False)]
        chosen = list(targets) if targets else None

        def legal(candidate: Candidate) -> None:
            record = load_schedule(candidate.text, str(case.space))
            names = chosen_targets(record, chosen)
            package_of(source.definition, record, names, types, statics, with_example=False)

        pruned = prune(expand(case.space), legal)
        self._said(pruned.text(f"{case.file}: {case.space.name} {' '.join(types.values())}".rstrip()))
        if not pruned.kept:
            raise case.spots["space"].error("no schedule of the space is legal\n" + pruned.text(case.space.name))
        found = []
        for candidate in pruned.kept:
            file = self._folder / "spaces" / f"{_digest(candidate.text)}.yaml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(candidate.text)
            found.append(self._entrant(candidate.label, source, types, statics, targets, file, tolerated=True))
        return found

    def _entrant(
        self, label: str, source: Source, types: Mapping[str, str], statics: Mapping[str, int],
        targets: tuple[str, ...] | None, schedule: Path | None, *, tolerated: bool,
    ) -> _Entrant:  # fmt: skip
        """Bundles are shared by cases that ask for the same."""
        text = "" if schedule is None else schedule.read_text(encoding="utf-8")
        key = _digest(repr((source.text, sorted(types.items()), sorted(statics.items()), targets, text)))
        words = [source.definition.name, *types.values(), *(f"{k}{v}" for k, v in statics.items()), key[:6]]
        bundle = "-".join(words)
        made = _Entrant(label, source, types, statics, targets, schedule, bundle, tolerated=tolerated)
        known = self.entrants.setdefault(bundle, made)
        return replace(made, sizes=known.sizes)

    def _ask(
        self, case: CaseFile, algorithm: Algorithm, types: Mapping[str, str], statics: Mapping[str, int],
        entrants: Sequence[_Entrant], workload: Workload,
    ) -> None:  # fmt: skip
        shape, spot = workload.shape, workload.shape.spot
        call = sized_case(algorithm, shape.dims, case.absent) if _has_dims(algorithm, shape) else None
        symbols = None if call is None else symbols_of(algorithm, call, 1)
        if symbols is None:
            free = ", ".join(dim.name for dim in algorithm.dims if dim.value is None)
            raise spot.error(f"these sizes are not those of {case.kernel}, which has {free}")
        symbols |= dict(algorithm.statics) | dict(workload.numbers)
        constants = {name: _number(text, symbols, case.spots["constants"]) for name, text in case.constants.items()}
        label = f"{case.name}.{workload.name}"
        scalars = _scalars(case, algorithm)
        size = SizeRequest(
            f"{case.file}:{spot.line}", case.kernel.rpartition(":")[2], shape.dims, constants, workload.arrays,
            scalars, case.absent, label, case.reference or workload.small,
        )  # fmt: skip
        for entrant in entrants:
            entrant.sizes[label] = size
        peers = tuple(Asked(name, _filled(text, workload.words)) for name, text in case.peers.items())
        given = None if case.bytes is None else _number(case.bytes, symbols, case.spots["bytes"])
        flops = None if case.flops is None else _number(case.flops, symbols, case.spots["flops"])
        bound = [*types.values(), *(f"{name}={value}" for name, value in statics.items())]
        question = Question(
            id="/".join([case.name, *bound, workload.name]),
            case=case.name,
            title=case.title,
            asked=shape.asked,
            dims=dict(shape.dims),
            bytes=given or 0,
            flops=flops,
            unit=None if flops is None else case.unit or next(iter(types.values()), "f32"),
            own=(),
            peers=peers,
            goal=shape.goal,
            small=workload.small,
            facts=dict(workload.numbers),
        )
        self._wanted.append(_Wanted(question, tuple((each, label) for each in entrants), given is not None))

    # ---- building

    def finished(self) -> tuple[tuple[Case, ...], tuple[Question, ...]]:
        """Build all bundles, make all cases. Raises what these raise."""
        made: dict[tuple[str, str], list[Case]] = {}
        cases: list[Case] = []
        for entrant in self.entrants.values():
            for case in self._built(entrant):
                cases.append(case)
                made.setdefault((entrant.bundle, case.id.rpartition("/")[2]), []).append(case)
        questions = []
        for wanted in self._wanted:
            own = []
            found: list[Case] = []
            for entrant, label in wanted.entrants:
                mine = [case for case in made.get((entrant.bundle, label), ()) if case.large]
                found += mine
                text = None if entrant.schedule is None else entrant.schedule.read_text(encoding="utf-8")
                own.append(Own(entrant.label, tuple(case.id for case in mine), text))
            if not found:
                self.notes.append(f"{wanted.question.id}: left out, no kernel of ours takes these sizes")
                continue
            size = wanted.question.bytes if wanted.bytes_given else found[0].bytes
            questions.append(replace(wanted.question, own=tuple(own), bytes=size))
        if len({question.id for question in questions}) < len(questions):
            raise BenchError("two questions have the same name")
        return tuple(cases), tuple(questions)

    def _built(self, entrant: _Entrant) -> list[Case]:
        try:
            return self._build(entrant)
        except TExprError as error:
            if not (self._request.keep_going or entrant.tolerated):  # what a compiler needs beside tiles is known late
                raise
            self.notes.append(f"{entrant.bundle}: left out: {error}")
            shutil.rmtree(self._folder / "bundles" / entrant.bundle, ignore_errors=True)
            return []

    def _build(self, entrant: _Entrant) -> list[Case]:
        bundle = self._folder / "bundles" / entrant.bundle
        build(
            entrant.source, bundle, entrant.schedule, entrant.targets, entrant.types, entrant.statics, self._progress
        )
        sizes = list(entrant.sizes.values())
        effort = Effort(calls=self._request.calls, emulate=self._request.emulate, large=False)
        if not entrant.tolerated:
            return self._cases(entrant, bundle, effort, sizes)
        taken = [size for size in sizes if self._is_taken(entrant, bundle, size)]
        return self._cases(entrant, bundle, effort, taken)

    def _cases(self, entrant: _Entrant, bundle: Path, effort: Effort, sizes: Sequence[SizeRequest]) -> list[Case]:
        maker = CaseMaker(effort, sizes, self._said)
        maker.check_requests([entrant.source.definition])
        found = maker.cases(entrant.source.definition, bundle, self._folder)
        self.notes += maker.warnings
        return found

    def _is_taken(self, entrant: _Entrant, bundle: Path, size: SizeRequest) -> bool:
        """Whether a schedule of a space takes a size: one that does not is no mistake."""
        return all(takes(entrant.source.definition, bundle, size))


# ---- small things


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(dims: Mapping[str, int]) -> str:
    return "x".join(str(size) for size in dims.values())


def _has_dims(algorithm: Algorithm, shape: Shape) -> bool:
    return set(shape.dims) == {dim.name for dim in algorithm.dims if dim.value is None}


def _check_types(case: CaseFile, source: Source, types: Mapping[str, str]) -> None:
    """Every type variable is bound: a question is about one type. Raises BenchError."""
    wanted = set(source.definition.signature.types)
    if set(types) != wanted:
        spot = case.spots.get("types", case.spots["kernel"])
        raise spot.error(f"types should bind {', '.join(sorted(wanted)) or 'nothing'} of {case.kernel}")


def _number(text: str, symbols: Mapping[str, int], spot: Spot) -> int:
    try:
        expression = parse_int(text)
    except TExprError as error:
        raise spot.error(f"{text}: {error.message}") from None
    if unknown := sorted(free_symbols(expression) - set(symbols)):
        raise spot.error(f"{text}: there is no {', '.join(unknown)}; there are {', '.join(sorted(symbols))}")
    return evaluate(expression, symbols)


def _scalars(case: CaseFile, algorithm: Algorithm) -> dict[str, int | float]:
    kinds = {scalar.name: scalar.dtype for scalar in algorithm.scalars}
    for name in case.scalars:
        if name not in kinds:
            raise case.spots["scalars"].error(f"{name} is no scalar of {case.kernel}: {', '.join(kinds) or 'none'}")
    return {name: value if kinds[name].is_float else int(value) for name, value in case.scalars.items()}


def _filled(text: str, words: Mapping[str, str]) -> str:
    """A peer's text with the words of the workload in their places: ``{coords}``."""
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text
