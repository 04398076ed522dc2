"""Runs parts of a computation in forked processes.

Each task runs in a copy of this process and its result comes back through a pipe.  A fork costs some ten
milliseconds, but nothing has to be sent to the child: it sees the bound kernels and the memory as they are.

Forking with other threads around (the server of the stand-in driver runs a thread per client) is safe here, because
the child runs nothing but Python and NumPy and leaves by `os._exit`: CPython and glibc put their own locks in order
when they fork, the collector is off so that no finaliser of the parent's objects runs, and OpenBLAS, which has locks
of its own, is only called by launches: while another thread is in one (`launching`), nobody forks.  That loses
nothing, since then the processors are busy anyway.
"""

from __future__ import annotations

import gc
import os
import pickle
import selectors
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")

WORKERS_VARIABLE = "TEXPR_EMULATOR_WORKERS"
"""Environment variable: how many processes a launch may use."""

_MOST_WORKERS = 8
_CHUNK = 1 << 20

_lock = threading.Lock()
_launches = 0


def default_workers() -> int:
    """As many as there are processors for this process, at most 8; `TEXPR_EMULATOR_WORKERS` says otherwise.

    Raises ValueError if the variable is not a positive number.
    """
    asked = os.environ.get(WORKERS_VARIABLE)
    if asked is not None:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"{WORKERS_VARIABLE}={asked!r}: a number of processes, at least 1, expected")
        return int(asked)
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS) if sys.platform == "linux" else 1


class CannotForkError(Exception):
    """Not now: another thread is in a launch, or the system has no room for more processes."""


@contextmanager
def launching() -> Iterator[None]:
    """A launch runs in this thread."""
    global _launches
    with _lock:
        _launches += 1
    try:
        yield
    finally:
        with _lock:
            _launches -= 1


@dataclass(slots=True)
class _Child:
    """A forked process and what it has sent so far."""

    process: int
    reader: int
    received: bytearray = field(default_factory=bytearray)

    def end(self, *, kill: bool) -> bool:
        """Reap the process; gives whether it succeeded."""
        os.close(self.reader)
        if kill:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]) == 0
        except ChildProcessError:  # the program ignores SIGCHLD: the system has reaped it
            return True


def run_in_children(tasks: Sequence[Callable[[], Result]]) -> list[Result] | None:
    """The results of all tasks, each computed in a process of its own (picklable; trusted, as they are our own).

    None as soon as one task fails in whatever way; the others are then stopped.  Raises `CannotForkError`.
    """
    children: list[_Child] = []
    complete = False
    try:
        with _lock:
            if _launches > 1:
                raise CannotForkError("another thread is in a launch")
            try:
                children.extend(_fork(task) for task in tasks)
            except OSError as error:
                raise CannotForkError(str(error)) from error
        complete = _receive(children)
    finally:
        succeeded = [child.end(kill=not complete) for child in children]
    if not complete or not all(succeeded):
        return None
    return [pickle.loads(child.received) for child in children]


def _fork(task: Callable[[], Any]) -> _Child:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; see above why this one is safe.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            process = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
    if process == 0:
        _be_child(task, writer)
    os.close(writer)
    return _Child(process, reader)


def _be_child(task: Callable[[], Any], writer: int) -> None:
    """Never returns: whatever happens, nothing of the parent's program may run on in the child."""
    global _lock, _launches
    status = 1
    try:
        gc.disable()
        # The parent holds the lock while it forks.
        _lock, _launches = threading.Lock(), 0
        result = task()
        with open(writer, "wb") as out:
            pickle.dump(result, out, protocol=5)
        status = 0
    finally:
        os._exit(status)


def _receive(children: Sequence[_Child]) -> bool:
    """Read until all children have closed their ends; False as soon as one closes without a whole result."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.reader, selectors.EVENT_READ, child)
        while selector.get_map():
            for key, _ in selector.select():
                child = key.data
                part = os.read(child.reader, _CHUNK)
                child.received += part
                if part:
                    continue
                selector.unregister(child.reader)
                if not child.received.endswith(pickle.STOP):
                    return False
    return True
