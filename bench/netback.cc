// How many small packets go through a vif to a guest process, beside DPDK's ways between two processes?
//
// "echoed": a burst goes out while fewer than kWindow frames are under way, and what comes back is counted;
// the guest runs passthrough, the peers are testpmd in io mode. "one_way": frames are sent as fast as they
// are taken; the guest is a responder, which looks at UDP and forgets it, the peers are testpmd in rxonly
// mode. Each frame is copied into the other process's memory by all three. All have one queue of 256, busy on
// both ends, and take turns; wall clock. A ratio is the median of the rounds' ratios. "idle_vifs" is in
// idle_vifs.h. In dom0 it is instructions that are counted instead: netback_lab.h.
#include <array>
#include <iostream>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <rte_ethdev.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/cpus.h"
#include "bench/idle_vifs.h"
#include "bench/instruction_clock.h"
#include "bench/netback_lab.h"
#include "bench/report.h"
#include "bench/shared_port.h"
#include "gateway/eal.h"
#include "spawner/process/process_hypervisor.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"

namespace synfluid::bench {
namespace {

constexpr size_t kBurst = 32;
constexpr size_t kWindow = 192;
constexpr uint16_t kDescriptors = 256;
constexpr size_t kFrameBytes = 60;  ///< 64 with the frame check sequence
constexpr int64_t kPatienceNs = 5 * kNsPerSecond;
/// A path that has lost frames this long gets new ones: testpmd drops what its full ring cannot take.
constexpr int64_t kLostNs = 20 * kNsPerMs;

struct Options {
  std::string json;
  std::string part = "all";
  uint32_t vifs = IdleVifsConfig{}.vifs;
  int rounds = 9;
  double seconds = 0.3;
};

using Frame = std::array<std::byte, kFrameBytes>;

/// UDP from 10.0.0.1 to 192.0.2.1, discard.
Frame udp_frame() {
  Frame frame{};
  const auto put = [&frame](size_t at, std::initializer_list<int> bytes) {
    for (const int byte : bytes) frame[at++] = static_cast<std::byte>(byte);
  };
  put(0, {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00});
  put(14, {0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0x6e, 0xb7, 10, 0, 0, 1, 192, 0, 2, 1});
  put(34, {0x9c, 0x40, 0, 9, 0, 26, 0, 0});
  return frame;
}

/// One end of a path between two processes.
class Path {
 public:
  virtual ~Path() = default;
  /// The other end works in between.
  virtual Status begin() = 0;
  virtual Status end() = 0;
  /// Sends up to kBurst frames; how many were taken.
  virtual size_t send() = 0;
  /// Takes what has come back; how many frames.
  virtual size_t receive() = 0;
};

class VifPath final : public Path {
 public:
  explicit VifPath(std::unique_ptr<backend::Vif> vif) : vif_(std::move(vif)) {}

  size_t send() override {
    size_t sent = 0;
    while (sent < kBurst && vif_->send(frame_)) ++sent;
    vif_->flush();
    return sent;
  }
  size_t receive() override {
    size_t received = 0;
    while (received < kBurst && vif_->receive(buffer_) > 0) ++received;
    vif_->flush();
    return received;
  }
  Status begin() override { return {}; }
  Status end() override { return {}; }

 private:
  std::unique_ptr<backend::Vif> vif_;
  const Frame frame_ = udp_frame();
  std::array<std::byte, backend::kMaxFrameBytes> buffer_;
};

class PortPath final : public Path {
 public:
  PortPath(std::unique_ptr<SharedPort> port, rte_mempool& pool) : port_(std::move(port)), pool_(pool) {}

  Status begin() override { return port_->begin(); }
  Status end() override { return port_->end(); }
  size_t send() override {
    std::array<rte_mbuf*, kBurst> frames;
    if (rte_pktmbuf_alloc_bulk(&pool_, frames.data(), kBurst) != 0) return 0;
    for (rte_mbuf* frame : frames)
      std::memcpy(rte_pktmbuf_append(frame, kFrameBytes), frame_.data(), kFrameBytes);
    const uint16_t sent = rte_eth_tx_burst(port_->number(), 0, frames.data(), kBurst);
    rte_pktmbuf_free_bulk(frames.data() + sent, static_cast<unsigned>(kBurst - sent));
    return sent;
  }
  size_t receive() override {
    std::array<rte_mbuf*, kBurst> frames;
    const uint16_t received = rte_eth_rx_burst(port_->number(), 0, frames.data(), kBurst);
    rte_pktmbuf_free_bulk(frames.data(), received);
    return received;
  }

