#include "gateway/partial_checksum.h"

#include <cstdint>
#include <cstring>
#include <optional>

#include "backend/checksum.h"

namespace synfluid::gateway {

namespace {

constexpr uint8_t kTcp = 6;

struct Reader {
  std::span<const std::byte> frame;
  uint8_t u8(size_t at) const { return static_cast<uint8_t>(frame[at]); }
  uint16_t u16(size_t at) const { return static_cast<uint16_t>(u8(at) << 8 | u8(at + 1)); }
};

std::optional<size_t> find_ipv4(const Reader& r) {
  constexpr size_t kTagged = 18;
  constexpr size_t kUntagged = 14;
  if (r.frame.size() < kTagged + 20) return {};
  if (r.u16(12) == 0x0800) return kUntagged;
  if (r.u16(12) == 0x8100 && r.u16(16) == 0x0800) return kTagged;
  return {};
}

}  // namespace

bool complete_partial_checksum(std::span<std::byte> frame) noexcept {
  const Reader r{frame};
  const backend::TransportPacket t = backend::find_transport(frame);
  const size_t length = t.end - t.begin;
  if (t.protocol == 0 || length < (t.protocol == kTcp ? 20u : 8u)) return false;
  const size_t field = t.begin + (t.protocol == kTcp ? 16 : 6);
  uint32_t sum = t.protocol + static_cast<uint32_t>(length);
  for (size_t i = 0; i < t.address_bytes; i += 2) sum += r.u16(t.addresses + i);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return r.u16(field) == sum && backend::fill_checksum(frame);
}

bool complete_ipv4_checksum(std::span<std::byte> frame) noexcept {
  constexpr size_t kField = 10;
  const Reader r{frame};
  const std::optional<size_t> at = find_ipv4(r);
  if (!at || r.u16(*at + kField) != 0) return false;
  const size_t header = size_t{r.u8(*at) & 0x0fu} * 4;
  if (header < 20 || *at + header > frame.size()) return false;
  const uint16_t sum = backend::fold_sum(backend::add_to_sum(frame.subspan(*at, header), 0));
  std::memcpy(frame.data() + *at + kField, &sum, sizeof(sum));
  return true;
}

}  // namespace synfluid::gateway
