/* capture.c: stream capture. CUDA C++ Programming Guide, "Creating a Graph Using Stream Capture"; the rules for calls that are not
 * permitted during a capture are those of cuStreamBeginCapture and cuThreadExchangeStreamCaptureMode.
 *
 * A capture begins in one stream; other streams join it by waiting for events recorded in it, and must be joined again before it ends.
 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

enum { GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };
enum { NOT_CAPTURING = 0, CAPTURING = 1, INVALIDATED = 2 };

struct capture {
  uint64_t id;
  int mode, invalid;
  pthread_t thread;
  struct stream *origin, *streams;
  struct graph *graph;
  struct capture *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *captures;
static __thread int thread_mode = GLOBAL;

static CUresult refuse(struct capture *capture, CUresult result) {
  capture->invalid = 1;
  return result;
}

/* ---- lists of nodes */

static int set_tips(struct node ***tips, size_t *count, struct node *const *nodes, size_t number) {
  struct node **copy = malloc((number + 1) * sizeof *copy);
  if (copy == NULL) {
    return 0;
  }
  memcpy(copy, nodes, number * sizeof *copy);
  free(*tips);
  *tips = copy;
  *count = number;
  return 1;
}

static int contains(struct node *const *nodes, size_t count, const struct node *node) {
  size_t index;
  for (index = 0; index < count; ++index) {
    if (nodes[index] == node) {
      return 1;
    }
  }
  return 0;
}

static int add_tips(struct stream *stream, struct node *const *nodes, size_t count) {
  struct node **joined = malloc((stream->tip_count + count + 1) * sizeof *joined);
  size_t index, total = stream->tip_count;
  if (joined == NULL) {
    return 0;
  }
  if (total > 0) {
    memcpy(joined, stream->tips, total * sizeof *joined);
  }
  for (index = 0; index < count; ++index) {
    if (!contains(joined, total, nodes[index])) {
      joined[total++] = nodes[index];
    }
  }
  free(stream->tips);
  stream->tips = joined;
  stream->tip_count = total;
  return 1;
}

static void join(struct capture *capture, struct stream *stream) {
  stream->capture = capture;
  stream->next_captured = capture->streams;
  capture->streams = stream;
}

static void leave(struct stream *stream) {
  free(stream->tips);
  stream->tips = NULL;
  stream->tip_count = 0;
  stream->capture = NULL;
}

/* ---- what is forbidden meanwhile */

static int is_forbidden(const struct capture *capture) {
  const int own = pthread_equal(capture->thread, pthread_self()) != 0;
  if (thread_mode == RELAXED) {
    return 0;
  }
  if (own) {
    return capture->mode != RELAXED;
  }
  return thread_mode == GLOBAL && capture->mode == GLOBAL;
}

