// The host's end of the zygote: starts it, asks it for guests, hears of them. Private to the room.
//
// The protocol is guest/platform/process/zygote.h's. The zygote ends when this object goes, or when this
// process dies however it may: its socket reaches the end, and the kernel takes every guest down with it.
//
// Threads: one at a time. Ownership: descriptors given to request() stay the caller's; a pidfd in a message
// is the receiver's. Errors: Result; what the zygote could not do to its surroundings comes with the remedy.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"
#include "guest/platform/process/zygote.h"

namespace synfluid::spawner {

struct ZygoteMessage {
  guest::process::ZygoteReply reply;
  UniqueFd pidfd;  ///< with kSpawned
};

class ZygoteClient {
 public:
  /// Starts the program and waits until it is behind its walls.
  static Result<std::unique_ptr<ZygoteClient>> launch(std::span<const std::byte> image);
  ~ZygoteClient();
  ZygoteClient(const ZygoteClient&) = delete;
  ZygoteClient& operator=(const ZygoteClient&) = delete;

  /// Readable when next() has something, or the zygote is gone.
  int fd() const { return socket_.get(); }
  /// False once the zygote is gone: every guest is, too.
  bool alive() const { return alive_; }

  /// Sends a request. kConflict when the socket is full: take messages by next(), then wait_writable().
  Status request(const guest::process::ZygoteRequest& request,
                 const std::array<int, guest::process::kZygoteFds>& fds);
  /// Until a request may fit or a message has come.
  Status wait_writable();
  std::optional<ZygoteMessage> next();

 private:
  ZygoteClient(UniqueFd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  Status wait_ready();
  bool wait_for(short events, int timeout_ms);

  UniqueFd socket_;
  const pid_t pid_;
  bool alive_ = true;
};

}  // namespace synfluid::spawner
