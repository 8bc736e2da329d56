#include "spawner/store/socket_transport.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace synfluid::spawner::store {

namespace {

constexpr uint32_t kInput = EPOLLIN | EPOLLRDHUP | EPOLLET;
constexpr int kBacklog = 1024;
/// Connections taken in one turn; the others wait for the next.
constexpr int kAcceptedAtOnce = 64;

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(ErrorCode::kInvalidArgument, path + ": longer than a socket's name may be");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool somebody_listens(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return probe && ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

Status make_folder_of(const std::string& path) {
  std::error_code failed;
  const auto folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) std::filesystem::create_directories(folder, failed);
  if (failed) return Error::from_errno(failed.value(), folder.string());
  return {};
}

}  // namespace

SocketStream::SocketStream(Switchboard& board, EventLoop& loop, ConnectionId id, UniqueFd fd)
    : Stream(board, id), loop_(loop), fd_(std::move(fd)) {}

SocketStream::~SocketStream() {
  loop_.remove(fd_.get());
}

Status SocketStream::start() {
  return loop_.add(fd_.get(), kInput, *this);
}

void SocketStream::on_ready(uint32_t events) {
  if (closed()) return;
  if ((events & EPOLLOUT) != 0) board_.mark_dirty(*this);
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) ended_ = true;
  if ((events & ~EPOLLOUT) != 0) serve();
}

/// A short read has emptied the socket: what comes later is another edge.
Stream::Taken SocketStream::read(std::span<char> into) {
  const ssize_t count = ::recv(fd_.get(), into.data(), into.size(), 0);
  if (count > 0) return {static_cast<size_t>(count), ended_ || static_cast<size_t>(count) == into.size()};
  if (count == 0 || !would_block()) broken(Broken::kGone);
  return {};
}

size_t SocketStream::write(std::span<const char> messages, size_t already) {
  const auto bytes = messages.subspan(already);
  const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (count < 0 && !would_block()) {
    broken(Broken::kGone);
    return 0;
  }
  const size_t written = count < 0 ? 0 : static_cast<size_t>(count);
  wait_for_room(written < bytes.size());
  return written;
}

void SocketStream::wait_for_room(bool wanted) {
  if (waits_for_room_ == wanted) return;
  waits_for_room_ = wanted;
  if (!loop_.modify(fd_.get(), wanted ? kInput | EPOLLOUT : kInput, *this)) broken(Broken::kGone);
}

Result<std::unique_ptr<SocketListener>> SocketListener::open(const std::string& path, EventLoop& loop,
                                                             Switchboard& board) {
  const auto address = address_of(path);
  if (!address) return address.error();
  if (Status made = make_folder_of(path); !made) return made.error();
  if (somebody_listens(*address)) return Error(ErrorCode::kConflict, path + ": a store runs here already");
  ::unlink(path.c_str());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  UniqueFd spare(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  // The file has its mode from the start: nobody slips in between.
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
  const int bind_errno = errno;
  ::umask(mask);
  if (bound != 0) return Error::from_errno(bind_errno, path);
  if (::listen(fd.get(), kBacklog) != 0) return Error::from_errno(errno, path);
  std::unique_ptr<SocketListener> listener(
      new SocketListener(path, std::move(fd), std::move(spare), loop, board));
  if (Status added = loop.add(listener->fd_.get(), EPOLLIN, *listener); !added) return added.error();
  return listener;
}

SocketListener::SocketListener(std::string path, UniqueFd fd, UniqueFd spare, EventLoop& loop,
                               Switchboard& board)
    : path_(std::move(path)), fd_(std::move(fd)), spare_(std::move(spare)), loop_(loop), board_(board) {}

SocketListener::~SocketListener() {
  loop_.remove(fd_.get());
  ::unlink(path_.c_str());
}

void SocketListener::on_ready(uint32_t) {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    UniqueFd client(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (client) {
      admit(std::move(client));
    } else {
      if (errno == EMFILE || errno == ENFILE) turn_away();
      return;
    }
  }
}

void SocketListener::admit(UniqueFd client) {
  const ConnectionId id = board_.engine().connect({.domid = DomId(0), .privilege = Privilege::kControl});
  auto stream = std::make_unique<SocketStream>(board_, loop_, id, std::move(client));
  if (stream->start()) {
    board_.add(std::move(stream));
  } else {
    board_.engine().disconnect(id);
  }
}

/// Out of descriptors, a waiting client would wake us for ever: it is taken and closed.
void SocketListener::turn_away() {
  spare_.reset();
  UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)).reset();
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  board_.note_refused();
}

std::string default_socket_path() {
  if (const char* path = std::getenv("XENSTORED_PATH")) return path;
  const char* folder = std::getenv("XENSTORED_RUNDIR");
  return std::string(folder != nullptr ? folder : "/run/xenstored") + "/socket";
}

}  // namespace synfluid::spawner::store