CUresult forbid_while_capturing(void) {
  struct capture *capture;
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  for (capture = captures; capture != NULL; capture = capture->next) {
    if (is_forbidden(capture)) {
      result = refuse(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

/* A capture with a blocking stream in the context, or NULL. */
static struct capture *blocking_capture(const struct context *context) {
  struct capture *capture;
  for (capture = captures; capture != NULL; capture = capture->next) {
    struct stream *stream;
    for (stream = capture->streams; stream != NULL; stream = stream->next_captured) {
      if (stream->context == context && (stream->flags & NON_BLOCKING) == 0) {
        return capture;
      }
    }
  }
  return NULL;
}

CUresult legacy_is_free(void) {
  struct capture *capture;
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  capture = blocking_capture(current_context());
  if (capture != NULL) {
    result = refuse(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

CUresult legacy_wait_is_free(void) {
  REQUIRE_OK(legacy_is_free());
  return forbid_while_capturing();
}

CUresult refuse_captured(struct stream *stream) {
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  if (stream->capture != NULL) {
    result = stream->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                      : refuse(stream->capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(int *mode) {
  int before = thread_mode;
  REQUIRE(mode != NULL && *mode >= GLOBAL && *mode <= RELAXED, CUDA_ERROR_INVALID_VALUE);
  thread_mode = *mode;
  *mode = before;
  return CUDA_SUCCESS;
}

/* ---- work, events and waits in a captured stream */

CUresult captured_work(struct stream *stream, const struct work *work, int *captured) {
  CUresult result = CUDA_SUCCESS;
  if (stream == &stream->context->legacy) {
    REQUIRE_OK(legacy_is_free());
  }
  pthread_mutex_lock(&lock);
  *captured = stream->capture != NULL;
  if (*captured && stream->capture->invalid) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else if (*captured) {
    struct node *node = add_node(stream->capture->graph, work, stream->tips, stream->tip_count);
    if (node == NULL || !set_tips(&stream->tips, &stream->tip_count, &node, 1)) {
      result = refuse(stream->capture, CUDA_ERROR_OUT_OF_MEMORY);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

CUresult captured_record(struct stream *stream, CUevent event, int *captured) {
  CUresult result = CUDA_SUCCESS;
  if (stream == &stream->context->legacy) {
    REQUIRE_OK(legacy_is_free());
  }
  pthread_mutex_lock(&lock);
  *captured = stream->capture != NULL;
  if (*captured && stream->capture->invalid) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else if (*captured) {
    event->captured = stream->capture->id;
    if (!set_tips(&event->tips, &event->tip_count, stream->tips, stream->tip_count)) {
      result = refuse(stream->capture, CUDA_ERROR_OUT_OF_MEMORY);
    }
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static CUresult wait_for(struct stream *stream, CUevent event) {
  struct capture *capture = captures;
  while (capture != NULL && capture->id != event->captured) {
    capture = capture->next;
  }
  if (stream->capture != NULL && stream->capture->invalid) {
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  if (event->captured == 0) {
    const int outside = stream->capture != NULL && event->recorded;
    return outside ? refuse(stream->capture, CUDA_ERROR_STREAM_CAPTURE_ISOLATION) : CUDA_SUCCESS;
  }
  REQUIRE(capture != NULL, CUDA_ERROR_CAPTURED_EVENT);
  REQUIRE(!capture->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  if (stream == &stream->context->legacy) {
    return refuse(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  }
  if (stream->capture != NULL && stream->capture != capture) {
    stream->capture->invalid = 1;
    return refuse(capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
  if (stream->capture == NULL) {
    join(capture, stream);
  }
  return add_tips(stream, event->tips, event->tip_count) ? CUDA_SUCCESS : refuse(capture, CUDA_ERROR_OUT_OF_MEMORY);
}

CUresult captured_wait(struct stream *stream, CUevent event, int *captured) {
  CUresult result;
  pthread_mutex_lock(&lock);
  *captured = stream->capture != NULL || event->captured != 0;
  result = wait_for(stream, event);
  pthread_mutex_unlock(&lock);
  return result;
}

void forget_captured(struct stream *stream) {
  pthread_mutex_lock(&lock);
  if (stream->capture != NULL) {
    struct stream **at = &stream->capture->streams;
    while (*at != NULL && *at != stream) {
      at = &(*at)->next_captured;
    }
    if (*at != NULL) {
      *at = stream->next_captured;
    }
    stream->capture->invalid = 1;
    leave(stream);
  }
  pthread_mutex_unlock(&lock);
}

/* ---- begin and end */

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
  struct stream *stream;
  struct capture *capture;
  REQUIRE_OK(find_stream(handle, &stream));
  REQUIRE(mode >= GLOBAL && mode <= RELAXED, CUDA_ERROR_INVALID_VALUE);
  REQUIRE(stream != &stream->context->legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  REQUIRE(stream->capture == NULL, CUDA_ERROR_ILLEGAL_STATE);
  capture = calloc(1, sizeof *capture);
  REQUIRE(capture != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  capture->graph = new_graph();
  if (capture->graph == NULL) {
    free(capture);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  capture->id = next_id();
  capture->mode = mode;
  capture->thread = pthread_self();
  capture->origin = stream;
  pthread_mutex_lock(&lock);
  join(capture, stream);
  capture->next = captures;
  captures = capture;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}
ALIAS(cuStreamBeginCapture_v2_ptsz, cuStreamBeginCapture_v2);

EXPORT CUresult cuStreamBeginCapture(CUstream stream) { return cuStreamBeginCapture_v2(stream, GLOBAL); }
ALIAS(cuStreamBeginCapture_ptsz, cuStreamBeginCapture);

static void mark(struct node *const *nodes, size_t count) {
  size_t index;
  for (index = 0; index < count; ++index) {
    nodes[index]->marked = 1;
  }
}

/* Whether all work of the capture comes before what the origin stream would do next. What a node needs comes before it in the list. */
static int is_joined(const struct capture *capture) {
  const struct graph *graph = capture->graph;
  size_t index;
  mark(capture->origin->tips, capture->origin->tip_count);
  for (index = graph->count; index > 0; --index) {
    const struct node *node = graph->nodes[index - 1];
    if (!node->marked) {
      return 0;
    }
    mark(node->needs, node->need_count);
  }
  return 1;
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, struct graph **graph) {
  struct stream *stream, *next;
  struct capture *capture, **at;
  CUresult result = CUDA_SUCCESS;
  REQUIRE_OK(find_stream(handle, &stream));
  REQUIRE(graph != NULL, CUDA_ERROR_INVALID_VALUE);
  *graph = NULL;
  capture = stream->capture;
  REQUIRE(capture != NULL, CUDA_ERROR_ILLEGAL_STATE);
  REQUIRE(capture->mode == RELAXED || pthread_equal(capture->thread, pthread_self()), CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  pthread_mutex_lock(&lock);
  if (capture->origin != stream) {
    result = refuse(capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    pthread_mutex_unlock(&lock);
    return result;
  }
  if (capture->invalid) {
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  } else if (!is_joined(capture)) {
    result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  for (at = &captures; *at != capture; at = &(*at)->next) {
  }
  *at = capture->next;
  for (stream = capture->streams; stream != NULL; stream = next) {
    next = stream->next_captured;
    leave(stream);
  }
  pthread_mutex_unlock(&lock);
  if (result == CUDA_SUCCESS) {
    *graph = capture->graph;
    result = enter_handle(capture->graph, A_GRAPH);
  } else {
    free_graph(capture->graph);
  }
  free(capture);
  return result;
}
ALIAS(cuStreamEndCapture_ptsz, cuStreamEndCapture);

/* ---- questions */

EXPORT CUresult cuStreamIsCapturing(CUstream handle, int *status) {
  struct stream *stream;
  CUresult result = CUDA_SUCCESS;
  REQUIRE_OK(find_stream(handle, &stream));
  REQUIRE(status != NULL, CUDA_ERROR_INVALID_VALUE);
  pthread_mutex_lock(&lock);
  *status = stream->capture == NULL ? NOT_CAPTURING : stream->capture->invalid ? INVALIDATED : CAPTURING;
  if (stream == &stream->context->legacy && blocking_capture(stream->context) != NULL) {
    result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  pthread_mutex_unlock(&lock);
  return result;
}
ALIAS(cuStreamIsCapturing_ptsz, cuStreamIsCapturing);

EXPORT CUresult cuStreamGetCaptureInfo_v2(
    CUstream handle, int *status, uint64_t *id, struct graph **graph, struct node *const **needs, size_t *count) {
  struct stream *stream;
  CUresult result = cuStreamIsCapturing(handle, status);
  REQUIRE(result == CUDA_SUCCESS, result);
  REQUIRE_OK(find_stream(handle, &stream));
  pthread_mutex_lock(&lock);
  if (stream->capture != NULL) {
    if (id != NULL) {
      *id = stream->capture->id;
    }
    if (graph != NULL) {
      *graph = stream->capture->graph;
    }
    if (needs != NULL) {
      *needs = stream->tips;
    }
    if (count != NULL) {
      *count = stream->tip_count;
    }
  }
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}
ALIAS(cuStreamGetCaptureInfo_v2_ptsz, cuStreamGetCaptureInfo_v2);

EXPORT CUresult cuStreamGetCaptureInfo_v3(
    CUstream handle, int *status, uint64_t *id, struct graph **graph, struct node *const **needs, const void **edges, size_t *count) {
  if (edges != NULL) {
    *edges = NULL;
  }
  return cuStreamGetCaptureInfo_v2(handle, status, id, graph, needs, count);
}
ALIAS(cuStreamGetCaptureInfo_v3_ptsz, cuStreamGetCaptureInfo_v3);

EXPORT CUresult cuStreamGetCaptureInfo(CUstream handle, int *status, uint64_t *id) {
  return cuStreamGetCaptureInfo_v2(handle, status, id, NULL, NULL, NULL);
}
ALIAS(cuStreamGetCaptureInfo_ptsz, cuStreamGetCaptureInfo);
