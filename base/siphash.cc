#include "base/siphash.h"

#include <bit>

namespace synfluid {

namespace {

void round_of(std::array<uint64_t, 4>& v) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = std::rotl(v[1], 13) ^ v[0];
  v[3] = std::rotl(v[3], 16) ^ v[2];
  v[0] = std::rotl(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = std::rotl(v[1], 17) ^ v[2];
  v[3] = std::rotl(v[3], 21) ^ v[0];
  v[2] = std::rotl(v[2], 32);
}

void absorb(std::array<uint64_t, 4>& v, uint64_t block) {
  v[3] ^= block;
  for (int i = 0; i < 2; ++i) round_of(v);
  v[0] ^= block;
}

}  // namespace

uint64_t siphash(const SipKey& key, std::span<const uint64_t> words) noexcept {
  const uint64_t length_block = uint64_t{words.size() * sizeof(uint64_t)} << 56;
  std::array<uint64_t, 4> v{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                            key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
  for (const uint64_t word : words) absorb(v, word);
  absorb(v, length_block);
  v[2] ^= 0xff;
  for (int i = 0; i < 4; ++i) round_of(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

}  // namespace synfluid
