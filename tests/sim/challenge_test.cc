// A flood of SYNs from forged addresses, and clients that are there.

#include "gateway/syn_challenge.h"
#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

constexpr uint32_t kMostVms = 8;
/// Up to here nobody has to prove anything.
constexpr uint8_t kUnasked = 7;

class ChallengeSim : public Sim {
 protected:
  void start_with_few_vms(bool challenges = true) {
    policies::PolicySpec spec = one_service(ServiceMode::kTerminate, OnFailure::kReset);
    spec.limits.max_vms = kMostVms;
    SimConfig config{.policy = spec};
    if (challenges) config.challenge_secret = {{5, 6}};
    start(config);
  }
  void flood(uint8_t first, uint8_t count) {
    for (uint8_t client = first; client < first + count; ++client)
      put(Side::kAccess, Wire{.client = client}.from_client({}));
    run();
  }
  /// The one frame that the gateway has sent to this client.
  ParsedPacket question_to(const Wire& wire) {
    put(Side::kAccess, wire.from_client({}));
    run();
    const std::vector<Frame> out = take(Side::kAccess);
    EXPECT_EQ(out.size(), 1u);
    const ParsedPacket question = out.empty() ? ParsedPacket{} : parsed(out[0]);
    EXPECT_EQ(question.tcp_flags, kSyn | kAck);
    EXPECT_NE(question.tcp_ack, 1001u) << "the client would take it for its connection";
    EXPECT_EQ(question.flow.source().address, wire.server_end().address);
    EXPECT_EQ(question.flow.destination().port, wire.client_port);
    return question;
  }
};

TEST_F(ChallengeSim, AFloodLeavesVmsForWhoProvesItsAddress) {
  start_with_few_vms();
  flood(1, 100);
  EXPECT_EQ(guests(), kUnasked);
  EXPECT_EQ(drops(DropReason::kChallenged), 100u - kUnasked);
  EXPECT_EQ(take(Side::kAccess).size(), 100u - kUnasked);
  const Wire honest{.client = 200};
  const ParsedPacket question = question_to(honest);
  put(Side::kAccess, honest.from_client({.flags = kRst, .seq = question.tcp_ack}));
  put(Side::kAccess, honest.from_client({}));
  run();
  EXPECT_EQ(guests(), kUnasked + 1u);
  EXPECT_EQ(counters().syn_proven.get(), 1u);
  EXPECT_EQ(guest(kUnasked).receive(), honest.from_client({})) << "as if nothing had been asked";
  expect_balance();
}

TEST_F(ChallengeSim, NobodyIsAskedWhileThereAreVms) {
  start_with_few_vms();
  flood(1, kUnasked);
  EXPECT_EQ(guests(), kUnasked);
  EXPECT_TRUE(take(Side::kAccess).empty());
}

/// Without a VM left, proof would be of no use: on_failure, as ever.
TEST_F(ChallengeSim, NobodyIsAskedWhenThereIsNone) {
  start_with_few_vms();
  flood(1, kUnasked);
  const Wire last{.client = 100};
  const ParsedPacket question = question_to(last);
  put(Side::kAccess, last.from_client({.flags = kRst, .seq = question.tcp_ack}));
  put(Side::kAccess, last.from_client({}));
  put(Side::kAccess, Wire{.client = 101}.from_client({}));
  run();
  EXPECT_EQ(guests(), kMostVms);
  EXPECT_EQ(drops(DropReason::kAdmissionQuota), 1u);
}

TEST_F(ChallengeSim, AGuessedOrAnOldAnswerProvesNothing) {
  start_with_few_vms();
  flood(1, kUnasked);
  const Wire wire{.client = 100};
  const ParsedPacket question = question_to(wire);
  put(Side::kAccess, wire.from_client({.flags = kRst, .seq = question.tcp_ack + 1}));
  // Another's number, and the right one in what is no reset.
  put(Side::kAccess, Wire{.client = 101}.from_client({.flags = kRst, .seq = question.tcp_ack}));
  put(Side::kAccess, wire.from_client({.flags = kAck, .seq = question.tcp_ack}));
  run();
  EXPECT_EQ(counters().syn_proven.get(), 0u);
  clock_.advance(2 * SynChallenge::kPeriodNs);
  put(Side::kAccess, wire.from_client({.flags = kRst, .seq = question.tcp_ack}));
  run();
  EXPECT_EQ(counters().syn_proven.get(), 0u);
}

