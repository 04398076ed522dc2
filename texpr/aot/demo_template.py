"""The part of ``demo.c`` that is the same in every bundle: driver calls, files, number formats, the comparison."""

from __future__ import annotations

from typing import Final

TEMPLATE: Final = r"""#include "$NAME.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is computed: fixed when the demo was generated ---- */

enum element_type { F8E4M3, F8E5M2, F16, BF16, F32, F64, I4, I8, I16, I32, I64, U4, U8, U16, U32, U64, BOOL };

struct tensor {
  const char *name;
  enum element_type type;
  int output;
  int present; /* 0: an optional tensor that this call leaves out */
  size_t elements;
  size_t bytes;
};

$TABLES

/* ---- the driver: the few entry points a program needs besides those the launcher uses ---- */

struct cuda {
  int (*init)(unsigned int flags);
  int (*device_get)(int *device, int ordinal);
  int (*primary_context)(void **context, int device);
  int (*set_context)(void *context);
  int (*synchronize)(void);
  int (*allocate)(uint64_t *address, size_t bytes);
  int (*release)(uint64_t address);
  int (*to_device)(uint64_t address, const void *source, size_t bytes);
  int (*to_host)(void *target, uint64_t address, size_t bytes);
};

static void stop(const char *what, const char *detail) {
  fprintf(stderr, "demo: %s%s%s\n", what, detail[0] != '\0' ? ": " : "", detail);
  exit(2);
}

static void require(int result, const char *call) {
  if (result == 0) return;
  fprintf(stderr, "demo: %s failed with CUresult %d\n", call, result);
  exit(2);
}

static void entry_point(void *library, const char *name, void *slot) {
  void *address = dlsym(library, name);
  if (address == NULL) stop("the CUDA driver lacks", name);
  memcpy(slot, &address, sizeof address);
}

static void open_cuda(struct cuda *cuda) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    stop("no CUDA driver on this machine; on the CPU: python3 -m texpr.emulator run --bundle FOLDER -- PROGRAM", "");
  }
  entry_point(library, "cuInit", &cuda->init);
  entry_point(library, "cuDeviceGet", &cuda->device_get);
  entry_point(library, "cuDevicePrimaryCtxRetain", &cuda->primary_context);
  entry_point(library, "cuCtxSetCurrent", &cuda->set_context);
  entry_point(library, "cuCtxSynchronize", &cuda->synchronize);
  entry_point(library, "cuMemAlloc_v2", &cuda->allocate);
  entry_point(library, "cuMemFree_v2", &cuda->release);
  entry_point(library, "cuMemcpyHtoD_v2", &cuda->to_device);
  entry_point(library, "cuMemcpyDtoH_v2", &cuda->to_host);
}

static void require_status(texpr_status status, const texpr_error *error, const char *call) {
  if (status == TEXPR_OK) return;
  fprintf(stderr, "demo: %s: %s (status %d, CUresult %d, argument %d, GPU %d; kernels for %s)\n", call,
      $NAME_status_string(status), (int)status, (int)error->cuda_result, (int)error->argument, (int)error->capability,
      $NAME_architectures());
  exit(2);
}

/* ---- files and memory ---- */

static unsigned char *new_bytes(size_t bytes) {
  unsigned char *memory = (unsigned char *)malloc(bytes + 1);
  if (memory == NULL) stop("out of memory", "");
  return memory;
}

/* The whole of <folder>/<name><suffix>, which must have exactly this many bytes. */
static unsigned char *read_file(const char *folder, const char *name, const char *suffix, size_t bytes) {
  char *path = (char *)new_bytes(strlen(folder) + strlen(name) + strlen(suffix) + 2);
  unsigned char *data = new_bytes(bytes);
  FILE *file;
  sprintf(path, "%s/%s%s", folder, name, suffix);
  file = fopen(path, "rb");
  if (file == NULL) stop("cannot open", path);
  if (fread(data, 1, bytes + 1, file) != bytes) stop("does not have the expected size", path);
  fclose(file);
  free(path);
  return data;
}

/* ---- numbers ---- */

static int is_integer(enum element_type type) {
  return type >= I4;
}

static double scaled(double value, int exponent) {
  for (; exponent > 0; --exponent) value *= 2;
  for (; exponent < 0; ++exponent) value /= 2;
  return value;
}

/* An IEEE-like number of a sign, some exponent bits and some mantissa bits. The f8 type with four exponent bits has no
 * infinities: only all ones is no number. */
static double small_float(unsigned int bits, int exponent_bits, int mantissa_bits) {
  const unsigned int mantissa = bits & ((1u << mantissa_bits) - 1u);
  const int largest = (1 << exponent_bits) - 1, bias = largest / 2;
  const int exponent = (int)(bits >> mantissa_bits) & largest;
  const double sign = (bits >> (exponent_bits + mantissa_bits)) & 1u ? -1 : 1;
  const int finite_only = exponent_bits == 4;
  if (exponent == largest && !finite_only) return mantissa == 0 ? sign * HUGE_VAL : HUGE_VAL - HUGE_VAL;
  if (exponent == largest && mantissa == (1u << mantissa_bits) - 1u) return HUGE_VAL - HUGE_VAL;
  if (exponent == 0) return sign * scaled((double)mantissa, 1 - bias - mantissa_bits);
  return sign * scaled((double)(mantissa | 1u << mantissa_bits), exponent - bias - mantissa_bits);
}

static unsigned int half_word(const unsigned char *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static double float_at(enum element_type type, const unsigned char *data, size_t index) {
  switch (type) {
    case F8E4M3: return small_float(data[index], 4, 3);
    case F8E5M2: return small_float(data[index], 5, 2);
    case F16: return small_float(half_word(data + 2 * index), 5, 10);
    case BF16: return small_float(half_word(data + 2 * index), 8, 7);
    case F32: {
      float value;
      memcpy(&value, data + 4 * index, sizeof value);
      return value;
    }
    default: {
      double value;
      memcpy(&value, data + 8 * index, sizeof value);
      return value;
    }
  }
}

/* u64 as the int64 with the same bits. */
static int64_t integer_at(enum element_type type, const unsigned char *data, size_t index) {
  const unsigned int nibble = ((unsigned int)data[type == I4 || type == U4 ? index / 2 : 0] >> (index % 2 * 4)) & 15u;
  int16_t i16;
  int32_t i32;
  uint32_t u32;
  int64_t i64;
  switch (type) {
    case I4: return (int64_t)nibble - (nibble > 7 ? 16 : 0);
    case U4: return (int64_t)nibble;
    case I8: return (int64_t)data[index] - (data[index] > 127 ? 256 : 0);
    case U8:
    case BOOL: return (int64_t)data[index];
    case I16: memcpy(&i16, data + 2 * index, sizeof i16); return i16;
    case U16: return (int64_t)half_word(data + 2 * index);
    case I32: memcpy(&i32, data + 4 * index, sizeof i32); return i32;
    case U32: memcpy(&u32, data + 4 * index, sizeof u32); return (int64_t)u32;
    default: memcpy(&i64, data + 8 * index, sizeof i64); return i64;
  }
}

/* ---- the comparison ---- */

/* 0 for equal infinities and for two results that are no number; infinite when only one of them is a number. */
static double float_error(double got, double expected) {
  const int got_nan = got != got, expected_nan = expected != expected;
  if (got_nan || expected_nan) return got_nan && expected_nan ? 0 : HUGE_VAL;
  if (got == expected) return 0;
  return got > expected ? got - expected : expected - got;
}

static double integer_error(int64_t got, int64_t expected) {
  return got > expected ? (double)((uint64_t)got - (uint64_t)expected) : (double)((uint64_t)expected - (uint64_t)got);
}

/* Prints one line about an output; returns whether every element is within its bound. */
static int compare(const char *folder, const struct tensor *tensor, const unsigned char *data) {
  unsigned char *expected = read_file(folder, tensor->name, ".expected.bin", 8 * tensor->elements);
  unsigned char *bounds = read_file(folder, tensor->name, ".bound.bin", 8 * tensor->elements);
  double worst = 0, largest = 0;
  size_t index, wrong = 0, first = 0;
  for (index = 0; index < tensor->elements; ++index) {
    const double bound = float_at(F64, bounds, index);
    const double error = is_integer(tensor->type)
        ? integer_error(integer_at(tensor->type, data, index), integer_at(I64, expected, index))
        : float_error(float_at(tensor->type, data, index), float_at(F64, expected, index));
    const double units = error > 0 ? (bound > 0 ? error / bound : HUGE_VAL) : 0;
    if (units > worst) worst = units;
    if (error > largest) largest = error;
    if (!(error <= bound) && wrong++ == 0) first = index;
  }
  printf("%s: %lu elements, largest error %.3g of its bound, %.3g absolute\n", tensor->name,
      (unsigned long)tensor->elements, worst, largest);
  if (wrong != 0 && is_integer(tensor->type)) {
    printf("%s: %lu wrong, the first at element %lu: %ld instead of %ld\n", tensor->name, (unsigned long)wrong,
        (unsigned long)first, (long)integer_at(tensor->type, data, first), (long)integer_at(I64, expected, first));
  } else if (wrong != 0) {
    printf("%s: %lu wrong, the first at element %lu: %.9g instead of %.9g (allowed error %.3g)\n", tensor->name,
        (unsigned long)wrong, (unsigned long)first, float_at(tensor->type, data, first), float_at(F64, expected, first),
        float_at(F64, bounds, first));
  }
  free(expected);
  free(bounds);
  return wrong == 0;
}

/* ---- the call ---- */

int main(int argc, char **argv) {
  const char *folder = argc > 1 ? argv[1] : "demo";
  struct cuda cuda;
  texpr_driver driver;
  texpr_error error;
  $SYMBOL_ctx ctx;
  $SYMBOL_args args;
  $SYMBOL_info info;
  unsigned char *host[TENSORS];
  uint64_t device[TENSORS], workspace = 0;
  void *context = NULL;
  int ordinal = 0, passed = 1, index;
  uint32_t launch;
  if (argc > 2 || (argc == 2 && argv[1][0] == '-')) stop("usage: demo [folder with the .bin files, default: demo]", "");

  open_cuda(&cuda);
  require(cuda.init(0), "cuInit");
  require(cuda.device_get(&ordinal, 0), "cuDeviceGet");
  require(cuda.primary_context(&context, ordinal), "cuDevicePrimaryCtxRetain");
  require(cuda.set_context(context), "cuCtxSetCurrent");
  require_status($NAME_driver_open(&driver, &error), &error, "$NAME_driver_open");
  require_status($SYMBOL_init(&ctx, &driver, &error), &error, "$SYMBOL_init");

  /* Inputs come from their files; outputs are filled with bytes that no correct result leaves behind. */
  for (index = 0; index < TENSORS; ++index) {
    const struct tensor *tensor = &tensors[index];
    device[index] = 0;
    host[index] = NULL;
    if (!tensor->present) continue;
    if (tensor->output) {
      host[index] = new_bytes(tensor->bytes);
      memset(host[index], is_integer(tensor->type) ? 0x5a : 0xff, tensor->bytes);
    } else {
      host[index] = read_file(folder, tensor->name, ".bin", tensor->bytes);
    }
    if (tensor->bytes == 0) continue;
    require(cuda.allocate(&device[index], tensor->bytes), "cuMemAlloc_v2");
    require(cuda.to_device(device[index], host[index], tensor->bytes), "cuMemcpyHtoD_v2");
  }

$ARGUMENTS

  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  info.abi_version = TEXPR_ABI_VERSION;
  require_status($SYMBOL_query(&ctx, &args, &info, &error), &error, "$SYMBOL_query");
  printf("$SYMBOL: $DIMS\n");
  printf("variant %s, %lu bytes of workspace\n", info.variant_name, (unsigned long)info.workspace_bytes);
  for (launch = 0; launch < info.launches; ++launch) {
    printf("  %lu blocks of %lu threads, %lu bytes of shared memory each\n", (unsigned long)info.grid[launch],
        (unsigned long)info.block[launch], (unsigned long)info.shared_bytes[launch]);
  }
  if (info.workspace_bytes != 0) {
    unsigned char *poison = new_bytes((size_t)info.workspace_bytes);
    memset(poison, 0xff, (size_t)info.workspace_bytes);
    require(cuda.allocate(&workspace, (size_t)info.workspace_bytes), "cuMemAlloc_v2");
    require(cuda.to_device(workspace, poison, (size_t)info.workspace_bytes), "cuMemcpyHtoD_v2");
    free(poison);
  }

  require_status($SYMBOL_launch(&ctx, NULL, &args, (void *)(uintptr_t)workspace, (size_t)info.workspace_bytes, &error),
      &error, "$SYMBOL_launch");
  require(cuda.synchronize(), "cuCtxSynchronize");

  for (index = 0; index < TENSORS; ++index) {
    if (tensors[index].output && tensors[index].present) {
      if (device[index] != 0) {
        require(cuda.to_host(host[index], device[index], tensors[index].bytes), "cuMemcpyDtoH_v2");
      }
      passed &= compare(folder, &tensors[index], host[index]);
    }
    if (device[index] != 0) require(cuda.release(device[index]), "cuMemFree_v2");
    free(host[index]);
  }
  if (workspace != 0) require(cuda.release(workspace), "cuMemFree_v2");
  require_status($SYMBOL_close(&ctx, &error), &error, "$SYMBOL_close");
  printf("%s\n", passed ? "PASS" : "FAIL");
  return passed ? 0 : 1;
}
"""
