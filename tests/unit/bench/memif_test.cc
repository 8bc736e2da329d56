// The bench's own memif client, against a server made of this test.
#include <cstring>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bench/memif_link.h"

namespace synfluid::bench {
namespace {

/// The server's side of both rings: sends what it gets back, as DPDK's driver does.
class Echo {
 public:
  explicit Echo(std::byte* at) : at_(at) {
    for (const MemifDirection direction : {MemifDirection::kToServer, MemifDirection::kToClient})
      ring(direction).head = 0, ring(direction).tail = 0;
  }

  /// How many frames: no more than there are, and than there are buffers for.
  size_t turn(size_t most) {
    MemifRing& in = ring(MemifDirection::kToServer);
    MemifRing& out = ring(MemifDirection::kToClient);
    size_t done = 0;
    for (; done < most && in.tail != in.head && out.tail != out.head; ++done) {
      const MemifDescriptor& from = descriptor(MemifDirection::kToServer, in.tail);
      MemifDescriptor& to = descriptor(MemifDirection::kToClient, out.tail);
      EXPECT_EQ(to.length, kMemifBufferBytes) << "no empty buffer";
      EXPECT_LE(to.offset + to.length, MemifArea::kBytes);
      std::memcpy(at_ + to.offset, at_ + from.offset, from.length);
      to.length = from.length;
      last_ = at_ + to.offset;
      ++in.tail, ++out.tail;
    }
    return done;
  }
  MemifRing& ring(MemifDirection direction) {
    return *reinterpret_cast<MemifRing*>(at_ + MemifArea::ring_offset(direction));
  }
  /// The frame sent last.
  const std::byte* last() const { return last_; }

 private:
  MemifDescriptor& descriptor(MemifDirection direction, uint16_t index) {
    std::byte* const first = at_ + MemifArea::ring_offset(direction) + sizeof(MemifRing);
    return reinterpret_cast<MemifDescriptor*>(first)[index % kMemifSlots];
  }

  std::byte* const at_;
  const std::byte* last_ = nullptr;
};

struct alignas(4096) Page {
  std::byte bytes[4096];
};

class MemifRings : public testing::Test {
 protected:
  MemifRings() { area_.offer_buffers(); }

  void put(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      std::vector<std::byte> frame(60, static_cast<std::byte>(next_++));
      area_.put(frame);
    }
  }

