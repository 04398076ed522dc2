"""A loaded bundle as a Python callable: arrays in, arrays out, every argument checked before the launcher sees it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from texpr.dtypes import DType
from texpr.runtime.arrays import HOST, ArrayView, Place, dense_strides
from texpr.runtime.binding import bind, choose_entry, require_inputs, view_arrays
from texpr.runtime.call import Backend, BoundCall
from texpr.runtime.errors import DeviceNameError, MixedPlacesError, ReadOnlyError, WrongPlaceError
from texpr.runtime.library import EntryFunctions, Library, QueryResult
from texpr.runtime.manifest import Entry, Manifest, Tensor, read_manifest
from texpr.runtime.scalars import encode
from texpr.runtime.shapes import solve_dims, storage_shape, stride_arguments

DEVICES: Final = ("auto", "cuda", "emulator")

_IMAGINED_SPACING: Final = 1 << 40
"""Bytes between the pretended addresses of arrays that a query leaves out."""


_MOST_RESOLUTIONS: Final = 1024
"""How many combinations of types and shapes a bundle remembers."""


@dataclass(frozen=True, slots=True)
class _Resolution:
    """What follows from the types and layouts of a call's arrays alone, so that equal calls find it ready.

    ``strides`` are the stride arguments of given arrays (0 for the others), ``shapes`` the storage shapes of all.
    """

    entry: Entry
    sizes: dict[str, int]
    strides: dict[str, int]
    shapes: dict[str, tuple[int, ...]]


class Bundle:
    """Call it with the inputs of the algorithm's signature: ``y = bundle(x, w, b)``, scalars by position or name.

    Arrays are torch CUDA tensors or ``__cuda_array_interface__`` objects on a GPU; NumPy arrays or torch CPU tensors
    run on the emulator. Outputs are created, or written into the arrays given with ``out=`` (one array, a tuple in
    signature order, or a mapping by name) or by their own names. Keywords of a call, next to the arguments of the
    algorithm:

    - ``types={"T": "bf16"}`` and ``statics={"R": 3}`` choose among the bundle's entries where the arrays' types do not;
    - ``dims={"G": 2}`` gives dims that do not follow from shapes (a factor of a composite dim, say);
    - ``stream=``: a CUDA stream handle or a torch stream, instead of the current one.
    """

    def __init__(
        self, manifest: Manifest, *, device: str, sm: int | None, schedule_seed: int | None = None
    ) -> None:
        if device not in DEVICES:
            raise DeviceNameError(device=device)
        self.manifest = manifest
        self.device = device
        self.sm = sm
        self.schedule_seed = schedule_seed
        self._library = Library(manifest)
        self._functions = {entry.symbol: EntryFunctions(self._library, entry) for entry in manifest.entries}
        self._resolutions: dict[Hashable, _Resolution] = {}
        self._backends: dict[str, Backend] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.manifest.name

    def __repr__(self) -> str:
        shown = "; ".join(f"{entry.describe()}: {entry.signature()}" for entry in self.manifest.entries)
        return f"<texpr bundle {shown}>"

    def __call__(
        self,
        *inputs: Any,
        out: Any = None,
        types: Mapping[str, str | DType] | None = None,
        statics: Mapping[str, int] | None = None,
        dims: Mapping[str, int] | None = None,
        stream: object = None,
        **named: Any,
    ) -> Any:
        """Run the bundle; returns the output array, or a tuple of them. On a GPU it returns when the kernels are
        queued.

        Raises TExprError subclasses (TX07xx), or :class:`texpr.emulator.Fault` when a kernel commits an error on the
        emulator.
        """
        values = bind(self.manifest, inputs, out, named)
        require_inputs(self.manifest, values)
        resolved, arrays, backend = self._resolve(values, types, statics, dims)
        given = list(arrays.values())
        outputs = resolved.entry.outputs
        created = [tensor for tensor in outputs if tensor.name not in arrays]
        for tensor in outputs:
            if tensor.name in arrays and not arrays[tensor.name].writable:
                raise ReadOnlyError(argument=tensor.name)
        for tensor in created:
            arrays[tensor.name] = backend.create(tensor, resolved.shapes[tensor.name], given)
        backend.run(self._bound(resolved, arrays, created, values), stream)
        results = tuple(arrays[tensor.name].value for tensor in outputs)
        return results[0] if len(results) == 1 else results

    def query(
        self,
        *inputs: Any,
        out: Any = None,
        types: Mapping[str, str | DType] | None = None,
        statics: Mapping[str, int] | None = None,
        dims: Mapping[str, int] | None = None,
        **named: Any,
    ) -> QueryResult:
        """What a call would do: variant, grid of each launch, workspace. Nothing runs.

        Arrays may be left out where ``dims`` gives the sizes; they then count as present, dense and aligned to 256
        bytes, scalars that are left out as 0, and optional arrays as absent.
        """
        values = bind(self.manifest, inputs, out, named)
        resolved, arrays, backend = self._resolve(values, types, statics, dims)
        created: list[Tensor] = []
        for position, tensor in enumerate(resolved.entry.tensors, start=1):
            if tensor.name not in arrays and not tensor.optional:
                created.append(tensor)
                shape = resolved.shapes[tensor.name]
                address = position * _IMAGINED_SPACING if prod(shape) else 0
                arrays[tensor.name] = ArrayView(
                    None, "none", HOST, tensor.dtype, shape, dense_strides(shape), address, writable=True
                )
        scalars = {scalar.name: values.get(scalar.name, 0) for scalar in resolved.entry.scalars}
        return backend.query(self._bound(resolved, arrays, created, scalars))

    def close(self) -> None:
        """Unload the kernels; the next call loads them again."""
        with self._lock:
            while self._backends:
                _, backend = self._backends.popitem()
                backend.close()

    def _resolve(
        self,
        values: Mapping[str, Any],
        types: Mapping[str, str | DType] | None,
        statics: Mapping[str, int] | None,
        dims: Mapping[str, int] | None,
    ) -> tuple[_Resolution, dict[str, ArrayView], Backend]:
        """What the call means, its given arrays, and where to run."""
        arrays = view_arrays(self.manifest.entries[0], values)
        backend = self._backend(self._place(arrays))
        choices = (types or {}, statics or {}, dims or {})
        try:
            key = (
                *((name, array.dtype, array.shape, array.strides) for name, array in arrays.items()),
                *(frozenset(choice.items()) for choice in choices),
            )
            known = self._resolutions.get(key)
        except TypeError:  # a choice that cannot be hashed is not valid either; let the checks say so
            return self._resolve_anew(arrays, *choices), arrays, backend
        if known is None:
            known = self._resolve_anew(arrays, *choices)
            if len(self._resolutions) >= _MOST_RESOLUTIONS:
                self._resolutions.clear()
            self._resolutions[key] = known
        return known, arrays, backend

    def _resolve_anew(
        self,
        arrays: Mapping[str, ArrayView],
        types: Mapping[str, str | DType],
        statics: Mapping[str, int],
        dims: Mapping[str, int],
    ) -> _Resolution:
        entry = choose_entry(self.manifest, arrays, types, statics, dims)
        given = [(tensor, arrays[tensor.name]) for tensor in entry.tensors if tensor.name in arrays]
        sizes = solve_dims(entry, given, dims)
        strides = dict.fromkeys((name for tensor in entry.tensors for _, name in tensor.strided), 0)
        for tensor, array in given:
            strides |= stride_arguments(tensor, array)
        shapes = {tensor.name: storage_shape(tensor, sizes) for tensor in entry.tensors}
        return _Resolution(entry, sizes, strides, shapes)

    def _bound(
        self,
        resolved: _Resolution,
        arrays: Mapping[str, ArrayView],
        created: Iterable[Tensor],
        values: Mapping[str, Any],
    ) -> BoundCall:
        """``created`` are the tensors whose arrays were not given."""
        strides = dict(resolved.strides)
        for tensor in created:
            strides |= stride_arguments(tensor, arrays[tensor.name])
        entry = resolved.entry
        scalars = {scalar.name: encode(scalar.name, values[scalar.name], scalar.dtype) for scalar in entry.scalars}
        return BoundCall(self._functions[entry.symbol], arrays, scalars, resolved.sizes, strides)

    def _place(self, arrays: Mapping[str, ArrayView]) -> Place | None:
        """Where the arrays are; None if there are none. Raises MixedPlacesError."""
        found: tuple[str, Place] | None = None
        for name, array in arrays.items():
            if found is None or (array.place.cuda and found[1].device is None and found[1].cuda):
                found = (name, array.place)
                continue
            first, place = found
            known = array.place.device is not None
            if array.place.cuda != place.cuda or (known and array.place.device != place.device):
                raise MixedPlacesError(first=first, first_place=place, second=name, second_place=array.place)
        if found is not None and self.device != "auto" and (self.device == "cuda") != found[1].cuda:
            raise WrongPlaceError(argument=found[0], place=found[1], device=self.device)
        return None if found is None else found[1]

    def _backend(self, place: Place | None) -> Backend:
        on_gpu = self.device == "cuda" or (self.device == "auto" and place is not None and place.cuda)
        make: Callable[[], Backend]
        if on_gpu:
            from texpr.runtime.cuda import CudaBackend

            key, make = "cuda", lambda: CudaBackend(self._library)
        else:
            from texpr.runtime.emulated import EmulatedBackend

            key, make = "emulator", lambda: EmulatedBackend(self.manifest, self.sm, self.schedule_seed)
        with self._lock:
            if key not in self._backends:
                self._backends[key] = make()
            return self._backends[key]


def load(
    directory: str | os.PathLike[str],
    device: str = "auto",
    sm: int | None = None,
    *,
    schedule_seed: int | None = None,
) -> Bundle:
    """Open the bundle in ``directory``. Nothing is compiled, and no GPU or emulator is touched before the first call.

    ``device``: ``"cuda"``, ``"emulator"``, or ``"auto"``, which runs each call where its arrays are (CUDA arrays on
    their GPU, host arrays on the emulator). ``sm`` is the compute capability that the emulator simulates (major * 10 +
    minor; default 80, or the lowest the bundle has code for). ``schedule_seed`` makes the emulator run warps in a
    random order that this number (0 or more) fixes, and delay asynchronous copies at random. Raises NotABundleError,
    ManifestError, NoLibraryError, LibraryError, DeviceNameError.
    """
    return Bundle(read_manifest(Path(directory)), device=device, sm=sm, schedule_seed=schedule_seed)
