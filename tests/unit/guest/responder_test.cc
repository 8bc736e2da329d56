#include <gtest/gtest.h>

#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {
namespace {

TEST(Responder, AnswersAGetInOneRoundTripAfterTheHandshake) {
  Rig rig({.syn_age_ns = 700'000, .config = "body welcome to the garden\n"});
  ASSERT_TRUE(rig.running());
  Tcp client{.seq = 1000, .flags = kS, .options = {2, 4, 5, 180, 1, 3, 3, 7}};
  auto out = rig.exchange(build(client));
  ASSERT_EQ(out.size(), 1u);
  const Tcp syn_ack = dissect(out[0]);
  EXPECT_EQ(syn_ack.flags, kS | kA);
  EXPECT_EQ(syn_ack.ack, 1001u);
  rig.platform().advance(300'000);
  client.options.clear();
  client.seq = 1001;
  client.ack = syn_ack.seq + 1;
  client.flags = kA | kP;
  client.payload = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  out = rig.exchange(build(client));
  ASSERT_EQ(out.size(), 1u);
  const Tcp answer = dissect(out[0]);
  EXPECT_EQ(answer.seq, client.ack);
  EXPECT_EQ(answer.ack, client.seq + client.payload.size());
  EXPECT_NE(answer.payload.find("HTTP/1.1 200 OK\r\n"), std::string::npos) << answer.payload;
  EXPECT_NE(answer.payload.find("\ndomain: 32751\ngeneration: 7\n"), std::string::npos) << answer.payload;
  EXPECT_NE(answer.payload.find("\nflow: 10.0.0.1:40000 > 198.51.100.1:80\n"), std::string::npos);
  EXPECT_NE(answer.payload.find("\nsince_syn_us: 1000\n"), std::string::npos) << answer.payload;
  EXPECT_NE(answer.payload.find("\nwelcome to the garden\n"), std::string::npos) << answer.payload;
  const std::string console(rig.console().text, rig.console().written);
  EXPECT_EQ(console.find("responder in domain 32751: "), 0u) << console;
  EXPECT_NE(console.find("\n10.0.0.1:40000 asked 198.51.100.1:80, 1000 us after its SYN\n"),
            std::string::npos)
      << console;
}

}  // namespace
}  // namespace synfluid::guest::testing
