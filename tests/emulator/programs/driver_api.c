/* Calls of every part of the driver API, right ones and wrong ones. Prints what is not as CUDA has it, and ends with the number of those. */
#include "expect.h"

#include <string.h>

enum { N = 64 };

static CUmodule module;
static CUfunction add;
static CUdeviceptr data;

static void launch_add(unsigned int n, CUstream stream, CUresult wanted) {
  void *params[2];
  params[0] = &data;
  params[1] = &n;
  EXPECT(wanted, cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 0, stream, params, NULL));
}

static unsigned int first(void) {
  unsigned int value = 0;
  OK(cuMemcpyDtoH_v2(&value, data, sizeof value));
  return value;
}

static void devices(void) {
  char name[64], uuid[16];
  size_t bytes = 0;
  int value = -1;
  OK(cuDeviceGetName(name, sizeof name, 0));
  OK(cuDeviceGetUuid_v2(uuid, 0));
  OK(cuDeviceTotalMem_v2(&bytes, 0));
  TRUE(strlen(name) > 0 && bytes > 0);
  OK(cuDeviceGetAttribute(&value, 102, 0)); /* VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
  TRUE(value == 0);
  OK(cuDeviceGetAttribute(&value, 115, 0)); /* MEMORY_POOLS_SUPPORTED */
  TRUE(value == 1);
  EXPECT(1, cuDeviceGetAttribute(&value, 100000, 0));
  EXPECT(101, cuDeviceGetAttribute(&value, 1, 1));
}

static void contexts(CUcontext primary) {
  CUcontext made, got;
  CUdeviceptr memory;
  CUstream stream;
  size_t limit = 0;
  int active = 0;
  unsigned int flags;
  OK(cuDevicePrimaryCtxGetState(0, &flags, &active));
  TRUE(active == 1);
  OK(cuCtxCreate_v2(&made, 0, 0));
  OK(cuCtxGetCurrent(&got));
  TRUE(got == made && made != primary);
  OK(cuMemAlloc_v2(&memory, 16));
  OK(cuStreamCreate(&stream, 0));
  OK(cuCtxPopCurrent_v2(&got));
  TRUE(got == made);
  OK(cuCtxGetCurrent(&got));
  TRUE(got == primary);
  EXPECT(400, cuStreamSynchronize(stream)); /* of another context */
  OK(cuCtxPushCurrent_v2(made));
  OK(cuCtxSetLimit(0, 4096));
  OK(cuCtxGetLimit(&limit, 0));
  TRUE(limit == 4096);
  launch_add(1, NULL, 400); /* a function of another context */
  OK(cuCtxDestroy_v2(made));
  OK(cuCtxGetCurrent(&got));
  TRUE(got == primary);
  EXPECT(500, cuMemGetAddressRange_v2(NULL, NULL, memory)); /* gone with its context */
  EXPECT(201, cuCtxDestroy_v2(made));
}

