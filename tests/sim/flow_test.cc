// The life of a flow: from its SYN to the VM's return.

#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

class FlowSim : public Sim {};

TEST_F(FlowSim, ASynReachesANewVmAndItsAnswerTheClient) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  Guest& guest = summon(wire);
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(guest.receive(), wire.from_client({}));
  EXPECT_TRUE(take(Side::kCore).empty()) << "the SYN must not go on to the server";
  const Frame answer = wire.from_server({.flags = kSyn | kAck, .seq = 5000, .ack = 1001});
  guest.send(answer);
  run();
  EXPECT_EQ(take(Side::kAccess), std::vector<Frame>{answer});
  EXPECT_EQ(events_.answers, 1);
  EXPECT_EQ(counters().flows_served.get(), 1u);
  EXPECT_EQ(counters().held.get(), 0u);
  expect_balance();
}

TEST_F(FlowSim, WhatNoRuleMatchesPassesBothWaysUnchanged) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire{.server_port = 8080};
  put(Side::kAccess, wire.from_client({}));
  put(Side::kCore, wire.from_server({.flags = kSyn | kAck, .seq = 7, .ack = 1001}));
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{wire.from_client({})});
  EXPECT_EQ(take(Side::kAccess).size(), 1u);
  EXPECT_EQ(guests(), 0u);
}

TEST_F(FlowSim, WhatIsNoTcpPassesUnchanged) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Frame arp(60, std::byte{6});
  const Frame runt(9, std::byte{1});
  put(Side::kAccess, arp);
  put(Side::kCore, runt);
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{arp});
  EXPECT_EQ(take(Side::kAccess), std::vector<Frame>{runt});
}

TEST_F(FlowSim, ARetransmittedSynSummonsNoSecondVm) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  Guest& guest = summon(wire);
  put(Side::kAccess, wire.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(guest.receive_all().size(), 2u) << "the VM gets both, as from any client";
}

TEST_F(FlowSim, TwoSynsOfOneFlowInOneBurstSummonOneVm) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  put(Side::kAccess, wire.from_client({}));
  put(Side::kAccess, wire.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u);
}

TEST_F(FlowSim, HeldFramesReachTheVmInTheirOrder) {
  start({.policy = one_service(ServiceMode::kInline)});
  const Wire wire;
  spawner_runs_ = false;
  put(Side::kAccess, wire.from_client({}));
  run();
  const Frame second = wire.from_client({.flags = kAck, .seq = 1001, .ack = 1, .payload = "second"});
  const Frame third = wire.from_client({.flags = kAck, .seq = 1007, .ack = 1, .payload = "third"});
  put(Side::kAccess, second);
  put(Side::kAccess, third);
  run();
  EXPECT_EQ(counters().held.get(), 3u);
  spawner_runs_ = true;
  run();
  std::vector<Frame> received = guest(0).receive_all();
  pass(20 * kNsPerMs);  // two buffers were posted: the third frame waits for room
  for (Frame& frame : guest(0).receive_all()) received.push_back(std::move(frame));
  EXPECT_EQ(received, (std::vector<Frame>{wire.from_client({}), second, third}));
}

TEST_F(FlowSim, FinBothWaysGivesTheVmBackAtOnce) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  Guest& guest = connect(wire);
  put(Side::kAccess, wire.from_client({.flags = kFin | kAck, .seq = 1001, .ack = 5001}));
  run();
  guest.send(wire.from_server({.flags = kFin | kAck, .seq = 5001, .ack = 1002}));
  run();
  EXPECT_FALSE(guest.destroyed());
  put(Side::kAccess, wire.from_client({.flags = kAck, .seq = 1002, .ack = 5002}));
  run();
  EXPECT_TRUE(guest.destroyed());
  put(Side::kAccess, wire.from_client({.flags = kFin | kAck, .seq = 1001, .ack = 5001}));
  run();
  EXPECT_EQ(drops(DropReason::kFlowClosed), 1u) << "a late FIN must not go on to the server";
  pass(2 * kNsPerSecond);
  EXPECT_EQ(worker().table_stats().size, 0u);
  EXPECT_EQ(events_.ends, std::vector<FlowEnd>{FlowEnd::kFin});
}

TEST_F(FlowSim, AResetFromTheClientReachesTheVmBeforeItGoes) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  Guest& guest = connect(wire);
  const Frame reset = wire.from_client({.flags = kRst, .seq = 1001});
  put(Side::kAccess, reset);
  run();
  EXPECT_EQ(guest.receive(), reset);
  EXPECT_FALSE(guest.destroyed());
  pass(200 * kNsPerMs);
  EXPECT_TRUE(guest.destroyed());
}

TEST_F(FlowSim, AResetFarFromTheWindowEndsNothing) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  Guest& guest = connect(wire);
  guest.send(wire.from_server({.flags = kAck, .seq = 5001, .ack = 1001}));
  run();
  put(Side::kAccess, wire.from_client({.flags = kRst, .seq = 0x80000000}));
  run();
  pass(1 * kNsPerSecond);
  EXPECT_FALSE(guest.destroyed());
}

