#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/packet.h"
#include "gateway/pcap_source.h"
#include "gateway/pcapng_writer.h"
#include "gateway/replay_report.h"
#include "tests/unit/gateway/trace_files.h"

namespace synfluid::gateway::testing {
namespace {

Result<std::unique_ptr<PcapSource>> open_trace(const std::string& path) {
  const auto file = TraceFile::open(path);
  if (!file) return file.error();
  return PcapSource::open(*file);
}

/// 10.0.0.1:1 > 10.0.0.2:80, SYN, no checksums.
std::vector<uint8_t> ipv4_syn() {
  std::vector<uint8_t> p(40, 0);
  p[0] = 0x45;
  p[3] = 40;
  p[8] = 64;
  p[9] = 6;
  p[12] = p[16] = 10;
  p[15] = 1;
  p[19] = 2;
  p[21] = 1;
  p[23] = 80;
  p[32] = 0x50;
  p[33] = 0x02;
  return p;
}

std::vector<uint8_t> behind(std::vector<uint8_t> header, const std::vector<uint8_t>& packet) {
  header.insert(header.end(), packet.begin(), packet.end());
  return header;
}

struct LinkCase {
  const char* name;
  uint32_t link_type;
  std::vector<uint8_t> header;
};

class LinkTypes : public ::testing::TestWithParam<LinkCase> {};

TEST_P(LinkTypes, BecomeEthernet) {
  const TemporaryFile file(".pcap");
  file.write(PcapBytes(GetParam().link_type).record(behind(GetParam().header, ipv4_syn())).bytes);
  auto source = open_trace(file.path());
  ASSERT_TRUE(source) << source.error().text();
  const auto frame = (*source)->next();
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ((*frame)->time_ns, 100'000'005'000);
  EXPECT_EQ((*frame)->bytes.size(), 54u);
  const ParsedPacket packet = parse_packet((*frame)->bytes);
  EXPECT_TRUE(packet.is_pure_syn());
  EXPECT_EQ(packet.flow.destination().port, 80);
  const auto end = (*source)->next();
  ASSERT_TRUE(end);
  EXPECT_FALSE(*end);
}

const std::vector<uint8_t> kEthernet = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0};
const std::vector<uint8_t> kSll = {0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0};
const std::vector<uint8_t> kSll2 = {8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0};

INSTANTIATE_TEST_SUITE_P(All, LinkTypes,
                         ::testing::Values(LinkCase{"ethernet", 1, kEthernet}, LinkCase{"raw", 101, {}},
                                           LinkCase{"raw_of_openbsd", 14, {}}, LinkCase{"ipv4", 228, {}},
                                           LinkCase{"sll", 113, kSll}, LinkCase{"sll2", 276, kSll2},
                                           LinkCase{"null", 0, {2, 0, 0, 0}},
                                           LinkCase{"loop", 108, {0, 0, 0, 2}}),
                         [](const auto& chosen) { return std::string(chosen.param.name); });

TEST(PcapSource, NamesALinkTypeThatItDoesNotRead) {
  const TemporaryFile file(".pcap");
  file.write(PcapBytes(105).bytes);
  const auto source = open_trace(file.path());
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().text().find("IEEE802_11 (105)"), std::string::npos) << source.error().text();
}

TEST(PcapSource, NamesTheRecordThatIsBroken) {
  const TemporaryFile file(".pcap");
  PcapBytes pcap(101);
  pcap.record(ipv4_syn()).record(ipv4_syn());
  file.write(pcap.record(ipv4_syn(), 400, 400).bytes);  // claims more than the file has
  auto source = open_trace(file.path());
  ASSERT_TRUE(source);
  ASSERT_TRUE((*source)->next());
  ASSERT_TRUE((*source)->next());
  const auto third = (*source)->next();
  ASSERT_FALSE(third);
  EXPECT_NE(third.error().text().find("record 3 is broken"), std::string::npos) << third.error().text();
}

TEST(PcapSource, NamesAFileThatIsNotThere) {
  const auto source = open_trace("/nonexistent/trace.pcap");
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().text(), "/nonexistent/trace.pcap: No such file or directory");
}

TEST(PcapSource, RefusesWhatIsNoCapture) {
  const TemporaryFile file(".pcap");
  file.write({'h', 'e', 'l', 'l', 'o', ' ', 'w', 'o', 'r', 'l', 'd', '!',
              '!', '!', '!', '!', '!', '!', '!', '!', '!', '!', '!', '!'});
  EXPECT_FALSE(open_trace(file.path()));
}

TEST(PcapSource, SaysHowACompressedCaptureCanBePlayed) {
  const TemporaryFile file(".pcap.gz");
  file.write({0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14});
  const auto source = open_trace(file.path());
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().text().find("compressed by gzip; play it by: zcat"), std::string::npos)
      << source.error().text();
}

