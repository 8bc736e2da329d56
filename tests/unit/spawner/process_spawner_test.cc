// The spawner over real guest processes: a SYN goes in, the guest's answer comes out.
#include <algorithm>
#include <csignal>
#include <functional>
#include <map>

#include <gtest/gtest.h>
#include <poll.h>

#include "base/clock.h"
#include "spawner/process/process_hypervisor.h"
#include "spawner/spawner.h"
#include "spawner/worker_port.h"
#include "tests/unit/guest/frames.h"
#include "tests/unit/spawner/processes.h"

namespace synfluid::spawner {
namespace {

using guest::testing::build;
using guest::testing::dissect;
using guest::testing::Frame;
using guest::testing::Tcp;
using testing::descendants;
using testing::open_descriptors;

constexpr int64_t kPatienceNs = 20 * kNsPerSecond;
constexpr uint16_t kResponder = 0;
constexpr uint16_t kPooledResponder = 1;

policies::PolicySpec policy() {
  policies::PolicySpec spec;
  spec.services.resize(2);
  spec.services[kResponder].name = "cold";
  spec.services[kResponder].image = policies::kImageResponder;
  spec.services[kPooledResponder] = spec.services[kResponder];
  spec.services[kPooledResponder].name = "pooled";
  spec.services[kPooledResponder].pool = {.min = 4, .max = 8};
  return spec;
}

class ProcessSpawnerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Status possible = probe_process_hypervisor(); !possible)
      GTEST_SKIP() << possible.error().text();
    descriptors_ = open_descriptors();
    auto hypervisor = make_process_hypervisor({.workers = 1});
    ASSERT_TRUE(hypervisor) << hypervisor.error().text();
    hypervisor_ = std::move(*hypervisor);
    zygote_and_parents_ = descendants().size();
    auto spawner = Spawner::create({.hypervisor = *hypervisor_, .clock = clock_});
    ASSERT_TRUE(spawner);
    spawner_ = std::move(*spawner);
    auto services = spawner_->prepare(std::make_shared<const policies::Policy>(policy()));
    ASSERT_TRUE(services) << services.error().text();
    services_ = *services;
    ASSERT_TRUE(spawner_->start());
  }

  void TearDown() override {
    if (!hypervisor_) return;
    vifs_.clear();
    services_.reset();
    spawner_.reset();
    hypervisor_.reset();
    EXPECT_TRUE(descendants().empty()) << "processes left behind";
    EXPECT_EQ(open_descriptors(), descriptors_) << "descriptors left behind";
  }

  WorkerPort& port() { return spawner_->port(WorkerId(0)); }

  bool eventually(const std::function<bool()>& condition) {
    const int64_t end = clock_.now_ns() + kPatienceNs;
    while (!condition()) {
      if (clock_.now_ns() > end) return false;
      port().before_sleep();
      pollfd ready{.fd = port().wake_fd(), .events = POLLIN, .revents = 0};
      ::poll(&ready, 1, 1);
    }
    return true;
  }

  void ask(uint32_t flow, uint16_t service) {
    frames_[flow] =
        build({.source = 0x0a000000u + flow, .sport = 1234, .seq = flow, .flags = guest::testing::kS});
    SpawnRequest request;
    request.cookie = flow;
    request.services = services_;
    request.service = service;
    request.doorbell = flow;
    request.first_frame = std::as_bytes(std::span(frames_[flow]));
    request.syn_time_ns = clock_.now_ns();
    ASSERT_TRUE(port().request(std::move(request)));
  }

  SpawnReply wait_for_reply() {
    std::optional<SpawnReply> reply;
    EXPECT_TRUE(eventually([&] { return (reply = port().next_reply()).has_value(); }));
    if (!reply) return {};
    EXPECT_EQ(reply->outcome, SpawnOutcome::kServed) << reply->error;
    if (reply->vif) vifs_[reply->cookie] = {reply->vm, std::move(reply->vif)};
    return std::move(*reply);
  }

  Tcp wait_for_frame(backend::Vif& vif) {
    std::vector<std::byte> buffer(backend::kMaxFrameBytes);
    size_t length = 0;
    EXPECT_TRUE(eventually([&] { return (length = vif.receive(buffer)) > 0; })) << "no answer";
    vif.flush();
    Frame frame(length);
    std::memcpy(frame.data(), buffer.data(), length);
    return length > 0 ? dissect(frame) : Tcp{};
  }

  void expect_syn_ack(uint32_t flow) {
    const Tcp answer = wait_for_frame(*vifs_[flow].second);
    EXPECT_EQ(answer.flags, guest::testing::kS | guest::testing::kA);
    EXPECT_EQ(answer.ack, flow + 1);
    EXPECT_EQ(answer.destination, 0x0a000000u + flow);
  }

  void give_back(uint32_t flow) {
    auto& [vm, vif] = vifs_[flow];
    EXPECT_TRUE(port().give_back({.vm = vm, .vif = std::move(vif)}));
    vifs_.erase(flow);
  }

  const SteadyClock clock_;
  size_t descriptors_ = 0;
  size_t zygote_and_parents_ = 0;
  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<Spawner> spawner_;
  std::shared_ptr<const ServiceSet> services_;
  std::map<uint32_t, Frame> frames_;
  std::map<uint64_t, std::pair<VmId, std::unique_ptr<backend::Vif>>> vifs_;
};

