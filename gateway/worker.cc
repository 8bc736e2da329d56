#include "gateway/worker.h"

#include <algorithm>
#include <string_view>

#include "base/packet.h"
#include "base/plain_ipv4.h"
#include "flowtable/search.h"

namespace synfluid::gateway {

namespace {

constexpr int64_t kTickNs = 10 * kNsPerMs;

/// A packet with one of these begins or ends its connection.
constexpr uint8_t kTurns = tcp_flag::kSyn | tcp_flag::kFin | tcp_flag::kRst;

/// How often an idle flow's own idle_timeout is compared with the clock; flows end that much late at the
/// most.
constexpr int64_t kActiveCheckNs = 500 * kNsPerMs;
/// A flow in the bypass after its VM failed. Longer than clients keep a silent connection to a web server.
constexpr int64_t kBypassIdleNs = 150 * kNsPerSecond;
/// A client gives up on a SYN after some of these.
constexpr int64_t kRefusedIdleNs = 10 * kNsPerSecond;
/// Late retransmissions of a closed flow are kept from the other port so long.
constexpr int64_t kClosingIdleNs = 1 * kNsPerSecond;
constexpr int64_t kHandoffIdleNs = 60 * kNsPerSecond;
/// Waiting flows have deadlines of their own.
constexpr int64_t kPendingIdleNs = 150 * kNsPerSecond;

/// Requests that a worker may have under way; the spawner's ring is the tighter bound.
constexpr uint32_t kRequests = 4096;

/// Deadlines of waiting flows are looked at so often.
constexpr int64_t kCheckEveryNs = 5 * kNsPerMs;

/// Shared VMs without flows are looked for so often, in traffic time.
constexpr int64_t kIdleCheckEveryNs = 100 * kNsPerMs;

flowtable::Config table_config(const WorkerConfig& config) {
  flowtable::Config table;
  table.capacity = config.flow_capacity;
  table.secret = config.secret;
  table.tick_ns = kTickNs;
  using flowtable::FlowState;
  const auto idle = [&](FlowState state) -> int64_t& { return table.idle_ns[static_cast<size_t>(state)]; };
  idle(FlowState::kPending) = kPendingIdleNs;
  idle(FlowState::kActive) = kActiveCheckNs;
  idle(FlowState::kBypass) = kBypassIdleNs;
  idle(FlowState::kRefused) = kRefusedIdleNs;
  idle(FlowState::kClosing) = kClosingIdleNs;
  idle(FlowState::kHandoff) = kHandoffIdleNs;
  return table;
}

}  // namespace

size_t Worker::ScopeKeyHash::operator()(const ScopeKey& key) const noexcept {
  const std::string_view address(reinterpret_cast<const char*>(key.subscriber.bytes.data()), 16);
  return std::hash<std::string_view>{}(address) ^
         (size_t{key.plan_generation} << 16 | key.service) * 0x9e3779b97f4a7c15;
}

Result<std::unique_ptr<Worker>> Worker::create(const WorkerConfig& config) {
  auto table = flowtable::FlowTable::create(table_config(config), config.traffic_clock.now_ns());
  if (!table) return table.error().within("flow table");
  auto sleeper = Sleeper::create();
  if (!sleeper) return sleeper.error();
  if (config.spawner != nullptr && config.spawner->wake_fd() >= 0)
    if (Status added = sleeper->add(config.spawner->wake_fd()); !added) return added.error();
  if (config.doorbells != nullptr && config.doorbells->fd() >= 0)
    if (Status added = sleeper->add(config.doorbells->fd()); !added) return added.error();
  for (Side side : {Side::kAccess, Side::kCore})
    if (const int fd = config.io.wake_fd(side); fd >= 0)
      if (Status added = sleeper->add_edge(fd); !added) return added.error();
  return std::unique_ptr<Worker>(new Worker(config, std::move(*table), std::move(*sleeper)));
}

Worker::Worker(const WorkerConfig& config, std::unique_ptr<flowtable::FlowTable> table, Sleeper sleeper)
    : id_(config.id),
      io_(config.io),
      pool_(config.pool),
      plans_(config.plans),
      traffic_clock_(config.traffic_clock),
      waiting_clock_(config.waiting_clock),
      admission_(config.admission),
      spawner_(config.spawner),
      doorbells_(config.doorbells),
      handoff_(config.handoff),
      observer_(config.observer),
      table_(std::move(table)),
      flows_(table_->capacity()),
      challenge_(config.challenge_secret),
      held_(config.held_frames),
      slots_(config.vif_slots),
      tx_(io_),
      sleeper_(std::move(sleeper)),
      requests_(kRequests) {
  for (uint32_t r = kRequests; r-- > 0;) free_requests_.push_back(r);
  returns_.reserve(config.vif_slots);
  dirty_.reserve(config.vif_slots);
}

Worker::~Worker() {
  for (const Request& request : requests_) rte_pktmbuf_free(request.syn);
}

size_t Worker::turn() {
  turns_.fetch_add(1, std::memory_order_acq_rel);
  plan_ = &plans_.get();
  wait_now_ns_ = waiting_clock_.now_ns();
  now_ns_ = &traffic_clock_ == &waiting_clock_ ? wait_now_ns_ : traffic_clock_.now_ns();

  size_t moved = take_messages();
  moved += receive_ports();
  moved += receive_handed_over();
  moved += poll_vifs();
  run_timers();
  end_turn();
  return moved;
}

/// Stage by stage: memory fetches what one burst asked for while the other is worked on. What the first makes
/// of the table seldom matters to the second's look-ups; if it may, they are made anew, their lines at hand.
size_t Worker::receive_ports() {
  Burst access;
  Burst core;
  receive(Side::kAccess, access);
  receive(Side::kCore, core);
  narrow(access);
  narrow(core);
  finish(access);
  if (version_ != core.lookups.version) {
    glance(core);
    narrow(core);
  }
  finish(core);
  return access.count + core.count;
}

void Worker::receive(Side side, Burst& burst) {
  burst.count = io_.rx_burst(side, burst.frames);
  if (burst.count == 0) return;
  counters_.rx[index_of(side)].add(burst.count);
  burst.sides.fill(side);
  glance(burst);
}

size_t Worker::receive_handed_over() {
  if (handoff_ == nullptr) return 0;
  Burst burst;
  burst.count = handoff_->receive(burst.frames, burst.sides);
  if (burst.count == 0) return 0;
  counters_.handed_in.add(burst.count);
  call_up(std::span(burst.frames).first(burst.count));
  burst.handed_over = true;
  glance(burst);
  narrow(burst);
  finish(burst);
  return burst.count;
}

void Worker::narrow(Burst& burst) {
  burst.lookups.narrow(*table_, version_, burst.count, burst.goes_on);
}

void Worker::finish(Burst& burst) {
  burst.lookups.settle(*table_, burst.count, burst.goes_on);
  dispatch(burst);
}

/// The key of each packet, and whether it may just go on. What is broken, or not TCP, may look like a packet
/// of a known flow here: it goes on as any frame that is not understood, and so do packets of plain flows.
/// From the last packet to the first, so that their bits come in order.
void Worker::glance(Burst& burst) {
  const flowtable::FlowTable& table = *table_;
  flowtable::SearchMask turns = ~flowtable::SearchMask{0};  // what is behind the last does not go on
  for (size_t i = burst.count; i-- > 0;) {
    const auto bytes = bytes_of(burst.frames[i]);
    bool begins_or_ends;
    if (burst.frames[i]->nb_segs == 1 && plain_ipv4::has_layout(bytes)) {
      burst.lookups.searches[i].at = table.seek_carelessly(plain_ipv4::flow(bytes));
      begins_or_ends = (static_cast<uint8_t>(bytes[plain_ipv4::kTcpFlags]) & kTurns) != 0;
    } else {
      begins_or_ends = (glance_by_parsing(burst, i) & kTurns) != 0;
    }
    turns = turns * 2 + begins_or_ends;
  }
  burst.goes_on = ~turns;
}

/// Of a frame that is not plain; returns its TCP flags. One that does not fit a segment is dropped when its
/// turn comes.
uint8_t Worker::glance_by_parsing(Burst& burst, size_t i) {
  ParsedPacket packet;
  if (rte_mbuf* const frame = burst.frames[i]; frame->nb_segs == 1 || rte_pktmbuf_linearize(frame) == 0)
    packet = parse_packet(bytes_of(frame));
  burst.lookups.searches[i].at = table_->seek_carelessly(flowtable::KeyWords::of(packet.flow.key));
  return packet.kind == PacketKind::kTcp ? packet.tcp_flags : kTurns;
}

/// What becomes of each packet. Most of most flows: the policy lets the flow pass, and it neither begins nor
/// ends.
void Worker::dispatch(Burst& burst) {
  const flowtable::SearchMask plain = burst.lookups.narrowed.plain;
  for (size_t i = 0; i < burst.count;) {
    size_t run = 0;
    if (version_ == burst.lookups.version) run = static_cast<size_t>(std::countr_one(plain >> i));
    if (run == 0) {
      act_or_decide(burst, i++);
      continue;
    }
    if (burst.handed_over) run = 1;  // of either side
    transmit(opposite(burst.sides[i]), std::span(burst.frames).subspan(i, run));
    i += run;
  }
}

void Worker::act_or_decide(Burst& burst, size_t i) {
  rte_mbuf* const frame = burst.frames[i];
  if (frame->nb_segs > 1) return drop(frame, DropReason::kTooLong);
  const ParsedPacket packet = parse_packet(bytes_of(frame));
  const Side side = burst.sides[i];
  if (packet.kind != PacketKind::kTcp) return transmit(opposite(side), frame);
  const FlowIndex flow = burst.lookups.find(*table_, version_, i, flowtable::KeyWords::of(packet.flow.key));
  if (flow != flowtable::kNoFlow) return act(flow, frame, packet, side, burst.handed_over);
  decide(frame, packet, side, burst.handed_over);
}

void Worker::run_timers() {
  expire_flows();
  if (now_ns_ >= next_idle_check_ns_) {
    next_idle_check_ns_ = now_ns_ + kIdleCheckEveryNs;
    return_idle_vms();
  }
  if (wait_now_ns_ < next_check_ns_) return;
  next_check_ns_ = wait_now_ns_ + kCheckEveryNs;
  check_waiting();
  while (!returns_.empty() && spawner_->give_back(std::move(returns_.back()))) returns_.pop_back();
}

void Worker::end_turn() {
  for (const uint32_t slot : dirty_) {
    slots_[slot].dirty = false;
    if (slots_.is_live(slot)) slots_[slot].vif->flush();
  }
  dirty_.clear();
  flush_tx(Side::kAccess);
  flush_tx(Side::kCore);
  counters_.held.set(held_.held());
}

void Worker::flush_tx(Side side) {
  tx_.flush(
      side, [this](Side out, size_t count) { counters_.tx[index_of(out)].add(count); },
      [this](rte_mbuf* frame) { drop(frame, DropReason::kPortTxFull); });
}

void Worker::sleep(int64_t longest_ns) {
  // Arm every doorbell first, and look once more: what came in the meantime must not wait.
  while (!slots_.busy().empty()) {
    const uint32_t slot = slots_.busy().back();
    if (slots_[slot].vif->arm()) return;
    slots_.set_quiet(slot);
  }
  sleeper_.before_wait();
  if (spawner_ != nullptr) spawner_->before_sleep();
  if (turn() > 0 || !slots_.busy().empty()) return;
  counters_.sleeps.add();
  sleeper_.wait(longest_ns);
  polls_since_doorbells_ = kNone - 1;  // whatever woke us, look at the doorbells first
}

void Worker::begin_stop() {
  stopping_ = true;
  for (FlowIndex flow = 0; flow < table_->capacity(); ++flow) {
    if (!table_->contains(flow)) continue;
    if (state(flow) == FlowState::kPending) fail(flow, DropReason::kShutdown);
    close_now(flow, FlowEnd::kShutdown);
  }
  for (uint32_t slot = 0; slot < slots_.size(); ++slot)
    if (slots_.is_live(slot)) return_vm(slot);
  end_turn();
}

bool Worker::is_called() const noexcept {
  return handoff_ == nullptr && io_.wake_fd(Side::kAccess) >= 0 && io_.wake_fd(Side::kCore) >= 0;
}

bool Worker::stopped() const noexcept {
  return stopping_ && requests_open_ == 0 && returns_.empty();
}

std::vector<Worker::FlowLine> Worker::list_flows(size_t most) const {
  std::vector<FlowLine> lines;
  for (FlowIndex flow = 0; flow < table_->capacity() && lines.size() < most; ++flow) {
    if (!table_->contains(flow) || is_passing(flow)) continue;
    const FlowData& d = flows_[flow];
    const bool has_vm = slots_.is_live(d.slot);
    lines.push_back({table_->key(flow), table_->value(flow).state, d,
                     has_vm ? slots_[d.slot].vm : spawner::VmId{}, has_vm});
  }
  return lines;
}

}  // namespace synfluid::gateway
