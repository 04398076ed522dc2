/* context.c: the primary context, created contexts, and each thread's stack of current ones. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 64, API_VERSION = 3020 };

static struct context primary;
static __thread CUcontext stack[DEEPEST];
static __thread int depth;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t next_id(void) {
  static uint64_t last;
  uint64_t id;
  pthread_mutex_lock(&lock);
  id = ++last;
  pthread_mutex_unlock(&lock);
  return id;
}

CUcontext current_context(void) { return depth == 0 ? NULL : stack[depth - 1]; }

CUresult need_context(void) {
  CUcontext context = current_context();
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_CONTEXT);
  REQUIRE(is_handle(context, A_CONTEXT) && context->alive, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  return CUDA_SUCCESS;
}

static void begin(CUcontext context, unsigned int flags) {
  static const size_t limits[LIMITS] = {1024, 1 << 20, 8 << 20, 2, 2048, 128, 0, 0};
  memcpy(context->limits, limits, sizeof limits);
  context->id = next_id();
  context->flags = flags;
  context->alive = 1;
  context->legacy.context = context;
}

/* The context's memory goes; what still refers to the context finds it dead. */
static CUresult end(CUcontext context) {
  context->alive = 0;
  return request(OP_RESET, &context->id, sizeof context->id, NULL, 0);
}

/* ---- the primary context */

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  CUresult result = CUDA_SUCCESS;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  if (!primary.alive) {
    begin(&primary, primary.flags);
    result = primary.primary ? CUDA_SUCCESS : enter_handle(&primary, A_CONTEXT);
    primary.primary = 1;
  }
  ++primary.retains;
  *context = &primary;
  return result;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(primary.retains > 0, CUDA_ERROR_INVALID_CONTEXT);
  return --primary.retains == 0 ? end(&primary) : CUDA_SUCCESS;
}
ALIAS(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2);

EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  return primary.alive ? end(&primary) : CUDA_SUCCESS;
}
ALIAS(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2);

EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  primary.flags = flags;
  return CUDA_SUCCESS;
}
ALIAS(cuDevicePrimaryCtxSetFlags, cuDevicePrimaryCtxSetFlags_v2);

EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(flags != NULL && active != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  *flags = primary.flags;
  *active = primary.alive;
  return CUDA_SUCCESS;
}

/* ---- created contexts */

EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device) {
  CUresult result;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(device == 0, CUDA_ERROR_INVALID_DEVICE);
  REQUIRE(depth < DEEPEST, CUDA_ERROR_OUT_OF_MEMORY);
  *context = calloc(1, sizeof **context);
  REQUIRE(*context != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  begin(*context, flags);
  result = enter_handle(*context, A_CONTEXT);
  REQUIRE(result == CUDA_SUCCESS, result);
  stack[depth++] = *context;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxCreate_v3(CUcontext *context, void *affinities, int count, unsigned int flags, CUdevice device) {
  REQUIRE(affinities == NULL || count == 0, CUDA_ERROR_NOT_SUPPORTED);
  return cuCtxCreate_v2(context, flags, device);
}

EXPORT CUresult cuCtxCreate_v4(CUcontext *context, void *parameters, unsigned int flags, CUdevice device) {
  REQUIRE(parameters == NULL, CUDA_ERROR_NOT_SUPPORTED);
  return cuCtxCreate_v2(context, flags, device);
}

/* The object stays, so that handles to its modules and streams can be told from valid ones. */
EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL && context != &primary && is_handle(context, A_CONTEXT) && context->alive, CUDA_ERROR_INVALID_CONTEXT);
  if (current_context() == context) {
    --depth;
  }
  return end(context);
}
ALIAS(cuCtxDestroy, cuCtxDestroy_v2);

/* ---- what is current */

EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  *context = current_context();
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context == NULL || is_handle(context, A_CONTEXT), CUDA_ERROR_INVALID_CONTEXT);
  if (context == NULL) {
    depth -= depth > 0;
  } else if (depth == 0) {
    stack[depth++] = context;
  } else {
    stack[depth - 1] = context;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(context != NULL && is_handle(context, A_CONTEXT), CUDA_ERROR_INVALID_CONTEXT);
  REQUIRE(depth < DEEPEST, CUDA_ERROR_OUT_OF_MEMORY);
  stack[depth++] = context;
  return CUDA_SUCCESS;
}
ALIAS(cuCtxPushCurrent, cuCtxPushCurrent_v2);

EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(depth > 0, CUDA_ERROR_INVALID_CONTEXT);
  --depth;
  if (context != NULL) {
    *context = stack[depth];
  }
  return CUDA_SUCCESS;
}
ALIAS(cuCtxPopCurrent, cuCtxPopCurrent_v2);

EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
  REQUIRE_CONTEXT();
  REQUIRE(device != NULL, CUDA_ERROR_INVALID_VALUE);
  *device = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSynchronize(void) {
  REQUIRE_CONTEXT();
  REQUIRE_OK(forbid_while_capturing());
  return request(OP_SYNCHRONIZE, NULL, 0, NULL, 0);
}

/* ---- properties */

EXPORT CUresult cuCtxGetFlags(unsigned int *flags) {
  REQUIRE_CONTEXT();
  REQUIRE(flags != NULL, CUDA_ERROR_INVALID_VALUE);
  *flags = current_context()->flags;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetId(CUcontext context, unsigned long long *id) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  context = context == NULL ? current_context() : context;
  REQUIRE(id != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(context != NULL && is_handle(context, A_CONTEXT), CUDA_ERROR_INVALID_CONTEXT);
  *id = context->id;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(version != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(context == NULL || is_handle(context, A_CONTEXT), CUDA_ERROR_INVALID_CONTEXT);
  *version = API_VERSION;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxGetLimit(size_t *value, int limit) {
  REQUIRE_CONTEXT();
  REQUIRE(value != NULL && limit >= 0 && limit < LIMITS, CUDA_ERROR_INVALID_VALUE);
  *value = current_context()->limits[limit];
  return CUDA_SUCCESS;
}

/* Kept and reported; nothing runs into these limits. */
EXPORT CUresult cuCtxSetLimit(int limit, size_t value) {
  REQUIRE_CONTEXT();
  REQUIRE(limit >= 0 && limit < LIMITS, CUDA_ERROR_INVALID_VALUE);
  current_context()->limits[limit] = value;
  return CUDA_SUCCESS;
}

/* Cache preferences are hints, which cannot change a result. */
EXPORT CUresult cuCtxGetCacheConfig(int *config) {
  REQUIRE_CONTEXT();
  REQUIRE(config != NULL, CUDA_ERROR_INVALID_VALUE);
  *config = 0;
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxSetCacheConfig(int config) {
  (void)config;
  return need_context();
}

EXPORT CUresult cuCtxResetPersistingL2Cache(void) { return need_context(); }

EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  REQUIRE_CONTEXT();
  if (least != NULL) {
    *least = 0;
  }
  if (greatest != NULL) {
    *greatest = -5;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  (void)peer;
  (void)flags;
  REQUIRE_CONTEXT();
  return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
}
