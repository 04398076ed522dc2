/* graph.c: graphs made by capture: instantiate, launch, look inside. Nodes run one after the other, in the order of the capture. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

struct executable {
  struct graph *graph;
};

struct graph *new_graph(void) { return calloc(1, sizeof(struct graph)); }

void free_graph(struct graph *graph) {
  size_t index;
  for (index = 0; index < graph->count; ++index) {
    free_work(&graph->nodes[index]->work);
    free(graph->nodes[index]->needs);
    free(graph->nodes[index]);
  }
  free(graph->nodes);
  free(graph);
}

struct node *add_node(struct graph *graph, const struct work *work, struct node *const *needs, size_t need_count) {
  struct node *node = calloc(1, sizeof *node);
  if (node == NULL) {
    return NULL;
  }
  if (graph->count == graph->room) {
    size_t room = 2 * graph->room + 8;
    struct node **nodes = realloc(graph->nodes, room * sizeof *nodes);
    if (nodes == NULL) {
      free(node);
      return NULL;
    }
    graph->nodes = nodes;
    graph->room = room;
  }
  node->needs = malloc((need_count + 1) * sizeof *needs);
  if (node->needs == NULL || copy_work(&node->work, work) != CUDA_SUCCESS) {
    free(node->needs);
    free(node);
    return NULL;
  }
  if (need_count > 0) {
    memcpy(node->needs, needs, need_count * sizeof *needs);
  }
  node->need_count = need_count;
  graph->nodes[graph->count++] = node;
  return node;
}

/* A copy whose nodes need no one: executables only run them in order. */
static struct graph *copy_of(const struct graph *graph) {
  struct graph *copy = new_graph();
  size_t index;
  for (index = 0; copy != NULL && index < graph->count; ++index) {
    if (add_node(copy, &graph->nodes[index]->work, NULL, 0) == NULL) {
      free_graph(copy);
      return NULL;
    }
  }
  return copy;
}

EXPORT CUresult cuGraphCreate(struct graph **graph, unsigned int flags) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(graph != NULL && flags == 0, CUDA_ERROR_INVALID_VALUE);
  *graph = new_graph();
  REQUIRE(*graph != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  return enter_handle(*graph, A_GRAPH);
}

EXPORT CUresult cuGraphDestroy(struct graph *graph) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(graph, A_GRAPH);
  leave_handle(graph);
  free_graph(graph);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphGetNodes(struct graph *graph, struct node **nodes, size_t *count) {
  size_t index;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(graph, A_GRAPH);
  REQUIRE(count != NULL, CUDA_ERROR_INVALID_VALUE);
  if (nodes != NULL) {
    for (index = 0; index < *count; ++index) {
      nodes[index] = index < graph->count ? graph->nodes[index] : NULL;
    }
  }
  if (nodes == NULL || graph->count < *count) {
    *count = graph->count;
  }
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphNodeGetType(struct node *node, int *type) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(node != NULL && type != NULL, CUDA_ERROR_INVALID_VALUE);
  *type = (int)node->work.type;
  return CUDA_SUCCESS;
}

/* ---- executables */

EXPORT CUresult cuGraphInstantiateWithFlags(struct executable **executable, struct graph *graph, unsigned long long flags) {
  (void)flags;
  REQUIRE_CONTEXT();
  REQUIRE(executable != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(graph, A_GRAPH);
  *executable = calloc(1, sizeof **executable);
  REQUIRE(*executable != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  (*executable)->graph = copy_of(graph);
  REQUIRE((*executable)->graph != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  return enter_handle(*executable, AN_EXECUTABLE);
}

EXPORT CUresult cuGraphInstantiate_v2(struct executable **executable, struct graph *graph, struct node **node, char *log, size_t room) {
  if (node != NULL) {
    *node = NULL;
  }
  if (log != NULL && room > 0) {
    *log = '\0';
  }
  return cuGraphInstantiateWithFlags(executable, graph, 0);
}
ALIAS(cuGraphInstantiate, cuGraphInstantiate_v2);

/* CUDA_GRAPH_INSTANTIATE_PARAMS */
struct instantiate_parameters {
  uint64_t flags;
  CUstream upload;
  struct node *node;
  int result;
};

EXPORT CUresult cuGraphInstantiateWithParams(
    struct executable **executable, struct graph *graph, struct instantiate_parameters *parameters) {
  REQUIRE(parameters != NULL, CUDA_ERROR_INVALID_VALUE);
  parameters->node = NULL;
  parameters->result = 0;
  return cuGraphInstantiateWithFlags(executable, graph, parameters->flags);
}
ALIAS(cuGraphInstantiateWithParams_ptsz, cuGraphInstantiateWithParams);

EXPORT CUresult cuGraphExecDestroy(struct executable *executable) {
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE_HANDLE(executable, AN_EXECUTABLE);
  leave_handle(executable);
  free_graph(executable->graph);
  free(executable);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphUpload(struct executable *executable, CUstream stream) {
  struct stream *found;
  REQUIRE_OK(find_stream(stream, &found));
  REQUIRE_HANDLE(executable, AN_EXECUTABLE);
  return CUDA_SUCCESS;
}
ALIAS(cuGraphUpload_ptsz, cuGraphUpload);

/* In a stream that is captured, its nodes become nodes of that capture. */
EXPORT CUresult cuGraphLaunch(struct executable *executable, CUstream stream) {
  size_t index;
  REQUIRE_CONTEXT();
  REQUIRE_HANDLE(executable, AN_EXECUTABLE);
  for (index = 0; index < executable->graph->count; ++index) {
    REQUIRE_OK(submit(stream, &executable->graph->nodes[index]->work));
  }
  return CUDA_SUCCESS;
}
ALIAS(cuGraphLaunch_ptsz, cuGraphLaunch);

static int same_shape(const struct graph *one, const struct graph *other) {
  size_t index;
  for (index = 0; one->count == other->count && index < one->count; ++index) {
    if (one->nodes[index]->work.type != other->nodes[index]->work.type) {
      return 0;
    }
  }
  return one->count == other->count;
}

/* CUgraphExecUpdateResultInfo */
struct update_result {
  int result;
  struct node *node, *from;
};

EXPORT CUresult cuGraphExecUpdate_v2(struct executable *executable, struct graph *graph, struct update_result *info) {
  enum { TOPOLOGY_CHANGED = 2, UPDATE_FAILURE = 910 };
  struct graph *copy;
  REQUIRE(initialised(), CUDA_ERROR_NOT_INITIALIZED);
  REQUIRE(info != NULL, CUDA_ERROR_INVALID_VALUE);
  REQUIRE_HANDLE(executable, AN_EXECUTABLE);
  REQUIRE_HANDLE(graph, A_GRAPH);
  memset(info, 0, sizeof *info);
  if (!same_shape(executable->graph, graph)) {
    info->result = TOPOLOGY_CHANGED;
    return UPDATE_FAILURE;
  }
  copy = copy_of(graph);
  REQUIRE(copy != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  free_graph(executable->graph);
  executable->graph = copy;
  return CUDA_SUCCESS;
}
