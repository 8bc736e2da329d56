// SIGINT, SIGTERM and SIGHUP as a wish: the work ends in order, and what has been done is told.
//
// While the object lives the first of these signals is noted, and has its ordinary effect again: who asks
// twice does not wait. A closed pipe is an error of the write, not the end of the process. Threads: one
// object at a time; any thread may be hit by the signal.
#pragma once

#include <array>

#include <signal.h>

namespace synfluid::gateway {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  /// The signal that came, or 0.
  int signal() const;
  bool came() const { return signal() != 0; }

  /// The exit status that a shell gives a process which the signal ended.
  static int exit_status(int signal) { return 128 + signal; }

 private:
  static constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
  std::array<struct sigaction, kSignals.size()> before_{};
  struct sigaction pipe_before_ {};
};

}  // namespace synfluid::gateway
