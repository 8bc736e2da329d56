// What a cold build costs when many are asked for at once, through the spawner as the gateway runs it.
//
//   build_1_ms                     a VM's build, asked for alone, with the one before gone
//   build_N_ms                     the same for N requests at once
//   turn_N_ms                      from the start of one build to the start of the next: all that a VM costs
//                                  the one core, its first run and the worker's part included
//   per_vm_N_ms                    from the first request to the last reply, over N
//   synack_1_ms                    from the request, alone, to the SYN/ACK: what a turn is, of a VM alone
//   concurrent_N_over_serial       the 99th percentile of build_N_ms over the median of build_1_ms
//   concurrent_N_turn_over_synack  the 99th percentile of turn_N_ms over the median of synack_1_ms
//   answered_N                     of N, those that have answered their SYN
//
// Runs in dom0 as root. The worker, the spawner's thread, Xen and the guests share one core. A guest runs
// when it has been started, before the next build, be it alone or one of many: so builds are compared with
// builds, and turns, which have a guest's first run in them, with the whole of a VM alone.
#include <algorithm>
#include <array>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/instruction_clock.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "bench/xen_guest.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"
#include "spawner/xen/xen_hypervisor.h"

namespace synfluid::bench {
namespace {

constexpr int64_t kPatienceNs = 20 * kNsPerSecond;
constexpr int kWaitMs = 10;
constexpr useconds_t kSettleUs = 500'000;
constexpr std::array<uint32_t, 4> kAtOnce = {1, 10, 100, 1000};

struct Options {
  uint32_t rounds = 100;
  uint64_t memory_kib = 256;
  std::string json;
};

double percentile(std::vector<double> samples, double share) {
  std::sort(samples.begin(), samples.end());
  return samples[std::min(samples.size() - 1,
                          static_cast<size_t>(share * static_cast<double>(samples.size())))];
}

/// Notes when each build begins.
class BuildStarts final : public spawner::Hypervisor {
 public:
  explicit BuildStarts(spawner::Hypervisor& inner) : inner_(inner) {}

  /// Between the builds since the last call. While no build is under way.
  std::vector<double> take_turns_ms() {
    std::vector<double> turns;
    for (size_t i = 1; i < starts_ns_.size(); ++i) turns.push_back(to_ms(starts_ns_[i] - starts_ns_[i - 1]));
    starts_ns_.clear();
    return turns;
  }

  std::string_view name() const override { return inner_.name(); }
  Result<std::unique_ptr<spawner::PreparedImage>> prepare(const spawner::ImageSpec& spec) override {
    return inner_.prepare(spec);
  }
  Result<std::unique_ptr<spawner::Vm>> create(const spawner::PreparedImage& image,
                                              const spawner::VmConfig& config) override {
    starts_ns_.push_back(clock_.now_ns());
    return inner_.create(image, config);
  }
  void destroy_many(std::vector<std::unique_ptr<spawner::Vm>> vms) override {
    inner_.destroy_many(std::move(vms));
  }
  backend::DoorbellSet& doorbells(WorkerId worker) override { return inner_.doorbells(worker); }
  int event_fd() const override { return inner_.event_fd(); }
  std::optional<spawner::VmEvent> next_event() override { return inner_.next_event(); }
  bool work_ahead() override { return inner_.work_ahead(); }
  Result<uint64_t> memory_left() override { return inner_.memory_left(); }
  Result<uint32_t> sweep() override { return inner_.sweep(); }

 private:
  const SteadyClock clock_;
  spawner::Hypervisor& inner_;
  std::vector<int64_t> starts_ns_;
};

struct Burst {
  std::vector<double> build_ms;
  std::vector<double> turn_ms;
  double per_vm_ms = 0;
  double synack_ms = 0;  ///< of the last of them
  uint32_t answered = 0;
};

/// A worker that asks for VMs and counts their answers.
class Worker {
 public:
  Worker(spawner::Spawner& spawner, BuildStarts& hypervisor,
         std::shared_ptr<const spawner::ServiceSet> services)
      : spawner_(spawner), hypervisor_(hypervisor), services_(std::move(services)) {}

  Result<Burst> ask(uint32_t count) {
    std::vector<std::array<std::byte, kSynBytes>> syns;
    for (uint32_t i = 0; i < count; ++i) syns.push_back(make_syn(++client_));
    const int64_t begin = clock_.now_ns();
    for (uint32_t i = 0; i < count; ++i) {
      spawner::SpawnRequest request;
      request.cookie = i;
      request.services = services_;
      request.doorbell = i;
      request.first_frame = syns[i];
      request.syn_time_ns = begin;
      if (!port().request(std::move(request)))
        return Error(ErrorCode::kExhausted, "the request ring is full");
    }
    Burst burst;
    std::vector<spawner::SpawnReply> replies;
    if (!wait([&] { return take_replies(replies) == count; }))
      return Error(ErrorCode::kTimeout, fmt::format("{} of {} replies", replies.size(), count));
    burst.per_vm_ms = to_ms(clock_.now_ns() - begin) / count;
    for (const auto& reply : replies) {
      if (reply.outcome != spawner::SpawnOutcome::kServed)
        return Error(ErrorCode::kSystem, "no VM: " + reply.error);
      burst.build_ms.push_back(to_ms(reply.create_ns));
    }
    for (auto& reply : replies)
      if (wait([&] { return reply.vif->receive(frame_) != 0; })) ++burst.answered;
    burst.synack_ms = to_ms(clock_.now_ns() - begin);
    for (auto& reply : replies)
      if (!wait([&] { return port().give_back({.vm = reply.vm, .vif = std::move(reply.vif)}); }))
        return Error(ErrorCode::kTimeout, "the spawner takes no VM back");
    if (!wait([&] { return spawner_.counters().vms == 0; }))
      return Error(ErrorCode::kTimeout, "the VMs are not taken down");
    burst.turn_ms = hypervisor_.take_turns_ms();
    return burst;
  }

