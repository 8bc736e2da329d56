#include "gateway/replay.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_map>

#include <fmt/format.h>

#include "gateway/client_player.h"
#include "gateway/partial_checksum.h"
#include "gateway/pcap_source.h"
#include "gateway/pcapng_writer.h"
#include "gateway/progress.h"
#include "gateway/replay_report.h"
#include "gateway/replay_rig.h"

namespace synfluid::gateway {

namespace {

/// An inline VM may keep a packet, or drop it; the trace goes on after so long.
constexpr int64_t kInlineWaitNs = 20 * kNsPerMs;
/// How long a played server may take for the answer that the trace's server gave.
constexpr int64_t kAnswerWaitNs = 20 * kNsPerMs;
/// Turns without work before the loop sleeps: guests answer within microseconds, but need a CPU to do it.
constexpr int kIdleTurns = 20;
constexpr int64_t kSleepNs = 500 * kNsPerUs;
/// Between two loops of a trace, beside what the policy waits for: flows in the bypass end by then.
constexpr int64_t kLoopGapNs = 300 * kNsPerSecond;
/// Traffic time passes in steps, since an end may start the wait for another one (a flow's last packet, its
/// idle time, its VM's). They grow with what has passed: a trace may be silent for years.
constexpr int64_t kStepNs = kNsPerSecond;
constexpr int64_t kStepsOfPast = 256;
/// A worker gives the last frames of a reset flow a moment of waiting time, and a VM takes one to be
/// destroyed.
constexpr int64_t kMomentNs = kNsPerSecond;
/// Traffic time stands still from here on, so that the time-outs added to it do not overflow.
constexpr int64_t kEndOfTimeNs = INT64_MAX / 2;

/// After so long without traffic nothing is left of it: flows idle, then their VMs, and all rates recover.
int64_t loop_gap_ns(const policies::Policy& policy) {
  int64_t longest_ns = 0;
  for (const policies::Service& service : policy.services())
    longest_ns = std::max(longest_ns, 2 * service.idle_timeout_ns);
  for (const auto& rate : {policy.limits().spawn_rate, policy.limits().per_subscriber.spawn_rate})
    if (rate) longest_ns = std::max(longest_ns, rate->per_ns);
  return kLoopGapNs + longest_ns;
}

class Replayer {
 public:
  Replayer(const ReplayConfig& config, const TraceFile& trace, const Interrupt& interrupt, ReplayRig& rig,
           uint64_t packets, std::unique_ptr<PcapngWriter> out)
      : config_(config),
        trace_(trace),
        interrupt_(interrupt),
        rig_(rig),
        out_(std::move(out)),
        progress_("replay", packets * config.loops) {
    rig_.io->set_sink([this](Side side, std::span<const std::byte> frame) { frame_left(side, frame); });
    rig_.records.set_end_listener([this](const FlowKey& key) {
      if (ClientPlayer* player = player_of(key)) player->end();
    });
  }

  Status run() {
    started_ns_ = rig_.wall.now_ns();
    for (uint32_t loop = 0; loop < config_.loops && !ended(); ++loop)
      if (Status played = play_once(); !played) return played;
    settle(nullptr);
    wait_for([this] { return false; }, kInlineWaitNs);  // the last frames of inline VMs
    stop();
    if (out_) return out_->close();
    return {};
  }

  ReplayTotals totals() const {
    ReplayTotals t;
    t.trace_file = config_.trace;
    t.policy_file = config_.policy_file;
    t.trace_packets = trace_packets_;
    t.malformed = malformed_;
    t.trace_skipped = skipped_;
    t.client_crafted = crafted_;
    t.loops = config_.loops;
    t.seed = config_.seed;
    t.wall_seconds = static_cast<double>(rig_.wall.now_ns() - started_ns_) / kNsPerSecond;
    if (!rig_.spawner) return t;
    const spawner::SpawnerCounters c = rig_.spawner->counters();
    t.vms_spawned = c.spawned;
    t.vms_failed = c.failed + c.crashed;
    t.vms_destroyed = c.destroyed;
    t.vms_peak = c.peak;
    return t;
  }

 private:
  /// Nothing more is to be played, or could be told.
  bool ended() const { return interrupt_.came() || (out_ && out_->failed()); }

