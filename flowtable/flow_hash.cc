#include "flowtable/flow_hash.h"

#include <bit>
#include <cerrno>

#include <sys/random.h>

namespace synfluid::flowtable {

namespace {

/// SipHash's round (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, section 2).
void sip_round(std::array<uint64_t, 4>& v) {
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

void sip_absorb(std::array<uint64_t, 4>& v, uint64_t block) {
  v[3] ^= block;
  for (int i = 0; i < 2; ++i) sip_round(v);
  v[0] ^= block;
}

/// SipHash-2-4 of the eight bytes of `message`.
uint64_t siphash(const Secret& key, uint64_t message) {
  constexpr uint64_t kLengthBlock = uint64_t{8} << 56;
  std::array<uint64_t, 4> v{key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                            key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
  sip_absorb(v, message);
  sip_absorb(v, kLengthBlock);
  v[2] ^= 0xff;
  for (int i = 0; i < 4; ++i) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

}  // namespace

Result<Secret> random_secret() {
  Secret secret;
  if (getrandom(secret.data(), sizeof secret, 0) != static_cast<ssize_t>(sizeof secret))
    return Error::from_errno(errno, "reading a secret from the kernel's random generator");
  return secret;
}

FlowHash::FlowHash(const Secret& secret) noexcept {
  for (size_t i = 0; i < words_.size(); ++i) words_[i] = siphash(secret, i);
}

}  // namespace synfluid::flowtable
