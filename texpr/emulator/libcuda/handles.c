/* handles.c: which handles are valid, as a hash set of addresses. */
#include "driver.h"

#include <stdlib.h>

enum { BUCKETS = 1024 };

struct entry {
  const void *object;
  enum kind kind;
  struct entry *next;
};
static struct entry *buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct entry **bucket_of(const void *object) { return &buckets[((uintptr_t)object >> 4) % BUCKETS]; }

CUresult enter_handle(const void *object, enum kind kind) {
  struct entry *entry = malloc(sizeof *entry), **bucket = bucket_of(object);
  REQUIRE(entry != NULL, CUDA_ERROR_OUT_OF_MEMORY);
  entry->object = object;
  entry->kind = kind;
  pthread_mutex_lock(&lock);
  entry->next = *bucket;
  *bucket = entry;
  pthread_mutex_unlock(&lock);
  return CUDA_SUCCESS;
}

void leave_handle(const void *object) {
  struct entry **at;
  pthread_mutex_lock(&lock);
  for (at = bucket_of(object); *at != NULL; at = &(*at)->next) {
    if ((*at)->object == object) {
      struct entry *gone = *at;
      *at = gone->next;
      free(gone);
      break;
    }
  }
  pthread_mutex_unlock(&lock);
}

int is_handle(const void *object, enum kind kind) {
  const struct entry *entry;
  int found = 0;
  pthread_mutex_lock(&lock);
  for (entry = *bucket_of(object); entry != NULL && !found; entry = entry->next) {
    found = entry->object == object && entry->kind == kind;
  }
  pthread_mutex_unlock(&lock);
  return found;
}
