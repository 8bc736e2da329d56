// An eventfd that wakes a sleeping thread, and costs its caller no system call while that thread is awake.
//
// The sleeper, before it waits on fd(): acknowledge(), then look once more at what it would be woken for,
// then wait. Whoever has something for it: publish it, then signal(). `signalled_` is true from the first
// signal() to the next acknowledge(); in between further signals are already on their way and write nothing.
// Both sides change it by an exchange, so either the sleeper sees what was published, or the signal comes
// after its acknowledge() and is written.
//
// Threads: signal() from any, acknowledge() from the sleeper. Errors: create() fails when descriptors are
// used up.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::spawner {

class WakeEvent {
 public:
  static Result<std::unique_ptr<WakeEvent>> create() {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd) return Error::from_errno(errno, "eventfd for waking a thread");
    return std::unique_ptr<WakeEvent>(new WakeEvent(std::move(fd)));
  }

  int fd() const noexcept { return fd_.get(); }

  void signal() noexcept {
    if (signalled_.exchange(true)) return;
    const uint64_t one = 1;
    // Can only fail when the counter is full, and then the fd is readable as it should be.
    [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
  }

  void acknowledge() noexcept {
    // Always drained: a signal that was underway at the last acknowledge() may have been written behind it.
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t taken = ::read(fd_.get(), &count, sizeof count);
    signalled_.exchange(false);
  }

 private:
  explicit WakeEvent(UniqueFd fd) : fd_(std::move(fd)) {}

  const UniqueFd fd_;
  std::atomic<bool> signalled_{false};
};

}  // namespace synfluid::spawner
