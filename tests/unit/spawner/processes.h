// What /proc knows of this process: its descriptors, and the processes that descend from it.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace synfluid::spawner::testing {

inline size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

struct Process {
  pid_t pid = 0;
  pid_t parent = 0;
  std::string name;
};

/// Empty when the process has gone in the meantime; a stream would throw on that.
inline std::string contents(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(1024, '\0');
  const ssize_t got = ::read(fd.get(), text.data(), text.size());
  text.resize(static_cast<size_t>(got < 0 ? 0 : got));
  return text;
}

inline std::vector<Process> all_processes() {
  std::vector<Process> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string pid = entry.path().filename();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    const std::string stat = contents(entry.path() / "stat");
    const size_t open = stat.find('(');
    const size_t close = stat.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    // "PID (name) S PPID …"; the dead that wait for their parent do not count.
    if (stat[close + 2] == 'Z') continue;
    found.push_back(
        {std::stoi(pid), std::stoi(stat.substr(close + 4)), stat.substr(open + 1, close - open - 1)});
  }
  return found;
}

/// Of `ancestor`, without itself.
inline std::vector<Process> descendants(pid_t ancestor = ::getpid()) {
  const std::vector<Process> all = all_processes();
  std::set<pid_t> family{ancestor};
  std::vector<Process> found;
  for (bool grew = true; grew;) {
    grew = false;
    for (const Process& process : all)
      if (family.contains(process.parent) && family.insert(process.pid).second) {
        found.push_back(process);
        grew = true;
      }
  }
  return found;
}

}  // namespace synfluid::spawner::testing
