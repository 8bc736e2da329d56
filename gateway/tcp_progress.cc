#include "gateway/flow_data.h"

namespace synfluid::gateway {

namespace {

/// The largest window TCP can have is 1 GiB; real ones stay under this.
constexpr int32_t kPlausibleWindow = 1 << 26;

/// Sequence numbers are compared modulo 2^32 (RFC 9293 3.4).
constexpr int32_t distance(uint32_t from, uint32_t to) {
  return static_cast<int32_t>(to - from);
}

}  // namespace

FlowEnd TcpProgress::see(const ParsedPacket& packet) noexcept {
  const auto from = static_cast<size_t>(packet.flow.from);
  const size_t to = 1 - from;
  if (packet.has_flag(tcp_flag::kRst)) {
    const int32_t ahead = distance(last_ack[to], packet.tcp_seq);
    return !ack_known[to] || (ahead >= -1 && ahead < kPlausibleWindow) ? FlowEnd::kReset : FlowEnd::kOpen;
  }
  if (packet.has_flag(tcp_flag::kFin) && !fin_seen[from]) {
    fin_seen[from] = true;
    fin_end[from] = packet.tcp_seq + packet.payload_length + 1;
  }
  if (packet.has_flag(tcp_flag::kAck)) {
    if (!ack_known[from] || distance(last_ack[from], packet.tcp_ack) > 0) last_ack[from] = packet.tcp_ack;
    ack_known[from] = true;
    if (fin_seen[to] && distance(fin_end[to], packet.tcp_ack) >= 0) fin_acked[to] = true;
  }
  return fin_acked[0] && fin_acked[1] ? FlowEnd::kFin : FlowEnd::kOpen;
}

}  // namespace synfluid::gateway
