"""A package and its cubins as one C file: the launcher that ships in the bundle.

It checks every argument, chooses the variant and launches. No global state, no allocation, no printing, no exit;
everything is loaded at init; a launch costs one context query and one driver call per kernel, and may be captured into
a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from texpr.aot.c_entry import EntryContext, entry_context
from texpr.aot.c_names import byte_rows, comment_block, string_literal, wrapped
from texpr.aot.c_support import LIMITS, TYPES, driver_open_text, functions_called_by
from texpr.aot.header import check_names
from texpr.aot.ir import Package
from texpr.aot.launcher_entry import entry_text
from texpr.targets import TARGETS

STATUSES: Final[tuple[tuple[str, str], ...]] = (
    ("TEXPR_OK", "ok"),
    ("TEXPR_E_NULL", "a required pointer is null"),
    ("TEXPR_E_ABI", "struct_size or abi_version does not match this bundle"),
    ("TEXPR_E_DIM", "a dim is negative or larger than supported"),
    ("TEXPR_E_REQUIRE", "a condition that the algorithm requires does not hold"),
    ("TEXPR_E_MISALIGNED", "a pointer is not aligned to its element size"),
    ("TEXPR_E_OVERLAP", "an output overlaps another tensor or the workspace"),
    ("TEXPR_E_RANGE", "sizes overflow the index arithmetic"),
    ("TEXPR_E_SCALAR", "a scalar is outside its declared range"),
    ("TEXPR_E_STRIDE", "a stride is negative or smaller than the row below it"),
    ("TEXPR_E_WORKSPACE", "the workspace is null or too small"),
    ("TEXPR_E_WORKSPACE_ALIGN", "the workspace is not aligned to 256 bytes"),
    ("TEXPR_E_NO_VARIANT", "no variant accepts these arguments on this GPU"),
    ("TEXPR_E_NO_KERNEL_IMAGE", "this bundle contains no kernels for this GPU"),
    ("TEXPR_E_WRONG_CONTEXT", "the current CUDA context is not the one init was called in"),
    ("TEXPR_E_NOT_INITIALISED", "init did not succeed on this context object, or it was closed"),
    ("TEXPR_E_CAPTURING", "init and close are not possible while a stream is being captured"),
    ("TEXPR_E_NO_DRIVER", "the CUDA driver or one of its entry points is missing"),
    ("TEXPR_E_DRIVER", "a CUDA driver call failed"),
    ("TEXPR_E_RESOURCES", "the driver reports other resources for a kernel than the compiler did"),
    ("TEXPR_E_OLD_DRIVER", "the CUDA driver is older than the kernels of this bundle need"),
)
"""Every status of texpr_abi.h with the sentence that ``<bundle>_status_string`` answers."""


class KernelImage(Protocol):
    """What the launcher needs of a compiled kernel: :class:`texpr.aot.cubin.CompiledKernel` has it all. Sizes in
    bytes.
    """

    @property
    def kernel(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def cubin(self) -> bytes: ...
    @property
    def warps(self) -> int: ...
    @property
    def shared_bytes(self) -> int: ...
    @property
    def registers(self) -> int: ...
    @property
    def stack_bytes(self) -> int: ...
    @property
    def minimum_driver(self) -> int: ...


def launcher_c(package: Package, compiled: Sequence[KernelImage]) -> str:
    """The text of ``<name>.c``: strict C89 to C23 and C++98 to C++23, identical for equal inputs.

    ``compiled`` holds at most one image per (kernel, target); it is sorted here. Raises ValueError for what the IR's
    types cannot rule out: colliding names, unknown targets or symbols, kernel parameters whose type does not fit the
    value, entries without images.
    """
    check_names(package)
    prefix = package.name
    kernels = {kernel.name: kernel for kernel in package.kernels}
    images = _sorted_images(package, compiled)
    targets = [name for name in TARGETS if any(image.target == name for image in images)]
    rows = {(image.kernel, image.target): row for row, image in enumerate(images)}
    contexts = [entry_context(prefix, entry, targets) for entry in package.entries]
    entries = [line for context in contexts for line in ["", *entry_text(context, kernels, rows)]]
    ending = ["", *_strings(prefix, targets), "", driver_open_text(prefix).rstrip("\n")]
    functions = functions_called_by("\n".join([*entries, *ending]), prefix)
    return "\n".join(
        [
            *_opening(package, contexts),
            "",
            *_cubins(prefix, images),
            "",
            TYPES.substitute(p=prefix),
            *_image_rows(prefix, images),
            "",
            LIMITS,
            *functions.values(),
            *[piece for line in entries[1:] for piece in wrapped(line)],
            *ending,
            "",
        ]
    )


def _sorted_images(package: Package, compiled: Sequence[KernelImage]) -> list[KernelImage]:
    order = [kernel.name for kernel in package.kernels]
    for image in compiled:
        if image.kernel not in order or image.target not in TARGETS:
            raise ValueError(f"{package.name} has no kernel {image.kernel} for target {image.target}")
    names = [(image.kernel, image.target) for image in compiled]
    if len(set(names)) != len(names):
        raise ValueError(f"{package.name}: two cubins of the same kernel for the same target")
    targets = list(TARGETS)
    return sorted(compiled, key=lambda image: (order.index(image.kernel), targets.index(image.target)))


def _opening(package: Package, contexts: Sequence[EntryContext]) -> list[str]:
    name = package.name
    symbols = ", ".join(context.symbol for context in contexts)
    return [
        *comment_block(
            f"{name}.c: the launcher of {symbols}. Generated by TExpr; do not edit.\n\n"
            "Compile it as C (C89 or later) or C++ (C++98 or later) and link it with your program; it needs no CUDA "
            f"headers or libraries. {name}.h says how to call it. In order: the cubins, helper functions, then per "
            "entry: init and close, the check of the arguments, one function per variant, query and launch."
        ),
        f'#include "{name}.h"',
        "",
        "#include <string.h>",
    ]


def _cubins(prefix: str, images: Sequence[KernelImage]) -> list[str]:
    lines = ["/* The kernels, as ELF images in a union that aligns them. */"]
    for row, image in enumerate(images):
        lines += [
            f"static const union {{ unsigned char bytes[{len(image.cubin)}]; uint64_t alignment; }} "
            f"{prefix}_cubin_{row} = {{{{",
            f"/* {image.kernel} for {image.target} */",
            *byte_rows(image.cubin),
            "}};",
        ]
    return lines


def _image_rows(prefix: str, images: Sequence[KernelImage]) -> list[str]:
    rows = [
        f"  {{{string_literal(image.kernel)}, {prefix}_cubin_{row}.bytes, {32 * image.warps}, {image.shared_bytes}, "
        f"{image.registers}, {image.stack_bytes}, "
        f"{image.minimum_driver}}}{',' if row + 1 < len(images) else ''} /* {row}: {image.target} */"
        for row, image in enumerate(images)
    ]
    return [f"static const struct {prefix}_image {prefix}_images[{len(images)}] = {{", *rows, "};"]


def _strings(prefix: str, targets: Sequence[str]) -> list[str]:
    return [
        f"const char *{prefix}_status_string(texpr_status status) {{",
        "  switch (status) {",
        *[f"    case {status}: return {string_literal(text)};" for status, text in STATUSES],
        '    default: return "not a status of this bundle";',
        "  }",
        "}",
        "",
        f"const char *{prefix}_architectures(void) {{",
        f"  return {string_literal(' '.join(targets))};",
        "}",
    ]
