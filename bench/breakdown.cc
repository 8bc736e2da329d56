// What making one VM costs: Synfluid beside `xl`, in one run, with one guest image of one size.
//
//   synfluid_ms                   create() of a guest with its vif wired, until it runs
//   synfluid_start_ms             the last part of it, unpausing: on one CPU the guest boots before we go on
//   xl_ms                         `xl create -p` of the same image, no vif: built and left paused
//   xl_vif_ms                     the same with one vif on a bridge: kernel netback, hot-plug script, xenbus
//   xl_STORE_over_synfluid        xl_vif_ms over synfluid_ms; STORE is the daemon that runs in dom0
//
// Ours has its memory claimed, as xl's has: what of it a guest has not touched is Xen's to fill in later. xl
// is given less to do: its guest is never started. Each guest is destroyed, and the host left alone for a
// moment, before the next one is made, so both work on an empty and idle host. Runs in dom0 as root; xl needs
// a store and its hot-plug scripts.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/instruction_clock.h"
#include "bench/report.h"
#include "guest/images.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid::bench {
namespace {

constexpr std::string_view kBridge = "sfbreakdown";
constexpr uint32_t kWarmUp = 2;
constexpr useconds_t kSettleUs = 100'000;

struct Options {
  uint32_t count = 20;
  uint32_t xl_count = 5;
  uint64_t memory_mib = 8;
  std::string json;
};

/// Runs a program to its end; its words go to our standard error.
Status run_program(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = 0;
  const int failed = posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return Error::from_errno(failed, words[0]);
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return Error::from_errno(errno, words[0]);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error(ErrorCode::kSystem,
                 fmt::format("'{} {}' failed", words[0], words.size() > 1 ? words[1] : ""));
  return {};
}

/// The store daemon that runs here, by its process name.
std::string store_name() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::string name;
    if (!std::getline(std::ifstream(entry.path() / "comm"), name)) continue;
    for (const std::string_view known : {"oxenstored", "xenstored", "synfluid-store"})
      if (name == known) return name;
  }
  return "no store";
}

double ms_since(const Clock& clock, int64_t begin) {
  return static_cast<double>(clock.now_ns() - begin) / static_cast<double>(kNsPerMs);
}

/// A sample for each guest.
struct OurTimes {
  std::vector<double> all_ms;
  std::vector<double> start_ms;
};

Result<OurTimes> time_synfluid(const Options& options) {
  auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
  if (!hypervisor) return hypervisor.error();
  if (auto swept = (*hypervisor)->sweep(); !swept) return swept.error();
  auto image = (*hypervisor)
                   ->prepare({.service = "breakdown",
                              .image = "builtin:responder",
                              .memory_bytes = options.memory_mib << 20,
                              .config = {}});
  if (!image) return image.error();
  const SteadyClock clock;
  OurTimes times;
  for (uint32_t i = 0; i < options.count + kWarmUp; ++i) {
    usleep(kSettleUs);
    const int64_t begin = clock.now_ns();
    auto vm = (*hypervisor)
                  ->create(**image, {.name = fmt::format("breakdown-{}", i),
                                     .generation = i + 1,
                                     .worker = WorkerId(0),
                                     .doorbell = i});
    if (!vm) return vm.error();
    const auto link = (*vm)->take_link();
    const int64_t starting = clock.now_ns();
    if (Status started = (*vm)->start(); !started) return started.error();
    if (i < kWarmUp) continue;
    times.start_ms.push_back(ms_since(clock, starting));
    times.all_ms.push_back(ms_since(clock, begin));
  }
  return times;
}

