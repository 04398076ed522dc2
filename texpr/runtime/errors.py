"""Mistakes in loading or calling a bundle from Python: codes TX0701 to TX0799.

TX070x the bundle itself, TX071x binding and types, TX072x arrays and shapes, TX073x scalars, TX074x what the launcher
or driver refuses.
"""

from __future__ import annotations

from texpr.errors import TExprError

# ---- TX070x: the bundle itself


class NotABundleError(TExprError):
    code = "TX0701"
    title = "not a bundle"
    template = "{directory} is not a bundle: {problem}"
    default_hint = "give the directory that `texpr aot` wrote, e.g. build/dense"


class ManifestError(TExprError):
    code = "TX0702"
    title = "unreadable manifest"
    template = "{file}: {problem}"
    default_hint = "build the bundle again with this version of TExpr"


class NoLibraryError(TExprError):
    code = "TX0703"
    title = "no launcher library for this host"
    template = "bundle {name} has no library for {host} (it has: {available})"
    default_hint = "build {name}.c on this host with the bundle's CMakeLists.txt, or run `texpr aot` here"


class LibraryError(TExprError):
    code = "TX0704"
    title = "launcher library does not fit the manifest"
    template = "{file}: {problem}"
    default_hint = "build the bundle again; library and manifest come from different builds"


class DeviceNameError(TExprError):
    code = "TX0705"
    title = "unknown device"
    template = "device={device!r} is not a place a bundle can run"
    default_hint = "'cuda', 'emulator', or 'auto' (where the arrays are)"


# ---- TX071x: binding and types


class UnknownArgumentError(TExprError):
    code = "TX0711"
    title = "unknown argument"
    template = "{name}() has no {what} {given!r}"
    default_hint = "one of: {choices}"


class TooManyArgumentsError(TExprError):
    code = "TX0712"
    title = "too many positional arguments"
    template = "{name}() takes {most} inputs ({inputs}), {given} were given"
    default_hint = "pass outputs with out="


class MissingArgumentError(TExprError):
    code = "TX0713"
    title = "missing argument"
    template = "{name}() needs {argument} ({kind})"
    default_hint = "{name}({inputs})"


class ArgumentTwiceError(TExprError):
    code = "TX0714"
    title = "argument given twice"
    template = "{name}() got {argument} twice: by position or out=, and by keyword"
    default_hint = "give it once"


class NotAnArrayError(TExprError):
    code = "TX0715"
    title = "not an array"
    template = "{argument}: a {given} is not an array a kernel can read: {problem}"
    default_hint = "a NumPy array, a torch tensor, or an object with __cuda_array_interface__"


class MixedPlacesError(TExprError):
    code = "TX0716"
    title = "arrays in different places"
    template = "{first} is on {first_place}, {second} is on {second_place}"
    default_hint = "move all arrays to one device"


class WrongPlaceError(TExprError):
    code = "TX0717"
    title = "arrays cannot be used on the chosen device"
    template = "{argument} is on {place}, the bundle was loaded with device={device!r}"
    default_hint = (
        "device='emulator' takes host arrays (NumPy), device='cuda' takes CUDA arrays; device='auto' takes both"
    )


class NoEntryError(TExprError):
    code = "TX0718"
    title = "no entry for these types"
    template = "bundle {name} has no entry for {given}"
    default_hint = "the bundle holds: {entries}"


class AmbiguousEntryError(TExprError):
    code = "TX0719"
    title = "several entries fit"
    template = "bundle {name}: {given} fits several entries: {entries}"
    default_hint = "choose with types={{...}} or statics={{...}}"


# ---- TX072x: arrays and shapes


class RankError(TExprError):
    code = "TX0721"
    title = "wrong number of dims"
    template = "{argument} has shape {shape}; it should have {ranks} dims: {declared}"


class ShapeError(TExprError):
    code = "TX0722"
    title = "shape does not fit"
    template = "{argument} has shape {shape}; {problem}"


class UnknownDimError(TExprError):
    code = "TX0723"
    title = "dim cannot be inferred"
    template = "the value of dim {dim} does not follow from the shapes of the arrays"
    default_hint = "dims={{'{dim}': ...}}"


class LayoutError(TExprError):
    code = "TX0724"
    title = "array is not laid out as declared"
    template = "{argument} with shape {shape} has strides {strides} (in elements); {expected}"
    default_hint = "numpy.ascontiguousarray({argument}) or {argument}.contiguous()"


class RequiresGradError(TExprError):
    code = "TX0725"
    title = "tensor requires grad"
    template = "{argument} requires grad, and a bundle computes no gradients"
    default_hint = "{argument}.detach(), or call inside torch.no_grad()"


