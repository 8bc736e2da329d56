// The spawner's thread with two workers' threads, as in the gateway. Meant to be run under TSan as well.
#include <atomic>
#include <random>
#include <thread>

#include <gtest/gtest.h>
#include <poll.h>

#include "spawner/admission.h"
#include "tests/unit/spawner/spawner_fixture.h"

namespace synfluid::spawner::testing {
namespace {

constexpr uint32_t kFlowsPerWorker = 2'000;
constexpr int64_t kPatienceNs = 60 * kNsPerSecond;

/// Asks for VMs, keeps some for a while, gives all back; sleeps on its wake descriptor when there is nothing
/// to do.
class Worker {
 public:
  Worker(uint16_t id, WorkerPort& port, Admission& admission, FakeHypervisor& fake,
         std::shared_ptr<const ServiceSet> services, const Clock& clock)
      : port_(port),
        admission_(admission),
        fake_(fake),
        services_(std::move(services)),
        clock_(clock),
        random_(id) {}

  void run() {
    const int64_t end = clock_.now_ns() + kPatienceNs;
    while ((done_ < kFlowsPerWorker || !held_.empty()) && clock_.now_ns() < end) {
      bool busy = ask();
      busy |= take();
      busy |= give_back();
      if (!busy) sleep();
    }
    held_.clear();
  }

  uint32_t answered() const { return done_; }
  uint32_t failed() const { return failed_; }
  uint32_t lost() const { return lost_; }

 private:
  bool ask() {
    if (asked_ == kFlowsPerWorker || asked_ - done_ >= 32) return false;
    const Address who = subscriber_number(static_cast<uint8_t>(random_() % 8));
    Admission::Decision decision = admission_.admit(who, clock_.now_ns());
    EXPECT_EQ(decision.verdict, AdmissionVerdict::kAdmitted);
    admission_.connection_followed();
    const TestService service = random_() % 4 == 0 ? kPerSubscriber : random_() % 2 == 0 ? kPooled : kPerFlow;
    SpawnRequest request{.cookie = asked_,
                         .services = services_,
                         .service = service,
                         .subscriber = who,
                         .doorbell = asked_,
                         .first_frame = syn_,
                         .syn_time_ns = clock_.now_ns(),
                         .ticket = std::move(decision.ticket)};
    if (!port_.request(std::move(request))) return false;
    ++asked_;
    return true;
  }

  bool take() {
    bool any = false;
    while (auto reply = port_.next_reply()) {
      any = true;
      ++done_;
      failed_ += reply->outcome == SpawnOutcome::kFailed ? 1 : 0;
      if (reply->vif) {
        if (random_() % 16 == 0) fake_.crash(reply->vm);
        held_.push_back({reply->vm, std::move(reply->vif)});
      }
    }
    while (port_.next_lost()) {
      any = true;
      ++lost_;
    }
    return any;
  }

  bool give_back() {
    if (held_.empty() || (held_.size() < 16 && done_ < kFlowsPerWorker)) return false;
    VmReturn returned{.vm = held_.front().first, .vif = std::move(held_.front().second)};
    if (!port_.give_back(std::move(returned))) {
      held_.front().second = std::move(returned.vif);
      return false;
    }
    held_.pop_front();
    return true;
  }

  void sleep() {
    port_.before_sleep();
    if (take()) return;
    pollfd ready{.fd = port_.wake_fd(), .events = POLLIN, .revents = 0};
    ::poll(&ready, 1, 1000);
  }

  WorkerPort& port_;
  Admission& admission_;
  FakeHypervisor& fake_;
  const std::shared_ptr<const ServiceSet> services_;
  const Clock& clock_;
  std::mt19937 random_;
  const std::vector<std::byte> syn_ = std::vector<std::byte>(60);
  std::deque<std::pair<VmId, std::unique_ptr<backend::Vif>>> held_;
  uint32_t asked_ = 0;
  uint32_t done_ = 0;
  uint32_t failed_ = 0;
  uint32_t lost_ = 0;
};

TEST(SpawnerThreads, TwoWorkersGetEveryReplyAndNothingIsLeft) {
  SteadyClock clock;
  FakeHypervisor fake;
  Admission admission({.limits = {}});
  {
    auto spawner = std::move(
        *Spawner::create({.hypervisor = fake, .clock = clock, .workers = 2, .requests = 64, .returns = 256}));
    auto services = std::move(*spawner->prepare(std::make_shared<const policies::Policy>(test_policy())));
    spawner->activate(services);
    ASSERT_TRUE(spawner->start());
    Worker first(0, spawner->port(WorkerId(0)), admission, fake, services, clock);
    Worker second(1, spawner->port(WorkerId(1)), admission, fake, services, clock);
    std::thread threads[] = {std::thread([&] { first.run(); }), std::thread([&] { second.run(); })};
    // Control goes on meanwhile, as an operator would.
    for (int reload = 0; reload < 20; ++reload) {
      auto next = spawner->prepare(std::make_shared<const policies::Policy>(test_policy()));
      ASSERT_TRUE(next);
      spawner->activate(*next);
      for (const VmInfo& info : spawner->snapshot()) EXPECT_FALSE(info.name.empty());
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(first.answered(), kFlowsPerWorker);
    EXPECT_EQ(second.answered(), kFlowsPerWorker);
    EXPECT_EQ(first.failed() + second.failed(), 0u);
    EXPECT_EQ(spawner->counters().requests, 2 * kFlowsPerWorker);
    spawner->retire(WorkerId(1));
    services.reset();
    spawner->stop();
    EXPECT_EQ(fake.live, 0u);
    EXPECT_EQ(admission.vms(), 0u);
  }
  EXPECT_EQ(fake.images, 0);
}

TEST(SpawnerThreads, AdmissionHoldsItsLimitsWhenAllWorkersAskForTheSameSubscriber) {
  constexpr int kThreads = 4;
  constexpr uint32_t kMaxVms = 3;
  policies::Limits limits;
  limits.max_vms = 6;
  limits.per_subscriber.max_vms = kMaxVms;
  Admission admission({.limits = limits, .subscriber_cells = 16});
  std::atomic<uint32_t> running[2] = {0, 0};
  std::atomic<uint32_t> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      const SteadyClock clock;
      for (int i = 0; i < 20'000; ++i) {
        const auto who = static_cast<uint8_t>((t + i) % 2);
        Admission::Decision decision = admission.admit(subscriber_number(who), clock.now_ns());
        admission.connection_followed();
        if (!decision.ticket) continue;
        admitted.fetch_add(1);
        EXPECT_LE(running[who].fetch_add(1) + 1, kMaxVms);
        EXPECT_LE(admission.vms(), 6u);
        running[who].fetch_sub(1);
        decision.ticket.release();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admission.vms(), 0u);
  EXPECT_GT(admitted.load(), 0u);
}

TEST(SpawnerThreads, ASpentBurstIsSpentForAllWorkersTogether) {
  policies::Limits limits;
  limits.per_subscriber.spawn_rate = policies::Rate{.events = 100, .per_ns = kNsPerSecond};
  for (int round = 0; round < 50; ++round) {
    Admission admission({.limits = limits, .subscriber_cells = 16});
    std::atomic<uint32_t> admitted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i)
          if (admission.admit(subscriber_number(1), kNsPerSecond).ticket) admitted.fetch_add(1);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(admitted.load(), 100u);
  }
}

}  // namespace
}  // namespace synfluid::spawner::testing
