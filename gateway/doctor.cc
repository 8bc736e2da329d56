#include "gateway/doctor.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/eal.h"

namespace synfluid::gateway {

namespace {

namespace fs = std::filesystem;
using Level = Finding::Level;

/// Descriptors that one guest costs on `process`: its shared memory and two eventfds.
constexpr uint64_t kDescriptorsPerGuest = 3;
/// Memory maps that one guest costs: its shared area, and on Xen its grants.
constexpr uint64_t kMapsPerGuest = 2;
/// Xen counts a shared page twice, for the process that maps it and for dom0's kernel. An ordinary guest, of
/// 512 KiB, has 35: the card, two rings and its buffers.
constexpr uint64_t kMaptracksPerGuest = 2 * 35;
constexpr uint64_t kMaptrackPerFrame = 256;
constexpr uint64_t kTwoLevelChannels = 4096;

std::optional<std::string> read_file(const fs::path& path) {
  std::ifstream in(path);
  if (!in) return {};
  std::ostringstream text;
  text << in.rdbuf();
  std::string s = text.str();
  while (!s.empty() && (s.back() == '\n' || s.back() == '\0')) s.pop_back();
  return s;
}

std::optional<uint64_t> read_number(const fs::path& path) {
  const auto text = read_file(path);
  if (!text || text->empty()) return {};
  try {
    return std::stoull(*text);
  } catch (const std::exception&) {
    return {};
  }
}

Finding good(std::string subject, std::string text) {
  return {Level::kGood, std::move(subject), std::move(text), {}};
}

Finding at_least(std::string subject, std::optional<uint64_t> found, uint64_t wanted, std::string remedy) {
  if (!found) return {Level::kHint, std::move(subject), "cannot be read", std::move(remedy)};
  if (*found >= wanted) return good(std::move(subject), fmt::format("{}", *found));
  return {Level::kHint, std::move(subject), fmt::format("{}, below {}", *found, wanted), std::move(remedy)};
}

bool has_capability(int capability) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[static_cast<size_t>(capability) / 32].effective >> (capability % 32) & 1) != 0;
}

Finding check_cpu() {
  if (__builtin_cpu_supports("sse4.2")) return good("CPU", "SSE4.2");
  return {Level::kFault, "CPU", "no SSE4.2, which DPDK needs",
          "run on a newer CPU model (in QEMU: -cpu Haswell-noTSX)"};
}

Finding check_hugepages() {
  if (hugepages_available()) return good("hugepages", "free and mounted");
  return {Level::kHint, "hugepages", "none free: `run` uses ordinary pages",
          "echo 512 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages (a PV dom0 has none and needs "
          "none)"};
}

Finding check_raw_sockets() {
  if (has_capability(CAP_NET_RAW)) return good("CAP_NET_RAW", "held: interfaces can be opened as ports");
  return {Level::kFault, "CAP_NET_RAW", "not held: `run` cannot open interfaces as ports (replay needs none)",
          "run as root, or setcap cap_net_raw,cap_net_admin+ep on the program"};
}

Finding check_descriptors(uint64_t vms) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return at_least("RLIMIT_NOFILE", limit.rlim_max, vms * kDescriptorsPerGuest + 256,
                  fmt::format("ulimit -Hn {}", vms * kDescriptorsPerGuest + 256));
}

Finding check_map_count(uint64_t vms) {
  const uint64_t wanted = vms * kMapsPerGuest + 4096;
  return at_least("vm.max_map_count", read_number("/proc/sys/vm/max_map_count"), wanted,
                  fmt::format("sysctl -w vm.max_map_count={}", wanted));
}

Finding check_processes(uint64_t vms) {
  return at_least("kernel.pid_max", read_number("/proc/sys/kernel/pid_max"), vms + 4096,
                  fmt::format("sysctl -w kernel.pid_max={}", vms + 4096));
}

Finding check_user_namespaces() {
  const auto most = read_number("/proc/sys/user/max_user_namespaces");
  const auto clone = read_number("/proc/sys/kernel/unprivileged_userns_clone");
  if (most && *most == 0)
    return {Level::kFault, "user namespaces", "switched off: no `process` guests",
            "sysctl -w user.max_user_namespaces=1024"};
  if (clone && *clone == 0 && geteuid() != 0)
    return {Level::kFault, "user namespaces", "for root only: no `process` guests",
            "sysctl -w kernel.unprivileged_userns_clone=1"};
  return good("user namespaces", "allowed");
}

Finding check_seccomp() {
  if (prctl(PR_GET_SECCOMP) >= 0) return good("seccomp", "in the kernel");
  return {Level::kFault, "seccomp", "not in this kernel: no `process` guests",
          "use a kernel with CONFIG_SECCOMP_FILTER"};
}

Finding check_sandbox(const std::function<Status()>& probe) {
  const Status worked = probe();
  if (worked) return good("process hypervisor", "a sandbox starts");
  return {Level::kFault, "process hypervisor", worked.error().text(), "see the lines above, or run as root"};
}

