#include "gateway/client_player.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/clock.h"
#include "gateway/tcp_frame.h"

namespace synfluid::gateway {

using namespace tcp_flag;

namespace {

constexpr int64_t kFirstTimeoutNs = 200 * kNsPerMs;
constexpr int kTries = 5;
/// A server that has closed may be gone altogether.
constexpr int kTriesAfterFin = 2;
/// Segments kept behind a gap in the trace; then the gap is taken for a loss of the capture.
constexpr size_t kMostEarly = 32;
/// The largest segment whose frame is an ordinary Ethernet one.
constexpr uint32_t kMostPayload = 1400;

constexpr uint8_t kOptEnd = 0;
constexpr uint8_t kOptNop = 1;
constexpr uint8_t kOptMss = 2;
constexpr uint8_t kOptWindowScale = 3;
constexpr uint8_t kOptTimestamps = 8;

constexpr int32_t distance(uint32_t from, uint32_t to) {
  return static_cast<int32_t>(to - from);
}

uint32_t read_be(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (std::byte b : bytes) value = value << 8 | static_cast<uint8_t>(b);
  return value;
}

void append_be(std::vector<std::byte>& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> shift & 0xff));
}

/// Calls fn(kind, value bytes) for each TCP option of a frame that parsed as TCP.
template <class Fn>
void for_each_option(std::span<const std::byte> frame, const ParsedPacket& packet, Fn&& fn) {
  size_t at = packet.l4_offset + 20u;
  const size_t end = packet.payload_offset;
  while (at < end) {
    const auto kind = static_cast<uint8_t>(frame[at]);
    if (kind == kOptEnd) return;
    if (kind == kOptNop) {
      ++at;
      continue;
    }
    if (at + 2 > end) return;
    const auto length = static_cast<uint8_t>(frame[at + 1]);
    if (length < 2 || at + length > end) return;
    fn(kind, frame.subspan(at + 2, length - 2u));
    at += length;
  }
}

uint16_t window_of(std::span<const std::byte> frame, const ParsedPacket& packet) {
  return static_cast<uint16_t>(read_be(frame.subspan(packet.l4_offset + 14u, 2)));
}

}  // namespace

ClientPlayer::ClientPlayer(std::span<const std::byte> syn_frame, const ParsedPacket& syn, Send send)
    : send_(std::move(send)),
      link_header_(syn_frame.begin(), syn_frame.begin() + syn.l3_offset),
      ip_version_(ip_version_of(syn_frame, syn)),
      client_(syn.flow.source()),
      server_(syn.flow.destination()),
      trace_next_(syn.tcp_seq + 1),
      next_(syn.tcp_seq + 1),
      window_(window_of(syn_frame, syn)),
      trace_first_(syn.tcp_seq + 1) {
  for_each_option(syn_frame, syn, [this](uint8_t kind, std::span<const std::byte>) {
    if (kind == kOptWindowScale) client_scales_ = true;
    if (kind == kOptTimestamps) timestamps_ = true;
  });
}

void ClientPlayer::trace_packet(std::span<const std::byte> frame, const ParsedPacket& packet,
                                int64_t now_ns) {
  if (over_ || packet.has_flag(kSyn)) return;
  if (const uint16_t window = window_of(frame, packet); window != 0) window_ = window;
  if (packet.has_flag(kRst)) {
    if (syn_acked_) send(packet.tcp_flags & (kRst | kAck), next_, {});
    return end();
  }
  if (!established_ && packet.has_flag(kAck)) {
    established_ = true;
    if (syn_acked_) acknowledge();
  }
  if (packet.payload_length > 0 || packet.has_flag(kFin))
    take_in_order(packet.tcp_seq, frame.subspan(packet.payload_offset, packet.payload_length),
                  packet.has_flag(kFin));
  pump(now_ns);
}

/// Puts the trace's segments into their order; what was said already is left out.
void ClientPlayer::take_in_order(uint32_t trace_seq, std::span<const std::byte> payload, bool fin) {
  const int32_t ahead = distance(trace_next_, trace_seq);
  if (ahead > 0) {
    Segment early;
    early.seq = trace_seq;
    early.fin = fin;
    early.payload.assign(payload.begin(), payload.end());
    early_.insert_or_assign(trace_seq - trace_first_, std::move(early));
    if (early_.size() <= kMostEarly && !fin) return;
    trace_next_ = early_.begin()->second.seq;  // the gap will not be filled
  } else {
    const size_t known = std::min<size_t>(static_cast<size_t>(-static_cast<int64_t>(ahead)), payload.size());
    const bool fin_is_new =
        fin && distance(trace_next_, trace_seq + static_cast<uint32_t>(payload.size()) + 1) > 0;
    if (known == payload.size() && !fin_is_new) return;
    say(payload.subspan(known), fin);
    trace_next_ = trace_seq + static_cast<uint32_t>(payload.size()) + (fin ? 1 : 0);
  }
  while (!early_.empty() && distance(trace_next_, early_.begin()->second.seq) <= 0) {
    const Segment next = std::move(early_.extract(early_.begin()).mapped());
    take_in_order(next.seq, next.payload, next.fin);
  }
}

