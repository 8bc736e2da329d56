// Flows that the policy lets pass: an entry from the first SYN on, and nothing else.

#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

class BypassSim : public Sim {
 protected:
  /// Port 80 gets a VM, all else passes.
  void begin(uint32_t flow_capacity = 4096) {
    start({.policy = one_service(ServiceMode::kTerminate), .flow_capacity = flow_capacity});
  }
  /// All of these go in on `side`, and must come out of the other, unchanged.
  void expect_passes(Side side, const std::vector<Frame>& frames) {
    for (const Frame& frame : frames) put(side, frame);
    run();
    EXPECT_EQ(take(opposite(side)), frames);
  }
  /// A SYN of `wire_` passes; then the policy gives its port a VM.
  void pass_until_served(ServiceMode mode) {
    expect_passes(Side::kAccess, {wire_.from_client({})});
    policies::PolicySpec spec = one_service(mode);
    spec.rules[0].match.destination_ports = {{8080, 8080}};
    reload(spec);
  }
  uint64_t entries() { return worker().table_stats().size; }

  const Wire wire_{.server_port = 8080};
};

TEST_F(BypassSim, AFlowHasAnEntryFromItsSynUntilItIsIdle) {
  begin();
  expect_passes(Side::kAccess, {wire_.from_client({}), wire_.from_client({})});
  EXPECT_EQ(entries(), 1u) << "one SYN twice in a burst is one flow";
  EXPECT_EQ(counters().syn_bypassed.get(), 2u);
  expect_passes(Side::kCore, {wire_.from_server({.flags = kSyn | kAck, .seq = 7, .ack = 1001})});
  expect_passes(Side::kAccess, {wire_.from_client({.flags = kAck, .seq = 1001, .ack = 8, .payload = "x"})});
  EXPECT_EQ(worker().table_stats().inserted, 1u);
  pass(140 * kNsPerSecond);
  expect_passes(Side::kCore, {wire_.from_server({.flags = kAck, .seq = 8, .ack = 1002})});
  pass(149 * kNsPerSecond);
  EXPECT_EQ(entries(), 1u);
  pass(39 * kNsPerSecond);
  EXPECT_EQ(entries(), 0u) << "150 s, and a quarter of it";
  EXPECT_TRUE(events_.ends.empty()) << "nobody hears of it";
  EXPECT_EQ(counters().flows_ended.get(), 0u);
}

TEST_F(BypassSim, FinBothWaysOrAResetEndTheEntrySoonAndLatePacketsPass) {
  begin();
  const Wire reset{.client_port = 2, .server_port = 8080};
  expect_passes(Side::kAccess, {wire_.from_client({}), reset.from_client({})});
  expect_passes(Side::kAccess, {wire_.from_client({.flags = kFin | kAck, .seq = 1001, .ack = 8}),
                                reset.from_client({.flags = kRst, .seq = 1001})});
  pass(2 * kNsPerSecond);
  EXPECT_EQ(entries(), 1u) << "one FIN is half an end, a reset a whole one";
  expect_passes(Side::kCore, {wire_.from_server({.flags = kFin | kAck, .seq = 8, .ack = 1002})});
  expect_passes(Side::kAccess, {wire_.from_client({.flags = kAck, .seq = 1002, .ack = 9})});
  pass(2 * kNsPerSecond);
  EXPECT_EQ(entries(), 0u);
  expect_passes(Side::kAccess, {wire_.from_client({.flags = kAck, .seq = 1002, .ack = 9})});
  EXPECT_EQ(entries(), 0u) << "a packet in mid-flow makes no entry";
}

