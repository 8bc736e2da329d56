#include "bench/cpus.h"

#include <charconv>
#include <stdexcept>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace synfluid::bench {

void run_on(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0)
    throw std::runtime_error(fmt::format("this bench needs CPUs {} and {}", kOurCpu, kPeersCpu));
}

bool has_both_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_ISSET(kOurCpu, &set) &&
         CPU_ISSET(kPeersCpu, &set);
}

OnCpu::OnCpu(int cpu) {
  CPU_ZERO(&before_);
  sched_getaffinity(0, sizeof before_, &before_);
  run_on(cpu);
}

OnCpu::~OnCpu() {
  sched_setaffinity(0, sizeof before_, &before_);
}

std::string own_schedstat() {
  return fmt::format("/proc/{}/task/{}/schedstat", getpid(), gettid());
}

Result<uint64_t> timeslices(const std::string& schedstat_path) {
  const UniqueFd file(open(schedstat_path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[128];
  const ssize_t length = file ? read(file.get(), text, sizeof text) : -1;
  if (length < 0) return Error::from_errno(errno, schedstat_path);
  return parse_timeslices({text, static_cast<size_t>(length)});
}

Result<uint64_t> parse_timeslices(std::string_view schedstat) {
  const size_t end = schedstat.find_last_not_of('\n');
  const std::string_view line = schedstat.substr(0, end == std::string_view::npos ? 0 : end + 1);
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  uint64_t count = 0;
  if (first != second) {
    const char* const end_of_line = line.data() + line.size();
    const auto [stopped, failed] = std::from_chars(line.data() + second + 1, end_of_line, count);
    if (stopped == end_of_line && failed == std::errc()) return count;
  }
  return Error(ErrorCode::kInvalidArgument, fmt::format("'{}' is no schedstat", schedstat));
}

}  // namespace synfluid::bench