TEST_F(ChallengeSim, NobodyIsToldTheNumberThatItAwaits) {
  start_with_few_vms();
  flood(1, kUnasked);
  const Wire wire{.client = 100};
  const uint32_t number = question_to(wire).tcp_ack;
  put(Side::kAccess, wire.from_client({.seq = number - 1}));
  run();
  EXPECT_TRUE(take(Side::kAccess).empty()) << "a connection with nobody";
  EXPECT_EQ(drops(DropReason::kChallenged), 2u);
}

/// Clients of a capture say what they said.
TEST_F(ChallengeSim, WithoutASecretNobodyIsAsked) {
  start_with_few_vms(false);
  flood(1, 20);
  EXPECT_EQ(guests(), kMostVms);
  EXPECT_EQ(drops(DropReason::kChallenged), 0u);
}

TEST(SynChallenge, ProofIsKeptForItsTimeAndForItsAddress) {
  SynChallenge challenge({7, 8});
  const Wire wire;
  const ParsedPacket syn = parsed(wire.from_client({}));
  const int64_t now_ns = 1000 * kNsPerSecond;
  const Address address = wire.client_end().address;
  EXPECT_FALSE(challenge.is_proven(address, now_ns));
  const uint32_t number = challenge.ask(syn, now_ns);
  EXPECT_TRUE(challenge.take_answer(parsed(wire.from_client({.flags = kRst, .seq = number})), now_ns + 1));
  EXPECT_TRUE(challenge.is_proven(address, now_ns + SynChallenge::kProvenNs));
  EXPECT_FALSE(challenge.is_proven(address, now_ns + SynChallenge::kProvenNs + 1));
  EXPECT_FALSE(challenge.is_proven(Wire{.client = 2}.client_end().address, now_ns));
}

TEST(SynChallenge, NumbersDifferByFlowTimeAndSecret) {
  SynChallenge challenge({7, 8});
  SynChallenge another({7, 9});
  const ParsedPacket syn = parsed(Wire{}.from_client({}));
  const uint32_t number = challenge.ask(syn, 0);
  EXPECT_EQ(challenge.ask(syn, SynChallenge::kPeriodNs - 1), number);
  EXPECT_NE(challenge.ask(syn, SynChallenge::kPeriodNs), number);
  EXPECT_NE(another.ask(syn, 0), number);
  EXPECT_NE(challenge.ask(parsed(Wire{.client_port = 40001}.from_client({})), 0), number);
}

/// Four times as many addresses as there are cells: those proven last are known, of the first most have gone.
TEST(SynChallenge, ItsTableIsOfFixedSize) {
  SynChallenge challenge({7, 8});
  ParsedPacket packet = parsed(Wire{}.from_client({}));
  constexpr uint32_t kClients = 4 * SynChallenge::kCells;
  const auto address = [](uint32_t i) {
    Address a;
    std::memcpy(a.bytes.data(), &i, sizeof i);
    return a;
  };
  for (uint32_t i = 0; i < kClients; ++i) {
    const Endpoint client{.address = address(i), .port = 40000};
    packet.flow = make_flow_key(client, Wire{}.server_end(), {});
    packet.tcp_flags = kRst;
    packet.tcp_seq = challenge.ask(packet, i);
    ASSERT_TRUE(challenge.take_answer(packet, i));
  }
  EXPECT_TRUE(challenge.is_proven(address(kClients - 1), kClients));
  uint32_t first_known = 0;
  for (uint32_t i = 0; i < SynChallenge::kCells; ++i)
    first_known += challenge.is_proven(address(i), kClients);
  EXPECT_LT(first_known, SynChallenge::kCells / 4);
}

}  // namespace
}  // namespace synfluid::gateway::testing
