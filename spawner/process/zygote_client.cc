#include "spawner/process/zygote_client.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace synfluid::spawner {
namespace {

namespace zygote = guest::process;

/// Namespaces and a few mounts; milliseconds, unless the machine is drowning.
constexpr int kReadyTimeoutMs = 10'000;
constexpr int kWritableTimeoutMs = 2'000;
/// The kernel takes the zygote's guests down before it is gone itself.
constexpr int kEndTimeoutMs = 5'000;
/// Above what the child's own descriptors are moved to.
constexpr int kFirstSpareFd = 10;

Result<UniqueFd> moved_up(UniqueFd fd) {
  UniqueFd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kFirstSpareFd));
  if (!moved) return Error::from_errno(errno, "descriptors for the zygote");
  return moved;
}

Result<UniqueFd> image_file(std::span<const std::byte> image) {
  if (image.empty()) return Error(ErrorCode::kUnavailable, "this build has no image for guest processes");
  UniqueFd fd(::memfd_create("synfluid-guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error::from_errno(errno, "a file in memory for the guest image");
  for (size_t done = 0; done < image.size();) {
    const ssize_t written = ::write(fd.get(), image.data() + done, image.size() - done);
    if (written <= 0) return Error::from_errno(errno, "writing the guest image to memory");
    done += static_cast<size_t>(written);
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return Error::from_errno(errno, "sealing the guest image");
  return moved_up(std::move(fd));
}

/// Starts the image with `socket` as its descriptor 3. By posix_spawn, which does not copy a big host's page
/// tables. In a process group of its own: Ctrl-C is for the gateway, which then takes its guests down in
/// order.
Result<pid_t> start(int image, int socket) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t signals;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, socket, zygote::kZygoteSocket);
  ::sigemptyset(&signals);
  ::posix_spawnattr_setsigmask(&attributes, &signals);
  ::sigfillset(&signals);
  ::posix_spawnattr_setsigdefault(&attributes, &signals);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  const std::string path = fmt::format("/proc/self/fd/{}", image);
  std::string name = "synfluid-zygote";
  char* const arguments[] = {name.data(), nullptr};
  char* const environment[] = {nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, path.c_str(), &actions, &attributes, arguments, environment);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Error::from_errno(error, "starting the zygote (is /proc mounted?)");
  return pid;
}

Error failure_of(const zygote::ZygoteReply& reply) {
  switch (reply.stage) {
    case zygote::ZygoteStage::kNamespaces:
      return Error::from_errno(reply.value, "the zygote may not make its namespaces")
          .within(
              "guest processes need root, or user namespaces (sysctl user.max_user_namespaces above 0, "
              "kernel.unprivileged_userns_clone=1 where it exists; in a container: run it privileged, or "
              "with "
              "CAP_SYS_ADMIN and seccomp=unconfined)");
    case zygote::ZygoteStage::kRoot:
      return Error::from_errno(reply.value, "the zygote may not make its empty root")
          .within(
              "guest processes need to mount a tmpfs in their own mount namespace (in a container: "
              "apparmor=unconfined)");
    case zygote::ZygoteStage::kDropRoot:
    case zygote::ZygoteStage::kPrivileges:
      return Error::from_errno(reply.value, "the zygote cannot give up its privileges");
    default:
      return Error::from_errno(reply.value, "the zygote cannot start");
  }
}

}  // namespace

Result<std::unique_ptr<ZygoteClient>> ZygoteClient::launch(std::span<const std::byte> image) {
  Result<UniqueFd> file = image_file(image);
  if (!file) return file.error();
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return Error::from_errno(errno, "a socket to the zygote");
  UniqueFd ours(pair[0]);
  Result<UniqueFd> theirs = moved_up(UniqueFd(pair[1]));
  if (!theirs) return theirs.error();
  const Result<pid_t> pid = start(file->get(), theirs->get());
  if (!pid) return pid.error();
  std::unique_ptr<ZygoteClient> client(new ZygoteClient(std::move(ours), *pid));
  theirs->reset();
  if (const Status ready = client->wait_ready(); !ready) return ready.error();
  return client;
}

ZygoteClient::~ZygoteClient() {
  socket_.reset();
  // The parent of the zygote's namespaces exits with it, and it with the socket's end.
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  if (!pidfd || ::poll(&ended, 1, kEndTimeoutMs) != 1) ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool ZygoteClient::wait_for(short events, int timeout_ms) {
  pollfd ready{.fd = socket_.get(), .events = events, .revents = 0};
  int found = 0;
  do {
    found = ::poll(&ready, 1, timeout_ms);
  } while (found < 0 && errno == EINTR);
  return found > 0;
}

Status ZygoteClient::wait_ready() {
  if (!wait_for(POLLIN, kReadyTimeoutMs))
    return Error(ErrorCode::kTimeout, "the zygote is not ready after 10 s");
  const std::optional<ZygoteMessage> first = next();
  if (!first) return Error(ErrorCode::kSystem, "the zygote ended before it was ready");
  if (first->reply.kind == zygote::ZygoteReplyKind::kFailed) return failure_of(first->reply);
  if (first->reply.kind != zygote::ZygoteReplyKind::kReady)
    return Error(ErrorCode::kProtocol, "the zygote does not say that it is ready");
  return {};
}

Status ZygoteClient::wait_writable() {
  if (wait_for(POLLIN | POLLOUT, kWritableTimeoutMs)) return {};
  return Error(ErrorCode::kTimeout, "the zygote takes no requests");
}

Status ZygoteClient::request(const zygote::ZygoteRequest& request,
                             const std::array<int, zygote::kZygoteFds>& fds) {
  zygote::ZygoteRequest copy = request;
  iovec vector{.iov_base = &copy, .iov_len = sizeof copy};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof fds)> control{};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(rights), fds.data(), sizeof fds);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  if (errno == ENOBUFS || errno == ETOOMANYREFS) errno = EAGAIN;  // as good as a full socket
  return Error::from_errno(errno, "asking the zygote for a guest");
}

std::optional<ZygoteMessage> ZygoteClient::next() {
  if (!alive_) return std::nullopt;
  ZygoteMessage message;
  iovec vector{.iov_base = &message.reply, .iov_len = sizeof message.reply};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (const cmsghdr* rights = got > 0 ? CMSG_FIRSTHDR(&header) : nullptr;
      rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    message.pidfd.reset(fd);
  }
  if (got == sizeof message.reply && message.reply.magic == zygote::kZygoteMagic) return message;
  alive_ = false;
  return std::nullopt;
}

}  // namespace synfluid::spawner
