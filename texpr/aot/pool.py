"""Compiler processes that outlive their jobs, and a caller that outlives them.

One thread per process feeds it requests and waits for the replies. A process that dies or takes too long yields an
outcome like any other, and a fresh one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from texpr.aot.errors import WorkerStartError
from texpr.aot.protocol import CompileRequest, Died, Outcome, Reply, TimedOut
from texpr.aot.worker import read_message, write_message

# Triton and LLVM read dozens of variables that change what they emit: only these are passed on, so that builds are
# reproducible.
_PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONHOME", "VIRTUAL_ENV")


def worker_environment(ptxas: Path | None) -> dict[str, str]:
    """The environment of a compiler process; with ``ptxas``, Triton asks it which PTX version to emit."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    environment["PYTHONHASHSEED"] = "0"
    environment["LC_ALL"] = "C.UTF-8"
    if ptxas is not None:
        environment["TRITON_PTXAS_PATH"] = environment["TRITON_PTXAS_BLACKWELL_PATH"] = str(ptxas)
    return environment


class _Worker:
    """One compiler process with a scratch folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        with open(folder / "stderr", "ab") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "texpr.aot.worker", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._replies = process.stdout

    def run(self, request: CompileRequest, timeout: float) -> Outcome:
        try:
            write_message(self._requests, request)
            return self._reply(timeout)
        except BrokenPipeError:
            return self._died()

    def _reply(self, timeout: float) -> Outcome:
        ready, _, _ = select.select([self._replies], [], [], timeout)
        if not ready:
            self.kill()
            return TimedOut(timeout)
        reply: Reply | None = read_message(self._replies)
        return self._died() if reply is None else reply

    def _died(self) -> Died:
        status = self._process.wait()
        cause = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return Died(cause, (self._folder / "stderr").read_text(errors="replace"))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process and the assembler it may be running."""
        if self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        self._replies.close()


class WorkerPool:
    """``jobs`` compiler processes, started when first needed. Use as a context manager: leaving it ends them."""

    def __init__(self, jobs: int, ptxas: Path | None, timeout: float) -> None:
        self._jobs = jobs
        self._timeout = timeout
        self._environment = worker_environment(ptxas)
        self._folder = tempfile.TemporaryDirectory(prefix="texpr-")
        self._workers: dict[int, _Worker] = {}
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for worker in self._workers.values():
                worker.kill()
        self._folder.cleanup()

    def run(self, requests: Sequence[CompileRequest]) -> Iterator[tuple[int, Outcome, float]]:
        """Yield ``(index, outcome, seconds)`` as requests finish, in any order. Raises WorkerStartError."""
        pending: queue.SimpleQueue[int] = queue.SimpleQueue()
        finished: queue.SimpleQueue[tuple[int, Outcome, float] | BaseException] = queue.SimpleQueue()
        for index in range(len(requests)):
            pending.put(index)

        def feed(slot: int) -> None:
            try:
                while True:
                    index = pending.get_nowait()
                    started = time.monotonic()
                    outcome = self._worker(slot).run(requests[index], self._timeout)
                    finished.put((index, outcome, time.monotonic() - started))
            except queue.Empty:
                return
            except BaseException as error:
                finished.put(error)

        for slot in range(min(self._jobs, len(requests))):
            threading.Thread(target=feed, args=(slot,), daemon=True).start()
        for _ in requests:
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            yield result

    def _worker(self, slot: int) -> _Worker:
        with self._lock:
            if self._closed:
                raise queue.Empty
            worker = self._workers.get(slot)
            if worker is None or not worker.alive:
                if worker is not None:
                    worker.kill()
                try:
                    worker = _Worker(Path(self._folder.name) / str(slot), self._environment)
                except OSError as error:
                    raise WorkerStartError(problem=error, python=sys.executable) from error
                self._workers[slot] = worker
            return worker
