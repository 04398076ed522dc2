"""The part of a launcher that is the same in every bundle: C functions, static, prefixed with the bundle's name.

Pieces are emitted only when something calls them, so that no compiler finds an unused function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Template
from typing import Final

TYPES: Final = Template("""\
/* A compiled kernel: what the driver loads, and the facts it must agree with afterwards. */
struct ${p}_image {
  const char *kernel;
  const unsigned char *cubin;
  uint32_t threads;      /* per block */
  uint32_t shared_bytes; /* dynamic, per block */
  int32_t registers;     /* per thread */
  int32_t stack_bytes;   /* per thread */
  int32_t driver;        /* the oldest that loads it, as a CUDA version: 13000 is 13.0 */
};

/* What init learned about the current context and its GPU; begins every context object. */
struct ${p}_device {
  texpr_driver driver;
  uint64_t magic; /* tells an initialised context object from other memory */
  void *context;
  int32_t capability; /* major * 10 + minor */
  int32_t sms;
  int32_t shared_limit; /* bytes of shared memory a block may opt in to */
  int32_t target;       /* which set of images serves this GPU */
};

/* The bytes between the first and the last element of a tensor; begin is 0 for an optional one that is absent. */
struct ${p}_range {
  uint64_t begin;
  uint64_t bytes;
};
""")

_FUNCTIONS: Final[dict[str, str]] = {
    "clear": """\
/* Every call begins with an empty report. */
static void ${p}_clear(texpr_error *error) {
  if (error == NULL) return;
  memset(error, 0, sizeof *error);
  error->argument = -1;
  error->other = -1;
  error->dim = -1;
}
""",
    "fail_at": """\
static texpr_status ${p}_fail_at(texpr_error *error, texpr_status status, int32_t argument, int32_t other,
    int32_t dim) {
  if (error != NULL) {
    error->status = status;
    error->argument = argument;
    error->other = other;
    error->dim = dim;
  }
  return status;
}
""",
    "fail": """\
static texpr_status ${p}_fail(texpr_error *error, texpr_status status, int32_t argument) {
  return ${p}_fail_at(error, status, argument, -1, -1);
}
""",
    "driver_failed": """\
/* A driver call failed with this CUresult. */
static texpr_status ${p}_driver_failed(texpr_error *error, int result) {
  if (error != NULL) error->cuda_result = result;
  return ${p}_fail(error, TEXPR_E_DRIVER, -1);
}
""",
    "setup_failed": """\
/* The same during init and close, where 900 to 908 say that a stream is being captured. */
static texpr_status ${p}_setup_failed(texpr_error *error, int result) {
  if (error != NULL) error->cuda_result = result;
  return ${p}_fail(error, result >= 900 && result <= 908 ? TEXPR_E_CAPTURING : TEXPR_E_DRIVER, -1);
}
""",
    "min": """\
static int64_t ${p}_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
""",
    "max": """\
static int64_t ${p}_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}
""",
    "add": """\
static int64_t ${p}_add(int64_t a, int64_t b, int *overflow) {
  if (b > 0 ? a > INT64_LARGEST - b : a < INT64_SMALLEST - b) {
    *overflow = 1;
    return 0;
  }
  return a + b;
}
""",
    "mul": """\
static int64_t ${p}_mul(int64_t a, int64_t b, int *overflow) {
  if (a == 0 || b == 0) return 0;
  if (a > 0 ? (b > 0 ? a > INT64_LARGEST / b : b < INT64_SMALLEST / a)
            : (b > 0 ? a < INT64_SMALLEST / b : b < INT64_LARGEST / a)) {
    *overflow = 1;
    return 0;
  }
  return a * b;
}
""",
    "floor_div": """\
