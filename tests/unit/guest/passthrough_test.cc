#include <gtest/gtest.h>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {
namespace {

AreaConfig passthrough() {
  return {.service = abi::ServiceKind::kPassthrough};
}

TEST(Passthrough, FramesComeBackByteForByte) {
  Rig rig(passthrough());
  for (const size_t size : {60u, 1514u, 4096u}) {
    Frame frame(size);
    for (size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(i * 7);
    EXPECT_EQ(rig.exchange(frame), std::vector<Frame>(1, frame)) << size;
  }
  EXPECT_EQ(rig.report().frames_received, 3u);
  EXPECT_EQ(rig.report().frames_sent, 3u);
  EXPECT_EQ(rig.report().frames_dropped, 0u);
}

TEST(Passthrough, AFrameOfSeveralPagesComesBackWhole) {
  Rig rig(passthrough());
  Frame jumbo(9014);
  for (size_t i = 0; i < jumbo.size(); ++i) jumbo[i] = static_cast<std::byte>(i / 3);
  EXPECT_EQ(rig.exchange(jumbo), std::vector<Frame>(1, jumbo));
}

TEST(Passthrough, AFrameThatDoesNotBeginAtThePageComesBackWhole) {
  Rig rig(passthrough());
  const Frame frame(700, std::byte{9});
  ASSERT_TRUE(rig.host().push(std::span(frame), 512));
  rig.host().publish();
  EXPECT_EQ(rig.run(), std::vector<Frame>(1, frame));
}

TEST(Passthrough, ForwardsForeverWithFewBuffers) {
  Rig rig({.service = abi::ServiceKind::kPassthrough, .buffers = 4, .rx_posted = 2});
  for (uint32_t i = 0; i < 5000; ++i) {
    const Frame frame(64 + i % 100, static_cast<std::byte>(i));
    ASSERT_EQ(rig.exchange(frame), std::vector<Frame>(1, frame)) << i;
  }
}

}  // namespace
}  // namespace synfluid::guest::testing
