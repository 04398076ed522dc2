/* lookup.c: cuGetProcAddress, by which programs find every other entry point. */
#include "wire.h"

#include <stdlib.h>
#include <string.h>

typedef void (*entry_point)(void);

/* Every entry point: from which version of CUDA on it has this name (0: always), the name without a version suffix, as cuGetProcAddress
 * takes it, and the symbol that has it. Only addresses are taken here, so one declaration type serves them all; their real signatures are
 * in the files that define them. */
#define ENTRIES(E) \
  /* errors.c */ \
  E(0, cuGetErrorName, cuGetErrorName) E(0, cuGetErrorString, cuGetErrorString) \
  /* device.c */ \
  E(0, cuInit, cuInit) E(0, cuDriverGetVersion, cuDriverGetVersion) E(0, cuDeviceGetCount, cuDeviceGetCount) \
  E(0, cuDeviceGet, cuDeviceGet) E(0, cuDeviceGetName, cuDeviceGetName) E(0, cuDeviceGetUuid, cuDeviceGetUuid_v2) \
  E(0, cuDeviceTotalMem, cuDeviceTotalMem_v2) E(0, cuDeviceGetAttribute, cuDeviceGetAttribute) \
  E(0, cuDeviceComputeCapability, cuDeviceComputeCapability) E(0, cuDeviceGetPCIBusId, cuDeviceGetPCIBusId) \
  E(0, cuDeviceGetByPCIBusId, cuDeviceGetByPCIBusId) E(0, cuDeviceCanAccessPeer, cuDeviceCanAccessPeer) \
  E(0, cuProfilerStart, cuProfilerStart) E(0, cuProfilerStop, cuProfilerStop) \
  /* context.c */ \
  E(0, cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain) E(0, cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2) \
  E(0, cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2) E(0, cuDevicePrimaryCtxSetFlags, cuDevicePrimaryCtxSetFlags_v2) \
  E(0, cuDevicePrimaryCtxGetState, cuDevicePrimaryCtxGetState) E(0, cuCtxDestroy, cuCtxDestroy_v2) E(0, cuCtxGetCurrent, cuCtxGetCurrent) \
  E(0, cuCtxSetCurrent, cuCtxSetCurrent) E(0, cuCtxPushCurrent, cuCtxPushCurrent_v2) E(0, cuCtxPopCurrent, cuCtxPopCurrent_v2) \
  E(0, cuCtxGetDevice, cuCtxGetDevice) E(0, cuCtxSynchronize, cuCtxSynchronize) E(0, cuCtxGetFlags, cuCtxGetFlags) \
  E(0, cuCtxGetId, cuCtxGetId) E(0, cuCtxGetApiVersion, cuCtxGetApiVersion) E(0, cuCtxGetLimit, cuCtxGetLimit) \
  E(0, cuCtxSetLimit, cuCtxSetLimit) E(0, cuCtxGetCacheConfig, cuCtxGetCacheConfig) E(0, cuCtxSetCacheConfig, cuCtxSetCacheConfig) \
  E(0, cuCtxResetPersistingL2Cache, cuCtxResetPersistingL2Cache) E(0, cuCtxGetStreamPriorityRange, cuCtxGetStreamPriorityRange) \
  E(0, cuCtxEnablePeerAccess, cuCtxEnablePeerAccess) \
  /* stream.c */ \
  E(0, cuStreamCreateWithPriority, cuStreamCreateWithPriority) E(0, cuStreamCreate, cuStreamCreate) \
  E(0, cuStreamDestroy, cuStreamDestroy_v2) E(0, cuStreamSynchronize, cuStreamSynchronize) E(0, cuStreamQuery, cuStreamQuery) \
  E(0, cuStreamGetFlags, cuStreamGetFlags) E(0, cuStreamGetPriority, cuStreamGetPriority) E(0, cuStreamGetId, cuStreamGetId) \
  E(0, cuStreamGetCtx, cuStreamGetCtx) E(0, cuStreamGetDevice, cuStreamGetDevice) E(0, cuLaunchHostFunc, cuLaunchHostFunc) \
  E(0, cuStreamAddCallback, cuStreamAddCallback) E(0, cuEventCreate, cuEventCreate) E(0, cuEventDestroy, cuEventDestroy_v2) \
  E(0, cuEventRecordWithFlags, cuEventRecordWithFlags) E(0, cuEventRecord, cuEventRecord) E(0, cuStreamWaitEvent, cuStreamWaitEvent) \
  E(0, cuEventSynchronize, cuEventSynchronize) E(0, cuEventQuery, cuEventQuery) E(0, cuEventElapsedTime, cuEventElapsedTime_v2) \
  /* capture.c */ \
  E(0, cuThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode) E(0, cuStreamEndCapture, cuStreamEndCapture) \
  E(0, cuStreamIsCapturing, cuStreamIsCapturing) \
  /* graph.c */ \
  E(0, cuGraphCreate, cuGraphCreate) E(0, cuGraphDestroy, cuGraphDestroy) E(0, cuGraphGetNodes, cuGraphGetNodes) \
  E(0, cuGraphNodeGetType, cuGraphNodeGetType) E(0, cuGraphInstantiateWithFlags, cuGraphInstantiateWithFlags) \
  E(0, cuGraphInstantiateWithParams, cuGraphInstantiateWithParams) E(0, cuGraphExecDestroy, cuGraphExecDestroy) \
  E(0, cuGraphUpload, cuGraphUpload) E(0, cuGraphLaunch, cuGraphLaunch) E(0, cuGraphExecUpdate, cuGraphExecUpdate_v2) \
  /* memory.c */ \
  E(0, cuMemAlloc, cuMemAlloc_v2) E(0, cuMemAllocPitch, cuMemAllocPitch_v2) E(0, cuMemFree, cuMemFree_v2) \
  E(0, cuMemAllocManaged, cuMemAllocManaged) E(0, cuMemGetInfo, cuMemGetInfo_v2) E(0, cuMemGetAddressRange, cuMemGetAddressRange_v2) \
  E(0, cuMemAllocAsync, cuMemAllocAsync) E(0, cuMemFreeAsync, cuMemFreeAsync) E(0, cuMemAllocFromPoolAsync, cuMemAllocFromPoolAsync) \
  E(0, cuDeviceGetDefaultMemPool, cuDeviceGetDefaultMemPool) E(0, cuDeviceSetMemPool, cuDeviceSetMemPool) \
  E(0, cuMemPoolCreate, cuMemPoolCreate) E(0, cuMemPoolDestroy, cuMemPoolDestroy) E(0, cuMemPoolTrimTo, cuMemPoolTrimTo) \
  E(0, cuMemPoolGetAttribute, cuMemPoolGetAttribute) E(0, cuMemPoolSetAttribute, cuMemPoolSetAttribute) \
  E(0, cuMemPoolSetAccess, cuMemPoolSetAccess) E(0, cuMemHostAlloc, cuMemHostAlloc) E(0, cuMemAllocHost, cuMemAllocHost_v2) \
  E(0, cuMemFreeHost, cuMemFreeHost) E(0, cuMemHostRegister, cuMemHostRegister_v2) E(0, cuMemHostUnregister, cuMemHostUnregister) \
  E(0, cuMemHostGetFlags, cuMemHostGetFlags) E(0, cuMemHostGetDevicePointer, cuMemHostGetDevicePointer_v2) \
  E(0, cuPointerGetAttribute, cuPointerGetAttribute) E(0, cuPointerGetAttributes, cuPointerGetAttributes) \
  E(0, cuPointerSetAttribute, cuPointerSetAttribute) E(0, cuDeviceGetMemPool, cuDeviceGetMemPool) \
  /* copy.c */ \
  E(0, cuMemcpy2D, cuMemcpy2D_v2) E(0, cuMemcpy2DAsync, cuMemcpy2DAsync_v2) E(0, cuMemcpy2DUnaligned, cuMemcpy2DUnaligned_v2) \
  E(0, cuMemcpyHtoD, cuMemcpyHtoD_v2) E(0, cuMemcpyDtoH, cuMemcpyDtoH_v2) E(0, cuMemcpyDtoD, cuMemcpyDtoD_v2) E(0, cuMemcpy, cuMemcpy) \
  E(0, cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2) E(0, cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2) \
  E(0, cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2) E(0, cuMemcpyAsync, cuMemcpyAsync) E(0, cuMemsetD8, cuMemsetD8_v2) \
  E(0, cuMemsetD8Async, cuMemsetD8Async) E(0, cuMemsetD16, cuMemsetD16_v2) E(0, cuMemsetD16Async, cuMemsetD16Async) \
  E(0, cuMemsetD32, cuMemsetD32_v2) E(0, cuMemsetD32Async, cuMemsetD32Async) E(0, cuMemsetD2D8, cuMemsetD2D8_v2) \
  E(0, cuMemsetD2D8Async, cuMemsetD2D8Async) E(0, cuMemsetD2D16, cuMemsetD2D16_v2) E(0, cuMemsetD2D16Async, cuMemsetD2D16Async) \
  E(0, cuMemsetD2D32, cuMemsetD2D32_v2) E(0, cuMemsetD2D32Async, cuMemsetD2D32Async) \
  /* module.c */ \
  E(0, cuModuleLoadData, cuModuleLoadData) E(0, cuModuleLoadDataEx, cuModuleLoadDataEx) E(0, cuModuleLoad, cuModuleLoad) \
  E(0, cuModuleUnload, cuModuleUnload) E(0, cuModuleGetFunction, cuModuleGetFunction) E(0, cuModuleGetGlobal, cuModuleGetGlobal_v2) \
  E(0, cuModuleGetFunctionCount, cuModuleGetFunctionCount) E(0, cuModuleEnumerateFunctions, cuModuleEnumerateFunctions) \
  E(0, cuLibraryLoadData, cuLibraryLoadData) E(0, cuLibraryLoadFromFile, cuLibraryLoadFromFile) E(0, cuLibraryUnload, cuLibraryUnload) \
  E(0, cuLibraryGetKernel, cuLibraryGetKernel) E(0, cuLibraryGetModule, cuLibraryGetModule) E(0, cuLibraryGetGlobal, cuLibraryGetGlobal) \
  E(0, cuLibraryGetKernelCount, cuLibraryGetKernelCount) E(0, cuLibraryEnumerateKernels, cuLibraryEnumerateKernels) \
  E(0, cuKernelGetFunction, cuKernelGetFunction) E(0, cuKernelGetLibrary, cuKernelGetLibrary) \
  E(0, cuFuncGetAttribute, cuFuncGetAttribute) E(0, cuFuncSetAttribute, cuFuncSetAttribute) \
  E(0, cuKernelGetAttribute, cuKernelGetAttribute) E(0, cuKernelSetAttribute, cuKernelSetAttribute) \
  E(0, cuFuncGetModule, cuFuncGetModule) E(0, cuFuncGetName, cuFuncGetName) E(0, cuFuncSetCacheConfig, cuFuncSetCacheConfig) \
  E(0, cuFuncLoad, cuFuncLoad) E(0, cuFuncIsLoaded, cuFuncIsLoaded) E(0, cuModuleGetLoadingMode, cuModuleGetLoadingMode) \
  E(0, cuModuleLoadFatBinary, cuModuleLoadFatBinary) E(0, cuKernelGetName, cuKernelGetName) \
  E(0, cuFuncSetSharedMemConfig, cuFuncSetSharedMemConfig) \
  /* launch.c */ \
  E(0, cuFuncGetParamInfo, cuFuncGetParamInfo) E(0, cuLaunchKernel, cuLaunchKernel) E(0, cuEventRecord, cuEventRecord) \
  E(0, cuLaunchKernelEx, cuLaunchKernelEx) E(0, cuOccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxActiveBlocksPerMultiprocessor) \
  E(0, cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags) \
  E(0, cuOccupancyMaxActiveClusters, cuOccupancyMaxActiveClusters) \
  E(0, cuOccupancyMaxPotentialBlockSize, cuOccupancyMaxPotentialBlockSize) \
  E(0, cuOccupancyMaxPotentialBlockSizeWithFlags, cuOccupancyMaxPotentialBlockSizeWithFlags) \
  E(0, cuOccupancyAvailableDynamicSMemPerBlock, cuOccupancyAvailableDynamicSMemPerBlock) E(0, cuKernelGetParamInfo, cuKernelGetParamInfo) \
  /* tensormap.c */ \
  E(0, cuTensorMapEncodeTiled, cuTensorMapEncodeTiled) \
  /* functions whose versions differ in their signatures, and versions that are asked for by name */ \
  E(0, cuStreamBeginCapture, cuStreamBeginCapture) E(10010, cuStreamBeginCapture, cuStreamBeginCapture_v2) \
  E(0, cuStreamGetCaptureInfo, cuStreamGetCaptureInfo) E(12000, cuStreamGetCaptureInfo, cuStreamGetCaptureInfo_v2) E(13000, cuStreamGetCaptureInfo, cuStreamGetCaptureInfo_v3) \
  E(0, cuCtxCreate, cuCtxCreate_v2) E(13000, cuCtxCreate, cuCtxCreate_v4) \
  E(0, cuGraphInstantiate, cuGraphInstantiate_v2) E(12000, cuGraphInstantiate, cuGraphInstantiateWithFlags) \
  E(0, cuStreamGetCaptureInfo_v2, cuStreamGetCaptureInfo_v2) E(0, cuStreamGetCaptureInfo_v3, cuStreamGetCaptureInfo_v3) E(0, cuCtxCreate_v3, cuCtxCreate_v3) \
  E(0, cuCtxCreate_v4, cuCtxCreate_v4) E(0, cuGraphInstantiate_v2, cuGraphInstantiate_v2) \
  E(0, cuGetProcAddress, cuGetProcAddress_v2) E(0, cuGetExportTable, cuGetExportTable)

