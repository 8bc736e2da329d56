// How long until there is somebody to answer: a guest process made for one SYN, beside a container.
//
// Ours: from the SYN handed to the spawner to the SYN/ACK out of the vif, built cold or taken from the pool.
// The peer: `crun run` of /bin/true in an OCI bundle with one file and no network, from its fork to its end,
// which is less than a container would need to answer a SYN. They take turns within each round.
#include <filesystem>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "spawner/process/process_hypervisor.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"

namespace synfluid::bench {
namespace {

namespace fs = std::filesystem;
using spawner::WorkerPort;

constexpr uint16_t kCold = 0;
constexpr uint16_t kPooled = 1;
constexpr int64_t kPatienceNs = 5 * kNsPerSecond;

struct Options {
  std::string json;
  int rounds = 100;
};

[[noreturn]] void give_up(const std::string& why) {
  std::cerr << "containers: " << why << "\n";
  std::exit(1);
}

/// A worker with nothing to do but to wait for one VM at a time.
class Ours {
 public:
  Ours() {
    auto hypervisor = spawner::make_process_hypervisor({.workers = 1});
    if (!hypervisor) give_up(hypervisor.error().text());
    hypervisor_ = std::move(*hypervisor);
    auto spawner = spawner::Spawner::create({.hypervisor = *hypervisor_, .clock = clock_});
    if (!spawner) give_up(spawner.error().text());
    spawner_ = std::move(*spawner);
    auto services = spawner_->prepare(std::make_shared<const policies::Policy>(policy()));
    if (!services) give_up(services.error().text());
    services_ = *services;
    if (const Status started = spawner_->start(); !started) give_up(started.error().text());
    spawner_->activate(services_);
  }

  /// Microseconds from the request to the SYN/ACK. The VM is gone before this returns.
  double synack_us(uint16_t service) {
    wait([&] { return spawner_->counters().vms == kPoolSize; }, "the pool to be full");
    const auto syn = make_syn(++client_);
    const int64_t start = clock_.now_ns();
    spawner::SpawnRequest request;
    request.cookie = client_;
    request.services = services_;
    request.service = service;
    request.first_frame = syn;
    request.syn_time_ns = start;
    if (!port().request(std::move(request))) give_up("the spawner takes no request");
    std::optional<spawner::SpawnReply> reply;
    wait([&] { return (reply = port().next_reply()).has_value(); }, "a VM");
    if (reply->outcome != spawner::SpawnOutcome::kServed) give_up(reply->error);
    if (reply->pooled != (service == kPooled)) give_up("a VM of the other kind");
    size_t length = 0;
    wait([&] { return (length = reply->vif->receive(buffer_)) > 0; }, "an answer");
    const int64_t end = clock_.now_ns();
    if (!is_synack(std::span(buffer_).first(length))) give_up("the answer is no SYN/ACK");
    port().give_back({.vm = reply->vm, .vif = std::move(reply->vif)});
    return static_cast<double>(end - start) / static_cast<double>(kNsPerUs);
  }

 private:
  static constexpr uint32_t kPoolSize = 1;

  static policies::PolicySpec policy() {
    policies::PolicySpec spec;
    spec.services.resize(2);
    for (policies::Service& service : spec.services) service.image = policies::kImageResponder;
    spec.services[kCold].name = "cold";
    spec.services[kPooled].name = "pooled";
    spec.services[kPooled].pool = {.min = kPoolSize, .max = kPoolSize};
    return spec;
  }

  WorkerPort& port() { return spawner_->port(WorkerId(0)); }

  /// As a worker waits that has traffic: without sleeping.
  template <class Condition>
  void wait(Condition condition, const char* what) {
    const int64_t end = clock_.now_ns() + kPatienceNs;
    while (!condition()) {
      if (clock_.now_ns() > end) give_up(fmt::format("waited too long for {}", what));
      ::sched_yield();
    }
  }

  const SteadyClock clock_;
  std::unique_ptr<spawner::Hypervisor> hypervisor_;
  std::unique_ptr<spawner::Spawner> spawner_;
  std::shared_ptr<const spawner::ServiceSet> services_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(backend::kMaxFrameBytes);
  uint32_t client_ = 0;
};

/// `crun run` of a bundle whose root has one program: this very one, which ends at once when it is called
/// "true".
class Crun {
 public:
  static bool is_here() { return run({"crun", "--version"}) == 0; }

