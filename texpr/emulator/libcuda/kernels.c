/* kernels.c: modules, functions and launches. */
#include "wire.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PARAMETERS 256
#define MAX_PARAMETER_BYTES 32764 /* CUDA C++ Programming Guide: kernel parameters from 12.1 on */

/* `count` is -1 until the first launch asks for the parameter sizes. */
struct function {
  uint64_t remote;
  struct function *next;
  int count;
  uint32_t sizes[MAX_PARAMETERS];
};
static pthread_mutex_t sizes_lock = PTHREAD_MUTEX_INITIALIZER;

struct module {
  uint64_t remote;
  struct function *functions;
};

/* Length of the 64-bit ELF image at `image` from its headers, or 0 if it is none: the end of whatever lies last. */
static size_t elf_size(const unsigned char *image) {
  uint64_t section_offset, program_offset, end;
  uint16_t section_size, section_count, program_size, program_count, index;
  if (memcmp(image, "\177ELF\002\001", 6) != 0) {
    return 0;
  }
  memcpy(&program_offset, image + 32, sizeof program_offset);
  memcpy(&section_offset, image + 40, sizeof section_offset);
  memcpy(&program_size, image + 54, sizeof program_size);
  memcpy(&program_count, image + 56, sizeof program_count);
  memcpy(&section_size, image + 58, sizeof section_size);
  memcpy(&section_count, image + 60, sizeof section_count);
  if (section_size != 64 || (program_count > 0 && program_size != 56)) {
    return 0;
  }
  end = section_offset + (uint64_t)section_size * section_count;
  if (program_count > 0 && program_offset + (uint64_t)program_size * program_count > end) {
    end = program_offset + (uint64_t)program_size * program_count;
  }
  for (index = 0; index < section_count; ++index) {
    const unsigned char *section = image + section_offset + (size_t)section_size * index;
    uint32_t kind;
    uint64_t offset, bytes;
    memcpy(&kind, section + 4, sizeof kind);
    memcpy(&offset, section + 24, sizeof offset);
    memcpy(&bytes, section + 32, sizeof bytes);
    if (kind != 8 /* SHT_NOBITS */ && offset + bytes > end) {
      end = offset + bytes;
    }
  }
  return end > ((uint64_t)1 << 30) ? 0 : (size_t)end;
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  struct module *loaded;
  size_t bytes;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(module != NULL && image != NULL, CUDA_ERROR_INVALID_VALUE);
  bytes = elf_size(image);
  REQUIRE(bytes > 0, CUDA_ERROR_INVALID_IMAGE);
  loaded = calloc(1, sizeof *loaded);
  REQUIRE(loaded != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  result = request(OP_MODULE_LOAD, image, bytes, &loaded->remote, sizeof loaded->remote);
  if (result != CUDA_SUCCESS) {
    free(loaded);
    return result;
  }
  *module = loaded;
  return CUDA_SUCCESS;
}

/* The options concern the JIT compiler, which a cubin does not need. */
EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, int *options, void **values) {
  (void)count;
  (void)options;
  (void)values;
  return cuModuleLoadData(module, image);
}

