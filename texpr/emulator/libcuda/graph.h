/* graph.h: graphs, as captures make them and graph.c runs them. */
#ifndef TEXPR_STANDIN_GRAPH_H
#define TEXPR_STANDIN_GRAPH_H
#include "driver.h"

struct node {
  struct work work;
  struct node **needs; /* what it depends on */
  size_t need_count;
  int marked; /* by whoever walks the graph */
};

/* Nodes are in an order in which they can run. */
struct graph {
  struct node **nodes;
  size_t count, room;
};

struct graph *new_graph(void);
void free_graph(struct graph *graph);

/* A new node at the end, with its own copies of the work and the list; NULL when there is no memory. */
struct node *add_node(struct graph *graph, const struct work *work, struct node *const *needs, size_t need_count);

#endif
