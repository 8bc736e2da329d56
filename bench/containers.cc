// How long until there is somebody to answer: a guest process made for one SYN, beside a container.
//
// Ours: from the SYN handed to the spawner to the SYN/ACK out of the vif, built cold or taken from the pool.
// The peers: crun, runc and LXC running /bin/true, with and without a veth (container_runtimes.h). All take
// turns within each round.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sched.h>

#include "base/clock.h"
#include "bench/container_runtimes.h"
#include "bench/report.h"
#include "bench/syn_frame.h"
#include "spawner/process/process_hypervisor.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"

namespace synfluid::bench {
namespace {

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

struct Peer {
  std::string figure;
  ContainerRuntime* runtime;
  Network network;
  std::vector<double> samples = {};
};

std::vector<Peer> peers_of(const std::vector<std::unique_ptr<ContainerRuntime>>& runtimes) {
  std::vector<Peer> peers;
  for (const auto& runtime : runtimes) {
    peers.push_back({runtime->name() + "_run_us", runtime.get(), Network::kNone});
    peers.push_back({runtime->name() + "_veth_run_us", runtime.get(), Network::kVeth});
  }
  return peers;
}

void run_once(Peer& peer) {
  const auto us = peer.runtime->run_us(peer.network);
  if (!us) give_up(us.error().text());
  peer.samples.push_back(*us);
}

int bench(const Options& options) {
  // Before there are threads: a mount namespace can only be left alone.
  const auto runtimes = container_runtimes();
  if (!runtimes) give_up(runtimes.error().text());
  std::vector<Peer> peers = peers_of(*runtimes);
  if (peers.empty()) std::cerr << "containers: none is installed (apt-get install crun runc lxc): no peer\n";
  Ours ours;
  std::vector<double> cold;
  std::vector<double> pooled;
  for (int round = 0; round < options.rounds; ++round) {
    cold.push_back(ours.synack_us(kCold));
    pooled.push_back(ours.synack_us(kPooled));
    for (Peer& peer : peers) run_once(peer);
  }
  const auto crun = std::ranges::find(peers, "crun_run_us", &Peer::figure);
  const std::vector<double> beside = crun != peers.end() ? crun->samples : std::vector<double>{};
  Report report("containers", ClockKind::kWall);
  report.set_parameter("rounds", options.rounds);
  add_ours(report, "process_cold", cold, beside);
  add_ours(report, "process_pooled", pooled, beside);
  for (const Peer& peer : peers) report.add(Figure::of(peer.figure, "us", peer.samples));
  if (const Status written = report.write(options.json); !written) give_up(written.error().text());
  return 0;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("SYN to SYN/ACK of a guest process, cold and pooled, beside containers that run /bin/true");
  app.add_option("--json", options.json, "Write the figures as JSON to this file, or - for standard output");
  app.add_option("--rounds", options.rounds, "How often each is done")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return synfluid::bench::bench(options);
}
