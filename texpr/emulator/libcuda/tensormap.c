/* tensormap.c: cuTensorMapEncodeTiled. A CUtensorMap is opaque, so this driver has a layout of its own; texpr/emulator/tensor_maps.py
 * describes it, checks it again when a kernel uses it, and must agree with what is written here. */
#include "wire.h"

#include <string.h>

enum { MAP_BYTES = 128, LARGEST_RANK = 5, TYPES = 13, LARGEST_BOX = 256, MAGIC_AT = 124 };
#define MAGIC 0x4D545854u

static const unsigned element_bytes[TYPES] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
static const unsigned swizzle_bytes[4] = {0, 32, 64, 128};

/* Integers are stored little endian; the host is too. */
static void put(unsigned char *map, size_t at, const void *value, size_t bytes) { memcpy(map + at, value, bytes); }

static int is_float(int type) { return type >= 6; }

EXPORT CUresult cuTensorMapEncodeTiled(void *tensor_map, int data_type, uint32_t rank, void *address, const uint64_t *dimensions,
                                       const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides, int interleave,
                                       int swizzle, int promotion, int fill);

EXPORT CUresult cuTensorMapEncodeTiled(void *tensor_map, int data_type, uint32_t rank, void *address, const uint64_t *dimensions,
                                       const uint64_t *strides, const uint32_t *box, const uint32_t *element_strides, int interleave,
                                       int swizzle, int promotion, int fill) {
  unsigned char map[MAP_BYTES] = {0};
  uint64_t global = (uint64_t)(uintptr_t)address;
  uint32_t magic = MAGIC;
  size_t index;
  unsigned inner;
  REQUIRE(tensor_map != NULL && dimensions != NULL && box != NULL && element_strides != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE((uintptr_t)tensor_map % 64 == 0 && rank >= 1 && rank <= LARGEST_RANK, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(rank == 1 || strides != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(data_type >= 0 && data_type < TYPES && global % 16 == 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(interleave == 0, CUDA_ERROR_NOT_SUPPORTED);
  REQUIRE(swizzle >= 0 && swizzle < 4 && promotion >= 0 && promotion < 4, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(fill == 0 || (fill == 1 && is_float(data_type)), CUDA_ERROR_INVALID_VALUE);
  put(map, 0, &global, sizeof global);
  map[28] = (unsigned char)data_type;
  map[29] = (unsigned char)(rank - 1);
  map[30] = (unsigned char)swizzle;
  map[79] = (unsigned char)fill;
  map[80] = (unsigned char)promotion;
  for (index = 0; index < LARGEST_RANK; ++index) {
    uint16_t extent = 1;
    unsigned char step = 1;
    if (index < rank) {
      uint32_t last;
      REQUIRE(dimensions[index] >= 1 && dimensions[index] <= (uint64_t)1 << 32, CUDA_ERROR_INVALID_VALUE);
      REQUIRE(box[index] >= 1 && box[index] <= LARGEST_BOX, CUDA_ERROR_INVALID_VALUE);
      REQUIRE(element_strides[index] >= 1 && element_strides[index] <= 8, CUDA_ERROR_INVALID_VALUE);
      last = (uint32_t)(dimensions[index] - 1);
      extent = (uint16_t)box[index];
      step = (unsigned char)element_strides[index];
      put(map, 8 + 4 * index, &last, sizeof last);
    }
    if (index + 1 < rank) {
      REQUIRE(strides[index] % 16 == 0 && strides[index] < (uint64_t)1 << 40, CUDA_ERROR_INVALID_VALUE);
      put(map, 32 + 8 * index, &strides[index], sizeof strides[index]);
    }
    put(map, 64 + 2 * index, &extent, sizeof extent);
    map[74 + index] = step;
  }
  inner = box[0] * element_bytes[data_type]; /* the element stride of the innermost dimension is ignored */
  REQUIRE(inner % 16 == 0 && (swizzle == 0 || inner <= swizzle_bytes[swizzle]), CUDA_ERROR_INVALID_VALUE);
  put(map, MAGIC_AT, &magic, sizeof magic);
  memcpy(tensor_map, map, sizeof map);
  return CUDA_SUCCESS;
}
