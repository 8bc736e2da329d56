#include <gtest/gtest.h>

#include "tests/unit/guest/conversation.h"
#include "tests/unit/guest/tls_hello.h"

namespace synfluid::guest::testing {
namespace {

TEST(Firewall, ABlockedHostGetsARstOnBothSidesWithTheNumbersEachExpects) {
  Conversation flow;
  flow.handshake();
  const std::string request = get("ads.example.net");
  const auto out = flow.send(flow.bytes(0, request));
  ASSERT_EQ(out.size(), 2u);
  const Tcp to_client = dissect(out[0]);
  EXPECT_EQ(to_client.flags, kR | kA);
  EXPECT_EQ(to_client.sport, 80);
  EXPECT_EQ(to_client.seq, kServerIsn + 1);
  EXPECT_EQ(to_client.ack, kIsn + 1 + request.size());
  EXPECT_EQ(to_client.macs, turned(Tcp{}).macs);
  const Tcp to_server = dissect(out[1]);
  EXPECT_EQ(to_server.flags, kR | kA);
  EXPECT_EQ(to_server.dport, 80);
  EXPECT_EQ(to_server.seq, kIsn + 1);
  EXPECT_EQ(to_server.ack, kServerIsn + 1);
  EXPECT_EQ(to_server.macs, Tcp{}.macs);
  EXPECT_EQ(flow.rig().report().flows_blocked, 1u);
}

TEST(Firewall, AnotherHostPassesByteForByte) {
  Conversation flow;
  flow.handshake();
  const std::string request = get("www.example.net");
  EXPECT_TRUE(flow.passes(flow.bytes(0, request)));
  const auto size = static_cast<uint32_t>(request.size());
  EXPECT_TRUE(flow.passes(flow.server_ack(size)));
  EXPECT_TRUE(flow.passes(flow.server_frame({.seq = kServerIsn + 1, .flags = kA, .payload = "a page"})));
  EXPECT_EQ(flow.rig().report().flows_blocked, 0u);
}

TEST(Firewall, WorksOverIpv6AndTaggedFrames) {
  for (const Tcp& base : {Tcp{.v6 = true}, Tcp{.vlans = {7}}, Tcp{.v6 = true, .vlans = {100, 7}}}) {
    Conversation blocked(kConfig, base);
    blocked.handshake();
    const auto out = blocked.send(blocked.bytes(0, get("ads.example.net")));
    ASSERT_EQ(out.size(), 2u);
    EXPECT_EQ(dissect(out[0]).vlans, base.vlans);
    EXPECT_EQ(dissect(out[1]).vlans, base.vlans);
    Conversation passed(kConfig, base);
    passed.handshake();
    EXPECT_TRUE(passed.passes(passed.bytes(0, get("example.net"))));
  }
}

struct Row {
  const char* what;
  std::string first_bytes;
  bool blocked;
};

std::vector<Row> rows() {
  const std::string rest = "\r\n\r\n";
  return {
      {"plain", get("ads.example.net"), true},
      {"other case", get("ADS.Example.NET"), true},
      {"port", get("ads.example.net:8080"), true},
      {"trailing dot", get("ads.example.net."), true},
      {"trailing dot and port", get("ads.example.net.:80"), true},
      {"below a blocked name", get("x.ads.example.net"), false},
      {"a name that ends alike", get("bads.example.net"), false},
      {"wildcard", get("a.tracker.test"), true},
      {"wildcard, deeper", get("a.b.Tracker.test"), true},
      {"the wildcard's own name", get("tracker.test"), false},
      {"a name that ends like the wildcard", get("mytracker.test"), false},
      {"absolute form", "GET http://ads.example.net/x HTTP/1.1\r\nHost: www.example.net" + rest, true},
      {"absolute form with port", "GET http://ads.example.net:80 HTTP/1.1\r\nHost: a" + rest, true},
      {"absolute form with user", "GET http://me:pw@ads.example.net/ HTTP/1.1\r\nHost: a" + rest, true},
      {"absolute form, another host", "GET http://www.example.net/ HTTP/1.1\r\nHost: www.example.net" + rest,
       false},
      {"host in the path only", "GET /http://ads.example.net/ HTTP/1.1\r\nHost: a" + rest, false},
      {"host in the query only", "GET /?u=http://ads.example.net/ HTTP/1.1\r\nHost: a" + rest, false},
      {"CONNECT", "CONNECT ads.example.net:443 HTTP/1.1\r\nHost: a" + rest, true},
      {"HTTP/0.9 absolute form", "GET http://ads.example.net/\r\n", true},
      {"empty lines first", "\r\n\r\n" + get("ads.example.net"), true},
      {"bare line feeds", "GET / HTTP/1.1\nHost: ads.example.net\n\n", true},
      {"header name in odd case", "GET / HTTP/1.1\r\nhOsT:ads.example.net" + rest, true},
      {"blank before the colon", "GET / HTTP/1.1\r\nHost : ads.example.net" + rest, true},
      {"tabs around the value", "GET / HTTP/1.1\r\nHost:\t ads.example.net \t" + rest, true},
      {"folded value", "GET / HTTP/1.1\r\nHost:\r\n ads.example.net" + rest, true},
      {"Host is not the first header", "GET / HTTP/1.1\r\nA: b\r\nC: d\r\nHost: ads.example.net" + rest,
       true},
      {"another header that ends in Host", "GET / HTTP/1.1\r\nX-Host: ads.example.net\r\nHost: a" + rest,
       false},
      {"extra blanks in the request line", "GET  /  HTTP/1.1\r\nHost: ads.example.net" + rest, true},
      {"odd method", "BREW / HTTP/1.1\r\nHost: ads.example.net" + rest, true},
      {"two Hosts, the second one blocked", "GET / HTTP/1.1\r\nHost: a\r\nHost: ads.example.net" + rest,
       true},
      {"two Hosts, the first one blocked", "GET / HTTP/1.1\r\nHost: ads.example.net\r\nHost: a" + rest, true},
      {"two Hosts, none blocked", "GET / HTTP/1.1\r\nHost: a\r\nHost: b" + rest, false},
      {"a blank before the method", " \t" + get("ads.example.net"), true},
      {"HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
      {"a host, and a long head behind it",
       "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(6000, 'x') + rest, false},
      {"no host at all", "GET / HTTP/1.0\r\nA: b" + rest, false},
      {"SSH", "SSH-2.0-OpenSSH_9.2\r\n", false},
      {"SMTP", "EHLO ads.example.net\r\nHost: ads.example.net\r\n", false},
      {"binary", std::string("\x00\x01\x02", 3) + "ads.example.net", false},
      {"no host in 4 KiB",
       "GET / HTTP/1.1\r\nA: " + std::string(5000, 'x') + "\r\nHost: www.example.net" + rest, true},
      {"TLS", tls_hello("ads.example.net"), true},
      {"TLS, other case", tls_hello("Ads.Example.Net"), true},
      {"TLS, another name", tls_hello("www.example.net"), false},
      {"TLS without a name", tls_hello(""), false},
      {"TLS, wildcard", tls_hello("pixel.tracker.test"), true},
      {"TLS over small records", split_records(tls_hello("ads.example.net"), 16), true},
      {"TLS over records of one byte", split_records(tls_hello("ads.example.net"), 1), true},
      {"TLS over small records, another name", split_records(tls_hello("www.example.net"), 7), false},
      {"TLS after another extension", tls_hello("ads.example.net", 1700), true},
      {"a TLS record that is no ClientHello", std::string("\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9), false},
      {"a TLS alert", std::string("\x15\x03\x01\x00\x02\x02\x28", 7), false},
      {"a ClientHello cut short by another record",
       tls_hello("www.example.net").substr(0, 5 + 0) + std::string("\x01\x00\x40\x00", 4) +
           std::string(600, '\x17'),
       true},
  };
}

TEST(Firewall, EveryRowIsJudgedRightInOneSegmentAndInManySmallOnes) {
  for (const Row& row : rows()) {
    for (const size_t step : {size_t{100'000}, size_t{1}, size_t{2}, size_t{7}, size_t{100}}) {
      Conversation flow;
      flow.handshake();
      bool blocked = false;
      const size_t piece = std::min(step, size_t{1460});
      for (size_t at = 0; at < row.first_bytes.size() && !blocked; at += piece) {
        const auto frame = flow.bytes(static_cast<uint32_t>(at), row.first_bytes.substr(at, piece));
        const auto out = flow.send(frame);
        blocked = out.size() == 2;
        if (!blocked) {
          ASSERT_EQ(out, std::vector<Frame>(1, frame)) << row.what << " step " << step << " at " << at;
        }
      }
      EXPECT_EQ(blocked, row.blocked) << row.what << ", segments of " << step;
    }
  }
}

TEST(Firewall, BytesAheadOfAHoleWaitForTheHole) {
  Conversation flow;
  flow.handshake();
  const std::string request = get("ads.example.net");
  EXPECT_TRUE(flow.drops(flow.bytes(20, request.substr(20))));
  EXPECT_TRUE(flow.passes(flow.bytes(0, request.substr(0, 20))));
  EXPECT_TRUE(flow.resets(flow.bytes(20, request.substr(20))));
}

TEST(Firewall, ASecondVersionOfInspectedBytesIsDropped) {
  Conversation flow;
  flow.handshake();
  const std::string good = get("www.example.net");
  const std::string evil = get("ads.example.net");
  ASSERT_EQ(good.size(), evil.size());
  EXPECT_TRUE(flow.passes(flow.bytes(0, good)));
  EXPECT_TRUE(flow.passes(flow.bytes(0, good))) << "an honest retransmission";
  EXPECT_TRUE(flow.passes(flow.bytes(5, good.substr(5, 9)))) << "a part of it";
  EXPECT_TRUE(flow.drops(flow.bytes(0, evil)));
  EXPECT_TRUE(flow.drops(flow.bytes(22, evil.substr(22, 3))));
}

TEST(Firewall, OverlappingSegmentsAreReadAsFirstSeen) {
  Conversation flow;
  flow.handshake();
  const std::string request = get("ads.example.net");
  EXPECT_TRUE(flow.passes(flow.bytes(0, request.substr(0, 25))));
  // The same range with other bytes, and more behind it.
  EXPECT_TRUE(flow.drops(flow.bytes(10, "XXXXXXXXXXXXXXX" + request.substr(25))));
  // The same bytes and more behind them.
  EXPECT_TRUE(flow.resets(flow.bytes(10, request.substr(10))));
}

TEST(Firewall, DataWithABadChecksumDecidesNothing) {
  Conversation flow;
  flow.handshake();
  Tcp bad{.seq = kIsn + 1, .ack = kServerIsn + 1, .flags = kA, .payload = get("www.example.net")};
  bad.break_checksum = true;
  EXPECT_TRUE(flow.drops(flow.client_frame(bad)));
  EXPECT_TRUE(flow.resets(flow.bytes(0, get("ads.example.net"))));
}

TEST(Firewall, DataInTheSynIsInspected) {
  Conversation flow;
  EXPECT_TRUE(flow.resets(flow.client_frame({.seq = kIsn, .flags = kS, .payload = get("ads.example.net")})));
}

TEST(Firewall, ASynInsideAConnectionDoesNotMoveTheInspection) {
  Conversation flow;
  flow.handshake();
  // Would the firewall believe it, what follows at the old place lay before the stream.
  EXPECT_TRUE(flow.passes(flow.client_frame({.seq = kIsn + 20'000, .flags = kS})));
  EXPECT_TRUE(flow.resets(flow.bytes(0, get("ads.example.net"))));
}

TEST(Firewall, ANewConnectionOnTheSamePortsIsInspectedAnew) {
  Conversation flow;
  flow.handshake();
  EXPECT_TRUE(flow.resets(flow.bytes(0, get("ads.example.net"))));
  constexpr uint32_t kNewIsn = 700'000;
  EXPECT_TRUE(flow.passes(flow.client_frame({.seq = kNewIsn, .flags = kS})));
  EXPECT_TRUE(flow.passes(flow.server_frame({.seq = 1, .ack = kNewIsn + 1, .flags = kS | kA})));
  const std::string request = get("www.example.net");
  EXPECT_TRUE(
      flow.passes(flow.client_frame({.seq = kNewIsn + 1, .ack = 2, .flags = kA, .payload = request})));
}

TEST(Firewall, ABlockedFlowStaysBlockedAndAnswersWhoeverStillTalks) {
  Conversation flow;
  flow.handshake();
  EXPECT_TRUE(flow.resets(flow.bytes(0, get("ads.example.net"))));
  EXPECT_TRUE(flow.resets(flow.bytes(0, get("www.example.net"))));
  const auto out = flow.send(flow.server_ack(0));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(dissect(out[0]).seq, kIsn + 1);
  EXPECT_EQ(dissect(out[0]).dport, 80);
  EXPECT_TRUE(flow.drops(flow.client_frame({.seq = kIsn + 1, .flags = kR})));
}

TEST(Firewall, SegmentsOfNoFlowAreDroppedUnlessConfiguredOtherwise) {
  Conversation strict;
  EXPECT_TRUE(strict.drops(strict.bytes(0, get("ads.example.net"))));
  Conversation lenient(std::string(kConfig) + "unknown_flows pass\n");
  EXPECT_TRUE(lenient.passes(lenient.bytes(0, "mid-flow")));
}

TEST(Firewall, AnUndecidedRequestMayBeConfiguredToPass) {
  Conversation flow(std::string(kConfig) + "undecided pass\n");
  flow.handshake();
  const std::string request = "GET / HTTP/1.1\r\nA: " + std::string(5000, 'x') + "\r\n";
  for (uint32_t at = 0; at < request.size(); at += 1000)
    EXPECT_TRUE(flow.passes(flow.bytes(at, request.substr(at, 1000))));
}

TEST(Firewall, EverythingButTcpPasses) {
  Conversation flow;
  Frame arp(60, std::byte{0});
  arp[12] = std::byte{8};
  arp[13] = std::byte{6};
  EXPECT_TRUE(flow.passes(arp));
  Frame unknown(60, std::byte{0x5a});
  EXPECT_TRUE(flow.passes(unknown));
}

TEST(Firewall, AFullTableDropsTheSynAndRecoversWithTime) {
  Conversation flow;
  uint32_t passed = 0;
  constexpr uint32_t kSyns = 8000;
  const auto syn = [&](uint32_t i) {
    return build(Tcp{
        .source = 0x0a000000 + i, .sport = static_cast<uint16_t>(1000 + i % 50'000), .seq = i, .flags = kS});
  };
  for (uint32_t i = 0; i < kSyns; ++i) passed += flow.passes(syn(i)) ? 1 : 0;
  EXPECT_GT(passed, 100u);
  EXPECT_LT(passed, kSyns);
  EXPECT_TRUE(flow.drops(syn(kSyns)));
  flow.rig().platform().advance(61'000'000'000);
  EXPECT_TRUE(flow.passes(syn(kSyns)));
}

TEST(Firewall, ManyFlowsAtOnceAreEachJudgedByTheirOwnBytes) {
  Conversation flow;
  for (uint32_t i = 0; i < 2000; ++i) {
    Tcp tcp{.source = 0x0a000000 + i, .sport = static_cast<uint16_t>(2000 + i), .seq = i, .flags = kS};
    if (!flow.passes(build(tcp))) continue;
    Tcp accept = turned(tcp);
    accept.ack = i + 1;
    accept.seq = 0;
    accept.flags = kS | kA;
    EXPECT_TRUE(flow.passes(build(accept)));
    tcp.seq = i + 1;
    tcp.ack = 1;
    tcp.flags = kA;
    const bool evil = i % 3 == 0;
    tcp.payload = get(evil ? "ads.example.net" : "www.example.net");
    const auto out = flow.send(build(tcp));
    ASSERT_EQ(out.size(), evil ? 2u : 1u) << i;
    if (evil) continue;
    Tcp ack = turned(tcp);
    ack.seq = 1;
    ack.ack = i + 1 + static_cast<uint32_t>(tcp.payload.size());
    ack.flags = kF | kA;
    ack.payload.clear();
    EXPECT_TRUE(flow.passes(build(ack)));
    tcp.seq = ack.ack;
    tcp.flags = kF | kA;
    tcp.payload.clear();
    EXPECT_TRUE(flow.passes(build(tcp)));
  }
  EXPECT_GT(flow.rig().report().flows_blocked, 100u);
}

}  // namespace
}  // namespace synfluid::guest::testing
