#include "gateway/rss_key.h"

#include <bit>

namespace synfluid::gateway {

RssKey symmetric_rss_key(uint16_t secret) noexcept {
  if (std::popcount(secret) % 2 == 0) secret ^= 1;
  RssKey key;
  for (std::size_t i = 0; i < key.size(); ++i)
    key[i] = static_cast<uint8_t>(i % 2 == 0 ? secret >> 8 : secret);
  return key;
}

}  // namespace synfluid::gateway
