/* memory.c: device memory. Addresses are the emulator's: like those of a GPU, the host cannot dereference them. */
#include "wire.h"

#define CHUNK ((size_t)64 << 20) /* bytes of one transfer */

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  uint64_t wanted = bytes, got = 0;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(address != NULL && bytes > 0, CUDA_ERROR_INVALID_VALUE);
  result = request(OP_ALLOCATE, &wanted, sizeof wanted, &got, sizeof got);
  *address = got;
  return result;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  uint64_t wanted = address;
  REQUIRE_CONTEXT();
  return address == 0 ? CUDA_SUCCESS : request(OP_FREE, &wanted, sizeof wanted, NULL, 0);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  (void)stream;
  return cuMemAlloc_v2(address, bytes);
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  (void)stream;
  return cuMemFree_v2(address);
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  size_t done = 0;
  REQUIRE_CONTEXT();
  REQUIRE(from != NULL || bytes == 0, CUDA_ERROR_INVALID_VALUE);
  while (done < bytes) {
    uint64_t address = to + done;
    size_t part = bytes - done < CHUNK ? bytes - done : CHUNK;
    struct piece pieces[2];
    size_t none = 0;
    CUresult result;
    pieces[0].data = &address;
    pieces[0].bytes = sizeof address;
    pieces[1].data = (const char *)from + done;
    pieces[1].bytes = part;
    result = request_pieces(OP_WRITE, pieces, 2, NULL, &none);
    REQUIRE(result == CUDA_SUCCESS, result);
    done += part;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  size_t done = 0;
  REQUIRE_CONTEXT();
  REQUIRE(to != NULL || bytes == 0, CUDA_ERROR_INVALID_VALUE);
  while (done < bytes) {
    uint64_t range[2];
    size_t part = bytes - done < CHUNK ? bytes - done : CHUNK;
    CUresult result;
    range[0] = from + done;
    range[1] = part;
    result = request(OP_READ, range, sizeof range, (char *)to + done, part);
    REQUIRE(result == CUDA_SUCCESS, result);
    done += part;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
  (void)stream;
  return cuMemcpyHtoD_v2(to, from, bytes);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
  (void)stream;
  return cuMemcpyDtoH_v2(to, from, bytes);
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
  struct {
    uint64_t address, bytes, value;
  } fill;
  REQUIRE_CONTEXT();
  fill.address = to;
  fill.bytes = bytes;
  fill.value = value;
  return bytes == 0 ? CUDA_SUCCESS : request(OP_FILL, &fill, sizeof fill, NULL, 0);
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  (void)stream;
  return cuMemsetD8_v2(to, value, bytes);
}
