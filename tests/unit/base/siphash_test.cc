#include "base/siphash.h"

#include <array>

#include <gtest/gtest.h>

namespace synfluid {
namespace {

/// The paper's test key: bytes 0 to 15.
constexpr SipKey kKey = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

TEST(SipHash, GivesThePublishedVectors) {
  EXPECT_EQ(siphash(kKey, {}), 0x726fdb47dd0e0e31u);
  const std::array<uint64_t, 1> eight = {0x0706050403020100};
  EXPECT_EQ(siphash(kKey, eight), 0x93f5f5799a932462u);
}

TEST(SipHash, DependsOnEachWordAndOnTheKey) {
  const std::array<uint64_t, 3> words = {1, 2, 3};
  const uint64_t hash = siphash(kKey, words);
  for (size_t i = 0; i < words.size(); ++i) {
    auto other = words;
    other[i] ^= 1;
    EXPECT_NE(siphash(kKey, other), hash);
  }
  EXPECT_NE(siphash({kKey[0] ^ 1, kKey[1]}, words), hash);
  EXPECT_NE(siphash({kKey[0], kKey[1] ^ 1}, words), hash);
}

}  // namespace
}  // namespace synfluid
