/* lookup.c: cuGetProcAddress, by which programs find every other entry point. */
#include "wire.h"

#include <string.h>

typedef void (*entry_point)(void);

/* Every entry point: its name without a version suffix, as cuGetProcAddress takes it, and the symbol that has it. Only addresses are
 * taken here, so one declaration type serves them all; their real signatures are in the files that define them. */
#define ENTRIES(E) \
  E(cuInit, cuInit) E(cuDriverGetVersion, cuDriverGetVersion) E(cuGetErrorName, cuGetErrorName) \
  E(cuGetErrorString, cuGetErrorString) E(cuDeviceGet, cuDeviceGet) E(cuDeviceGetCount, cuDeviceGetCount) \
  E(cuDeviceGetName, cuDeviceGetName) E(cuDeviceGetAttribute, cuDeviceGetAttribute) \
  E(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain) \
  E(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2) E(cuCtxGetCurrent, cuCtxGetCurrent) \
  E(cuCtxSetCurrent, cuCtxSetCurrent) E(cuCtxGetDevice, cuCtxGetDevice) E(cuCtxSynchronize, cuCtxSynchronize) \
  E(cuStreamCreate, cuStreamCreate) E(cuStreamDestroy, cuStreamDestroy_v2) \
  E(cuStreamSynchronize, cuStreamSynchronize) E(cuStreamQuery, cuStreamQuery) \
  E(cuStreamIsCapturing, cuStreamIsCapturing) E(cuMemAlloc, cuMemAlloc_v2) E(cuMemFree, cuMemFree_v2) \
  E(cuMemAllocAsync, cuMemAllocAsync) E(cuMemFreeAsync, cuMemFreeAsync) E(cuMemcpyHtoD, cuMemcpyHtoD_v2) \
  E(cuMemcpyDtoH, cuMemcpyDtoH_v2) E(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2) \
  E(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2) E(cuMemsetD8, cuMemsetD8_v2) E(cuMemsetD8Async, cuMemsetD8Async) \
  E(cuModuleLoadData, cuModuleLoadData) E(cuModuleLoadDataEx, cuModuleLoadDataEx) \
  E(cuModuleUnload, cuModuleUnload) E(cuModuleGetFunction, cuModuleGetFunction) \
  E(cuFuncGetAttribute, cuFuncGetAttribute) E(cuFuncSetAttribute, cuFuncSetAttribute) E(cuFuncLoad, cuFuncLoad) \
  E(cuFuncSetCacheConfig, cuFuncSetCacheConfig) E(cuLaunchKernel, cuLaunchKernel) \
  E(cuLaunchKernelEx, cuLaunchKernelEx) E(cuTensorMapEncodeTiled, cuTensorMapEncodeTiled)

#define DECLARE(name, symbol) extern void symbol(void);
ENTRIES(DECLARE)
#undef DECLARE

static const struct {
  const char *name;
  entry_point function;
} entries[] = {
#define ROW(name, symbol) {#name, symbol},
    ENTRIES(ROW)
#undef ROW
};

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **pointer, int version, uint64_t flags, int *status);
EXPORT CUresult cuGetProcAddress(const char *symbol, void **pointer, int version, uint64_t flags);

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **pointer, int version, uint64_t flags, int *status) {
  size_t index;
  (void)version;
  (void)flags;
  REQUIRE(symbol != NULL && pointer != NULL, CUDA_ERROR_INVALID_VALUE);
  for (index = 0; index < sizeof entries / sizeof entries[0]; ++index) {
    size_t length = strlen(entries[index].name);
    if (strncmp(symbol, entries[index].name, length) == 0 && (symbol[length] == '\0' || strcmp(symbol + length, "_v2") == 0)) {
      memcpy(pointer, &entries[index].function, sizeof *pointer);
      if (status != NULL) {
        *status = 0; /* CU_GET_PROC_ADDRESS_SUCCESS */
      }
      return CUDA_SUCCESS;
    }
  }
  *pointer = NULL;
  if (status != NULL) {
    *status = 1; /* CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND */
  }
  return CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuGetProcAddress(const char *symbol, void **pointer, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, pointer, version, flags, NULL);
}
