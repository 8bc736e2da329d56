#include "backend/link_adapter.h"

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/packet.h"

namespace synfluid::backend {
namespace {

using Frame = std::vector<std::byte>;

constexpr MacAddress kGuest = {0x02, 0, 0, 0, 0, 0x77};

Frame from_hex(std::string hex) {
  std::erase(hex, ' ');
  Frame out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return out;
}

std::string hex_of(std::span<const std::byte> bytes) {
  std::string out;
  for (const std::byte b : bytes) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", static_cast<unsigned>(b));
    out += text;
  }
  return out;
}

constexpr char kTaggedSyn[] =
    "0200000000bb 0200000000aa 8100 0064 0800"
    "45000028 00004000 40060000 0a140101 c6336450 9c40 0050 00000001 00000000 5002 ffff 0000 0000";

TEST(LinkAdapter, AGuestSeesAPlainFrameToItself) {
  const Frame syn = from_hex(kTaggedSyn);
  Frame out(1600);
  out.resize(frame_for_guest(syn, 18, kGuest, out));
  ASSERT_EQ(out.size(), 54u);
  EXPECT_EQ(hex_of(std::span(out).first(14)),
            "020000000077"
            "025346000001"
            "0800");
  EXPECT_EQ(hex_of(std::span(out).subspan(14)), hex_of(std::span(syn).subspan(18)));
  EXPECT_EQ(parse_packet(out).flow.key.vlan, VlanTags{});
}

TEST(LinkAdapter, AnAnswerGetsTheFlowsHeaderBackSwapped) {
  const Frame syn = from_hex(kTaggedSyn);
  Frame inside(1600), outside(1600);
  inside.resize(frame_for_guest(syn, 18, kGuest, inside));
  const LinkHeader back = LinkHeader::of(syn, 18).reversed();
  outside.resize(frame_for_wire(inside, 14, back, outside));
  EXPECT_EQ(hex_of(std::span(outside).first(18)),
            "0200000000aa"
            "0200000000bb"
            "81000064"
            "0800");
  EXPECT_EQ(hex_of(std::span(outside).subspan(18)), hex_of(std::span(syn).subspan(18)));
}

TEST(LinkAdapter, WhatDoesNotFitIsNotWritten) {
  const Frame syn = from_hex(kTaggedSyn);
  Frame small(53);
  EXPECT_EQ(frame_for_guest(syn, 18, kGuest, small), 0u);
  EXPECT_EQ(frame_for_wire(syn, 18, LinkHeader::of(syn, 18), small), 0u);
  EXPECT_TRUE(LinkHeader::of(syn, 23).empty());
  EXPECT_EQ(frame_for_wire(syn, 18, LinkHeader{}, std::span<std::byte>(small)), 0u);
}

TEST(LinkAdapter, AnswersArpForEveryAddress) {
  const Frame query = from_hex(
      "ffffffffffff 020000000077 0806 0001 0800 06 04 0001 020000000077 c633645a 000000000000 0a140101");
  Frame answer(kNeighbourAnswerBytes);
  answer.resize(answer_neighbour_query(query, answer));
  EXPECT_EQ(hex_of(answer),
            "020000000077"
            "025346000001"
            "0806"
            "0001080006040002"
            "025346000001"
            "0a140101"
            "020000000077"
            "c633645a");
}

TEST(LinkAdapter, AnswersANeighbourSolicitationWithAValidChecksum) {
  const Frame query = from_hex(
      "3333ff000001 020000000077 86dd 60000000 0020 3a ff"
      "20010db8000500000000000000000090 ff0200000000000000000001ff000001"
      "87 00 0000 00000000 20010db8002000000000000000000001 0101020000000077");
  Frame answer(kNeighbourAnswerBytes);
  ASSERT_EQ(answer_neighbour_query(query, answer), kNeighbourAnswerBytes);
  EXPECT_EQ(hex_of(std::span(answer).subspan(22, 16)), "20010db8002000000000000000000001");
  EXPECT_EQ(hex_of(std::span(answer).subspan(38, 16)), "20010db8000500000000000000000090");
  EXPECT_EQ(hex_of(std::span(answer).subspan(78, 8)), "0201025346000001");
  uint32_t sum = 32 + 58;
  for (size_t i = 22; i < answer.size(); i += 2)
    sum += static_cast<uint32_t>(answer[i]) << 8 | static_cast<uint32_t>(answer[i + 1]);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffu);
}

TEST(LinkAdapter, AGuestThatProbesItsOwnAddressGetsNoAnswer) {
  Frame answer(kNeighbourAnswerBytes);
  for (const char* query : {
           // ARP probe: sender 0.0.0.0; announcement: sender is target; a reply.
           "ffffffffffff 020000000077 0806 0001 0800 06 04 0001 020000000077 00000000 000000000000 c633645a",
           "ffffffffffff 020000000077 0806 0001 0800 06 04 0001 020000000077 c633645a 000000000000 c633645a",
           "ffffffffffff 020000000077 0806 0001 0800 06 04 0002 020000000077 c633645a 000000000000 0a140101",
           // Duplicate address detection: source ::.
           "3333ff000090 020000000077 86dd 60000000 0018 3a ff 00000000000000000000000000000000"
           "ff0200000000000000000001ff000090 87 00 0000 00000000 20010db8000500000000000000000090",
       })
    EXPECT_EQ(answer_neighbour_query(from_hex(query), answer), 0u) << query;
}

TEST(LinkAdapter, EveryPrefixOfAQueryIsSafe) {
  const Frame whole = from_hex(
      "ffffffffffff 020000000077 0806 0001 0800 06 04 0001 020000000077 c633645a 000000000000 0a140101");
  Frame answer(kNeighbourAnswerBytes);
  for (size_t n = 0; n < whole.size(); ++n) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
    EXPECT_EQ(answer_neighbour_query(cut, answer), 0u) << n;
  }
}

}  // namespace
}  // namespace synfluid::backend
