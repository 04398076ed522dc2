/* A libcuda.so.1 for demo.c: host memory instead of device memory, and one kernel that a C function stands in for: "convey" copies
 * its third parameter's number of bytes from its first to its second. FAKE_CUDA_SPOIL=1 in the environment flips a bit of the result.
 * The rest is the fake driver's table under the names of the CUDA driver API. */
#include "fake_driver.h"

#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

static texpr_driver table;

API int cuInit(unsigned int flags) {
  fake_reset();
  fake_table(&table);
  return flags != 0;
}
API int cuDeviceGet(int *device, int ordinal) {
  *device = 3;
  return ordinal != 0;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = fake.context;
  return device != 3;
}
API int cuCtxSetCurrent(void *context) { return context != fake.context; }
API int cuCtxSynchronize(void) { return 0; }

API int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  void *memory = NULL;
  if (bytes == 0 || posix_memalign(&memory, 256, bytes) != 0) return 1;
  *address = (uint64_t)(uintptr_t)memory;
  return 0;
}
API int cuMemFree_v2(uint64_t address) {
  free((void *)(uintptr_t)address);
  return 0;
}
API int cuMemcpyHtoD_v2(uint64_t address, const void *source, size_t bytes) {
  memcpy((void *)(uintptr_t)address, source, bytes);
  return 0;
}
API int cuMemcpyDtoH_v2(void *target, uint64_t address, size_t bytes) {
  memcpy(target, (void *)(uintptr_t)address, bytes);
  return 0;
}

API int cuCtxGetCurrent(void **context) { return table.ctx_get_current(context); }
API int cuCtxGetDevice(int *device) { return table.ctx_get_device(device); }
API int cuDeviceGetAttribute(int *value, int attribute, int device) { return table.device_get_attribute(value, attribute, device); }
API int cuDriverGetVersion(int *version) { return table.driver_get_version(version); }
API int cuStreamIsCapturing(void *stream, int *status) { return table.stream_is_capturing(stream, status); }
API int cuModuleLoadData(void **module, const void *image) { return table.module_load_data(module, image); }
API int cuModuleUnload(void *module) { return table.module_unload(module); }
API int cuModuleGetFunction(void **function, void *module, const char *name) { return table.module_get_function(function, module, name); }
API int cuFuncGetAttribute(int *value, int attribute, void *function) { return table.func_get_attribute(value, attribute, function); }
API int cuFuncSetAttribute(void *function, int attribute, int value) { return table.func_set_attribute(function, attribute, value); }
#ifndef WITHOUT_LAUNCH
API int cuLaunchKernelEx(const texpr_launch_config *config, void *function, void **params, void **extra) {
  const int result = table.launch_kernel_ex(config, function, params, extra);
  const char *spoil = getenv("FAKE_CUDA_SPOIL");
  unsigned char *to;
  fake.launches = 0;
  if (result != 0) return result;
#ifdef WITH_LOOKUP
  if (fake.functions_loaded == 0) return 500; /* cuFuncLoad was not found */
#endif
  to = *(unsigned char **)params[1];
  memcpy(to, *(unsigned char **)params[0], (size_t)*(int64_t *)params[2]);
  if (spoil != NULL && spoil[0] == '1') to[0] ^= 4;
  return 0;
}
#endif

#ifdef WITH_LOOKUP
#include <dlfcn.h>
/* Answers for one function only, and knows the version it appeared in: the rest is found by name. */
API int cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags, int *found);
static int func_load(void *function) { return table.func_load(function); }
API int cuGetProcAddress_v2(const char *symbol, void **address, int version, uint64_t flags, int *found) {
  int (*function)(void *) = func_load;
  *found = strcmp(symbol, "cuFuncLoad") == 0 && version >= 12040 && flags == 0 ? 0 : 1;
  if (*found == 0) memcpy(address, &function, sizeof function);
  return 0;
}
#endif
