/* stream.c: streams and events. Work is finished when the call that submits it returns, so there is never anything to wait for. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#define LEGACY ((CUstream)(uintptr_t)1)
#define PER_THREAD ((CUstream)(uintptr_t)2)
enum { NO_TIMING = 2, EXTERNAL = 1 };
#define MILLISECONDS_OF_WORK 0.001f /* what cuEventElapsedTime counts for each piece of work */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t works;
static __thread struct stream per_thread;

CUresult find_stream(CUstream handle, struct stream **found) {
  CUcontext context = current_context();
  REQUIRE_CONTEXT();
  if (handle == NULL || handle == LEGACY) {
    *found = &context->legacy;
  } else if (handle == PER_THREAD) {
    per_thread.context = context;
    *found = &per_thread;
  } else {
    REQUIRE_HANDLE(handle, A_STREAM);
    REQUIRE(handle->context == context, CUDA_ERROR_INVALID_HANDLE);
    *found = handle;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority) {
  REQUIRE_CONTEXT();
  REQUIRE(stream != NULL && flags <= NON_BLOCKING, CUDA_ERROR_INVALID_VALUE);
  *stream = calloc(1, sizeof **stream);
  REQUIRE(*stream != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*stream)->context = current_context();
  (*stream)->flags = flags;
  (*stream)->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
  (*stream)->id = next_id();
  return enter_handle(*stream, A_STREAM);
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned int flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(stream, A_STREAM);
  leave_handle(stream);
  forget_captured(stream);
  free(stream);
  return CUDA_SUCCESS;
}
ALIAS(cuStreamDestroy, cuStreamDestroy_v2);

EXPORT CUresult cuStreamSynchronize(CUstream stream) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_OK(refuse_captured(found));
  REQUIRE_OK(forbid_while_capturing());
  return request(OP_SYNCHRONIZE, NULL, 0, NULL, 0);
}
ALIAS(cuStreamSynchronize_ptsz, cuStreamSynchronize);

EXPORT CUresult cuStreamQuery(CUstream stream) { return cuStreamSynchronize(stream); }
ALIAS(cuStreamQuery_ptsz, cuStreamQuery);

EXPORT CUresult cuStreamGetFlags(CUstream stream, unsigned int *flags) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE(flags != NULL, CUDA_ERROR_INVALID_VALUE);
  *flags = found->flags;
  return CUDA_SUCCESS;
}
ALIAS(cuStreamGetFlags_ptsz, cuStreamGetFlags);

EXPORT CUresult cuStreamGetPriority(CUstream stream, int *priority) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE(priority != NULL, CUDA_ERROR_INVALID_VALUE);
  *priority = found->priority;
  return CUDA_SUCCESS;
}
ALIAS(cuStreamGetPriority_ptsz, cuStreamGetPriority);

EXPORT CUresult cuStreamGetId(CUstream stream, unsigned long long *id) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE(id != NULL, CUDA_ERROR_INVALID_VALUE);
  *id = found->id;
  return CUDA_SUCCESS;
}
ALIAS(cuStreamGetId_ptsz, cuStreamGetId);

EXPORT CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE(context != NULL, CUDA_ERROR_INVALID_VALUE);
  *context = found->context;
  return CUDA_SUCCESS;
}
ALIAS(cuStreamGetCtx_ptsz, cuStreamGetCtx);

EXPORT CUresult cuStreamGetDevice(CUstream stream, CUdevice *device) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE(device != NULL, CUDA_ERROR_INVALID_VALUE);
  *device = 0;
  return CUDA_SUCCESS;
}

/* ---- host functions run at once, in the calling thread */

EXPORT CUresult cuLaunchHostFunc(CUstream stream, void (*function)(void *), void *data) {
  struct work work;
  REQUIRE(function != NULL, CUDA_ERROR_INVALID_VALUE);
  work.type = HOST_NODE;
  work.as.host.function = function;
  work.as.host.data = data;
  return submit(stream, &work);
}
ALIAS(cuLaunchHostFunc_ptsz, cuLaunchHostFunc);

