#include "gateway/eal.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <unistd.h>

namespace synfluid::gateway {

namespace {

uint64_t read_number(const std::filesystem::path& path) {
  std::ifstream in(path);
  uint64_t value = 0;
  in >> value;
  return in ? value : 0;
}

bool hugetlbfs_mounted() {
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);)
    if (line.find(" hugetlbfs ") != std::string::npos) return true;
  return false;
}

/// The CPUs this process may run on.
std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

/// The main lcore floats over all CPUs, as the spawner's thread and the guests that inherit its mask do. Each
/// worker gets a CPU of its own where there are enough, else it floats too.
std::string lcore_map(uint16_t workers) {
  const std::vector<int> cpus = allowed_cpus();
  std::string all;
  for (int cpu : cpus) all += fmt::format("{}{}", all.empty() ? "" : ",", cpu);
  std::string map = fmt::format("0@({})", all);
  const bool pin = cpus.size() > workers;
  for (uint16_t w = 0; w < workers; ++w)
    map += pin ? fmt::format(",{}@{}", w + 1, cpus[w + 1u]) : fmt::format(",{}@({})", w + 1, all);
  return map;
}

std::vector<std::string> arguments(const EalConfig& config, bool hugepages) {
  std::vector<std::string> args = {"synfluid", "--no-telemetry", "--log-level=lib.eal:error",
                                   "--log-level=error",
                                   fmt::format("--lcores={}", lcore_map(config.workers))};
  if (hugepages) {
    args.emplace_back("--in-memory");
  } else {
    args.emplace_back("--no-huge");
    args.emplace_back("--no-shconf");
    args.emplace_back(fmt::format("-m{}", config.memory_mib));
  }
  // Runs of the gateway side by side must not share DPDK's runtime files.
  args.emplace_back(fmt::format("--file-prefix=synfluid{}", getpid()));
  if (config.pci.empty()) args.emplace_back("--no-pci");
  for (const std::string& address : config.pci) args.emplace_back(fmt::format("--allow={}", address));
  for (const std::string& vdev : config.vdevs) args.emplace_back(fmt::format("--vdev={}", vdev));
  return args;
}

/// DPDK prints its whole usage on a bad argument; an operator gets our one line instead.
void no_usage(const char* /*program*/) {}

/// DPDK makes a directory for sharing with other processes, which we never do.
void remove_runtime_dir() {
  const char* xdg = getenv("XDG_RUNTIME_DIR");
  const std::string base = getuid() == 0 ? "/var/run" : xdg != nullptr ? xdg : "/tmp";
  std::error_code ignored;
  std::filesystem::remove_all(fmt::format("{}/dpdk/synfluid{}", base, getpid()), ignored);
}

/// Takes what DPDK logs, so that a failure is told in one line of ours.
class LogCatcher {
 public:
  LogCatcher() : stream_(open_memstream(&text_, &size_)) { rte_openlog_stream(stream_); }
  ~LogCatcher() {
    rte_openlog_stream(nullptr);
    if (stream_ != nullptr) std::fclose(stream_);
    std::free(text_);
  }
  LogCatcher(const LogCatcher&) = delete;
  LogCatcher& operator=(const LogCatcher&) = delete;

  /// Without DPDK's "EAL: " in front.
  std::string first_line() {
    if (stream_ == nullptr || std::fflush(stream_) != 0 || text_ == nullptr) return {};
    std::string line(text_, strcspn(text_, "\n"));
    if (const size_t colon = line.find(": "); colon != std::string::npos && colon < 32)
      line.erase(0, colon + 2);
    return line;
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* stream_;
};

}  // namespace

bool hugepages_available() {
  std::error_code ignored;
  if (!hugetlbfs_mounted()) return false;
  for (const auto& size : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", ignored))
    if (read_number(size.path() / "free_hugepages") > 0) return true;
  return false;
}

Result<std::unique_ptr<Eal>> Eal::start(const EalConfig& config) {
  const bool hugepages = config.hugepages == EalConfig::Hugepages::kAuto && hugepages_available();
  std::vector<std::string> args = arguments(config, hugepages);
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  rte_set_application_usage_hook(no_usage);
  LogCatcher log;
  const int started = rte_eal_init(static_cast<int>(argv.size()), argv.data());
  remove_runtime_dir();
  const std::string complaint = log.first_line();
  if (started < 0)
    return Error::from_errno(
        rte_errno != 0 ? rte_errno : ENODEV,
        fmt::format("DPDK does not start{}{}", complaint.empty() ? "" : ": ", complaint));
  return std::unique_ptr<Eal>(new Eal(hugepages, complaint));
}

Eal::~Eal() {
  rte_eal_cleanup();
}

Result<MbufPool> make_pool(const PoolConfig& config) {
  const uint32_t room = std::min<uint32_t>(config.frame_bytes + RTE_PKTMBUF_HEADROOM, UINT16_MAX);
  rte_mempool* pool = rte_pktmbuf_pool_create(config.name.c_str(), config.frames, config.lcore_cache, 0,
                                              static_cast<uint16_t>(room), SOCKET_ID_ANY);
  if (pool == nullptr)
    return Error::from_errno(
        rte_errno, fmt::format("packet pool of {} frames of {} bytes", config.frames, config.frame_bytes));
  return MbufPool(pool);
}

}  // namespace synfluid::gateway
