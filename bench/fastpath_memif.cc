#include "bench/fastpath_memif.h"

#include <array>
#include <cstdio>
#include <future>
#include <memory>

#include <fmt/format.h>
#include <rte_pause.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/cpus.h"
#include "bench/flow_frames.h"
#include "bench/memif_link.h"
#include "bench/testpmd.h"
#include "gateway/eal.h"
#include "gateway/ports.h"

namespace synfluid::bench {
namespace {

using gateway::kBurst;
using gateway::Side;

constexpr size_t kTimed = kMemifSlots - kBurst;  ///< frames of a ring that the clock sees
constexpr size_t kLeastRings = 50;               ///< in a round, or the machine is too busy
constexpr int64_t kPatienceNs = 20 * kNsPerSecond;
/// Between two looks at the index that the device writes: about a microsecond, or the looks would cost it.
constexpr int kPausesPerLook = 16;
constexpr uint32_t kPoolFrames = 16'384;

std::string socket_path(const std::string& device) {
  return fmt::format("/tmp/synfluid-fastpath-{}-{}.memif", getpid(), device);
}

/// Both ports of a device: frames come in by the first and leave by the second.
std::vector<std::string> vdevs_of(const std::string& device) {
  std::vector<std::string> vdevs;
  for (int port = 0; port < 2; ++port)
    vdevs.push_back(fmt::format("net_memif{0},role=server,socket-abstract=no,socket={1},id={0}", port,
                                socket_path(device)));
  return vdevs;
}

/// Done when its owner goes.
class AtTheEnd {
 public:
  explicit AtTheEnd(std::function<void()> what) : what_(std::move(what)) {}
  ~AtTheEnd() { what_(); }
  AtTheEnd(const AtTheEnd&) = delete;
  AtTheEnd& operator=(const AtTheEnd&) = delete;

 private:
  const std::function<void()> what_;
};

/// Every flow once, in random order, as packets of the client.
std::vector<FlowFrame> shuffled_frames(uint64_t flows, uint64_t seed) {
  std::vector<FlowFrame> frames;
  frames.reserve(flows);
  for (const uint32_t flow : shuffled_flows(flows, seed))
    frames.push_back(flow_frame(flow, Side::kAccess, tcp_flag::kAck));
  return frames;
}

/// Of a round: one entry a ring that counts.
struct Rings {
  std::vector<double> device_ns;
  std::vector<double> peer_ns;
  size_t disturbed = 0;

  double device_rate() const { return kTimed / median(device_ns) * 1e3; }
  double peer_rate() const { return kMemifSlots / median(peer_ns) * 1e3; }
};

/// Of the device and the peer.
using Slices = std::array<uint64_t, 2>;
using SliceFiles = std::array<std::string, 2>;

Result<Slices> slices_of(const SliceFiles& files) {
  Slices slices{};
  for (size_t i = 0; i < files.size(); ++i) {
    const auto count = timeslices(files[i]);
    if (!count) return count.error();
    slices[i] = *count;
  }
  return slices;
}

/// What is at the other ends of a device's two ports.
class Peer {
 public:
  static Result<Peer> connect(const std::string& device, const std::vector<FlowFrame>& frames) {
    auto to = MemifLink::connect(socket_path(device), 0);
    if (!to) return to.error();
    auto from = MemifLink::connect(socket_path(device), 1);
    if (!from) return from.error();
    return Peer(std::move(*to), std::move(*from), frames);
  }

  /// Rings for so long. The device's thread has this file.
  Result<Rings> round(double seconds, const std::string& device_schedstat) {
    const OnCpu here(kPeersCpu);
    const SliceFiles files{device_schedstat, own_schedstat()};
    const int64_t start = clock_.now_ns();
    const int64_t end = start + static_cast<int64_t>(seconds * kNsPerSecond);
    Rings rings;
    while (clock_.now_ns() < end || rings.device_ns.size() < kLeastRings) {
      if (Status done = one(rings, files); !done) return done.error();
      if (clock_.now_ns() - start > kPatienceNs)
        return Error(ErrorCode::kTimeout, "the device and its peer hardly ever keep their CPUs");
    }
    return rings;
  }

 private:
  Peer(std::unique_ptr<MemifLink> to, std::unique_ptr<MemifLink> from, const std::vector<FlowFrame>& frames)
      : to_(std::move(to)), from_(std::move(from)), frames_(frames) {}

  Status one(Rings& rings, const SliceFiles& files) {
    const int64_t begun = clock_.now_ns();
    for (size_t i = 0; i < kMemifSlots; ++i) {
      to_->area().put(frames_[next_]);
      next_ = next_ + 1 == frames_.size() ? 0 : next_ + 1;
    }
    const int64_t laid_out = clock_.now_ns();
    const auto before = slices_of(files);
    if (!before) return before.error();
    to_->area().publish(kBurst);
    if (Status back = wait_for(kBurst); !back) return back;
    const int64_t start = clock_.now_ns();
    to_->area().publish(kTimed);
    if (Status back = wait_for(kMemifSlots); !back) return back;
    const int64_t end = clock_.now_ns();
    if (from_->area().take() != kMemifSlots * kFrameBytes)
      return Error(ErrorCode::kSystem, "the device has changed the frames' lengths");
    const auto after = slices_of(files);
    if (!after) return after.error();
    if (*after != *before) {
      ++rings.disturbed;
      return {};
    }
    rings.device_ns.push_back(static_cast<double>(end - start));
    rings.peer_ns.push_back(static_cast<double>(laid_out - begun));
    return {};
  }

