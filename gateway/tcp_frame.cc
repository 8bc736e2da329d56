#include "gateway/tcp_frame.h"

#include <cstring>

#include "backend/checksum.h"
#include "backend/link_adapter.h"

namespace synfluid::gateway {

namespace {

constexpr size_t kIpv4Bytes = 20;
constexpr size_t kIpv6Bytes = 40;
constexpr size_t kTcpBytes = 20;
constexpr uint8_t kHopLimit = 64;
constexpr uint8_t kProtoTcp = 6;

/// Writes one behind the other; who makes one knows that there is room.
class Writer {
 public:
  explicit Writer(std::byte* at) : at_(at) {}
  Writer& u8(unsigned value) {
    *at_++ = static_cast<std::byte>(value);
    return *this;
  }
  Writer& u16(size_t value) { return u8(value >> 8 & 0xff).u8(value & 0xff); }
  Writer& u32(uint32_t value) { return u16(value >> 16).u16(value & 0xffff); }
  Writer& copy(std::span<const std::byte> from) {
    if (!from.empty()) std::memcpy(at_, from.data(), from.size());
    at_ += from.size();
    return *this;
  }
  Writer& address(const Address& a, size_t from) {
    return copy(std::as_bytes(std::span(a.bytes)).subspan(from));
  }
  std::byte* at() const { return at_; }

 private:
  std::byte* at_;
};

void write_ipv4(Writer& out, const TcpFrame& f, size_t tcp_bytes) {
  std::byte* const header = out.at();
  out.u16(0x4500).u16(kIpv4Bytes + tcp_bytes).u32(0x4000).u8(kHopLimit).u8(kProtoTcp).u16(0);  // don't
                                                                                               // fragment
  out.address(f.source.address, 12).address(f.destination.address, 12);
  const uint16_t sum = backend::fold_sum(backend::add_to_sum({header, kIpv4Bytes}, 0));
  std::memcpy(header + 10, &sum, sizeof(sum));
}

void write_ipv6(Writer& out, const TcpFrame& f, size_t tcp_bytes) {
  out.u32(0x60000000).u16(tcp_bytes).u8(kProtoTcp).u8(kHopLimit);
  out.address(f.source.address, 0).address(f.destination.address, 0);
}

}  // namespace

size_t write_tcp_frame(const TcpFrame& f, std::span<std::byte> into) noexcept {
  const size_t tcp_header = kTcpBytes + f.options.size();
  const size_t segment = tcp_header + f.payload.size();
  const size_t length = f.link_header.size() + (f.ip_version == 4 ? kIpv4Bytes : kIpv6Bytes) + segment;
  if (into.size() < length) return 0;
  Writer out(into.data());
  out.copy(f.link_header);
  if (f.ip_version == 4)
    write_ipv4(out, f, segment);
  else
    write_ipv6(out, f, segment);
  out.u16(f.source.port).u16(f.destination.port).u32(f.seq).u32(f.ack);
  out.u8(static_cast<unsigned>(tcp_header / 4 << 4)).u8(f.flags).u16(f.window).u32(0);
  out.copy(f.options).copy(f.payload);
  backend::fill_checksum(into.first(length));
  return length;
}

uint8_t ip_version_of(std::span<const std::byte> frame, const ParsedPacket& packet) noexcept {
  return static_cast<uint8_t>(frame[packet.l3_offset]) >> 4;
}

namespace {

/// Turns `answer` round: from where `packet` went to where it came from.
size_t write_answer(std::span<const std::byte> frame, const ParsedPacket& packet, TcpFrame answer,
                    std::span<std::byte> into) noexcept {
  const auto link = backend::LinkHeader::of(frame, packet.l3_offset).reversed();
  if (link.empty() || frame.size() == packet.l3_offset) return 0;
  answer.link_header = link.bytes();
  answer.ip_version = ip_version_of(frame, packet);
  answer.source = packet.flow.destination();
  answer.destination = packet.flow.source();
  return write_tcp_frame(answer, into);
}

}  // namespace

size_t write_syn_ack(std::span<const std::byte> frame, const ParsedPacket& packet, uint32_t ack,
                     std::span<std::byte> into) noexcept {
  TcpFrame syn_ack;
  syn_ack.ack = ack;
  syn_ack.flags = tcp_flag::kSyn | tcp_flag::kAck;
  return write_answer(frame, packet, syn_ack, into);
}

size_t write_reset(std::span<const std::byte> frame, const ParsedPacket& packet,
                   std::span<std::byte> into) noexcept {
  using namespace tcp_flag;
  if (packet.has_flag(kRst)) return 0;
  const bool acknowledges = packet.has_flag(kAck);
  const uint32_t behind = packet.tcp_seq + packet.payload_length + (packet.has_flag(kSyn) ? 1u : 0u) +
                          (packet.has_flag(kFin) ? 1u : 0u);
  TcpFrame reset;
  reset.seq = acknowledges ? packet.tcp_ack : 0;
  reset.ack = acknowledges ? 0 : behind;
  reset.flags = acknowledges ? kRst : kRst | kAck;
  return write_answer(frame, packet, reset, into);
}

}  // namespace synfluid::gateway