EXPORT CUresult cuStreamAddCallback(CUstream stream, void (*callback)(CUstream, CUresult, void *), void *data, unsigned int flags) {
  struct stream *found;
  (void)flags;
  REQUIRE(callback != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_OK(refuse_captured(found));
  callback(stream, CUDA_SUCCESS, data);
  return CUDA_SUCCESS;
}
ALIAS(cuStreamAddCallback_ptsz, cuStreamAddCallback);

/* ---- events */

void work_done(void) {
  pthread_mutex_lock(&lock);
  ++works;
  pthread_mutex_unlock(&lock);
}

void record_now(CUevent event) {
  pthread_mutex_lock(&lock);
  event->time = works;
  event->recorded = 1;
  event->captured = 0;
  pthread_mutex_unlock(&lock);
}

EXPORT CUresult cuEventCreate(CUevent *event, unsigned int flags) {
  REQUIRE_CONTEXT();
  REQUIRE(event != NULL && flags <= 7, CUDA_ERROR_INVALID_VALUE);
  *event = calloc(1, sizeof **event);
  REQUIRE(*event != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*event)->context = current_context();
  (*event)->flags = flags;
  return enter_handle(*event, AN_EVENT);
}

EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(event, AN_EVENT);
  leave_handle(event);
  free(event->tips);
  free(event);
  return CUDA_SUCCESS;
}
ALIAS(cuEventDestroy, cuEventDestroy_v2);

static CUresult event_work(CUstream stream, CUevent event, enum node_type type) {
  struct work work;
  work.type = type;
  work.as.event = event;
  return submit(stream, &work);
}

EXPORT CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  struct stream *found;
  int captured = 0;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_HANDLE(event, AN_EVENT);
  REQUIRE(event->context == found->context, CUDA_ERROR_INVALID_HANDLE);
  if (flags == EXTERNAL) {
    return event_work(stream, event, RECORD_NODE);
  }
  REQUIRE_OK(captured_record(found, event, &captured));
  if (!captured) {
    record_now(event);
  }
  return CUDA_SUCCESS;
}
ALIAS(cuEventRecordWithFlags_ptsz, cuEventRecordWithFlags);

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) { return cuEventRecordWithFlags(event, stream, 0); }
ALIAS(cuEventRecord_ptsz, cuEventRecord);

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  struct stream *found;
  int captured = 0;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_HANDLE(event, AN_EVENT);
  return flags == EXTERNAL ? event_work(stream, event, WAIT_NODE) : captured_wait(found, event, &captured);
}
ALIAS(cuStreamWaitEvent_ptsz, cuStreamWaitEvent);

EXPORT CUresult cuEventSynchronize(CUevent event) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(event, AN_EVENT);
  REQUIRE(event->captured == 0, CUDA_ERROR_CAPTURED_EVENT);
  REQUIRE_OK(forbid_while_capturing());
  return request(OP_SYNCHRONIZE, NULL, 0, NULL, 0);
}

EXPORT CUresult cuEventQuery(CUevent event) { return cuEventSynchronize(event); }

/* Nothing takes time here: each piece of work between the events counts as a microsecond. */
EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(milliseconds != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(from, AN_EVENT);
  REQUIRE_HANDLE(to, AN_EVENT);
  REQUIRE(from->captured == 0 && to->captured == 0, CUDA_ERROR_CAPTURED_EVENT);
  REQUIRE(from->recorded && to->recorded, CUDA_ERROR_INVALID_HANDLE);
  REQUIRE(((from->flags | to->flags) & NO_TIMING) == 0, CUDA_ERROR_INVALID_HANDLE);
  *milliseconds = MILLISECONDS_OF_WORK * (float)((int64_t)to->time - (int64_t)from->time);
  return CUDA_SUCCESS;
}
ALIAS(cuEventElapsedTime_v2, cuEventElapsedTime);
