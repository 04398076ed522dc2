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
typedef struct event *CUevent;
typedef struct module *CUmodule;
typedef struct function *CUfunction;

/* Results this library returns by itself; errors.c names all of them. */
enum {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217,
  CUDA_ERROR_FILE_NOT_FOUND = 301,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_ILLEGAL_STATE = 401,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
  CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
  CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
  CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
  CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
  CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
  CUDA_ERROR_CAPTURED_EVENT = 907,
  CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
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
  OP_PARAMETERS = 7,         /* u64 function -> (u32 offset, u32 bytes)[] */
  OP_LAUNCH = 8,             /* u64 function, u32 grid[3], u32 block[3], u32 shared, u32 cluster[3], parameter block */
  OP_ALLOCATE = 9,           /* u64 bytes, u64 context -> u64 address */
  OP_FREE = 10,              /* u64 address */
  OP_WRITE = 11,             /* u64 address, data */
  OP_READ = 12,              /* u64 address, u64 bytes -> data */
  OP_FILL = 13,              /* u64 address, u64 elements, u64 value, u64 bytes of an element */
  OP_SYNCHRONIZE = 14,       /* nothing: returns the pending error of the device */
  OP_COPY = 15,              /* u64 to, u64 from, u64 bytes */
  OP_RANGE = 16,             /* u64 address -> u64 start and bytes of the allocation that holds it */
  OP_MEMORY_INFO = 17,       /* nothing -> u64 free, u64 total */
  OP_GLOBAL = 18,            /* u64 module, name -> u64 address, u64 bytes */
  OP_FUNCTION_NAMES = 19,    /* u64 module -> names, each with its final zero */
  OP_OCCUPANCY = 20,         /* u64 function, u64 threads, u64 dynamic shared bytes -> u64 blocks */
  OP_RESET = 21              /* u64 context: frees all that it has allocated */
};

/* One piece of a request. A request is gathered from pieces, so large transfers are not copied. */
struct piece {
  const void *data;
  size_t bytes;
};

/* Open the connection; CUDA_SUCCESS when it is open already. */
CUresult open_connection(void);

/* Explain on stderr why a call is refused, when its result alone would not tell. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

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

/* Another name for a function defined above: versions of the API with the same signature, and per-thread default streams. */
#define ALIAS(other, name) extern EXPORT __typeof__(name) other __attribute__((alias(#name)))

#define REQUIRE_CONTEXT()                      \
  do {                                         \
    CUresult context_result = need_context();  \
    REQUIRE(context_result == CUDA_SUCCESS, context_result); \
  } while (0)

#endif
