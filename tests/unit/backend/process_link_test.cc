// Process links with the test in the part of the guest process.
#include "backend/process/process_link.h"

#include <array>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/vif.h"
#include "base/abi/card.h"

namespace synfluid::backend {
namespace {

constexpr uint32_t kBuffers = 4;
constexpr size_t kAreaBytes = abi::shared_pages(kBuffers) * abi::kPageBytes;

int open_descriptors() {
  int count = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir) != nullptr) ++count;
  closedir(dir);
  return count;
}

bool is_readable(int fd) {
  pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&p, 1, 0) == 1;
}

/// The guest's ends, and the link.
struct Guest {
  explicit Guest(ProcessDoorbells& doorbells, DoorbellToken token) {
    SharedMemory area = SharedMemory::create("guest", kAreaBytes).value();
    memory = area.bytes();
    UniqueFd to_guest = make_doorbell_fd().value();
    UniqueFd from_guest = make_doorbell_fd().value();
    wait_fd = UniqueFd(dup(to_guest.get()));
    ring_fd = UniqueFd(dup(from_guest.get()));
    link = make_process_link({.area = std::make_shared<SharedMemory>(std::move(area)),
                              .to_guest = std::move(to_guest),
                              .from_guest = std::move(from_guest),
                              .token = token},
                             doorbells)
               .value();
  }
  void ring() const {
    const uint64_t one = 1;
    ASSERT_EQ(write(ring_fd.get(), &one, sizeof(one)), 8);
  }

  UniqueFd wait_fd;
  UniqueFd ring_fd;
  std::span<std::byte> memory;
  std::unique_ptr<GuestLink> link;
};

class ProcessLinkTest : public ::testing::Test {
 protected:
  std::vector<DoorbellToken> collect(size_t most = 16) {
    std::vector<DoorbellToken> out(most);
    out.resize(doorbells->collect(out));
    return out;
  }
  std::unique_ptr<ProcessDoorbells> doorbells = ProcessDoorbells::create().value();
};

TEST_F(ProcessLinkTest, EachRingOfADoorbellIsCollectedOnce) {
  Guest a(*doorbells, 7);
  Guest b(*doorbells, 8);
  EXPECT_FALSE(is_readable(doorbells->fd()));
  EXPECT_TRUE(collect().empty());
  a.ring();
  EXPECT_TRUE(is_readable(doorbells->fd()));
  EXPECT_EQ(collect(), std::vector<DoorbellToken>{7});
  EXPECT_TRUE(collect().empty());
  EXPECT_FALSE(is_readable(doorbells->fd()));
  a.ring();
  a.ring();
  b.ring();
  EXPECT_EQ(collect().size(), 2u);
}

TEST_F(ProcessLinkTest, WhatDoesNotFitStaysReady) {
  Guest a(*doorbells, 1);
  Guest b(*doorbells, 2);
  a.ring();
  b.ring();
  EXPECT_EQ(collect(1), std::vector<DoorbellToken>{1});
  EXPECT_EQ(collect(1), std::vector<DoorbellToken>{2});
  EXPECT_TRUE(collect(0).empty());
}

TEST_F(ProcessLinkTest, ALinkThatIsGoneRingsNoMoreAlthoughTheGuestKeepsItsEnd) {
  Guest a(*doorbells, 1);
  a.link.reset();
  a.ring();
  EXPECT_TRUE(collect().empty());
}

TEST_F(ProcessLinkTest, NotifyWakesTheGuestAndNeverBlocks) {
  Guest a(*doorbells, 1);
  EXPECT_FALSE(is_readable(a.wait_fd.get()));
  a.link->notify();
  EXPECT_TRUE(is_readable(a.wait_fd.get()));
  const uint64_t nearly_full = 0xfffffffffffffffe - 1;
  ASSERT_EQ(write(a.wait_fd.get(), &nearly_full, sizeof(nearly_full)), 8);
  a.link->notify();
}

