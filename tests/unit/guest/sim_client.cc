#include "tests/unit/guest/sim_client.h"

#include <algorithm>

namespace synfluid::guest::testing {
namespace {

constexpr uint64_t kReadIntervalNs = 50'000'000;

bool before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) < 0;
}

}  // namespace

Tcp SimClient::blank(uint8_t flags) const {
  Tcp out;
  out.v6 = config_.v6;
  out.sport = config_.port;
  out.flags = flags;
  out.seq = snd_nxt_;
  out.ack = rcv_nxt_;
  out.window = static_cast<uint16_t>(std::min<uint32_t>(free_window(), 65535));
  return out;
}

uint32_t SimClient::free_window() const {
  return config_.window > unread_ ? config_.window - unread_ : 0;
}

std::vector<Tcp> SimClient::start(uint64_t now_ns) {
  snd_una_ = snd_nxt_ = config_.isn;
  Tcp syn = blank(kS);
  syn.ack = 0;
  syn.options = {2, 4, static_cast<uint8_t>(config_.mss >> 8), static_cast<uint8_t>(config_.mss)};
  rto_at_ns_ = now_ns + rto_ns_;
  return {syn};
}

/// Puts a segment's bytes into place and moves on as far as there is no hole.
void SimClient::take(const Tcp& segment) {
  const uint32_t end = segment.seq + static_cast<uint32_t>(segment.payload.size());
  if (segment.has(kF)) {
    fin_seen_ = true;
    fin_at_ = end;
  }
  // Beyond the window: as if it had not come.
  if (before(rcv_nxt_ + free_window(), end)) return;
  if (!segment.payload.empty()) {
    std::string& kept = pending_[segment.seq - irs_];
    if (segment.payload.size() > kept.size()) kept = segment.payload;
  }
  for (auto it = pending_.begin(); it != pending_.end();) {
    const uint32_t start = irs_ + it->first;
    const uint32_t stop = start + static_cast<uint32_t>(it->second.size());
    if (before(rcv_nxt_, start)) break;
    if (before(rcv_nxt_, stop)) {
      received_ += it->second.substr(rcv_nxt_ - start);
      unread_ += config_.reads_per_ack == 0 ? 0 : stop - rcv_nxt_;
      rcv_nxt_ = stop;
    }
    it = pending_.erase(it);
  }
  if (fin_seen_ && !got_fin_ && fin_at_ == rcv_nxt_) {
    got_fin_ = true;
    ++rcv_nxt_;
  }
}

std::vector<Tcp> SimClient::receive(const Tcp& segment, uint64_t now_ns) {
  if (state_ == State::kClosed) return {};
  if (segment.has(kR)) {
    reset_ = true;
    state_ = State::kClosed;
    return {};
  }
  if (state_ == State::kSynSent) {
    if (!segment.has(kS) || segment.ack != config_.isn + 1) return {};
    irs_ = segment.seq;
    rcv_nxt_ = segment.seq + 1;
    snd_una_ = snd_nxt_ = config_.isn + 1;
    state_ = State::kOpen;
    rto_at_ns_ = kNever;
    auto out = transmit(now_ns);
    if (out.empty()) out.push_back(blank(kA));
    return out;
  }
  if (segment.has(kA) && before(snd_una_, segment.ack) && !before(stream_end(), segment.ack)) {
    snd_una_ = segment.ack;
    if (before(snd_nxt_, snd_una_)) snd_nxt_ = snd_una_;
    rto_ns_ = kRtoNs;
    rto_at_ns_ = snd_una_ == snd_nxt_ ? kNever : now_ns + rto_ns_;
  }
  const bool owes_ack = !segment.payload.empty() || segment.has(kF | kS);
  take(segment);
  if (unread_ != 0 && read_at_ns_ == kNever) read_at_ns_ = now_ns + kReadIntervalNs;
  auto out = transmit(now_ns);
  if (out.empty() && owes_ack) out.push_back(blank(kA));
  check_end();
  return out;
}

/// Everything not sent yet; the server's window is taken to be large enough for a request.
std::vector<Tcp> SimClient::transmit(uint64_t now_ns) {
  std::vector<Tcp> out;
  while (snd_nxt_ != stream_end()) {
    const uint32_t offset = snd_nxt_ - config_.isn - 1;
    Tcp segment = blank(kA);
    segment.payload = offset < config_.request.size() ? config_.request.substr(offset, config_.mss) : "";
    const auto behind = snd_nxt_ + static_cast<uint32_t>(segment.payload.size());
    const bool fin = wants_fin() && behind - config_.isn - 1 == config_.request.size();
    if (fin) segment.flags |= kF;
    snd_nxt_ = behind + (fin ? 1 : 0);
    out.push_back(segment);
  }
  if (!out.empty() && rto_at_ns_ == kNever) rto_at_ns_ = now_ns + rto_ns_;
  return out;
}

void SimClient::check_end() {
  if (got_fin_ && snd_una_ == stream_end()) state_ = State::kClosed;
}