 private:
  spawner::WorkerPort& port() { return spawner_.port(kWorker); }

  size_t take_replies(std::vector<spawner::SpawnReply>& into) {
    port().before_sleep();
    while (auto reply = port().next_reply()) into.push_back(std::move(*reply));
    return into.size();
  }

  template <class Condition>
  bool wait(Condition condition) {
    const int64_t end = clock_.now_ns() + kPatienceNs;
    while (!condition()) {
      if (clock_.now_ns() > end) return false;
      std::array<backend::DoorbellToken, 64> tokens;
      pollfd fds[] = {{.fd = port().wake_fd(), .events = POLLIN, .revents = 0},
                      {.fd = hypervisor_.doorbells(kWorker).fd(), .events = POLLIN, .revents = 0}};
      ::poll(fds, std::size(fds), kWaitMs);
      hypervisor_.doorbells(kWorker).collect(tokens);
    }
    return true;
  }

  const SteadyClock clock_;
  spawner::Spawner& spawner_;
  BuildStarts& hypervisor_;
  std::shared_ptr<const spawner::ServiceSet> services_;
  std::array<std::byte, backend::kMaxFrameBytes> frame_;
  uint32_t client_ = 0;
};

policies::PolicySpec policy(const Options& options) {
  policies::PolicySpec spec;
  spec.services.resize(1);
  spec.services[0].name = "concurrency";
  spec.services[0].image = policies::kImageResponder;
  spec.services[0].memory_bytes = options.memory_kib << 10;
  return spec;
}

Status measure(Worker& worker, const Options& options, Report& report) {
  double serial_build = 0;
  double serial_synack = 0;
  for (const uint32_t count : kAtOnce) {
    usleep(kSettleUs);  // the spawner's idle turns
    std::vector<double> builds;
    std::vector<double> turns;
    std::vector<double> per_vm;
    std::vector<double> synack;
    uint32_t answered = 0;
    const uint32_t rounds = std::max(options.rounds / count, 1u);
    for (uint32_t round = 0; round < rounds; ++round) {
      auto burst = worker.ask(count);
      if (!burst) return burst.error().within(fmt::format("{} at once", count));
      builds.insert(builds.end(), burst->build_ms.begin(), burst->build_ms.end());
      turns.insert(turns.end(), burst->turn_ms.begin(), burst->turn_ms.end());
      per_vm.push_back(burst->per_vm_ms);
      synack.push_back(burst->synack_ms);
      answered += burst->answered;
    }
    if (count == 1) {
      serial_build = median(builds);
      serial_synack = median(synack);
      report.add(Figure::of("synack_1_ms", "ms", std::move(synack)));
    }
    const double worst = percentile(builds, 0.99);
    report.add(Figure::of(fmt::format("build_{}_ms", count), "ms", std::move(builds)));
    report.add(Figure::of(fmt::format("per_vm_{}_ms", count), "ms", std::move(per_vm)));
    report.add(Figure::of(fmt::format("answered_{}", count), "VMs",
                          {static_cast<double>(answered) / static_cast<double>(rounds)}));
    if (count == 1) continue;
    const double worst_turn = percentile(turns, 0.99);
    report.add(Figure::of(fmt::format("turn_{}_ms", count), "ms", std::move(turns)));
    report.add(Figure::of(fmt::format("concurrent_{}_over_serial", count), "", {worst / serial_build}));
    report.add(
        Figure::of(fmt::format("concurrent_{}_turn_over_synack", count), "", {worst_turn / serial_synack}));
  }
  return {};
}

Status run(const Options& options) {
  auto hypervisor = spawner::open_xen_hypervisor({.workers = 1});
  if (!hypervisor) return hypervisor.error();
  if (auto swept = (*hypervisor)->sweep(); !swept) return swept.error();
  const SteadyClock clock;
  BuildStarts builds(**hypervisor);
  auto spawner = spawner::Spawner::create({.hypervisor = builds, .clock = clock});
  if (!spawner) return spawner.error();
  auto services = (*spawner)->prepare(std::make_shared<const policies::Policy>(policy(options)));
  if (!services) return services.error();
  Report report("concurrency", detect_clock());
  report.set_parameter("rounds", options.rounds);
  report.set_parameter("memory_kib", options.memory_kib);
  if (Status started = (*spawner)->start(); !started) return started;
  (*spawner)->activate(*services);
  Worker worker(**spawner, builds, *services);
  if (auto warm = worker.ask(3); !warm) return warm.error();
  const Status measured = measure(worker, options, report);
  (*spawner)->stop();
  if (!measured) return measured;
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("Asks the spawner for 1, 10, 100 and 1,000 VMs at once; in dom0, as root");
  app.add_option("--rounds", options.rounds, "builds of each kind at the least")->check(CLI::PositiveNumber);
  app.add_option("--memory", options.memory_kib, "memory of each, KiB");
  app.add_option("--json", options.json, "write the figures there as JSON; - for standard output");
  CLI11_PARSE(app, argc, argv);
  const auto status = synfluid::bench::run(options);
  if (status) return 0;
  std::cerr << "concurrency: " << status.error().text() << '\n';
  return 1;
}