EXPORT int cuGetProcAddress_v2(const char *symbol, void **pointer, int version, uint64_t flags, int *status);
EXPORT int cuGetExportTable(const void **table, const void *id);

#define DECLARE(since, name, symbol) extern void symbol##_entry(void) __asm__(#symbol);
ENTRIES(DECLARE)
#undef DECLARE

static const struct {
  int since;
  const char *name;
  entry_point function;
} entries[] = {
#define ROW(since, name, symbol) {since, #name, symbol##_entry},
    ENTRIES(ROW)
#undef ROW
};

enum { FOUND = 0, NOT_FOUND = 1, NOTES = 5 };

/* The newest version of `name` that a program built for `version` knows. */
static entry_point find(const char *name, size_t length, int version) {
  entry_point found = NULL;
  int since = -1;
  size_t index;
  for (index = 0; index < sizeof entries / sizeof entries[0]; ++index) {
    if (strncmp(name, entries[index].name, length) == 0 && entries[index].name[length] == '\0' && entries[index].since <= version &&
        entries[index].since > since) {
      found = entries[index].function;
      since = entries[index].since;
    }
  }
  return found;
}

static size_t without(const char *name, size_t length, const char *suffix) {
  const size_t end = strlen(suffix);
  return length > end && strncmp(name + length - end, suffix, end) == 0 ? length - end : length;
}

