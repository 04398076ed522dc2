"""Runs an unmodified C program on the emulator: serves a stand-in ``libcuda.so.1`` and starts the program so that it
finds it.

The stand-in (``libcuda/*.c``) forwards driver calls over a Unix socket to the server here, which owns the simulated
GPU. Every process that connects gets a GPU of its own, as if it had its own address space. The wire format is described
in ``libcuda/wire.h``.
"""

from __future__ import annotations

import os
import shutil
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
from texpr.emulator.device_facts import TOTAL_MEMORY
from texpr.emulator.faults import Fault
from texpr.emulator.gpu import VirtualGpu
from texpr.emulator.images import BundleError, choose_capability, shown
from texpr.emulator.libcuda_build import standin_directory
from texpr.emulator.linked import missing_functions
from texpr.emulator.search import Found, bundles_of_process, find_bundles

_REQUEST = struct.Struct("=II")
_REPLY = struct.Struct("=iI")
_SHAPE = struct.Struct("=Q10I")
_CREDENTIALS = struct.Struct("=iII")
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
    COPY = 15
    RANGE = 16
    MEMORY_INFO = 17
    GLOBAL = 18
    FUNCTION_NAMES = 19
    OCCUPANCY = 20
    RESET = 21


_QUIET: Final = frozenset({Operation.RANGE})
"""Questions that programs ask to learn whether they fail."""


