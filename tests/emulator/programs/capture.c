/* Stream capture and graphs: what may be captured, what may not, and what a graph does when it is launched. */
#include "expect.h"

#include <pthread.h>
#include <string.h>

enum { N = 64, GLOBAL = 0, THREAD_LOCAL = 1, RELAXED = 2 };

static CUfunction add;
static CUdeviceptr data;
static CUcontext context;

static CUresult launch_add(unsigned int n, CUstream stream) {
  void *params[2];
  params[0] = &data;
  params[1] = &n;
  return cuLaunchKernel(add, 1, 1, 1, N, 1, 1, 0, stream, params, NULL);
}

static unsigned int first(void) {
  unsigned int value = 0;
  OK(cuMemcpyDtoH_v2(&value, data, sizeof value));
  return value;
}

/* A copy in, a fill, two kernels and a copy out: nothing happens until the graph is launched, and then each time. */
static void a_graph_replays_what_was_captured(CUstream stream) {
  unsigned int source = 1000, result = 0;
  CUgraph graph = NULL;
  CUgraphExec executable;
  CUgraphNode nodes[8];
  size_t count = 8;
  int status = -1, type = -1;
  OK(cuMemsetD32_v2(data, 1, N));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(cuStreamIsCapturing(stream, &status));
  TRUE(status == 1);
  OK(cuMemsetD32Async(data, 5, N, stream));
  OK(cuMemcpyHtoDAsync_v2(data, &source, sizeof source, stream));
  OK(launch_add(1, stream));
  OK(launch_add(10, stream));
  OK(cuMemcpyDtoHAsync_v2(&result, data, sizeof result, stream));
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuStreamIsCapturing(stream, &status));
  TRUE(status == 0 && first() == 1 && result == 0);
  OK(cuGraphGetNodes(graph, nodes, &count));
  TRUE(count == 5);
  OK(cuGraphNodeGetType(nodes[2], &type));
  TRUE(type == 0);
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  OK(cuGraphDestroy(graph));
  OK(cuGraphLaunch(executable, stream));
  TRUE(result == 1011 && first() == 1011);
  source = 2000; /* read when the graph is launched */
  OK(cuGraphLaunch(executable, stream));
  TRUE(result == 2011);
  OK(cuGraphExecDestroy(executable));
  EXPECT(400, cuGraphLaunch(executable, stream));
}

/* A second stream joins through an event and is joined again. */
static void streams_fork_and_join(CUstream stream, CUstream other) {
  CUevent fork, join;
  CUgraph graph = NULL;
  CUgraphExec executable;
  OK(cuEventCreate(&fork, 2));
  OK(cuEventCreate(&join, 2));
  OK(cuMemsetD32_v2(data, 0, N));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(launch_add(1, stream));
  OK(cuEventRecord(fork, stream));
  OK(cuStreamWaitEvent(other, fork, 0));
  OK(launch_add(2, other));
  OK(cuEventRecord(join, other));
  OK(cuStreamWaitEvent(stream, join, 0));
  OK(cuStreamEndCapture(stream, &graph));
  EXPECT(907, cuEventQuery(join));
  OK(cuGraphInstantiateWithFlags(&executable, graph, 0));
  OK(cuGraphLaunch(executable, stream));
  TRUE(first() == 3);

  OK(cuStreamBeginCapture_v2(stream, GLOBAL)); /* a graph in a capture, and no join */
  OK(cuGraphLaunch(executable, stream));
  OK(cuEventRecord(fork, stream));
  OK(cuStreamWaitEvent(other, fork, 0));
  OK(launch_add(2, other));
  EXPECT(904, cuStreamEndCapture(stream, &graph));
  TRUE(graph == NULL && first() == 3);
}

