/* An ordinary driver-API program: finds libcuda.so.1, loads a cubin from a file, runs affine_f32_rows on it, prints what it saw.
 *
 *   standin_program CUBIN ROWS COLUMNS MODE    MODE: run | oob (y one row too small) | sticky (the same,
 *   then another call) | null (a null parameter) | fork
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int (*get_proc_address)(const char *, void **, int, uint64_t, int *);
static get_proc_address lookup;
static int keep_going;

static void *entry(const char *name) {
  void *pointer = NULL;
  int status = -1;
  if (lookup(name, &pointer, 12080, 0, &status) != 0 || status != 0) {
    fprintf(stderr, "%s is missing\n", name);
    exit(3);
  }
  return pointer;
}

#define CALL(name, types, ...)                                 \
  do {                                                         \
    int (*call_) types;                                          \
    void *pointer = entry(#name);                              \
    int result;                                                \
    memcpy(&call_, &pointer, sizeof call_);                    \
    result = call_(__VA_ARGS__);                               \
    if (result != 0) {                                         \
      const char *text = "?";                                  \
      int (*error_name)(int, const char **);                   \
      pointer = entry("cuGetErrorName");                       \
      memcpy(&error_name, &pointer, sizeof error_name);        \
      error_name(result, &text);                               \
      printf("%s: %s\n", #name, text);                         \
      if (!keep_going) {                                       \
        exit(4);                                               \
      }                                                        \
    }                                                          \
  } while (0)

static void *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  char *data = malloc(1 << 20);
  if (file == NULL || data == NULL || fread(data, 1, 1 << 20, file) == 0) {
    exit(3);
  }
  fclose(file);
  return data;
}

int main(int argc, char **argv) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL), *symbol, *context, *module, *function, *stream;
  int device, count, major, minor, capturing = -1, registers, rows, columns, index, wrong = 0, present = 1;
  unsigned long long x, b, y, scratch = 0;
  long long stride;
  float *host, *shift, factor = 0.5f;
  size_t bytes;
  const char *mode;
  if (argc != 5 || library == NULL || (symbol = dlsym(library, "cuGetProcAddress_v2")) == NULL) {
    fprintf(stderr, "no driver: %s\n", dlerror());
    return 3;
  }
  memcpy(&lookup, &symbol, sizeof lookup);
  rows = atoi(argv[2]);
  columns = atoi(argv[3]);
  mode = argv[4];
  keep_going = strcmp(mode, "sticky") == 0;
  stride = columns;
  bytes = (size_t)rows * (size_t)columns * sizeof(float);

  CALL(cuInit, (unsigned), 0);
  CALL(cuDeviceGetCount, (int *), &count);
  CALL(cuDeviceGet, (int *, int), &device, 0);
  CALL(cuDeviceGetAttribute, (int *, int, int), &major, 75, device);
  CALL(cuDeviceGetAttribute, (int *, int, int), &minor, 76, device);
  printf("%d device of capability %d.%d\n", count, major, minor);
  if (strcmp(mode, "fork") == 0) {
    int status;
    if (fork() == 0) {
      CALL(cuInit, (unsigned), 0);
      exit(0);
    }
    wait(&status);
    printf("child exited with %d\n", WEXITSTATUS(status));
    return 0;
  }
  CALL(cuDevicePrimaryCtxRetain, (void **, int), &context, device);
  CALL(cuCtxSetCurrent, (void *), context);
  CALL(cuModuleLoadData, (void **, const void *), &module, read_file(argv[1]));
  CALL(cuModuleGetFunction, (void **, void *, const char *), &function, module, "affine_f32_rows");
  CALL(cuFuncGetAttribute, (int *, int, void *), &registers, 4, function);
  CALL(cuStreamCreate, (void **, unsigned), &stream, 1);
  CALL(cuStreamIsCapturing, (void *, int *), stream, &capturing);
  printf("registers %d, capturing %d\n", registers > 0, capturing);

  host = malloc(bytes);
  shift = malloc((size_t)columns * sizeof(float));
  for (index = 0; index < rows * columns; ++index) {
    host[index] = (float)(index % 64);
  }
  for (index = 0; index < columns; ++index) {
    shift[index] = (float)(index % 8);
  }
  CALL(cuMemAlloc, (unsigned long long *, size_t), &x, bytes);
  CALL(cuMemAlloc, (unsigned long long *, size_t), &b, (size_t)columns * sizeof(float));
  CALL(cuMemAlloc, (unsigned long long *, size_t), &y, strcmp(mode, "oob") == 0 || keep_going ? bytes - 4 * (size_t)columns : bytes);
  CALL(cuMemcpyHtoD, (unsigned long long, const void *, size_t), x, host, bytes);
  CALL(cuMemcpyHtoDAsync, (unsigned long long, const void *, size_t, void *), b, shift, (size_t)columns * sizeof(float), stream);
  CALL(cuMemsetD8, (unsigned long long, unsigned char, size_t), y, 0, 4);
  CALL(cuMemsetD16Async, (unsigned long long, unsigned short, size_t, void *), y, 0x3f80, 2, stream);
  CALL(cuMemsetD32Async, (unsigned long long, unsigned int, size_t, void *), y, 0x3f800000, 1, stream);
  {
    void *params[9];
    params[0] = &x;
    params[1] = &b;
    params[2] = &y;
    params[3] = strcmp(mode, "null") == 0 ? NULL : &factor;
    params[4] = &present;
    params[5] = &columns;
    params[6] = &stride;
    params[7] = &scratch;
    params[8] = &scratch;
    CALL(cuLaunchKernel,
         (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **), function,
         (unsigned)rows, 1u, 1u, 128u, 1u, 1u, 0u, stream, params, NULL);
  }
  CALL(cuStreamSynchronize, (void *), stream);
  CALL(cuMemcpyDtoH, (void *, unsigned long long, size_t), host, y, bytes);
  for (index = 0; index < rows * columns; ++index) {
    wrong += host[index] != (float)(index % 64) * factor + shift[index % columns];
  }
  printf("%d wrong\n", wrong);
  CALL(cuMemFree, (unsigned long long), x);
  CALL(cuModuleUnload, (void *), module);
  CALL(cuStreamDestroy, (void *), stream);
  return wrong != 0;
}