static void memory(void) {
  unsigned int host[N], got[N], index;
  unsigned char rows[3 * 10], picture[3 * 8];
  CUdeviceptr start = 0, pitched, pooled;
  CUDA_MEMCPY2D copy;
  CUmemoryPool pool;
  uint64_t threshold = 77;
  size_t bytes = 0, pitch = 0, available = 0, total = 0;
  void *pinned;
  int type = 0;
  for (index = 0; index < N; ++index) {
    host[index] = index;
  }
  OK(cuMemAlloc_v2(&data, sizeof host));
  EXPECT(1, cuMemAlloc_v2(&start, 0));
  EXPECT(2, cuMemAlloc_v2(&start, (size_t)1 << 50));
  OK(cuMemcpyHtoD_v2(data, host, sizeof host));
  EXPECT(1, cuMemcpyHtoD_v2(data, host, sizeof host + 1));       /* too large */
  EXPECT(1, cuMemcpyHtoD_v2(data + 4, host, sizeof host));       /* too far */
  EXPECT(1, cuMemcpyDtoH_v2(got, (CUdeviceptr)(uintptr_t)host, 4)); /* host memory as device memory */
  EXPECT(1, cuMemcpyHtoD_v2(data, (void *)(uintptr_t)data, 4));  /* device memory as host memory */
  EXPECT(1, cuMemcpyHtoD_v2(0, host, 4));
  EXPECT(1, cuMemFree_v2(data + 4));
  OK(cuMemcpyDtoD_v2(data, data + 4, 4));
  TRUE(first() == 1);
  OK(cuMemcpy((CUdeviceptr)(uintptr_t)got, data, sizeof got));
  TRUE(got[0] == 1 && got[N - 1] == N - 1);
  OK(cuMemGetAddressRange_v2(&start, &bytes, data + 12));
  TRUE(start == data && bytes == sizeof host);
  OK(cuPointerGetAttribute(&type, 2, data));
  TRUE(type == 2);
  EXPECT(1, cuPointerGetAttribute(&type, 2, (CUdeviceptr)(uintptr_t)host));
  OK(cuMemHostRegister_v2(host, sizeof host, 0));
  EXPECT(712, cuMemHostRegister_v2(host, sizeof host, 0));
  OK(cuPointerGetAttribute(&type, 2, (CUdeviceptr)(uintptr_t)host));
  TRUE(type == 1);
  OK(cuMemHostUnregister(host));
  EXPECT(713, cuMemHostUnregister(host));
  OK(cuMemHostAlloc(&pinned, 100, 0));
  memset(pinned, 1, 100);
  OK(cuMemFreeHost(pinned));
  EXPECT(801, cuMemAllocManaged(&start, 16, 1));
  OK(cuMemGetInfo_v2(&available, &total));
  TRUE(available == total - sizeof host);

  OK(cuMemsetD32_v2(data, 0x01020304, N));
  TRUE(first() == 0x01020304);
  OK(cuMemsetD16_v2(data, 0x0506, 1));
  OK(cuMemsetD8_v2(data + 3, 9, 1));
  TRUE(first() == 0x09020506);
  EXPECT(1, cuMemsetD32_v2(data + 2, 0, 1));
  EXPECT(1, cuMemsetD8_v2(data, 0, sizeof host + 1));

  /* A picture of 3 rows of 8 bytes in the middle of rows of 10, to pitched memory and back. */
  for (index = 0; index < sizeof rows; ++index) {
    rows[index] = (unsigned char)index;
  }
  OK(cuMemAllocPitch_v2(&pitched, &pitch, 8, 3, 4));
  TRUE(pitch % 512 == 0);
  OK(cuMemsetD2D8_v2(pitched, pitch, 0, 8, 3));
  memset(&copy, 0, sizeof copy);
  copy.srcMemoryType = 1;
  copy.srcHost = rows;
  copy.srcPitch = 10;
  copy.srcXInBytes = 1;
  copy.dstMemoryType = 2;
  copy.dstDevice = pitched;
  copy.dstPitch = pitch;
  copy.WidthInBytes = 8;
  copy.Height = 3;
  OK(cuMemcpy2D_v2(&copy));
  copy.Height = 4;
  EXPECT(1, cuMemcpy2D_v2(&copy));
  memset(&copy, 0, sizeof copy);
  copy.srcMemoryType = 2;
  copy.srcDevice = pitched;
  copy.srcPitch = pitch;
  copy.dstMemoryType = 1;
  copy.dstHost = picture;
  copy.WidthInBytes = 8;
  copy.Height = 3;
  OK(cuMemcpy2D_v2(&copy));
  TRUE(picture[0] == 1 && picture[7] == 8 && picture[8] == 11 && picture[23] == 28);
  OK(cuMemFree_v2(pitched));
  EXPECT(1, cuMemFree_v2(pitched));

  OK(cuDeviceGetDefaultMemPool(&pool, 0));
  OK(cuMemPoolSetAttribute(pool, 4, &threshold));
  threshold = 0;
  OK(cuMemPoolGetAttribute(pool, 4, &threshold));
  TRUE(threshold == 77);
  OK(cuMemAllocAsync(&pooled, 100, NULL));
  OK(cuMemFreeAsync(pooled, NULL));
}

