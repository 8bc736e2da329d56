// ARP, neighbour discovery and echo, for whatever address is asked.
#include <gtest/gtest.h>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {
namespace {

using Bytes = std::vector<uint8_t>;

const Bytes kHost = {2, 0, 0, 0, 0, 0xaa};
const Bytes kGuest = {2, 0x53, 0, 0, 0, 1};  // the rig's MAC
const Bytes kBroadcast(6, 0xff);

Bytes join(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

Bytes to_bytes(const Frame& frame) {
  Bytes out;
  for (const std::byte byte : frame) out.push_back(static_cast<uint8_t>(byte));
  return out;
}

void set_checksum(Bytes& bytes, size_t at, const Bytes& pseudo, size_t from) {
  Bytes summed = pseudo;
  summed.insert(summed.end(), bytes.begin() + static_cast<long>(from), bytes.end());
  const uint16_t sum = internet_checksum(summed);
  bytes[at] = static_cast<uint8_t>(sum >> 8);
  bytes[at + 1] = static_cast<uint8_t>(sum);
}

Bytes echo_request4(size_t payload) {
  Bytes ip = {0x45, 0, 0, static_cast<uint8_t>(28 + payload), 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10,
              0,    0, 77};
  const uint16_t sum = internet_checksum(ip);
  ip[10] = static_cast<uint8_t>(sum >> 8);
  ip[11] = static_cast<uint8_t>(sum);
  Bytes icmp = {8, 0, 0, 0, 0x12, 0x34, 0, 7};
  for (size_t i = 0; i < payload; ++i) icmp.push_back(static_cast<uint8_t>(i));
  set_checksum(icmp, 2, {}, 0);
  return join({kGuest, kHost, {8, 0}, ip, icmp});
}

Bytes address6(uint8_t last) {
  return {0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last};
}

Bytes icmp6(const Bytes& source, const Bytes& destination, uint8_t hops, Bytes message) {
  const Bytes pseudo =
      join({source, destination, {0, 0, 0, static_cast<uint8_t>(message.size()), 0, 0, 0, 58}});
  message[2] = message[3] = 0;
  set_checksum(message, 2, pseudo, 0);
  return join({kGuest,
               kHost,
               {0x86, 0xdd},
               {0x60, 0, 0, 0, 0, static_cast<uint8_t>(message.size()), 58, hops},
               source,
               destination,
               message});
}

Bytes solicitation(const Bytes& source, uint8_t hops = 255) {
  return icmp6(source, address6(2), hops, join({{135, 0, 0, 0, 0, 0, 0, 0}, address6(2), {1, 1}, kHost}));
}

class Control : public ::testing::Test {
 protected:
  std::vector<Frame> ask(const Bytes& frame) { return rig_.exchange(to_frame(frame)); }
  Rig rig_{AreaConfig{}};
};

TEST_F(Control, ArpRequestsAreAnsweredForAnyAddress) {
  const Bytes head = {0, 1, 8, 0, 6, 4, 0, 1};
  const Bytes us = {10, 0, 0, 1}, target = {203, 0, 113, 9};
  const auto out = ask(join({kBroadcast, kHost, {8, 6}, head, kHost, us, Bytes(6, 0), target}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(to_bytes(out[0]),
            join({kHost, kGuest, {8, 6}, {0, 1, 8, 0, 6, 4, 0, 2}, kGuest, target, kHost, us}));
}

TEST_F(Control, ArpAnnouncementsAndRepliesAreNot) {
  const Bytes us = {10, 0, 0, 1};
  EXPECT_TRUE(
      ask(join({kBroadcast, kHost, {8, 6}, {0, 1, 8, 0, 6, 4, 0, 1}, kHost, us, Bytes(6, 0), us})).empty());
  EXPECT_TRUE(
      ask(join({kGuest, kHost, {8, 6}, {0, 1, 8, 0, 6, 4, 0, 2}, kHost, us, kGuest, {10, 0, 0, 2}})).empty());
}

TEST_F(Control, ArpAnswersCarryTheRequestsTags) {
  const auto out = ask(join({kBroadcast,
                             kHost,
                             {0x81, 0, 0, 7, 8, 6},
                             {0, 1, 8, 0, 6, 4, 0, 1},
                             kHost,
                             {10, 0, 0, 1},
                             Bytes(6, 0),
                             {10, 0, 0, 2}}));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(to_bytes(out[0])[15], 7);
}

TEST_F(Control, EchoRequestsComeBack) {
  for (const size_t payload : {0u, 1u, 56u, 200u}) {
    const Bytes request = echo_request4(payload);
    const auto out = ask(request);
    ASSERT_EQ(out.size(), 1u) << payload;
    const Bytes reply = to_bytes(out[0]);
    ASSERT_EQ(reply.size(), request.size());
    EXPECT_EQ(Bytes(reply.begin(), reply.begin() + 6), kHost);
    EXPECT_EQ(Bytes(reply.begin() + 26, reply.begin() + 30), (Bytes{10, 0, 0, 77}));
    EXPECT_EQ(reply[34], 0);
    EXPECT_EQ(Bytes(reply.begin() + 38, reply.end()), Bytes(request.begin() + 38, request.end()));
    EXPECT_EQ(internet_checksum(Bytes(reply.begin() + 34, reply.end())), 0);
    EXPECT_EQ(internet_checksum(Bytes(reply.begin() + 14, reply.begin() + 34)), 0);
  }
}

TEST_F(Control, ABrokenEchoRequestDoesNot) {
  Bytes request = echo_request4(8);
  request.back() ^= 1;
  EXPECT_TRUE(ask(request).empty());
}

TEST_F(Control, Icmp6EchoRequestsComeBack) {
  const auto out = ask(icmp6(address6(1), address6(9), 64, {128, 0, 0, 0, 0, 1, 0, 2, 'h', 'i'}));
  ASSERT_EQ(out.size(), 1u);
  const Bytes reply = to_bytes(out[0]);
  EXPECT_EQ(Bytes(reply.begin() + 22, reply.begin() + 38), address6(9));
  EXPECT_EQ(reply[54], 129);
  const Bytes pseudo = join({address6(9), address6(1), {0, 0, 0, 10, 0, 0, 0, 58}});
  EXPECT_EQ(internet_checksum(join({pseudo, Bytes(reply.begin() + 54, reply.end())})), 0);
}

TEST_F(Control, NeighbourSolicitationsAreAnsweredWithOurMac) {
  const auto out = ask(solicitation(address6(1)));
  ASSERT_EQ(out.size(), 1u);
  const Bytes reply = to_bytes(out[0]);
  ASSERT_EQ(reply.size(), 14u + 40 + 32);
  EXPECT_EQ(reply[21], 255);
  EXPECT_EQ(reply[54], 136);
  EXPECT_EQ(reply[58] & 0x60, 0x60);
  EXPECT_EQ(Bytes(reply.begin() + 62, reply.begin() + 78), address6(2));
  EXPECT_EQ(Bytes(reply.begin() + 80, reply.begin() + 86), kGuest);
  const Bytes pseudo = join({address6(2), address6(1), {0, 0, 0, 32, 0, 0, 0, 58}});
  EXPECT_EQ(internet_checksum(join({pseudo, Bytes(reply.begin() + 54, reply.end())})), 0);
}

TEST_F(Control, ProbesForAFreeAddressAndRoutedSolicitationsAreNot) {
  EXPECT_TRUE(ask(solicitation(Bytes(16, 0))).empty());
  EXPECT_TRUE(ask(solicitation(address6(1), 64)).empty());
}

}  // namespace
}  // namespace synfluid::guest::testing
