// What does a packet of an established bypass flow cost in the worker, and how much slower is that than a
// forwarder that looks nothing up?
//
// "memory": the worker's own stages between two ports made of memory. Frames are written outside the clock,
// 512 at a time, of random flows and in both directions. Cycles of the time stamp counter per packet, by the
// median over the groups; workers that know few flows and many take turns, and "growth" is the median of the
// rounds' ratios. "pcap": DPDK's net_pcap port deals a capture over and over (each of its flows once,
// in random order), net_null takes what comes out; dpdk-testpmd does the same with macswap on the same ports,
// in turns with us, and all of it on ports that are opened some times. There the CPU time of the forwarding
// thread counts, so that a busy machine is unfair to neither. What memory alone allows there is shown by a
// third, which does nothing but read, for each packet, one line out of as many as the tags of its flows take
// up. "memif": the same two between ports of net_memif, which have somebody at their other end; it is he who
// holds the clock (fastpath_memif.h).
#include <algorithm>
#include <atomic>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <rte_cycles.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/cpus.h"
#include "bench/fastpath_memif.h"
#include "bench/flow_frames.h"
#include "bench/report.h"
#include "bench/testpmd.h"
#include "flowtable/search.h"
#include "gateway/eal.h"
#include "gateway/ports.h"
#include "gateway/worker.h"

namespace synfluid::bench {
namespace {

using gateway::kBurst;
using gateway::Side;
using gateway::Worker;

constexpr size_t kGroup = 512;
constexpr size_t kGroups = 500;
constexpr size_t kMemoryRounds = 15;
constexpr double kLoad = 0.8;
constexpr uint32_t kFrameRoom = 128 + 128;  ///< DPDK's headroom, and two lines
constexpr size_t kTurnsPerLook = 64;

struct Options {
  std::string json;
  std::vector<uint64_t> flows{1'000, 1'000'000, 10'000'000};
  int rounds = 7;
  int openings = 3;
  double seconds = 0.5;
  bool testpmd = true;
  uint64_t seed = 1;
};

/// The ports of a worker, which change while it stays.
class SwitchIo final : public gateway::PacketIo {
 public:
  void set(gateway::PacketIo& io) { io_ = &io; }
  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override { return io_->rx_burst(side, out); }
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override {
    return io_->tx_burst(side, frames);
  }

