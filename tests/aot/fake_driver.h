/* A stand-in CUDA driver for testing launchers: records launches, copies every kernel parameter with its exact size, fails the n-th
 * call on demand, counts modules. Not for concurrent use unless recording is off. */
#ifndef FAKE_DRIVER_H
#define FAKE_DRIVER_H
#include "texpr_abi.h"

enum { FAKE_MAX_LAUNCHES = 8, FAKE_MAX_PARAM_BYTES = 512, FAKE_MAX_PARAMS = 32 };

/* One image of the bundle under test; the generated file fake_images.c lists them. The first 32 bytes of a cubin identify it. */
struct fake_image {
  const char *kernel;
  unsigned char digest[32];
  int capability; /* of the target it was compiled for */
  int exact;
  unsigned int threads, shared_bytes;
  int registers, stack_bytes;
  int param_count;
  int param_bytes[FAKE_MAX_PARAMS];
};
extern const struct fake_image fake_images[];
extern const int fake_image_count;

struct fake_launch {
  int32_t image; /* row of fake_images; -1: a memset, whose params are address, value and count as uint64_t, block its bits */
  uint32_t grid, block, shared_bytes;
  uint32_t param_bytes; /* used bytes of params */
  uint32_t cluster; /* blocks of a cluster; 1: none was asked for */
  void *stream;
  unsigned char params[FAKE_MAX_PARAM_BYTES];
};

struct fake_state {
  int32_t capability, sms, shared_limit;
  int32_t recording;            /* 0: every call succeeds and nothing is written */
  int32_t fail_at, fail_result; /* the fail_at-th call from now fails with this result; 0: none */
  int32_t calls;
  int32_t capturing;
  int32_t registers_off, local_bytes_off, threads_off; /* added to what the images declare */
  int32_t modules, functions_loaded;                    /* modules loaded and not unloaded */
  int32_t mistakes;                                     /* calls that a real driver would have refused or crashed on */
  int32_t launches;
  int32_t early_launches;
  int32_t images_loaded; /* bit set of rows */
  int32_t driver_version;
  void *context;
  struct fake_launch launch[FAKE_MAX_LAUNCHES];
};
extern struct fake_state fake;

/* An A100-like device, nothing loaded. */
void fake_reset(void);
void fake_table(texpr_driver *driver);
#endif
