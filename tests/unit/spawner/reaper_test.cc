#include "spawner/xen/reaper.h"

#include <cerrno>
#include <latch>
#include <map>
#include <mutex>
#include <vector>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "guest/images.h"
#include "spawner/toolstack/domain_builder.h"
#include "tests/unit/spawner/fake_xen_calls.h"

namespace synfluid::spawner::xen {
namespace {

/// Takes its time until it is told to go on.
class SlowEnder final : public toolstack::DomainEnder {
 public:
  SlowEnder(std::latch& go_on, std::vector<DomId>& ended) : go_on_(go_on), ended_(ended) {}
  Status destroy_domain(DomId domid) override {
    go_on_.wait();
    ended_.push_back(domid);
    return {};
  }

 private:
  std::latch& go_on_;
  std::vector<DomId>& ended_;
};

TEST(Reaper, NobodyWaitsForADomainThatIsSlowToDie) {
  std::latch go_on(1);
  std::vector<DomId> ended;
  auto reaper = Reaper::create(std::make_unique<SlowEnder>(go_on, ended));
  ASSERT_TRUE(reaper) << reaper.error().text();
  // Would never return if they waited.
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(7)));
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(6)));
  go_on.count_down();
  reaper->reset();
  EXPECT_EQ(ended, (std::vector{DomId(7), DomId(6)}));
}

/// Says that it has been asked.
class TellingEnder final : public toolstack::DomainEnder {
 public:
  explicit TellingEnder(std::latch& asked) : asked_(asked) {}
  Status destroy_domain(DomId) override {
    asked_.count_down();
    return {};
  }

 private:
  std::latch& asked_;
};

TEST(Reaper, ItsThreadTakesNoSignals) {
  std::latch is_running(1);
  auto reaper = Reaper::create(std::make_unique<TellingEnder>(is_running));
  ASSERT_TRUE(reaper) << reaper.error().text();
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(7)));
  is_running.wait();
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  // As the gateway does, when the reaper is there already. A thread that took it would end the test here.
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &term, nullptr), 0);
  ASSERT_EQ(kill(getpid(), SIGTERM), 0);
  const timespec patience = {.tv_sec = 10, .tv_nsec = 0};
  EXPECT_EQ(sigtimedwait(&term, nullptr, &patience), SIGTERM);
  pthread_sigmask(SIG_UNBLOCK, &term, nullptr);
}

TEST(Reaper, EndsAllItWasGivenBeforeItGoes) {
  std::latch go_on(0);
  std::vector<DomId> ended;
  auto reaper = Reaper::create(std::make_unique<SlowEnder>(go_on, ended));
  ASSERT_TRUE(reaper) << reaper.error().text();
  for (uint16_t id = 1; id <= 100; ++id) ASSERT_TRUE((*reaper)->destroy_domain(DomId(id)));
  reaper->reset();
  EXPECT_EQ(ended.size(), 100u);
}

/// Wants to be asked so many times for each domain.
class RepeatedEnder final : public toolstack::DomainEnder {
 public:
  explicit RepeatedEnder(int times) : times_(times) {}
  Status destroy_domain(DomId domid) override {
    const std::lock_guard lock(mutex_);
    if (++asked_[domid] < times_) return Error::from_errno(EAGAIN, "destroy");
    return {};
  }
  int asked(DomId domid) {
    const std::lock_guard lock(mutex_);
    return asked_[domid];
  }

 private:
  const int times_;
  std::mutex mutex_;
  std::map<DomId, int> asked_;
};

/// As the reaper's, which owns it.
class Borrowed final : public toolstack::DomainEnder {
 public:
  explicit Borrowed(toolstack::DomainEnder& ender) : ender_(ender) {}
  Status destroy_domain(DomId domid) override { return ender_.destroy_domain(domid); }

 private:
  toolstack::DomainEnder& ender_;
};

TEST(Reaper, AsksAgainForWhatXenIsNotDoneWith) {
  RepeatedEnder xen(3);
  auto reaper = Reaper::create(std::make_unique<Borrowed>(xen));
  ASSERT_TRUE(reaper) << reaper.error().text();
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(7)));
  reaper->reset();
  EXPECT_EQ(xen.asked(DomId(7)), 3);
}

TEST(PromptEnder, EndsAtOnceAndLeavesToTheReaperWhatXenIsNotDoneWith) {
  RepeatedEnder prompt(1);
  RepeatedEnder again(2);
  RepeatedEnder last(1);
  auto reaper = Reaper::create(std::make_unique<Borrowed>(last));
  ASSERT_TRUE(reaper) << reaper.error().text();
  ASSERT_TRUE(PromptEnder(prompt, **reaper).destroy_domain(DomId(1)));
  ASSERT_TRUE(PromptEnder(again, **reaper).destroy_domain(DomId(2)));
  reaper->reset();
  EXPECT_EQ(prompt.asked(DomId(1)), 1);
  EXPECT_EQ(again.asked(DomId(2)), 1);
  EXPECT_EQ(last.asked(DomId(1)), 0);
  EXPECT_EQ(last.asked(DomId(2)), 1);
}

/// Is at one domain until it is told to go on.
class BusyEnder final : public toolstack::DomainEnder {
 public:
  BusyEnder(std::latch& go_on, std::latch& begun) : go_on_(go_on), begun_(begun) {}
  Status destroy_domain(DomId) override {
    begun_.count_down();
    go_on_.wait();
    return {};
  }

 private:
  std::latch& go_on_;
  std::latch& begun_;
};

TEST(Reaper, ANewDomainIsBuiltWhileAnotherIsDying) {
  std::latch go_on(1);
  std::latch begun(1);
  auto reaper = Reaper::create(std::make_unique<BusyEnder>(go_on, begun));
  ASSERT_TRUE(reaper) << reaper.error().text();
  toolstack::FakeXenCalls xen;
  toolstack::DomainBuilder builder(xen);
  const auto guest = toolstack::make_guest_template(guest::xen_image(), "test", 256 << 10, 0);
  ASSERT_TRUE(guest) << guest.error().text();
  auto large = builder.build(*guest, {.domid = DomId(7), .generation = 1});
  ASSERT_TRUE(large) << large.error().text();
  large->domain.end_by(**reaper);
  { const auto gone = std::move(large->domain); }
  begun.wait();
  const auto next = builder.build(*guest, {.domid = DomId(6), .generation = 2});
  EXPECT_TRUE(next) << next.error().text();
  go_on.count_down();
}

}  // namespace
}  // namespace synfluid::spawner::xen
