// A packet socket on the loopback interface of a network namespace of the test's own.

#include "gateway/packet_socket.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/checksum.h"
#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

class PacketSockets : public ::testing::Test {
 protected:
  void SetUp() override {
    environment();
    outside_ = UniqueFd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!outside_ || unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "a network namespace needs root";
    inside_ = true;
    udp_ = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(udp_);
    ifreq up{};
    std::strcpy(up.ifr_name, "lo");
    up.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(ioctl(udp_.get(), SIOCSIFFLAGS, &up), 0);
    auto pool = make_pool({.name = "sockets", .frames = 127, .frame_bytes = backend::kMaxFrameBytes});
    ASSERT_TRUE(pool);
    pool_ = std::move(*pool);
    auto opened = PacketSocket::open("lo", *pool_);
    ASSERT_TRUE(opened) << opened.error().text();
    port_ = std::move(*opened);
  }
  void TearDown() override {
    port_.reset();
    if (pool_) {
      EXPECT_EQ(rte_mempool_in_use_count(pool_.get()), 0u) << "frames are lost";
    }
    if (inside_) {
      EXPECT_EQ(setns(outside_.get(), CLONE_NEWNET), 0);
    }
  }

  void say(const std::string& text) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(7777);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto sent =
        sendto(udp_.get(), text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to));
    ASSERT_EQ(sent, static_cast<ssize_t>(text.size()));
  }

  /// All that has come, but for the answers that say that nobody listens.
  std::vector<Frame> receive() {
    std::vector<Frame> frames;
    std::array<rte_mbuf*, kBurst> burst;
    for (size_t got = port_->rx_burst(burst); got > 0; got = port_->rx_burst(burst)) {
      for (rte_mbuf* mbuf : std::span(burst).first(got)) {
        const auto bytes = bytes_of(mbuf);
        constexpr std::byte kUdp{17};
        if (bytes.size() > 23 && bytes[23] == kUdp) frames.emplace_back(bytes.begin(), bytes.end());
        rte_pktmbuf_free(mbuf);
      }
    }
    return frames;
  }

  UniqueFd outside_;
  bool inside_ = false;
  UniqueFd udp_;
  MbufPool pool_;
  std::unique_ptr<PacketSocket> port_;
};

TEST_F(PacketSockets, CompleteChecksumsThatWereLeftToHardware) {
  say("loopback never computes one");
  const std::vector<Frame> frames = receive();
  ASSERT_EQ(frames.size(), 1u);
  Frame computed = frames[0];
  constexpr size_t kUdpChecksum = 14 + 20 + 6;
  computed[kUdpChecksum] = computed[kUdpChecksum + 1] = std::byte{0};
  ASSERT_TRUE(backend::fill_checksum(computed));
  EXPECT_EQ(frames[0], computed);
}

TEST_F(PacketSockets, CountFramesThatAreTooLongAndGoOn) {
  say(std::string(20'000, 'x'));
  say("after it");
  EXPECT_EQ(receive().size(), 1u);
  EXPECT_GE(port_->losses().too_long, 1u);
}

TEST_F(PacketSockets, CountWhatTheKernelDroppedSinceTheBeginning) {
  for (int i = 0; i < 1500; ++i) say("nobody takes them out of the ring");
  const uint64_t dropped = port_->losses().kernel_drops;
  EXPECT_GT(dropped, 0u);
  EXPECT_EQ(port_->losses().kernel_drops, dropped) << "a look does not start the count anew";
}

TEST_F(PacketSockets, LeaveFramesInTheRingWhileThePoolIsEmpty) {
  std::array<rte_mbuf*, 127> all{};
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(pool_.get(), all.data(), 127), 0);
  say("patience");
  std::array<rte_mbuf*, kBurst> burst;
  EXPECT_EQ(port_->rx_burst(burst), 0u);
  rte_pktmbuf_free_bulk(all.data(), 127);
  EXPECT_EQ(receive().size(), 1u);
}

TEST_F(PacketSockets, AreReadableWhenAFrameHasCome) {
  const auto readable = [&] {
    pollfd fd{.fd = port_->wake_fd(), .events = POLLIN, .revents = 0};
    return poll(&fd, 1, 0) == 1;
  };
  EXPECT_FALSE(readable());
  say("wake up");
  EXPECT_TRUE(readable());
  receive();
  EXPECT_FALSE(readable());
}

TEST_F(PacketSockets, SendWhatFitsAndCountWhatDoesNot) {
  const UniqueFd server(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq mtu{};
  std::strcpy(mtu.ifr_name, "lo");
  mtu.ifr_mtu = 1500;
  ASSERT_EQ(ioctl(server.get(), SIOCSIFMTU, &mtu), 0);
  std::array<rte_mbuf*, 3> frames{};
  ASSERT_EQ(rte_pktmbuf_alloc_bulk(pool_.get(), frames.data(), 3), 0);
  const std::array<uint16_t, 3> lengths{60, 4000, 1514};
  for (size_t i = 0; i < frames.size(); ++i)
    std::memset(rte_pktmbuf_append(frames[i], lengths[i]), 0x42, lengths[i]);
  EXPECT_EQ(port_->tx_burst(frames), 3u) << "one that can never be sent must not hold up the others";
  EXPECT_EQ(port_->losses().not_sent, 1u);
}

TEST_F(PacketSockets, NameAnInterfaceThatDoesNotExist) {
  const auto missing = PacketSocket::open("nowhere", *pool_);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(missing.error().text().find("no network interface 'nowhere'"), std::string::npos);
}

}  // namespace
}  // namespace synfluid::gateway::testing