  Status play_once() {
    auto source = PcapSource::open(trace_);
    if (!source) return source.error();
    tracker_.forget();
    progress_of_.clear();
    players_.clear();
    heard_before_.clear();
    silent_.clear();
    stream_of_.clear();
    if (trace_packets_ > 0) {
      pass_time(last_ns_ + loop_gap_ns(*config_.policy));
      wait_for([this] { return rig_.admission->vms() == 0; }, kMomentNs);  // they take a moment to die
    }
    std::optional<int64_t> first_ns;
    const int64_t base_ns = last_ns_;
    const int64_t wall_start_ns = rig_.wall.now_ns();
    while (!ended()) {
      auto frame = (*source)->next();
      if (!frame) return frame.error();
      if (!*frame) return {};
      if (!first_ns) first_ns = (*frame)->time_ns;
      file_time_ns_ = (*frame)->time_ns;
      const int64_t offset_ns = std::clamp<int64_t>(file_time_ns_ - *first_ns, 0, kEndOfTimeNs);
      if (config_.speed) keep_pace(wall_start_ns, static_cast<double>(offset_ns) / *config_.speed);
      if (ended()) break;
      pass_time(base_ns + offset_ns);
      play(**frame);
      ++trace_packets_;
      progress_.at(trace_packets_, rig_.wall.now_ns());
    }
    return {};
  }

  /// Moves traffic time on, and lets everything that ends by it end before the next packet.
  void pass_time(int64_t to_ns) {
    to_ns = std::min(to_ns, kEndOfTimeNs);
    const int64_t from_ns = last_ns_;
    // By then the last frames of reset flows are long through, however fast the trace is played.
    if (to_ns - from_ns >= kStepNs) wait_for([this] { return !rig_.worker->waits(); }, kMomentNs);
    while (last_ns_ < to_ns) {
      const int64_t step_ns = std::max(kStepNs, (last_ns_ - from_ns) / kStepsOfPast);
      advance(std::min(to_ns - last_ns_, step_ns));
    }
  }

  /// The flow table does a bounded amount of work at a time: on until it finds nothing.
  void advance(int64_t step_ns) {
    rig_.trace_clock->advance(step_ns);
    last_ns_ += step_ns;
    const auto visits = [this] {
      const flowtable::TableStats stats = rig_.worker->table_stats();
      return stats.expired + stats.rearmed;
    };
    uint64_t before = 0;
    do {
      before = visits();
      turn();
    } while (visits() != before);
  }

  void keep_pace(int64_t start_ns, double offset_ns) {
    const int64_t until_ns = start_ns + std::llround(std::min(offset_ns, static_cast<double>(kEndOfTimeNs)));
    while (rig_.wall.now_ns() < until_ns && !ended())
      if (turn() == 0) rig_.worker->sleep(std::min(kSleepNs, until_ns - rig_.wall.now_ns()));
  }

  void play(const TraceFrame& traced) {
    // A trace taken on the sender has checksums that its network card would have completed.
    wire_frame_.assign(traced.bytes.begin(), traced.bytes.end());
    complete_ipv4_checksum(wire_frame_);
    complete_partial_checksum(wire_frame_);
    TraceFrame frame = traced;
    frame.bytes = wire_frame_;
    const ParsedPacket packet = parse_packet(frame.bytes);
    malformed_.see(traced, packet.kind);
    if (packet.kind != PacketKind::kTcp) return inject(side_of_other(frame.bytes), frame.bytes);
    const StreamTracker::Seen seen = tracker_.see(packet);
    const Stream& stream = tracker_.stream(seen.stream);
    const Side side = side_of(packet, seen.from_initiator);
    if (seen.is_new && stream.begins_with_syn) begin_flow(frame, packet, seen.stream);
    if (const auto player = players_.find(seen.stream); player != players_.end() && !first_syn(seen, stream))
      return play_client(*player->second, frame, packet, seen);
    account(packet, seen);
    const WorkerCounters& c = rig_.worker->counters();
    const uint64_t returned = c.from_vm.get();
    const uint64_t given = c.to_vm.get() + c.held.get();
    inject(side, frame.bytes);
    settle(nullptr);
    if (c.to_vm.get() + c.held.get() > given)
      wait_for([&] { return c.from_vm.get() > returned; }, kInlineWaitNs);
    if (first_syn(seen, stream)) keep_player_if_served(packet, seen.stream);
  }

  static bool first_syn(const StreamTracker::Seen& seen, const Stream& stream) {
    return seen.is_new && stream.begins_with_syn;
  }

