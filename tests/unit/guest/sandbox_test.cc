// The walls of a guest process, from inside and from outside, and the zygote's protocol.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <gtest/gtest.h>

#include "guest/images.h"
#include "tests/unit/guest/frames.h"
#include "tests/unit/guest/zygote_client.h"

namespace synfluid::guest::testing {
namespace {

using process::ZygoteReplyKind;
using process::ZygoteStage;

std::vector<std::byte> probe_image() {
  std::ifstream file(SYNFLUID_PROBE_IMAGE, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto* first = reinterpret_cast<const std::byte*>(bytes.data());
  return {first, first + bytes.size()};
}

/// The guest's process id as we see it.
std::string pid_of(const UniqueFd& pidfd) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(pidfd.get()));
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("Pid:")) return line.substr(line.find_last_of(" \t") + 1);
  return "";
}

std::string status_of(const std::string& pid, const std::string& key) {
  std::ifstream status("/proc/" + pid + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key + ":")) return line.substr(line.find_last_of(" \t") + 1);
  return "";
}

class Sandbox : public ::testing::Test {
 protected:
  /// A started zygote; none where the kernel allows no namespaces.
  void start(std::span<const std::byte> image) {
    zygote_ = std::make_unique<ZygoteClient>(image);
    const ZygoteAnswer ready = zygote_->receive();
    if (ready.reply.kind == ZygoteReplyKind::kFailed && ready.reply.stage == ZygoteStage::kNamespaces)
      GTEST_SKIP() << "no namespaces here: errno " << ready.reply.value;
    ASSERT_EQ(ready.reply.kind, ZygoteReplyKind::kReady)
        << "stage " << static_cast<int>(ready.reply.stage) << " errno " << ready.reply.value;
  }

  std::unique_ptr<ZygoteClient> zygote_;
};

class Probe : public Sandbox {
 protected:
  void SetUp() override {
    image_ = probe_image();
    start(image_);
  }

  struct Outcome {
    int status = 0;
    std::string note;
  };
  Outcome attempt(const std::string& what) {
    ProcessGuest guest({.config = "attempt " + what + "\n"});
    const ZygoteAnswer spawned = zygote_->spawn(guest, 1);
    EXPECT_EQ(spawned.reply.kind, ZygoteReplyKind::kSpawned);
    guest.ring();
    const ZygoteAnswer exited = zygote_->receive();
    EXPECT_EQ(exited.reply.kind, ZygoteReplyKind::kExited);
    EXPECT_EQ(exited.reply.pid, spawned.reply.pid);
    return {exited.reply.value, guest.host().card().guest.death_note};
  }

  std::vector<std::byte> image_;
};

TEST_F(Probe, WhatAGuestMayDoIsAnswered) {
  for (const char* what : {"nothing", "clock"}) {
    const Outcome outcome = attempt(what);
    EXPECT_TRUE(WIFEXITED(outcome.status)) << what;
    EXPECT_EQ(outcome.note, "answered 0") << what;
  }
}

TEST_F(Probe, NeitherFileNorSocketNorAnythingElseCanBeHad) {
  for (const char* what : {"openat",
                           "open",
                           "socket",
                           "unix-socket",
                           "execve",
                           "fork",
                           "clone3",
                           "ptrace",
                           "kill",
                           "mmap",
                           "mprotect",
                           "memfd",
                           "io_uring",
                           "bpf",
                           "unshare",
                           "prctl",
                           "read-other-descriptor",
                           "write-other-descriptor",
                           "x32-write",
                           "int80-open"}) {
    const Outcome outcome = attempt(what);
    EXPECT_TRUE(WIFSIGNALED(outcome.status)) << what << ": " << outcome.note;
    EXPECT_EQ(WTERMSIG(outcome.status), SIGSYS) << what;
    EXPECT_EQ(outcome.note, "trying") << what;
  }
}

class Guests : public Sandbox {
 protected:
  void SetUp() override { start(process_image()); }
};

TEST_F(Guests, AGuestHasNothingButItsDoorbells) {
  ProcessGuest guest({});
  const ZygoteAnswer spawned = zygote_->spawn(guest, 42);
  ASSERT_EQ(spawned.reply.kind, ZygoteReplyKind::kSpawned);
  EXPECT_EQ(spawned.reply.cookie, 42u);
  guest.ring();
  // Its first frame back proves that it is sealed: it runs the core only after that.
  ASSERT_TRUE(guest.host().push(build(Tcp{.seq = 1, .flags = kS})));
  guest.host().publish();
  guest.ring();
  ASSERT_TRUE(guest.heard());
  const std::string pid = pid_of(spawned.pidfd);
  EXPECT_EQ(status_of(pid, "Name"), "sf-test");
  EXPECT_EQ(status_of(pid, "Seccomp"), "2");
  EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_EQ(status_of(pid, set), "0000000000000000") << set;
  if (geteuid() != 0) GTEST_SKIP() << "only root may look at a guest's descriptors and mounts";
  std::vector<std::string> descriptors;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + pid + "/fd"))
    descriptors.push_back(std::filesystem::read_symlink(entry.path()).string());
  EXPECT_EQ(descriptors, (std::vector<std::string>{"anon_inode:[eventfd]", "anon_inode:[eventfd]"}));
  std::ifstream mounts("/proc/" + pid + "/mountinfo");
  const std::string text((std::istreambuf_iterator<char>(mounts)), std::istreambuf_iterator<char>());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  for (const char* name : {"net", "mnt", "pid", "ipc", "uts"}) {
    const std::string theirs = std::filesystem::read_symlink("/proc/" + pid + "/ns/" + name).string();
    EXPECT_NE(theirs, std::filesystem::read_symlink(std::string("/proc/self/ns/") + name).string());
  }
}

