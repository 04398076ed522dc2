"""Runs an unmodified C program on the emulator: serves a stand-in ``libcuda.so.1`` and starts the program so that it
finds it.

The stand-in (``libcuda/*.c``) forwards driver calls over a Unix socket to the server here, which owns the simulated
GPU. Every process that connects gets a GPU of its own, as if it had its own address space. The wire format is described
in ``libcuda/wire.h``.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, TextIO

from texpr.emulator.counters import Counters
from texpr.emulator.cuda import CudaError, Result
from texpr.emulator.faults import Fault
from texpr.emulator.gpu import VirtualGpu
from texpr.emulator.images import BundleError, choose_capability
from texpr.emulator.libcuda_build import standin_directory

_REQUEST = struct.Struct("=II")
_REPLY = struct.Struct("=iI")
_SHAPE = struct.Struct("=Q7I")
_SIGNAL_STATUS: Final = 128


class Operation(IntEnum):
    """What a request asks for; ``libcuda/wire.h`` has the same list."""

    DEVICE_ATTRIBUTE = 1
    MODULE_LOAD = 2
    MODULE_UNLOAD = 3
    FUNCTION = 4
    FUNCTION_ATTRIBUTE = 5
    SET_ATTRIBUTE = 6
    PARAMETERS = 7
    LAUNCH = 8
    ALLOCATE = 9
    FREE = 10
    WRITE = 11
    READ = 12
    FILL = 13
    SYNCHRONIZE = 14


def run_program(
    argv: Sequence[str],
    bundles: Iterable[Path],
    sm: int | None = None,
    *,
    multiprocessors: int = 4,
    schedule_seed: int | None = None,
    errors: TextIO | None = None,
    counted: Callable[[Counters], None] | None = None,
) -> int:
    """Run ``argv`` with the stand-in driver and return its exit status (128 + n when signal n killed it).

    ``bundles`` are the directories whose cubins the program may load, ``sm`` the simulated compute capability (default:
    80, or the lowest the bundles have code for), ``schedule_seed`` permutes the order of warps and delays copies.
    Faults are printed to ``errors`` (default: stderr) like compiler errors, and a program that exits with 0 in spite of
    one gives 1. ``counted`` is told, at the end, what the kernels of all processes counted. Raises BundleError,
    CompilerError, or OSError when the program cannot be started.
    """
    directories = [Path(bundle).resolve() for bundle in bundles]
    capability = choose_capability(directories) if sm is None else sm
    library = standin_directory()
    with EmulatorServer(
        directories,
        sm=capability,
        multiprocessors=multiprocessors,
        schedule_seed=schedule_seed,
        errors=errors,
        counting=counted is not None,
    ) as server:
        environment = dict(os.environ)
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{library}:{inherited}" if inherited else str(library)
        environment["TEXPR_EMULATOR_SOCKET"] = server.path
        with subprocess.Popen(list(argv), env=environment) as program:
            try:
                status = program.wait()
            except KeyboardInterrupt:
                status = program.wait()
    if counted is not None:
        counted(server.counters)
    if status < 0:
        return _SIGNAL_STATUS - status
    return 1 if status == 0 and server.failed else status


class EmulatorServer:
    """Listens on a Unix socket (``path``) as a context manager. ``failed`` tells whether any kernel faulted or the
    emulator failed; ``counters``, when it is closed, what all processes counted.
    """

    def __init__(
        self,
        bundles: Sequence[Path],
        *,
        sm: int,
        multiprocessors: int = 4,
        schedule_seed: int | None = None,
        errors: TextIO | None = None,
        counting: bool = False,
    ) -> None:
        self.failed = False
        self._errors = sys.stderr if errors is None else errors
        self.counters = Counters()
        self._counters_lock = threading.Lock()
        self._new_gpu: Callable[[], VirtualGpu] = lambda: VirtualGpu(
            bundles, sm=sm, multiprocessors=multiprocessors, counting=counting, seed=schedule_seed
        )
        self._directory = tempfile.TemporaryDirectory(prefix="texpr-")
        self.path = os.path.join(self._directory.name, "gpu")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> EmulatorServer:
        self._listener.bind(self.path)
        self._listener.listen()
        acceptor = threading.Thread(target=self._accept, name="texpr-emulator", daemon=True)
        acceptor.start()
        self._threads.append(acceptor)
        return self

    def __exit__(self, *exception: object) -> None:
        # shutdown() wakes the acceptor; a connection ends by itself when its process has gone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._directory.cleanup()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            server = threading.Thread(target=self._serve, args=(connection,), name="texpr-emulated-gpu", daemon=True)
            server.start()
            self._threads.append(server)

    def _serve(self, connection: socket.socket) -> None:
        gpu = self._new_gpu()
        with connection:
            client = _Client(gpu, self._report)
            while (header := _receive(connection, _REQUEST.size)) is not None:
                operation, size = _REQUEST.unpack(header)
                payload = _receive(connection, size)
                if payload is None:
                    break
                result, reply = client.answer(operation, payload)
                try:
                    connection.sendall(_REPLY.pack(result, len(reply)) + reply)
                except OSError:
                    break
        with self._counters_lock:
            self.counters += gpu.counters

    def _report(self, message: str, failed: bool) -> None:
        self.failed = self.failed or failed
        print(message, file=self._errors, flush=True)


class _Client:
    """One connected process: its GPU, and the error that a fault leaves behind, which every later call returns as on a
    real GPU.
    """

    def __init__(self, gpu: VirtualGpu, report: Callable[[str, bool], None]) -> None:
        self._gpu = gpu
        self._report = report
        self._sticky = Result.SUCCESS

    def answer(self, operation: int, payload: bytes) -> tuple[int, bytes]:
        """The result and the reply's payload. Never raises."""
        if self._sticky is not Result.SUCCESS:
            return self._sticky.value, b""
        try:
            return Result.SUCCESS.value, self._perform(Operation(operation), payload)
        except CudaError as error:
            if isinstance(error.__cause__, Fault):
                self._sticky = error.result
                self._report(str(error.__cause__), True)
            else:
                self._report(f"texpr emulator: {Operation(operation).name.lower().replace('_', ' ')}: {error}", False)
            return error.result.value, b""
        except BundleError as error:
            self._report(f"texpr emulator: {error}", True)
        except Exception:  # a defect of the emulator must reach the user, and the program must get an answer
            self._report(f"texpr emulator: internal error\n{traceback.format_exc()}", True)
        self._sticky = Result.UNKNOWN
        return Result.UNKNOWN.value, b""

    def _perform(self, operation: Operation, payload: bytes) -> bytes:
        gpu = self._gpu
        match operation:
            case Operation.DEVICE_ATTRIBUTE:
                return struct.pack("=i", gpu.device_attribute(*struct.unpack("=i", payload)))
            case Operation.MODULE_LOAD:
                return struct.pack("=Q", gpu.load_module(payload))
            case Operation.MODULE_UNLOAD:
                gpu.unload_module(*struct.unpack("=Q", payload))
            case Operation.FUNCTION:
                (module,) = struct.unpack_from("=Q", payload)
                return struct.pack("=Q", gpu.function(module, payload[8:].decode()))
            case Operation.FUNCTION_ATTRIBUTE:
                function, attribute, _ = struct.unpack("=Qii", payload)
                return struct.pack("=i", gpu.function_attribute(function, attribute))
            case Operation.SET_ATTRIBUTE:
                gpu.set_function_attribute(*struct.unpack("=Qii", payload))
            case Operation.PARAMETERS:
                sizes = gpu.parameter_sizes(*struct.unpack("=Q", payload))
                return struct.pack(f"={len(sizes)}I", *sizes)
            case Operation.LAUNCH:
                self._launch(payload)
            case Operation.ALLOCATE:
                (size,) = struct.unpack("=Q", payload)
                return struct.pack("=Q", gpu.allocate(size))
            case Operation.FREE:
                gpu.free(*struct.unpack("=Q", payload))
            case Operation.WRITE:
                (address,) = struct.unpack_from("=Q", payload)
                gpu.write(address, payload[8:])
            case Operation.READ:
                return gpu.read(*struct.unpack("=QQ", payload))
            case Operation.FILL:
                address, size, value = struct.unpack("=QQQ", payload)
                gpu.fill(address, value, size)
            case Operation.SYNCHRONIZE:
                pass
        return b""

    def _launch(self, payload: bytes) -> None:
        function, gx, gy, gz, bx, by, bz, shared = _SHAPE.unpack_from(payload)
        params: list[bytes] = []
        at = _SHAPE.size
        for size in self._gpu.parameter_sizes(function):
            params.append(payload[at : at + size])
            at += size
        self._gpu.launch(function, grid=(gx, gy, gz), block=(bx, by, bz), shared=shared, params=params)


def _receive(connection: socket.socket, size: int) -> bytes | None:
    """Exactly ``size`` bytes, or None when the other side has gone."""
    parts: list[bytes] = []
    while size > 0:
        try:
            part = connection.recv(min(size, 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
