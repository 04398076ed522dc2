/* device.c: initialisation and the one device. */
#include "wire.h"

#include <stdio.h>
#include <string.h>

static const char bus_id[] = "0000:00:00.0";

/* The driver version that is reported. */
enum { DRIVER_VERSION = 13000 };

EXPORT CUresult cuInit(unsigned int flags) { return flags == 0 ? open_connection() : CUDA_ERROR_INVALID_VALUE; }

EXPORT CUresult cuDriverGetVersion(int *version) {
  REQUIRE(version != NULL, CUDA_ERROR_INVALID_VALUE);
  *version = DRIVER_VERSION;
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

#define REQUIRE_DEVICE(device, pointer)                       \
  do {                                                        \
    REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);       \
    REQUIRE((pointer) != NULL, CUDA_ERROR_INVALID_VALUE);     \
    REQUIRE((device) == 0, CUDA_ERROR_INVALID_DEVICE);        \
  } while (0)

EXPORT CUresult cuDeviceGetName(char *name, int room, CUdevice device) {
  REQUIRE_DEVICE(device, name);
  REQUIRE(room > 0, CUDA_ERROR_INVALID_VALUE);
  snprintf(name, (size_t)room, "TExpr PTX emulator (CPU)");
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetUuid(void *uuid, CUdevice device) {
  REQUIRE_DEVICE(device, uuid);
  memcpy(uuid, "TExpr emulator 0", 16);
  return CUDA_SUCCESS;
}
ALIAS(cuDeviceGetUuid_v2, cuDeviceGetUuid);

EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  uint64_t info[2] = {0, 0};
  CUresult result;
  REQUIRE_DEVICE(device, bytes);
  result = request(OP_MEMORY_INFO, NULL, 0, info, sizeof info);
  *bytes = info[1];
  return result;
}

EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  int32_t wanted = attribute;
  REQUIRE_DEVICE(device, value);
  return request(OP_DEVICE_ATTRIBUTE, &wanted, sizeof wanted, value, sizeof *value);
}

EXPORT CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  CUresult result;
  REQUIRE(minor != NULL, CUDA_ERROR_INVALID_VALUE);
  result = cuDeviceGetAttribute(major, 75, device);
  return result == CUDA_SUCCESS ? cuDeviceGetAttribute(minor, 76, device) : result;
}

EXPORT CUresult cuDeviceGetPCIBusId(char *text, int room, CUdevice device) {
  REQUIRE_DEVICE(device, text);
  REQUIRE(room > 0, CUDA_ERROR_INVALID_VALUE);
  snprintf(text, (size_t)room, "%s", bus_id);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text) {
  REQUIRE_DEVICE(0, device);
  REQUIRE(text != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(strcmp(text, bus_id) == 0, CUDA_ERROR_INVALID_DEVICE);
  *device = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceCanAccessPeer(int *possible, CUdevice device, CUdevice peer) {
  REQUIRE_DEVICE(device, possible);
  REQUIRE(peer == 0, CUDA_ERROR_INVALID_DEVICE);
  *possible = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuProfilerStart(void) { return initialised() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED; }

EXPORT CUresult cuProfilerStop(void) { return cuProfilerStart(); }
