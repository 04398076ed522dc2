// CUB's device-wide scan, radix sort and histogram behind C functions, for the bench (peer "cub").
//
// Every function queues one call on a stream and returns a cudaError_t. With temporary == nullptr it writes the bytes of
// temporary storage that a call needs to *bytes and does nothing else.
#include <cstddef>
#include <cstdint>
#include <cub/cub.cuh>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int texpr_cub_version() { return CUB_VERSION; }

#define SCAN(NAME, TYPE)                                                                                              \
  EXPORT int texpr_cub_scan_##NAME(void *temporary, size_t *bytes, const TYPE *x, TYPE *y, int64_t count,             \
                                   cudaStream_t stream) {                                                             \
    return cub::DeviceScan::InclusiveSum(temporary, *bytes, x, y, count, stream);                                     \
  }                                                                                                                   \
  EXPORT int texpr_cub_scan_exclusive_##NAME(void *temporary, size_t *bytes, const TYPE *x, TYPE *y, int64_t count,   \
                                             cudaStream_t stream) {                                                   \
    return cub::DeviceScan::ExclusiveSum(temporary, *bytes, x, y, count, stream);                                     \
  }
SCAN(i32, int32_t)
SCAN(i64, int64_t)
SCAN(f32, float)

#define SORT(NAME, TYPE)                                                                                              \
  EXPORT int texpr_cub_sort_##NAME(void *temporary, size_t *bytes, const TYPE *keys, const uint32_t *values,          \
                                   TYPE *sorted_keys, uint32_t *sorted_values, int64_t count, cudaStream_t stream) {  \
    return cub::DeviceRadixSort::SortPairs(temporary, *bytes, keys, sorted_keys, values, sorted_values, count, 0,     \
                                           static_cast<int>(8 * sizeof(TYPE)), stream);                               \
  }
SORT(u32, uint32_t)
SORT(i32, int32_t)
SORT(f32, float)
SORT(u64, uint64_t)
SORT(i64, int64_t)
SORT(f64, double)

EXPORT int texpr_cub_histogram_u8(void *temporary, size_t *bytes, const uint8_t *x, uint32_t *counts, int64_t count,
                                  cudaStream_t stream) {
  return cub::DeviceHistogram::HistogramEven(temporary, *bytes, x, counts, 257, 0, 256, count, stream);
}