static void modules(void) {
  CUlibrary library;
  CUkernel kernel;
  CUfunction function;
  CUdeviceptr scale;
  const char *name = "";
  size_t bytes = 0;
  unsigned int count = 0, value = 0;
  int blocks = 0, grid = 0, block = 0;
  OK(cuModuleLoadData(&module, ptx));
  EXPECT(200, cuModuleLoadData(&module, "no image at all"));
  EXPECT(301, cuModuleLoad(&module, "/no/such/file"));
  OK(cuModuleGetFunction(&add, module, "add"));
  EXPECT(500, cuModuleGetFunction(&function, module, "subtract"));
  OK(cuModuleGetFunctionCount(&count, module));
  TRUE(count == 2);
  OK(cuFuncGetName(&name, add));
  TRUE(strcmp(name, "add") == 0);
  OK(cuModuleGetGlobal_v2(&scale, &bytes, module, "scale"));
  OK(cuMemcpyDtoH_v2(&value, scale, sizeof value));
  TRUE(bytes == 4 && value == 7);
  OK(cuLibraryLoadData(&library, ptx, NULL, NULL, 0, NULL, NULL, 0));
  OK(cuLibraryGetKernel(&kernel, library, "nothing"));
  OK(cuKernelGetFunction(&function, kernel));
  OK(cuLaunchKernel(function, 3, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
  OK(cuLaunchKernel((CUfunction)kernel, 3, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL));
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 256, 0));
  TRUE(blocks == 8);
  OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, 256, 81 * 1024));
  TRUE(blocks == 2);
  OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, function, NULL, 0, 0));
  TRUE(block == 1024 && grid == 2 * 4);
  OK(cuLibraryUnload(library));
  EXPECT(400, cuLibraryUnload(library));
  EXPECT(400, cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL)); /* gone with its library */
  EXPECT(1, cuFuncSetAttribute(add, 8, 1 << 20));
}

static void launches(void) {
  CUlaunchConfig config = {1, 1, 1, N, 1, 1, 0, NULL, NULL, 0};
  CUlaunchAttribute attributes[2];
  struct {
    CUdeviceptr p;
    unsigned int n;
  } block;
  size_t bytes = 12;
  void *extra[5], *params[2];
  unsigned int n = 5;
  OK(cuMemsetD32_v2(data, 100, N));
  launch_add(1, NULL, 0);
  TRUE(first() == 101);
  block.p = data;
  block.n = 2;
  extra[0] = (void *)1;
  extra[1] = &block;
  extra[2] = (void *)2;
  extra[3] = &bytes;
  extra[4] = NULL;
  OK(cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 0, NULL, NULL, extra));
  TRUE(first() == 103);
  bytes = 11;
  EXPECT(1, cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 0, NULL, NULL, extra));
  EXPECT(1, cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 0, NULL, NULL, NULL));
  params[0] = &data;
  params[1] = &n;
  EXPECT(1, cuLaunchKernel(add, 0, 1, 1, N, 1, 1, 0, NULL, params, NULL));
  EXPECT(1, cuLaunchKernel(add, 1, 1, 1, 2048, 1, 1, 0, NULL, params, NULL));
  EXPECT(1, cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 1 << 20, NULL, params, NULL));
  memset(attributes, 0, sizeof attributes);
  attributes[0].id = 6;
  attributes[0].value.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = 4;
  attributes[1].value.clusterDim.x = attributes[1].value.clusterDim.y = attributes[1].value.clusterDim.z = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  OK(cuLaunchKernelEx(&config, add, params, NULL));
  TRUE(first() == 108);
  attributes[1].value.clusterDim.x = 2;
  EXPECT(1, cuLaunchKernelEx(&config, add, params, NULL));
  attributes[1].id = 2;
  attributes[1].value.cooperative = 1;
  EXPECT(801, cuLaunchKernelEx(&config, add, params, NULL));
  TRUE(first() == 108);
}

