// The host's side of the zygote protocol, for tests: starts an image and asks it for guests.
#pragma once

#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "guest/platform/process/zygote.h"
#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {

struct ZygoteAnswer {
  process::ZygoteReply reply;
  UniqueFd pidfd;
};

/// One guest process with its area and doorbells.
class ProcessGuest {
 public:
  explicit ProcessGuest(const AreaConfig& config)
      : bytes_(size_t{abi::shared_pages(config.buffers)} * abi::kPageBytes),
        memfd_(memfd_create("guest-test-area", MFD_CLOEXEC)),
        doorbell_in_(eventfd(0, EFD_CLOEXEC)),
        doorbell_out_(eventfd(0, EFD_CLOEXEC)) {
    if (ftruncate(memfd_.get(), static_cast<off_t>(bytes_)) != 0) throw std::runtime_error("ftruncate");
    area_ =
        static_cast<std::byte*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_.get(), 0));
    host_ = std::make_unique<HostEnd>(config, area_);
  }
  ~ProcessGuest() { munmap(area_, bytes_); }
  ProcessGuest(const ProcessGuest&) = delete;
  ProcessGuest& operator=(const ProcessGuest&) = delete;

  HostEnd& host() { return *host_; }
  void ring() {
    if (eventfd_write(doorbell_in_.get(), 1) != 0) throw std::runtime_error("eventfd_write");
  }
  /// Waits for the guest's doorbell.
  bool heard(int timeout_ms = 5000) {
    pollfd ready{doorbell_out_.get(), POLLIN, 0};
    if (poll(&ready, 1, timeout_ms) != 1) return false;
    eventfd_t count;
    return eventfd_read(doorbell_out_.get(), &count) == 0;
  }
  int fd(uint32_t which) const {
    return which == process::kAreaFd         ? memfd_.get()
           : which == process::kDoorbellInFd ? doorbell_in_.get()
                                             : doorbell_out_.get();
  }
  uint32_t pages() const { return static_cast<uint32_t>(bytes_ / abi::kPageBytes); }

 private:
  size_t bytes_;
  UniqueFd memfd_;
  UniqueFd doorbell_in_;
  UniqueFd doorbell_out_;
  std::byte* area_ = nullptr;
  std::unique_ptr<HostEnd> host_;
};

class ZygoteClient {
 public:
  explicit ZygoteClient(std::span<const std::byte> image) {
    UniqueFd file(memfd_create("guest-test-image", MFD_CLOEXEC));
    if (write(file.get(), image.data(), image.size()) != static_cast<ssize_t>(image.size()))
      throw std::runtime_error("cannot write the image");
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      throw std::runtime_error("socketpair");
    socket_ = UniqueFd(ends[0]);
    const UniqueFd theirs(ends[1]);
    pid_ = fork();
    if (pid_ == 0) {
      // Out of the way of the number the socket must have, and without its own close-on-exec.
      const int image_fd = fcntl(file.get(), F_DUPFD_CLOEXEC, 10);
      const int socket_fd = fcntl(theirs.get(), F_DUPFD_CLOEXEC, 10);
      dup2(socket_fd, process::kZygoteSocket);
      char name[] = "synfluid-zygote";
      char* arguments[] = {name, nullptr};
      char* environment[] = {nullptr};
      fexecve(image_fd, arguments, environment);
      _exit(126);
    }
  }
  ~ZygoteClient() { stop(); }
  ZygoteClient(const ZygoteClient&) = delete;
  ZygoteClient& operator=(const ZygoteClient&) = delete;

  /// Closes the socket and waits for the program's end.
  int stop() {
    socket_.reset();
    int status = 0;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

  ZygoteAnswer receive() {
    ZygoteAnswer answer;
    iovec vector{&answer.reply, sizeof(answer.reply)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    pollfd ready{socket_.get(), POLLIN, 0};
    if (poll(&ready, 1, 10'000) != 1) throw std::runtime_error("the zygote is silent");
    if (recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof(answer.reply)))
      throw std::runtime_error("the zygote is gone");
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
      answer.pidfd = UniqueFd(fd);
    }
    return answer;
  }

  void request(const ProcessGuest& guest, uint64_t cookie, uint32_t descriptors = process::kZygoteFds) {
    process::ZygoteRequest request;
    request.cookie = cookie;
    request.area_pages = guest.pages();
    request.memory_bytes = 256 * 1024;
    std::memcpy(request.name, "sf-test", 8);
    iovec vector{&request, sizeof(request)};
    alignas(cmsghdr) char control[CMSG_SPACE(process::kZygoteFds * sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    if (descriptors != 0) {
      const int fds[] = {guest.fd(0), guest.fd(1), guest.fd(2)};
      const size_t bytes = descriptors * sizeof(int);
      const cmsghdr header{CMSG_LEN(bytes), SOL_SOCKET, SCM_RIGHTS};
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(bytes);
      std::memcpy(control, &header, sizeof(header));
      std::memcpy(control + CMSG_LEN(0), fds, bytes);
    }
    if (sendmsg(socket_.get(), &message, MSG_NOSIGNAL) < 0) throw std::runtime_error("sendmsg");
  }
  ZygoteAnswer spawn(const ProcessGuest& guest, uint64_t cookie) {
    request(guest, cookie);
    return receive();
  }
  pid_t pid() const { return pid_; }

 private:
  UniqueFd socket_;
  pid_t pid_ = -1;
};

}  // namespace synfluid::guest::testing
