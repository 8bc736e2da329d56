#include "spawner/process/process_hypervisor.h"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "backend/vif.h"
#include "base/abi/card.h"
#include "base/clock.h"
#include "tests/unit/spawner/processes.h"

namespace synfluid::spawner {
namespace {

using testing::descendants;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::open_descriptors;

constexpr int64_t kPatienceNs = 30 * kNsPerSecond;

/// Polls, since what is waited for happens in another process; gives up after a long time.
bool eventually(const std::function<bool()>& condition) {
  const SteadyClock clock;
  const int64_t end = clock.now_ns() + kPatienceNs;
  while (!condition()) {
    if (clock.now_ns() > end) return false;
    ::sched_yield();
  }
  return true;
}

std::optional<VmEvent> wait_for_event(Hypervisor& hypervisor) {
  std::optional<VmEvent> event;
  eventually([&] {
    pollfd ready{.fd = hypervisor.event_fd(), .events = POLLIN, .revents = 0};
    ::poll(&ready, 1, 100);
    event = hypervisor.next_event();
    return event.has_value();
  });
  return event;
}

size_t guests_in(const std::vector<testing::Process>& processes) {
  return static_cast<size_t>(std::count_if(processes.begin(), processes.end(),
                                           [](const auto& p) { return p.name.starts_with("unit-"); }));
}

const ImageSpec kSpec{
    .service = "unit", .image = "builtin:responder", .memory_bytes = 512 * 1024, .config = {}};

class ProcessHypervisorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Status possible = probe_process_hypervisor(); !possible)
      GTEST_SKIP() << possible.error().text();
    start({.workers = 2});
  }

  void start(const ProcessHypervisorConfig& config) {
    auto made = make_process_hypervisor(config);
    ASSERT_TRUE(made) << made.error().text();
    hypervisor_ = std::move(*made);
    auto image = hypervisor_->prepare(kSpec);
    ASSERT_TRUE(image) << image.error().text();
    image_ = std::move(*image);
  }

  std::unique_ptr<Vm> create(uint32_t generation = 1) {
    auto vm =
        hypervisor_->create(*image_, {.name = "unit-1", .generation = generation, .worker = WorkerId(0)});
    EXPECT_TRUE(vm) << vm.error().text();
    return vm ? std::move(*vm) : nullptr;
  }

  const abi::Card& card_of(backend::GuestLink& link) {
    return *reinterpret_cast<const abi::Card*>(link.card());
  }

  bool runs(backend::GuestLink& link) {
    const volatile abi::GuestPhase& phase = card_of(link).guest.phase;
    return eventually([&] { return phase == abi::GuestPhase::kRunning; });
  }

  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<PreparedImage> image_;
};

TEST_F(ProcessHypervisorTest, AGuestIsPausedUntilItIsStartedAndThenRuns) {
  auto vm = create(7);
  auto link = vm->take_link();
  ASSERT_TRUE(link);
  EXPECT_TRUE(eventually([&] { return guests_in(descendants()) == 1; }));
  EXPECT_EQ(card_of(*link).guest.phase, abi::GuestPhase::kNotStarted);
  EXPECT_EQ(card_of(*link).fixed.generation, 7u);
  EXPECT_EQ(card_of(*link).fixed.domid, vm->id().domid.value());
  ASSERT_TRUE(vm->start());
  EXPECT_TRUE(runs(*link));
  EXPECT_FALSE(vm->start()) << "a guest starts once";
  EXPECT_FALSE(vm->take_link()) << "a link is given once";
}

TEST_F(ProcessHypervisorTest, DomainIdsGoDownwardsAndTwoGuestsHaveTwo) {
  auto first = create();
  auto second = create();
  EXPECT_EQ(first->id().domid.value(), 32751);
  EXPECT_EQ(second->id().domid.value(), 32750);
}

TEST_F(ProcessHypervisorTest, EveryGuestHasEntropyOfItsOwn) {
  auto first = create();
  auto second = create();
  auto one = first->take_link();
  auto two = second->take_link();
  EXPECT_NE(card_of(*one).fixed.entropy[0], card_of(*two).fixed.entropy[0]);
}

TEST_F(ProcessHypervisorTest, TheDoorbellGoesToTheWorkerThatWasSetLast) {
  auto vm = create();
  ASSERT_TRUE(vm->set_doorbell(WorkerId(1), 4711));
  auto link = vm->take_link();
  ASSERT_TRUE(link);
  EXPECT_NE(hypervisor_->doorbells(WorkerId(0)).fd(), hypervisor_->doorbells(WorkerId(1)).fd());
}

