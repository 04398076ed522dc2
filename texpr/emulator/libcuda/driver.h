/* driver.h: the objects of the stand-in driver, and what its files need of each other. */
#ifndef TEXPR_STANDIN_DRIVER_H
#define TEXPR_STANDIN_DRIVER_H
#include "wire.h"

#include <pthread.h>

/* ---- handles: every object a program gets is registered, so that a stale or foreign handle is an error and no crash (handles.c) */

enum kind { A_CONTEXT = 1, A_STREAM, AN_EVENT, A_MODULE, A_FUNCTION, A_GRAPH, A_NODE, AN_EXECUTABLE, A_POOL };

CUresult enter_handle(const void *object, enum kind kind);
void leave_handle(const void *object);
int is_handle(const void *object, enum kind kind);

#define REQUIRE_HANDLE(object, kind) REQUIRE(is_handle(object, kind), CUDA_ERROR_INVALID_HANDLE)

/* ---- contexts and streams (context.c, stream.c) */

enum { LIMITS = 8, NON_BLOCKING = 1 };

struct capture;

/* A stream has no queue, as work is done when it is submitted. While it is captured, `tips` are the nodes that its next node depends on. */
struct stream {
  CUcontext context;
  unsigned int flags;
  int priority;
  uint64_t id;
  struct capture *capture;
  struct node **tips;
  size_t tip_count;
  struct stream *next_captured;
};

struct context {
  uint64_t id;
  unsigned int flags;
  unsigned int retains; /* of the primary context */
  int primary, alive;
  size_t limits[LIMITS];
  struct stream legacy;
};

CUcontext current_context(void);
uint64_t next_id(void);

/* The stream behind a handle, which may be one of the default streams; CUDA_SUCCESS or the result to return. */
CUresult find_stream(CUstream handle, struct stream **found);

/* ---- work: what a stream does, at once or when a captured graph is launched (work.c) */

enum node_type { KERNEL_NODE = 0, COPY_NODE = 1, FILL_NODE = 2, HOST_NODE = 3, EMPTY_NODE = 5, WAIT_NODE = 6, RECORD_NODE = 7 };
enum place { ON_HOST = 1, ON_DEVICE = 2 };

struct kernel_work {
  CUfunction function;
  uint32_t shape[10]; /* grid x, y, z, block x, y, z, shared bytes, cluster x, y, z (zeros: none is given) */
  unsigned char *block;
  size_t bytes;
};
struct copy_work {
  enum place to_place, from_place;
  uint64_t to, from; /* addresses of either side */
  size_t to_pitch, from_pitch, width, height; /* bytes, rows */
};
struct fill_work {
  uint64_t address, value, element;
  size_t pitch, width, height; /* width in elements */
};
struct host_work {
  void (*function)(void *);
  void *data;
};
struct work {
  enum node_type type;
  union {
    struct kernel_work kernel;
    struct copy_work copy;
    struct fill_work fill;
    struct host_work host;
    CUevent event;
  } as;
};

/* Do the work now, or make it a node of the capture that the stream is in. */
CUresult submit(CUstream stream, const struct work *work);
CUresult perform(const struct work *work);

/* Work for a node: a copy that owns its memory. */
CUresult copy_work(struct work *to, const struct work *from);
void free_work(struct work *work);

/* ---- events (stream.c): how many pieces of work had been done when it was recorded stands for its time */

struct event {
  CUcontext context;
  unsigned int flags;
  int recorded;
  uint64_t time;
  uint64_t captured; /* id of the capture it was recorded in, 0 if it was not */
  struct node **tips;
  size_t tip_count;
};
void record_now(CUevent event);
void work_done(void);

/* ---- capture (capture.c) */

/* For calls that CUDA forbids while a capture could notice: they fail, and the capture is invalidated. */
CUresult forbid_while_capturing(void);
/* For work in the legacy stream, which would wait for blocking streams that are captured. */
CUresult legacy_is_free(void);
/* The same for calls that wait or copy through the legacy stream. */
CUresult legacy_wait_is_free(void);

#define REQUIRE_OK(call)                          \
  do {                                            \
    CUresult call_result = (call);                \
    REQUIRE(call_result == CUDA_SUCCESS, call_result); \
  } while (0)

CUresult captured_work(struct stream *stream, const struct work *work, int *captured);
CUresult captured_record(struct stream *stream, CUevent event, int *captured);
CUresult captured_wait(struct stream *stream, CUevent event, int *captured);
CUresult refuse_captured(struct stream *stream);
void forget_captured(struct stream *stream);

/* ---- functions (module.c) and device memory (memory.c) */

#define MAX_PARAMETERS 256
#define MAX_PARAMETER_BYTES 32764 /* CUDA C++ Programming Guide: kernel parameters from 12.1 on */

/* `count` is -1 until the first launch asks for the parameters. */
struct function {
  uint64_t remote;
  CUmodule module;
  struct function *next;
  int count;
  uint32_t parameters[MAX_PARAMETERS][2]; /* offset, bytes */
  char name[];
};
struct module {
  uint64_t remote;
  CUcontext context;
  struct function *functions;
};

#define FIRST_DEVICE_ADDRESS 0x200000000000ull
#define LAST_DEVICE_ADDRESS 0x2fffffffffffull

/* Entry points that other files call. */
EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device);
EXPORT CUresult cuEventRecord(CUevent event, CUstream stream);
EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function);

static inline int is_device_address(uint64_t address) {
  return address >= FIRST_DEVICE_ADDRESS && address <= LAST_DEVICE_ADDRESS;
}

#endif