TEST_F(ProcessLinkTest, CarriesFramesBothWays) {
  Guest guest(*doorbells, 1);
  auto& tx = *reinterpret_cast<abi::NetTxRing*>(&guest.memory[abi::kTxRingPage * abi::kPageBytes]);
  auto& rx = *reinterpret_cast<abi::NetRxRing*>(&guest.memory[abi::kRxRingPage * abi::kPageBytes]);
  std::byte* buffers = &guest.memory[abi::kFirstBufferPage * abi::kPageBytes];
  constexpr uint32_t kFirst = abi::kFirstGrant + abi::kFirstBufferPage;
  buffers[abi::kPageBytes] = std::byte{0x42};
  tx.entries[0].request = {kFirst + 1, 0, 0, 1, 60};
  tx.indices.req_prod = 1;
  rx.entries[0].request = {0, 0, kFirst};
  rx.indices.req_prod = 1;

  Vif vif(std::move(guest.link));
  std::array<std::byte, kMaxFrameBytes> into;
  ASSERT_EQ(vif.receive(into), 60u);
  EXPECT_EQ(into[0], std::byte{0x42});
  ASSERT_TRUE(vif.send(std::span(into).first(60)));
  vif.flush();
  EXPECT_EQ(buffers[0], std::byte{0x42});
  EXPECT_EQ(rx.entries[0].response.status, 60);
}

TEST_F(ProcessLinkTest, TheCardAndTheRingsAreNoBuffers) {
  Guest guest(*doorbells, 1);
  auto& tx = *reinterpret_cast<abi::NetTxRing*>(&guest.memory[abi::kTxRingPage * abi::kPageBytes]);
  for (uint16_t page = 0; page < abi::kFirstBufferPage; ++page)
    tx.entries[page].request = {abi::kFirstGrant + page, 0, 0, page, 60};
  tx.indices.req_prod = abi::kFirstBufferPage;
  Vif vif(std::move(guest.link));
  std::array<std::byte, kMaxFrameBytes> into;
  EXPECT_EQ(vif.receive(into), 0u);
  EXPECT_EQ(vif.counters().bad_tx_request, uint64_t{abi::kFirstBufferPage});
}

TEST_F(ProcessLinkTest, TheMemoryCannotBeCutShortByAnybody) {
  const SharedMemory area = SharedMemory::create("guest", kAreaBytes).value();
  EXPECT_NE(ftruncate(area.fd(), 0), 0);
  EXPECT_NE(fcntl(area.fd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST_F(ProcessLinkTest, AnAreaWithoutRoomForAVifIsRefusedAndNothingIsLeft) {
  const int before = open_descriptors();
  for (const size_t bytes : {size_t{4096}, size_t{3 * 4096}}) {
    const auto link = make_process_link(
        {.area = std::make_shared<SharedMemory>(SharedMemory::create("guest", bytes).value()),
         .to_guest = make_doorbell_fd().value(),
         .from_guest = make_doorbell_fd().value(),
         .token = 1},
        *doorbells);
    ASSERT_FALSE(link);
    EXPECT_EQ(link.error().code(), ErrorCode::kInvalidArgument);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(ProcessLinkTest, ADoorbellThatIsNoDescriptorIsAnErrorAndNothingIsLeft) {
  const int before = open_descriptors();
  const auto link = make_process_link(
      {.area = std::make_shared<SharedMemory>(SharedMemory::create("guest", kAreaBytes).value()),
       .to_guest = make_doorbell_fd().value(),
       .from_guest = UniqueFd(),
       .token = 1},
      *doorbells);
  EXPECT_FALSE(link);
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(ProcessLinkTest, ManyLinksLeaveNoDescriptorBehind) {
  const int before = open_descriptors();
  for (DoorbellToken i = 0; i < 50; ++i) Guest(*doorbells, i).ring();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace synfluid::backend
