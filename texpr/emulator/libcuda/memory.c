/* memory.c: device memory, pinned host memory, pools, and what is known about a pointer. Device addresses are the emulator's: the host
 * cannot dereference them, and kernels cannot dereference the host's. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

enum { PITCH = 512, PAGE = 4096 };

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
  uint64_t wanted[2], got = 0;
  CUresult result;
  REQUIRE(address != NULL && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  wanted[0] = bytes;
  wanted[1] = current_context()->id;
  result = request(OP_ALLOCATE, wanted, sizeof wanted, &got, sizeof got);
  *address = got;
  return result;
}

static CUresult release(CUdeviceptr address) {
  uint64_t wanted = address;
  return address == 0 ? CUDA_SUCCESS : request(OP_FREE, &wanted, sizeof wanted, NULL, 0);
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  return allocate(address, bytes);
}

EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned int element) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  REQUIRE(pitch != NULL && width > 0 && (element == 4 || element == 8 || element == 16), CUDA_ERROR_INVALID_VALUE);
  *pitch = (width + PITCH - 1) / PITCH * PITCH;
  return allocate(address, *pitch * height);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  return release(address);
}

EXPORT CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags) {
  (void)bytes;
  (void)flags;
  REQUIRE_CONTEXT();
  REQUIRE(address != NULL, CUDA_ERROR_INVALID_VALUE);
  note("cuMemAllocManaged: managed memory is not emulated (the device attribute MANAGED_MEMORY is 0)");
  return CUDA_ERROR_NOT_SUPPORTED;
}

EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  uint64_t info[2] = {0, 0};
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(available != NULL && total != NULL, CUDA_ERROR_INVALID_VALUE);
  result = request(OP_MEMORY_INFO, NULL, 0, info, sizeof info);
  *available = info[0];
  *total = info[1];
  return result;
}

static CUresult range_of(CUdeviceptr address, uint64_t range[2]) {
  uint64_t wanted = address;
  return request(OP_RANGE, &wanted, sizeof wanted, range, 2 * sizeof range[0]);
}

EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *start, size_t *bytes, CUdeviceptr address) {
  uint64_t range[2] = {0, 0};
  REQUIRE_CONTEXT();
  REQUIRE(range_of(address, range) == CUDA_SUCCESS, CUDA_ERROR_NOT_FOUND);
  if (start != NULL) {
    *start = range[0];
  }
  if (bytes != NULL) {
    *bytes = range[1];
  }
  return CUDA_SUCCESS;
}

/* ---- stream-ordered allocation: at once, as all work */

struct pool {
  uint64_t threshold;
};
static struct pool default_pool;

static CUresult refuse_in_capture(CUstream stream, const char *name) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  if (found->capture != NULL) {
    note("%s in a captured stream: graphs with allocations are not emulated", name);
  }
  return refuse_captured(found);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  REQUIRE_OK(refuse_in_capture(stream, "cuMemAllocAsync"));
  return allocate(address, bytes);
}
ALIAS(cuMemAllocAsync_ptsz, cuMemAllocAsync);

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  REQUIRE_OK(refuse_in_capture(stream, "cuMemFreeAsync"));
  REQUIRE(address != 0, CUDA_ERROR_INVALID_VALUE);
  return release(address);
}
ALIAS(cuMemFreeAsync_ptsz, cuMemFreeAsync);

static int is_pool(const struct pool *pool) { return pool == &default_pool || is_handle(pool, A_POOL); }

EXPORT CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, struct pool *pool, CUstream stream) {
  REQUIRE(is_pool(pool), CUDA_ERROR_INVALID_HANDLE);
  return cuMemAllocAsync(address, bytes, stream);
}
ALIAS(cuMemAllocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync);