TEST_F(ProcessHypervisorTest, DestroyingAVmEndsItsProcessRunningOrPausedOrUnborn) {
  auto paused = create(1);
  auto running = create(2);
  auto link = running->take_link();
  ASSERT_TRUE(running->start());
  ASSERT_TRUE(runs(*link));
  link.reset();
  running.reset();
  paused.reset();
  create(3);  // destroyed before the zygote has answered
  EXPECT_TRUE(eventually([&] {
    EXPECT_FALSE(hypervisor_->next_event()) << "a guest that was destroyed has not died";
    return guests_in(descendants()) == 0;
  }));
}

TEST_F(ProcessHypervisorTest, AGuestThatIsKilledIsReportedWithItsGeneration) {
  auto vm = create(42);
  auto link = vm->take_link();
  ASSERT_TRUE(vm->start());
  ASSERT_TRUE(runs(*link));
  for (const auto& process : descendants())
    if (process.name.starts_with("unit-")) ::kill(process.pid, SIGSEGV);
  const auto event = wait_for_event(*hypervisor_);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->vm, vm->id());
  EXPECT_EQ(event->kind, VmEvent::Kind::kCrashed);
  EXPECT_THAT(event->detail, HasSubstr("signal 11"));
}

TEST_F(ProcessHypervisorTest, WhenTheZygoteDiesEveryGuestIsReportedAndTheNextOneHasAnother) {
  auto first = create(1);
  auto second = create(2);
  ASSERT_TRUE(eventually([&] { return guests_in(descendants()) == 2; }));
  for (const auto& process : descendants())
    if (process.name == "synfluid-zygote") ::kill(process.pid, SIGKILL);
  EXPECT_EQ(wait_for_event(*hypervisor_)->kind, VmEvent::Kind::kCrashed);
  EXPECT_EQ(wait_for_event(*hypervisor_)->kind, VmEvent::Kind::kCrashed);
  auto third = create(3);
  auto link = third->take_link();
  ASSERT_TRUE(third->start());
  EXPECT_TRUE(runs(*link));
}

TEST_F(ProcessHypervisorTest, MemoryIsCountedAndAGuestTooManyIsRefusedInOneLine) {
  hypervisor_.reset();
  image_.reset();
  start({.workers = 1, .memory_limit_bytes = 1400 * 1024});
  const uint64_t before = *hypervisor_->memory_left();
  auto first = create(1);
  auto second = create(2);
  EXPECT_LT(*hypervisor_->memory_left(), before - 2 * kSpec.memory_bytes + 1);
  auto third = hypervisor_->create(*image_, {.name = "unit-3", .generation = 3});
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code(), ErrorCode::kNoMemory);
  EXPECT_THAT(third.error().text(), HasSubstr("no memory for another guest process"));
  first.reset();
  EXPECT_TRUE(eventually([&] {
    hypervisor_->next_event();
    return hypervisor_->create(*image_, {.name = "unit-4", .generation = 4}).has_value();
  }));
}

TEST_F(ProcessHypervisorTest, ImagesThatItCannotRunAreRefusedByName) {
  auto foreign = hypervisor_->prepare({.service = "x", .image = "/srv/mini-os", .memory_bytes = 1 << 20});
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().text(), HasSubstr("'/srv/mini-os' needs Xen"));
  auto small = hypervisor_->prepare({.service = "x", .image = "builtin:responder", .memory_bytes = 4096});
  ASSERT_FALSE(small);
  EXPECT_THAT(small.error().text(), HasSubstr("too little"));
  EXPECT_FALSE(hypervisor_->prepare({.service = "x", .image = "builtin:nonsense", .memory_bytes = 1 << 20}));
}

TEST_F(ProcessHypervisorTest, AThousandGuestsComeAndGoAndLeaveNothing) {
  const uint64_t memory = *hypervisor_->memory_left();
  const size_t descriptors = open_descriptors();
  for (uint32_t i = 0; i < 1000; ++i) {
    auto vm = create(i);
    ASSERT_TRUE(vm);
    auto link = i % 3 == 0 ? nullptr : vm->take_link();
    if (i % 2 == 0) {
      ASSERT_TRUE(vm->start());
    }
    while (hypervisor_->next_event()) {
    }
  }
  EXPECT_TRUE(eventually([&] {
    while (hypervisor_->next_event()) {
    }
    return *hypervisor_->memory_left() == memory;
  }));
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_EQ(guests_in(descendants()), 0u);
}

/// The limit of descriptors under which so many can still be opened.
rlim_t limit_with(rlim_t spare) {
  int limit = 0;
  for (rlim_t found = 0; found < spare; ++limit) found += ::fcntl(limit, F_GETFD) < 0 ? 1 : 0;
  return static_cast<rlim_t>(limit);
}

