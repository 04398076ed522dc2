/* device.c: initialisation, device attributes, error names, contexts and streams. */
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>

struct context {
  int device;
};
static struct context primary;
static __thread CUcontext current;

struct stream {
  unsigned int flags;
};

CUresult need_context(void) {
  if (!initialised()) {
    return CUDA_ERROR_NOT_INITIALIZED;
  }
  return current == NULL ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}

EXPORT CUresult cuInit(unsigned int flags) { return flags == 0 ? open_connection() : CUDA_ERROR_INVALID_VALUE; }

EXPORT CUresult cuDriverGetVersion(int *version) {
  REQUIRE(version != NULL, CUDA_ERROR_INVALID_VALUE);
  *version = 12080;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int *count) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(count != NULL, CUDA_ERROR_INVALID_VALUE);
  *count = 1;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(ordinal == 0, CUDA_ERROR_INVALID_DEVICE);
  *device = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char *name, int room, CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(name != NULL && room > 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  snprintf(name, (size_t)room, "TExpr PTX emulator (CPU)");
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  int32_t wanted = attribute;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(value != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return request(OP_DEVICE_ATTRIBUTE, &wanted, sizeof wanted, value, sizeof *value);
}

static const struct {
  CUresult result;
  const char *name;
  const char *text;
} results[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {4, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static CUresult describe(CUresult result, const char **name, const char **text) {
  size_t index;
  for (index = 0; index < sizeof results / sizeof results[0]; ++index) {
    if (results[index].result == result) {
      *name = results[index].name;
      *text = results[index].text;
      return CUDA_SUCCESS;
    }
  }
  *name = NULL;
  *text = NULL;
  return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorName(CUresult result, const char **name) {
  const char *text;
  REQUIRE(name != NULL, CUDA_ERROR_INVALID_VALUE);
  return describe(result, name, &text);
}

EXPORT CUresult cuGetErrorString(CUresult result, const char **text) {
  const char *name;
  REQUIRE(text != NULL, CUDA_ERROR_INVALID_VALUE);
  return describe(result, &name, text);
}

/* ---- contexts and streams */

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  *context = &primary;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  *context = current;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context == NULL || context == &primary, CUDA_ERROR_INVALID_CONTEXT);
  current = context;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
  REQUIRE_CONTEXT();
  REQUIRE(device != NULL, CUDA_ERROR_INVALID_VALUE);
  *device = current->device;
  return CUDA_SUCCESS;
}

static CUresult synchronize(void) {
  REQUIRE_CONTEXT();
  return request(OP_SYNCHRONIZE, NULL, 0, NULL, 0);
}

EXPORT CUresult cuCtxSynchronize(void) { return synchronize(); }

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
  REQUIRE_CONTEXT();
  REQUIRE(stream != NULL, CUDA_ERROR_INVALID_VALUE);
  *stream = malloc(sizeof **stream);
  REQUIRE(*stream != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*stream)->flags = flags;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  REQUIRE_CONTEXT();
  REQUIRE(stream != NULL, CUDA_ERROR_INVALID_HANDLE);
  free(stream);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream stream) {
  (void)stream;
  return synchronize();
}

EXPORT CUresult cuStreamQuery(CUstream stream) {
  (void)stream;
  return synchronize();
}

EXPORT CUresult cuStreamIsCapturing(CUstream stream, int *status) {
  (void)stream;
  REQUIRE_CONTEXT();
  REQUIRE(status != NULL, CUDA_ERROR_INVALID_VALUE);
  *status = 0;
  return CUDA_SUCCESS;
}
