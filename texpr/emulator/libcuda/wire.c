/* wire.c: the connection to the emulator's process. See wire.h for the protocol. */
#define _GNU_SOURCE
#include "wire.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connection = -1;
static pid_t owner; /* the process that opened the connection */

void note(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("texpr emulator: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
}

static int send_all(const void *data, size_t bytes) {
  const char *at = data;
  while (bytes > 0) {
    ssize_t sent = send(connection, at, bytes, MSG_NOSIGNAL);
    if (sent <= 0) {
      return 0;
    }
    at += sent;
    bytes -= (size_t)sent;
  }
  return 1;
}

static int receive_all(void *data, size_t bytes) {
  char *at = data;
  while (bytes > 0) {
    ssize_t received = recv(connection, at, bytes, MSG_WAITALL);
    if (received <= 0) {
      return 0;
    }
    at += received;
    bytes -= (size_t)received;
  }
  return 1;
}

/* Exchange one message while the lock is held. `*reply_bytes` is the room in `reply`, then what came. */
static CUresult exchange(enum operation operation, const struct piece *pieces, int count, void *reply, size_t *reply_bytes) {
  uint32_t request[2] = {(uint32_t)operation, 0};
  struct {
    int32_t result;
    uint32_t bytes;
  } answer;
  int index;
  for (index = 0; index < count; ++index) {
    request[1] += (uint32_t)pieces[index].bytes;
  }
  if (!send_all(request, sizeof request)) {
    return CUDA_ERROR_UNKNOWN;
  }
  for (index = 0; index < count; ++index) {
    if (!send_all(pieces[index].data, pieces[index].bytes)) {
      return CUDA_ERROR_UNKNOWN;
    }
  }
  if (!receive_all(&answer, sizeof answer) || answer.bytes > *reply_bytes || !receive_all(reply, answer.bytes)) {
    return CUDA_ERROR_UNKNOWN;
  }
  *reply_bytes = answer.bytes;
  return answer.result;
}

CUresult request_pieces(enum operation operation, const struct piece *pieces, int count, void *reply, size_t *reply_bytes) {
  CUresult result = CUDA_ERROR_NOT_INITIALIZED;
  pthread_mutex_lock(&lock);
  if (connection >= 0 && owner == getpid()) {
    result = exchange(operation, pieces, count, reply, reply_bytes);
  }
  pthread_mutex_unlock(&lock);
  return result;
}

CUresult request(enum operation operation, const void *data, size_t bytes, void *reply, size_t reply_bytes) {
  struct piece piece;
  size_t received = reply_bytes;
  CUresult result;
  piece.data = data;
  piece.bytes = bytes;
  result = request_pieces(operation, &piece, 1, reply, &received);
  return result == CUDA_SUCCESS && received != reply_bytes ? CUDA_ERROR_UNKNOWN : result;
}

int initialised(void) {
  int ready;
  pthread_mutex_lock(&lock);
  ready = connection >= 0 && owner == getpid();
  pthread_mutex_unlock(&lock);
  return ready;
}

static CUresult connect_to_emulator(void) {
  struct sockaddr_un address;
  const char *path = getenv("TEXPR_EMULATOR_SOCKET");
  int fd;
  memset(&address, 0, sizeof address);
  address.sun_family = AF_UNIX;
  if (path == NULL || strlen(path) >= sizeof address.sun_path) {
    note("this libcuda.so.1 is a stand-in, and nothing runs behind it: start the program with 'texpr emulate -- PROGRAM'");
    return CUDA_ERROR_NO_DEVICE;
  }
  memcpy(address.sun_path, path, strlen(path));
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return CUDA_ERROR_UNKNOWN;
  }
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
    close(fd);
    note("nothing listens at %s: has 'texpr emulate' ended?", path);
    return CUDA_ERROR_NO_DEVICE;
  }
  connection = fd;
  owner = getpid();
  return CUDA_SUCCESS;
}

CUresult open_connection(void) {
  CUresult result = CUDA_SUCCESS;
  pthread_mutex_lock(&lock);
  if (connection < 0) {
    result = connect_to_emulator();
  } else if (owner != getpid()) {
    result = CUDA_ERROR_NOT_INITIALIZED;
  }
  pthread_mutex_unlock(&lock);
  return result;
}
