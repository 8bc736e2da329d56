#include "spawner/store/domain_ring.h"

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/unit/store_daemon/guest_end.h"

namespace synfluid::spawner::store {
namespace {

std::string read_all(DomainRing& ring) {
  std::array<char, kRingBytes> buffer;
  const auto bytes = ring.read(buffer);
  return bytes ? std::string(buffer.data(), *bytes) : "out of range";
}

TEST(DomainRing, GivesWhatTheGuestPutIn) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  guest.put("hello");
  EXPECT_EQ(read_all(ring), "hello");
  EXPECT_EQ(read_all(ring), "");
}

TEST(DomainRing, GoesOnFromAnyIndexAndOverTheWrap) {
  GuestEnd guest(0xfffffffeu);
  DomainRing ring(guest.page());
  const std::string text(kRingBytes, 'x');
  guest.put(text);
  EXPECT_EQ(read_all(ring), text);
  EXPECT_TRUE(ring.consume());
  EXPECT_EQ(guest.page().request_consumer, 0xfffffffeu + kRingBytes);
  ring.write(std::string_view("0123456789"));
  EXPECT_EQ(guest.take(), "0123456789");
}

TEST(DomainRing, WhatIsReadStaysInTheRingUntilItIsConsumed) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  guest.put("one");
  EXPECT_EQ(read_all(ring), "one");
  EXPECT_EQ(guest.page().request_consumer, 0u);
  DomainRing successor(guest.page());
  EXPECT_EQ(read_all(successor), "one");
  EXPECT_TRUE(successor.consume());
  EXPECT_EQ(guest.page().request_consumer, 3u);
  EXPECT_FALSE(successor.consume());
}

TEST(DomainRing, AProducerTooFarAheadIsOutOfRange) {
  for (const uint32_t producer : {kRingBytes + 1, 0x80000000u, 0xffffffffu}) {
    GuestEnd guest;
    DomainRing ring(guest.page());
    guest.page().request_producer = producer;
    EXPECT_EQ(read_all(ring), "out of range") << producer;
  }
}

TEST(DomainRing, AProducerThatGoesBackBeforeWhatWasReadIsOutOfRange) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  guest.put("abcdef");
  read_all(ring);
  guest.page().request_producer = 3;
  EXPECT_EQ(read_all(ring), "out of range");
}

TEST(DomainRing, AConsumerThatIsAheadOfUsIsOutOfRange) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  guest.page().response_consumer = 1;
  EXPECT_FALSE(ring.room());
  guest.page().response_consumer = 0u - kRingBytes - 1;
  EXPECT_FALSE(ring.room());
}

TEST(DomainRing, OurOwnIndicesAreNotReadBackFromThePage) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  guest.page().request_consumer = 77;
  guest.page().response_producer = 99;
  guest.put("abc");
  EXPECT_EQ(read_all(ring), "abc");
  ring.write(std::string_view("xyz"));
  EXPECT_EQ(guest.page().response_producer, 3u);
}

TEST(DomainRing, RoomIsWhatTheGuestHasNotYetTaken) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  EXPECT_EQ(ring.room(), kRingBytes);
  ring.write(std::string(1000, 'a'));
  EXPECT_EQ(ring.room(), kRingBytes - 1000);
  guest.take();
  EXPECT_EQ(ring.room(), kRingBytes);
}

TEST(DomainRing, ReconnectionEmptiesBothQueues) {
  GuestEnd guest(500);
  DomainRing ring(guest.page());
  ring.advertise();
  EXPECT_EQ(guest.page().server_features, 7u);
  guest.put("half a requ");
  ring.write(std::string_view("half an answ"));
  guest.page().connection = 1;
  ASSERT_TRUE(ring.reconnection_asked());
  ring.reset();
  EXPECT_FALSE(ring.reconnection_asked());
  EXPECT_EQ(guest.page().connection, 0u);
  EXPECT_EQ(guest.page().request_producer, 0u);
  EXPECT_EQ(guest.page().response_producer, 0u);
  EXPECT_EQ(read_all(ring), "");
}

TEST(DomainRing, AFailureIsInThePage) {
  GuestEnd guest;
  DomainRing ring(guest.page());
  ring.fail(RingError::kIndices);
  EXPECT_EQ(guest.page().error, 2u);
}

}  // namespace
}  // namespace synfluid::spawner::store
