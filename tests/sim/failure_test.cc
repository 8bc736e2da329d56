// What becomes of a flow whose VM cannot be had, dies, lies, or says nothing.

#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

class FailureSim : public Sim {};

TEST_F(FailureSim, ASilentVmLosesABypassFlowNothing) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kBypass)});
  const Wire wire;
  summon(wire);
  put(Side::kAccess, wire.from_client({}));
  pass(1900 * kNsPerMs);
  EXPECT_TRUE(take(Side::kCore).empty());
  pass(200 * kNsPerMs);
  EXPECT_EQ(take(Side::kCore), (std::vector<Frame>{wire.from_client({}), wire.from_client({})}));
  EXPECT_EQ(events_.failures, std::vector<DropReason>{DropReason::kHeldTimeout});
  EXPECT_TRUE(guest(0).destroyed());
  put(Side::kCore, wire.from_server({.flags = kSyn | kAck, .seq = 1, .ack = 1001}));
  run();
  EXPECT_EQ(take(Side::kAccess).size(), 1u) << "the flow goes on in the bypass";
  put(Side::kAccess, wire.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u) << "a retransmitted SYN of a flow in the bypass summons nobody";
}

TEST_F(FailureSim, ASilentVmDropsADropFlow) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kDrop)});
  summon({});
  pass(2100 * kNsPerMs);
  EXPECT_TRUE(take(Side::kCore).empty());
  EXPECT_TRUE(take(Side::kAccess).empty());
  EXPECT_EQ(drops(DropReason::kHeldTimeout), 1u);
  put(Side::kAccess, Wire{}.from_client({}));
  run();
  EXPECT_EQ(drops(DropReason::kRefusedOnFailure), 1u);
}

TEST_F(FailureSim, ASilentVmResetsAResetFlow) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kReset)});
  summon({});
  pass(2100 * kNsPerMs);
  const std::vector<Frame> out = take(Side::kAccess);
  ASSERT_EQ(out.size(), 1u);
  const ParsedPacket reset = parsed(out[0]);
  EXPECT_EQ(reset.tcp_flags, kRst | kAck);
  EXPECT_EQ(reset.tcp_ack, 1001u);
  EXPECT_EQ(reset.flow.source().port, 80);
  EXPECT_EQ(counters().crafted.get(), 1u);
}

TEST_F(FailureSim, NoMemoryForAVmFollowsOnFailureAtOnce) {
  hypervisor_.capacity = 0;
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kBypass)});
  const Wire wire;
  put(Side::kAccess, wire.from_client({}));
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{wire.from_client({})});
  EXPECT_EQ(counters().vms_failed.get(), 1u);
}

TEST_F(FailureSim, ASpawnerThatNeverRepliesIsGivenUpAfterTheHoldTime) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kBypass)});
  spawner_runs_ = false;
  const Wire wire;
  put(Side::kAccess, wire.from_client({}));
  pass(1100 * kNsPerMs);
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{wire.from_client({})});
  EXPECT_EQ(worker().requests_open(), 1u);
  spawner_runs_ = true;
  run();
  EXPECT_EQ(worker().requests_open(), 0u);
  ASSERT_EQ(guests(), 1u);
  EXPECT_TRUE(guest(0).destroyed()) << "a VM that comes too late goes back";
}

TEST_F(FailureSim, TooManyHeldFramesAreCountedDrops) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  spawner_runs_ = false;
  const Wire wire;
  for (uint32_t i = 0; i < 7; ++i)
    put(Side::kAccess, wire.from_client({.flags = i == 0 ? kSyn : kAck, .seq = 1000 + i}));
  run();
  EXPECT_EQ(counters().held.get(), 4u);
  EXPECT_EQ(drops(DropReason::kHeldFull), 3u);
  expect_balance();
}

TEST_F(FailureSim, AFullRequestRingFollowsOnFailure) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kBypass)});
  spawner_runs_ = false;
  for (uint8_t client = 1; client <= 70; ++client) put(Side::kAccess, Wire{.client = client}.from_client({}));
  run();
  EXPECT_EQ(worker().requests_open(), 64u);
  EXPECT_EQ(take(Side::kCore).size(), 6u);
  EXPECT_EQ(events_.failures.size(), 6u);
}

TEST_F(FailureSim, ACrashBeforeTheAnswerLosesABypassFlowNothing) {
  start({.policy = one_service(ServiceMode::kInline, OnFailure::kBypass)});
  const Wire wire;
  Guest& guest = summon(wire);
  hypervisor_.crash(guest.id());
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{wire.from_client({})});
  EXPECT_TRUE(guest.destroyed());
}

