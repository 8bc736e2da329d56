#include "gateway/stream_tracker.h"

#include <string_view>

namespace synfluid::gateway {

size_t StreamTracker::KeyHash::operator()(const FlowKey& key) const noexcept {
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof(key)});
}

StreamTracker::Seen StreamTracker::see(const ParsedPacket& packet) {
  const size_t end = static_cast<size_t>(packet.flow.from);
  const bool opens = (packet.tcp_flags & (tcp_flag::kSyn | tcp_flag::kAck)) == tcp_flag::kSyn;
  auto [it, inserted] = current_.try_emplace(packet.flow.key);
  Current& now = it->second;
  const bool reused = !inserted && opens && now.has_base[end] && now.base[end] != packet.tcp_seq;
  if (inserted || reused) {
    now = Current{.stream = streams()};
    streams_.push_back({packet.flow.key, packet.flow.from, packet.is_pure_syn()});
    if (packet.is_pure_syn()) ++connections_;
  }
  if (!now.has_base[end]) {
    now.has_base[end] = true;
    now.base[end] = packet.has_flag(tcp_flag::kSyn) ? packet.tcp_seq : packet.tcp_seq - 1;
  }
  return {now.stream, inserted || reused, streams_[now.stream].initiator == packet.flow.from};
}

}  // namespace synfluid::gateway
