// One epoll set, and who is told of what it reports.
//
// Threads: one. Ownership: descriptors and watchers are their owners', who remove() a descriptor before it
// is closed. Whoever is told may remove any descriptor, but destroys no watcher before wait() has returned.
// Units: milliseconds. Errors: Result.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::spawner::store {

class Watcher {
 public:
  virtual ~Watcher() = default;
  /// `events` are epoll's.
  virtual void on_ready(uint32_t events) = 0;
};

class EventLoop {
 public:
  static Result<EventLoop> create();

  Status add(int fd, uint32_t events, Watcher& watcher);
  Status modify(int fd, uint32_t events, Watcher& watcher);
  void remove(int fd) noexcept;

  /// Waits for as long (-1: for ever) and tells the watchers. An interrupted wait is an empty one.
  Status wait(int timeout_ms);

 private:
  explicit EventLoop(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  Status control(int operation, int fd, uint32_t events, Watcher* watcher);

  UniqueFd epoll_;
};

}  // namespace synfluid::spawner::store
