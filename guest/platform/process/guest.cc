#include "guest/platform/process/guest.h"

#include <errno.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/time_types.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include "guest/platform/process/sandbox.h"
#include "guest/platform/process/syscalls.h"
#include "guest/platform/process/vdso.h"

namespace synfluid::guest::process {
namespace {

constexpr int kDoorbellIn = 0;
constexpr int kDoorbellOut = 1;
constexpr uint64_t kNsPerSecond = 1'000'000'000;
/// Room for the image, the stack and the vDSO beside what the guest maps.
constexpr uint64_t kOwnAddressSpace = 16ull << 20;

class ProcessPlatform final : public Platform {
 public:
  ProcessPlatform(std::byte* area, std::span<std::byte> memory) : area_(area), memory_(memory) {}

  /// The paused guest waits here for its start.
  void wait_for_start() {
    wait(kNever);
    started_ns_ = now_ns();
  }

  uint64_t now_ns() override { return monotonic_ns(); }
  uint64_t started_ns() override { return started_ns_; }

  void wait(uint64_t deadline_ns) override {
    // A doorbell that blocks saves a system call where there is no deadline.
    if (deadline_ns == kNever && take_ring() != -EAGAIN) return;
    pollfd doorbell{kDoorbellIn, POLLIN, 0};
    __kernel_timespec timeout{};
    if (deadline_ns != kNever) {
      const uint64_t now = now_ns();
      if (deadline_ns <= now) return;
      timeout.tv_sec = static_cast<int64_t>((deadline_ns - now) / kNsPerSecond);
      timeout.tv_nsec = static_cast<int64_t>((deadline_ns - now) % kNsPerSecond);
    }
    const int64_t ready =
        system_call(__NR_ppoll, &doorbell, 1, deadline_ns == kNever ? nullptr : &timeout, nullptr, 0);
    if (ready > 0) take_ring();
  }

  /// Some 5 us: less than a wake-up costs the two sides.
  uint32_t polls_before_wait() const override { return 200; }

  void ring_host() override {
    const uint64_t one = 1;
    system_call(__NR_write, kDoorbellOut, &one, sizeof(one));
  }

  [[noreturn]] void halt(const char*) override { exit_group(kExitHalted); }
  std::byte* shared_area() override { return area_; }
  std::span<std::byte> memory() override { return memory_; }

 private:
  static int64_t take_ring() {
    uint64_t rings;
    return system_call(__NR_read, kDoorbellIn, &rings, sizeof(rings));
  }

  std::byte* area_;
  std::span<std::byte> memory_;
  uint64_t started_ns_ = 0;
};

std::byte* map(uint64_t bytes, int flags, int fd) {
  const int64_t at = system_call(__NR_mmap, nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return at < 0 && at > -4096 ? nullptr : reinterpret_cast<std::byte*>(at);
}

/// Leaves the doorbells as 0 and 1 and nothing else open. The doorbells are above 3, where the zygote
/// received them.
bool keep_doorbells(const GuestFds& fds) {
  return system_call(__NR_dup2, fds.fd[kDoorbellInFd], kDoorbellIn) >= 0 &&
         system_call(__NR_dup2, fds.fd[kDoorbellOutFd], kDoorbellOut) >= 0 &&
         system_call(__NR_close_range, 2u, ~0u, 0) == 0;
}

uint64_t working_bytes(const ZygoteRequest& request) {
  const uint64_t wanted = request.memory_bytes < kMinMemoryBytes ? kMinMemoryBytes : request.memory_bytes;
  return (wanted < kMaxGuestMemory ? wanted : kMaxGuestMemory) & ~uint64_t{abi::kPageBytes - 1};
}

}  // namespace

void become_guest(const ZygoteRequest& request, const GuestFds& fds) {
  const uint64_t area_bytes = uint64_t{request.area_pages} * abi::kPageBytes;
  const uint64_t memory_bytes = working_bytes(request);
  std::byte* area = map(area_bytes, MAP_SHARED, fds.fd[kAreaFd]);
  std::byte* memory = map(memory_bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (area == nullptr || memory == nullptr) exit_group(kExitNoArea);
  system_call(__NR_prctl, PR_SET_NAME, &request.name[0]);
  system_call(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (!keep_doorbells(fds) || !seal_guest(area_bytes + memory_bytes + kOwnAddressSpace))
    exit_group(kExitNoSeal);

  ProcessPlatform platform(area, {memory, memory_bytes});
  platform.wait_for_start();
  const auto& card = *reinterpret_cast<const abi::Card*>(area);
  if (card.fixed.magic != abi::kCardMagic || abi::shared_pages(card.fixed.buffers) > request.area_pages)
    exit_group(kExitNoArea);
  sealed_main(platform);
}

}  // namespace synfluid::guest::process