/* a / b rounded toward minus infinity. */
static int64_t ${p}_floor_div(int64_t a, int64_t b, int *overflow) {
  int64_t quotient;
  if (b == 0 || (b == -1 && a == INT64_SMALLEST)) {
    *overflow = 1;
    return 0;
  }
  quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
""",
    "floor_mod": """\
/* a - b * floor(a / b): has the sign of b. */
static int64_t ${p}_floor_mod(int64_t a, int64_t b, int *overflow) {
  int64_t rest;
  if (b == 0) {
    *overflow = 1;
    return 0;
  }
  rest = b == -1 ? 0 : a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
""",
    "place": """\
/* Reserves bytes of workspace at the next multiple of 256; returns their offset. */
static int64_t ${p}_place(int64_t *end, int64_t bytes, int *overflow) {
  const int64_t offset = (*end + 255) / 256 * 256;
  if (bytes < 0 || bytes > INT64_LARGEST - 256 - offset) {
    *overflow = 1;
    return 0;
  }
  *end = offset + bytes;
  return offset;
}
""",
    "locate": """\
/* Where a tensor of so many elements of so many bits lies. *overflow: computing elements overflowed; is cleared. */
static texpr_status ${p}_locate(struct ${p}_range *range, const void *pointer, int64_t elements, int bits,
    int optional, int *overflow, int32_t argument, texpr_error *error) {
  const int64_t element_bytes = bits < 8 ? 1 : bits / 8;
  const int too_many = (overflow != NULL && *overflow) || elements < 0 || elements > INT64_LARGEST / element_bytes;
  if (overflow != NULL) *overflow = 0;
  range->begin = (uint64_t)(uintptr_t)pointer;
  range->bytes = 0;
  if (pointer == NULL && optional) return TEXPR_OK;
  if (pointer == NULL && (too_many || elements != 0)) return ${p}_fail(error, TEXPR_E_NULL, argument);
  if (range->begin % (uint64_t)element_bytes != 0) return ${p}_fail(error, TEXPR_E_MISALIGNED, argument);
  if (too_many) return ${p}_fail(error, TEXPR_E_RANGE, argument);
  range->bytes = (uint64_t)(bits < 8 ? elements / 2 + elements % 2 : elements * element_bytes);
  if (range->bytes > (uint64_t)-1 - range->begin) return ${p}_fail(error, TEXPR_E_RANGE, argument);
  return TEXPR_OK;
}
""",
    "overlap": """\
static int ${p}_overlap(const struct ${p}_range *a, const struct ${p}_range *b) {
  return a->bytes != 0 && b->bytes != 0 && a->begin < b->begin + b->bytes && b->begin < a->begin + a->bytes;
}
""",
    "workspace": """\
/* The caller's workspace is there, aligned and large enough. */
static texpr_status ${p}_workspace(const void *workspace, size_t bytes, uint64_t needed, texpr_error *error) {
  if (needed == 0) return TEXPR_OK;
  if (error != NULL) error->needed = needed;
  if (workspace == NULL || bytes < needed) return ${p}_fail(error, TEXPR_E_WORKSPACE, -1);
  if ((uint64_t)(uintptr_t)workspace % 256 != 0) return ${p}_fail(error, TEXPR_E_WORKSPACE_ALIGN, -1);
  if (needed > (uint64_t)-1 - (uint64_t)(uintptr_t)workspace) return ${p}_fail(error, TEXPR_E_RANGE, -1);
  if (error != NULL) error->needed = 0;
  return TEXPR_OK;
}
""",
    "inside_workspace": """\
static int ${p}_inside_workspace(const struct ${p}_range *tensor, const void *workspace, uint64_t bytes) {
  struct ${p}_range scratch;
  scratch.begin = (uint64_t)(uintptr_t)workspace;
  scratch.bytes = bytes;
  return ${p}_overlap(tensor, &scratch);
}
""",
    "start": """\
/* One launch of so many blocks; returns a CUresult. */
static int ${p}_start(const texpr_driver *driver, void *function, const struct ${p}_image *image, int64_t grid,
    void *stream, void **params, void *attributes, unsigned int attribute_count) {
  texpr_launch_config config;
  config.grid_x = (unsigned int)grid;
  config.grid_y = 1;
  config.grid_z = 1;
  config.block_x = image->threads;
  config.block_y = 1;
  config.block_z = 1;
  config.shared_bytes = image->shared_bytes;
  config.stream = stream;
  config.attributes = attributes;
  config.attribute_count = attribute_count;
  return driver->launch_kernel_ex(&config, function, params, NULL);
}
""",
    "start_early": """\
/* One launch that may begin while the kernel before it in the stream still runs; returns a CUresult. */
static int ${p}_start_early(const texpr_driver *driver, void *function, const struct ${p}_image *image, int64_t grid,
    void *stream, void **params) {
  struct { /* laid out like CUlaunchAttribute */
    uint32_t id;
    uint32_t padding;
    uint64_t value[8];
  } attribute;
  memset(&attribute, 0, sizeof attribute);
  attribute.id = 6; /* PROGRAMMATIC_STREAM_SERIALIZATION */
  attribute.value[0] = 1; /* allowed */
  return ${p}_start(driver, function, image, grid, stream, params, &attribute, 1);
}
""",
    "start_clusters": """\
/* One launch of so many clusters, each of so many blocks; early: it may begin while the kernel before it in the stream
 * still runs. Returns a CUresult. */
static int ${p}_start_clusters(const texpr_driver *driver, void *function, const struct ${p}_image *image, int64_t grid,
    void *stream, void **params, uint32_t blocks, int early) {
  struct { /* laid out like CUlaunchAttribute */
    uint32_t id;
    uint32_t padding;
    uint32_t value[16];
  } attributes[2];
  memset(attributes, 0, sizeof attributes);
  attributes[0].id = 4; /* CLUSTER_DIMENSION */
  attributes[0].value[0] = blocks;
  attributes[0].value[1] = 1;
  attributes[0].value[2] = 1;
  attributes[1].id = 6; /* PROGRAMMATIC_STREAM_SERIALIZATION */
  attributes[1].value[0] = 1; /* allowed */
  return ${p}_start(driver, function, image, grid * blocks, stream, params, attributes, early ? 2 : 1);
}
""",
    "tensor_map": """\
/* Encodes the map of a tensor: dims outermost first, strides in elements, type and swizzle as the driver numbers them.
 * A tensor without elements has no map, and nothing is read or written through one. */
static texpr_status ${p}_tensor_map(const texpr_driver *driver, void *map, int type, int element_bytes, int rank,
    const void *address, const int32_t *shape, const int64_t *strides, const uint32_t *box, int swizzle,
    int32_t argument, texpr_error *error) {
  uint64_t dims[5], pitches[5], last = 0;
  uint32_t extents[5], steps[5];
  int index, result, version = 0;
  memset(map, 0, 128);
  for (index = 0; index < rank; ++index) {
    const int from = rank - 1 - index; /* the driver counts from the innermost dim */
    if (shape[from] == 0) return TEXPR_OK;
    if (strides[from] < 0 || strides[from] >= ((int64_t)1 << 40) / element_bytes) {
      return ${p}_fail(error, TEXPR_E_RANGE, argument);
    }
    dims[index] = (uint64_t)shape[from];
    extents[index] = box[from];
    steps[index] = 1;
    if (index > 0) pitches[index - 1] = (uint64_t)strides[from] * (uint64_t)element_bytes;
    last += (dims[index] - 1) * (uint64_t)strides[from] * (uint64_t)element_bytes;
  }
  result = driver->tensor_map_encode_tiled(map, type, (uint32_t)rank, (void *)(uintptr_t)address, dims, pitches,
      extents, steps, 0, swizzle, 2 /* L2_128B */, 0 /* zeros outside of the tensor */);
  if (result != 0) return ${p}_driver_failed(error, result);
  /* Drivers up to 13.1 set a bit in maps of tensors below 128 KB that makes the copy engine fault (as CUTLASS does). */
  if (last < 128 * 1024 - 1 && driver->driver_get_version != NULL) {
    result = driver->driver_get_version(&version);
    if (result != 0) return ${p}_driver_failed(error, result);
    if (version <= 13010) ((unsigned char *)map)[10] &= 0xDF; /* bit 21 of the second 64 bits, little endian */
  }
  return TEXPR_OK;
}
""",
    "refuse_capture": """\
/* Loading and unloading modules is illegal while a stream of this context is being captured. */
static texpr_status ${p}_refuse_capture(const texpr_driver *driver, texpr_error *error) {
  int capturing = 0;
  const int result = driver->stream_is_capturing(NULL, &capturing);
  if (result != 0) return ${p}_setup_failed(error, result);
  return capturing != 0 ? ${p}_fail(error, TEXPR_E_CAPTURING, -1) : TEXPR_OK;
}
""",
    "attribute": """\
/* Reads a device attribute unless an earlier read failed. */
static int ${p}_attribute(const texpr_driver *driver, int earlier, int32_t *value, int attribute, int device) {
  int number = 0;
  const int result = earlier != 0 ? earlier : driver->device_get_attribute(&number, attribute, device);
  *value = number;
  return result;
}
""",
    "attach": """\
/* Checks the driver table and reads what is needed about the current context's GPU. A table from before memset_d8_async
 * was appended serves bundles that fill nothing, one from before tensor_map_encode_tiled those without tensor maps. */
static texpr_status ${p}_attach(struct ${p}_device *device, const texpr_driver *table, int fills, int maps,
    texpr_error *error) {
  const texpr_driver *const driver = &device->driver;
  int32_t major, minor;
  int ordinal = 0, result;
  texpr_status status;
  if (table == NULL) return ${p}_fail(error, TEXPR_E_NULL, -1);
  if (table->struct_size < offsetof(texpr_driver, memset_d8_async) || table->abi_version != TEXPR_ABI_VERSION) {
    return ${p}_fail(error, TEXPR_E_ABI, -1);
  }
  memset(&device->driver, 0, sizeof device->driver);
  memcpy(&device->driver, table, table->struct_size < sizeof *table ? table->struct_size : sizeof *table);
  if (driver->ctx_get_current == NULL || driver->ctx_get_device == NULL || driver->device_get_attribute == NULL ||
      driver->stream_is_capturing == NULL || driver->module_load_data == NULL || driver->module_unload == NULL ||
      driver->module_get_function == NULL || driver->func_get_attribute == NULL || driver->func_set_attribute == NULL ||
      driver->launch_kernel_ex == NULL || (fills && (driver->memset_d8_async == NULL ||
      driver->memset_d16_async == NULL || driver->memset_d32_async == NULL)) ||
      (maps && driver->tensor_map_encode_tiled == NULL)) {
    return ${p}_fail(error, TEXPR_E_NO_DRIVER, -1);
  }
  result = driver->ctx_get_current(&device->context);
  if (result != 0) return ${p}_setup_failed(error, result);
  if (device->context == NULL) return ${p}_fail(error, TEXPR_E_WRONG_CONTEXT, -1);
  status = ${p}_refuse_capture(driver, error);
  if (status != TEXPR_OK) return status;
  result = driver->ctx_get_device(&ordinal);
  result = ${p}_attribute(driver, result, &major, 75, ordinal);
  result = ${p}_attribute(driver, result, &minor, 76, ordinal);
  result = ${p}_attribute(driver, result, &device->sms, 16, ordinal);
  result = ${p}_attribute(driver, result, &device->shared_limit, 97, ordinal);
  if (result != 0) return ${p}_setup_failed(error, result);
  if (major < 0 || major > 1000 || minor < 0 || minor > 9 || device->sms < 1) {
    return ${p}_fail(error, TEXPR_E_DRIVER, -1);
  }
  device->capability = major * 10 + minor;
  if (error != NULL) error->capability = device->capability;
  return TEXPR_OK;
}
""",
    "load": """\
/* Loads one image into the current context, ready to launch, and checks that the driver sees the kernel that the
 * compiler described. */
static texpr_status ${p}_load(const texpr_driver *driver, const struct ${p}_image *image, void **module,
    void **function, texpr_error *error) {
  int registers = 0, local_bytes = 0, threads = 0, version = 0;
  int result = driver->driver_get_version == NULL ? 0 : driver->driver_get_version(&version);
  if (result != 0) return ${p}_setup_failed(error, result);
  if (driver->driver_get_version != NULL && version < image->driver) {
    if (error != NULL) error->needed = (uint64_t)image->driver;
    return ${p}_fail_at(error, TEXPR_E_OLD_DRIVER, -1, version, -1);
  }
  result = driver->module_load_data(module, image->cubin);
  if (result != 0) *module = NULL;
  if (result == 0) result = driver->module_get_function(function, *module, image->kernel);
  if (result == 0 && image->shared_bytes > 48 * 1024) {
    result = driver->func_set_attribute(*function, 8, (int)image->shared_bytes); /* MAX_DYNAMIC_SHARED_SIZE_BYTES */
  }
  if (result == 0) result = driver->func_get_attribute(&registers, 4, *function);   /* NUM_REGS */
  if (result == 0) result = driver->func_get_attribute(&local_bytes, 3, *function); /* LOCAL_SIZE_BYTES */
  if (result == 0) result = driver->func_get_attribute(&threads, 0, *function);     /* MAX_THREADS_PER_BLOCK */
  if (result == 0 && driver->func_load != NULL) result = driver->func_load(*function);
  if (result != 0) return ${p}_setup_failed(error, result);
  if (registers != image->registers || local_bytes > (image->stack_bytes + 15) / 16 * 16 ||
      threads < (int)image->threads) {
    return ${p}_fail(error, TEXPR_E_RESOURCES, -1);
  }
  return TEXPR_OK;
}
""",
    "unload": """\
/* Unloads every module that is loaded; returns the first failure. A driver that is shutting down (4) has unloaded
 * them itself. */
static int ${p}_unload(const texpr_driver *driver, void **modules, int count) {
  int first = 0;
  int index;
  for (index = 0; index < count; ++index) {
    const int result = modules[index] == NULL ? 0 : driver->module_unload(modules[index]);
    modules[index] = NULL;
    if (first == 0 && result != 4) first = result;
  }
  return first;
}
""",
    "detach": """\
/* close: the bound context must be current, or the driver gone. */
static texpr_status ${p}_detach(const struct ${p}_device *device, void **modules, int count, int *detached,
    texpr_error *error) {
  void *current = NULL;
  texpr_status status;
  int result = device->driver.ctx_get_current(&current);
  *detached = result == 4; /* CUDA_ERROR_DEINITIALIZED: the process is exiting and everything is gone */
  if (*detached) return TEXPR_OK;
  if (result != 0) return ${p}_setup_failed(error, result);
  if (current != device->context) return ${p}_fail(error, TEXPR_E_WRONG_CONTEXT, -1);
  status = ${p}_refuse_capture(&device->driver, error);
  if (status != TEXPR_OK) return status;
  *detached = 1;
  result = ${p}_unload(&device->driver, modules, count);
  return result != 0 ? ${p}_setup_failed(error, result) : TEXPR_OK;
}
""",
}

LIMITS: Final = """\
#define INT64_LARGEST 9223372036854775807
#define INT64_SMALLEST (-INT64_LARGEST - 1)
"""

DRIVER_OPEN: Final = Template("""\
#ifdef TEXPR_NO_DLOPEN
/* On systems without dlopen the host fills the table itself. */
texpr_status ${p}_driver_open(texpr_driver *driver, texpr_error *error) {
  ${p}_clear(error);
  if (driver == NULL) return ${p}_fail(error, TEXPR_E_NULL, -1);
  memset(driver, 0, sizeof *driver);
  return ${p}_fail(error, TEXPR_E_NO_DRIVER, -1);
}
#else
#include <dlfcn.h>

/* cuGetProcAddress_v2: the version asked for pins the signature of what it returns. */
typedef int (*${p}_lookup)(const char *name, void **address, int version, uint64_t flags, int *found);

/* Puts the address of a driver function into a slot of the table; returns whether there is one. */
static int ${p}_resolve(void *library, ${p}_lookup lookup, const char *name, int version, void *slot) {
  void *address = NULL;
  int found = 0;
  if (lookup == NULL || lookup(name, &address, version, 0, &found) != 0 || found != 0) address = NULL;
  if (address == NULL) address = dlsym(library, name);
  memcpy(slot, &address, sizeof address);
  return address != NULL;
}

texpr_status ${p}_driver_open(texpr_driver *driver, texpr_error *error) {
  const int version = 12000; /* CUDA 12.0 */
  ${p}_lookup lookup = NULL;
  void *symbol, *library;
  int complete;
  ${p}_clear(error);
  if (driver == NULL) return ${p}_fail(error, TEXPR_E_NULL, -1);
  memset(driver, 0, sizeof *driver);
  library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* stays open as long as the process */
  if (library == NULL) return ${p}_fail(error, TEXPR_E_NO_DRIVER, -1);
  symbol = dlsym(library, "cuGetProcAddress_v2");
  memcpy(&lookup, &symbol, sizeof symbol);
  complete = ${p}_resolve(library, lookup, "cuCtxGetCurrent", version, &driver->ctx_get_current) &&
      ${p}_resolve(library, lookup, "cuCtxGetDevice", version, &driver->ctx_get_device) &&
      ${p}_resolve(library, lookup, "cuDeviceGetAttribute", version, &driver->device_get_attribute) &&
      ${p}_resolve(library, lookup, "cuStreamIsCapturing", version, &driver->stream_is_capturing) &&
      ${p}_resolve(library, lookup, "cuModuleLoadData", version, &driver->module_load_data) &&
      ${p}_resolve(library, lookup, "cuModuleUnload", version, &driver->module_unload) &&
      ${p}_resolve(library, lookup, "cuModuleGetFunction", version, &driver->module_get_function) &&
      ${p}_resolve(library, lookup, "cuFuncGetAttribute", version, &driver->func_get_attribute) &&
      ${p}_resolve(library, lookup, "cuFuncSetAttribute", version, &driver->func_set_attribute) &&
      ${p}_resolve(library, lookup, "cuLaunchKernelEx", version, &driver->launch_kernel_ex);
  if (!complete) {
    memset(driver, 0, sizeof *driver);
    dlclose(library);
    return ${p}_fail(error, TEXPR_E_NO_DRIVER, -1);
  }
  (void)${p}_resolve(library, lookup, "cuFuncLoad", 12040, &driver->func_load); /* since CUDA 12.4; not required */
  (void)${p}_resolve(library, lookup, "cuMemsetD8Async", version, &driver->memset_d8_async); /* only for fills */
  (void)${p}_resolve(library, lookup, "cuMemsetD16Async", version, &driver->memset_d16_async);
  (void)${p}_resolve(library, lookup, "cuMemsetD32Async", version, &driver->memset_d32_async);
  (void)${p}_resolve(library, lookup, "cuDriverGetVersion", version, &driver->driver_get_version);
  (void)${p}_resolve(library, lookup, "cuTensorMapEncodeTiled", version, &driver->tensor_map_encode_tiled);
  driver->struct_size = sizeof *driver;
  driver->abi_version = TEXPR_ABI_VERSION;
  return TEXPR_OK;
}
#endif
""")


def functions_called_by(text: str, prefix: str) -> Mapping[str, str]:
    """The support functions that ``text`` needs, directly or through each other, by name and in an order that C
    accepts.
    """
    bodies = {name: Template(body).substitute(p=prefix) for name, body in _FUNCTIONS.items()}
    wanted: set[str] = set()
    pending = [text]
    while pending:
        called = set(re.findall(rf"\b{re.escape(prefix)}_(\w+)\(", pending.pop()))
        new = {name for name in called if name in bodies} - wanted
        wanted |= new
        pending += [bodies[name] for name in new]
    return {name: body for name, body in bodies.items() if name in wanted}


def driver_open_text(prefix: str) -> str:
    """``<bundle>_driver_open``."""
    return DRIVER_OPEN.substitute(p=prefix)