TEST_F(BypassSim, ANewConnectionOnTheSamePortsIsDecidedAnew) {
  begin();
  pass_until_served(ServiceMode::kTerminate);
  expect_passes(Side::kAccess, {wire_.from_client({.flags = kAck, .seq = 1001, .ack = 8})});
  EXPECT_EQ(guests(), 0u) << "a flow keeps the way it was given";
  EXPECT_EQ(summon(wire_).receive(), wire_.from_client({}));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(BypassSim, DataInOneBurstWithTheSynThatGivesItsFlowAVmGoesThereToo) {
  begin();
  pass_until_served(ServiceMode::kTerminate);
  const Frame data = wire_.from_client({.flags = kAck, .seq = 1001, .ack = 8, .payload = "x"});
  put(Side::kAccess, wire_.from_client({}));
  put(Side::kAccess, data);
  run();
  EXPECT_TRUE(take(Side::kCore).empty());
  ASSERT_EQ(guests(), 1u);
  EXPECT_EQ(guest(0).receive_all(), (std::vector<Frame>{wire_.from_client({}), data}));
}

TEST_F(BypassSim, TheAnswerInOneTurnWithTheSynThatGivesItsFlowAVmGoesThereToo) {
  begin();
  pass_until_served(ServiceMode::kInline);
  const Frame answer = wire_.from_server({.flags = kAck, .seq = 8, .ack = 1001, .payload = "x"});
  put(Side::kAccess, wire_.from_client({}));
  put(Side::kCore, answer);
  run();
  EXPECT_TRUE(take(Side::kAccess).empty());
  ASSERT_EQ(guests(), 1u);
  EXPECT_EQ(guest(0).receive_all(), (std::vector<Frame>{wire_.from_client({}), answer}));
}

/// Where an IPv4 header says what it carries.
constexpr size_t kFragmentAt = 14 + 6;
constexpr size_t kProtocolAt = 14 + 9;

TEST_F(BypassSim, WhatIsNotTcpPassesWhateverFlowItsBytesLookLike) {
  begin();
  const Wire served;
  Guest& guest = connect(served);
  expect_passes(Side::kAccess, {wire_.from_client({})});
  for (const Wire& wire : {served, wire_}) {
    for (const uint8_t flags : {kAck, kSyn, kRst}) {
      Frame udp = wire.from_client({.flags = flags, .seq = 1001, .ack = 8});
      udp[kProtocolAt] = std::byte{17};
      Frame first_piece = wire.from_client({.flags = flags, .seq = 1001, .ack = 8});
      first_piece[kFragmentAt] = std::byte{0x20};  // more fragments
      Frame later_piece = first_piece;
      later_piece[kFragmentAt + 1] = std::byte{1};
      expect_passes(Side::kAccess, {udp, first_piece, later_piece});
    }
  }
  EXPECT_TRUE(guest.receive_all().empty());
  EXPECT_EQ(entries(), 2u);
}

TEST_F(BypassSim, AFullTablePassesPacketsAndMakesRoomForAFlowWithAVm) {
  begin(24);
  for (uint16_t port = 1; port <= 30; ++port)
    expect_passes(Side::kAccess, {Wire{.client_port = port, .server_port = 8080}.from_client({})});
  EXPECT_EQ(entries(), 24u);
  EXPECT_EQ(counters().syn_bypassed.get(), 30u);
  connect(Wire{});
  EXPECT_EQ(entries(), 24u);
  EXPECT_EQ(drops(DropReason::kTableFull), 0u);
}

TEST_F(BypassSim, AVmMaySendNothingInAPassingFlow) {
  begin();
  const Wire served;
  Guest& guest = connect(served);
  put(Side::kAccess, served.from_client({.flags = kRst, .seq = 1001}));
  pass(2 * kNsPerSecond);
  EXPECT_EQ(entries(), 0u);
  EXPECT_TRUE(guest.destroyed());
  Guest& other = connect(Wire{.client_port = 9});
  expect_passes(Side::kAccess, {wire_.from_client({})});
  other.send(wire_.from_server({.flags = kRst, .seq = 1, .ack = 1001}));
  run();
  EXPECT_EQ(drops(DropReason::kSpoofed), 1u);
  EXPECT_TRUE(take(Side::kAccess).empty());
}

}  // namespace
}  // namespace synfluid::gateway::testing
