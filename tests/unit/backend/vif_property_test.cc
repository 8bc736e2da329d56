// Random sequences of what a guest and its host do, against a model that knows what must come out.
//
// The guest keeps the protocol but for requests that it spoils on purpose. The model holds both directions as
// queues: what was sent must be received, whole and in order, and every slot must be answered once.
#include <algorithm>
#include <deque>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "backend/vif.h"
#include "tests/unit/backend/front_end.h"

namespace synfluid::backend {
namespace {

using testing::FakeLink;
using testing::Frame;
using testing::FrontEnd;
using testing::Grants;
using testing::GuestMemory;
using testing::LinkLog;
using testing::TxSlot;

class Model {
 public:
  Model(Grants grants, uint64_t seed)
      : random_(seed),
        vif_(std::make_unique<FakeLink>(memory_, grants, log_,
                                        GuestLink::FrontEnd{.receives_chains = true})) {}

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) step();
    settle();
  }

 private:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

  Frame random_frame(size_t max_bytes) {
    Frame frame(14 + below(static_cast<uint32_t>(max_bytes - 13)));
    const uint64_t seed = random_();
    for (size_t i = 0; i < frame.size(); ++i) frame[i] = static_cast<std::byte>((seed >> (i % 8 * 8)) + i);
    return frame;
  }

  void step() {
    switch (below(8)) {
      case 0:
        return guest_posts();
      case 1:
        return guest_transmits();
      case 2:
        return guest_transmits_pieces();
      case 3:
        return guest_spoils_one();
      case 4:
        return host_sends();
      case 5:
        return host_receives();
      case 6:
        return host_flushes();
      case 7:
        return guest_collects();
    }
  }

  bool has_room_for(uint32_t slots) {
    return guest_.free_buffers() >= slots && guest_.tx_outstanding() + slots <= abi::kRingSlots;
  }

  void guest_posts() {
    const uint32_t count = below(6);
    if (guest_.free_buffers() >= count + 8 && guest_.rx_outstanding() + count <= abi::kRingSlots)
      guest_.post(count);
  }
  void guest_transmits() {
    if (!has_room_for(1)) return;
    const Frame frame = random_frame(1500);
    guest_.transmit(frame, 0, static_cast<uint16_t>(below(4096 - 1500)));
    from_guest_.push_back(frame);
    ++slots_used_;
  }
  void guest_transmits_pieces() {
    const uint32_t count = 2 + below(4);
    if (!has_room_for(count)) return;
    std::vector<size_t> sizes(count);
    size_t total = 0;
    for (size_t& size : sizes) total += size = 14 + below(1800);
    Frame frame = random_frame(1500);
    frame.resize(total, std::byte{0x77});
    guest_.transmit_pieces(frame, sizes);
    from_guest_.push_back(frame);
    slots_used_ += count;
  }
  void guest_spoils_one() {
    if (!has_room_for(1)) return;
    const uint32_t buffer = *guest_.take_buffer();
    const auto offset = static_cast<uint16_t>(3000 + below(60000));
    guest_.put({{GuestMemory::gref_of(buffer), offset, 0, static_cast<uint16_t>(buffer), 4000}});
    guest_.publish_tx();
    ++slots_used_;
    ++spoilt_;
  }

  void host_sends() {
    const Frame frame = random_frame(kMaxFrameBytes);
    if (vif_.send(frame)) to_guest_.push_back(frame);
  }
  void host_receives() {
    const size_t bytes = vif_.receive(into_);
    if (bytes == 0) return;
    ASSERT_FALSE(from_guest_.empty());
    ASSERT_EQ(Frame(into_.begin(), into_.begin() + static_cast<ptrdiff_t>(bytes)), from_guest_.front());
    from_guest_.pop_front();
  }
  void host_flushes() { vif_.flush(); }

  void guest_collects() {
    for (Frame frame = guest_.receive(); !frame.empty(); frame = guest_.receive()) {
      ASSERT_FALSE(to_guest_.empty());
      ASSERT_EQ(frame, to_guest_.front());
      to_guest_.pop_front();
    }
    for (const int16_t status : guest_.tx_statuses()) {
      ++slots_answered_;
      refused_ += status == abi::kRspError ? 1 : 0;
    }
  }

  void settle() {
    while (!from_guest_.empty() && !::testing::Test::HasFailure()) host_receives();
    host_receives();
    host_flushes();
    guest_collects();
    EXPECT_FALSE(vif_.broken()) << vif_.reason();
    EXPECT_TRUE(to_guest_.empty());
    EXPECT_EQ(slots_answered_, slots_used_);
    EXPECT_EQ(refused_, spoilt_);
    EXPECT_EQ(vif_.counters().bad_tx_request, spoilt_);
    EXPECT_EQ(guest_.rx_errors, 0);
  }

  std::mt19937_64 random_;
  GuestMemory memory_{250};
  std::shared_ptr<LinkLog> log_ = std::make_shared<LinkLog>();
  FrontEnd guest_{memory_};
  Vif vif_;
  Frame into_ = Frame(kMaxFrameBytes);
  std::deque<Frame> from_guest_;
  std::deque<Frame> to_guest_;
  uint64_t slots_used_ = 0;
  uint64_t slots_answered_ = 0;
  uint64_t spoilt_ = 0;
  uint64_t refused_ = 0;
};

TEST(VifProperty, WhatIsSentIsReceivedInOrderAndEverySlotIsAnsweredOnce) {
  const uint64_t base = std::random_device{}();
  for (const Grants grants : {Grants::kSeeded, Grants::kPersistent, Grants::kCopied}) {
    for (uint64_t seed = base; seed < base + 12; ++seed) {
      SCOPED_TRACE(::testing::Message() << "seed " << seed << ", grants " << static_cast<int>(grants));
      Model(grants, seed).run(1500);
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace synfluid::backend