void ClientPlayer::say(std::span<const std::byte> payload, bool fin) {
  const size_t most = std::min(vm_mss_, kMostPayload);
  do {
    const size_t now = std::min(most, payload.size());
    Segment segment;
    segment.seq = next_;
    segment.payload.assign(payload.begin(), payload.begin() + static_cast<ptrdiff_t>(now));
    payload = payload.subspan(now);
    segment.fin = fin && payload.empty();
    next_ = segment.end();
    unsent_.push_back(std::move(segment));
  } while (!payload.empty());
}

void ClientPlayer::pump(int64_t now_ns) {
  if (!syn_acked_ || !established_ || over_) return;
  while (!unsent_.empty()) {
    Segment& segment = unsent_.front();
    const uint32_t first = unacked_.empty() ? segment.seq : unacked_.front().seq;
    // One segment is always under way: where the window is shut it is the probe.
    if (!unacked_.empty() && segment.end() - first > vm_window_) return;
    segment.sent_ns = now_ns;
    segment.tries = 1;
    transmit(segment);
    unacked_.push_back(std::move(segment));
    unsent_.pop_front();
  }
}

void ClientPlayer::vm_packet(std::span<const std::byte> frame, const ParsedPacket& packet, int64_t now_ns) {
  if (over_) return;
  if (packet.has_flag(kRst)) return end();
  if (packet.has_flag(kSyn)) {
    read_syn_ack(frame, packet);
    if (established_) acknowledge();
    return pump(now_ns);
  }
  if (!syn_acked_) return;
  read_window(frame, packet);
  while (!unacked_.empty() && packet.has_flag(kAck) && distance(unacked_.front().end(), packet.tcp_ack) >= 0)
    unacked_.pop_front();
  if (packet.payload_length > 0 || packet.has_flag(kFin)) {
    if (packet.tcp_seq == expected_) {
      expected_ += packet.payload_length;
      bytes_from_vm_ += packet.payload_length;
      if (packet.has_flag(kFin)) {
        ++expected_;
        vm_fin_ = true;
      }
    }
    acknowledge();
  }
  pump(now_ns);
}

void ClientPlayer::tick(int64_t now_ns) {
  if (over_ || unacked_.empty()) return;
  Segment& oldest = unacked_.front();
  if (now_ns - oldest.sent_ns < kFirstTimeoutNs << (oldest.tries - 1)) return;
  if (oldest.tries >= (vm_fin_ ? kTriesAfterFin : kTries)) return end();
  ++oldest.tries;
  ++retransmissions_;
  oldest.sent_ns = now_ns;
  transmit(oldest);
}

void ClientPlayer::transmit(const Segment& segment) {
  const uint8_t flags =
      static_cast<uint8_t>(kAck | (segment.payload.empty() ? 0 : kPsh) | (segment.fin ? kFin : 0));
  send(flags, segment.seq, segment.payload);
}

void ClientPlayer::acknowledge() {
  send(kAck, unsent_.empty() ? next_ : unsent_.front().seq, {});
}

void ClientPlayer::read_syn_ack(std::span<const std::byte> frame, const ParsedPacket& packet) {
  if (syn_acked_) return;
  syn_acked_ = true;
  expected_ = packet.tcp_seq + 1;
  vm_window_ = window_of(frame, packet);
  bool vm_timestamps = false;
  for_each_option(frame, packet, [&](uint8_t kind, std::span<const std::byte> value) {
    if (kind == kOptMss && value.size() == 2) vm_mss_ = std::max<uint32_t>(64, read_be(value));
    if (kind == kOptWindowScale && value.size() == 1 && client_scales_)
      vm_window_scale_ = std::min<uint8_t>(14, static_cast<uint8_t>(value[0]));
    if (kind == kOptTimestamps && value.size() == 8) {
      vm_timestamps = true;
      vm_timestamp_ = read_be(value.first(4));
    }
  });
  timestamps_ = timestamps_ && vm_timestamps;
}

void ClientPlayer::read_window(std::span<const std::byte> frame, const ParsedPacket& packet) {
  vm_window_ = static_cast<uint32_t>(window_of(frame, packet)) << vm_window_scale_;
  if (!timestamps_) return;
  for_each_option(frame, packet, [this](uint8_t kind, std::span<const std::byte> value) {
    if (kind == kOptTimestamps && value.size() == 8) vm_timestamp_ = read_be(value.first(4));
  });
}

std::vector<std::byte> ClientPlayer::options() {
  std::vector<std::byte> bytes;
  if (!timestamps_) return bytes;
  bytes = {std::byte{kOptNop}, std::byte{kOptNop}, std::byte{kOptTimestamps}, std::byte{10}};
  append_be(bytes, ++timestamp_);
  append_be(bytes, vm_timestamp_);
  return bytes;
}

void ClientPlayer::send(uint8_t flags, uint32_t seq, std::span<const std::byte> payload) {
  const std::vector<std::byte> option_bytes = options();
  TcpFrame frame;
  frame.link_header = link_header_;
  frame.ip_version = ip_version_;
  frame.source = client_;
  frame.destination = server_;
  frame.seq = seq;
  frame.ack = (flags & kAck) != 0 ? expected_ : 0;
  frame.flags = flags;
  frame.window = window_;
  frame.options = option_bytes;
  frame.payload = payload;
  std::vector<std::byte> bytes(kMaxTcpHeaders + kMaxTcpOptions + payload.size());
  bytes.resize(write_tcp_frame(frame, bytes));
  send_(bytes);
}

}  // namespace synfluid::gateway
