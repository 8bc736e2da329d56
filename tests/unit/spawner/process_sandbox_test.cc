// The walls around a guest process, tried from inside: a debugger makes the running guest attempt what it
// must not.
//
// The attempts use no code of the guest's: its registers are set to the forbidden system call while it
// sleeps, so the test needs no door that production code would have to have.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "base/abi/card.h"
#include "base/clock.h"
#include "spawner/process/process_hypervisor.h"
#include "tests/unit/spawner/processes.h"

namespace synfluid::spawner {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kPatienceNs = 30 * kNsPerSecond;

struct Call {
  std::string name;
  long number;
  std::array<unsigned long, 6> arguments = {};
};

/// The guest as its host sees it in /proc.
class GuestProcess {
 public:
  explicit GuestProcess(pid_t pid) : pid_(pid) {}

  std::filesystem::path proc(const std::string& file) const {
    return std::filesystem::path("/proc") / std::to_string(pid_) / file;
  }
  std::string status(const std::string& key) const {
    std::ifstream file(proc("status"));
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(key + ":")) return line.substr(line.find_first_not_of("\t ", key.size() + 1));
    return "";
  }
  std::string namespace_of(const std::string& kind) const {
    return std::filesystem::read_symlink(proc("ns/" + kind)).string();
  }

  /// Makes it issue one system call of ours. Returns the call's result; nothing if the guest died of it.
  std::optional<long> attempt(const Call& call) const {
    int state = 0;
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, nullptr) != 0) return fault("PTRACE_SEIZE");
    if (::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0) return fault("PTRACE_INTERRUPT");
    if (::waitpid(pid_, &state, __WALL) != pid_ || !WIFSTOPPED(state)) return fault("stopping the guest");
    user_regs_struct saved{};
    if (::ptrace(PTRACE_GETREGS, pid_, nullptr, &saved) != 0) return fault("PTRACE_GETREGS");
    user_regs_struct regs = saved;
    regs.rip -= 2;         // it sleeps in a system call: back to the instruction itself
    regs.orig_rax = ~0ul;  // and no restart of the call that was interrupted
    regs.rax = static_cast<unsigned long>(call.number);
    regs.rdi = call.arguments[0];
    regs.rsi = call.arguments[1];
    regs.rdx = call.arguments[2];
    regs.r10 = call.arguments[3];
    regs.r8 = call.arguments[4];
    regs.r9 = call.arguments[5];
    ::ptrace(PTRACE_SETREGS, pid_, nullptr, &regs);
    if (::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr) != 0) return fault("PTRACE_SINGLESTEP");
    if (::waitpid(pid_, &state, __WALL) != pid_) return fault("waiting for the guest");
    if (!WIFSTOPPED(state)) return std::nullopt;
    ::ptrace(PTRACE_GETREGS, pid_, nullptr, &regs);
    const auto result = static_cast<long>(regs.rax);
    ::ptrace(PTRACE_SETREGS, pid_, nullptr, &saved);
    ::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
    return result;
  }

 private:
  std::optional<long> fault(const char* what) const {
    ADD_FAILURE() << what << ": " << std::strerror(errno);
    return 0;
  }
  const pid_t pid_;
};

class ProcessSandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const Status possible = probe_process_hypervisor(); !possible)
      GTEST_SKIP() << possible.error().text();
    if (::geteuid() != 0) GTEST_SKIP() << "only root may look into a guest";
    hypervisor_ = std::move(*make_process_hypervisor({.workers = 1}));
    image_ = std::move(
        *hypervisor_->prepare({.service = "wall", .image = "builtin:responder", .memory_bytes = 512 * 1024}));
  }

  bool eventually(const std::function<bool()>& condition) {
    const SteadyClock clock;
    for (const int64_t end = clock.now_ns() + kPatienceNs; !condition(); ::sched_yield())
      if (clock.now_ns() > end) return false;
    return true;
  }

  /// A guest that runs and sleeps for its first frame.
  GuestProcess running_guest() {
    vm_.reset();
    EXPECT_TRUE(eventually([&] { return guests().empty(); }));
    vm_ = std::move(*hypervisor_->create(*image_, {.name = "wall"}));
    link_ = vm_->take_link();
    EXPECT_TRUE(vm_->start());
    const volatile abi::GuestPhase& phase = reinterpret_cast<const abi::Card*>(link_->card())->guest.phase;
    EXPECT_TRUE(eventually([&] { return phase == abi::GuestPhase::kRunning && guests().size() == 1; }));
    const pid_t pid = guests().front();
    EXPECT_TRUE(eventually(
        [&] { return testing::contents(GuestProcess(pid).proc("stat")).find(") S") != std::string::npos; }));
    return GuestProcess(pid);
  }

  static std::vector<pid_t> guests() {
    std::vector<pid_t> found;
    for (const auto& process : testing::descendants())
      if (process.name.starts_with("wall-")) found.push_back(process.pid);
    return found;
  }

  std::string why_it_died() {
    std::optional<VmEvent> event;
    eventually([&] { return (event = hypervisor_->next_event()).has_value(); });
    return event ? event->detail : "it did not die";
  }

  std::unique_ptr<Hypervisor> hypervisor_;
  std::unique_ptr<PreparedImage> image_;
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<backend::GuestLink> link_;
};

