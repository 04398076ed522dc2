/* wire.h: what the files of the stand-in libcuda share: driver types, results, and requests to the emulator's process.
 *
 * The stand-in is a libcuda.so.1 whose device is the PTX emulator in another process. Contexts and streams live in this library
 * (launches are synchronous, so they carry no state); everything else is a request over the Unix socket that TEXPR_EMULATOR_SOCKET
 * names, answered by standin.py. Both sides run on one machine, so integers travel in native byte order:
 *
 *   request: uint32 operation, uint32 bytes, payload        reply: int32 CUresult, uint32 bytes, payload
 */
#ifndef TEXPR_STANDIN_WIRE_H
#define TEXPR_STANDIN_WIRE_H
#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct context *CUcontext;
typedef struct stream *CUstream;
typedef struct module *CUmodule;
typedef struct function *CUfunction;

enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_UNKNOWN = 999
};

/* Operations; standin.py has the same list. */
enum operation {
  OP_DEVICE_ATTRIBUTE = 1,   /* i32 attribute -> i32 */
  OP_MODULE_LOAD = 2,        /* cubin -> u64 */
  OP_MODULE_UNLOAD = 3,      /* u64 module */
  OP_FUNCTION = 4,           /* u64 module, name -> u64 */
  OP_FUNCTION_ATTRIBUTE = 5, /* u64 function, i32 attribute -> i32 */
  OP_SET_ATTRIBUTE = 6,      /* u64 function, i32 attribute, i32 value */
  OP_PARAMETERS = 7,         /* u64 function -> u32 sizes[] */
  OP_LAUNCH = 8,             /* u64 function, u32 grid[3], u32 block[3], u32 shared, parameter bytes */
  OP_ALLOCATE = 9,           /* u64 bytes -> u64 address */
  OP_FREE = 10,              /* u64 address */
  OP_WRITE = 11,             /* u64 address, data */
  OP_READ = 12,              /* u64 address, u64 bytes -> data */
  OP_FILL = 13,              /* u64 address, u64 bytes, u8 value */
  OP_SYNCHRONIZE = 14        /* nothing: returns the pending error of the device */
};

/* One piece of a request. A request is gathered from pieces, so large transfers are not copied. */
struct piece {
  const void *data;
  size_t bytes;
};

/* Open the connection; CUDA_SUCCESS when it is open already. */
CUresult open_connection(void);

/* Whether cuInit succeeded in this very process (CUDA does not survive fork either). */
int initialised(void);

/* CUDA_SUCCESS when the calling thread has a current context, else the result to return. */
CUresult need_context(void);

/* Send a request and receive its reply. `*reply_bytes` is the room in `reply`, then the number of bytes that came. */
CUresult request_pieces(enum operation operation, const struct piece *pieces, int count, void *reply, size_t *reply_bytes);

/* The same for one piece and a reply that has exactly `reply_bytes` bytes when it succeeds. */
CUresult request(enum operation operation, const void *data, size_t bytes, void *reply, size_t reply_bytes);

/* Return `result` from the calling function unless `condition` holds. */
#define REQUIRE(condition, result) \
  do {                             \
    if (!(condition)) {            \
      return result;               \
    }                              \
  } while (0)

#define REQUIRE_CONTEXT()                      \
  do {                                         \
    CUresult context_result = need_context();  \
    REQUIRE(context_result == CUDA_SUCCESS, context_result); \
  } while (0)

#endif
