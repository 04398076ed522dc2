"""Mistakes in making a pack (TX0801 to TX0807) and in running one (TX0811 to TX0815)."""

from __future__ import annotations

from texpr.errors import TExprError

# ---- making a pack


class UnknownKernel(TExprError):
    code = "TX0801"
    title = "no such kernel"
    template = "{name}: {why}"
    default_hint = "FILE.py:NAME, or one of: {known}"


class PackTooLarge(TExprError):
    code = "TX0802"
    title = "pack over its size"
    template = "the pack would take {size:.1f} MB, --max-size allows {limit:.1f} MB; largest: {parts}"
    default_hint = "fewer targets (--target), types (--type) or calls (--calls), or several packs"


class OccupiedPack(TExprError):
    code = "TX0803"
    title = "something else is in the way"
    template = "{path} exists, is not empty and is no pack; it will not be replaced"
    default_hint = "another folder with -o"


class SizeRefused(TExprError):
    code = "TX0804"
    title = "sizes that cannot be timed"
    template = "--size {text}: {why}"
    default_hint = "NAME:M=4096,N=4096 with every free dim of the kernel: {dims}"


class PeersFile(TExprError):
    code = "TX0805"
    title = "unreadable file of peers"
    template = "{file}: {why}"
    default_hint = "a YAML mapping from algorithm names to Python expressions, such as dense: x @ w"


class NoLauncher(TExprError):
    code = "TX0806"
    title = "no launcher for the pack"
    template = "{name}: its launcher could not be built here ({why}), and the pack's user has no compiler"
    default_hint = "install a C compiler, or set CC"


class NotComparable(TExprError):
    code = "TX0807"
    title = "kernel that a pack cannot judge"
    template = "{name}: only the device knows {dims}, and a pack compares whole outputs"
    default_hint = "leave it out of the pack; texpr check runs it on the emulator"


# ---- running a pack


class NotAPack(TExprError):
    code = "TX0811"
    title = "not a pack"
    template = "{folder}: {why}"
    default_hint = "copy the whole folder that `texpr pack` wrote, and run the run.py in it"


class NoGpu(TExprError):
    code = "TX0812"
    title = "no GPU to run on"
    template = "the CUDA driver cannot be used: {why}"
    default_hint = "run where there is an NVIDIA GPU and driver, or --device emulator"


class NoVariantForGpu(TExprError):
    code = "TX0813"
    title = "nothing for this GPU"
    template = "{device} has compute capability {capability}; the pack has kernels for {targets}"
    default_hint = "make a pack for it: texpr pack ... --target {wanted}"


class NothingSelected(TExprError):
    code = "TX0814"
    title = "no such case"
    template = "--only {pattern} matches none of the pack's {count} cases for {device}"
    default_hint = "--list prints them; patterns are like 'softmax*'"


class RunnerOption(TExprError):
    code = "TX0815"
    title = "option of the runner"
    template = "{option}: {why}"
    default_hint = "see --help"
