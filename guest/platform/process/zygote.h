// The protocol between the host's `process` hypervisor and the zygote: the small static program
// (guest/images.h) that forks a guest for each request.
//
// Start: the host runs the image (memfd, then fexecve or "/proc/self/fd/N") with one end of a SOCK_SEQPACKET
// pair as file descriptor kZygoteSocket; every other descriptor is closed by the program itself. It makes its
// own namespaces (user, pid, mount, network, IPC, UTS, cgroup; as root on a kernel that refuses user
// namespaces, all the others), an empty read-only root, and has no capabilities and no_new_privs before it
// says kReady. What goes wrong on the way is said in kFailed; then the program exits.
//
// The program the host started stays as the parent of the pid namespace's init and exits with it. When the
// host closes its end of the socket, or dies, the zygote exits, and the kernel kills every guest with it.
//
// A request makes one guest: it maps the area, drops every descriptor but its two doorbells, seals itself
// (seccomp: read and write on those two, ppoll, clock_gettime, exit_group; anything else kills it), and then
// waits for the first ring of doorbell_in before it looks at the card: this is the paused guest, and the ring
// is its start. The host sees it in kSpawned, with a pidfd: pidfd_send_signal(SIGKILL) destroys a guest at
// any time, paused or not, and the pidfd is readable when it is gone. The zygote reaps, and reports every end
// in kExited.
//
// Order: replies to requests come in the order of the requests; kExited of a guest comes after its kSpawned,
// and names it by its pid, which no other guest gets before. The zygote waits when the host does not read its
// replies. Layout: packed by hand, host byte order; both sides are built from this header.
#pragma once

#include <cstddef>
#include <cstdint>

namespace synfluid::guest::process {

inline constexpr int kZygoteSocket = 3;
inline constexpr uint32_t kZygoteMagic = 0x47594e53;  // "SNYG"
inline constexpr uint32_t kZygoteVersion = 1;

/// Descriptors that travel with a request (SCM_RIGHTS), in this order. They stay the host's own as well; the
/// doorbells are eventfds, best without EFD_NONBLOCK on doorbell_in (either works).
enum ZygoteFd : uint32_t {
  kAreaFd = 0,         ///< memfd of shared_pages(buffers) pages, with the card filled in
  kDoorbellInFd = 1,   ///< the host rings the guest
  kDoorbellOutFd = 2,  ///< the guest rings the host
  kZygoteFds = 3,
};

struct ZygoteRequest {
  uint32_t magic = kZygoteMagic;
  uint32_t version = kZygoteVersion;
  uint64_t cookie = 0;      ///< the host's own name for the guest, given back in the reply to this request
  uint32_t area_pages = 0;  ///< 3 + buffers
  uint32_t reserved = 0;
  uint64_t memory_bytes = 0;  ///< working memory; raised to the core's minimum, bounded by kMaxGuestMemory
  char name[16] = {};         ///< of the process, zero-terminated
};
static_assert(sizeof(ZygoteRequest) == 48);

inline constexpr uint64_t kMaxGuestMemory = 64ull << 20;

enum class ZygoteReplyKind : uint32_t {
  kReady = 1,    ///< once, first of all: requests are welcome; `value` is 1 with a user namespace, else 0
  kFailed = 2,   ///< instead of kReady: `stage` is what failed, `value` the errno
  kSpawned = 3,  ///< `pid` in the zygote's namespace; SCM_RIGHTS carries the pidfd
  kRefused = 4,  ///< no guest was made: `stage` and `value` (errno)
  kExited = 5,   ///< `pid` is gone; `value` is its wait status, as of wait(2)
};

/// What was being done when something failed.
enum class ZygoteStage : uint32_t {
  kNone = 0,
  kDropRoot = 1,
  kNamespaces = 2,
  kRoot = 3,
  kPrivileges = 4,
  kSocket = 5,
  kRequest = 6,  ///< a message that is no request, or without its descriptors
  kClone = 7,
};

struct ZygoteReply {
  uint32_t magic = kZygoteMagic;
  ZygoteReplyKind kind = ZygoteReplyKind::kReady;
  uint64_t cookie = 0;
  int32_t pid = 0;
  ZygoteStage stage = ZygoteStage::kNone;
  int32_t value = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(ZygoteReply) == 32);

/// Exit codes of a guest that ends by itself.
enum GuestExit : int {
  kExitHalted = 0,    ///< the core halted; the card has a note
  kExitNoArea = 120,  ///< the area could not be mapped, or its card is not ours
  kExitNoSeal = 121,  ///< the sandbox could not be closed: the guest never ran
};

}  // namespace synfluid::guest::process