/* A call that is not permitted fails, and so does the capture. */
static void a_forbidden_call_ends_the_capture(CUstream stream, CUstream blocking) {
  CUdeviceptr memory;
  CUgraph graph;
  CUmodule module;
  CUevent event;
  unsigned int value;
  int status = -1, mode = RELAXED;
  OK(cuEventCreate(&event, 2));

#define FORBIDDEN(result, captured, call)                     \
  do {                                                        \
    OK(cuStreamBeginCapture_v2(captured, GLOBAL));            \
    OK(launch_add(1, captured));                              \
    EXPECT(result, call);                                     \
    OK(cuStreamIsCapturing(captured, &status));               \
    TRUE(status == 2);                                        \
    EXPECT(901, launch_add(1, captured));                     \
    EXPECT(901, cuStreamEndCapture(captured, &graph));        \
    TRUE(graph == NULL);                                      \
  } while (0)

  FORBIDDEN(900, stream, cuMemAlloc_v2(&memory, 16));
  FORBIDDEN(900, stream, cuMemFree_v2(data));
  FORBIDDEN(900, stream, cuStreamSynchronize(stream));
  FORBIDDEN(900, stream, cuStreamQuery(stream));
  FORBIDDEN(900, stream, cuCtxSynchronize());
  FORBIDDEN(900, stream, cuMemcpyDtoH_v2(&value, data, 4));
  FORBIDDEN(900, stream, cuModuleLoadData(&module, ptx));
  FORBIDDEN(900, stream, cuMemAllocAsync(&memory, 16, stream));
  FORBIDDEN(906, blocking, cuMemcpyDtoH_v2(&value, data, 4));
  FORBIDDEN(906, blocking, launch_add(1, NULL));
  FORBIDDEN(905, stream, (cuEventRecord(event, blocking), cuStreamWaitEvent(stream, event, 0)));

  OK(cuStreamBeginCapture_v2(stream, GLOBAL)); /* the legacy stream goes its own way beside a non-blocking one */
  OK(launch_add(1, NULL));
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuGraphDestroy(graph));

  OK(cuStreamBeginCapture_v2(blocking, GLOBAL));
  EXPECT(906, cuStreamIsCapturing(NULL, &status)); /* asks, and harms nothing */
  OK(cuStreamEndCapture(blocking, &graph));

  OK(cuStreamBeginCapture_v2(stream, RELAXED));
  OK(cuMemAlloc_v2(&memory, 16));
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  TRUE(mode == GLOBAL);
  OK(cuMemFree_v2(memory));
  OK(cuThreadExchangeStreamCaptureMode(&mode));
  OK(cuStreamEndCapture(stream, &graph));

  EXPECT(900, cuStreamBeginCapture_v2(NULL, GLOBAL));
  EXPECT(401, cuStreamEndCapture(stream, &graph));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  EXPECT(401, cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(cuStreamEndCapture(stream, &graph));
}

static CUresult alloc_elsewhere, end_elsewhere;

static void *elsewhere(void *stream) {
  CUdeviceptr memory;
  CUgraph graph;
  OK(cuCtxSetCurrent(context));
  alloc_elsewhere = cuMemAlloc_v2(&memory, 16);
  end_elsewhere = cuStreamEndCapture((CUstream)stream, &graph);
  return NULL;
}

/* Other threads are held up by a global capture, not by a thread-local one; none of them may end it. */
static void other_threads(CUstream stream) {
  pthread_t thread;
  CUgraph graph;
  OK(cuStreamBeginCapture_v2(stream, THREAD_LOCAL));
  pthread_create(&thread, NULL, elsewhere, stream);
  pthread_join(thread, NULL);
  TRUE(alloc_elsewhere == 0 && end_elsewhere == 908);
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  pthread_create(&thread, NULL, elsewhere, stream);
  pthread_join(thread, NULL);
  TRUE(alloc_elsewhere == 900 && end_elsewhere == 908);
  EXPECT(901, cuStreamEndCapture(stream, &graph));
}

/* Two captures cannot become one, and each ends where it began. */
static void two_captures(CUstream stream, CUstream other) {
  CUevent event;
  CUgraph graph;
  OK(cuEventCreate(&event, 2));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(cuStreamBeginCapture_v2(other, GLOBAL));
  OK(cuEventRecord(event, stream));
  EXPECT(902, cuStreamWaitEvent(other, event, 0));
  EXPECT(901, cuStreamEndCapture(stream, &graph));
  EXPECT(901, cuStreamEndCapture(other, &graph));
  OK(cuStreamBeginCapture_v2(stream, GLOBAL));
  OK(cuEventRecord(event, stream));
  OK(cuStreamWaitEvent(other, event, 0));
  EXPECT(903, cuStreamEndCapture(other, &graph));
  EXPECT(901, cuStreamEndCapture(stream, &graph));
}

int main(void) {
  CUstream stream, other, blocking;
  CUmodule module;
  OK(cuInit(0));
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
  OK(cuModuleLoadData(&module, ptx));
  OK(cuModuleGetFunction(&add, module, "add"));
  OK(cuStreamCreate(&stream, 1));
  OK(cuStreamCreate(&other, 1));
  OK(cuStreamCreate(&blocking, 0));
  OK(cuMemAlloc_v2(&data, 4 * N));
  a_graph_replays_what_was_captured(stream);
  streams_fork_and_join(stream, other);
  a_forbidden_call_ends_the_capture(stream, blocking);
  other_threads(stream);
  two_captures(stream, other);
  printf("%d not as expected\n", failures);
  return failures != 0;
}
