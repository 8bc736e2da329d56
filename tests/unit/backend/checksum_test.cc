// Checksums left blank by the front end: against sums worked out by hand, and by the rule that a right one
// sums to 0.
#include "backend/checksum.h"

#include <memory>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "backend/vif.h"
#include "tests/unit/backend/front_end.h"

namespace synfluid::backend {
namespace {

using testing::Frame;

Frame hex(std::string_view text) {
  Frame out;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<std::byte>(high * 16 + digit));
      high = -1;
    }
  }
  return out;
}

constexpr std::string_view kMacs = "020000000002020000000001";
constexpr std::string_view kTcpOverIpv4 =
    "0800 4500002b 00004000 40060000 0a000001 0a000002 9c400050 00000001 00000000 5018ffff beef0000 414243";
constexpr std::string_view kUdpOverIpv4 =
    "0800 4500001f 00004000 40110000 0a000001 0a000002 00350035 000bbeef 414243";
constexpr std::string_view kTcpOverIpv6 =
    "86dd 60000000 0017 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002"
    "9c400050 00000001 00000000 5018ffff beef0000 414243";
constexpr std::string_view kUdpBehindOptions =
    "86dd 60000000 0013 00 40 20010db8000000000000000000000001 20010db8000000000000000000000002"
    "11 00 010400000000 00350035 000bbeef 414243";

Frame frame_of(std::string_view body, std::string_view tags = "") {
  return hex(std::string(kMacs) + std::string(tags) + std::string(body));
}

uint16_t at(const Frame& f, size_t i) {
  return static_cast<uint16_t>(static_cast<unsigned>(f[i]) << 8 | static_cast<unsigned>(f[i + 1]));
}

TEST(Checksum, TcpOverIpv4IsTheSumWorkedOutByHand) {
  Frame f = frame_of(kTcpOverIpv4);
  ASSERT_TRUE(fill_checksum(f));
  // 0a00+0001+0a00+0002+0006+0017 + 9c40+0050+0000+0001+0000+0000+5018+ffff+0000+0000+4142+4300 = 284ca ->
  // 84cc.
  uint32_t sum = 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + 0x0006 + 0x0017;
  sum += 0x9c40 + 0x0050 + 0x0001 + 0x5018 + 0xffff + 0x4142 + 0x4300;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(at(f, 14 + 20 + 16), static_cast<uint16_t>(~sum));
}

struct Row {
  const char* name;
  Frame frame;
  size_t addresses;
  size_t address_bytes;
  size_t transport;
  uint8_t protocol;
};

class FilledChecksum : public ::testing::TestWithParam<Row> {};
INSTANTIATE_TEST_SUITE_P(Frames, FilledChecksum,
                         ::testing::Values(Row{"tcp4", frame_of(kTcpOverIpv4), 26, 8, 34, 6},
                                           Row{"udp4", frame_of(kUdpOverIpv4), 26, 8, 34, 17},
                                           Row{"tcp6", frame_of(kTcpOverIpv6), 22, 32, 54, 6},
                                           Row{"udp6_options", frame_of(kUdpBehindOptions), 22, 32, 62, 17},
                                           Row{"vlan_tcp4", frame_of(kTcpOverIpv4, "81000064"), 30, 8, 38, 6},
                                           Row{"qinq_tcp6", frame_of(kTcpOverIpv6, "88a8006481000065"), 30,
                                               32, 62, 6}),
                         [](const auto& row) { return row.param.name; });

