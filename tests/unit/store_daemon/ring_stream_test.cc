#include <memory>
#include <random>
#include <string>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "base/clock.h"
#include "spawner/store/map_storage.h"
#include "spawner/store/ring_transport.h"
#include "spawner/store/switchboard.h"
#include "tests/unit/store_daemon/guest_end.h"

namespace synfluid::spawner::store {
namespace {

using namespace std::string_literals;

/// Domains whose rings are pages of the test's; ids from 1.
class Rig final : public Domains {
 public:
  Rig() : board(clock) {
    spdlog::set_level(spdlog::level::off);  // much here is refused
    engine = std::make_unique<Engine>(EngineConfig{.quotas = {}, .clock = &clock}, storage, board, *this);
    board.set_engine(*engine);
    control = engine->connect({.domid = DomId(0), .privilege = Privilege::kControl});
  }
  ~Rig() override { board.clear(); }

  void introduce_guest(uint16_t domid) {
    const std::string payload = std::to_string(domid) + "\0"s + "5\0"s + "7\0"s;
    ask(MessageType::kIntroduce, payload);
    board.end_turn();
  }
  /// A request of the control domain's.
  void ask(MessageType type, std::string_view payload) {
    engine->handle(control, {type, 1, 0, static_cast<uint32_t>(payload.size())}, payload);
  }

  Fault introduce(DomId domid, uint64_t, EventPort, ConnectionId connection) override {
    auto& guest = guests[domid.value()];
    auto added =
        std::make_unique<RingStream>(board, connection, std::make_unique<FakePort>(guest.page(), bells));
    stream = added.get();
    board.add(std::move(added));
    stream->begin_anew(nullptr);
    return Fault::kNone;
  }
  Fault reintroduce(DomId, uint64_t, EventPort, ConnectionId) override {
    stream->begin_anew(nullptr);
    return Fault::kNone;
  }
  void release(DomId, ConnectionId connection) override { board.drop(connection); }

  /// The guest rings, the store takes a turn.
  void ring() {
    stream->on_event();
    board.end_turn();
  }

  ManualClock clock;
  MapStorage storage;
  std::map<uint16_t, GuestEnd> guests;
  Switchboard board;
  std::unique_ptr<Engine> engine;
  ConnectionId control;
  RingStream* stream = nullptr;
  uint32_t bells = 0;
};

class RingStreamTest : public ::testing::Test {
 protected:
  RingStreamTest() { rig.introduce_guest(1); }
  GuestEnd& guest() { return rig.guests[1]; }
  Message expect_message() {
    const auto message = guest().message();
    EXPECT_TRUE(message);
    return message.value_or(Message{});
  }