Finding check_interface(const std::string& name) {
  const fs::path dir = fs::path("/sys/class/net") / name;
  std::error_code ignored;
  if (!fs::exists(dir, ignored))
    return {Level::kFault, name, "no such network interface", "ip link show lists them"};
  const auto flags = read_file(dir / "flags");
  if (flags && (std::stoul(*flags, nullptr, 16) & 1) == 0)
    return {Level::kFault, name, "is down", fmt::format("ip link set {} up", name)};
  return good(name, "is up");
}

Finding check_xen_device(const char* name) {
  const fs::path path = fs::path("/dev/xen") / name;
  if (access(path.c_str(), R_OK | W_OK) == 0) return good(path.string(), "usable");
  return {Level::kFault, path.string(), access(path.c_str(), F_OK) == 0 ? "not accessible" : "missing",
          fmt::format("modprobe xen-{}, and run as root", name)};
}

Finding check_event_channels(uint64_t vms) {
  const auto two_level = read_file("/sys/module/xen/parameters/fifo_events");
  const bool fifo = !two_level || *two_level != "N";
  if (fifo) return good("event channels", "FIFO ABI not switched off: 131,072");
  return {vms < kTwoLevelChannels ? Level::kHint : Level::kFault, "event channels",
          fmt::format("2-level ABI: {} in all", kTwoLevelChannels),
          "remove xen.fifo_events=0 from dom0's command line"};
}

Finding check_maptrack(const DoctorConfig& config) {
  constexpr std::string_view kOption = "gnttab_max_maptrack_frames";
  constexpr uint64_t kXensDefault = 1024;
  const uint64_t frames = (config.vms * kMaptracksPerGuest + kMaptrackPerFrame - 1) / kMaptrackPerFrame;
  const std::string remedy = fmt::format("{}={} on Xen's command line", kOption, frames);
  constexpr const char* kSubject = "grant maptrack frames";
  if (!config.xen_command_line) return at_least(kSubject, std::nullopt, frames, remedy);
  const Result<std::string> line = config.xen_command_line();
  if (!line) return {Level::kHint, kSubject, fmt::format("cannot be known: {}", line.error().text()), remedy};
  return at_least(kSubject, xen_option(*line, kOption).value_or(kXensDefault), frames, remedy);
}

void examine_xen(const DoctorConfig& config, std::vector<Finding>& found) {
  const auto type = read_file("/sys/hypervisor/type");
  if (!type || *type != "xen") {
    found.push_back({Level::kHint, "Xen", "this is no Xen host: only `--hypervisor process` works here",
                     "boot Xen 4.17 or later with this system as dom0"});
    return;
  }
  const auto capabilities = read_file("/proc/xen/capabilities");
  if (capabilities && capabilities->find("control_d") != std::string::npos)
    found.push_back(good("Xen", "this is dom0"));
  else
    found.push_back({Level::kFault, "Xen", "this is not dom0, or xenfs is not mounted",
                     "mount -t xenfs none /proc/xen, in dom0"});
  for (const char* name : {"privcmd", "evtchn", "gntdev"}) found.push_back(check_xen_device(name));
  if (access("/dev/xen/xenbus", R_OK | W_OK) == 0 || access("/run/xenstored/socket", R_OK | W_OK) == 0)
    found.push_back(good("xenstore", "reachable"));
  else
    found.push_back({Level::kFault, "xenstore", "not reachable: no names in `xl list`, no foreign images",
                     "start xenstored, then xen-init-dom0"});
  found.push_back(check_event_channels(config.vms));
  found.push_back(check_maptrack(config));
  if (read_file("/sys/module/xen_netback/initstate"))
    found.push_back({Level::kHint, "xen-netback",
                     "the kernel's own back end is loaded and answers for vifs of backend type vif",
                     "rmmod xen-netback, unless other domains need it"});
}

}  // namespace

std::vector<Finding> examine(const DoctorConfig& config) {
  std::vector<Finding> found = {check_cpu(), check_hugepages(), check_raw_sockets()};
  found.push_back(check_descriptors(config.vms));
  found.push_back(check_map_count(config.vms));
  if (config.process) {
    found.push_back(check_processes(config.vms));
    found.push_back(check_user_namespaces());
    found.push_back(check_seccomp());
    if (config.probe_process) found.push_back(check_sandbox(config.probe_process));
  }
  if (config.xen) examine_xen(config, found);
  for (const std::string& name : config.interfaces) found.push_back(check_interface(name));
  return found;
}

std::optional<uint64_t> xen_option(std::string_view command_line, std::string_view name) {
  std::optional<uint64_t> value;
  std::istringstream words{std::string(command_line)};
  for (std::string word; words >> word;) {
    if (!word.starts_with(name) || word.size() <= name.size() || word[name.size()] != '=') continue;
    const char* const digits = word.c_str() + name.size() + 1;
    char* end = nullptr;
    const uint64_t number = std::strtoull(digits, &end, 0);
    if (end != digits) value = number;
  }
  return value;
}

std::string to_line(const Finding& f) {
  constexpr std::array kNames = {"good ", "hint ", "fault"};
  std::string line = fmt::format("{}  {}: {}", kNames[static_cast<size_t>(f.level)], f.subject, f.text);
  if (!f.remedy.empty()) line += fmt::format("; remedy: {}", f.remedy);
  return line;
}

}  // namespace synfluid::gateway
