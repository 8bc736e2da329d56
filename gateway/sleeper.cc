#include "gateway/sleeper.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <sys/epoll.h>

#include "base/clock.h"

namespace synfluid::gateway {

Result<Sleeper> Sleeper::create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "epoll for a worker");
  auto wake = spawner::WakeEvent::create();
  if (!wake) return wake.error();
  Sleeper sleeper(std::move(epoll), std::move(*wake));
  if (Status added = sleeper.add(sleeper.wake_->fd()); !added) return added.error();
  return sleeper;
}

Status Sleeper::add(int fd) {
  return add_for(fd, EPOLLIN);
}

Status Sleeper::add_edge(int fd) {
  return add_for(fd, EPOLLIN | EPOLLET);
}

Status Sleeper::add_for(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error::from_errno(errno, "adding a descriptor to a worker's epoll set");
  return {};
}

void Sleeper::wait(int64_t longest_ns) noexcept {
  std::array<epoll_event, 4> events;
  const timespec timeout{longest_ns / kNsPerSecond, longest_ns % kNsPerSecond};
  const int most = static_cast<int>(events.size());
  if (epoll_pwait2(epoll_.get(), events.data(), most, &timeout, nullptr) >= 0 || errno != ENOSYS) return;
  // Linux before 5.11 sleeps in milliseconds.
  const int64_t whole_ms = std::max<int64_t>(1, longest_ns / kNsPerMs);
  epoll_wait(epoll_.get(), events.data(), most, static_cast<int>(whole_ms));
}

}  // namespace synfluid::gateway