 private:
  gateway::PacketIo* io_ = nullptr;
};

std::shared_ptr<const policies::Policy> bypass_policy() {
  return std::make_shared<const policies::Policy>(policies::PolicySpec{});
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// A worker that knows so many flows.
class Bench {
 public:
  Bench(rte_mempool& pool, uint64_t flows, uint64_t seed)
      : flows_(flows),
        random_(seed),
        memory_(pool, 2 * kGroup),
        policy_(bypass_policy()),
        plans_({.services = std::make_shared<const spawner::ServiceSet>(
                    policy_, std::vector<std::unique_ptr<spawner::PreparedImage>>{}, 1u)}),
        admission_(spawner::Admission::Config{.limits = policy_->limits()}) {
    io_.set(memory_);
    auto made =
        Worker::create({.id = WorkerId(0),
                        .io = io_,
                        .pool = pool,
                        .plans = plans_,
                        .traffic_clock = clock_,
                        .waiting_clock = clock_,
                        .admission = admission_,
                        .flow_capacity = static_cast<uint32_t>(static_cast<double>(flows) / kLoad) + 1,
                        .secret = {random_(), random_()}});
    if (!made) throw std::runtime_error(made.error().text());
    worker_ = std::move(*made);
    send_of_each(tcp_flag::kSyn);
    send_of_each(tcp_flag::kAck);
    if (worker_->table_stats().size != flows_) throw std::runtime_error("not every flow has found an entry");
  }

  /// Cycles per packet, a sample per group.
  std::vector<double> memory_cycles() {
    std::vector<double> samples;
    for (size_t group = 0; group < kGroups; ++group) {
      for (size_t i = 0; i < kGroup; ++i) {
        const Side side = i % 2 == 0 ? Side::kAccess : Side::kCore;
        memory_.put(side, flow_frame(random_() % flows_, side, tcp_flag::kAck));
      }
      const uint64_t start = rte_rdtsc_precise();
      for (size_t turn = 0; turn < kGroup / (2 * kBurst); ++turn) worker_->turn();
      samples.push_back(static_cast<double>(rte_rdtsc_precise() - start) / kGroup);
    }
    if (memory_.free_frames() != 2 * kGroup) throw std::runtime_error("frames were lost");
    return samples;
  }

  /// Packets per second of CPU time, from `ports` and to them.
  double packets_per_second(gateway::PacketIo& ports, double seconds) {
    io_.set(ports);
    const uint64_t packets = worker_->counters().tx_total();
    const double start = cpu_seconds();
    double spent = 0;
    for (; spent < seconds; spent = cpu_seconds() - start)
      for (size_t turn = 0; turn < kTurnsPerLook; ++turn) worker_->turn();
    io_.set(memory_);
    return static_cast<double>(worker_->counters().tx_total() - packets) / spent;
  }

  void turn_until(gateway::PacketIo& ports, const std::atomic<bool>& done) {
    io_.set(ports);
    while (!done)
      for (size_t turn = 0; turn < kTurnsPerLook; ++turn) worker_->turn();
    io_.set(memory_);
  }

  uint64_t entries() const { return worker_->table_stats().size; }

 private:
  void send_of_each(uint8_t flags) {
    for (uint64_t flow = 0; flow < flows_; ++flow) {
      memory_.put(Side::kAccess, flow_frame(flow, Side::kAccess, flags));
      if (memory_.free_frames() == 0 || flow + 1 == flows_) drain();
    }
  }
  void drain() {
    while (worker_->turn() > 0) {
    }
  }

  const uint64_t flows_;
  std::mt19937_64 random_;
  MemoryIo memory_;
  SwitchIo io_;
  const SteadyClock clock_;
  const std::shared_ptr<const policies::Policy> policy_;
  gateway::PlanBox plans_;
  spawner::Admission admission_;
  std::unique_ptr<Worker> worker_;
};

/// What one line a packet costs and nothing else: each frame sends one of `lines`, at random, on its way into
/// the cache, and is forwarded when all of its burst have been read.
class LineReader {
 public:
  static Result<std::unique_ptr<LineReader>> create(uint64_t flows) {
    // A bucket's line of tags has 24 of them.
    const auto lines = static_cast<size_t>(static_cast<double>(flows) / kLoad / flowtable::kSlots);
    auto memory = flowtable::Pages::map(lines * flowtable::kLine, flowtable::PageSize::kHuge);
    if (!memory) return memory.error();
    return std::unique_ptr<LineReader>(new LineReader(std::move(*memory), lines));
  }

  /// Packets per second of CPU time.
  double packets_per_second(gateway::PacketIo& ports, double seconds) {
    uint64_t packets = 0;
    const double start = cpu_seconds();
    double spent = 0;
    for (; spent < seconds; spent = cpu_seconds() - start)
      for (size_t turn = 0; turn < kTurnsPerLook; ++turn) packets += forward(ports);
    return static_cast<double>(packets) / spent;
  }

 private:
  LineReader(flowtable::Pages memory, size_t lines) : memory_(std::move(memory)), lines_(lines) {
    std::memset(memory_.data(), 0, memory_.size());  // or all would be one page, of zeros
  }

  size_t forward(gateway::PacketIo& ports) {
    std::array<rte_mbuf*, kBurst> frames;
    std::array<const std::byte*, kBurst> lines;
    const size_t count = ports.rx_burst(Side::kAccess, frames);
    for (size_t i = 0; i < count; ++i) {
      uint64_t addresses;
      std::memcpy(&addresses, rte_pktmbuf_mtod_offset(frames[i], std::byte*, kAddressesAt), sizeof addresses);
      lines[i] = line_of(addresses);
      flowtable::prefetch(lines[i]);
    }
    uint8_t sum = 0;
    for (size_t i = 0; i < count; ++i) sum ^= static_cast<uint8_t>(*lines[i]);
    if (sum != 0) return 0;  // they are all zero, which the compiler does not know
    return ports.tx_burst(Side::kCore, std::span(frames).first(count));
  }
  const std::byte* line_of(uint64_t addresses) const {
    constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
    const uint64_t hash = addresses * kOdd >> 32;
    return memory_.data() + (hash * lines_ >> 32) * flowtable::kLine;
  }

  static constexpr size_t kAddressesAt = 26;
  const flowtable::Pages memory_;
  const uint64_t lines_;
};

/// Every flow once, in random order, as packets of the client. Removed with its owner.
class Capture {
 public:
  Capture(uint64_t flows, uint64_t seed) : path_(fmt::format("/tmp/synfluid-fastpath-{}.pcap", getpid())) {
    std::ofstream file(path_, std::ios::binary);
    const auto words = [&file](std::initializer_list<uint32_t> all) {
      for (const uint32_t word : all) file.write(reinterpret_cast<const char*>(&word), sizeof word);
    };
    words({0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1});  // version 2.4, Ethernet
    for (const uint32_t flow : shuffled_flows(flows, seed)) {
      const FlowFrame frame = flow_frame(flow, Side::kAccess, tcp_flag::kAck);
      words({0, 0, kFrameBytes, kFrameBytes});
      file.write(reinterpret_cast<const char*>(frame.data()), kFrameBytes);
    }
    file.close();
    if (!file) throw std::runtime_error("writing " + path_);
  }
  ~Capture() { std::remove(path_.c_str()); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /// The ports of both forwarders, by other names each time that they are opened.
  std::vector<std::string> vdevs(int opening) const {
    return {fmt::format("net_pcap{},rx_pcap={},infinite_rx=1", opening, path_),
            fmt::format("net_null{},no-rx=1", opening)};
  }

 private:
  const std::string path_;
};

uint32_t frames_for(uint64_t flows) {
  return static_cast<uint32_t>(flows) + 16'384;
}

struct PortSamples {
  std::vector<double> ours;
  std::vector<double> theirs;
  std::vector<double> ratios;
  std::vector<double> limits;
};

/// Rounds of all forwarders on ports opened for them.
Status run_opening(const Options& options, Bench& bench, LineReader& reader, rte_mempool& pool,
                   const std::vector<std::string>& vdevs, uint64_t flows, PortSamples& samples) {
  const auto named = [](const std::string& vdev) {
    return gateway::PortName{
        .kind = gateway::PortName::Kind::kVdev, .device = vdev.substr(0, vdev.find(',')), .arguments = vdev};
  };
  auto ports = gateway::Ports::open(named(vdevs[0]), named(vdevs[1]), {.pool = pool});
  if (!ports) return ports.error();
  auto peer = Testpmd::create({.vdevs = vdevs,
                               .frames = frames_for(flows),
                               .frame_room = kFrameRoom,
                               .memory_mib = 1024,
                               .burst = kBurst});
  if (!peer) return peer.error();
  gateway::PacketIo& io = (*ports)->io(0);
  const auto window = static_cast<int64_t>(options.seconds * kNsPerSecond);
  for (int round = 0; round < options.rounds; ++round) {
    // Each runs once more before it counts: the capture is the reader's and ours in common, and would be in
    // the caches for whoever comes behind the other.
    bench.packets_per_second(io, options.seconds / 2);
    samples.ours.push_back(bench.packets_per_second(io, options.seconds) / 1e6);
    if (auto warm = (*peer)->run(window / 2); !warm) return warm.error();
    const auto run = (*peer)->run(window);
    if (!run) return run.error();
    samples.theirs.push_back(static_cast<double>(run->packets) / run->cpu_seconds / 1e6);
    reader.packets_per_second(io, options.seconds / 2);
    samples.limits.push_back(reader.packets_per_second(io, options.seconds) / 1e6 / samples.theirs.back());
    samples.ratios.push_back(samples.ours.back() / samples.theirs.back());
  }
  return {};
}

/// Where a forwarder's memory comes to lie is drawn anew with each opening, and counts for more than a round.
Status run_ports(Report& report, const Options& options, Bench& bench, rte_mempool& pool,
                 const Capture& capture, uint64_t flows) {
  auto reader = LineReader::create(flows);
  if (!reader) return reader.error();
  PortSamples samples;
  for (int opening = 0; opening < options.openings; ++opening)
    if (Status done = run_opening(options, bench, **reader, pool, capture.vdevs(opening), flows, samples);
        !done)
      return done;
  if (bench.entries() != flows) return Error(ErrorCode::kSystem, "flows have come or gone");
  report.add(Figure::of("bypass_1m", "M/s", samples.ours));
  report.add(Figure::of("testpmd_macswap", "M/s", samples.theirs));
  Figure ratio = Figure::of("bypass_1m_over_testpmd", "x", samples.ratios);
  ratio.peer = {.name = "dpdk-testpmd macswap", .value = median(samples.theirs), .ratio = ratio.value};
  report.add(std::move(ratio));
  report.add(Figure::of("one_line_over_testpmd", "x", samples.limits));
  return {};
}

Status run_memif(Report& report, const Options& options, Bench& bench, uint64_t flows) {
  const FastpathMemifConfig config{
      .flows = flows, .seed = options.seed, .rounds = options.rounds, .seconds = options.seconds};
  const auto turns = [&bench](gateway::PacketIo& ports, const std::atomic<bool>& done) {
    bench.turn_until(ports, done);
  };
  if (Status done = measure_fastpath_memif(report, config, turns); !done) return done;
  if (bench.entries() != flows) return Error(ErrorCode::kSystem, "flows have come or gone");
  return {};
}

std::string short_name(uint64_t flows) {
  return flows >= 1'000'000 ? fmt::format("{}m", flows / 1'000'000) : fmt::format("{}k", flows / 1'000);
}

void report_cycles(Report& report, const std::map<uint64_t, std::unique_ptr<Bench>>& benches) {
  std::map<uint64_t, std::vector<double>> cycles;
  std::vector<double> growth;
  for (size_t round = 0; round < kMemoryRounds; ++round) {
    for (const auto& [flows, bench] : benches) cycles[flows].push_back(median(bench->memory_cycles()));
    growth.push_back(cycles.rbegin()->second.back() / cycles.begin()->second.back());
  }
  for (const auto& [flows, samples] : cycles)
    report.add(Figure::of("cycles_per_packet_" + short_name(flows), "cycles", samples));
  if (benches.size() > 1)
    report.add(Figure::of(fmt::format("growth_{}_to_{}", short_name(benches.begin()->first),
                                      short_name(benches.rbegin()->first)),
                          "x", growth));
}

Status run_all(const Options& options) {
  constexpr uint64_t kPortFlows = 1'000'000;
  Report report("fastpath", ClockKind::kCycles);
  report.set_parameter("frame_bytes", 64);
  report.set_parameter("burst", kBurst);
  report.set_parameter("load", kLoad);
  report.set_parameter("seconds", options.seconds);
  report.set_parameter("rounds", options.rounds);
  report.set_parameter("openings", options.openings);
  report.set_parameter("seed", options.seed);
  std::unique_ptr<Capture> capture;
  gateway::EalConfig config{.hugepages = gateway::EalConfig::Hugepages::kOff, .memory_mib = 1024};
  if (options.testpmd) {
    capture = std::make_unique<Capture>(kPortFlows, options.seed);
    for (int opening = 0; opening < options.openings; ++opening)
      std::ranges::copy(capture->vdevs(opening), std::back_inserter(config.vdevs));
  }
  const bool memif = options.testpmd && has_both_cpus();
  if (memif) std::ranges::copy(fastpath_memif_vdevs(), std::back_inserter(config.vdevs));
  if (options.testpmd && !memif) std::cerr << "fastpath: memif's figures want two CPUs, and are left out\n";
  auto eal = gateway::Eal::start(config);
  if (!eal) return eal.error();
  report.set_parameter("tsc_mhz", static_cast<double>(rte_get_tsc_hz()) / 1e6);  // which the EAL measures
  auto pool = gateway::make_pool({.name = "fastpath",
                                  .frames = frames_for(options.testpmd ? kPortFlows : 0),
                                  .frame_bytes = kFrameRoom - RTE_PKTMBUF_HEADROOM,
                                  .lcore_cache = 256});
  if (!pool) return pool.error();
  std::map<uint64_t, std::unique_ptr<Bench>> benches;
  for (const uint64_t flows : options.flows) {
    benches[flows] = std::make_unique<Bench>(**pool, flows, options.seed);
    benches[flows]->memory_cycles();  // the first time warms up
  }
  report_cycles(report, benches);
  if (!options.testpmd || !benches.contains(kPortFlows)) return report.write(options.json);
  Bench& bench = *benches[kPortFlows];
  if (Status done = run_ports(report, options, bench, **pool, *capture, kPortFlows); !done) return done;
  if (memif)
    if (Status done = run_memif(report, options, bench, kPortFlows); !done)
      return done.error().within("memif");
  return report.write(options.json);
}

Options parse(CLI::App& app, int argc, char** argv) {
  Options options;
  app.add_option("--json", options.json, "write the figures as JSON to FILE, or - for standard output");
  app.add_option("--flows", options.flows, "numbers of established flows; 1000000 is also run on ports")
      ->delimiter(',')
      ->check(CLI::Range(1'000, 50'000'000));
  app.add_option("--rounds", options.rounds, "of each forwarder on open ports")->check(CLI::Range(1, 1000));
  app.add_option("--openings", options.openings, "of net_pcap's ports, with as many rounds each")
      ->check(CLI::Range(1, 16));
  app.add_option("--seconds", options.seconds, "of each round")->check(CLI::Range(0.01, 60.0));
  app.add_flag("!--no-testpmd", options.testpmd, "the worker's stages alone");
  app.add_option("--seed", options.seed, "of the flows' order");
  app.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  CLI::App app("A packet of an established bypass flow, beside a forwarder that looks nothing up");
  try {
    const auto done = synfluid::bench::run_all(synfluid::bench::parse(app, argc, argv));
    if (done) return 0;
    std::cerr << "fastpath: " << done.error().text() << '\n';
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::cerr << "fastpath: " << error.what() << '\n';
    return 1;
  }
}