TEST_F(Guests, AGuestDoesNothingBeforeItsFirstRing) {
  ProcessGuest guest({});
  ASSERT_EQ(zygote_->spawn(guest, 1).reply.kind, ZygoteReplyKind::kSpawned);
  ASSERT_TRUE(guest.host().push(build(Tcp{.seq = 1, .flags = kS})));
  guest.host().publish();
  EXPECT_FALSE(guest.heard(20));
  EXPECT_EQ(guest.host().card().guest.phase, abi::GuestPhase::kNotStarted);
  guest.ring();
  ASSERT_TRUE(guest.heard());
  EXPECT_EQ(guest.host().card().guest.phase, abi::GuestPhase::kRunning);
  const auto frames = guest.host().pull();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(dissect(frames[0]).flags, kS | kA);
}

TEST_F(Guests, ManyGuestsLiveSideBySideAndAKilledOneIsReported) {
  constexpr uint64_t kGuests = 64;
  std::vector<std::unique_ptr<ProcessGuest>> guests;
  std::vector<ZygoteAnswer> spawned;
  for (uint64_t i = 0; i < kGuests; ++i) {
    guests.push_back(std::make_unique<ProcessGuest>(AreaConfig{.domid = static_cast<uint32_t>(100 + i)}));
    spawned.push_back(zygote_->spawn(*guests.back(), i));
    ASSERT_EQ(spawned.back().reply.kind, ZygoteReplyKind::kSpawned);
    EXPECT_EQ(spawned.back().reply.cookie, i);
  }
  for (const auto& guest : guests) {
    ASSERT_TRUE(guest->host().push(build(Tcp{.seq = 1, .flags = kS})));
    guest->host().publish();
    guest->ring();
  }
  for (const auto& guest : guests) EXPECT_TRUE(guest->heard());
  ASSERT_EQ(syscall(SYS_pidfd_send_signal, spawned[7].pidfd.get(), SIGKILL, nullptr, 0), 0);
  const ZygoteAnswer exited = zygote_->receive();
  EXPECT_EQ(exited.reply.kind, ZygoteReplyKind::kExited);
  EXPECT_EQ(exited.reply.pid, spawned[7].reply.pid);
  EXPECT_TRUE(WIFSIGNALED(exited.reply.value));
}

TEST_F(Guests, AllGuestsDieWithTheHostsEndOfTheSocket) {
  ProcessGuest guest({});
  const ZygoteAnswer spawned = zygote_->spawn(guest, 1);
  ASSERT_EQ(spawned.reply.kind, ZygoteReplyKind::kSpawned);
  EXPECT_EQ(zygote_->stop(), 0);
  pollfd gone{spawned.pidfd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&gone, 1, 5000), 1);
}

TEST_F(Guests, ARequestWithoutItsDescriptorsIsRefusedAndTheNextOneServed) {
  ProcessGuest guest({});
  for (const uint32_t descriptors : {0u, 1u, 2u}) {
    zygote_->request(guest, 9, descriptors);
    const ZygoteAnswer refused = zygote_->receive();
    EXPECT_EQ(refused.reply.kind, ZygoteReplyKind::kRefused);
    EXPECT_EQ(refused.reply.cookie, 9u);
    EXPECT_EQ(refused.reply.stage, ZygoteStage::kRequest);
  }
  EXPECT_EQ(zygote_->spawn(guest, 10).reply.kind, ZygoteReplyKind::kSpawned);
}

TEST_F(Guests, ACardOfAnotherVersionEndsTheGuest) {
  ProcessGuest guest({});
  guest.host().card().fixed.magic = 0;
  ASSERT_EQ(zygote_->spawn(guest, 1).reply.kind, ZygoteReplyKind::kSpawned);
  guest.ring();
  const ZygoteAnswer exited = zygote_->receive();
  ASSERT_TRUE(WIFEXITED(exited.reply.value));
  EXPECT_EQ(WEXITSTATUS(exited.reply.value), process::kExitNoArea);
  EXPECT_EQ(guest.host().card().guest.phase, abi::GuestPhase::kNotStarted);
}

}  // namespace
}  // namespace synfluid::guest::testing