def run_program(
    argv: Sequence[str],
    bundles: Iterable[Path] = (),
    sm: int | None = None,
    *,
    multiprocessors: int = 4,
    schedule_seed: int | None = None,
    errors: TextIO | None = None,
    counted: Callable[[Counters], None] | None = None,
) -> int:
    """Run ``argv`` with the stand-in driver and return its exit status (128 + n when signal n killed it).

    ``bundles`` are the directories whose cubins the program may load; without any they are searched for
    (``search.py``). ``sm`` is the simulated compute capability (default: what most of the bundles have code for,
    preferably 80), ``schedule_seed`` permutes the order of warps and delays copies. Faults are printed to ``errors``
    (default: stderr) like compiler errors, and a program that exits with 0 in spite of one gives 1. ``counted`` is
    told, at the end, what the kernels of all processes counted. Raises BundleError, CompilerError, or OSError when the
    program cannot be started.
    """
    directories = [Path(bundle).resolve() for bundle in bundles]
    search = not directories
    found = find_bundles(argv, Path.cwd()) if search else Found((), ())
    if not search:
        choose_capability(directories)  # complains now if one is no bundle
    library = standin_directory()
    _warn_of_missing_functions(argv[0], library, errors)
    with EmulatorServer(
        directories or list(found.bundles),
        sm=sm,
        multiprocessors=multiprocessors,
        schedule_seed=schedule_seed,
        errors=errors,
        search=search,
        places=found.places,
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


def _warn_of_missing_functions(program: str, library: Path, errors: TextIO | None) -> None:
    """The dynamic linker names one missing function, at the latest when it is called. All of them are better known
    before."""
    path = shutil.which(program)
    missing = missing_functions(Path(path), library / "libcuda.so.1") if path is not None else ()
    if missing:
        text = f"texpr emulator: {program} is linked against functions that are not emulated: {', '.join(missing)}"
        print(text, file=sys.stderr if errors is None else errors, flush=True)


class EmulatorServer:
    """Listens on a Unix socket (``path``) as a context manager. ``failed`` tells whether any kernel faulted or the
    emulator failed; ``counters``, when it is closed, what all processes counted.

    With ``search``, bundles are also looked for beside the libraries that a program has loaded. ``places`` are where
    ``bundles`` were searched, for messages.
    """

    def __init__(
        self,
        bundles: Sequence[Path],
        *,
        sm: int | None,
        multiprocessors: int = 4,
        schedule_seed: int | None = None,
        errors: TextIO | None = None,
        search: bool = False,
        places: Sequence[str] = (),
        counting: bool = False,
    ) -> None:
        self.failed = False
        self.counters = Counters()
        self._counters_lock = threading.Lock()
        self._counting = counting
        self._schedule_seed = schedule_seed
        self._errors = sys.stderr if errors is None else errors
        self._bundles = list(bundles)
        self._sm = sm
        self._multiprocessors = multiprocessors
        self._search = search
        self._places = tuple(places)
        self._directory = tempfile.TemporaryDirectory(prefix="texpr-")
        self.path = os.path.join(self._directory.name, "gpu")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._threads: list[threading.Thread] = []

    def _new_gpu(self, pid: int) -> VirtualGpu:
        """A GPU for a process that has just called cuInit."""
        bundles = self._bundles
        if self._search and not bundles:
            bundles = list(bundles_of_process(pid).bundles)
        capability = choose_capability(bundles) if self._sm is None else self._sm

        def more() -> tuple[Sequence[Path], Sequence[str]]:
            loaded = bundles_of_process(pid)
            return loaded.bundles, (*self._places, *loaded.places)

        return VirtualGpu(
            bundles,
            sm=capability,
            multiprocessors=self._multiprocessors,
            counting=self._counting,
            seed=self._schedule_seed,
            more=more if self._search else None,
        )

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
        with connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            try:
                gpu = self._new_gpu(_CREDENTIALS.unpack(peer)[0])
            except BundleError as error:
                self._report(f"texpr emulator: {error}", True)
                return
            client = _Client(gpu, self._report)
            memory = bytearray(_REQUEST.size)
            while _receive(connection, memoryview(memory)[: _REQUEST.size]):
                operation, size = _REQUEST.unpack_from(memory)
                if size > len(memory):
                    memory = bytearray(size)
                payload = memoryview(memory)[:size]
                if not _receive(connection, payload):
                    break
                result, reply = client.answer(operation, payload)
                try:
                    connection.sendall(_REPLY.pack(result, len(reply)))
                    connection.sendall(reply)
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
        self._owned: dict[int, set[int]] = {}
        """The addresses that each context has allocated."""
        self._told: set[str] = set()

    def answer(self, operation: int, payload: memoryview) -> tuple[int, bytes]:
        """The result and the reply's payload. Never raises."""
        if self._sticky is not Result.SUCCESS:
            return self._sticky.value, b""
        try:
            return Result.SUCCESS.value, self._perform(Operation(operation), payload)
        except CudaError as error:
            if isinstance(error.__cause__, Fault):
                self._sticky = error.result
                self._report(str(error.__cause__), True)
            elif operation not in _QUIET:
                self._report(f"texpr emulator: {Operation(operation).name.lower().replace('_', ' ')}: {error}", False)
            return error.result.value, b""
        except BundleError as error:
            self._report(f"texpr emulator: {error}", True)
        except Exception:  # a defect of the emulator must reach the user, and the program must get an answer
            self._report(f"texpr emulator: internal error\n{traceback.format_exc()}", True)
        self._sticky = Result.UNKNOWN
        return Result.UNKNOWN.value, b""

    def _perform(self, operation: Operation, payload: memoryview) -> bytes:
        gpu = self._gpu
        match operation:
            case Operation.DEVICE_ATTRIBUTE:
                return struct.pack("=i", gpu.device_attribute(*struct.unpack("=i", payload)))
            case Operation.MODULE_LOAD:
                return struct.pack("=Q", self._load(bytes(payload)))
            case Operation.MODULE_UNLOAD:
                gpu.unload_module(*struct.unpack("=Q", payload))
            case Operation.FUNCTION:
                (module,) = struct.unpack_from("=Q", payload)
                return struct.pack("=Q", gpu.function(module, bytes(payload[8:]).decode()))
            case Operation.FUNCTION_NAMES:
                names = gpu.function_names(*struct.unpack("=Q", payload))
                return b"".join(name.encode() + b"\0" for name in names)
            case Operation.GLOBAL:
                (module,) = struct.unpack_from("=Q", payload)
                return struct.pack("=QQ", *gpu.global_variable(module, bytes(payload[8:]).decode()))
            case Operation.FUNCTION_ATTRIBUTE:
                function, attribute, _ = struct.unpack("=Qii", payload)
                return struct.pack("=i", gpu.function_attribute(function, attribute))
            case Operation.SET_ATTRIBUTE:
                gpu.set_function_attribute(*struct.unpack("=Qii", payload))
            case Operation.PARAMETERS:
                parameters = gpu.parameters(*struct.unpack("=Q", payload))
                return b"".join(struct.pack("=II", offset, size) for offset, size in parameters)
            case Operation.OCCUPANCY:
                return struct.pack("=Q", gpu.resident_blocks(*struct.unpack("=QQQ", payload)))
            case Operation.LAUNCH:
                self._launch(payload)
            case _:
                return self._memory(operation, payload)
        return b""

    def _memory(self, operation: Operation, payload: memoryview) -> bytes:
        gpu = self._gpu
        match operation:
            case Operation.ALLOCATE:
                size, context = struct.unpack("=QQ", payload)
                made = gpu.allocate(size)
                self._owned.setdefault(context, set()).add(made)
                return struct.pack("=Q", made)
            case Operation.FREE:
                (address,) = struct.unpack("=Q", payload)
                gpu.free(address)
                for owned in self._owned.values():
                    owned.discard(address)
            case Operation.RESET:
                (context,) = struct.unpack("=Q", payload)
                for address in self._owned.pop(context, set()):
                    gpu.free(address)
            case Operation.WRITE:
                (address,) = struct.unpack_from("=Q", payload)
                gpu.write(address, payload[8:])
            case Operation.READ:
                return gpu.read(*struct.unpack("=QQ", payload))
            case Operation.FILL:
                address, count, value, element = struct.unpack("=QQQQ", payload)
                gpu.fill(address, value, count, element)
            case Operation.COPY:
                gpu.copy(*struct.unpack("=QQQ", payload))
            case Operation.RANGE:
                return struct.pack("=QQ", *gpu.range(*struct.unpack("=Q", payload)))
            case Operation.MEMORY_INFO:
                return struct.pack("=QQ", gpu.free_memory(), TOTAL_MEMORY)
        return b""

    def _load(self, image: bytes) -> int:
        """Load a module; say which bundle serves it if several could."""
        handle = self._gpu.load_module(image)
        owners = [shown(owner) for owner in self._gpu.owners(handle)]
        if len(owners) > 1:
            names = ", ".join(self._gpu.function_names(handle))
            text = f"texpr emulator: {names} is in {' and '.join(owners)}: using {owners[0]} (choose with --bundle)"
            if text not in self._told:
                self._told.add(text)
                self._report(text, False)
        return handle

    def _launch(self, payload: memoryview) -> None:
        function, gx, gy, gz, bx, by, bz, shared, *cluster = _SHAPE.unpack_from(payload)
        block = bytes(payload[_SHAPE.size :])
        params = [block[offset : offset + size] for offset, size in self._gpu.parameters(function)]
        given = (cluster[0], cluster[1], cluster[2]) if any(cluster) else None
        grid, size = (gx, gy, gz), (bx, by, bz)
        self._gpu.launch(function, grid=grid, block=size, shared=shared, params=params, cluster=given)


def _receive(connection: socket.socket, room: memoryview) -> bool:
    """Fill ``room``; False when the other side has gone."""
    done = 0
    while done < len(room):
        try:
            count = connection.recv_into(room[done:])
        except OSError:
            return False
        if count == 0:
            return False
        done += count
    return True