 private:
  const std::unique_ptr<SharedPort> port_;
  rte_mempool& pool_;
  const Frame frame_ = udp_frame();
};

/// Millions a second.
double measure(Path& path, bool echoed, double seconds) {
  const SteadyClock clock;
  const int64_t start = clock.now_ns();
  const int64_t end = start + static_cast<int64_t>(seconds * kNsPerSecond);
  uint64_t counted = 0;
  uint64_t under_way = 0;
  int64_t heard = start;
  int64_t now = start;
  for (; now < end; now = clock.now_ns()) {
    if (!echoed) {
      counted += path.send();
      path.receive();
      continue;
    }
    if (under_way < kWindow) under_way += path.send();
    const size_t back = path.receive();
    counted += back;
    under_way -= std::min<uint64_t>(under_way, back);
    if (back > 0) heard = now;
    if (now - heard > kLostNs) under_way = 0, heard = now;
  }
  return static_cast<double>(counted) / (static_cast<double>(now - start) / kNsPerSecond) / 1e6;
}

/// Guest processes, one of each service.
class Guests {
 public:
  static Result<std::unique_ptr<Guests>> start() {
    std::unique_ptr<Guests> guests(new Guests());
    auto hypervisor = spawner::make_process_hypervisor({.workers = 1});
    if (!hypervisor) return hypervisor.error();
    guests->hypervisor_ = std::move(*hypervisor);
    auto spawner = spawner::Spawner::create({.hypervisor = *guests->hypervisor_, .clock = guests->clock_});
    if (!spawner) return spawner.error();
    guests->spawner_ = std::move(*spawner);
    policies::PolicySpec spec;
    spec.services.resize(2);
    // Buffers for a queue as long as the peers'.
    for (policies::Service& service : spec.services) service.memory_bytes = uint64_t{2} << 20;
    spec.services[0].name = "echo";
    spec.services[0].image = policies::kImagePassthrough;
    spec.services[0].mode = policies::ServiceMode::kInline;
    spec.services[1].name = "sink";
    spec.services[1].image = policies::kImageResponder;
    auto services = guests->spawner_->prepare(std::make_shared<const policies::Policy>(spec));
    if (!services) return services.error();
    guests->services_ = *services;
    if (Status started = guests->spawner_->start(); !started) return started.error();
    guests->spawner_->activate(guests->services_);
    return guests;
  }

  Result<std::unique_ptr<backend::Vif>> make(bool echoes) {
    spawner::SpawnRequest request;
    request.services = services_;
    request.service = echoes ? 0 : 1;
    request.first_frame = frame_;
    if (!port().request(std::move(request)))
      return Error(ErrorCode::kExhausted, "the spawner takes no request");
    for (const int64_t end = clock_.now_ns() + kPatienceNs; clock_.now_ns() < end;) {
      auto reply = port().next_reply();
      if (!reply) continue;
      if (reply->outcome != spawner::SpawnOutcome::kServed) return Error(ErrorCode::kSystem, reply->error);
      return std::move(reply->vif);
    }
    return Error(ErrorCode::kTimeout, "no guest");
  }

 private:
  spawner::WorkerPort& port() { return spawner_->port(WorkerId(0)); }

