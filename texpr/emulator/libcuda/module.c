/* module.c: modules, libraries, functions and their attributes. A library is a module, a CUkernel is a CUfunction. */
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_IMAGE ((uint64_t)1 << 30)
#define FATBIN_WRAPPER 0x466243b1u
#define FATBIN 0xba55ed50u

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
  return end > LARGEST_IMAGE ? 0 : (size_t)end;
}

static CUresult load_bytes(struct module *module, const void *image, size_t bytes) {
  return request(OP_MODULE_LOAD, image, bytes, &module->remote, sizeof module->remote);
}

/* A fat binary: 16 bytes of header, then entries of which those of kind 2 are cubins and of kind 1 PTX. The first that loads is taken.
 * The layout is not documented; this is what nvcc and fatbinary write. */
static CUresult load_fat(struct module *module, const unsigned char *image) {
  enum { CUBIN_ENTRY = 2, COMPRESSED = 0x2000 };
  uint16_t header;
  uint64_t total, at;
  CUresult result = CUDA_ERROR_INVALID_IMAGE;
  memcpy(&header, image + 6, sizeof header);
  memcpy(&total, image + 8, sizeof total);
  for (at = header; at + 64 <= header + total;) {
    uint16_t kind;
    uint32_t entry_header;
    uint64_t bytes, flags;
    memcpy(&kind, image + at, sizeof kind);
    memcpy(&entry_header, image + at + 4, sizeof entry_header);
    memcpy(&bytes, image + at + 8, sizeof bytes);
    memcpy(&flags, image + at + 40, sizeof flags);
    if (kind == CUBIN_ENTRY && (flags & COMPRESSED) != 0) {
      note("a fat binary has compressed cubins, which the emulator cannot read: build it with fatbinary --compress=false");
    } else if (kind == CUBIN_ENTRY) {
      const unsigned char *cubin = image + at + entry_header;
      const size_t exact = elf_size(cubin);
      result = load_bytes(module, cubin, exact > 0 && exact <= bytes ? exact : bytes);
      REQUIRE(result != CUDA_SUCCESS, CUDA_SUCCESS);
    }
    at += entry_header + bytes;
  }
  return result;
}

static CUresult load_image(struct module *module, const unsigned char *image) {
  uint32_t magic;
  memcpy(&magic, image, sizeof magic);
  if (magic == FATBIN_WRAPPER) {
    memcpy(&image, image + 8, sizeof image);
    memcpy(&magic, image, sizeof magic);
  }
  if (magic == FATBIN) {
    return load_fat(module, image);
  }
  if (memcmp(image, "\177ELF", 4) == 0) {
    size_t bytes = elf_size(image);
    return bytes > 0 ? load_bytes(module, image, bytes) : CUDA_ERROR_INVALID_IMAGE;
  }
  return load_bytes(module, image, strlen((const char *)image)); /* PTX */
}

EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  struct module *loaded;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  REQUIRE(module != NULL && image != NULL, CUDA_ERROR_INVALID_VALUE);
  loaded = calloc(1, sizeof *loaded);
  REQUIRE(loaded != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  loaded->context = current_context();
  result = load_image(loaded, image);
  if (result == CUDA_SUCCESS) {
    result = enter_handle(loaded, A_MODULE);
  }
  if (result != CUDA_SUCCESS) {
    free(loaded);
    return result;
  }
  *module = loaded;
  return CUDA_SUCCESS;
}
ALIAS(cuModuleLoadFatBinary, cuModuleLoadData);

/* The options concern the JIT compiler, which a cubin does not need. */
EXPORT CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, int *options, void **values) {
  (void)count;
  (void)options;
  (void)values;
  return cuModuleLoadData(module, image);
}