TEST_F(FailureSim, ACrashedInlineVmLeavesItsFlowsInTheBypass) {
  start({.policy = one_service(ServiceMode::kInline, OnFailure::kBypass)});
  const Wire wire;
  Guest& guest = summon(wire);
  guest.send(guest.receive());
  run();
  take(Side::kCore);
  // Two frames fill the ring, the third waits in the gateway: that one can still be saved.
  const Frame data[] = {wire.from_client({.flags = kAck, .seq = 1001, .payload = "a"}),
                        wire.from_client({.flags = kAck, .seq = 1002, .payload = "b"}),
                        wire.from_client({.flags = kAck, .seq = 1003, .payload = "c"})};
  for (const Frame& frame : data) put(Side::kAccess, frame);
  run();
  hypervisor_.crash(guest.id());
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{data[2]});
  put(Side::kAccess, data[0]);
  run();
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{data[0]});
  expect_balance();
}

TEST_F(FailureSim, AVmThatBreaksItsRingLosesItsVif) {
  start({.policy = one_service(ServiceMode::kTerminate, OnFailure::kReset)});
  const Wire wire;
  Guest& guest = connect(wire);
  guest.memory().tx().indices.req_prod += 100'000;
  run();
  EXPECT_TRUE(guest.destroyed());
  EXPECT_EQ(events_.failures, std::vector<DropReason>{DropReason::kVifBroken});
  put(Side::kAccess, wire.from_client({.flags = kAck, .seq = 1001, .ack = 5001}));
  run();
  const std::vector<Frame> out = take(Side::kAccess);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parsed(out[0]).tcp_flags, kRst);
  EXPECT_EQ(parsed(out[0]).tcp_seq, 5001u);
}

TEST_F(FailureSim, AVmSpeaksOnlyForItsOwnFlow) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire mine{.client = 1};
  const Wire other{.client = 2};
  Guest& liar = connect(mine);
  connect(other);
  liar.send(other.from_server({.flags = kAck, .seq = 5001, .ack = 1001, .payload = "lies"}));
  liar.send(Wire{.client = 3}.from_server({.flags = kAck, .payload = "of nobody"}));
  run();
  liar.send(mine.from_client({.flags = kAck, .seq = 1001, .ack = 5001, .payload = "as the client"}));
  liar.send(Frame(60, std::byte{6}));
  run();
  EXPECT_TRUE(take(Side::kAccess).empty());
  EXPECT_TRUE(take(Side::kCore).empty());
  EXPECT_EQ(drops(DropReason::kSpoofed), 3u);
  EXPECT_EQ(drops(DropReason::kVmNotTcp), 1u);
  expect_balance();
}

TEST_F(FailureSim, AFullTableFollowsThePolicy) {
  policies::PolicySpec spec = one_service(ServiceMode::kTerminate);
  spec.limits.on_table_full = policies::OnTableFull::kDrop;
  start({.policy = spec, .flow_capacity = 24, .held_frames = 4096});
  spawner_runs_ = false;
  for (uint16_t port = 1; port <= 64; ++port) {
    put(Side::kAccess, Wire{.client_port = port}.from_client({}));
    run();
  }
  EXPECT_GT(drops(DropReason::kTableFull), 0u);
  EXPECT_EQ(worker().table_stats().size + drops(DropReason::kTableFull), 64u);
}

TEST_F(FailureSim, ASynOverItsRateAllocatesNothing) {
  policies::PolicySpec spec = one_service(ServiceMode::kTerminate, OnFailure::kDrop);
  spec.limits.spawn_rate = policies::Rate{.events = 2, .per_ns = kNsPerSecond};
  start({.policy = spec});
  for (uint8_t client = 1; client <= 10; ++client) put(Side::kAccess, Wire{.client = client}.from_client({}));
  run();
  EXPECT_EQ(guests(), 2u);
  EXPECT_EQ(drops(DropReason::kAdmissionRate), 8u);
  EXPECT_EQ(worker().table_stats().inserted, 2u);
}

TEST_F(FailureSim, QuotaIsGivenBackWithTheVm) {
  policies::PolicySpec spec = one_service(ServiceMode::kTerminate, OnFailure::kDrop);
  spec.limits.max_vms = 1;
  start({.policy = spec});
  connect({.client = 1});
  put(Side::kAccess, Wire{.client = 2}.from_client({}));
  run();
  EXPECT_EQ(drops(DropReason::kAdmissionQuota), 1u);
  put(Side::kAccess, Wire{.client = 1}.from_client({.flags = kRst, .seq = 1001}));
  pass(200 * kNsPerMs);
  put(Side::kAccess, Wire{.client = 2}.from_client({}));
  run();
  EXPECT_EQ(guests(), 2u);
}

TEST_F(FailureSim, APolicyMayDropOrReset) {
  policies::PolicySpec spec = one_service(ServiceMode::kTerminate);
  spec.rules[0].verdict = {Verdict::Kind::kReset, policies::kNoService, 0};
  start({.policy = spec});
  put(Side::kAccess, Wire{}.from_client({}));
  run();
  const std::vector<Frame> out = take(Side::kAccess);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(parsed(out[0]).tcp_flags, kRst | kAck);
  EXPECT_EQ(drops(DropReason::kRefusedByPolicy), 1u);
}

}  // namespace
}  // namespace synfluid::gateway::testing