  std::vector<Page> memory_ = std::vector<Page>(MemifArea::kBytes / sizeof(Page) + 1);
  MemifArea area_{memory_[0].bytes};
  Echo echo_{memory_[0].bytes};
  size_t next_ = 0;
};

TEST_F(MemifRings, ShowTheServerOnlyWhatIsPublished) {
  put(3);
  EXPECT_EQ(echo_.turn(64), 0u);
  area_.publish(2);
  EXPECT_EQ(echo_.turn(64), 2u);
  EXPECT_EQ(area_.arrived(), 2u);
  EXPECT_EQ(*echo_.last(), std::byte{1});
  area_.publish(1);
  EXPECT_EQ(echo_.turn(64), 1u);
  EXPECT_EQ(*echo_.last(), std::byte{2});
  EXPECT_EQ(area_.take(), 3u * 60);
  EXPECT_EQ(area_.arrived(), 0u);
}

TEST_F(MemifRings, AreWholeRingsThroughTheWrapOfTheirIndices) {
  const size_t rings = 65'536 / kMemifSlots + 2;
  for (size_t i = 0; i < rings; ++i) {
    put(kMemifSlots);
    area_.publish(64);
    ASSERT_EQ(echo_.turn(kMemifSlots), 64u);
    area_.publish(kMemifSlots - 64);
    ASSERT_EQ(echo_.turn(kMemifSlots), kMemifSlots - 64);
    ASSERT_EQ(area_.arrived(), kMemifSlots);
    ASSERT_EQ(*echo_.last(), static_cast<std::byte>(next_ - 1));
    ASSERT_EQ(area_.take(), kMemifSlots * 60);
  }
}

TEST_F(MemifRings, HaveTheProtocolsMarks) {
  EXPECT_EQ(echo_.ring(MemifDirection::kToServer).cookie, 0x3e31f20u);
  EXPECT_EQ(echo_.ring(MemifDirection::kToClient).flags, 1) << "each burst would be a system call";
}

TEST(MemifMessages, AreLaidOutAsTheProtocolSays) {
  const auto bytes = [](const MemifMessage& message, size_t count) {
    std::vector<int> out;
    for (size_t i = 0; i < count; ++i) out.push_back(static_cast<int>(message[i]));
    return out;
  };
  EXPECT_EQ(bytes(memif_init(7), 9), (std::vector<int>{3, 0, 0, 2, 7, 0, 0, 0, 0}));
  EXPECT_EQ(bytes(memif_add_region(0x10203), 12), (std::vector<int>{4, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(bytes(memif_add_ring(MemifDirection::kToServer, 0x4080, 10), 15),
            (std::vector<int>{5, 0, 1, 0, 0, 0, 0, 0, 0x80, 0x40, 0, 0, 10, 0, 0}));
  EXPECT_EQ(bytes(memif_connect(), 3), (std::vector<int>{6, 0, 0}));
}

TEST(MemifMessages, SayTheReasonUpToItsEnd) {
  MemifMessage message{};
  message[0] = std::byte{8};
  std::memcpy(&message[6], "ID not found", 12);
  EXPECT_EQ(memif_type(message), MemifType::kDisconnect);
  EXPECT_EQ(memif_reason(message), "ID not found");
  std::memset(&message[6], 'x', 122);
  EXPECT_EQ(memif_reason(message), std::string(96, 'x'));
}

/// Takes one client and answers each message by the next of these.
class Server {
 public:
  explicit Server(std::vector<MemifMessage> answers) : answers_(std::move(answers)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_ = fmt::format("{}/memif-{}", testing::TempDir(), getpid());
    std::memcpy(address.sun_path, path_.data(), path_.size());
    unlink(path_.c_str());
    listener_.reset(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~Server() {
    thread_.join();
    unlink(path_.c_str());
  }

  const std::string& path() const { return path_; }

 private:
  void serve() {
    const UniqueFd client(accept(listener_.get(), nullptr, nullptr));
    MemifMessage message;
    for (const MemifMessage& answer : answers_) {
      if (send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
      if (recv(client.get(), message.data(), message.size(), 0) <= 0) return;
    }
  }

  const std::vector<MemifMessage> answers_;
  std::string path_;
  UniqueFd listener_;
  std::thread thread_;
};

MemifMessage message_of(MemifType type) {
  MemifMessage message{};
  message[0] = static_cast<std::byte>(type);
  return message;
}

TEST(MemifLinks, ComeUpStepByStep) {
  const MemifMessage ack = message_of(MemifType::kAck);
  Server server({message_of(MemifType::kHello), ack, ack, ack, ack, message_of(MemifType::kConnected)});
  const auto link = MemifLink::connect(server.path(), 0);
  ASSERT_TRUE(link) << link.error().text();
  EXPECT_EQ((*link)->area().arrived(), 0u);
}

TEST(MemifLinks, TellWhyTheServerRefuses) {
  MemifMessage no = message_of(MemifType::kDisconnect);
  std::memcpy(&no[6], "ID not found", 12);
  Server server({message_of(MemifType::kHello), no});
  const auto link = MemifLink::connect(server.path(), 0);
  ASSERT_FALSE(link);
  EXPECT_EQ(link.error().text(), server.path() + ": refused: ID not found");
}

TEST(MemifLinks, FindAServerThatHasGone) {
  Server server({message_of(MemifType::kHello)});
  const auto link = MemifLink::connect(server.path(), 0);
  ASSERT_FALSE(link);
  EXPECT_EQ(MemifLink::connect("/no/such/socket", 0).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace synfluid::bench
