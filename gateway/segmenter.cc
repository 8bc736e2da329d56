#include "gateway/segmenter.h"

#include <cstring>

#include "backend/checksum.h"
#include "backend/link_adapter.h"
#include "base/packet.h"

namespace synfluid::gateway {

namespace {

constexpr size_t kTcpBytes = 20;
constexpr size_t kUdpBytes = 8;
constexpr size_t kIpv6Bytes = 40;
constexpr uint8_t kCwr = 0x80;

uint8_t u8(std::span<const std::byte> bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}
uint32_t u16(std::span<const std::byte> bytes, size_t at) {
  return uint32_t{u8(bytes, at)} << 8 | u8(bytes, at + 1);
}
uint32_t u32(std::span<const std::byte> bytes, size_t at) {
  return u16(bytes, at) << 16 | u16(bytes, at + 2);
}
void put16(std::span<std::byte> bytes, size_t at, size_t value) {
  bytes[at] = static_cast<std::byte>(value >> 8);
  bytes[at + 1] = static_cast<std::byte>(value);
}
void put32(std::span<std::byte> bytes, size_t at, uint32_t value) {
  put16(bytes, at, value >> 16);
  put16(bytes, at + 2, value);
}

/// 0 if they are not all there.
size_t transport_header_bytes(std::span<const std::byte> frame, const backend::TransportPacket& packet) {
  if (packet.end - packet.begin < kUdpBytes) return 0;
  if (packet.protocol != static_cast<uint8_t>(Segmenter::Protocol::kTcp)) return kUdpBytes;
  if (packet.end - packet.begin < kTcpBytes) return 0;
  const size_t bytes = size_t{u8(frame, packet.begin + 12)} / 16 * 4;
  return bytes < kTcpBytes || bytes > packet.end - packet.begin ? 0 : bytes;
}

}  // namespace

bool Segmenter::start(std::span<const std::byte> frame, Protocol protocol, size_t segment_bytes) noexcept {
  drop();
  const backend::TransportPacket packet = backend::find_transport(frame);
  if (packet.protocol != static_cast<uint8_t>(protocol) || segment_bytes == 0) return false;
  const size_t header = transport_header_bytes(frame, packet);
  if (header == 0 || packet.begin + header == packet.end) return false;
  frame_ = frame;
  protocol_ = protocol;
  ip_ = backend::link_header_bytes(frame);
  transport_ = packet.begin;
  payload_ = next_ = packet.begin + header;
  segment_ = segment_bytes;
  end_ = packet.end;
  return true;
}

void Segmenter::write_next(std::span<std::byte> out) noexcept {
  const size_t bytes = this_segment();
  std::memcpy(out.data(), frame_.data(), payload_);
  std::memcpy(out.data() + payload_, frame_.data() + next_, bytes);
  out = out.first(payload_ + bytes);
  write_ip(out);
  if (protocol_ == Protocol::kTcp)
    write_tcp(out);
  else
    put16(out, transport_ + 4, out.size() - transport_);
  backend::fill_checksum(out);
  next_ += bytes;
}

void Segmenter::write_ip(std::span<std::byte> out) const noexcept {
  if (u8(out, ip_) >> 4 == 6) return put16(out, ip_ + 4, out.size() - ip_ - kIpv6Bytes);
  const size_t number = (next_ - payload_) / segment_;
  put16(out, ip_ + 2, out.size() - ip_);
  put16(out, ip_ + 4, u16(out, ip_ + 4) + number);
  put16(out, ip_ + 10, 0);
  const auto header = out.subspan(ip_, size_t{u8(out, ip_) & 0x0fu} * 4);
  const uint16_t sum = backend::fold_sum(backend::add_to_sum(header, 0));
  std::memcpy(header.data() + 10, &sum, sizeof(sum));
}

void Segmenter::write_tcp(std::span<std::byte> out) const noexcept {
  std::byte& flags = out[transport_ + 13];
  if (next_ != payload_) flags &= ~std::byte{kCwr};
  if (next_ + this_segment() != end_) flags &= ~std::byte{tcp_flag::kFin | tcp_flag::kPsh};
  put32(out, transport_ + 4, u32(out, transport_ + 4) + static_cast<uint32_t>(next_ - payload_));
}

}  // namespace synfluid::gateway