static void count_call(void *calls) { ++*(int *)calls; }

static void streams_and_events(void) {
  CUstream stream;
  CUevent before, after, silent;
  float time = -1;
  int calls = 0;
  OK(cuStreamCreate(&stream, 0));
  OK(cuEventCreate(&before, 0));
  OK(cuEventCreate(&after, 0));
  OK(cuEventCreate(&silent, 2));
  OK(cuEventQuery(before));
  EXPECT(400, cuEventElapsedTime(&time, before, after)); /* not recorded */
  OK(cuEventRecord(before, stream));
  launch_add(1, stream, 0);
  launch_add(1, (CUstream)(uintptr_t)2, 0);
  OK(cuLaunchHostFunc(stream, count_call, &calls));
  OK(cuEventRecord(after, stream));
  OK(cuEventSynchronize(after));
  OK(cuStreamWaitEvent(stream, after, 0));
  OK(cuEventElapsedTime(&time, before, after));
  TRUE(time > 0.0029f && time < 0.0031f && calls == 1);
  OK(cuEventRecord(silent, stream));
  EXPECT(400, cuEventElapsedTime(&time, before, silent));
  OK(cuStreamQuery(stream));
  OK(cuStreamDestroy_v2(stream));
  EXPECT(400, cuStreamDestroy_v2(stream));
  EXPECT(400, cuStreamSynchronize(stream));
  OK(cuEventDestroy_v2(before));
  EXPECT(400, cuEventRecord(before, NULL));
}

/* What looks functions up: found, found by an older name, and not found. */
static void lookup(void) {
  void *one = NULL, *two = NULL, *none = &none;
  const void *table;
  int status = -1;
  OK(cuGetProcAddress_v2("cuMemAlloc", &one, 12080, 0, &status));
  TRUE(status == 0 && one == (void *)(uintptr_t)cuMemAlloc_v2);
  OK(cuGetProcAddress_v2("cuLaunchKernel_ptsz", &one, 12080, 0, &status));
  OK(cuGetProcAddress_v2("cuStreamBeginCapture", &one, 10000, 0, &status));
  OK(cuGetProcAddress_v2("cuStreamBeginCapture", &two, 12080, 0, &status));
  TRUE(one != two && two == (void *)(uintptr_t)cuStreamBeginCapture_v2);
  EXPECT(500, cuGetProcAddress_v2("cuMemAddressReserve", &none, 12080, 0, &status));
  TRUE(status == 1 && none == NULL);
  EXPECT(500, cuGetExportTable(&table, "0123456789abcdef"));
}

int main(void) {
  CUcontext context;
  CUdevice device;
  size_t bytes;
  EXPECT(3, cuDeviceGet(&device, 0));
  OK(cuInit(0));
  EXPECT(101, cuDeviceGet(&device, 1));
  OK(cuDeviceGet(&device, 0));
  EXPECT(201, cuMemGetInfo_v2(&bytes, &bytes));
  OK(cuDevicePrimaryCtxRetain(&context, device));
  OK(cuCtxSetCurrent(context));
  devices();
  memory();
  modules();
  contexts(context);
  launches();
  streams_and_events();
  lookup();
  OK(cuModuleUnload(module));
  OK(cuDevicePrimaryCtxRelease_v2(device));
  EXPECT(709, cuMemGetInfo_v2(&bytes, &bytes));
  printf("%d not as expected\n", failures);
  return failures != 0;
}
