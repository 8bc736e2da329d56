// What a segment does: RFC 9293 3.10.7, in its order.
#include "guest/net/tcp/engine.h"

namespace synfluid::guest::net {
namespace {

/// RFC 9293 3.7.1, where the option is missing.
constexpr uint32_t kDefaultMss4 = 536;
constexpr uint32_t kDefaultMss6 = 1220;
/// Below this a client costs us more headers than it gets data.
constexpr uint32_t kMinMss = 64;
constexpr uint8_t kDuplicateAcksForLoss = 3;

uint16_t choose_mss(const Segment& syn) {
  const bool v4 = syn.from.address.is_v4();
  const uint32_t offered = syn.mss != 0 ? syn.mss : (v4 ? kDefaultMss4 : kDefaultMss6);
  return static_cast<uint16_t>(larger(kMinMss, smaller(offered, own_mss(syn.from.address))));
}

}  // namespace

void TcpEngine::input(std::span<const std::byte> frame, const Packet& packet, ChecksumCheck check,
                      uint64_t now_ns) {
  Segment segment;
  const SegmentVerdict verdict = parse_segment(frame, packet, check, segment);
  if (verdict != SegmentVerdict::kGood) {
    ++(verdict == SegmentVerdict::kBadChecksum ? counters_.bad_checksum : counters_.malformed);
    return;
  }
  ++counters_.segments_in;
  const ConnectionId id = find(segment, packet.link);
  if (id != kNoConnection)
    on_segment(connections_[id], packet, segment, now_ns);
  else if ((segment.flags & (kSyn | kAck | kRst | kFin)) == kSyn)
    open(packet, segment, now_ns);
  else
    on_stray(packet, segment);
}

void TcpEngine::open(const Packet& packet, const Segment& segment, uint64_t now_ns) {
  Connection* c = allocate();
  if (c == nullptr) return;
  ++counters_.opened;
  c->client = segment.from;
  c->server = segment.to;
  c->link = packet.link.swapped();
  c->state = TcpState::kSynReceived;
  ConnectionId* bucket = bucket_of(c->client, c->server);
  c->next_in_bucket = *bucket;
  *bucket = id_of(*c);
  c->irs = segment.seq;
  c->rcv_nxt = c->rcv_adv = segment.seq + 1;
  c->iss = initial_sequence(segment, now_ns);
  c->snd_una = c->iss;
  c->snd_nxt = c->snd_max = c->iss + 1;
  c->snd_wnd = c->max_snd_wnd = segment.window;
  c->mss = choose_mss(segment);
  c->scales = segment.has_window_scale;
  c->snd_shift = segment.window_scale;
  start_window(*c);
  touch(*c, now_ns);
  timers_.add(id_of(*c), c->due_ns());
  application_.on_syn(id_of(*c));
  send_syn_ack(*c, now_ns);
  set_timers(*c, now_ns);
}

/// RFC 9293 3.10.7.1: a segment of no connection of ours.
void TcpEngine::on_stray(const Packet& packet, const Segment& segment) {
  ++counters_.stray;
  if (segment.has(kRst)) return;
  Connection c;
  c.client = segment.from;
  c.server = segment.to;
  c.link = packet.link.swapped();
  c.snd_nxt = segment.has(kAck) ? segment.ack : 0;
  c.rcv_nxt = segment.seq + segment.length();
  c.ack_due = !segment.has(kAck);
  send_reset(c);
}

bool TcpEngine::is_acceptable(const Connection& c, const Segment& segment) const {
  const uint32_t window = c.rcv_adv - c.rcv_nxt;
  const uint32_t length = segment.length();
  const uint32_t before_edge =
      c.rcv_nxt + window - segment.seq;  // how far the segment starts before the right edge
  // A pure ACK may sit on the very edge; and one must be heard even when the window is closed.
  if (length == 0) return seq_at_or_before(c.rcv_nxt, segment.seq) && static_cast<int32_t>(before_edge) >= 0;
  if (window == 0) return segment.seq == c.rcv_nxt;
  return static_cast<int32_t>(before_edge) > 0 && seq_before(c.rcv_nxt, segment.seq + length);
}

/// Whatever is not ordinary data or acknowledgement. True: that was all there is to do.
bool TcpEngine::on_unusual(Connection& c, const Segment& segment, uint64_t now_ns) {
  const bool pure_syn = (segment.flags & (kSyn | kAck | kRst)) == kSyn;
  if (c.state == TcpState::kSynReceived && pure_syn && segment.seq == c.irs) {
    c.timing = false;
    ++counters_.retransmitted;
    send_syn_ack(c, now_ns);
    return true;
  }
  if (!is_acceptable(c, segment)) {
    if (segment.has(kRst)) return true;
    if (!segment.payload.empty() || segment.has(kFin)) {
      if (c.state == TcpState::kTimeWait) enter_time_wait(c, now_ns);
      send_ack(c, now_ns);
    } else {
      send_challenge_ack(c, now_ns);
    }
    return true;
  }
  if (segment.has(kRst)) {
    if (segment.seq != c.rcv_nxt) {
      send_challenge_ack(c, now_ns);
      return true;
    }
    ++counters_.reset_by_peer;
    release(c);
    return true;
  }
  if (segment.has(kSyn)) {
    send_challenge_ack(c, now_ns);
    return true;
  }
  return !segment.has(kAck);
}

void TcpEngine::on_segment(Connection& c, const Packet& packet, const Segment& segment, uint64_t now_ns) {
  const bool pure_syn = (segment.flags & (kSyn | kAck | kRst | kFin)) == kSyn;
  if (c.state == TcpState::kTimeWait && pure_syn && seq_before(c.rcv_nxt, segment.seq)) {
    release(c);
    open(packet, segment, now_ns);
    return;
  }
  if (on_unusual(c, segment, now_ns)) return;
  if (c.state == TcpState::kSynReceived && !on_handshake_ack(c, packet, segment, now_ns)) return;
  // RFC 5961 5.2: what acknowledges the future, or the distant past, is not from our peer.
  if (seq_before(c.snd_max, segment.ack) || seq_before(segment.ack, c.snd_una - c.max_snd_wnd)) {
    send_challenge_ack(c, now_ns);
    return;
  }
  c.link = packet.link.swapped();
  on_ack(c, segment, now_ns);
  if (c.state == TcpState::kFree) return;
  on_payload(c, segment, now_ns);
  finish_input(c, now_ns);
}

/// The third segment of the handshake. False: it was none.
bool TcpEngine::on_handshake_ack(Connection& c, const Packet& packet, const Segment& segment,
                                 uint64_t now_ns) {
  if (segment.ack != c.iss + 1) {
    on_stray(packet, segment);
    return false;
  }
  c.state = TcpState::kEstablished;
  c.snd_una = c.iss + 1;
  c.recover = c.iss;
  c.snd_wl1 = segment.seq;
  c.snd_wl2 = segment.ack;
  c.snd_wnd = uint32_t{segment.window} << (c.scales ? c.snd_shift : 0);
  c.max_snd_wnd = larger(c.max_snd_wnd, c.snd_wnd);
  c.retransmit_at_ns = kNever;
  c.retries = 0;
  if (c.timing) sample_rtt(c, now_ns);
  touch(c, now_ns);
  application_.on_open(id_of(c));
  return true;
}

void TcpEngine::on_ack(Connection& c, const Segment& segment, uint64_t now_ns) {
  if (seq_before(c.snd_una, segment.ack)) {
    on_new_ack(c, segment.ack, now_ns);
    if (c.state == TcpState::kFree) return;
  } else if (segment.ack == c.snd_una && segment.payload.empty() && !segment.has(kFin) &&
             c.in_flight() != 0 && uint32_t{segment.window} << (c.scales ? c.snd_shift : 0) == c.snd_wnd) {
    on_duplicate_ack(c, now_ns);
  }
  update_window(c, segment);
}

void TcpEngine::on_new_ack(Connection& c, uint32_t ack, uint64_t now_ns) {
  const bool fin_acknowledged = c.fin_wanted && ack == c.fin_seq() + 1;
  const uint32_t acked = ack - c.snd_una;
  c.snd_una = ack;
  c.una_offset += acked - (fin_acknowledged ? 1 : 0);
  if (seq_before(c.snd_nxt, ack)) c.snd_nxt = ack;
  if (c.retries != 0) set_rto(c);
  c.retries = 0;
  c.retransmit_at_ns = kNever;
  if (c.timing && seq_before(c.timed_seq, ack)) sample_rtt(c, now_ns);
  touch(c, now_ns);
  if (c.recovering && seq_before(ack, c.recover)) {
    // RFC 6582: a partial acknowledgement uncovers the next hole.
    retransmit_first(c, now_ns);
    c.cwnd = larger(c.mss, c.cwnd - smaller(acked, c.cwnd)) + (acked >= c.mss ? c.mss : 0u);
  } else if (c.recovering) {
    c.recovering = false;
    c.cwnd = smaller(c.ssthresh, larger(c.in_flight(), c.mss) + c.mss);
  } else {
    grow_window(c, acked);
  }
  c.duplicate_acks = 0;
  application_.on_acknowledged(id_of(c), c.una_offset);
  if (fin_acknowledged) on_fin_acknowledged(c, now_ns);
}

void TcpEngine::on_duplicate_ack(Connection& c, uint64_t now_ns) {
  if (c.duplicate_acks < 255) ++c.duplicate_acks;
  if (c.recovering) {
    c.cwnd += c.mss;
    return;
  }
  // RFC 6582 3.2: not again for what a time-out has already sent anew.
  if (c.duplicate_acks != kDuplicateAcksForLoss || seq_before(c.snd_una, c.recover)) return;
  ++counters_.fast_retransmits;
  c.ssthresh = larger(c.in_flight() / 2, 2u * c.mss);
  c.recover = c.snd_max;
  c.recovering = true;
  retransmit_first(c, now_ns);
  c.cwnd = c.ssthresh + 3u * c.mss;
}

void TcpEngine::on_fin_acknowledged(Connection& c, uint64_t now_ns) {
  if (c.state == TcpState::kFinWait1) {
    c.state = TcpState::kFinWait2;
    touch(c, now_ns);
  } else if (c.state == TcpState::kClosing) {
    enter_time_wait(c, now_ns);
  } else if (c.state == TcpState::kLastAck) {
    release(c);
  }
}

void TcpEngine::update_window(Connection& c, const Segment& segment) {
  const bool newer = seq_before(c.snd_wl1, segment.seq) ||
                     (c.snd_wl1 == segment.seq && seq_at_or_before(c.snd_wl2, segment.ack));
  if (!newer) return;
  const uint32_t window = uint32_t{segment.window} << (c.scales ? c.snd_shift : 0);
  // An open window ends the probing.
  if (window != 0 && c.snd_wnd == 0 && c.in_flight() == 0) {
    c.retransmit_at_ns = kNever;
    c.retries = 0;
  }
  // A peer that answers probes is alive, however small its window.
  if (c.in_flight() == 0) c.retries = 0;
  c.snd_wnd = window;
  c.max_snd_wnd = larger(c.max_snd_wnd, window);
  c.snd_wl1 = segment.seq;
  c.snd_wl2 = segment.ack;
}

void TcpEngine::on_payload(Connection& c, const Segment& segment, uint64_t now_ns) {
  if (segment.payload.empty() && !segment.has(kFin)) return;
  c.ack_due = true;
  if (c.state != TcpState::kEstablished && c.state != TcpState::kFinWait1 && c.state != TcpState::kFinWait2)
    return;
  uint32_t seq = segment.seq;
  auto bytes = segment.payload;
  bool fin = segment.has(kFin);
  if (seq_before(seq, c.rcv_nxt)) {
    const uint32_t skip = smaller(c.rcv_nxt - seq, static_cast<uint32_t>(bytes.size()));
    bytes = bytes.subspan(skip);
    seq += skip;
  }
  const uint32_t room = c.rcv_adv - seq;
  if (bytes.size() > room) {
    bytes = bytes.first(room);
    fin = false;
  }
  if (bytes.empty() && !fin) return;
  if (seq != c.rcv_nxt) ++counters_.out_of_order;
  if (seq != c.rcv_nxt || c.stalled) {
    held_.add(c.held, seq, bytes, fin ? HeldSegments::Fin::kFollows : HeldSegments::Fin::kNone);
    return;
  }
  const uint32_t taken = bytes.empty() ? 0 : application_.on_data(id_of(c), bytes);
  c.rcv_nxt += taken;
  if (taken != 0) touch(c, now_ns);
  if (taken < bytes.size()) {
    c.stalled = true;
    held_.add(c.held, c.rcv_nxt, bytes.subspan(taken),
              fin ? HeldSegments::Fin::kFollows : HeldSegments::Fin::kNone);
  } else if (fin) {
    on_fin(c, now_ns);
  }
}

/// Gives the application what has been waiting, as far as it goes.
void TcpEngine::drain_held(Connection& c, uint64_t now_ns) {
  while (!c.stalled && c.held.count != 0) {
    HeldChunk* chunk = held_.due(c.held, c.rcv_nxt);
    if (chunk == nullptr) return;
    const std::span<const std::byte> bytes(&chunk->bytes[0], chunk->length);
    const uint32_t taken = bytes.empty() ? 0 : application_.on_data(id_of(c), bytes);
    c.rcv_nxt += taken;
    c.ack_due = true;
    if (taken != 0) touch(c, now_ns);
    if (taken < bytes.size()) {
      c.stalled = true;
      return;
    }
    const bool fin = chunk->fin;
    held_.pop(c.held);
    if (fin) on_fin(c, now_ns);
  }
}

void TcpEngine::on_fin(Connection& c, uint64_t now_ns) {
  ++c.rcv_nxt;
  c.ack_due = true;
  held_.clear(c.held);
  if (c.state == TcpState::kEstablished)
    c.state = TcpState::kCloseWait;
  else if (c.state == TcpState::kFinWait1)
    c.state = TcpState::kClosing;
  else if (c.state == TcpState::kFinWait2)
    enter_time_wait(c, now_ns);
  application_.on_peer_closed(id_of(c));
}

void TcpEngine::finish_input(Connection& c, uint64_t now_ns) {
  drain_held(c, now_ns);
  output(c, now_ns);
}

}  // namespace synfluid::guest::net
