/* launch.c: kernel launches and occupancy. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

static pthread_mutex_t parameters_lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult know_parameters(CUfunction function) {
  size_t room = sizeof function->parameters;
  struct piece piece;
  CUresult result = CUDA_SUCCESS;
  piece.data = &function->remote;
  piece.bytes = sizeof function->remote;
  pthread_mutex_lock(&parameters_lock);
  if (function->count < 0) {
    result = request_pieces(OP_PARAMETERS, &piece, 1, function->parameters, &room);
    if (result == CUDA_SUCCESS) {
      function->count = (int)(room / sizeof function->parameters[0]);
    }
  }
  pthread_mutex_unlock(&parameters_lock);
  return result;
}

EXPORT CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes) {
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(function, A_FUNCTION);
  REQUIRE_OK(know_parameters(function));
  REQUIRE(offset != NULL && index < (size_t)function->count, CUDA_ERROR_INVALID_VALUE);
  *offset = function->parameters[index][0];
  if (bytes != NULL) {
    *bytes = function->parameters[index][1];
  }
  return CUDA_SUCCESS;
}
ALIAS(cuKernelGetParamInfo, cuFuncGetParamInfo);

/* Parameters as one block, from `extra`: pairs of a key and a value. */
static CUresult block_of(void **extra, const unsigned char **block, size_t *bytes) {
  enum { END = 0, POINTER = 1, BYTES = 2 };
  *block = NULL;
  *bytes = 0;
  for (; (uintptr_t)*extra != END; extra += 2) {
    if ((uintptr_t)*extra == POINTER) {
      *block = extra[1];
    } else if ((uintptr_t)*extra == BYTES) {
      *bytes = *(const size_t *)extra[1];
    } else {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return *block != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Copies exactly the declared size of every parameter to its place in `bytes`. */
static CUresult gather(CUfunction function, void **params, void **extra, unsigned char *bytes, size_t *used) {
  const unsigned char *block = NULL;
  size_t given = 0;
  int index;
  *used = 0;
  if (function->count == 0) {
    return CUDA_SUCCESS;
  }
  REQUIRE((params == NULL) != (extra == NULL), CUDA_ERROR_INVALID_VALUE);
  if (extra != NULL) {
    REQUIRE_OK(block_of(extra, &block, &given));
  }
  for (index = 0; index < function->count; ++index) {
    const size_t offset = function->parameters[index][0], size = function->parameters[index][1];
    REQUIRE(offset + size <= MAX_PARAMETER_BYTES, CUDA_ERROR_INVALID_VALUE);
    if (extra == NULL && params[index] == NULL) {
      note("launch of %s: the address of parameter %d is null", function->name, index);
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (extra != NULL && offset + size > given) {
      note("launch of %s: parameter %d ends at byte %zu of a block of %zu bytes", function->name, index, offset + size, given);
      return CUDA_ERROR_INVALID_VALUE;
    }
    memset(bytes + *used, 0, offset > *used ? offset - *used : 0);
    memcpy(bytes + offset, extra == NULL ? params[index] : (const void *)(block + offset), size);
    *used = offset + size;
  }
  return CUDA_SUCCESS;
}

/* `shape` as in struct kernel_work. */
static CUresult launch(CUfunction function, const uint32_t shape[10], CUstream stream, void **params, void **extra) {
  unsigned char bytes[MAX_PARAMETER_BYTES];
  struct work work;
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(function, A_FUNCTION);
  REQUIRE(function->module->context == current_context(), CUDA_ERROR_INVALID_HANDLE);
  REQUIRE_OK(know_parameters(function));
  work.type = KERNEL_NODE;
  work.as.kernel.function = function;
  memcpy(work.as.kernel.shape, shape, sizeof work.as.kernel.shape);
  work.as.kernel.block = bytes;
  REQUIRE_OK(gather(function, params, extra, bytes, &work.as.kernel.bytes));
  return submit(stream, &work);
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
    unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void **params, void **extra) {
  const uint32_t shape[10] = {grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, 0, 0, 0};
  return launch(function, shape, stream, params, extra);
}
ALIAS(cuLaunchKernel_ptsz, cuLaunchKernel);

/* ---- launches with attributes */

/* CUlaunchAttribute */
struct launch_attribute {
  unsigned int id;
  unsigned int padding;
  union {
    unsigned int words[16];
    struct {
      CUevent event;
      int flags, trigger;
    } programmatic_event;
    struct {
      CUevent event;
      int flags;
    } completion_event;
  } value;
};

/* CUlaunchConfig */
typedef struct launch_config {
  unsigned int grid_x, grid_y, grid_z;
  unsigned int block_x, block_y, block_z;
  unsigned int shared_bytes;
  CUstream stream;
  const struct launch_attribute *attributes;
  unsigned int attribute_count;
} launch_config;

enum attribute_id {
  IGNORE = 0, ACCESS_POLICY_WINDOW = 1, COOPERATIVE = 2, SYNCHRONIZATION_POLICY = 3, CLUSTER_DIMENSION = 4, CLUSTER_SCHEDULING = 5,
  PROGRAMMATIC_STREAM_SERIALIZATION = 6, PROGRAMMATIC_EVENT = 7, PRIORITY = 8, MEM_SYNC_DOMAIN_MAP = 9, MEM_SYNC_DOMAIN = 10,
  PREFERRED_CLUSTER_DIMENSION = 11, LAUNCH_COMPLETION_EVENT = 12, PREFERRED_SHARED_MEMORY_CARVEOUT = 14
};

/* Attributes that say when and where a kernel may run change nothing in a simulation without time; the dimensions of clusters become
 * part of the shape. The others are refused. */
static CUresult take_attribute(const struct launch_attribute *attribute, const char *kernel, uint32_t shape[10]) {
  const unsigned int *words = attribute->value.words;
  switch (attribute->id) {
    case IGNORE:
    case ACCESS_POLICY_WINDOW:
    case SYNCHRONIZATION_POLICY:
    case CLUSTER_SCHEDULING:
    case PROGRAMMATIC_STREAM_SERIALIZATION:
    case PROGRAMMATIC_EVENT:
    case PRIORITY:
    case MEM_SYNC_DOMAIN_MAP:
    case MEM_SYNC_DOMAIN:
    case LAUNCH_COMPLETION_EVENT:
    case PREFERRED_SHARED_MEMORY_CARVEOUT:
      return CUDA_SUCCESS;
    case COOPERATIVE:
      if (words[0] == 0) {
        return CUDA_SUCCESS;
      }
      note("launch of %s: cooperative launches are not emulated", kernel);
      return CUDA_ERROR_NOT_SUPPORTED;
    case CLUSTER_DIMENSION:
      REQUIRE(words[0] != 0 && words[1] != 0 && words[2] != 0, CUDA_ERROR_INVALID_VALUE);
      memcpy(shape + 7, words, 3 * sizeof *words);
      return CUDA_SUCCESS;
    case PREFERRED_CLUSTER_DIMENSION:
      if (words[0] <= 1 && words[1] <= 1 && words[2] <= 1) {
        return CUDA_SUCCESS;
      }
      note("launch of %s: preferred clusters of %u x %u x %u programs are not emulated", kernel, words[0], words[1], words[2]);
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      note("launch of %s: launch attribute %u is not emulated", kernel, attribute->id);
      return CUDA_ERROR_NOT_SUPPORTED;
  }
}

EXPORT CUresult cuLaunchKernelEx(const launch_config *config, CUfunction function, void **params, void **extra) {
  uint32_t shape[10] = {0};
  unsigned int index;
  REQUIRE_CONTEXT();
  REQUIRE(config != NULL && (config->attribute_count == 0 || config->attributes != NULL), CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(function, A_FUNCTION);
  for (index = 0; index < config->attribute_count; ++index) {
    REQUIRE_OK(take_attribute(&config->attributes[index], function->name, shape));
  }
  shape[0] = config->grid_x;
  shape[1] = config->grid_y;
  shape[2] = config->grid_z;
  shape[3] = config->block_x;
  shape[4] = config->block_y;
  shape[5] = config->block_z;
  shape[6] = config->shared_bytes;
  REQUIRE_OK(launch(function, shape, config->stream, params, extra));
  for (index = 0; index < config->attribute_count; ++index) {
    const struct launch_attribute *attribute = &config->attributes[index];
    if (attribute->id == PROGRAMMATIC_EVENT || attribute->id == LAUNCH_COMPLETION_EVENT) {
      REQUIRE_OK(cuEventRecord(attribute->value.completion_event.event, config->stream));
    }
  }
  return CUDA_SUCCESS;
}
ALIAS(cuLaunchKernelEx_ptsz, cuLaunchKernelEx);

/* ---- occupancy, from the resources in the bundle's manifest */

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int threads, size_t shared_bytes) {
  uint64_t wanted[3], got = 0;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(blocks != NULL && threads > 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(function, A_FUNCTION);
  wanted[0] = function->remote;
  wanted[1] = (uint64_t)threads;
  wanted[2] = shared_bytes;
  result = request(OP_OCCUPANCY, wanted, sizeof wanted, &got, sizeof got);
  *blocks = (int)got;
  return result;
}

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, CUfunction function, int threads, size_t shared_bytes, unsigned int flags) {
  (void)flags;
  return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, threads, shared_bytes);
}

/* Clusters of the launch that run at once, if programs of a cluster may be on any multiprocessors. */
EXPORT CUresult cuOccupancyMaxActiveClusters(int *clusters, CUfunction function, const launch_config *config) {
  uint32_t shape[10] = {0};
  unsigned int index;
  int blocks = 0, multiprocessors = 0, width = 0, programs;
  REQUIRE_CONTEXT();
  REQUIRE(clusters != NULL && config != NULL && (config->attribute_count == 0 || config->attributes != NULL), CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(function, A_FUNCTION);
  for (index = 0; index < config->attribute_count; ++index) {
    REQUIRE_OK(take_attribute(&config->attributes[index], function->name, shape));
  }
  REQUIRE_OK(cuFuncGetAttribute(&width, 11, function)); /* REQUIRED_CLUSTER_WIDTH */
  programs = shape[7] != 0 ? (int)(shape[7] * shape[8] * shape[9]) : width > 0 ? width : 1;
  REQUIRE_OK(cuDeviceGetAttribute(&multiprocessors, 16, 0));
  REQUIRE_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(
      &blocks, function, (int)(config->block_x * config->block_y * config->block_z), config->shared_bytes));
  *clusters = blocks * multiprocessors / programs;
  return CUDA_SUCCESS;
}

typedef size_t (*shared_of_block)(int threads);

/* The block size, in whole warps, that keeps most threads of a multiprocessor busy; of several the largest. */
EXPORT CUresult cuOccupancyMaxPotentialBlockSize(
    int *grid, int *block, CUfunction function, shared_of_block shared_of, size_t shared_bytes, int limit) {
  int most = 0, threads, multiprocessors = 0, largest = 0, best = 0;
  REQUIRE_CONTEXT();
  REQUIRE(grid != NULL && block != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuDeviceGetAttribute(&multiprocessors, 16, 0));
  REQUIRE_OK(cuFuncGetAttribute(&largest, 0, function));
  largest = limit > 0 && limit < largest ? limit : largest;
  *block = 0;
  for (threads = 32; threads <= largest; threads += 32) {
    int blocks = 0;
    REQUIRE_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(
        &blocks, function, threads, shared_of != NULL ? shared_of(threads) : shared_bytes));
    if (blocks > 0 && blocks * threads >= most) {
      most = blocks * threads;
      best = blocks;
      *block = threads;
    }
  }
  *grid = best * multiprocessors;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(
    int *grid, int *block, CUfunction function, shared_of_block shared_of, size_t shared_bytes, int limit, unsigned int flags) {
  (void)flags;
  return cuOccupancyMaxPotentialBlockSize(grid, block, function, shared_of, shared_bytes, limit);
}

EXPORT CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction function, int blocks, int threads) {
  size_t low = 0, high;
  int limit = 0, got = 0;
  REQUIRE_CONTEXT();
  REQUIRE(bytes != NULL && blocks > 0, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuDeviceGetAttribute(&limit, 97, 0));
  high = (size_t)limit + 1;
  while (high - low > 1) { /* `low` fits, `high` does not */
    const size_t middle = low + (high - low) / 2;
    REQUIRE_OK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&got, function, threads, middle));
    if (got >= blocks) {
      low = middle;
    } else {
      high = middle;
    }
  }
  *bytes = low;
  return CUDA_SUCCESS;
}