TEST_F(ProcessSpawnerTest, ASynIsAnsweredByAGuestThatDidNotExistBeforeIt) {
  EXPECT_EQ(spawner_->counters().vms, 0u);
  ask(1, kResponder);
  EXPECT_FALSE(wait_for_reply().pooled);
  expect_syn_ack(1);
}

TEST_F(ProcessSpawnerTest, APooledGuestAnswersToo) {
  spawner_->activate(services_);
  ASSERT_TRUE(eventually([&] { return spawner_->counters().vms == 4; }));
  ask(1, kPooledResponder);
  EXPECT_TRUE(wait_for_reply().pooled);
  expect_syn_ack(1);
}

TEST_F(ProcessSpawnerTest, TwoHundredFlowsAtOnceGetTwoHundredGuests) {
  constexpr uint32_t kFlows = 200;
  for (uint32_t flow = 1; flow <= kFlows; ++flow) ask(flow, kResponder);
  std::set<VmId> vms;
  for (uint32_t flow = 1; flow <= kFlows; ++flow) vms.insert(wait_for_reply().vm);
  EXPECT_EQ(vms.size(), kFlows);
  for (uint32_t flow = 1; flow <= kFlows; ++flow) expect_syn_ack(flow);
}

TEST_F(ProcessSpawnerTest, AGuestThatIsKilledIsToldToItsWorker) {
  ask(1, kResponder);
  const SpawnReply reply = wait_for_reply();
  expect_syn_ack(1);
  for (const auto& process : descendants())
    if (process.name.starts_with("cold-")) ::kill(process.pid, SIGKILL);
  std::optional<VmLost> lost;
  EXPECT_TRUE(eventually([&] { return (lost = port().next_lost()).has_value(); }));
  EXPECT_EQ(lost->vm, reply.vm);
  EXPECT_EQ(lost->doorbell, 1u);
  give_back(1);
  EXPECT_TRUE(eventually([&] { return spawner_->counters().vms == 0; }));
}

TEST_F(ProcessSpawnerTest, GuestsThatComeAndGoLeaveNothing) {
  for (uint32_t round = 0; round < 20; ++round) {
    for (uint32_t flow = 1; flow <= 10; ++flow) ask(flow, kResponder);
    for (uint32_t flow = 1; flow <= 10; ++flow) wait_for_reply();
    for (uint32_t flow = 1; flow <= 10; ++flow) {
      if (flow % 2 == 0) expect_syn_ack(flow);
      give_back(flow);
    }
  }
  EXPECT_TRUE(eventually([&] { return spawner_->counters().vms == 0; }));
  EXPECT_EQ(spawner_->counters().spawned, 200u);
  EXPECT_TRUE(eventually([&] { return descendants().size() == zygote_and_parents_; }));
}

}  // namespace
}  // namespace synfluid::spawner