EXPORT CUresult cuModuleLoad(CUmodule *module, const char *path) {
  FILE *file;
  char *data;
  long bytes;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(module != NULL && path != NULL, CUDA_ERROR_INVALID_VALUE);
  file = fopen(path, "rb");
  REQUIRE(file != NULL, CUDA_ERROR_FILE_NOT_FOUND);
  fseek(file, 0, SEEK_END);
  bytes = ftell(file);
  rewind(file);
  data = bytes >= 0 ? calloc((size_t)bytes + 64, 1) : NULL;
  if (data == NULL || fread(data, 1, (size_t)bytes, file) != (size_t)bytes) {
    fclose(file);
    free(data);
    return CUDA_ERROR_INVALID_IMAGE;
  }
  fclose(file);
  result = cuModuleLoadData(module, data);
  free(data);
  return result;
}

EXPORT CUresult cuModuleUnload(CUmodule module) {
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  REQUIRE_HANDLE(module, A_MODULE);
  result = request(OP_MODULE_UNLOAD, &module->remote, sizeof module->remote, NULL, 0);
  REQUIRE(result == CUDA_SUCCESS, result);
  leave_handle(module);
  while (module->functions != NULL) {
    struct function *function = module->functions;
    module->functions = function->next;
    leave_handle(function);
    free(function);
  }
  free(module);
  return CUDA_SUCCESS;
}