/// pcapng counts in 64 bits, here of whole seconds: more years than nanoseconds have room for.
TEST(PcapSource, TimeStampsOfNoRealClockAreTakenForTheLatest) {
  const TemporaryFile file(".pcapng");
  std::vector<uint8_t> bytes;
  const auto block = [&bytes](std::vector<uint32_t> words) {
    words.insert(words.begin() + 1, static_cast<uint32_t>(4 * (words.size() + 2)));
    words.push_back(words[1]);
    for (const uint32_t word : words)
      for (unsigned shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<uint8_t>(word >> shift));
  };
  block({0x0a0d0d0a, 0x1a2b3c4d, 1, 0xffffffff, 0xffffffff});
  block({1, 1, 65535, 0x10009, 0, 0});  // if_tsresol 0: seconds
  block({6, 0, 0x7fffffff, 0xffffffff, 4, 4, 0});
  file.write(bytes);
  auto source = open_trace(file.path());
  ASSERT_TRUE(source) << source.error().text();
  const auto frame = (*source)->next();
  ASSERT_TRUE(frame) << frame.error().text();
  ASSERT_TRUE(*frame);
  EXPECT_GT((*frame)->time_ns, int64_t{100} * 365 * 24 * 3600 * kNsPerSecond);
  EXPECT_LE((*frame)->time_ns, INT64_MAX / 2);
}

TEST(PcapSource, FillsWhatTheSnapLengthCutOff) {
  const TemporaryFile file(".pcap");
  file.write(PcapBytes(101).record(ipv4_syn(), 1000, 40).bytes);
  auto source = open_trace(file.path());
  ASSERT_TRUE(source);
  const auto frame = (*source)->next();
  ASSERT_TRUE(frame && *frame);
  EXPECT_EQ((*frame)->bytes.size(), 1014u);
  EXPECT_EQ((*frame)->bytes.back(), std::byte{0});
}

TEST(PcapSource, ARecordShorterThanItsLinkHeaderIsAnEmptyFrame) {
  const TemporaryFile file(".pcap");
  file.write(PcapBytes(113).record({1, 2, 3}).bytes);
  auto source = open_trace(file.path());
  ASSERT_TRUE(source);
  const auto frame = (*source)->next();
  ASSERT_TRUE(frame && *frame);
  EXPECT_TRUE((*frame)->bytes.empty());
}

TEST(MalformedFrames, AreCountedAndTheFirstIsNamed) {
  MalformedFrames seen;
  seen.see({.record = 1}, PacketKind::kNotTcp);
  seen.see({.record = 2}, PacketKind::kFragment);
  seen.see({.record = 3}, PacketKind::kTruncated);
  seen.see({.record = 4}, PacketKind::kMalformed);
  EXPECT_EQ(seen.count, 2u);
  const std::string text = to_error(seen, "a.pcap").text();
  EXPECT_NE(text.find("a.pcap: record 3 holds"), std::string::npos) << text;
  EXPECT_NE(text.find("more bytes than the frame has; 2 such"), std::string::npos) << text;
}

TEST(MalformedFrames, AreNotThoseThatTheCaptureCutShort) {
  const TemporaryFile file(".pcap");
  file.write(PcapBytes(101).record(ipv4_syn(), 1000, 30).record(ipv4_syn()).bytes);
  auto source = open_trace(file.path());
  ASSERT_TRUE(source);
  MalformedFrames seen;
  const auto cut = (*source)->next();
  ASSERT_TRUE(cut && *cut);
  EXPECT_TRUE((*cut)->cut);
  seen.see(**cut, PacketKind::kMalformed);
  EXPECT_EQ(seen.count, 0u);
}

TEST(PcapngWriter, WritesWhatLibpcapReads) {
  const TemporaryFile file(".pcapng");
  auto writer = PcapngWriter::create(file.path());
  ASSERT_TRUE(writer);
  const std::vector<std::byte> first(61, std::byte{7});
  const std::vector<std::byte> second(64, std::byte{8});
  (*writer)->write(Side::kAccess, 1'600'000'000'123'456'789, first);
  (*writer)->write(Side::kCore, 1'600'000'000'123'456'790, second);
  ASSERT_TRUE((*writer)->close());
  auto source = open_trace(file.path());
  ASSERT_TRUE(source) << source.error().text();
  const auto one = (*source)->next();
  ASSERT_TRUE(one && *one);
  EXPECT_EQ((*one)->time_ns, 1'600'000'000'123'456'789);
  EXPECT_TRUE(std::ranges::equal((*one)->bytes, first));
  const auto two = (*source)->next();
  ASSERT_TRUE(two && *two);
  EXPECT_TRUE(std::ranges::equal((*two)->bytes, second));
}

TEST(PcapngWriter, SaysWhereItCannotWrite) {
  const auto writer = PcapngWriter::create("/nonexistent/out.pcapng");
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().code(), ErrorCode::kNotFound);
}

TEST(PcapngWriter, TellsThatTheDiskIsFull) {
  auto writer = PcapngWriter::create("/dev/full");
  ASSERT_TRUE(writer);
  (*writer)->write(Side::kAccess, 0, std::vector<std::byte>(100'000));
  EXPECT_FALSE((*writer)->close());
}

}  // namespace
}  // namespace synfluid::gateway::testing
