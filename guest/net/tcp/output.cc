// What goes out: SYN/ACK, data, FIN, acknowledgements, probes and resets.
#include "guest/net/checksum.h"
#include "guest/net/tcp/engine.h"

namespace synfluid::guest::net {
namespace {

/// What a client may send ahead. No memory stands behind it: the services take what comes in order at once.
constexpr uint32_t kReceiveWindow = 60'000;
/// A window update is worth a segment from here on (RFC 9293 3.8.6.2.2).
constexpr uint32_t kWorthwhileUpdate = 2 * 1460;
constexpr uint64_t kChallengeIntervalNs = 100'000'000;

/// A TCP header in the making, in a page from the sink.
struct Draft {
  std::byte* page;
  std::byte* tcp;
  uint32_t header_bytes;
  std::byte* payload() const { return tcp + header_bytes; }
};

Draft begin(std::byte* page, const Connection& c, uint32_t option_bytes, uint32_t payload_bytes) {
  const uint32_t header = kTcpHeaderBytes + option_bytes;
  std::byte* tcp =
      write_ip_header(page, c.link, c.server.address, c.client.address, kProtocolTcp, header + payload_bytes);
  store_be16(tcp, c.server.port);
  store_be16(tcp + 2, c.client.port);
  zero_bytes(tcp + 4, header - 4);
  store_u8(tcp + 12, static_cast<uint8_t>(header / 4 << 4));
  return {page, tcp, header};
}

/// Fills in what every segment has, sums it up and returns the frame's length.
uint32_t finish(const Draft& draft, const Connection& c, uint8_t flags, uint32_t seq, uint32_t ack,
                uint16_t window, uint32_t payload_bytes) {
  store_be32(draft.tcp + 4, seq);
  store_be32(draft.tcp + 8, (flags & kAck) != 0 ? ack : 0);
  store_u8(draft.tcp + 13, flags);
  store_be16(draft.tcp + 14, window);
  const uint32_t length = draft.header_bytes + payload_bytes;
  const uint64_t pseudo = sum_pseudo_header(c.server.address, c.client.address, kProtocolTcp, length);
  store_checksum(draft.tcp + 16, finish_sum(sum_bytes({draft.tcp, length}, pseudo)));
  return static_cast<uint32_t>(draft.tcp - draft.page) + length;
}

}  // namespace

/// The window to announce. Its right edge never goes back, and does not move while the application is behind.
uint16_t TcpEngine::advertise(Connection& c) {
  const uint32_t edge = c.rcv_nxt + kReceiveWindow;
  if (!c.stalled && seq_before(c.rcv_adv, edge)) c.rcv_adv = edge;
  c.ack_due = false;
  return static_cast<uint16_t>(c.rcv_adv - c.rcv_nxt);
}

void TcpEngine::send_syn_ack(Connection& c, uint64_t now_ns) {
  std::byte* page = sink_.take();
  if (page == nullptr) return;  // the retransmission timer, or the client's, tries again
  const uint32_t option_bytes = c.scales ? 8 : 4;
  const Draft draft = begin(page, c, option_bytes, 0);
  std::byte* option = draft.tcp + kTcpHeaderBytes;
  store_be16(option, 0x0204);
  store_be16(option + 2, own_mss(c.server.address));
  if (c.scales) store_be32(option + 4, 0x01030300);  // NOP, window scale 0
  ++counters_.segments_out;
  if (c.retries == 0 && c.timed_at_ns == 0) {
    c.timing = true;
    c.timed_seq = c.iss;
    c.timed_at_ns = now_ns;
  }
  sink_.send(page, finish(draft, c, kSyn | kAck, c.iss, c.rcv_nxt, advertise(c), 0));
}

void TcpEngine::send_ack(Connection& c, uint64_t) {
  std::byte* page = sink_.take();
  if (page == nullptr) {
    c.ack_due = true;
    block(c);
    return;
  }
  const Draft draft = begin(page, c, 0, 0);
  ++counters_.segments_out;
  sink_.send(page, finish(draft, c, kAck, c.snd_nxt, c.rcv_nxt, advertise(c), 0));
}

/// RFC 5961 7: bounded, and by connection, so that nobody learns from one about another.
void TcpEngine::send_challenge_ack(Connection& c, uint64_t now_ns) {
  if (c.challenged_at_ns != 0 && now_ns - c.challenged_at_ns < kChallengeIntervalNs) return;
  c.challenged_at_ns = now_ns;
  ++counters_.challenge_acks;
  send_ack(c, now_ns);
}

/// Sequence number snd_nxt; with `ack_due` also an acknowledgement of rcv_nxt.
void TcpEngine::send_reset(Connection& c) {
  std::byte* page = sink_.take();
  if (page == nullptr) return;
  const Draft draft = begin(page, c, 0, 0);
  const uint8_t flags = c.ack_due ? kRst | kAck : kRst;
  ++counters_.segments_out;
  sink_.send(page, finish(draft, c, flags, c.snd_nxt, c.rcv_nxt, 0, 0));
}

void TcpEngine::block(Connection& c) {
  if (c.blocked) return;
  c.blocked = true;
  c.next_blocked = kNoConnection;
  if (first_blocked_ == kNoConnection)
    first_blocked_ = id_of(c);
  else
    connections_[last_blocked_].next_blocked = id_of(c);
  last_blocked_ = id_of(c);
}

void TcpEngine::unblock(Connection& c) {
  ConnectionId* link = &first_blocked_;
  ConnectionId before = kNoConnection;
  while (*link != id_of(c)) {
    before = *link;
    link = &connections_[before].next_blocked;
  }
  *link = c.next_blocked;
  if (last_blocked_ == id_of(c)) last_blocked_ = before;
  c.blocked = false;
}

void TcpEngine::on_buffers(uint64_t now_ns) {
  // Each has one turn at the most: who is blocked again goes to the end of the list.
  const ConnectionId last = last_blocked_;
  while (first_blocked_ != kNoConnection) {
    Connection& c = connections_[first_blocked_];
    const bool is_last = first_blocked_ == last;
    unblock(c);
    output(c, now_ns);
    if (is_last || c.blocked) return;
  }
}

/// Sends `bytes` of the stream from `seq` on, and the FIN if it is next. False: no page.
bool TcpEngine::send_data(Connection& c, uint32_t seq, uint32_t bytes, uint64_t now_ns) {
  std::byte* page = sink_.take();
  if (page == nullptr) {
    block(c);
    return false;
  }
  const uint32_t end = seq + bytes;
  const bool fin = c.fin_wanted && end == c.fin_seq();
  const bool last = end == c.fin_seq();
  const Draft draft = begin(page, c, 0, bytes);
  if (bytes != 0) application_.read(id_of(c), c.una_offset + (seq - c.snd_una), {draft.payload(), bytes});
  uint8_t flags = kAck;
  if (last && bytes != 0) flags |= kPsh;
  if (fin) flags |= kFin;
  ++counters_.segments_out;
  sink_.send(page, finish(draft, c, flags, seq, c.rcv_nxt, advertise(c), bytes));
  const uint32_t behind = end + (fin ? 1 : 0);
  if (seq_before(seq, c.snd_max)) {
    ++counters_.retransmitted;
    c.timing = false;  // Karn: no sample while anything is sent twice
  } else if (!c.timing) {
    c.timing = true;
    c.timed_seq = seq;
    c.timed_at_ns = now_ns;
  }
  if (seq_before(c.snd_max, behind)) c.snd_max = behind;
  if (fin && c.state == TcpState::kEstablished) c.state = TcpState::kFinWait1;
  if (fin && c.state == TcpState::kCloseWait) c.state = TcpState::kLastAck;
  return true;
}

/// The next segment of new data, or of old data after a time-out, if the windows have room for it.
bool TcpEngine::send_next(Connection& c, uint64_t now_ns) {
  if (c.snd_nxt == c.end_seq()) return false;
  const uint32_t flight = c.in_flight();
  const uint32_t limited = c.recovering ? 0 : smaller(c.duplicate_acks, 2) * c.mss;  // RFC 3042
  const uint32_t window = smaller(c.snd_wnd, c.cwnd + limited);
  const uint32_t usable = window > flight ? window - flight : 0;
  const uint64_t unsent = c.write_end - (c.una_offset + flight);
  const uint32_t wanted = unsent < c.mss ? static_cast<uint32_t>(unsent) : c.mss;
  const uint32_t bytes = smaller(wanted, usable);
  // RFC 9293 3.8.6.2.1: no small segments just because the window has a small hole.
  if (bytes < wanted && (bytes == 0 || bytes < c.max_snd_wnd / 2)) return false;
  const uint32_t seq = c.snd_nxt;
  if (!send_data(c, seq, bytes, now_ns)) return false;
  const bool fin = c.fin_wanted && seq + bytes == c.fin_seq();
  c.snd_nxt = seq + bytes + (fin ? 1 : 0);
  return true;
}

void TcpEngine::output(Connection& c, uint64_t now_ns) {
  const bool can_send =
      c.state != TcpState::kFree && c.state != TcpState::kSynReceived && c.state != TcpState::kTimeWait;
  if (can_send) {
    while (send_next(c, now_ns)) {
    }
  }
  if (c.ack_due || is_update_due(c)) send_ack(c, now_ns);
  set_timers(c, now_ns);
}

/// The window has been small and is worth announcing again.
bool TcpEngine::is_update_due(const Connection& c) const {
  return c.state != TcpState::kSynReceived && !c.stalled && c.rcv_adv - c.rcv_nxt < kWorthwhileUpdate;
}

void TcpEngine::retransmit_first(Connection& c, uint64_t now_ns) {
  if (c.snd_una == c.end_seq()) return;
  const uint64_t unacknowledged = c.write_end - c.una_offset;
  send_data(c, c.snd_una, unacknowledged < c.mss ? static_cast<uint32_t>(unacknowledged) : c.mss, now_ns);
}

/// One byte more than the window has room for: the answer tells the window (RFC 9293 3.8.6.1).
void TcpEngine::send_probe(Connection& c, uint64_t now_ns) {
  ++counters_.window_probes;
  send_data(c, c.snd_una, c.write_end == c.una_offset ? 0 : 1, now_ns);
}

}  // namespace synfluid::guest::net
