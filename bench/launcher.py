"""What a launch costs on the host: the generated C launcher with a driver table whose functions return at once.

    python bench/launcher.py [--calls 2000000] [--repeats 7] [--cc gcc] [--flags=-O2]

Prints one JSON object; times are nanoseconds per launch, argument checks and the two driver calls included. Goal: at
most 60.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from texpr.aot.header import header_h
from texpr.aot.ir import (
    Entry,
    IntValue,
    KernelParam,
    KernelSource,
    Launch,
    Package,
    PresentFlag,
    TensorArgument,
    TensorPointer,
    Variant,
)
from texpr.aot.launcher import launcher_c
from texpr.dtypes import DType
from texpr.math.expr import TRUE, BoolExpr, aligned, ceildiv, conjunction, eq, ge, le, sym

ABI = Path(__file__).parent.parent / "texpr" / "aot" / "texpr_abi.h"
GOAL = 60.0


@dataclass(frozen=True, slots=True)
class Image:
    """A stand-in for a compiled kernel."""

    kernel: str
    target: str
    cubin: bytes = b"no kernel"
    warps: int = 4
    shared_bytes: int = 65536
    registers: int = 96
    stack_bytes: int = 0
    minimum_driver: int = 12000


def linear_like() -> Package:
    """The launch side of a linear layer: three tensors and an optional one, three dims, an aligned and two general
    variants.
    """
    m, n, k = sym("M"), sym("N"), sym("K")
    arguments = (
        TensorArgument("x", DType.F16, (m, k), (1, 1), output=False),
        TensorArgument("w", DType.F16, (k, n), (1, 1), output=False),
        TensorArgument("b", DType.F16, (n,), (1,), output=False, optional=True),
        TensorArgument("y", DType.F16, (m, n), (1, 1), output=True),
    )
    pointers = tuple(KernelParam(name, "*fp16", TensorPointer(name)) for name in "xwby")
    dims = tuple(KernelParam(name, "i32", IntValue(sym(name))) for name in "MNK")
    params = (*pointers, KernelParam("b_given", "i32", PresentFlag("b")), *dims)
    small = tuple(le(size, 2**31 - 1) for size in (m * k, k * n, m * n))
    guards: dict[str, BoolExpr] = {
        "wide": conjunction(ge(m, 4096), ge(n, 256), aligned("x", "w", "y", to=16)),
        "aligned": conjunction(eq(n % 8, 0), aligned("x", "w", "y", to=16)),
        "any": TRUE,
    }
    variants = tuple(
        Variant(name, ("sm_80",), guard, (Launch(f"linear_{name}", ceildiv(m, 128) * ceildiv(n, 128)),), limits=small)
        for name, guard in guards.items()
    )
    kernels = tuple(KernelSource(f"linear_{name}", "", (), params, 4, ("sm_80",)) for name in guards)
    entry = Entry("linear", (), (), arguments, ("M", "N", "K"), (), (eq(k % 8, 0),), variants)
    return Package("linear", (entry,), kernels, "", "")


PROGRAM = r"""
#define _POSIX_C_SOURCE 199309L
#include "linear.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int the_context;
static int current(void **context) { *context = &the_context; return 0; }
static int device(int *ordinal) { *ordinal = 0; return 0; }
static int attribute(int *value, int which, int ordinal) {
  (void)ordinal;
  *value = which == 75 ? 8 : which == 76 ? 0 : which == 97 ? 166912 : 108;
  return 0;
}
static int capturing(void *stream, int *status) { (void)stream; *status = 0; return 0; }
static int load(void **module, const void *image) { (void)image; *module = &the_context; return 0; }
static int unload(void *module) { (void)module; return 0; }
static int function(void **out, void *module, const char *name) {
  (void)module; (void)name;
  *out = &the_context;
  return 0;
}
static int get(int *value, int which, void *kernel) {
  (void)kernel;
  *value = which == 4 ? 96 : which == 0 ? 1024 : 0;
  return 0;
}
static int set(void *kernel, int which, int value) { (void)kernel; (void)which; (void)value; return 0; }
static int launch(const texpr_launch_config *config, void *kernel, void **params, void **extra) {
  (void)config; (void)kernel; (void)params; (void)extra;
  return 0;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv) {
  long calls = atol(argv[argc - 2]), repeats = atol(argv[argc - 1]), repeat, call;
  texpr_driver driver;
  linear_ctx ctx;
  linear_args args;
  texpr_error error;
  memset(&driver, 0, sizeof driver);
  driver.struct_size = sizeof driver;
  driver.abi_version = TEXPR_ABI_VERSION;
  driver.ctx_get_current = current;
  driver.ctx_get_device = device;
  driver.device_get_attribute = attribute;
  driver.stream_is_capturing = capturing;
  driver.module_load_data = load;
  driver.module_unload = unload;
  driver.module_get_function = function;
  driver.func_get_attribute = get;
  driver.func_set_attribute = set;
  driver.launch_kernel_ex = launch;
  if (linear_init(&ctx, &driver, &error) != TEXPR_OK) return 1;
  memset(&args, 0, sizeof args);
  args.struct_size = sizeof args;
  args.abi_version = TEXPR_ABI_VERSION;
  args.x = (void *)0x10000000;
  args.w = (void *)0x20000000;
  args.b = (void *)0x30000000;
  args.y = (void *)0x40000000;
  args.M = 300;
  args.N = 512;
  args.K = 64;
  for (repeat = 0; repeat < repeats; ++repeat) {
    const double start = now();
    for (call = 0; call < calls; ++call) {
      args.M = 1 + call % 1000;
      if (linear_launch(&ctx, NULL, &args, NULL, 0, &error) != TEXPR_OK) return 1;
    }
    printf("%.3f\n", (now() - start) / (double)calls);
  }
  return 0;
}
"""


def measure(compiler: str, flags: list[str], calls: int, repeats: int) -> list[float]:
    """Nanoseconds per launch, one number per repeat."""
    package = linear_like()
    images = [Image(kernel.name, "sm_80") for kernel in package.kernels]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ABI, folder)
        (folder / "linear.h").write_text(header_h(package))
        (folder / "linear.c").write_text(launcher_c(package, images))
        (folder / "main.c").write_text(PROGRAM)
        sources = [str(folder / "main.c"), str(folder / "linear.c")]
        subprocess.run([compiler, *flags, *sources, "-o", str(folder / "main"), "-ldl"], check=True)
        command = [str(folder / "main"), str(calls), str(repeats)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Host cost of one launch.")
    parser.add_argument("--calls", type=int, default=2_000_000, help="launches per measurement (default: 2000000)")
    parser.add_argument("--repeats", type=int, default=7, help="measurements (default: 7)")
    parser.add_argument("--cc", default="cc", help="C compiler (default: cc)")
    parser.add_argument("--flags", default="-O2", help="its flags (default: -O2)")
    options = parser.parse_args(arguments)
    samples = measure(options.cc, shlex.split(options.flags), options.calls, options.repeats)
    report = {
        "benchmark": "launcher",
        "unit": "ns per launch",
        "best": min(samples),
        "median": sorted(samples)[len(samples) // 2],
        "samples": samples,
        "goal": GOAL,
        "calls": options.calls,
        "compiler": [options.cc, *shlex.split(options.flags)],
        "machine": platform.machine(),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
