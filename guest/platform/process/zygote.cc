// The zygote: makes the walls, then forks a guest for every request. See zygote.h.
#include "guest/platform/process/zygote.h"

#include <elf.h>
#include <errno.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "guest/platform/process/guest.h"
#include "guest/platform/process/sandbox.h"
#include "guest/platform/process/syscalls.h"
#include "guest/platform/process/vdso.h"

namespace synfluid::guest::process {
namespace {

constexpr uint64_t kNamespaces =
    CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
/// How the first attempt says that user namespaces are refused here.
constexpr int kExitNoUserNamespace = 77;

template <class Message, size_t Descriptors>
struct Envelope {
  static constexpr size_t kControlBytes = CMSG_SPACE(Descriptors * sizeof(int));
  Message message{};
  iovec vector{};
  alignas(cmsghdr) unsigned char control[kControlBytes] = {};
  msghdr header{};

  Envelope() {
    vector = {&message, sizeof(message)};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = &control[0];
    header.msg_controllen = sizeof(control);
  }
  cmsghdr* first() { return reinterpret_cast<cmsghdr*>(&control[0]); }
  int* descriptors() { return reinterpret_cast<int*>(CMSG_DATA(first())); }
};

void reply(const ZygoteReply& message, int descriptor = -1) {
  Envelope<ZygoteReply, 1> out;
  out.message = message;
  if (descriptor >= 0) {
    *out.first() = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    *out.descriptors() = descriptor;
  } else {
    out.header.msg_control = nullptr;
    out.header.msg_controllen = 0;
  }
  system_call(__NR_sendmsg, kZygoteSocket, &out.header, MSG_NOSIGNAL);
}

[[noreturn]] void fail(SandboxError error) {
  reply({.kind = ZygoteReplyKind::kFailed, .stage = error.stage, .value = error.error});
  exit_group(1);
}

int64_t clone(uint64_t flags, int* pidfd = nullptr) {
  clone_args args{};
  args.flags = flags | (pidfd == nullptr ? 0 : CLONE_PIDFD);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = SIGCHLD;
  return system_call(__NR_clone3, &args, sizeof(args));
}

/// Waits for the one child and says how it ended.
int wait_for(int64_t child) {
  int status = 0;
  while (system_call(__NR_wait4, child, &status, 0, nullptr) == -EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/// Where guests come from once the walls stand.
class Zygote {
 public:
  [[noreturn]] void run() {
    const uint64_t children = uint64_t{1} << (SIGCHLD - 1);
    system_call(__NR_rt_sigprocmask, SIG_BLOCK, &children, nullptr, sizeof(children));
    signals_ = static_cast<int>(system_call(__NR_signalfd4, -1, &children, sizeof(children), SFD_NONBLOCK));
    if (signals_ < 0) fail({ZygoteStage::kSocket, -signals_});
    for (;;) turn();
  }

 private:
  void turn() {
    pollfd ready[2] = {{kZygoteSocket, POLLIN, 0}, {signals_, POLLIN, 0}};
    system_call(__NR_ppoll, &ready[0], 2, nullptr, nullptr, 0);
    if (ready[1].revents != 0) reap();
    if (ready[0].revents != 0) serve();
  }

  void reap() {
    signalfd_siginfo info;
    while (system_call(__NR_read, signals_, &info, sizeof(info)) > 0) {
    }
    int status = 0;
    for (int64_t pid; (pid = system_call(__NR_wait4, -1, &status, WNOHANG, nullptr)) > 0;)
      reply({.kind = ZygoteReplyKind::kExited, .pid = static_cast<int32_t>(pid), .value = status});
  }

  void serve() {
    Envelope<ZygoteRequest, kZygoteFds> in;
    const int64_t got = system_call(__NR_recvmsg, kZygoteSocket, &in.header, 0);
    if (got == 0) exit_group(0);
    if (got < 0) {
      if (got == -EINTR || got == -EAGAIN) return;
      exit_group(1);
    }
    GuestFds fds;
    const uint32_t count = descriptors_of(in, fds);
    const ZygoteRequest& request = in.message;
    const bool known = got == sizeof(request) && request.magic == kZygoteMagic &&
                       request.version == kZygoteVersion && request.area_pages >= abi::kFirstBufferPage &&
                       request.area_pages <= abi::shared_pages(abi::kMaxBuffers);
    if (known && count == kZygoteFds)
      spawn(request, fds);
    else
      reply({.kind = ZygoteReplyKind::kRefused,
             .cookie = request.cookie,
             .stage = ZygoteStage::kRequest,
             .value = EINVAL});
    for (uint32_t i = 0; i < count; ++i) system_call(__NR_close, fds.fd[i]);
  }

  static uint32_t descriptors_of(Envelope<ZygoteRequest, kZygoteFds>& in, GuestFds& fds) {
    const cmsghdr* header = in.first();
    if (in.header.msg_controllen < sizeof(cmsghdr) || header->cmsg_level != SOL_SOCKET ||
        header->cmsg_type != SCM_RIGHTS)
      return 0;
    const auto count = static_cast<uint32_t>((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (uint32_t i = 0; i < count && i < kZygoteFds; ++i) fds.fd[i] = in.descriptors()[i];
    return count < kZygoteFds ? count : static_cast<uint32_t>(kZygoteFds);
  }

  void spawn(const ZygoteRequest& request, const GuestFds& fds) {
    int pidfd = -1;
    const int64_t pid = clone(0, &pidfd);
    if (pid == 0) become_guest(request, fds);
    if (pid < 0) {
      reply({.kind = ZygoteReplyKind::kRefused,
             .cookie = request.cookie,
             .stage = ZygoteStage::kClone,
             .value = static_cast<int32_t>(-pid)});
      return;
    }
    reply({.kind = ZygoteReplyKind::kSpawned, .cookie = request.cookie, .pid = static_cast<int32_t>(pid)},
          pidfd);
    system_call(__NR_close, pidfd);
  }

  int signals_ = -1;
};

/// Process 1 of the new namespaces.
[[noreturn]] void run_inside(UserNamespace kind) {
  if (const SandboxError error = enter_empty_root(); error.failed()) fail(error);
  if (const SandboxError error = drop_privileges(kind); error.failed()) fail(error);
  system_call(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
  system_call(__NR_prctl, PR_SET_NAME, "synfluid-zygote");
  reply({.kind = ZygoteReplyKind::kReady, .value = kind == UserNamespace::kNew ? 1 : 0});
  Zygote().run();
}

/// Makes the namespaces and stays as their parent. Returns only if the kernel refuses them.
int64_t enter_namespaces(UserNamespace kind) {
  const int64_t child = clone(kNamespaces | (kind == UserNamespace::kNew ? CLONE_NEWUSER : 0));
  if (child == 0) run_inside(kind);
  if (child < 0) return child;
  system_call(__NR_close, kZygoteSocket);
  exit_group(wait_for(child));
}

/// Root makes its user namespace as nobody, in a process of its own, so that it can still try without one.
void try_as_nobody() {
  const int64_t attempt = clone(0);
  if (attempt == 0) {
    if (become_nobody().failed() || enter_namespaces(UserNamespace::kNew) < 0)
      exit_group(kExitNoUserNamespace);
  }
  const int code = attempt < 0 ? kExitNoUserNamespace : wait_for(attempt);
  if (code != kExitNoUserNamespace) exit_group(code);
}

}  // namespace

/// `stack` is as the kernel leaves it: argc, argv, 0, environment, 0, auxiliary vector.
[[noreturn]] void zygote_main(uint64_t* stack) {
  uint64_t* at = stack + 1 + stack[0] + 1;
  while (*at != 0) ++at;
  for (++at; at[0] != AT_NULL; at += 2)
    if (at[0] == AT_SYSINFO_EHDR) find_vdso_clock(at[1]);

  system_call(__NR_close_range, 0u, static_cast<unsigned>(kZygoteSocket - 1), 0);
  system_call(__NR_close_range, static_cast<unsigned>(kZygoteSocket + 1), ~0u, 0);
  const bool is_root = system_call(__NR_geteuid) == 0;
  if (is_root) try_as_nobody();
  const int64_t error = enter_namespaces(is_root ? UserNamespace::kKept : UserNamespace::kNew);
  fail({ZygoteStage::kNamespaces, static_cast<int>(-error)});
}

}  // namespace synfluid::guest::process

extern "C" [[noreturn]] [[gnu::used]] void zygote_entry(uint64_t* stack) {
  synfluid::guest::process::zygote_main(stack);
}

asm(R"(
  .globl _start
_start:
  xor %ebp, %ebp
  mov %rsp, %rdi
  and $-16, %rsp
  call zygote_entry
)");