static CUresult get_by_name(enum operation operation, CUmodule module, const char *name, void *reply, size_t bytes) {
  struct piece pieces[2];
  size_t room = bytes;
  CUresult result;
  pieces[0].data = &module->remote;
  pieces[0].bytes = sizeof module->remote;
  pieces[1].data = name;
  pieces[1].bytes = strlen(name);
  result = request_pieces(operation, pieces, 2, reply, &room);
  return result == CUDA_SUCCESS && room != bytes ? CUDA_ERROR_UNKNOWN : result;
}

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  struct function *found;
  CUresult result;
  REQUIRE_CONTEXT();
  REQUIRE(function != NULL && name != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(module, A_MODULE);
  found = calloc(1, sizeof *found + strlen(name) + 1);
  REQUIRE(found != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  result = get_by_name(OP_FUNCTION, module, name, &found->remote, sizeof found->remote);
  if (result == CUDA_SUCCESS) {
    result = enter_handle(found, A_FUNCTION);
  }
  if (result != CUDA_SUCCESS) {
    free(found);
    return result;
  }
  strcpy(found->name, name);
  found->count = -1;
  found->module = module;
  found->next = module->functions;
  module->functions = found;
  *function = found;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module, const char *name) {
  uint64_t found[2] = {0, 0};
  REQUIRE_CONTEXT();
  REQUIRE(name != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(module, A_MODULE);
  REQUIRE_OK(get_by_name(OP_GLOBAL, module, name, found, sizeof found));
  if (address != NULL) {
    *address = found[0];
  }
  if (bytes != NULL) {
    *bytes = found[1];
  }
  return CUDA_SUCCESS;
}

/* The names of all kernels of a module, each with its final zero. */
static CUresult names_of(CUmodule module, char *names, size_t *bytes) {
  struct piece piece;
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(module, A_MODULE);
  piece.data = &module->remote;
  piece.bytes = sizeof module->remote;
  return request_pieces(OP_FUNCTION_NAMES, &piece, 1, names, bytes);
}

enum { NAMES = 1 << 16 };

EXPORT CUresult cuModuleGetFunctionCount(unsigned int *count, CUmodule module) {
  char names[NAMES];
  size_t bytes = sizeof names, at;
  REQUIRE(count != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(names_of(module, names, &bytes));
  *count = 0;
  for (at = 0; at < bytes; at += strlen(names + at) + 1) {
    ++*count;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned int count, CUmodule module) {
  char names[NAMES];
  size_t bytes = sizeof names, at;
  unsigned int index = 0;
  REQUIRE(functions != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(names_of(module, names, &bytes));
  for (at = 0; at < bytes && index < count; at += strlen(names + at) + 1) {
    REQUIRE_OK(cuModuleGetFunction(&functions[index++], module, names + at));
  }
  return CUDA_SUCCESS;
}

/* ---- libraries */

EXPORT CUresult cuLibraryLoadData(
    CUmodule *library, const void *code, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count) {
  (void)jit;
  (void)jit_values;
  (void)jit_count;
  (void)options;
  (void)values;
  (void)count;
  return cuModuleLoadData(library, code);
}

EXPORT CUresult cuLibraryLoadFromFile(
    CUmodule *library, const char *path, int *jit, void **jit_values, unsigned int jit_count, int *options, void **values, unsigned int count) {
  (void)jit;
  (void)jit_values;
  (void)jit_count;
  (void)options;
  (void)values;
  (void)count;
  return cuModuleLoad(library, path);
}

EXPORT CUresult cuLibraryUnload(CUmodule library) { return cuModuleUnload(library); }

EXPORT CUresult cuLibraryGetKernel(CUfunction *kernel, CUmodule library, const char *name) { return cuModuleGetFunction(kernel, library, name); }

EXPORT CUresult cuLibraryGetModule(CUmodule *module, CUmodule library) {
  REQUIRE_CONTEXT();
  REQUIRE(module != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(library, A_MODULE);
  *module = library;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUmodule library, const char *name) {
  return cuModuleGetGlobal_v2(address, bytes, library, name);
}

EXPORT CUresult cuLibraryGetKernelCount(unsigned int *count, CUmodule library) { return cuModuleGetFunctionCount(count, library); }

EXPORT CUresult cuLibraryEnumerateKernels(CUfunction *kernels, unsigned int count, CUmodule library) {
  return cuModuleEnumerateFunctions(kernels, count, library);
}

EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUfunction kernel) {
  REQUIRE_CONTEXT();
  REQUIRE(function != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(kernel, A_FUNCTION);
  *function = kernel;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuKernelGetLibrary(CUmodule *library, CUfunction kernel) {
  REQUIRE_CONTEXT();
  REQUIRE(library != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(kernel, A_FUNCTION);
  *library = kernel->module;
  return CUDA_SUCCESS;
}

/* ---- functions */

EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  struct {
    uint64_t function;
    int32_t attribute, unused;
  } wanted;
  REQUIRE_CONTEXT();
  REQUIRE(value != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(function, A_FUNCTION);
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
  REQUIRE_HANDLE(function, A_FUNCTION);
  wanted.function = function->remote;
  wanted.attribute = attribute;
  wanted.value = value;
  return request(OP_SET_ATTRIBUTE, &wanted, sizeof wanted, NULL, 0);
}

EXPORT CUresult cuKernelGetAttribute(int *value, int attribute, CUfunction kernel, CUdevice device) {
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return cuFuncGetAttribute(value, attribute, kernel);
}

EXPORT CUresult cuKernelSetAttribute(int attribute, int value, CUfunction kernel, CUdevice device) {
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return cuFuncSetAttribute(kernel, attribute, value);
}

EXPORT CUresult cuFuncGetModule(CUmodule *module, CUfunction function) { return cuKernelGetLibrary(module, function); }

EXPORT CUresult cuFuncGetName(const char **name, CUfunction function) {
  REQUIRE_CONTEXT();
  REQUIRE(name != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(function, A_FUNCTION);
  *name = function->name;
  return CUDA_SUCCESS;
}
ALIAS(cuKernelGetName, cuFuncGetName);

/* Hints, which cannot change a result. */
EXPORT CUresult cuFuncSetCacheConfig(CUfunction function, int config) {
  (void)config;
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(function, A_FUNCTION);
  return CUDA_SUCCESS;
}
ALIAS(cuFuncSetSharedMemConfig, cuFuncSetCacheConfig);

EXPORT CUresult cuFuncLoad(CUfunction function) { return cuFuncSetCacheConfig(function, 0); }

EXPORT CUresult cuFuncIsLoaded(int *state, CUfunction function) {
  REQUIRE(state != NULL, CUDA_ERROR_INVALID_VALUE);
  *state = 1;
  return cuFuncLoad(function);
}

EXPORT CUresult cuModuleGetLoadingMode(int *mode) {
  REQUIRE(mode != NULL, CUDA_ERROR_INVALID_VALUE);
  *mode = 1; /* eager */
  return initialised() ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}
