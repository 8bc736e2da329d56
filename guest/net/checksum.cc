#include "guest/net/checksum.h"

namespace synfluid::guest::net {

uint64_t sum_bytes(std::span<const std::byte> bytes, uint64_t sum) {
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  // One's complement addition does not care how wide the words are that it adds.
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    copy_bytes(&word, at, sizeof(word));
    sum += word & 0xffffffff;
    sum += word >> 32;
  }
  for (; left >= 2; at += 2, left -= 2) {
    uint16_t word;
    copy_bytes(&word, at, sizeof(word));
    sum += word;
  }
  if (left == 1) sum += load_u8(at);
  return sum;
}

uint64_t sum_pseudo_header(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                           uint32_t length) {
  const size_t skip = source.is_v4() ? 12 : 0;
  uint64_t sum = sum_bytes(std::as_bytes(std::span(source.bytes).subspan(skip)));
  sum = sum_bytes(std::as_bytes(std::span(destination.bytes).subspan(skip)), sum);
  return sum + __builtin_bswap32(length) + (static_cast<uint64_t>(protocol) << 8);
}

uint16_t finish_sum(uint64_t sum) {
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace synfluid::guest::net
