#include "bench/syn_frame.h"

#include <algorithm>
#include <array>

#include <gtest/gtest.h>

namespace synfluid::bench {
namespace {

constexpr size_t kAddressesAt = 14 + 12;
constexpr size_t kPortsAt = 14 + 20;
constexpr size_t kFlagsAt = kPortsAt + 13;

/// What a server sends back: addresses and ports the other way round.
std::array<std::byte, kSynBytes> answer_to(std::array<std::byte, kSynBytes> frame) {
  std::rotate(&frame[kAddressesAt], &frame[kAddressesAt + 4], &frame[kAddressesAt + 8]);
  std::rotate(&frame[kPortsAt], &frame[kPortsAt + 2], &frame[kPortsAt + 4]);
  frame[kFlagsAt] = std::byte{0x12};
  return frame;
}

TEST(SynFrame, EachClientHasItsOwn) {
  EXPECT_NE(make_syn(1), make_syn(2));
  EXPECT_NE(make_syn(1), make_syn(0x10001));
}

TEST(SynFrame, ItsAnswerIsRecognised) {
  const auto syn = make_syn(0x20304);
  EXPECT_TRUE(is_synack_to(syn, answer_to(syn)));
}

TEST(SynFrame, TheSynItselfIsNoAnswer) {
  const auto syn = make_syn(1);
  EXPECT_FALSE(is_synack_to(syn, syn));
}

TEST(SynFrame, ItsResetIsTheNextByteOfTheSameConnection) {
  const auto syn = make_syn(7);
  const auto reset = make_reset(7);
  EXPECT_TRUE(std::equal(&syn[kAddressesAt], &syn[kPortsAt + 7], &reset[kAddressesAt]));
  EXPECT_EQ(static_cast<int>(reset[kPortsAt + 7]), static_cast<int>(syn[kPortsAt + 7]) + 1);
  EXPECT_EQ(reset[kFlagsAt], std::byte{0x04});
}

/// A guest that has not heard from its first client sends again; that says nothing about the second.
TEST(SynFrame, TheAnswerToAnotherClientIsNone) {
  for (const uint32_t other : {2u, 0x101u, 0x10001u}) {
    EXPECT_TRUE(is_synack(answer_to(make_syn(other))));
    EXPECT_FALSE(is_synack_to(make_syn(1), answer_to(make_syn(other))));
  }
}

}  // namespace
}  // namespace synfluid::bench