  Status wait_for(size_t frames) {
    const int64_t start = clock_.now_ns();
    while (from_->area().arrived() < frames) {
      for (int i = 0; i < kPausesPerLook; ++i) rte_pause();
      if (clock_.now_ns() - start > kPatienceNs)
        return Error(ErrorCode::kTimeout,
                     fmt::format("{} of {} frames have come back", from_->area().arrived(), frames));
    }
    return {};
  }

  const SteadyClock clock_;
  std::unique_ptr<MemifLink> to_;
  std::unique_ptr<MemifLink> from_;
  const std::vector<FlowFrame>& frames_;
  size_t next_ = 0;
};

Result<Rings> our_round(Peer& peer, gateway::PacketIo& ports, const OurTurns& our_turns, double seconds) {
  const OnCpu here(kOurCpu);
  std::atomic<bool> done = false;
  auto rings = std::async(std::launch::async, [&, schedstat = own_schedstat()] {
    const AtTheEnd no_more_turns([&done] { done = true; });
    return peer.round(seconds, schedstat);
  });
  our_turns(ports, done);
  return rings.get();
}

Result<Rings> testpmd_round(Peer& peer, Testpmd& testpmd, double seconds) {
  if (Status begun = testpmd.begin(); !begun) return begun.error();
  auto rings = peer.round(seconds, testpmd.schedstat());
  if (auto ended = testpmd.end(); !ended) return ended.error();
  return rings;
}

Result<std::unique_ptr<gateway::Ports>> open_ports(rte_mempool& pool) {
  const std::vector<std::string> vdevs = fastpath_memif_vdevs();
  const auto access = gateway::parse_port(vdevs[0]);
  const auto core = gateway::parse_port(vdevs[1]);
  if (!access || !core) return (!access ? access : core).error();
  return gateway::Ports::open(*access, *core, {.pool = pool});
}

void add_figures(Report& report, const std::vector<Rings>& ours, const std::vector<Rings>& theirs) {
  std::vector<double> our_rates, their_rates, ratios, peer_rates;
  size_t counted = 0;
  size_t disturbed = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    our_rates.push_back(ours[i].device_rate());
    their_rates.push_back(theirs[i].device_rate());
    ratios.push_back(our_rates.back() / their_rates.back());
    for (const Rings* rings : {&ours[i], &theirs[i]}) {
      peer_rates.push_back(rings->peer_rate());
      counted += rings->device_ns.size();
      disturbed += rings->disturbed;
    }
  }
  report.set_parameter("memif_slots", kMemifSlots);
  report.set_parameter("memif_rings", counted);
  report.set_parameter("memif_rings_disturbed", disturbed);
  report.add(Figure::of("bypass_1m_memif", "M/s", our_rates));
  report.add(Figure::of("testpmd_macswap_memif", "M/s", their_rates));
  Figure ratio = Figure::of("bypass_1m_over_testpmd_memif", "x", ratios);
  ratio.peer = {.name = "dpdk-testpmd macswap", .value = median(their_rates), .ratio = ratio.value};
  report.add(std::move(ratio));
  report.add(Figure::of("memif_peer", "M/s", peer_rates));
}

}  // namespace

std::vector<std::string> fastpath_memif_vdevs() {
  return vdevs_of("ours");
}

Status measure_fastpath_memif(Report& report, const FastpathMemifConfig& config, const OurTurns& our_turns) {
  // Room for what the ports call a buffer: with less, the driver takes its slower way.
  auto pool = gateway::make_pool(
      {.name = "memif", .frames = kPoolFrames, .frame_bytes = kMemifBufferBytes, .lcore_cache = 256});
  if (!pool) return pool.error();
  auto ports = open_ports(**pool);
  if (!ports) return ports.error();
  const AtTheEnd tidy([] { std::remove(socket_path("testpmd").c_str()); });  // it is killed
  auto testpmd = Testpmd::create({.vdevs = vdevs_of("testpmd"),
                                  .frames = kPoolFrames,
                                  .frame_room = kMemifBufferBytes + RTE_PKTMBUF_HEADROOM,
                                  .memory_mib = 256,
                                  .cpu = kOurCpu,
                                  .burst = kBurst,
                                  .links = Testpmd::Links::kComeLater});
  if (!testpmd) return testpmd.error();
  const std::vector<FlowFrame> frames = shuffled_frames(config.flows, config.seed);
  auto our_peer = Peer::connect("ours", frames);
  if (!our_peer) return our_peer.error();
  auto their_peer = Peer::connect("testpmd", frames);
  if (!their_peer) return their_peer.error();
  std::vector<Rings> ours, theirs;
  for (int round = 0; round < config.rounds; ++round) {
    auto our_rings = our_round(*our_peer, (*ports)->io(0), our_turns, config.seconds);
    if (!our_rings) return our_rings.error().within("our worker");
    ours.push_back(std::move(*our_rings));
    auto their_rings = testpmd_round(*their_peer, **testpmd, config.seconds);
    if (!their_rings) return their_rings.error().within("testpmd");
    theirs.push_back(std::move(*their_rings));
  }
  add_figures(report, ours, theirs);
  return {};
}

}  // namespace synfluid::bench