TEST_P(FilledChecksum, SumsToZeroWithItsPseudoHeaderAndLeavesTheRestAlone) {
  const Row& row = GetParam();
  Frame f = row.frame;
  f.resize(f.size() + 6, std::byte{0x5a});  // Ethernet padding is no part of the sum
  const Frame before = f;
  ASSERT_TRUE(fill_checksum(f));
  const size_t length = row.frame.size() - row.transport;
  const Frame pseudo = {std::byte{0}, std::byte{row.protocol}, std::byte{0}, static_cast<std::byte>(length)};
  uint64_t sum = add_to_sum(pseudo, 0);
  sum = add_to_sum(std::span(f).subspan(row.addresses, row.address_bytes), sum);
  sum = add_to_sum(std::span(f).subspan(row.transport, length), sum);
  EXPECT_EQ(fold_sum(sum), 0);
  const size_t field = row.transport + (row.protocol == 6 ? 16 : 6);
  Frame restored = f;
  restored[field] = before[field];
  restored[field + 1] = before[field + 1];
  EXPECT_EQ(restored, before);
}

TEST_P(FilledChecksum, APrefixOfTheFrameIsLeftAlone) {
  for (size_t n = 0; n < GetParam().frame.size(); ++n) {
    Frame prefix(GetParam().frame.begin(), GetParam().frame.begin() + static_cast<ptrdiff_t>(n));
    const Frame before = prefix;
    EXPECT_FALSE(fill_checksum(prefix)) << n;
    EXPECT_EQ(prefix, before);
  }
}

TEST(Checksum, AUdpSumOfZeroIsSentAsOnes) {
  Frame f = frame_of("0800 4500001e 00004000 40110000 00000000 00000000 00000000 000abeef 0000");
  // Choose the payload so that everything else sums to ffff.
  const uint16_t rest = static_cast<uint16_t>(0xffff - (0x0011 + 0x000a + 0x000a));
  f[f.size() - 2] = static_cast<std::byte>(rest >> 8);
  f[f.size() - 1] = static_cast<std::byte>(rest & 0xff);
  ASSERT_TRUE(fill_checksum(f));
  EXPECT_EQ(at(f, 14 + 20 + 6), 0xffff);
}

TEST(Checksum, WhatIsNeitherTcpNorUdpIsRefused) {
  Frame arp = frame_of("0806 0001080006040001 020000000001 0a000001 000000000000 0a000002");
  EXPECT_FALSE(fill_checksum(arp));
  Frame fragment = frame_of(
      "0800 4500002b 00002000 40060000 0a000001 0a000002 9c400050 00000001 00000000 5018ffff "
      "beef0000 414243");
  EXPECT_FALSE(fill_checksum(fragment));
}

class BlankChecksum : public ::testing::TestWithParam<testing::Grants> {};
INSTANTIATE_TEST_SUITE_P(AllGrants, BlankChecksum,
                         ::testing::Values(testing::Grants::kSeeded, testing::Grants::kPersistent,
                                           testing::Grants::kCopied));

TEST_P(BlankChecksum, AFrameWithABlankOneLeavesTheVifWithTheRightOne) {
  testing::GuestMemory memory(8);
  testing::FrontEnd guest(memory);
  Vif vif(std::make_unique<testing::FakeLink>(memory, GetParam(), std::make_shared<testing::LinkLog>()));
  Frame expected = frame_of(kTcpOverIpv4);
  guest.transmit(expected, abi::kTxCsumBlank | abi::kTxDataValidated);
  guest.transmit(expected);  // not blank: whatever it says is what the guest wants
  guest.transmit(frame_of("0806 0001080006040001"), abi::kTxCsumBlank);
  const Frame as_it_was = expected;
  ASSERT_TRUE(fill_checksum(expected));
  Frame into(kMaxFrameBytes);
  ASSERT_EQ(vif.receive(into), expected.size());
  EXPECT_EQ(Frame(into.begin(), into.begin() + static_cast<ptrdiff_t>(expected.size())), expected);
  ASSERT_EQ(vif.receive(into), expected.size());
  EXPECT_EQ(Frame(into.begin(), into.begin() + static_cast<ptrdiff_t>(expected.size())), as_it_was);
  EXPECT_EQ(vif.receive(into), 0u);
  EXPECT_EQ(vif.counters().bad_tx_request, 1u);
}

}  // namespace
}  // namespace synfluid::backend
