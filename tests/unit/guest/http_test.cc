// The responder's HTTP: rows of requests, whole and in pieces.
#include <gtest/gtest.h>

#include "tests/unit/guest/peer.h"

namespace synfluid::guest::testing {
namespace {

const std::string kEnd = "\r\n\r\n";

struct Row {
  const char* what;
  std::string request;
  int status;
  bool closes;
};

std::vector<Row> rows() {
  const std::string host = "Host: x\r\n";
  return {
      {"plain", "GET / HTTP/1.1\r\n" + host + "\r\n", 200, false},
      {"any path", "GET /a/b?c=d HTTP/1.1\r\n" + host + "\r\n", 200, false},
      {"absolute form", "GET http://x/ HTTP/1.1\r\n" + host + "\r\n", 200, false},
      {"bare line feeds", "GET / HTTP/1.1\nHost: x\n\n", 200, false},
      {"empty lines first", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 200, false},
      {"asked to close", "GET / HTTP/1.1\r\n" + host + "connection: Close" + kEnd, 200, true},
      {"close in a list", "GET / HTTP/1.1\r\n" + host + "Connection: upgrade, close" + kEnd, 200, true},
      {"1.0 closes", "GET / HTTP/1.0" + kEnd, 200, true},
      {"1.0 may keep alive", "GET / HTTP/1.0\r\nConnection: keep-alive" + kEnd, 200, false},
      {"HTTP/1.7 is 1.1", "GET / HTTP/1.7\r\n" + host + "\r\n", 200, false},
      {"another method", "DELETE / HTTP/1.1\r\n" + host + "\r\n", 405, false},
      {"a body is skipped", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello", 405, false},
      {"no Host", "GET / HTTP/1.1" + kEnd, 400, true},
      {"two Hosts", "GET / HTTP/1.1\r\n" + host + host + "\r\n", 400, true},
      {"no version", "GET /\r\n", 400, true},
      {"no target", "GET  HTTP/1.1\r\n\r\n", 400, true},
      {"another protocol", "SSH-2.0-x\r\n", 400, true},
      {"a control character", "GET /\x01 HTTP/1.1\r\n", 400, true},
      {"blank before the colon", "GET / HTTP/1.1\r\nHost : x" + kEnd, 400, true},
      {"folded header", "GET / HTTP/1.1\r\n" + host + "A: b\r\n c" + kEnd, 400, true},
      {"header without colon", "GET / HTTP/1.1\r\n" + host + "nonsense" + kEnd, 400, true},
      {"a lone carriage return", "GET / HTTP/1.1\r\n" + host + "A: b\rc" + kEnd, 400, true},
      {"bad length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5x" + kEnd, 400, true},
      {"two lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6" + kEnd, 400,
       true},
      {"endless length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999" + kEnd, 400,
       true},
      {"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked" + kEnd, 501, true},
      {"HTTP/2", "GET / HTTP/2.0\r\n" + host + "\r\n", 505, true},
      {"a head of 9 KB", "GET / HTTP/1.1\r\n" + host + "A: " + std::string(9000, 'a') + kEnd, 431, true},
      {"a target of 9 KB", "GET /" + std::string(9000, 'a') + " HTTP/1.1\r\n" + host + "\r\n", 431, true},
      {"a head of 8 KB", "GET / HTTP/1.1\r\n" + host + "A: " + std::string(8000, 'a') + kEnd, 200, false},
  };
}

TEST(Http, EveryRowIsAnsweredRightWholeAndInPieces) {
  for (const Row& row : rows()) {
    for (const size_t piece : {1400u, 1u, 3u}) {
      Rig rig{AreaConfig{}};
      Peer peer(rig);
      peer.connect();
      std::string answer;
      bool fin = false;
      for (size_t at = 0; at < row.request.size() && answer.empty(); at += piece) {
        const auto out = peer.say(row.request.substr(at, piece));
        answer += payloads(out);
        for (const Tcp& segment : out) fin = fin || segment.has(kF);
        peer.accept(out);
      }
      EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(row.status) + " "))
          << row.what << " in pieces of " << piece << ": " << answer.substr(0, 60);
      EXPECT_EQ(fin, row.closes) << row.what << " in pieces of " << piece;
      const char* connection = row.closes ? "Connection: close\r\n" : "Connection: keep-alive\r\n";
      EXPECT_NE(answer.find(connection), std::string::npos) << row.what;
    }
  }
}

TEST(Http, ContentLengthIsTheBodys) {
  Rig rig{AreaConfig{.config = "body one\nbody two\n"}};
  Peer peer(rig);
  peer.connect();
  const std::string answer = payloads(peer.say(simple_get()));
  const size_t body = answer.find(kEnd) + kEnd.size();
  const size_t length = std::stoul(answer.substr(answer.find("Content-Length: ") + 16));
  EXPECT_EQ(answer.size() - body, length);
  EXPECT_TRUE(answer.ends_with("\none\ntwo\n")) << answer;
}

TEST(Http, HeadHasTheHeadOfGetAndNoBody) {
  for (const char* path : {"/", "/bytes/12345"}) {
    Rig rig{AreaConfig{}};
    Peer get(rig);
    get.connect();
    std::string wanted = payloads(get.say(simple_get(path)));
    wanted.resize(wanted.find(kEnd) + kEnd.size());
    Peer head(rig, {.sport = 40001});
    head.connect();
    EXPECT_EQ(payloads(head.say("HEAD " + std::string(path) + " HTTP/1.1\r\nHost: x\r\n\r\n")), wanted);
  }
}

TEST(Http, BytesOfNoNumberIsThePlainPage) {
  Rig rig{AreaConfig{}};
  Peer peer(rig);
  peer.connect();
  EXPECT_NE(payloads(peer.say(simple_get("/bytes/12x"))).find("service: responder"), std::string::npos);
  peer.accept({});
  Peer none(rig, {.sport = 40001});
  none.connect();
  EXPECT_NE(payloads(none.say(simple_get("/bytes/0"))).find("Content-Length: 0\r\n"), std::string::npos);
}

TEST(Http, RequestsOnOneConnectionAreNumbered) {
  Rig rig{AreaConfig{}};
  Peer peer(rig);
  peer.connect();
  for (int i = 1; i <= 20; ++i) {
    const auto out = peer.say(simple_get());
    EXPECT_NE(payloads(out).find("\nrequest: " + std::to_string(i) + "\n"), std::string::npos) << i;
    peer.accept(out);
  }
}

TEST(Http, PipelinedRequestsAreAllAnsweredInOrder) {
  Rig rig{AreaConfig{}};
  Peer peer(rig);
  peer.connect();
  std::string requests;
  constexpr int kRequests = 30;
  for (int i = 0; i < kRequests; ++i) requests += simple_get();
  auto out = peer.say(requests);
  std::string answers;
  for (int round = 0; round < 100 && !out.empty(); ++round) {
    answers += payloads(out);
    peer.accept(out);
    out = peer.send(peer.segment(kA));
  }
  size_t at = 0;
  for (int i = 1; i <= kRequests; ++i) {
    at = answers.find("\nrequest: " + std::to_string(i) + "\n", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
}

TEST(Http, IpV6EndpointsAreNamedInBrackets) {
  Rig rig{AreaConfig{}};
  Peer peer(rig, {.v6 = true});
  peer.connect();
  EXPECT_NE(
      payloads(peer.say(simple_get())).find("flow: [2001:db8::a00:1]:40000 > [2001:db8::c633:6401]:80\n"),
      std::string::npos);
}

}  // namespace
}  // namespace synfluid::guest::testing