  const SteadyClock clock_;
  const Frame frame_ = udp_frame();
  std::unique_ptr<spawner::Hypervisor> hypervisor_;
  std::unique_ptr<spawner::Spawner> spawner_;
  std::shared_ptr<const spawner::ServiceSet> services_;
};

struct Peer {
  std::string name;
  std::string device;
  std::string vdev;       ///< ours
  std::string peer_vdev;  ///< testpmd's
};

/// A pair of each kind for each way, since a port keeps its peer.
std::vector<Peer> peers_of(const std::string& way) {
  const std::string socket = fmt::format("/tmp/synfluid-netback-{}-{}", getpid(), way);
  const int number = way == "echoed" ? 0 : 1;
  return {{"memif", fmt::format("net_memif{}", number),
           fmt::format("net_memif{},role=server,socket-abstract=no,socket={}.memif,rsize=8,id={}", number,
                       socket, number),
           fmt::format("net_memif0,role=client,socket-abstract=no,socket={}.memif,rsize=8,id={}", socket,
                       number)},
          {"virtio_user", fmt::format("net_vhost{}", number),
           fmt::format("net_vhost{},iface={}.vhost,queues=1", number, socket),
           fmt::format("net_virtio_user0,path={}.vhost,queues=1,queue_size={}", socket, kDescriptors)}};
}

Status run_way(Report& report, const Options& options, Guests& guests, rte_mempool& pool,
               const std::string& way) {
  const bool echoed = way == "echoed";
  std::map<std::string, std::unique_ptr<Path>> paths;
  auto vif = guests.make(echoed);
  if (!vif) return vif.error();
  paths["process"] = std::make_unique<VifPath>(std::move(*vif));
  for (const Peer& peer : peers_of(way)) {
    auto port = SharedPort::open({.device = peer.device,
                                  .peer_vdev = peer.peer_vdev,
                                  .forward_mode = echoed ? "io" : "rxonly",
                                  .cpu = kPeersCpu,
                                  .descriptors = kDescriptors},
                                 pool);
    if (!port) return port.error();
    paths[peer.name] = std::make_unique<PortPath>(std::move(*port), pool);
  }
  std::map<std::string, std::vector<double>> samples;
  for (int round = 0; round < options.rounds; ++round)
    for (auto& [name, path] : paths) {
      if (Status begun = path->begin(); !begun) return begun.error();
      measure(*path, echoed, options.seconds / 3);  // both ends have begun
      samples[name].push_back(measure(*path, echoed, options.seconds));
      if (Status ended = path->end(); !ended) return ended.error();
    }
  report.add(Figure::of("process_" + way, "M/s", samples["process"]));
  for (const auto& [name, theirs] : samples) {
    if (name == "process") continue;
    std::vector<double> ratios;
    for (size_t i = 0; i < theirs.size(); ++i) ratios.push_back(samples["process"][i] / theirs[i]);
    Figure ratio = Figure::of(fmt::format("process_over_{}_{}", name, way), "x", ratios);
    ratio.peer = {.name = name, .value = median(theirs), .ratio = ratio.value};
    report.add(std::move(ratio));
  }
  return {};
}

Status run_paths(Report& report, const Options& options) {
  const std::vector<std::string> ways{"echoed", "one_way"};
  gateway::EalConfig config{.hugepages = gateway::EalConfig::Hugepages::kOff, .memory_mib = 128};
  for (const std::string& way : ways)
    for (const Peer& peer : peers_of(way)) config.vdevs.push_back(peer.vdev);
  run_on(kPeersCpu);
  auto guests = Guests::start();  // before DPDK has threads; guests stay on the CPU of who starts them
  if (!guests) return guests.error();
  auto eal = gateway::Eal::start(config);
  if (!eal) return eal.error();
  run_on(kOurCpu);
  auto pool = gateway::make_pool({.name = "netback", .frames = 16'383, .lcore_cache = 256});
  if (!pool) return pool.error();
  report.set_parameter("window", kWindow);
  report.set_parameter("descriptors", kDescriptors);
  for (const std::string& way : ways)
    if (Status done = run_way(report, options, **guests, **pool, way); !done) return done;
  return {};
}

Status run_in_dom0(const Options& options) {
  Report report("netback", detect_clock());
  if (Status done = measure_packets_in_dom0(report, {}); !done) return done;
  return report.write(options.json);
}

Status run_all(const Options& options) {
  if (access("/dev/xen/privcmd", F_OK) == 0) return run_in_dom0(options);
  Report report("netback", ClockKind::kWall);
  report.set_parameter("frame_bytes", 64);
  report.set_parameter("burst", kBurst);
  report.set_parameter("rounds", options.rounds);
  report.set_parameter("seconds", options.seconds);
  if (options.part != "idle")
    if (Status done = run_paths(report, options); !done) return done;
  if (options.part != "paths") {
    const IdleVifsConfig config{.vifs = options.vifs,
                                .rounds = options.rounds,
                                .seconds = options.seconds,
                                .our_cpu = kOurCpu,
                                .guests_cpu = kPeersCpu};
    if (Status done = measure_idle_vifs(report, config); !done) return done;
  }
  return report.write(options.json);
}

Options parse(CLI::App& app, int argc, char** argv) {
  Options options;
  app.add_option("--json", options.json, "write the figures as JSON to FILE, or - for standard output");
  app.add_option("--part", options.part, "paths: beside the peers; idle: among many idle vifs; all")
      ->check(CLI::IsMember({"all", "paths", "idle"}));
  app.add_option("--idle-vifs", options.vifs, "how many vifs there are, of which 10 are busy")
      ->check(CLI::Range(10, 400'000));
  app.add_option("--rounds", options.rounds, "samples of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--seconds", options.seconds, "of each sample")->check(CLI::Range(0.01, 60.0));
  app.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  CLI::App app("Small packets to a guest process and back, beside memif and virtio-user");
  try {
    const auto done = synfluid::bench::run_all(synfluid::bench::parse(app, argc, argv));
    if (done) return 0;
    std::cerr << "netback: " << done.error().text() << '\n';
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::cerr << "netback: " << error.what() << '\n';
    return 1;
  }
}