class ReadOnlyError(TExprError):
    code = "TX0726"
    title = "output is read-only"
    template = "{argument}: the array given for this output is read-only"


class OverlapError(TExprError):
    code = "TX0727"
    title = "output overlaps another array"
    template = "output {output} overlaps {other} in memory"
    default_hint = "give {output} memory of its own{alias}"


class PackedTypeError(TExprError):
    code = "TX0728"
    title = "packed types are not supported from Python"
    template = "{argument} has the packed element type {dtype}, which the Python face does not pass yet"
    default_hint = "call the bundle's C functions"


class NoOutputArrayError(TExprError):
    code = "TX0729"
    title = "output array cannot be created"
    template = "{output} cannot be created: there is no torch to allocate device memory with"
    default_hint = "pass an existing device array: out=..."


# ---- TX073x: scalars


class ScalarError(TExprError):
    code = "TX0731"
    title = "scalar does not fit its type"
    template = "{argument}: {value!r} is not a value of type {dtype}{why}"


class DimValueError(TExprError):
    code = "TX0732"
    title = "dim value is not an integer"
    template = "dims: {dim} = {value!r} is not an integer"


# ---- TX074x: what the launcher or the driver refuses


class DimRangeError(TExprError):
    code = "TX0741"
    title = "dim out of range"
    template = "{name}: {dim} = {value} is outside the supported range 0 to 2147418112"


class RequirementError(TExprError):
    code = "TX0742"
    title = "requirement of the algorithm fails"
    template = "{name} requires {fact}, which does not hold for {dims}"


class MisalignedError(TExprError):
    code = "TX0743"
    title = "pointer is not aligned to its element"
    template = "{argument}: its address is not a multiple of the size of a {dtype}"


class IndexRangeError(TExprError):
    code = "TX0744"
    title = "sizes overflow index arithmetic"
    template = "{name}: the sizes {dims} overflow the index arithmetic of the variant chosen for them"
    default_hint = "split the problem along its largest dim"


class ScalarRangeError(TExprError):
    code = "TX0745"
    title = "scalar out of its declared range"
    template = "{argument} is outside its declared range [{low}, {high})"


class StrideError(TExprError):
    code = "TX0746"
    title = "stride too small"
    template = "{argument}: a stride is negative or smaller than the row it steps over"


class ContractBrokenError(TExprError):
    code = "TX0739"
    title = "elements break a contract"
    template = "{argument}: element {position} {problem}; the signature says '{contract}'"
    default_hint = "keep the contract: on a GPU nothing checks it, and the kernel may read or write anywhere"


class NoVariantError(TExprError):
    code = "TX0747"
    title = "no variant for these arguments"
    template = "{name}: no variant's guard holds for {dims} on compute capability {capability}"
    default_hint = "`python -m texpr.runtime info` prints the guards; add a variant to the schedule"


class NoKernelImageError(TExprError):
    code = "TX0748"
    title = "no code for this GPU"
    template = "{name} has no code for compute capability {capability}; it was built for: {targets}"
    default_hint = "build the bundle with `--target` for this GPU"


class CapturingError(TExprError):
    code = "TX0749"
    title = "first call during stream capture"
    template = "{name}: kernels cannot be loaded while the stream is capturing a graph"
    default_hint = "call the bundle once before the capture"


class NoDriverError(TExprError):
    code = "TX0750"
    title = "no CUDA driver"
    template = "{name}: libcuda.so.1, or a function of it, was not found"
    default_hint = "load with device='emulator', or install the NVIDIA driver"


class DriverError(TExprError):
    code = "TX0751"
    title = "driver call failed"
    template = "{name}: a CUDA driver call failed with CUresult {result}"


class ResourceError(TExprError):
    code = "TX0752"
    title = "kernel resources differ from the manifest"
    template = "{name}: the kernels the driver loaded use other resources than the bundle was built with"


class OldDriverError(TExprError):
    code = "TX0755"
    title = "driver too old"
    template = "{name}: its kernels need a driver for CUDA {needed} or later, this one is for CUDA {have}"
    default_hint = "update the NVIDIA driver, or build the bundle with an older assembler: texpr aot --ptxas PATH"


class NoContextError(TExprError):
    code = "TX0753"
    title = "no CUDA context"
    template = "{name}: no CUDA context is current in this thread"
    default_hint = "use the library that made the arrays to select its device in this thread first"


class MixedStreamsError(TExprError):
    code = "TX0754"
    title = "arrays on different streams"
    template = "{name}: the arrays were produced on different CUDA streams ({streams})"
    default_hint = "stream=..., after ordering the other streams before it"


class StatusError(TExprError):
    code = "TX0759"
    title = "launcher refused"
    template = "{name}: the launcher returned {status} ({text})"