/* Libraries look up everything there is, so only the first few are told, unless all are asked for. */
static void tell_missing(const char *symbol) {
  static int told;
  const int all = getenv("TEXPR_EMULATOR_VERBOSE") != NULL;
  if (told < NOTES || all) {
    note("%s is asked for, and is not emulated", symbol);
  } else if (told == NOTES) {
    note("further functions that are not emulated are asked for (TEXPR_EMULATOR_VERBOSE=1 lists them all)");
  }
  ++told;
}

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **pointer, int version, uint64_t flags, int *status) {
  entry_point found;
  size_t length;
  (void)flags; /* the per-thread default stream is as idle as the other */
  REQUIRE(symbol != NULL && pointer != NULL, CUDA_ERROR_INVALID_VALUE);
  length = strlen(symbol);
  length = without(symbol, without(symbol, length, "_ptsz"), "_ptds");
  found = find(symbol, length, version);
  if (found == NULL) {
    found = find(symbol, without(symbol, length, "_v2"), version);
  }
  memcpy(pointer, &found, sizeof *pointer);
  if (status != NULL) {
    *status = found != NULL ? FOUND : NOT_FOUND;
  }
  if (found == NULL) {
    tell_missing(symbol);
  }
  return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

EXPORT CUresult cuGetProcAddress(const char *symbol, void **pointer, int version, uint64_t flags) {
  return cuGetProcAddress_v2(symbol, pointer, version, flags, NULL);
}

/* The tables that the CUDA runtime library asks for are not documented. */
EXPORT CUresult cuGetExportTable(const void **table, const void *id) {
  (void)id;
  REQUIRE(table != NULL, CUDA_ERROR_INVALID_VALUE);
  *table = NULL;
  note("this program uses the CUDA runtime API (libcudart), which needs a real driver. Programs on it pass their own texpr_driver "
       "table to the launcher, see docs/emulator.md");
  return CUDA_ERROR_NOT_FOUND;
}
