/* work.c: kernels, copies and fills, done at once or noted by a capture. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)4 << 20) /* bytes of one transfer: both sides keep using the same memory for it */

static CUresult to_device(uint64_t to, const char *from, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    uint64_t address = to + done;
    size_t part = bytes - done < CHUNK ? bytes - done : CHUNK, none = 0;
    struct piece pieces[2];
    pieces[0].data = &address;
    pieces[0].bytes = sizeof address;
    pieces[1].data = from + done;
    pieces[1].bytes = part;
    REQUIRE_OK(request_pieces(OP_WRITE, pieces, 2, NULL, &none));
    done += part;
  }
  return CUDA_SUCCESS;
}

static CUresult to_host(char *to, uint64_t from, size_t bytes) {
  size_t done = 0;
  while (done < bytes) {
    uint64_t range[2];
    size_t part = bytes - done < CHUNK ? bytes - done : CHUNK;
    range[0] = from + done;
    range[1] = part;
    REQUIRE_OK(request(OP_READ, range, sizeof range, to + done, part));
    done += part;
  }
  return CUDA_SUCCESS;
}

static CUresult copy_row(const struct copy_work *copy, uint64_t to, uint64_t from, size_t bytes) {
  if (copy->to_place == ON_HOST && copy->from_place == ON_HOST) {
    memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    return CUDA_SUCCESS;
  }
  if (copy->to_place == ON_HOST) {
    return to_host((char *)(uintptr_t)to, from, bytes);
  }
  if (copy->from_place == ON_HOST) {
    return to_device(to, (const char *)(uintptr_t)from, bytes);
  }
  {
    uint64_t range[3];
    range[0] = to;
    range[1] = from;
    range[2] = bytes;
    return request(OP_COPY, range, sizeof range, NULL, 0);
  }
}

/* Rows without gaps are one row. */
static CUresult do_copy(const struct copy_work *copy) {
  size_t row, rows = copy->height, width = copy->width;
  if (copy->to_pitch == width && copy->from_pitch == width) {
    width *= rows;
    rows = 1;
  }
  if (width == 0 || rows == 0) {
    return CUDA_SUCCESS;
  }
  for (row = 0; row < rows; ++row) {
    REQUIRE_OK(copy_row(copy, copy->to + row * copy->to_pitch, copy->from + row * copy->from_pitch, width));
  }
  return CUDA_SUCCESS;
}

static CUresult do_fill(const struct fill_work *fill) {
  size_t row, rows = fill->height, width = fill->width;
  if (fill->pitch == width * fill->element) {
    width *= rows;
    rows = 1;
  }
  if (width == 0 || rows == 0) {
    return CUDA_SUCCESS;
  }
  for (row = 0; row < rows; ++row) {
    uint64_t wanted[4];
    wanted[0] = fill->address + row * fill->pitch;
    wanted[1] = width;
    wanted[2] = fill->value;
    wanted[3] = fill->element;
    REQUIRE_OK(request(OP_FILL, wanted, sizeof wanted, NULL, 0));
  }
  return CUDA_SUCCESS;
}

static CUresult do_kernel(const struct kernel_work *kernel) {
  struct piece pieces[3];
  size_t none = 0;
  REQUIRE_HANDLE(kernel->function, A_FUNCTION);
  pieces[0].data = &kernel->function->remote;
  pieces[0].bytes = sizeof kernel->function->remote;
  pieces[1].data = kernel->shape;
  pieces[1].bytes = sizeof kernel->shape;
  pieces[2].data = kernel->block;
  pieces[2].bytes = kernel->bytes;
  return request_pieces(OP_LAUNCH, pieces, 3, NULL, &none);
}

CUresult perform(const struct work *work) {
  CUresult result = CUDA_SUCCESS;
  switch (work->type) {
    case KERNEL_NODE:
      result = do_kernel(&work->as.kernel);
      break;
    case COPY_NODE:
      result = do_copy(&work->as.copy);
      break;
    case FILL_NODE:
      result = do_fill(&work->as.fill);
      break;
    case HOST_NODE:
      work->as.host.function(work->as.host.data);
      break;
    case RECORD_NODE:
      REQUIRE_HANDLE(work->as.event, AN_EVENT);
      record_now(work->as.event);
      return CUDA_SUCCESS;
    case WAIT_NODE:
    case EMPTY_NODE:
      return CUDA_SUCCESS;
  }
  work_done();
  return result;
}

CUresult submit(CUstream stream, const struct work *work) {
  struct stream *found;
  int captured = 0;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_OK(captured_work(found, work, &captured));
  return captured ? CUDA_SUCCESS : perform(work);
}

CUresult copy_work(struct work *to, const struct work *from) {
  *to = *from;
  if (from->type == KERNEL_NODE) {
    to->as.kernel.block = malloc(from->as.kernel.bytes + 1);
    REQUIRE(to->as.kernel.block != NULL, CUDA_ERROR_OUT_OF_MEMORY);
    memcpy(to->as.kernel.block, from->as.kernel.block, from->as.kernel.bytes);
  }
  return CUDA_SUCCESS;
}

void free_work(struct work *work) {
  if (work->type == KERNEL_NODE) {
    free(work->as.kernel.block);
  }
}