/// The guest's image and a configuration for xl, in a folder that goes with it.
class XlGuest {
 public:
  static Result<XlGuest> prepare(const Options& options, bool with_vif) {
    XlGuest guest;
    const auto image = guest::xen_image();
    std::ofstream(guest.folder_ + "/kernel", std::ios::binary)
        .write(reinterpret_cast<const char*>(image.data()), static_cast<std::streamsize>(image.size()));
    std::ofstream config(guest.folder_ + "/config");
    config << fmt::format("name = 'breakdown'\nkernel = '{}/kernel'\nmemory = {}\n", guest.folder_,
                          options.memory_mib);
    if (with_vif) config << fmt::format("vif = [ 'bridge={}' ]\n", kBridge);
    if (!config.flush()) return Error(ErrorCode::kSystem, "no configuration for xl could be written");
    return guest;
  }
  XlGuest(XlGuest&& other) noexcept : folder_(std::exchange(other.folder_, "")) {}
  XlGuest& operator=(XlGuest&&) = delete;
  ~XlGuest() {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  Status create() const { return run_program({"xl", "create", "-q", "-p", folder_ + "/config"}); }
  Status destroy() const { return run_program({"xl", "destroy", "breakdown"}); }

 private:
  XlGuest() {
    std::string pattern = std::filesystem::temp_directory_path() / "breakdown-XXXXXX";
    if (mkdtemp(pattern.data()) != nullptr) folder_ = pattern;
  }
  std::string folder_;
};

Result<std::vector<double>> time_xl(const Options& options, bool with_vif) {
  auto guest = XlGuest::prepare(options, with_vif);
  if (!guest) return guest.error();
  const SteadyClock clock;
  std::vector<double> samples;
  for (uint32_t i = 0; i < options.xl_count + kWarmUp; ++i) {
    usleep(kSettleUs);
    const int64_t begin = clock.now_ns();
    if (Status made = guest->create(); !made) return made.error();
    if (i >= kWarmUp) samples.push_back(ms_since(clock, begin));
    if (Status gone = guest->destroy(); !gone) return gone.error();
  }
  return samples;
}

class Bridge {
 public:
  static Result<Bridge> make() {
    // What xl's vif stands on; built in, or loaded already, on many hosts.
    (void)run_program({"modprobe", "-a", "bridge", "xen-netback"});
    if (Status added = run_program({"ip", "link", "add", "name", std::string(kBridge), "type", "bridge"});
        !added)
      return added.error();
    Bridge bridge(true);
    if (Status up = run_program({"ip", "link", "set", std::string(kBridge), "up"}); !up) return up.error();
    return bridge;
  }
  Bridge(Bridge&& other) noexcept : owns_(std::exchange(other.owns_, false)) {}
  Bridge& operator=(Bridge&&) = delete;
  ~Bridge() {
    if (owns_) (void)run_program({"ip", "link", "del", std::string(kBridge)});
  }

 private:
  explicit Bridge(bool owns) : owns_(owns) {}
  bool owns_;
};

Status run(const Options& options) {
  const std::string store = store_name();
  Report report("breakdown", detect_clock());
  report.set_parameter("count", options.count);
  report.set_parameter("xl_count", options.xl_count);
  report.set_parameter("memory_mib", options.memory_mib);
  report.set_parameter("store", store);

  const auto ours = time_synfluid(options);
  if (!ours) return ours.error();
  const auto plain = time_xl(options, false);
  if (!plain) return plain.error();
  const auto bridge = Bridge::make();
  if (!bridge) return bridge.error().within("a bridge for xl's vif");
  const auto with_vif = time_xl(options, true);
  if (!with_vif) return with_vif.error();

  const Figure synfluid = Figure::of("synfluid_ms", "ms", ours->all_ms);
  const Figure start = Figure::of("synfluid_start_ms", "ms", ours->start_ms);
  const Figure xl = Figure::of("xl_ms", "ms", *plain);
  Figure xl_vif = Figure::of("xl_vif_ms", "ms", *with_vif);
  Figure over = Figure::of(fmt::format("xl_{}_over_synfluid", store), "", {xl_vif.value / synfluid.value});
  over.peer = PeerValue{"xl with a vif, ms", xl_vif.value, xl_vif.value / synfluid.value};
  for (const Figure& figure : {synfluid, start, xl, xl_vif, over}) report.add(figure);
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("What making one VM costs, beside xl; in dom0, as root");
  app.add_option("--count", options.count, "VMs of ours")->check(CLI::Range(1, 10'000));
  app.add_option("--xl-count", options.xl_count, "VMs of xl's, each kind")->check(CLI::Range(1, 1'000));
  app.add_option("--memory", options.memory_mib, "memory of each, MiB")->check(CLI::Range(8, 4096));
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "breakdown: " << status.error().text() << '\n';
  return 1;
}
