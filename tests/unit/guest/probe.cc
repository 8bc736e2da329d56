// A guest that tries to get out: what sealed_main() is in the image that tests the sandbox. The card's
// configuration says what to try ("attempt <name>"); the card's death note says "trying" before, and what the
// kernel answered after.
#include <asm/unistd.h>

#include "guest/platform/process/guest.h"
#include "guest/platform/process/syscalls.h"
#include "guest/services/config.h"
#include "guest/services/text.h"

namespace synfluid::guest::process {
namespace {

int64_t attempt(std::string_view what, std::byte* area) {
  uint64_t word = 1;
  if (what == "nothing") return 0;
  if (what == "clock") return system_call(__NR_clock_gettime, 1, &word);
  if (what == "openat") return system_call(__NR_openat, -100, "/", 0);
  if (what == "open") return system_call(__NR_open, "/proc/self/mem", 2);
  if (what == "socket") return system_call(__NR_socket, 2, 1, 0);
  if (what == "unix-socket") return system_call(__NR_socket, 1, 1, 0);
  if (what == "execve") return system_call(__NR_execve, "/bin/sh", nullptr, nullptr);
  if (what == "fork") return system_call(__NR_fork);
  if (what == "clone3") return system_call(__NR_clone3, &word, sizeof(word));
  if (what == "ptrace") return system_call(__NR_ptrace, 0, 0, 0, 0);
  if (what == "kill") return system_call(__NR_kill, 1, 9);
  if (what == "mmap") return system_call(__NR_mmap, nullptr, 4096, 7, 0x22, -1, 0);
  if (what == "mprotect") return system_call(__NR_mprotect, area, 4096, 7);
  if (what == "memfd") return system_call(__NR_memfd_create, "x", 0);
  if (what == "io_uring") return system_call(__NR_io_uring_setup, 1, &word);
  if (what == "bpf") return system_call(__NR_bpf, 0, &word, sizeof(word));
  if (what == "unshare") return system_call(__NR_unshare, 0x10000000);
  if (what == "prctl") return system_call(__NR_prctl, 38, 1, 0, 0, 0);
  if (what == "read-other-descriptor") return system_call(__NR_read, kZygoteSocket, &word, sizeof(word));
  if (what == "write-other-descriptor") return system_call(__NR_write, 2, &word, sizeof(word));
  if (what == "x32-write") return system_call(__NR_write | 0x40000000, 1, &word, sizeof(word));
  if (what == "int80-open") {
    int64_t result;
    asm volatile("int $0x80"
                 : "=a"(result)
                 : "a"(5), "b"(0), "c"(0), "d"(0)
                 : "memory", "r8", "r9", "r10", "r11");
    return result;
  }
  return -1;
}

}  // namespace

void sealed_main(Platform& platform) {
  auto& card = *reinterpret_cast<abi::Card*>(platform.shared_area());
  write_death_note(card, "trying");
  std::string_view what = "nothing";
  ConfigReader config(card);
  for (ConfigLine line; config.next(line);)
    if (line.key == "attempt") what = line.value;
  const int64_t result = attempt(what, platform.shared_area());
  char note[64] = {};
  TextWriter(note)
      .text(result < 0 ? "answered -" : "answered ")
      .number(static_cast<uint64_t>(result < 0 ? -result : result));
  write_death_note(card, note);
  platform.ring_host();
  exit_group(kExitHalted);
}

}  // namespace synfluid::guest::process
