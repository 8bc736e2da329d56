// Deadlines: retransmission, probes, and giving up.
#include "guest/net/tcp/engine.h"

namespace synfluid::guest::net {
namespace {

/// 1, 2, 4, 8 and 16 s: a client that has not answered by then has given up itself.
constexpr uint8_t kSynAckRetries = 4;
/// From 0.2 s on, doubled each time: more than a minute and a half.
constexpr uint8_t kDataRetries = 9;
constexpr uint32_t kMaxRtoUs = 60'000'000;

}  // namespace

void TcpEngine::set_timers(Connection& c, uint64_t now_ns) {
  if (c.state == TcpState::kFree) return;
  const bool waits = c.state != TcpState::kTimeWait && (c.in_flight() != 0 || c.snd_nxt != c.end_seq());
  if (!waits)
    c.retransmit_at_ns = kNever;
  else if (c.retransmit_at_ns == kNever)
    c.retransmit_at_ns = now_ns + uint64_t{c.rto_us} * 1000;
  timers_.hasten(id_of(c), c.due_ns());
}

void TcpEngine::run_timers(uint64_t now_ns) {
  while (timers_.next_ns() <= now_ns) {
    Connection& c = connections_[timers_.first()];
    if (c.due_ns() > now_ns)
      timers_.postpone_first(c.due_ns());
    else
      on_timer(c, now_ns);
  }
}

void TcpEngine::on_timer(Connection& c, uint64_t now_ns) {
  if (c.expire_at_ns <= now_ns)
    on_expiry(c, now_ns);
  else
    on_retransmit_timer(c, now_ns);
}

void TcpEngine::on_retransmit_timer(Connection& c, uint64_t now_ns) {
  const bool opening = c.state == TcpState::kSynReceived;
  if (c.retries >= (opening ? kSynAckRetries : kDataRetries)) {
    abort(c);
    return;
  }
  ++c.retries;
  c.rto_us = smaller(2 * c.rto_us, kMaxRtoUs);
  c.retransmit_at_ns = kNever;
  c.timing = false;
  if (opening) {
    ++counters_.retransmitted;
    send_syn_ack(c, now_ns);
    set_timers(c, now_ns);
    return;
  }
  if (c.in_flight() == 0) {
    send_probe(c, now_ns);
    set_timers(c, now_ns);
    return;
  }
  ++counters_.timeouts;
  if (c.retries == 1) c.ssthresh = larger(c.in_flight() / 2, 2u * c.mss);
  c.cwnd = c.mss;
  c.recovering = false;
  c.duplicate_acks = 0;
  c.recover = c.snd_max;
  c.snd_nxt = c.snd_una;
  output(c, now_ns);
}

/// Nothing has moved for too long.
void TcpEngine::on_expiry(Connection& c, uint64_t now_ns) {
  const bool quiet = c.state == TcpState::kEstablished && c.snd_una == c.end_seq();
  if (quiet) {
    // An idle client is told, and gets as long again to answer.
    c.fin_wanted = true;
    touch(c, now_ns);
    output(c, now_ns);
    return;
  }
  if (c.state == TcpState::kTimeWait || c.state == TcpState::kFinWait2)
    release(c);
  else
    abort(c);
}

void TcpEngine::abort(Connection& c) {
  ++counters_.aborted;
  if (c.state != TcpState::kSynReceived) {
    c.ack_due = true;
    c.snd_nxt = c.snd_max;
    send_reset(c);
  }
  release(c);
}

void TcpEngine::enter_time_wait(Connection& c, uint64_t now_ns) {
  if (c.state != TcpState::kTimeWait) ++in_time_wait_;
  c.state = TcpState::kTimeWait;
  c.retransmit_at_ns = kNever;
  c.expire_at_ns = now_ns + config_.time_wait_ns;
  timers_.hasten(id_of(c), c.due_ns());
}

}  // namespace synfluid::guest::net
