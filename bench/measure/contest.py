"""Contestants: our kernels and peers, each ready to make its calls on any of several sets of buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure.devices import Bench, CannotCapture
from bench.measure.rounds import Piece, Rules, calls_needed, sets_needed
from texpr.packing.runner.memory import Placed
from texpr.packing.runner.records import Case
from texpr.runtime.library import Context, RawCall
from texpr.runtime.manifest import Entry


class Sets:
    """The tensors of a case in memory, several times: whoever uses them in turn finds none of them in a cache.

    ``close`` frees them. Raises MemoryError where not even one fits.
    """

    def __init__(self, bench: Bench, context: Context, entry: Entry, case: Case, pack: Path) -> None:
        self.case = case
        self.placed = [Placed(bench.device, context, entry, case, pack)]
        try:
            size = self.placed[0].bytes
            count = sets_needed(size, bench.cache_bytes(), size + bench.free_bytes() // 2)
            while len(self.placed) < count:
                self.placed.append(Placed(bench.device, context, entry, case, pack, self.placed[0]))
        except BaseException:
            self.close()
            raise
        self.bytes = size
        for placed in self.placed:
            placed.forget_inputs()

    def __len__(self) -> int:
        return len(self.placed)

    def addresses(self, number: int) -> Mapping[str, int]:
        """Of every tensor of one set."""
        return self.placed[number].addresses

    def close(self) -> None:
        while self.placed:
            self.placed.pop().close()


@dataclass(frozen=True, slots=True)
class Ready:
    """A contestant that can start. ``run`` queues one call on a set. ``capture`` makes a graph of calls on some sets in
    a row (None: as the device does it). ``results`` gives the outputs of a call on set 0 after it was run, in the order
    of the case, as host arrays in storage form; None where they are our own kernel's, which were checked already."""

    run: Callable[[int], None]
    results: Callable[[], Sequence[Any]] | None = None
    capture: Callable[[Sequence[int]], Callable[[], None]] | None = None
    facts: Mapping[str, Any] | None = None
    close: Callable[[], None] = lambda: None


def own(bench: Bench, context: Context, case: Case, sets: Sets, entry: Entry) -> Ready:
    """One of our kernels on the buffers of ``sets``. Raises MemoryError and the runtime's errors."""
    first = sets.placed[0].call
    calls = [RawCall(_full(entry, sets.addresses(n)), first.scalars, case.dims, case.strides) for n in range(len(sets))]
    query = bench.device.query(context, calls[0])
    size = query.workspace_bytes
    workspace = bench.device.allocate(size) if size else 0

    def close() -> None:
        if workspace:
            bench.device.free(workspace)

    return Ready(
        run=lambda number: bench.queue(context, calls[number], workspace, size),
        facts={"variant": query.variant_name, "workspace": size, "kernels": [each.kernel for each in query.launches]},
        close=close,
    )


def _full(entry: Entry, addresses: Mapping[str, int]) -> dict[str, int]:
    return dict.fromkeys((tensor.name for tensor in entry.tensors), 0) | dict(addresses)


def piece_of(bench: Bench, name: str, ready: Ready, sets: int, rules: Rules) -> tuple[Piece, str]:
    """A contestant's piece: a graph that goes round the sets, or calls one after the other where it cannot be put into
    one; then in words why not. Raises what a call raises."""
    for number in range(sets):  # whatever is done at first calls is done here
        ready.run(number)
    bench.synchronize()
    single = min(bench.elapsed(lambda n=n: ready.run(n % sets), hide=True) for n in range(3))
    order = [n % sets for n in range(calls_needed(single, sets, rules))]

    def calls() -> None:
        for number in order:
            ready.run(number)

    try:
        work = bench.captured(calls) if ready.capture is None else ready.capture(order)
        return Piece(name, work, len(order), graph=True), ""
    except CannotCapture as error:
        return Piece(name, calls, len(order), graph=False), str(error)
