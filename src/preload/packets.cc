// Packets to and from the dispatcher.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "preload/template.h"

namespace tqfpm::preload {

bool send_all(int socket, const void *data, size_t size) {
  ssize_t sent = 0;
  do
    sent = send(socket, data, size, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size);
}

ssize_t receive(int socket, void *data, size_t size, int *fds, size_t wanted) {
  union {
    char bytes[CMSG_SPACE(sizeof(int) * 4)];
    cmsghdr align;
  } control;
  for (size_t i = 0; i < wanted; ++i)
    fds[i] = -1;
  iovec part = {data, size};
  msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof control.bytes;
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0)
    return got;
  const cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      if (i < wanted)
        fds[i] = fd;
      else
        close(fd);
    }
  }
  return got;
}

bool report(ipc::WorkerReportType type, ipc::WorkerStage stage, int error) {
  ipc::WorkerReport message;
  memset(&message, 0, sizeof message);
  message.type = type;
  message.slot = state.slot;
  message.generation = state.generation;
  message.pid = getpid();
  message.stage = stage;
  message.errno_ = error;
  return send_all(state.channel, &message, sizeof message);
}

} // namespace tqfpm::preload