uint64_t SimClient::deadline_ns() const {
  return state_ == State::kClosed ? kNever : std::min(rto_at_ns_, read_at_ns_);
}

std::vector<Tcp> SimClient::on_time(uint64_t now_ns) {
  if (state_ == State::kClosed) return {};
  if (read_at_ns_ <= now_ns) {
    const uint32_t window = free_window();
    unread_ -= std::min(unread_, config_.reads_per_ack);
    read_at_ns_ = unread_ == 0 ? kNever : now_ns + kReadIntervalNs;
    if (window < config_.mss && free_window() >= config_.mss) return {blank(kA)};
    return {};
  }
  rto_ns_ = std::min<uint64_t>(2 * rto_ns_, 4'000'000'000);
  rto_at_ns_ = now_ns + rto_ns_;
  if (state_ == State::kSynSent) {
    const uint64_t rto = rto_at_ns_;
    auto out = start(now_ns);
    rto_at_ns_ = rto;
    return out;
  }
  snd_nxt_ = snd_una_;
  return transmit(now_ns);
}

namespace {

class Simulation {
 public:
  Simulation(Rig& rig, std::vector<SimClient>& clients, const NetworkConfig& network)
      : rig_(rig), clients_(clients), network_(network), random_(network.seed) {}

  void run(uint64_t limit_ns) {
    const uint64_t end = now() + limit_ns;
    for (SimClient& client : clients_) send(client.start(now()));
    while (step(end)) {
    }
  }

 private:
  enum class Hop : uint8_t { kToMiddle, kToGuest, kToClient };
  struct Event {
    uint64_t at_ns;
    uint64_t order;
    Hop hop;
    Frame frame;
    bool operator<(const Event& other) const {
      return std::tie(at_ns, order) > std::tie(other.at_ns, other.order);
    }
  };

  uint64_t now() { return rig_.platform().now_ns(); }
  bool chance(double probability) { return std::uniform_real_distribution<>(0, 1)(random_) < probability; }

  void put(const Frame& frame, Hop hop) {
    if (chance(network_.loss)) return;
    const uint64_t jitter =
        network_.jitter_ns == 0 ? 0 : std::uniform_int_distribution<uint64_t>(0, network_.jitter_ns)(random_);
    events_.push({now() + network_.delay_ns + jitter, order_++, hop, frame});
    if (chance(network_.duplication))
      events_.push({now() + network_.delay_ns + 2 * jitter, order_++, hop, frame});
  }
  Hop first_hop(Hop last) const { return network_.inline_rig == nullptr ? last : Hop::kToMiddle; }
  void send(const std::vector<Tcp>& segments) {
    for (const Tcp& segment : segments) put(build(segment), first_hop(Hop::kToGuest));
  }
  void from_guest(const std::vector<Frame>& frames) {
    for (const Frame& frame : frames) put(frame, first_hop(Hop::kToClient));
  }
  /// The gateway's part: what is for the server's port goes on to the server.
  void through_middle(const Frame& frame) {
    network_.inline_rig->platform().set_now(now());
    for (const Frame& out : network_.inline_rig->exchange(frame))
      put(out, dissect(out).dport == Tcp{}.dport ? Hop::kToGuest : Hop::kToClient);
  }

  bool step(uint64_t end) {
    uint64_t next = rig_.guest().next_deadline_ns();
    for (const SimClient& client : clients_) next = std::min(next, client.deadline_ns());
    if (!events_.empty()) next = std::min(next, events_.top().at_ns);
    const bool over =
        std::all_of(clients_.begin(), clients_.end(), [](const SimClient& c) { return c.closed(); });
    if (next > end || (over && events_.empty())) return false;
    rig_.platform().set_now(std::max(next, now()));
    deliver();
    from_guest(rig_.run());
    for (SimClient& client : clients_)
      if (client.deadline_ns() <= now()) send(client.on_time(now()));
    return true;
  }

  void deliver() {
    while (!events_.empty() && events_.top().at_ns <= now()) {
      const Event event = events_.top();
      events_.pop();
      if (event.hop == Hop::kToMiddle) {
        through_middle(event.frame);
      } else if (event.hop == Hop::kToGuest) {
        rig_.host().push(event.frame);
        rig_.host().publish();
        from_guest(rig_.run());
      } else {
        const Tcp segment = dissect(event.frame);
        for (SimClient& client : clients_)
          if (client.is(segment.dport)) send(client.receive(segment, now()));
      }
    }
  }

  Rig& rig_;
  std::vector<SimClient>& clients_;
  NetworkConfig network_;
  std::mt19937_64 random_;
  std::priority_queue<Event> events_;
  uint64_t order_ = 0;
};

}  // namespace

void simulate(Rig& rig, std::vector<SimClient>& clients, const NetworkConfig& network, uint64_t limit_ns) {
  Simulation(rig, clients, network).run(limit_ns);
}

}  // namespace synfluid::guest::testing
