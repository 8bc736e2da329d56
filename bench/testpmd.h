// DPDK's own forwarder as a child process, told to start and to stop: `dpdk-testpmd` of Debian's dpdk-dev.
//
// Threads: one. Ownership: the child ends with its owner. Errors: create() where there is no testpmd or it
// does not come up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::bench {

class Testpmd {
 public:
  /// Whether what is at the ports' other ends is there when it starts: it waits for their links then.
  enum class Links { kAreUp, kComeLater };
  struct Config {
    std::vector<std::string> vdevs;  ///< two: what comes in on one goes out of the other
    std::string forward_mode = "macswap";
    uint32_t frames = 0;      ///< of its pool
    uint32_t frame_room = 0;  ///< bytes of each, with the headroom
    uint32_t memory_mib = 0;
    int cpu = -1;              ///< of the forwarding thread; -1: any
    uint16_t descriptors = 0;  ///< of each queue; 0: its own choice
    size_t burst = 32;
    Links links = Links::kAreUp;
  };
  static Result<std::unique_ptr<Testpmd>> create(const Config& config);
  ~Testpmd();
  Testpmd(const Testpmd&) = delete;
  Testpmd& operator=(const Testpmd&) = delete;

  struct Run {
    uint64_t packets = 0;
    double cpu_seconds = 0;  ///< of its forwarding thread
  };
  /// Forwards from now on.
  Status begin() { return say("start\n"); }
  /// No longer: its thread sleeps. What it says of its statistics.
  Result<std::string> end();
  /// Of its forwarding thread: the kernel's file of its time on a CPU.
  const std::string& schedstat() const { return cpu_file_; }
  /// Forwards for so long.
  Result<Run> run(int64_t ns);

 private:
  Testpmd(pid_t child, std::string file_prefix, UniqueFd to, UniqueFd from)
      : child_(child), file_prefix_(std::move(file_prefix)), to_(std::move(to)), from_(std::move(from)) {}
  Status say(const std::string& line);
  /// All that it says up to and with `last`.
  Result<std::string> hear(const std::string& last);
  Result<double> cpu_seconds();

  const pid_t child_;
  const std::string file_prefix_;
  UniqueFd to_;
  UniqueFd from_;
  std::string unread_;
  std::string cpu_file_;
};

}  // namespace synfluid::bench