EXPORT CUresult cuDeviceGetDefaultMemPool(struct pool **pool, CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(pool != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  *pool = &default_pool;
  return CUDA_SUCCESS;
}
ALIAS(cuDeviceGetMemPool, cuDeviceGetDefaultMemPool);

EXPORT CUresult cuDeviceSetMemPool(CUdevice device, struct pool *pool) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return is_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

EXPORT CUresult cuMemPoolCreate(struct pool **pool, const void *properties) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(pool != NULL && properties != NULL, CUDA_ERROR_INVALID_VALUE);
  *pool = calloc(1, sizeof **pool);
  REQUIRE(*pool != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  return enter_handle(*pool, A_POOL);
}

EXPORT CUresult cuMemPoolDestroy(struct pool *pool) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(pool, A_POOL);
  leave_handle(pool);
  free(pool);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolTrimTo(struct pool *pool, size_t bytes) {
  (void)bytes;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  return is_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* Attributes 1 to 3 are ints that permit reuse, 4 to 8 are sizes. Freed memory is never kept, so only the threshold has a value. */
EXPORT CUresult cuMemPoolGetAttribute(struct pool *pool, int attribute, void *value) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(is_pool(pool), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(value != NULL && attribute >= 1 && attribute <= 8, CUDA_ERROR_INVALID_VALUE);
  if (attribute <= 3) {
    memset(value, 0, sizeof(int));
  } else {
    uint64_t size = attribute == 4 ? pool->threshold : 0;
    memcpy(value, &size, sizeof size);
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolSetAttribute(struct pool *pool, int attribute, const void *value) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(is_pool(pool), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(value != NULL && attribute >= 1 && attribute <= 8, CUDA_ERROR_INVALID_VALUE);
  if (attribute == 4) {
    memcpy(&pool->threshold, value, sizeof pool->threshold);
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemPoolSetAccess(struct pool *pool, const void *map, size_t count) {
  (void)map;
  (void)count;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  return is_pool(pool) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* ---- host memory that is pinned on a GPU: ordinary memory here, remembered to answer questions about it */

struct pinned {
  char *start;
  size_t bytes;
  unsigned int flags;
  int registered;
  struct pinned *next;
};
static struct pinned *all_pinned;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct pinned **find_pinned(const void *pointer) {
  struct pinned **at = &all_pinned;
  while (*at != NULL && !((const char *)pointer >= (*at)->start && (const char *)pointer < (*at)->start + (*at)->bytes)) {
    at = &(*at)->next;
  }
  return at;
}

static CUresult pin(void *start, size_t bytes, unsigned int flags, int registered) {
  struct pinned *pinned = calloc(1, sizeof *pinned);
  REQUIRE(pinned != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  pinned->start = start;
  pinned->bytes = bytes;
  pinned->flags = flags;
  pinned->registered = registered;
  pthread_mutex_lock(&lock);
  pinned->next = all_pinned;
  all_pinned = pinned;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}

/* Forget the memory that starts at `start`; NULL if there is none of this sort. */
static struct pinned *unpin(const void *start, int registered) {
  struct pinned **at, *found = NULL;
  pthread_mutex_lock(&lock);
  at = find_pinned(start);
  if (*at != NULL && (*at)->start == start && (*at)->registered == registered) {
    found = *at;
    *at = found->next;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

EXPORT CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned int flags) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  REQUIRE(pointer != NULL && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  *pointer = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
  REQUIRE(*pointer != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  return pin(*pointer, bytes, flags, 0);
}

EXPORT CUresult cuMemAllocHost_v2(void **pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }

EXPORT CUresult cuMemFreeHost(void *pointer) {
  struct pinned *found;
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  found = unpin(pointer, 0);
  REQUIRE(found != NULL, CUDA_ERROR_INVALID_VALUE);
  free(pointer);
  free(found);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned int flags) {
  int known;
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  REQUIRE(pointer != NULL && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&lock);
  known = *find_pinned(pointer) != NULL;
  pthread_mutex_unlock(&lock);
  return known ? CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED : pin(pointer, bytes, flags, 1);
}

EXPORT CUresult cuMemHostUnregister(void *pointer) {
  struct pinned *found;
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  found = unpin(pointer, 1);
  REQUIRE(found != NULL, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  free(found);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemHostGetFlags(unsigned int *flags, void *pointer) {
  const struct pinned *found;
  REQUIRE_CONTEXT();
  REQUIRE(flags != NULL, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&lock);
  found = *find_pinned(pointer);
  *flags = found != NULL ? found->flags : 0;
  pthread_mutex_unlock(&lock);
  return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *pointer, unsigned int flags) {
  (void)pointer;
  (void)flags;
  REQUIRE_CONTEXT();
  REQUIRE(address != NULL, CUDA_ERROR_INVALID_VALUE);
  note("cuMemHostGetDevicePointer: kernels cannot reach host memory (the device attribute CAN_MAP_HOST_MEMORY is 0)");
  return CUDA_ERROR_NOT_SUPPORTED;
}

/* ---- pointer attributes */

enum pointer_attribute {
  CONTEXT = 1, MEMORY_TYPE = 2, DEVICE_POINTER = 3, HOST_POINTER = 4, SYNC_MEMOPS = 6, BUFFER_ID = 7, IS_MANAGED = 8,
  DEVICE_ORDINAL = 9, RANGE_START = 11, RANGE_BYTES = 12, MAPPED = 13
};

static CUresult attribute_of(void *data, int attribute, CUdeviceptr pointer) {
  uint64_t range[2] = {0, 0};
  const int on_device = is_device_address(pointer) && range_of(pointer, range) == CUDA_SUCCESS;
  uint64_t host = 0;
  if (!on_device) {
    const struct pinned *pinned;
    pthread_mutex_lock(&lock);
    pinned = *find_pinned((const void *)(uintptr_t)pointer);
    if (pinned != NULL) {
      range[0] = (uint64_t)(uintptr_t)pinned->start;
      range[1] = pinned->bytes;
      host = pointer;
    }
    pthread_mutex_unlock(&lock);
    REQUIRE(host != 0, CUDA_ERROR_INVALID_VALUE);
  }
  switch (attribute) {
    case CONTEXT: {
      CUcontext context = current_context();
      memcpy(data, &context, sizeof context);
      return CUDA_SUCCESS;
    }
    case MEMORY_TYPE: {
      unsigned int type = on_device ? ON_DEVICE : ON_HOST;
      memcpy(data, &type, sizeof type);
      return CUDA_SUCCESS;
    }
    case DEVICE_POINTER:
      REQUIRE(on_device, CUDA_ERROR_INVALID_VALUE);
      memcpy(data, &pointer, sizeof pointer);
      return CUDA_SUCCESS;
    case HOST_POINTER:
      REQUIRE(!on_device, CUDA_ERROR_INVALID_VALUE);
      memcpy(data, &host, sizeof host);
      return CUDA_SUCCESS;
    case SYNC_MEMOPS:
    case IS_MANAGED:
    case DEVICE_ORDINAL:
      memset(data, 0, sizeof(int));
      return CUDA_SUCCESS;
    case MAPPED: {
      int mapped = 1;
      memcpy(data, &mapped, sizeof mapped);
      return CUDA_SUCCESS;
    }
    case BUFFER_ID:
    case RANGE_START:
      memcpy(data, &range[0], sizeof range[0]);
      return CUDA_SUCCESS;
    case RANGE_BYTES:
      memcpy(data, &range[1], sizeof range[1]);
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

EXPORT CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr pointer) {
  REQUIRE_CONTEXT();
  REQUIRE(data != NULL, CUDA_ERROR_INVALID_VALUE);
  return attribute_of(data, attribute, pointer);
}

/* Attributes that do not apply leave zeros of their usual size. */
EXPORT CUresult cuPointerGetAttributes(unsigned int count, int *attributes, void **data, CUdeviceptr pointer) {
  unsigned int index;
  REQUIRE_CONTEXT();
  REQUIRE(attributes != NULL && data != NULL, CUDA_ERROR_INVALID_VALUE);
  for (index = 0; index < count; ++index) {
    if (attribute_of(data[index], attributes[index], pointer) != CUDA_SUCCESS) {
      const int wide = attributes[index] == CONTEXT || attributes[index] == DEVICE_POINTER || attributes[index] == HOST_POINTER ||
          attributes[index] == BUFFER_ID || attributes[index] == RANGE_START || attributes[index] == RANGE_BYTES;
      memset(data[index], 0, wide ? sizeof(uint64_t) : sizeof(int));
    }
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuPointerSetAttribute(const void *value, int attribute, CUdeviceptr pointer) {
  (void)pointer;
  REQUIRE_CONTEXT();
  REQUIRE(value != NULL && attribute == SYNC_MEMOPS, CUDA_ERROR_INVALID_VALUE);
  return CUDA_SUCCESS;
}