  Crun() : bundle_(fs::temp_directory_path() / fmt::format("synfluid-bench-{}", ::getpid())) {
    fs::create_directories(bundle_ / "rootfs/bin");
    find_cgroups();
    fs::copy_file("/bin/busybox", bundle_ / "rootfs/bin/true");
    if (run({"crun", "spec", "--bundle", bundle_.string()}) != 0) give_up("crun writes no bundle");
    nlohmann::json config = nlohmann::json::parse(std::ifstream(bundle_ / "config.json"));
    config["process"]["terminal"] = false;
    config["process"]["args"] = {"/bin/true"};
    std::ofstream(bundle_ / "config.json") << config;
  }
  ~Crun() { fs::remove_all(bundle_); }
  Crun(const Crun&) = delete;
  Crun& operator=(const Crun&) = delete;

  double run_us() {
    const std::string name = fmt::format("synfluid-bench-{}-{}", ::getpid(), ++number_);
    const int64_t start = clock_.now_ns();
    const int status = run({"crun", "--cgroup-manager=disabled", "run", "--bundle", bundle_.string(), name});
    const int64_t end = clock_.now_ns();
    if (status != 0) give_up(fmt::format("crun run ends with {}", status));
    return static_cast<double>(end - start) / static_cast<double>(kNsPerUs);
  }

 private:
  /// crun refuses a host whose cgroups are of both versions: it is shown a mount of version 2 alone, seen by
  /// this program and its children only.
  static void find_cgroups() {
    struct statfs info {};
    if (::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC) return;
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      give_up("crun needs cgroups of version 2, which only root can mount");
    if (::umount2("/sys/fs/cgroup", MNT_DETACH) != 0 ||
        ::mount("none", "/sys/fs/cgroup", "cgroup2", 0, nullptr) != 0)
      give_up("cannot mount cgroups of version 2 for crun");
  }

  static int run(std::vector<std::string> words) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return -1;
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  const SteadyClock clock_;
  const fs::path bundle_;
  int number_ = 0;
};

double ratio(const std::vector<double>& theirs, const std::vector<double>& ours) {
  return median(theirs) / median(ours);
}

void add_ours(Report& report, const std::string& name, const std::vector<double>& samples,
              const std::vector<double>& crun) {
  Figure figure = Figure::of(fmt::format("{}_synack_us", name), "us", samples);
  if (!crun.empty()) figure.peer = {"crun run", median(crun), ratio(crun, samples)};
  report.add(figure);
  if (crun.empty()) return;
  Figure over;
  over.name = fmt::format("crun_over_{}", name);
  over.value = ratio(crun, samples);
  over.unit = "times";
  report.add(over);
}

int bench(const Options& options) {
  // Before there are threads: a mount namespace can only be left alone.
  std::optional<Crun> crun;
  if (Crun::is_here()) {
    crun.emplace();
  } else {
    std::cerr << "containers: crun is not installed (apt-get install crun): no peer\n";
  }
  Ours ours;
  std::vector<double> cold;
  std::vector<double> pooled;
  std::vector<double> peer;
  for (int round = 0; round < options.rounds; ++round) {
    cold.push_back(ours.synack_us(kCold));
    pooled.push_back(ours.synack_us(kPooled));
    if (crun) peer.push_back(crun->run_us());
  }
  Report report("containers", ClockKind::kWall);
  report.set_parameter("rounds", options.rounds);
  add_ours(report, "process_cold", cold, peer);
  add_ours(report, "process_pooled", pooled, peer);
  if (crun) report.add(Figure::of("crun_run_us", "us", peer));
  if (const Status written = report.write(options.json); !written) give_up(written.error().text());
  return 0;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("SYN to SYN/ACK of a guest process, cold and pooled, beside `crun run` of /bin/true");
  app.add_option("--json", options.json, "Write the figures as JSON to this file, or - for standard output");
  app.add_option("--rounds", options.rounds, "How often each is done")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return synfluid::bench::bench(options);
}