  Rig rig;
};

TEST_F(RingStreamTest, FeaturesAreAdvertisedBeforeAnythingIsRead) {
  EXPECT_EQ(guest().page().server_features, 7u);
  EXPECT_EQ(rig.bells, 1u);
}

TEST_F(RingStreamTest, ARequestIsAnsweredAndItsBytesAreGivenBack) {
  guest().put(GuestEnd::request(MessageType::kGetDomainPath, "1\0"s, 42));
  rig.bells = 0;
  rig.ring();
  const Message reply = expect_message();
  EXPECT_EQ(reply.header.type, MessageType::kGetDomainPath);
  EXPECT_EQ(reply.header.request_id, 42u);
  EXPECT_EQ(reply.payload, "/local/domain/1\0"s);
  EXPECT_EQ(guest().page().request_consumer, guest().page().request_producer);
  EXPECT_EQ(rig.bells, 1u);
}

/// Linux rings for the second half only if the first was taken out of the ring.
TEST_F(RingStreamTest, ARequestInPiecesIsTakenInPieces) {
  const std::string request = GuestEnd::request(MessageType::kGetDomainPath, "1\0"s);
  for (const auto& piece : {request.substr(0, 7), request.substr(7, 10), request.substr(17)}) {
    EXPECT_EQ(guest().page().request_consumer, guest().page().request_producer);
    guest().put(piece);
    rig.ring();
  }
  EXPECT_EQ(expect_message().payload, "/local/domain/1\0"s);
}

/// Linux rings after it has read from a full ring, and only then.
TEST_F(RingStreamTest, ARingThatIsTooSmallIsFilledToItsLastByte) {
  rig.ask(MessageType::kWrite, "/big\0"s + std::string(900, 'b'));
  rig.ask(MessageType::kSetPerms, "/big\0r0\0"s);
  for (int i = 0; i < 3; ++i) guest().put(GuestEnd::request(MessageType::kRead, "/big\0"s));
  rig.ring();
  EXPECT_EQ(guest().page().response_producer - guest().page().response_consumer, kRingBytes);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(expect_message().payload.size(), 900u);
    rig.ring();
    rig.ring();
  }
}

/// What the guest adds while it is served, without ringing, is found.
TEST_F(RingStreamTest, AfterEveryTakingThereIsAnotherLook) {
  const std::string request = GuestEnd::request(MessageType::kGetDomainPath, "1\0"s);
  guest().put(request);
  rig.stream->on_event();
  guest().put(request);  // served already, not given back yet: Linux does not ring
  rig.board.end_turn();
  EXPECT_TRUE(rig.board.has_ready());
  rig.board.end_turn();
  EXPECT_TRUE(guest().message());
  EXPECT_TRUE(guest().message());
}

TEST_F(RingStreamTest, ARequestLongerThanTheRingArrives) {
  rig.ask(MessageType::kMkdir, "/local/domain/1/data\0"s);
  rig.ask(MessageType::kSetPerms, "/local/domain/1/data\0n1\0"s);
  const std::string request = GuestEnd::request(MessageType::kWrite, "data\0"s + std::string(2000, 'v'));
  for (size_t at = 0; at < request.size();) {
    const size_t bytes = std::min(guest().room(), request.size() - at);
    ASSERT_GT(bytes, 0u);
    guest().put(request.substr(at, bytes));
    at += bytes;
    rig.ring();
  }
  EXPECT_EQ(expect_message().header.type, MessageType::kWrite);
  EXPECT_EQ(rig.storage.find("/local/domain/1/data")->value.size(), 2000u);
}

TEST_F(RingStreamTest, RepliesWaitForRoomAndRequestsWithThem) {
  for (int i = 0; i < 40; ++i) guest().put(GuestEnd::request(MessageType::kGetDomainPath, "1\0"s));
  rig.ring();
  // A reply is twice as long as its request: not all fit, nor are so many outstanding allowed.
  EXPECT_LT(guest().page().request_consumer, guest().page().request_producer);
  int replies = 0;
  while (guest().message()) {
    ++replies;
    rig.ring();
  }
  EXPECT_EQ(replies, 40);
  EXPECT_EQ(guest().page().request_consumer, guest().page().request_producer);
}

TEST_F(RingStreamTest, ABrokenIndexClosesThisConnectionAlone) {
  rig.introduce_guest(2);
  guest().page().request_producer = 5'000;
  RingStream* const second = rig.stream;
  for (const ConnectionId id : {rig.engine->domains()[0].connection})
    static_cast<RingStream*>(rig.board.find(id))->on_event();
  rig.board.end_turn();
  EXPECT_EQ(guest().page().error, 2u);
  EXPECT_EQ(rig.board.broken(), 1u);
  rig.guests[2].put(GuestEnd::request(MessageType::kGetDomainPath, "2\0"s));
  second->on_event();
  rig.board.end_turn();
  EXPECT_TRUE(rig.guests[2].message());
  EXPECT_EQ(rig.guests[2].page().error, 0u);
}

TEST_F(RingStreamTest, ALengthBeyondTheLimitIsAProtocolError) {
  guest().put(GuestEnd::request(MessageType::kRead, "x\0"s).replace(12, 4, "\xff\xff\xff\xff"));
  rig.ring();
  EXPECT_EQ(guest().page().error, 3u);
  guest().put(GuestEnd::request(MessageType::kGetDomainPath, "1\0"s));
  rig.ring();
  EXPECT_FALSE(guest().message());
}

TEST_F(RingStreamTest, ReconnectionHealsABrokenRing) {
  guest().page().request_producer = 5'000;
  rig.ring();
  ASSERT_EQ(guest().page().error, 2u);
  guest().page().connection = 1;
  rig.ring();
  EXPECT_EQ(guest().page().connection, 0u);
  EXPECT_EQ(guest().page().error, 0u);
  guest().put(GuestEnd::request(MessageType::kGetDomainPath, "1\0"s));
  rig.ring();
  EXPECT_TRUE(guest().message());
}

TEST_F(RingStreamTest, ReconnectionDropsWatches) {
  guest().put(GuestEnd::request(MessageType::kWatch, "/local\0token\0"s));
  rig.ring();
  while (guest().message()) {
  }
  guest().page().connection = 1;
  rig.ring();
  rig.ask(MessageType::kMkdir, "/local/new\0"s);
  rig.board.end_turn();
  EXPECT_FALSE(guest().message());
}

TEST_F(RingStreamTest, AReleasedDomainsRingIsLeftAlone) {
  rig.ask(MessageType::kRelease, "1\0"s);
  rig.board.end_turn();
  EXPECT_EQ(rig.board.streams(), 0u);
  EXPECT_FALSE(rig.engine->is_introduced(DomId(1)));
}

/// Killed with half a request taken and half a message put: another stream on the same page goes on.
TEST_F(RingStreamTest, ASuccessorGoesOnInTheMiddleOfMessages) {
  rig.ask(MessageType::kWrite, "/big\0"s + std::string(1500, 'b'));
  rig.ask(MessageType::kSetPerms, "/big\0r0\0"s);
  guest().put(GuestEnd::request(MessageType::kRead, "/big\0"s));
  rig.ring();
  const std::string request = GuestEnd::request(MessageType::kGetDomainPath, "1\0"s, 9);
  const RingRemnant cut = rig.stream->remnant();
  ASSERT_EQ(cut.message.size(), 1516u);
  ASSERT_EQ(cut.put, kRingBytes);
  const ConnectionId id = rig.stream->id();
  const auto succeed = [&](const RingRemnant& remnant) {
    auto successor =
        std::make_unique<RingStream>(rig.board, id, std::make_unique<FakePort>(guest().page(), rig.bells));
    rig.stream = successor.get();
    rig.board.add(std::move(successor));
    rig.stream->take_up(remnant);
  };
  succeed(cut);
  EXPECT_FALSE(guest().message());
  rig.ring();
  EXPECT_EQ(expect_message().payload, std::string(1500, 'b'));
  while (guest().message()) rig.ring();
  rig.ring();
  guest().put(request.substr(0, 10));
  rig.ring();
  const RingRemnant half = rig.stream->remnant();
  ASSERT_EQ(half.request, request.substr(0, 10));
  succeed(half);
  guest().put(request.substr(10));
  rig.ring();
  EXPECT_EQ(expect_message().header.request_id, 9u);
}

TEST_F(RingStreamTest, ARemnantOfOtherIndicesIsStale) {
  rig.stream->take_up(
      {.taken_index = 99, .request = "half", .put_index = 98, .message = "message", .put = 3});
  EXPECT_TRUE(rig.stream->remnant().empty());
}

TEST_F(RingStreamTest, AnyScribblingEndsInASaneState) {
  std::mt19937 random(20260417);
  for (int round = 0; round < 3'000; ++round) {
    auto* words = reinterpret_cast<uint32_t*>(&guest().page());
    const uint32_t which = random() % 8;
    if (which < 5)
      words[512 + random() % 7] = random() % 3 == 0 ? static_cast<uint32_t>(random()) : random() % 2048;
    if (which == 5) guest().page().requests[random() % kRingBytes] = static_cast<char>(random());
    if (which == 6) guest().page().connection = 1;
    if (which == 7) guest().put(GuestEnd::request(MessageType::kWatch, "/\0t\0"s));
    rig.ring();
  }
  guest().page().connection = 1;
  rig.ring();
  guest().put(GuestEnd::request(MessageType::kGetDomainPath, "1\0"s));
  rig.ring();
  EXPECT_TRUE(guest().message());
}

}  // namespace
}  // namespace synfluid::spawner::store