TEST_F(ProcessHypervisorTest, WhereverDescriptorsRunOutCreateFailsInOneLineAndLeavesNothing) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const size_t descriptors = open_descriptors();
  int failures = 0;
  for (rlim_t spare = 0; spare < 6; ++spare) {
    const rlimit tight{limit_with(spare), limit.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    auto vm = hypervisor_->create(*image_, {.name = "unit-1", .generation = 1});
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (!vm) {
      ++failures;
      EXPECT_EQ(vm.error().code(), ErrorCode::kExhausted) << vm.error().text();
    }
    vm = Error(ErrorCode::kSystem, "gone");
    EXPECT_TRUE(eventually([&] {
      hypervisor_->next_event();
      return open_descriptors() == descriptors;
    })) << "with "
        << spare << " to spare";
  }
  EXPECT_EQ(failures, 4) << "one for each descriptor that a guest needs";
}

TEST_F(ProcessHypervisorTest, TheEndOfTheHypervisorLeavesNoProcess) {
  auto first = create(1);
  ASSERT_TRUE(eventually([&] { return guests_in(descendants()) == 1; }));
  first.reset();
  image_.reset();
  hypervisor_.reset();
  EXPECT_THAT(descendants(), IsEmpty());
}

/// Runs in a child of its own, which must exit by itself or be killed.
pid_t in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  return child;
}

int exit_status(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ProcessGuests, DieWithAGatewayThatIsKilled) {
  if (!probe_process_hypervisor()) GTEST_SKIP() << "guest processes cannot run here";
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t host = in_child([&] {
    auto hypervisor = make_process_hypervisor({.workers = 1});
    auto image = (*hypervisor)->prepare(kSpec);
    std::vector<std::unique_ptr<Vm>> vms;
    for (uint32_t i = 0; i < 5; ++i) {
      vms.push_back(std::move(*(*hypervisor)->create(**image, {.name = "unit", .generation = i})));
      if (i % 2 == 0 && !vms.back()->start()) return 1;
    }
    if (!eventually([] { return guests_in(descendants()) == 5; })) return 1;
    [[maybe_unused]] const ssize_t told = ::write(ready[1], "!", 1);
    for (;;) ::pause();
  });
  ::close(ready[1]);
  char told = 0;
  ASSERT_EQ(::read(ready[0], &told, 1), 1) << "the host did not get its guests";
  ::close(ready[0]);
  const auto family = descendants(host);
  EXPECT_EQ(guests_in(family), 5u);
  ::kill(host, SIGKILL);
  exit_status(host);
  EXPECT_TRUE(eventually([&] {
    const auto all = testing::all_processes();
    return std::none_of(all.begin(), all.end(), [&](const auto& process) {
      return std::any_of(family.begin(), family.end(), [&](const auto& member) {
        return member.pid == process.pid && member.name == process.name;
      });
    });
  })) << "guests survived their host";
}

TEST(ProcessGuests, RunForAnUnprivilegedUserToo) {
  if (::geteuid() != 0) GTEST_SKIP() << "the other tests show it";
  if (!probe_process_hypervisor()) GTEST_SKIP() << "guest processes cannot run here";
  const pid_t child = in_child([] {
    constexpr uid_t kNobody = 65534;
    if (::setresgid(kNobody, kNobody, kNobody) != 0 || ::setresuid(kNobody, kNobody, kNobody) != 0) return 2;
    ::prctl(PR_SET_DUMPABLE, 1);  // as after an exec
    const Status possible = probe_process_hypervisor();
    if (!possible) std::fprintf(stderr, "%s\n", possible.error().text().c_str());
    return possible ? 0 : 1;
  });
  EXPECT_EQ(exit_status(child), 0);
}

TEST(ProcessGuests, WhereNamespacesAreRefusedTheProbeNamesTheRemedy) {
  const pid_t child = in_child([] {
    // A user namespace of our own that allows no further one.
    if (::unshare(CLONE_NEWUSER) != 0) return 77;
    std::ofstream limit("/proc/sys/user/max_user_namespaces");
    limit << "0" << std::flush;
    if (!limit) return 77;
    const Status possible = probe_process_hypervisor();
    if (possible) return 1;
    const std::string& text = possible.error().text();
    std::fprintf(stderr, "%s\n", text.c_str());
    return text.find("user.max_user_namespaces") == std::string::npos ? 2 : 0;
  });
  const int status = exit_status(child);
  if (status == 77) GTEST_SKIP() << "cannot make a user namespace here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace synfluid::spawner
