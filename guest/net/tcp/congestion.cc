// Round trips and the congestion window: RFC 6298, RFC 5681, RFC 6928.
#include "guest/net/tcp/engine.h"

namespace synfluid::guest::net {
namespace {

/// RFC 6298 says 1 s at least; Linux and others have shown 200 ms to be safe with delayed ACKs of 40 to 100
/// ms.
constexpr uint32_t kMinRtoUs = 200'000;
constexpr uint32_t kMaxRtoUs = 60'000'000;
constexpr uint32_t kFirstRtoUs = 1'000'000;
constexpr uint32_t kGranularityUs = 1'000;
/// So that no window wraps when it grows.
constexpr uint32_t kMaxWindow = 1u << 24;

}  // namespace

void TcpEngine::start_window(Connection& c) {
  c.rto_us = kFirstRtoUs;
  c.ssthresh = kMaxWindow;
  c.cwnd = smaller(10u * c.mss, larger(2u * c.mss, 14'600));
}

void TcpEngine::sample_rtt(Connection& c, uint64_t now_ns) {
  c.timing = false;
  const uint64_t elapsed_us = (now_ns - c.timed_at_ns) / 1000;
  const auto rtt_us = static_cast<uint32_t>(elapsed_us < kMaxRtoUs ? elapsed_us : kMaxRtoUs);
  if (c.srtt_us == 0) {
    c.srtt_us = larger(rtt_us, 1);
    c.rttvar_us = rtt_us / 2;
  } else {
    const uint32_t error = c.srtt_us > rtt_us ? c.srtt_us - rtt_us : rtt_us - c.srtt_us;
    c.rttvar_us = static_cast<uint32_t>((3ull * c.rttvar_us + error) / 4);
    c.srtt_us = larger(1, static_cast<uint32_t>((7ull * c.srtt_us + rtt_us) / 8));
  }
  set_rto(c);
}

/// From what is known of the round trip; undoes the doubling of time-outs. Without that, on a path that loses
/// much, one unlucky segment would make every later loss cost a minute: no sample comes while anything is
/// sent twice.
void TcpEngine::set_rto(Connection& c) {
  if (c.srtt_us == 0) {
    c.rto_us = kFirstRtoUs;
    return;
  }
  const uint64_t rto_us = uint64_t{c.srtt_us} + larger(kGranularityUs, smaller(4 * c.rttvar_us, kMaxRtoUs));
  c.rto_us = static_cast<uint32_t>(rto_us < kMinRtoUs ? kMinRtoUs : rto_us > kMaxRtoUs ? kMaxRtoUs : rto_us);
}

void TcpEngine::grow_window(Connection& c, uint32_t acked) {
  if (c.cwnd < c.ssthresh)
    c.cwnd += smaller(acked, c.mss);
  else
    c.cwnd += larger(1, uint32_t{c.mss} * c.mss / larger(c.cwnd, 1));
  c.cwnd = smaller(c.cwnd, kMaxWindow);
}

}  // namespace synfluid::guest::net
