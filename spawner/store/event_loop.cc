#include "spawner/store/event_loop.h"

#include <array>
#include <cerrno>

#include <sys/epoll.h>

namespace synfluid::spawner::store {

namespace {

/// Events taken in one go: enough that a busy turn is worth its system calls, few enough for a stack.
constexpr int kBatch = 256;

}  // namespace

Result<EventLoop> EventLoop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "an epoll set");
  return EventLoop(std::move(epoll));
}

Status EventLoop::control(int operation, int fd, uint32_t events, Watcher* watcher) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = watcher;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) == 0) return {};
  return Error::from_errno(errno, "watching a descriptor");
}

Status EventLoop::add(int fd, uint32_t events, Watcher& watcher) {
  return control(EPOLL_CTL_ADD, fd, events, &watcher);
}

Status EventLoop::modify(int fd, uint32_t events, Watcher& watcher) {
  return control(EPOLL_CTL_MOD, fd, events, &watcher);
}

void EventLoop::remove(int fd) noexcept {
  (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Status EventLoop::wait(int timeout_ms) {
  std::array<epoll_event, kBatch> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kBatch, timeout_ms);
  if (count < 0 && errno != EINTR) return Error::from_errno(errno, "waiting for events");
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    static_cast<Watcher*>(event.data.ptr)->on_ready(event.events);
  }
  return {};
}

}  // namespace synfluid::spawner::store