TEST_F(FlowSim, AnIdleFlowGivesItsVmBack) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  Guest& guest = connect({});
  pass(9 * kNsPerSecond);
  EXPECT_FALSE(guest.destroyed());
  pass(3 * kNsPerSecond);
  EXPECT_TRUE(guest.destroyed());
  EXPECT_EQ(events_.ends, std::vector<FlowEnd>{FlowEnd::kIdle});
}

TEST_F(FlowSim, ANewConnectionOnTheSamePortsGetsAVmOfItsOwn) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  connect(wire);
  put(Side::kAccess, wire.from_client({.flags = kRst, .seq = 1001}));
  run();
  put(Side::kAccess, wire.from_client({.seq = 90000}));
  run();
  EXPECT_EQ(guests(), 2u);
  EXPECT_EQ(guest(1).receive(), wire.from_client({.seq = 90000}));
}

TEST_F(FlowSim, AnInlineVmForwardsBothWays) {
  start({.policy = one_service(ServiceMode::kInline)});
  const Wire wire;
  Guest& guest = summon(wire);
  guest.send(guest.receive());
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{wire.from_client({})});
  const Frame answer = wire.from_server({.flags = kSyn | kAck, .seq = 5000, .ack = 1001});
  put(Side::kCore, answer);
  run();
  EXPECT_EQ(guest.receive(), answer);
  guest.send(answer);
  run();
  EXPECT_EQ(take(Side::kAccess), std::vector<Frame>{answer});
  EXPECT_EQ(events_.answers, 1);
}

TEST_F(FlowSim, TheRealServerDoesNotReachAClientWhoseServerIsAVm) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire wire;
  connect(wire);
  put(Side::kCore, wire.from_server({.flags = kAck, .seq = 1, .ack = 1001, .payload = "not for you"}));
  run();
  EXPECT_TRUE(take(Side::kAccess).empty());
  EXPECT_EQ(drops(DropReason::kRefusedByPolicy), 1u);
}

TEST_F(FlowSim, Ipv6FlowsAreServedToo) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  connect({.v6 = true});
  EXPECT_EQ(counters().flows_served.get(), 1u);
}

TEST_F(FlowSim, AFullTransmitQueueIsACountedDrop) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  io().tx_room = 1;
  const Wire wire{.server_port = 8080};
  put(Side::kAccess, wire.from_client({}));
  put(Side::kAccess, wire.from_client({.flags = kAck}));
  run();
  EXPECT_EQ(take(Side::kCore).size(), 1u);
  EXPECT_EQ(drops(DropReason::kPortTxFull), 1u);
}

TEST_F(FlowSim, AVmThatIsBehindKeepsItsFramesWaitingUpToABound) {
  start({.policy = one_service(ServiceMode::kTerminate), .held_frames = 8});
  const Wire wire;
  Guest& guest = connect(wire);
  for (uint32_t i = 0; i < 20; ++i)
    put(Side::kAccess, wire.from_client({.flags = kAck, .seq = 1001 + i, .ack = 5001, .payload = "x"}));
  run();
  EXPECT_EQ(counters().held.get(), 8u);
  EXPECT_EQ(drops(DropReason::kNoRxBuffer), 10u) << "two in the ring, eight waiting, ten too many";
  std::vector<Frame> received;
  for (int round = 0; round < 10; ++round) {
    for (Frame& frame : guest.receive_all()) received.push_back(std::move(frame));
    run();
  }
  ASSERT_EQ(received.size(), 10u);
  for (uint32_t i = 0; i < 10; ++i) EXPECT_EQ(parsed(received[i]).tcp_seq, 1001 + i);
  EXPECT_EQ(counters().held.get(), 0u);
}

TEST_F(FlowSim, AWorkerSleepsWhileAVmIsBehind) {
  start({.policy = one_service(ServiceMode::kTerminate), .held_frames = 8});
  const Wire wire;
  Guest& guest = connect(wire);
  const auto say = [&](uint32_t i) {
    put(Side::kAccess, wire.from_client({.flags = kAck, .seq = 1001 + i, .ack = 5001, .payload = "x"}));
  };
  for (uint32_t i = 0; i < 4; ++i) say(i);
  run();
  worker().sleep(kNsPerMs);
  EXPECT_EQ(counters().sleeps.get(), 1u) << "it spins, and a VM on the same CPU cannot run";
  say(4);
  run();
  std::vector<Frame> received;
  for (int round = 0; round < 10; ++round) {
    for (Frame& frame : guest.receive_all()) received.push_back(std::move(frame));
    run();
  }
  ASSERT_EQ(received.size(), 5u);
  for (uint32_t i = 0; i < 5; ++i) EXPECT_EQ(parsed(received[i]).tcp_seq, 1001 + i);
}

TEST_F(FlowSim, StoppingGivesEverythingBack) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  for (uint8_t client = 1; client <= 5; ++client) connect({.client = client});
  worker().begin_stop();
  run();
  for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(guest(i).destroyed());
}

}  // namespace
}  // namespace synfluid::gateway::testing