  void begin_flow(const TraceFrame& frame, const ParsedPacket& syn, uint32_t stream) {
    rig_.records.begin(syn, stream);
    const Endpoint source = syn.flow.source();
    const Endpoint destination = syn.flow.destination();
    const policies::Verdict verdict = config_.policy->classify(
        {source.address, destination.address, source.port, destination.port, syn.flow.key.vlan});
    if (verdict.kind != policies::Verdict::Kind::kService) return;
    if (config_.policy->services()[verdict.service].mode != policies::ServiceMode::kTerminate) return;
    const Side side = side_of(syn, true);
    players_[stream] = std::make_unique<
        ClientPlayer>(frame.bytes, syn, [this, side](std::span<const std::byte> made) {
      ++crafted_;
      made_.push_back({side, {made.begin(), made.end()}});  // we may be in the middle of the worker's turn
    });
    stream_of_[syn.flow.key] = stream;
  }

  /// A flow that got no VM goes on as the trace has it.
  void keep_player_if_served(const ParsedPacket& syn, uint32_t stream) {
    const FlowRecord* record = rig_.records.current(syn.flow.key);
    if (record == nullptr || !record->served) players_.erase(stream);
  }

  void play_client(ClientPlayer& player, const TraceFrame& frame, const ParsedPacket& packet,
                   const StreamTracker::Seen& seen) {
    ++skipped_;
    if (!seen.from_initiator) {
      // The trace's server has spoken, so the client heard it before it goes on; ours gets a moment to do the
      // same.
      if (packet.payload_length == 0 || player.is_over()) return;
      const uint64_t heard = player.bytes_from_vm();
      if (heard == heard_before_[seen.stream] && !silent_[seen.stream])
        silent_[seen.stream] =
            !wait_for([&] { return player.bytes_from_vm() > heard || player.is_over(); }, kAnswerWaitNs);
      return;
    }
    if (packet.payload_length > 0) heard_before_[seen.stream] = player.bytes_from_vm();
    player.trace_packet(frame.bytes, packet, rig_.wall.now_ns());
    settle(&player);
  }

  /// Where the bytes and the end of a flow without a VM are known from.
  void account(const ParsedPacket& packet, const StreamTracker::Seen& seen) {
    FlowRecord* const record = rig_.records.current(packet.flow.key);
    if (record == nullptr || record->stream != seen.stream) return;
    (seen.from_initiator ? record->bytes_from_client : record->bytes_from_server) += packet.payload_length;
    const FlowEnd end = progress_of_[seen.stream].see(packet);
    if (!record->vm && record->end == FlowEnd::kOpen) record->end = end;
  }

  void inject(Side side, std::span<const std::byte> frame) {
    while (!rig_.io->inject(side, frame)) {
      // Only when the pool is empty for a moment: the frames in it are on their way out.
      if (turn() == 0) rig_.worker->sleep(kSleepNs);
    }
  }

  size_t turn() {
    for (; !made_.empty() && rig_.io->inject(made_.front().side, made_.front().bytes); made_.pop_front())
      continue;
    size_t moved = rig_.worker->turn();
    if (rig_.spawner && rig_.spawner->step()) ++moved;
    return moved;
  }

  /// Until all that was put in has had its effect.
  void settle(ClientPlayer* player) {
    int idle = 0;
    for (;;) {
      if (turn() > 0) idle = 0;
      if (player != nullptr) player->tick(rig_.wall.now_ns());
      const Worker& w = *rig_.worker;
      if (made_.empty() && rig_.io->empty() && w.requests_open() == 0 && w.backlogged() == 0 &&
          w.pending() == 0 && (player == nullptr || player->idle()))
        return;
      if (++idle > kIdleTurns) rig_.worker->sleep(kSleepNs);
    }
  }

  template <class Done>
  bool wait_for(Done&& done, int64_t longest_ns) {
    const int64_t until_ns = rig_.wall.now_ns() + longest_ns;
    int idle = 0;
    while (!done()) {
      if (rig_.wall.now_ns() >= until_ns) return false;
      idle = turn() > 0 ? 0 : idle + 1;
      if (idle > kIdleTurns) rig_.worker->sleep(kSleepNs);
    }
    return true;
  }

  void stop() {
    rig_.worker->begin_stop();
    while (!rig_.worker->stopped()) turn();
    while (turn() > 0) continue;
    if (rig_.spawner) rig_.spawner->stop();
  }