TEST_F(ProcessSandboxTest, WhatAGuestNeedsIsAllowedSoTheAttemptsBelowMeanSomething) {
  const GuestProcess guest = running_guest();
  EXPECT_EQ(guest.attempt({"write to its doorbell, from nowhere", SYS_write, {1, 0, 8}}), -EFAULT);
  EXPECT_EQ(guest.attempt({"clock_gettime, to nowhere", SYS_clock_gettime, {CLOCK_MONOTONIC, 1}}), -EFAULT);
  EXPECT_EQ(guests().size(), 1u);
}

class ForbiddenCall : public ProcessSandboxTest, public ::testing::WithParamInterface<Call> {};

TEST_P(ForbiddenCall, KillsTheGuestThatAttemptsIt) {
  const GuestProcess guest = running_guest();
  EXPECT_FALSE(guest.attempt(GetParam())) << "the call returned";
  EXPECT_THAT(why_it_died(), HasSubstr("its sandbox forbids"));
}

constexpr auto kHere = static_cast<unsigned long>(AT_FDCWD);

INSTANTIATE_TEST_SUITE_P(
    Guest, ForbiddenCall,
    ::testing::Values(Call{"open", SYS_open, {0, O_RDONLY}}, Call{"openat", SYS_openat, {kHere, 0, O_RDONLY}},
                      Call{"openat2", SYS_openat2, {kHere, 0, 0, 24}}, Call{"creat", SYS_creat, {0, 0600}},
                      Call{"socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
                      Call{"unix_socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
                      Call{"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}},
                      Call{"memfd", SYS_memfd_create, {0, 0}}, Call{"io_uring", SYS_io_uring_setup, {1, 0}},
                      Call{"execve", SYS_execve, {0, 0, 0}}, Call{"fork", SYS_fork}, Call{"clone", SYS_clone},
                      Call{"ptrace", SYS_ptrace, {PTRACE_TRACEME}}, Call{"kill", SYS_kill, {1, SIGKILL}},
                      Call{"mmap_executable", SYS_mmap, {0, 4096, 7, 0x22, ~0ul, 0}},
                      Call{"mprotect", SYS_mprotect, {0, 4096, 7}}, Call{"dup", SYS_dup, {0}},
                      Call{"mount", SYS_mount}, Call{"setuid", SYS_setuid, {0}},
                      Call{"unshare", SYS_unshare, {CLONE_NEWUSER}}, Call{"prctl", SYS_prctl},
                      Call{"read_of_another_descriptor", SYS_read, {3, 0, 8}},
                      Call{"read_of_the_outward_doorbell", SYS_read, {1, 0, 8}},
                      Call{"write_to_the_inward_doorbell", SYS_write, {0, 0, 8}},
                      Call{"a_call_of_another_abi", 0x40000000L | SYS_read, {0, 0, 8}}),
    [](const auto& call) { return call.param.name; });

TEST_F(ProcessSandboxTest, AGuestHoldsItsTwoDoorbellsAndNoOtherDescriptor) {
  const GuestProcess guest = running_guest();
  std::vector<std::string> held;
  for (const auto& entry : std::filesystem::directory_iterator(guest.proc("fd")))
    held.push_back(std::filesystem::read_symlink(entry).string());
  EXPECT_EQ(held.size(), 2u);
  EXPECT_THAT(held, Each(HasSubstr("eventfd")));
}

TEST_F(ProcessSandboxTest, AGuestHasNoPrivilegeAndCannotGainAny) {
  const GuestProcess guest = running_guest();
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(guest.status(set), "0000000000000000") << set;
  EXPECT_EQ(guest.status("NoNewPrivs"), "1");
  EXPECT_EQ(guest.status("Seccomp"), "2");
  EXPECT_THAT(guest.status("Uid"), ::testing::Not(::testing::StartsWith("0\t")));
}

TEST_F(ProcessSandboxTest, AGuestIsInNamespacesOfItsOwnWithAnEmptyRoot) {
  const GuestProcess guest = running_guest();
  const GuestProcess host(::getpid());
  for (const char* kind : {"net", "mnt", "pid", "ipc", "uts", "cgroup"})
    EXPECT_NE(guest.namespace_of(kind), host.namespace_of(kind)) << kind;
  EXPECT_THAT(
      std::vector<std::filesystem::path>(std::filesystem::directory_iterator(guest.proc("root/")), {}),
      IsEmpty());
}

}  // namespace
}  // namespace synfluid::spawner
