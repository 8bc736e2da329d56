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
#include <netinet/udp.h>
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

  void set_mtu(int bytes) {
    ifreq mtu{};
    std::strcpy(mtu.ifr_name, "lo");
    mtu.ifr_mtu = bytes;
    ASSERT_EQ(ioctl(udp_.get(), SIOCSIFMTU, &mtu), 0);
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

/// 300,000 bytes of one connection over loopback, which leaves segments of up to 64 KiB whole.
class WholeSegments : public PacketSockets {
 protected:
  static constexpr uint16_t kMtu = 1500;

  void SetUp() override {
    PacketSockets::SetUp();
    if (IsSkipped()) return;
    set_mtu(kMtu);
    auto opened = PacketSocket::open("lo", *pool_);
    ASSERT_TRUE(opened) << opened.error().text();
    port_ = std::move(*opened);
    connect_both();
  }

  void connect_both() {
    const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* const name = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener.get(), name, length), 0);
    ASSERT_EQ(listen(listener.get(), 1), 0);
    ASSERT_EQ(getsockname(listener.get(), name, &length), 0);
    port_number_ = ntohs(address.sin_port);
    client_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(client_.get(), name, length), 0);
    server_ = UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(server_);
  }

  /// Sends `text`, and puts together what the port saw of it.
  std::string through_the_port(const std::string& text) {
    std::string seen(text.size(), '\0');
    uint32_t first = 0;
    for (size_t sent = 0, taken = 0; taken < text.size();) {
      const ssize_t more = ::send(client_.get(), text.data() + sent, text.size() - sent, MSG_DONTWAIT);
      if (more > 0) sent += static_cast<size_t>(more);
      std::array<char, 65536> room;
      const ssize_t got = recv(server_.get(), room.data(), room.size(), MSG_DONTWAIT);
      if (got > 0) taken += static_cast<size_t>(got);
      collect(seen, first);
    }
    return seen;
  }

  void collect(std::string& seen, uint32_t& first) {
    std::array<rte_mbuf*, kBurst> burst;
    for (size_t got = port_->rx_burst(burst); got > 0; got = port_->rx_burst(burst)) {
      for (rte_mbuf* mbuf : std::span(burst).first(got)) {
        const auto bytes = bytes_of(mbuf);
        EXPECT_LE(bytes.size(), kMtu + 14u);
        const ParsedPacket p = parse_packet(bytes);
        const bool is_ours =
            p.kind == PacketKind::kTcp &&
            std::to_integer<unsigned>(bytes[p.l4_offset + 2]) << 8 == (port_number_ & 0xff00u);
        if (is_ours && p.is_pure_syn()) first = p.tcp_seq + 1;
        if (is_ours && p.payload_length > 0) {
          Frame computed(bytes.begin(), bytes.end());
          EXPECT_TRUE(backend::fill_checksum(computed));
          EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), computed.begin()));
          const size_t at = p.tcp_seq - first;
          if (at + p.payload_length <= seen.size())
            std::memcpy(seen.data() + at, bytes.data() + p.payload_offset, p.payload_length);
        }
        rte_pktmbuf_free(mbuf);
      }
    }
  }

  uint16_t port_number_ = 0;
  UniqueFd client_;
  UniqueFd server_;
};

TEST_F(WholeSegments, AreCutIntoFramesOfTheWire) {
  std::string text(300'000, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 2'654'435'761u >> 13);
  EXPECT_EQ(through_the_port(text), text);
  EXPECT_EQ(port_->losses().too_long, 0u);
}

TEST_F(WholeSegments, OfDatagramsAreCutToo) {
  const int segment = 1000;
  ASSERT_EQ(setsockopt(udp_.get(), SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
  say(std::string(1000, 'a') + std::string(1000, 'b') + "c");
  const std::vector<Frame> frames = receive();
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[1].size(), 14u + 20 + 8 + 1000);
  EXPECT_EQ(frames[1].back(), std::byte{'b'});
  EXPECT_EQ(frames[2].size(), 14u + 20 + 8 + 1);
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
  set_mtu(1500);
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