  void frame_left(Side side, std::span<const std::byte> frame) {
    if (out_) out_->write(side, file_time_ns_, frame);
    const ParsedPacket packet = parse_packet(frame);
    if (packet.kind != PacketKind::kTcp) return;
    ClientPlayer* const player = player_of(packet.flow.key);
    if (player == nullptr || player->is_client(packet.flow.source())) return;
    player->vm_packet(frame, packet, rig_.wall.now_ns());
  }

  ClientPlayer* player_of(const FlowKey& key) {
    const auto stream = stream_of_.find(key);
    if (stream == stream_of_.end()) return nullptr;
    const auto player = players_.find(stream->second);
    return player == players_.end() ? nullptr : player->second.get();
  }

  Side side_of(const ParsedPacket& packet, bool from_initiator) const {
    if (in_access(packet.flow.source().address)) return Side::kAccess;
    if (in_access(packet.flow.destination().address)) return Side::kCore;
    return from_initiator ? Side::kAccess : Side::kCore;
  }

  bool in_access(const Address& address) const {
    return std::ranges::any_of(config_.access_prefixes, [&](const Prefix& p) { return p.contains(address); });
  }

  /// What is no TCP has no initiator: access to core.
  Side side_of_other(std::span<const std::byte> frame) const {
    const std::optional<Address> source = ip_source_of(frame);
    if (config_.access_prefixes.empty() || !source) return Side::kAccess;
    return in_access(*source) ? Side::kAccess : Side::kCore;
  }

  static std::optional<Address> ip_source_of(std::span<const std::byte> frame) {
    constexpr size_t kIpAt = 14;
    if (frame.size() < kIpAt + 40) return {};
    const auto* bytes = reinterpret_cast<const uint8_t*>(frame.data());
    const unsigned type = static_cast<unsigned>(bytes[12]) << 8 | bytes[13];
    if (type == 0x0800) return Address::from_v4(std::span<const uint8_t, 4>(bytes + kIpAt + 12, 4));
    if (type == 0x86dd) return Address::from_v6(std::span<const uint8_t, 16>(bytes + kIpAt + 8, 16));
    return {};
  }

  struct KeyHash {
    size_t operator()(const FlowKey& key) const noexcept {
      return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof(key)});
    }
  };

  struct MadeFrame {
    Side side;
    std::vector<std::byte> bytes;
  };

  const ReplayConfig& config_;
  const TraceFile& trace_;
  const Interrupt& interrupt_;
  ReplayRig& rig_;
  std::unique_ptr<PcapngWriter> out_;
  Progress progress_;
  StreamTracker tracker_;
  std::vector<std::byte> wire_frame_;  ///< the frame in play, as it is on the wire
  std::deque<MadeFrame> made_;         ///< by played clients, not yet put in
  std::unordered_map<uint32_t, std::unique_ptr<ClientPlayer>> players_;
  std::unordered_map<FlowKey, uint32_t, KeyHash> stream_of_;
  std::unordered_map<uint32_t, TcpProgress> progress_of_;
  std::unordered_map<uint32_t, uint64_t> heard_before_;
  std::unordered_map<uint32_t, bool> silent_;
  int64_t started_ns_ = 0;
  int64_t last_ns_ = 0;       ///< traffic time
  int64_t file_time_ns_ = 0;  ///< of the packet in play, as the file has it
  uint64_t trace_packets_ = 0;
  MalformedFrames malformed_;
  uint64_t skipped_ = 0;
  uint64_t crafted_ = 0;
};

}  // namespace

Status replay(const ReplayConfig& config, spawner::Hypervisor* hypervisor, const Interrupt& interrupt) {
  if (Status good = check_outputs(config); !good) return good;
  auto trace = TraceFile::open(config.trace);
  if (!trace) return trace.error();
  auto packets = count_packets(*trace, interrupt);
  if (!packets) return packets.error();
  if (interrupt.came()) return {};
  std::unique_ptr<PcapngWriter> out;
  if (!config.out.empty()) {
    auto created = PcapngWriter::create(config.out);
    if (!created) return created.error();
    out = std::move(*created);
  }
  auto rig = make_replay_rig(config, hypervisor);
  if (!rig) return rig.error();
  Replayer replayer(config, *trace, interrupt, **rig, *packets, std::move(out));
  if (Status played = replayer.run(); !played) return played;
  ReplayTotals totals = replayer.totals();
  totals.hypervisor = hypervisor != nullptr ? std::string(hypervisor->name()) : "none";
  totals.interrupted = interrupt.came();
  return report(config, totals, (*rig)->records, (*rig)->worker->counters());
}

}  // namespace synfluid::gateway