EXPORT CUresult cuModuleUnload(CUmodule module) {
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(module != NULL, CUDA_ERROR_INVALID_HANDLE);
  result = request(OP_MODULE_UNLOAD, &module->remote, sizeof module->remote, NULL, 0);
  REQUIRE(result == CUDA_SUCCESS, result);
  while (module->functions != NULL) {
    struct function *function = module->functions;
    module->functions = function->next;
    free(function);
  }
  free(module);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  struct function *found;
  struct piece pieces[2];
  size_t room = sizeof found->remote;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(function != NULL && name != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(module != NULL, CUDA_ERROR_INVALID_HANDLE);
  found = calloc(1, sizeof *found);
  REQUIRE(found != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  pieces[0].data = &module->remote;
  pieces[0].bytes = sizeof module->remote;
  pieces[1].data = name;
  pieces[1].bytes = strlen(name);
  result = request_pieces(OP_FUNCTION, pieces, 2, &found->remote, &room);
  if (result != CUDA_SUCCESS || room != sizeof found->remote) {
    free(found);
    return result != CUDA_SUCCESS ? result : CUDA_ERROR_UNKNOWN;
  }
  found->count = -1;
  found->next = module->functions;
  module->functions = found;
  *function = found;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  struct {
    uint64_t function;
    int32_t attribute, unused;
  } wanted;
  REQUIRE_CONTEXT();
  REQUIRE(value != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(function != NULL, CUDA_ERROR_INVALID_HANDLE);
  wanted.function = function->remote;
  wanted.attribute = attribute;
  wanted.unused = 0;
  return request(OP_FUNCTION_ATTRIBUTE, &wanted, sizeof wanted, value, sizeof *value);
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  struct {
    uint64_t function;
    int32_t attribute, value;
  } wanted;
  REQUIRE_CONTEXT();
  REQUIRE(function != NULL, CUDA_ERROR_INVALID_HANDLE);
  wanted.function = function->remote;
  wanted.attribute = attribute;
  wanted.value = value;
  return request(OP_SET_ATTRIBUTE, &wanted, sizeof wanted, NULL, 0);
}

/* A hint, which cannot change a result. */
EXPORT CUresult cuFuncSetCacheConfig(CUfunction function, int config) {
  (void)config;
  REQUIRE_CONTEXT();
  return function == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

EXPORT CUresult cuFuncLoad(CUfunction function) {
  REQUIRE_CONTEXT();
  return function == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}

static CUresult know_parameters(CUfunction function) {
  size_t room = sizeof function->sizes;
  struct piece piece;
  CUresult result = CUDA_SUCCESS;
  piece.data = &function->remote;
  piece.bytes = sizeof function->remote;
  pthread_mutex_lock(&sizes_lock);
  if (function->count < 0) {
    result = request_pieces(OP_PARAMETERS, &piece, 1, function->sizes, &room);
    if (result == CUDA_SUCCESS) {
      function->count = (int)(room / sizeof function->sizes[0]);
    }
  }
  pthread_mutex_unlock(&sizes_lock);
  return result;
}

/* Copies exactly the declared size of every parameter. `shape` is grid x, y, z, block x, y, z, shared bytes. */
static CUresult launch(CUfunction function, const uint32_t shape[7], void **params, void **extra) {
  unsigned char bytes[MAX_PARAMETER_BYTES];
  struct piece pieces[3];
  size_t used = 0, none = 0;
  int index;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(function != NULL, CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(extra == NULL, CUDA_ERROR_NOT_SUPPORTED);
  result = know_parameters(function);
  REQUIRE(result == CUDA_SUCCESS, result);
  REQUIRE(params != NULL || function->count == 0, CUDA_ERROR_INVALID_VALUE);
  for (index = 0; index < function->count; ++index) {
    REQUIRE(params[index] != NULL, CUDA_ERROR_INVALID_VALUE);
    REQUIRE(function->sizes[index] <= sizeof bytes - used, CUDA_ERROR_INVALID_VALUE);
    memcpy(bytes + used, params[index], function->sizes[index]);
    used += function->sizes[index];
  }
  pieces[0].data = &function->remote;
  pieces[0].bytes = sizeof function->remote;
  pieces[1].data = shape;
  pieces[1].bytes = 7 * sizeof shape[0];
  pieces[2].data = bytes;
  pieces[2].bytes = used;
  return request_pieces(OP_LAUNCH, pieces, 3, NULL, &none);
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                               unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                               CUstream stream, void **params, void **extra) {
  uint32_t shape[7];
  (void)stream;
  shape[0] = grid_x;
  shape[1] = grid_y;
  shape[2] = grid_z;
  shape[3] = block_x;
  shape[4] = block_y;
  shape[5] = block_z;
  shape[6] = shared_bytes;
  return launch(function, shape, params, extra);
}

/* CUlaunchConfig; attributes (clusters, programmatic dependent launch, ...) are refused rather than ignored. */
typedef struct launch_config {
  unsigned int grid_x, grid_y, grid_z;
  unsigned int block_x, block_y, block_z;
  unsigned int shared_bytes;
  CUstream stream;
  void *attributes;
  unsigned int attribute_count;
} launch_config;

EXPORT CUresult cuLaunchKernelEx(const launch_config *config, CUfunction function, void **params, void **extra) {
  REQUIRE(config != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(config->attribute_count == 0, CUDA_ERROR_NOT_SUPPORTED);
  return cuLaunchKernel(function, config->grid_x, config->grid_y, config->grid_z, config->block_x, config->block_y,
                        config->block_z, config->shared_bytes, config->stream, params, extra);
}
