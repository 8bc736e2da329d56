// Which CPU a thread runs on, and whether it has kept it.
//
// Threads: each call is about the calling thread, but for timeslices(). Ownership: OnCpu gives the CPUs back
// that the thread had. Errors: run_on() and OnCpu throw where the thread may not run there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sched.h>

#include "base/result.h"

namespace synfluid::bench {

/// Two that spin must not share a CPU.
inline constexpr int kOurCpu = 0;
inline constexpr int kPeersCpu = 1;

void run_on(int cpu);
/// This process may run on both of the above.
bool has_both_cpus();

class OnCpu {
 public:
  explicit OnCpu(int cpu);
  ~OnCpu();
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;

 private:
  cpu_set_t before_;
};

/// The calling thread's file for timeslices().
std::string own_schedstat();
/// How often a thread was given a CPU: as long as that stays the same, nobody else had it. From the kernel's
/// file "/proc/PID/task/TID/schedstat".
Result<uint64_t> timeslices(const std::string& schedstat_path);
/// The last of the file's three numbers.
Result<uint64_t> parse_timeslices(std::string_view schedstat);

}  // namespace synfluid::bench
