/* copy.c: copies and fills, synchronous and in streams. All of them are over when the call returns, except in a captured stream. */
#include "driver.h"

#include <string.h>

/* Synchronous copies go through the legacy stream and wait for it. */
static CUresult now(const struct work *work) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(legacy_wait_is_free());
  return perform(work);
}

static CUresult line(struct work *work, enum place to_place, uint64_t to, enum place from_place, uint64_t from, size_t bytes) {
  struct copy_work *copy = &work->as.copy;
  REQUIRE_CONTEXT();
  REQUIRE(bytes == 0 || (to != 0 && from != 0), CUDA_ERROR_INVALID_VALUE);
  if (to_place == ON_HOST && is_device_address(to)) {
    note("copy to the host: %#llx is device memory, the host cannot write there", (unsigned long long)to);
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (from_place == ON_HOST && is_device_address(from)) {
    note("copy from the host: %#llx is device memory, the host cannot read it", (unsigned long long)from);
    return CUDA_ERROR_INVALID_VALUE;
  }
  work->type = COPY_NODE;
  copy->to_place = to_place;
  copy->from_place = from_place;
  copy->to = to;
  copy->from = from;
  copy->to_pitch = copy->from_pitch = copy->width = bytes;
  copy->height = 1;
  return CUDA_SUCCESS;
}

static uint64_t number(const void *pointer) { return (uint64_t)(uintptr_t)pointer; }

static enum place place_of(CUdeviceptr address) { return is_device_address(address) ? ON_DEVICE : ON_HOST; }

#define COPY(stem, suffix, parameters, to_place, to, from_place, from) \
  EXPORT CUresult stem##suffix parameters {                            \
    struct work work;                                                  \
    REQUIRE_OK(line(&work, to_place, to, from_place, from, bytes));    \
    return now(&work);                                                 \
  }                                                                    \
  ALIAS(stem##suffix##_ptds, stem##suffix)
#define COPY_ASYNC(stem, suffix, parameters, to_place, to, from_place, from) \
  EXPORT CUresult stem##Async##suffix parameters {                           \
    struct work work;                                                        \
    REQUIRE_OK(line(&work, to_place, to, from_place, from, bytes));          \
    return submit(stream, &work);                                            \
  }                                                                          \
  ALIAS(stem##Async##suffix##_ptsz, stem##Async##suffix)

COPY(cuMemcpyHtoD, _v2, (CUdeviceptr to, const void *from, size_t bytes), ON_DEVICE, to, ON_HOST, number(from));
COPY(cuMemcpyDtoH, _v2, (void *to, CUdeviceptr from, size_t bytes), ON_HOST, number(to), ON_DEVICE, from);
COPY(cuMemcpyDtoD, _v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes), ON_DEVICE, to, ON_DEVICE, from);
COPY(cuMemcpy, , (CUdeviceptr to, CUdeviceptr from, size_t bytes), place_of(to), to, place_of(from), from);
COPY_ASYNC(cuMemcpyHtoD, _v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream), ON_DEVICE, to, ON_HOST, number(from));
COPY_ASYNC(cuMemcpyDtoH, _v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream), ON_HOST, number(to), ON_DEVICE, from);
COPY_ASYNC(cuMemcpyDtoD, _v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), ON_DEVICE, to, ON_DEVICE, from);
COPY_ASYNC(cuMemcpy, , (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), place_of(to), to, place_of(from), from);

/* ---- rows with gaps */

enum memory_type { HOST = 1, DEVICE = 2, ARRAY = 3, UNIFIED = 4 };

/* One side of a CUDA_MEMCPY2D. */
struct side {
  size_t x, y;
  int type;
  const void *host;
  CUdeviceptr device;
  void *array;
  size_t pitch;
};
typedef struct copy_2d {
  struct side from, to;
  size_t width, height;
} copy_2d;

static CUresult locate(const struct side *side, size_t width, enum place *place, uint64_t *address, size_t *pitch) {
  REQUIRE(side->type == HOST || side->type == DEVICE || side->type == UNIFIED, CUDA_ERROR_NOT_SUPPORTED);
  *pitch = side->pitch == 0 ? width : side->pitch;
  REQUIRE(*pitch >= side->x + width, CUDA_ERROR_INVALID_VALUE);
  *address = (side->type == HOST ? number(side->host) : side->device) + side->y * *pitch + side->x;
  *place = side->type == HOST ? ON_HOST : side->type == DEVICE ? ON_DEVICE : place_of(side->device);
  return CUDA_SUCCESS;
}

