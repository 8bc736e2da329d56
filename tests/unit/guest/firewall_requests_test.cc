// Every request of a connection, not the first alone: where bodies end, what may come behind them, and in
// which order it may come.
#include "tests/unit/guest/conversation.h"
#include "tests/unit/guest/tls_hello.h"

namespace synfluid::guest::testing {
namespace {

constexpr uint8_t kU = 0x20;

std::string post(const std::string& headers, const std::string& body = "") {
  return "POST / HTTP/1.1\r\nHost: www.example.net\r\n" + headers + "\r\n" + body;
}
std::string post_length(const std::string& body) {
  return post("Content-Length: " + std::to_string(body.size()) + "\r\n", body);
}
std::string post_chunked(const std::string& chunks) {
  return post("Transfer-Encoding: chunked\r\n", chunks);
}
const std::string kGood = get("www.example.net");
const std::string kEvil = get("ads.example.net");

/// Sends a stream in pieces that end at `cuts`; true if the connection was reset. Each piece passes as it is
/// or is answered with the resets.
bool is_blocked(Conversation& flow, const std::string& stream, const std::vector<size_t>& cuts,
                const std::string& what) {
  size_t at = 0;
  for (size_t i = 0; i <= cuts.size(); ++i) {
    const size_t end = i < cuts.size() ? cuts[i] : stream.size();
    if (end <= at) continue;
    const Frame frame = flow.bytes(static_cast<uint32_t>(at), stream.substr(at, end - at));
    const auto out = flow.send(frame);
    if (out.size() == 2) return true;
    EXPECT_EQ(out, std::vector<Frame>(1, frame)) << what << " at " << at;
    at = end;
  }
  return false;
}
bool is_blocked(const std::string& stream, const std::vector<size_t>& cuts, const std::string& what) {
  Conversation flow;
  flow.handshake();
  return is_blocked(flow, stream, cuts, what);
}

struct Row {
  const char* what;
  std::string stream;
  bool blocked;
};

std::vector<Row> rows() {
  const std::string chunks = "5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n";
  const std::string rest = "\r\n\r\n";
  return {
      {"two good ones", kGood + kGood, false},
      {"the second one bad", kGood + kEvil, true},
      {"the third one bad", kGood + kGood + kEvil, true},
      {"blanks and empty lines between", kGood + "\r\n \t\r\n" + kEvil, true},
      {"blanks between good ones", kGood + "\r\n" + kGood, false},
      {"no Host, then a bad one", "GET / HTTP/1.0\r\nA: b" + rest + kEvil, true},
      {"an absolute target later", kGood + "GET http://ads.example.net/ HTTP/1.1\r\nHost: a" + rest, true},
      {"a body, then a bad one", post_length("0123456789") + kEvil, true},
      {"a body, then a good one", post_length("0123456789") + kGood, false},
      {"an empty body, then a bad one", post_length("") + kEvil, true},
      {"a request as a body is contents", post_length(kEvil) + kGood, false},
      {"and one behind it is none", post_length(kEvil) + kEvil, true},
      {"the same length twice", post("Content-Length: 5\r\ncontent-length:5\r\n", "hello") + kEvil, true},
      {"the same length twice, good", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello") + kGood,
       false},
      {"leading zeros", post("Content-Length: 0005 \r\n", "hello") + kGood, false},
      {"chunks, then a bad one", post_chunked(chunks) + kEvil, true},
      {"chunks, then a good one", post_chunked(chunks) + kGood, false},
      {"a request in a chunk is contents",
       post_chunked("29\r\n" + kEvil.substr(0, 0x29) + "\r\n0\r\n\r\n") + kGood, false},
      {"trailers, then a bad one", post_chunked("1\r\nx\r\n0\r\nA: b\r\nHost: a" + rest) + kEvil, true},
      {"trailers, then a good one", post_chunked("1\r\nx\r\n0\r\nA: b\r\nC: d" + rest) + kGood, false},
      {"zeros before a size, blanks behind it", post_chunked("0001 \t\r\nx\r\n000\r\n\r\n") + kGood, false},
      {"chunked in odd case", post("Transfer-Encoding: \tChunKed \r\n", chunks) + kGood, false},
      {"GET with a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3" + rest + "abc" + kEvil, true},
      {"a list of codings that is a name's end only", post("X-Transfer-Encoding: chunked\r\n") + kEvil, true},

      {"length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), true},
      {"chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n"), true},
      {"two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), true},
      {"a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), true},
      {"a signed length", post("Content-Length: +5\r\n", "hello"), true},
      {"a negative length", post("Content-Length: -5\r\n", "hello"), true},
      {"an empty length", post("Content-Length:\r\n"), true},
      {"a hexadecimal length", post("Content-Length: 0x5\r\n", "hello"), true},
      {"a length with a blank in it", post("Content-Length: 1 0\r\n", "0123456789"), true},
      {"a length beyond all", post("Content-Length: 18446744073709551620\r\n", "abcd"), true},
      {"a length beyond all, first of two", post("Content-Length: 4294967296000000000000\r\n"), true},
      {"another coding", post("Transfer-Encoding: gzip, chunked\r\n", chunks), true},
      {"identity", post("Transfer-Encoding: identity\r\n"), true},
      {"xchunked", post("Transfer-Encoding: xchunked\r\n", chunks), true},
      {"chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks), true},
      {"chunked cut short", post("Transfer-Encoding: chunke\r\n", chunks), true},
      {"chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked" + rest + chunks,
       true},
      {"a chunk size beyond all", post_chunked("10000000000000005\r\nhello"), true},
      {"a chunk size of many zeros", post_chunked("0000000000000005\r\nhello"), true},
      {"a chunk size of no digits", post_chunked(";x\r\nhello"), true},
      {"a negative chunk size", post_chunked("-5\r\nhello"), true},
      {"a chunk size with 0x", post_chunked("0x5\r\nhello"), true},
      {"a chunk size and a word", post_chunked("5 x\r\nhello"), true},
      {"bare LF behind a chunk size", post_chunked("5\nhello"), true},
      {"bare LF in an extension", post_chunked("5;a\nhello"), true},
      {"bare CR in an extension", post_chunked("5;a\rb\r\nhello"), true},
      {"no line end behind a chunk", post_chunked("5\r\nhelloX"), true},
      {"bare LF behind a chunk", post_chunked("5\r\nhello\n"), true},
      {"bare LF in a trailer", post_chunked("0\r\nA: b\n\r\n"), true},
      {"a blank line in the trailers", post_chunked("0\r\nA: b\r\n \r\n"), true},
      {"bare LF at the end", post_chunked("0\r\n\n"), true},

      {"a folded length", post("A: b\r\n Content-Length: 5\r\n"), true},
      {"a folded Host", post("A: b\r\n\tHost: ads.example.net\r\n"), true},
      {"a Host with a folded end", "GET / HTTP/1.1\r\nHost: ads.example.net\r\n a" + rest, true},
      {"a Host behind bare CR", post("A: b\rHost: ads.example.net\r\n"), true},
      {"a length behind bare LF, and more", post("A: b\nContent-Length: 5\r\n", "h"), true},
      {"a length behind bare CR", post("A: b\rContent-Length: 5\r\n"), true},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", false},
      {"bare LF, and more", "GET / HTTP/1.1\nHost: a\n\n" + kGood, true},
      {"a blank before the colon", "GET / HTTP/1.1\r\nHost : a" + rest, false},
      {"a blank before the colon, and more", "GET / HTTP/1.1\r\nHost : a" + rest + kGood, true},
      {"a blank before a length's colon, and more", post("Content-Length : 5\r\n", "h"), true},
      {"a line without a colon, and more", post("Content-Length 5\r\n", "h"), true},
      {"NUL in a name", post(std::string("Content-Length\0: 5\r\n", 20)), true},
      {"NUL in a value", post(std::string("A: \0\r\n", 6)), true},
      {"a blank first line, and more", "GET / HTTP/1.1\r\n \r\nHost: ads.example.net" + rest, true},
      {"two CRs", post("\r"), true},

      {"another protocol behind a request", kGood + std::string("\x00\x01", 2), true},
      {"TLS behind a request", kGood + tls_hello("www.example.net"), true},
      {"HTTP/0.9 behind a request", kGood + "GET /\r\n", true},
      {"HTTP/2 behind a request", kGood + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
      {"an upgrade that the server ignores", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket" + rest + kEvil,
       true},
      {"an upgrade", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket" + rest + "\x82\x05" + kEvil, false},
      {"an upgrade with a body", post("Upgrade: x\r\nContent-Length: 5\r\n", "hello") + kEvil, true},
      {"only an upgrade of an old request", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x" + rest + kGood + "\x82",
       true},
      {"Upgrade-Insecure-Requests", post("Upgrade-Insecure-Requests: 1\r\n") + "\x82", true},
      {"a tunnel to a TLS server", "CONNECT a:443 HTTP/1.1\r\nHost: a" + rest + tls_hello("www.example.net"),
       false},
      {"a tunnel to a blocked TLS server",
       "CONNECT a:443 HTTP/1.1\r\nHost: a" + rest + tls_hello("ads.example.net"), true},
      {"a tunnel that the server refuses", "CONNECT a:443 HTTP/1.1\r\nHost: a" + rest + kEvil, true},
      {"CONNECT with a body", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5" + rest, true},
      {"CONNECT with chunks", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked" + rest, true},
      {"a long head that goes on",
       "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(5000, 'x') + rest + kEvil, true},
      {"no host for long, later", kGood + "GET / HTTP/1.1\r\nA: " + std::string(4096, 'x') + rest, true},
  };
}

TEST(FirewallRequests, EveryRowIsJudgedRightInPiecesOfEverySize) {
  for (const Row& row : rows()) {
    for (const size_t step : {1, 2, 3, 7, 100, 1460}) {
      std::vector<size_t> cuts;
      for (size_t at = step; at < row.stream.size(); at += step) cuts.push_back(at);
      EXPECT_EQ(is_blocked(row.stream, cuts, row.what), row.blocked) << row.what << ", segments of " << step;
    }
  }
}

TEST(FirewallRequests, EveryRowIsJudgedRightWhereverItIsCutInTwo) {
  for (const Row& row : rows()) {
    if (row.stream.size() > 1460) continue;
    for (size_t cut = 1; cut < row.stream.size(); ++cut)
      ASSERT_EQ(is_blocked(row.stream, {cut}, row.what), row.blocked) << row.what << ", cut at " << cut;
  }
}

TEST(FirewallRequests, ALaterRequestIsResetWithTheNumbersEachSideExpects) {
  Conversation flow;
  flow.handshake();
  const std::string upload = post_length(std::string(100, 'x'));
  const auto head = static_cast<uint32_t>(upload.size() - 100);
  const auto begin = static_cast<uint32_t>(upload.size());
  EXPECT_TRUE(flow.passes(flow.bytes(0, upload.substr(0, head + 60))));
  EXPECT_TRUE(flow.passes(flow.server_ack(head + 60)));
  EXPECT_TRUE(flow.passes(flow.server_frame(
      {.seq = kServerIsn + 1, .ack = kIsn + 1 + head + 60, .flags = kA, .payload = "a page"})));
  // The end of a body and a request behind it, in one segment.
  const Tcp last{.seq = kIsn + 1 + head + 60,
                 .ack = kServerIsn + 7,
                 .flags = kA,
                 .payload = upload.substr(head + 60) + kEvil};
  const auto out = flow.send(flow.client_frame(last));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(dissect(out[0]).flags, kR | kA);
  EXPECT_EQ(dissect(out[0]).sport, 80);
  EXPECT_EQ(dissect(out[0]).seq, kServerIsn + 7);
  EXPECT_EQ(dissect(out[0]).ack, kIsn + 1 + begin + kEvil.size());
  EXPECT_EQ(dissect(out[1]).dport, 80);
  EXPECT_EQ(dissect(out[1]).seq, kIsn + 1 + head + 60) << "the server awaits the body's end";
  EXPECT_EQ(dissect(out[1]).ack, kServerIsn + 7);
  EXPECT_EQ(flow.rig().report().flows_blocked, 1u);
}

TEST(FirewallRequests, AServerThatLostBytesIsResetWhenItAsksForThem) {
  Conversation flow;
  flow.handshake();
  EXPECT_TRUE(flow.passes(flow.bytes(0, kGood)));
  const auto begin = static_cast<uint32_t>(kGood.size());
  EXPECT_TRUE(flow.resets(flow.bytes(begin, kEvil)));
  // It never got the first request, and says so.
  const auto out = flow.send(flow.server_ack(0));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(dissect(out[0]).seq, kIsn + 1);
}

TEST(FirewallRequests, ContentsPassInAnyOrderAndAgainWithOtherBytes) {
  for (const bool chunked : {false, true}) {
    Conversation flow;
    flow.handshake();
    const std::string head = chunked ? post_chunked("bb8\r\n") : post("Content-Length: 3000\r\n");
    const std::string end = chunked ? "\r\n0\r\n\r\n" : "";
    const auto begin = static_cast<uint32_t>(head.size());
    EXPECT_TRUE(flow.passes(flow.bytes(0, head)));
    EXPECT_TRUE(flow.passes(flow.bytes(begin + 2000, std::string(1000, 'c'))));
    EXPECT_TRUE(flow.passes(flow.bytes(begin + 1000, std::string(1000, 'b'))));
    EXPECT_TRUE(flow.passes(flow.bytes(begin, std::string(1000, 'a'))));
    EXPECT_TRUE(flow.passes(flow.bytes(begin + 500, std::string(1000, 'd'))));
    // What is behind may come before contents are there, for it is known where it begins.
    EXPECT_TRUE(flow.passes(flow.bytes(begin + 3000, end + kGood)));
    const auto next = static_cast<uint32_t>(begin + 3000 + end.size() + kGood.size());
    EXPECT_TRUE(flow.drops(flow.bytes(next + 1, kEvil.substr(1)))) << "ahead of a hole where a head begins";
    EXPECT_TRUE(flow.resets(flow.bytes(next, kEvil)));
  }
}

TEST(FirewallRequests, AHeadSentAgainWithOtherContentsIsDroppedUntilTheServerHasIt) {
  Conversation flow;
  flow.handshake();
  ASSERT_EQ(kGood.size(), kEvil.size());
  const std::string upload = post_length("0123456789");
  const auto second = static_cast<uint32_t>(upload.size());
  const auto end = static_cast<uint32_t>(second + kGood.size());
  EXPECT_TRUE(flow.passes(flow.bytes(0, upload)));
  EXPECT_TRUE(flow.passes(flow.bytes(second, kGood)));
  EXPECT_TRUE(flow.drops(flow.bytes(second, kEvil)));
  EXPECT_TRUE(flow.drops(flow.bytes(second - 5, "56789" + kEvil)));
  EXPECT_TRUE(flow.passes(flow.bytes(second - 5, "other" + kGood))) << "contents may be any";
  EXPECT_TRUE(flow.drops(flow.bytes(0, post_length("012345678")))) << "another length";
  EXPECT_TRUE(flow.passes(flow.bytes(0, upload + kGood))) << "an honest retransmission";
  EXPECT_TRUE(flow.passes(flow.server_ack(second + 3)));
  EXPECT_TRUE(flow.drops(flow.bytes(second, kEvil))) << "not yet wholly acknowledged";
  EXPECT_TRUE(flow.passes(flow.server_ack(end)));
  EXPECT_TRUE(flow.passes(flow.bytes(second, kEvil))) << "the server has it, and takes no other";
  EXPECT_TRUE(flow.resets(flow.bytes(end, kEvil)));
}

TEST(FirewallRequests, AChunkSizeSentAgainWithOtherContentsIsDropped) {
  Conversation flow;
  flow.handshake();
  const std::string head = post_chunked("");
  const auto begin = static_cast<uint32_t>(head.size());
  EXPECT_TRUE(flow.passes(flow.bytes(0, head + "5\r\nhello\r\n5\r\nhello\r\n")));
  EXPECT_TRUE(flow.drops(flow.bytes(begin, "0\r\n\r\n")));
  EXPECT_TRUE(flow.drops(flow.bytes(begin + 8, "\r\n0")));
  EXPECT_TRUE(flow.passes(flow.bytes(begin + 3, "HELLO\r\n5\r\nHELLO\r\n")));
}

TEST(FirewallRequests, ManyRequestsOfOneConnectionPassByteForByte) {
  Conversation flow;
  flow.handshake();
  std::string stream;
  for (int i = 0; i < 200; ++i) {
    stream += kGood + post_length(std::string(i * 7, 'x')) + post_chunked("");
    for (int chunk = 1; chunk < i % 9; ++chunk) stream += "10;n=v\r\n0123456789abcdef\r\n";
    stream += "0\r\n\r\n";
  }
  uint32_t piece = 1;
  for (uint32_t at = 0; at < stream.size(); at += piece) {
    piece = piece * 7 % 1459 + 1;
    const std::string bytes = stream.substr(at, piece);
    ASSERT_TRUE(flow.passes(flow.bytes(at, bytes))) << at;
    if (at % 3 != 0) continue;
    EXPECT_TRUE(flow.passes(flow.server_ack(at + static_cast<uint32_t>(bytes.size()))));
  }
  EXPECT_TRUE(flow.resets(flow.bytes(static_cast<uint32_t>(stream.size()), kEvil)));
}

TEST(FirewallRequests, BodiesLongerThanTheSequenceSpaceAreFollowedByAcknowledgements) {
  for (const uint64_t length : {uint64_t{0x20000000}, uint64_t{0x2'0000'0010}, uint64_t{1'000}}) {
    Conversation flow;
    flow.handshake();
    const std::string head = post("Content-Length: " + std::to_string(length) + "\r\n");
    EXPECT_TRUE(flow.passes(flow.bytes(0, head)));
    EXPECT_TRUE(flow.passes(flow.server_ack(static_cast<uint32_t>(head.size()))));
    uint64_t at = head.size();
    const uint64_t end = at + length;
    for (; at + 1'000'000 < end; at += 1'000'000 - 1000) {
      ASSERT_TRUE(flow.passes(flow.bytes(static_cast<uint32_t>(at), std::string(1000, 'x')))) << at;
      ASSERT_TRUE(flow.passes(flow.server_ack(static_cast<uint32_t>(at + 1000))));
    }
    EXPECT_TRUE(flow.drops(flow.bytes(static_cast<uint32_t>(end + 1), kEvil)));
    EXPECT_TRUE(flow.resets(flow.bytes(static_cast<uint32_t>(end), kEvil)));
  }
}

TEST(FirewallRequests, ContentsFarAheadDoNotMoveTheWatch) {
  Conversation flow;
  flow.handshake();
  const std::string head = post("Content-Length: 8589934592\r\n");
  EXPECT_TRUE(flow.passes(flow.bytes(0, head)));
  EXPECT_TRUE(flow.passes(flow.server_ack(static_cast<uint32_t>(head.size()))));
  const uint32_t stride = 0x20000000;
  for (uint32_t i = 1; i < 10; ++i) flow.send(flow.bytes(i * (stride - 2000), std::string(1000, 'x')));
  EXPECT_TRUE(flow.drops(flow.bytes(static_cast<uint32_t>(head.size()) + stride, std::string(10, 'x'))));
  EXPECT_TRUE(flow.passes(flow.bytes(static_cast<uint32_t>(head.size()), std::string(1000, 'x'))));
}

TEST(FirewallRequests, AFinDoesNotEndTheStreamAheadOfAHead) {
  Conversation flow;
  flow.handshake();
  const std::string upload = post_length(std::string(100, 'x'));
  const auto end = static_cast<uint32_t>(upload.size());
  EXPECT_TRUE(flow.passes(flow.bytes(0, upload)));
  const auto fin_at = [&](uint32_t offset) {
    return flow.client_frame({.seq = kIsn + 1 + offset, .ack = kServerIsn + 1, .flags = kF | kA});
  };
  EXPECT_TRUE(flow.drops(fin_at(end + 10)));
  EXPECT_TRUE(flow.passes(fin_at(end - 50)));
  EXPECT_TRUE(flow.passes(fin_at(end)));
}

TEST(FirewallRequests, AnUrgentByteIsSuspicious) {
  Conversation flow;
  flow.handshake();
  EXPECT_TRUE(flow.resets(flow.client_frame(
      {.seq = kIsn + 1, .ack = kServerIsn + 1, .flags = kA | kU, .payload = get("aXds.example.net")})));
  Conversation later;
  later.handshake();
  const std::string head = post("Content-Length: 10\r\n");
  EXPECT_TRUE(later.passes(later.bytes(0, head)));
  EXPECT_TRUE(later.resets(later.client_frame({.seq = kIsn + 1 + static_cast<uint32_t>(head.size()),
                                               .ack = kServerIsn + 1,
                                               .flags = kA | kU,
                                               .payload = "0123456789"})));
}

TEST(FirewallRequests, BytesWaitUntilTheServerHasAgreedToTheStream) {
  Conversation flow;
  EXPECT_TRUE(flow.passes(flow.client_frame({.seq = kIsn, .flags = kS})));
  // What it has is another connection's: an ACK far away, not a SYN-ACK.
  EXPECT_TRUE(flow.passes(flow.server_frame({.seq = 7, .ack = kIsn + 1 + 5000, .flags = kA})));
  EXPECT_TRUE(flow.drops(flow.bytes(0, kGood)));
  EXPECT_TRUE(flow.passes(flow.server_frame({.seq = kServerIsn, .ack = kIsn + 1, .flags = kS | kA})));
  EXPECT_TRUE(flow.passes(flow.bytes(0, kGood)));
}

TEST(FirewallRequests, SuspiciousRequestsMayBeConfiguredToPass) {
  const std::string config = std::string(kConfig) + "undecided pass\n";
  for (const std::string& stream :
       {kGood + "\x01\x02", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        post_chunked("x\r\n"), std::string("GET / HTTP/1.1\nHost: a\n\nx")}) {
    Conversation flow(config);
    flow.handshake();
    EXPECT_FALSE(is_blocked(flow, stream + "whatever" + kEvil, {}, stream));
  }
}

TEST(FirewallRequests, AHeadLargerThanAFlowsShareGoesOnWhenTheServerHasSomeOfIt) {
  Conversation flow;
  flow.handshake();
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nCookie: " + std::string(100'000, 'x') + "\r\n\r\n";
  uint32_t dropped = 0;
  for (uint32_t at = 0; at < head.size();) {
    const std::string bytes = head.substr(at, 1000);
    if (flow.passes(flow.bytes(at, bytes))) {
      at += static_cast<uint32_t>(bytes.size());
      continue;
    }
    ++dropped;
    ASSERT_GE(at, 10'000u);
    EXPECT_TRUE(flow.passes(flow.server_ack(at)));
  }
  EXPECT_GT(dropped, 0u);
  EXPECT_TRUE(flow.resets(flow.bytes(static_cast<uint32_t>(head.size()), kEvil)));
}

TEST(FirewallRequests, WithoutASnifferASegmentComesAgain) {
  Conversation flow;
  const auto client = [](uint32_t i, Tcp tcp) {
    tcp.source = 0x0a000000 + i;
    return tcp;
  };
  uint32_t waiting = 0;
  const auto passes_first = [&](uint32_t i, const std::string& bytes) {
    flow.send(build(client(i, {.seq = 99, .flags = kS})));
    flow.send(build(turned(client(i, {.seq = 5, .ack = 100, .flags = kS | kA}))));
    return flow.passes(build(client(i, {.seq = 100, .ack = 6, .flags = kA, .payload = bytes})));
  };
  // Idle between requests: these need none.
  for (uint32_t i = 0; i < 100; ++i) ASSERT_TRUE(passes_first(i, kGood));
  for (uint32_t i = 100; i < 400 && passes_first(i, "GET"); ++i) {
    flow.send(build(turned(client(i, {.seq = 6, .ack = 103, .flags = kA}))));
    ++waiting;
  }
  EXPECT_GT(waiting, 20u);
  EXPECT_LT(waiting, 300u);
  const uint32_t one = 100 + waiting;
  const Frame again = build(client(one, {.seq = 100, .ack = 6, .flags = kA, .payload = "GET"}));
  EXPECT_TRUE(flow.drops(again));
  EXPECT_TRUE(
      flow.passes(build(client(100, {.seq = 103, .ack = 6, .flags = kA, .payload = " / HTTP/1.0\r\n\r\n"}))));
  EXPECT_TRUE(flow.passes(again));
}

}  // namespace
}  // namespace synfluid::guest::testing
