// Where a worker sleeps: epoll over its doorbells, the spawner's wake-up and a wake-up of its own.
//
// Threads: wait() from the worker, wake() from any. Errors: add() tells once at set-up.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spawner/wake_event.h"

namespace synfluid::gateway {

class Sleeper {
 public:
  static Result<Sleeper> create();

  Status add(int fd);
  /// For a descriptor that stays readable, or is in error: each event ends one wait().
  Status add_edge(int fd);
  /// Call before the last look for work; then wait().
  void before_wait() noexcept { wake_->acknowledge(); }
  void wait(int64_t longest_ns) noexcept;
  void wake() noexcept { wake_->signal(); }

 private:
  Status add_for(int fd, uint32_t events);

  Sleeper(UniqueFd epoll, std::unique_ptr<spawner::WakeEvent> wake)
      : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

  UniqueFd epoll_;
  std::unique_ptr<spawner::WakeEvent> wake_;
};

}  // namespace synfluid::gateway