static CUresult rectangle(struct work *work, const copy_2d *wanted) {
  struct copy_work *copy = &work->as.copy;
  REQUIRE_CONTEXT();
  REQUIRE(wanted != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(locate(&wanted->to, wanted->width, &copy->to_place, &copy->to, &copy->to_pitch));
  REQUIRE_OK(locate(&wanted->from, wanted->width, &copy->from_place, &copy->from, &copy->from_pitch));
  copy->width = wanted->width;
  copy->height = wanted->height;
  work->type = COPY_NODE;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpy2D_v2(const copy_2d *wanted) {
  struct work work;
  REQUIRE_OK(rectangle(&work, wanted));
  return now(&work);
}
ALIAS(cuMemcpy2D_v2_ptds, cuMemcpy2D_v2);
ALIAS(cuMemcpy2DUnaligned_v2, cuMemcpy2D_v2);
ALIAS(cuMemcpy2DUnaligned_v2_ptds, cuMemcpy2D_v2);

EXPORT CUresult cuMemcpy2DAsync_v2(const copy_2d *wanted, CUstream stream) {
  struct work work;
  REQUIRE_OK(rectangle(&work, wanted));
  return submit(stream, &work);
}
ALIAS(cuMemcpy2DAsync_v2_ptsz, cuMemcpy2DAsync_v2);

/* ---- fills */

static CUresult fill(struct work *work, CUdeviceptr to, size_t pitch, uint64_t element, uint64_t value, size_t width, size_t height) {
  REQUIRE_CONTEXT();
  REQUIRE(to % element == 0 && pitch % element == 0, CUDA_ERROR_INVALID_VALUE);
  work->type = FILL_NODE;
  work->as.fill.address = to;
  work->as.fill.value = value;
  work->as.fill.element = element;
  work->as.fill.pitch = pitch;
  work->as.fill.width = width;
  work->as.fill.height = height;
  return CUDA_SUCCESS;
}

/* A fill in the legacy stream: asynchronous for the host, so only captures of blocking streams forbid it. */
#define FILL(stem, suffix, type)                                                                                           \
  EXPORT CUresult stem##suffix(CUdeviceptr to, type value, size_t count) {                                                 \
    struct work work;                                                                                                      \
    REQUIRE_OK(fill(&work, to, count * sizeof(type), sizeof(type), value, count, 1));                                      \
    return submit(NULL, &work);                                                                                            \
  }                                                                                                                        \
  ALIAS(stem##suffix##_ptds, stem##suffix);                                                                                \
  EXPORT CUresult stem##Async(CUdeviceptr to, type value, size_t count, CUstream stream) {                                 \
    struct work work;                                                                                                      \
    REQUIRE_OK(fill(&work, to, count * sizeof(type), sizeof(type), value, count, 1));                                      \
    return submit(stream, &work);                                                                                          \
  }                                                                                                                        \
  ALIAS(stem##Async##_ptsz, stem##Async)
#define FILL_2D(stem, suffix, type)                                                                                        \
  EXPORT CUresult stem##suffix(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height) {                    \
    struct work work;                                                                                                      \
    REQUIRE_OK(fill(&work, to, pitch, sizeof(type), value, width, height));                                                \
    return submit(NULL, &work);                                                                                            \
  }                                                                                                                        \
  ALIAS(stem##suffix##_ptds, stem##suffix);                                                                                \
  EXPORT CUresult stem##Async(CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, CUstream stream) {    \
    struct work work;                                                                                                      \
    REQUIRE_OK(fill(&work, to, pitch, sizeof(type), value, width, height));                                                \
    return submit(stream, &work);                                                                                          \
  }                                                                                                                        \
  ALIAS(stem##Async##_ptsz, stem##Async)

FILL(cuMemsetD8, _v2, unsigned char);
FILL(cuMemsetD16, _v2, unsigned short);
FILL(cuMemsetD32, _v2, unsigned int);
FILL_2D(cuMemsetD2D8, _v2, unsigned char);
FILL_2D(cuMemsetD2D16, _v2, unsigned short);
FILL_2D(cuMemsetD2D32, _v2, unsigned int);
