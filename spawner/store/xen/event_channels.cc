#include "spawner/store/xen/event_channels.h"

#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <xen/xen.h>

#include "backend/xen/libxen.h"
#include "backend/xen/quiet_logger.h"

namespace synfluid::spawner::store::xen {

namespace {

/// Ports taken in one go; more wait for the next turn.
constexpr size_t kBatch = 256;

}  // namespace

Channel::~Channel() {
  if (set_ != nullptr) set_->unbind(local_);
}

void Channel::notify() const noexcept {
  set_->notify(local_);
}

Result<std::unique_ptr<EventChannels>> EventChannels::open(EventLoop& loop) {
  xenevtchn_handle* handle = xenevtchn_open(backend::xen::quiet_logger(), 0);
  if (handle == nullptr) return Error::from_errno(errno, "/dev/xen/evtchn");
  std::unique_ptr<EventChannels> set(new EventChannels(handle, loop));
  const int fd = xenevtchn_fd(handle);
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return Error::from_errno(errno, "/dev/xen/evtchn");
  if (Status added = loop.add(fd, EPOLLIN, *set); !added) return added.error();
  return set;
}

EventChannels::EventChannels(xenevtchn_handle* handle, EventLoop& loop) : handle_(handle), loop_(loop) {}

EventChannels::~EventChannels() {
  loop_.remove(xenevtchn_fd(handle_));
  xenevtchn_close(handle_);
}

Channel EventChannels::keep(uint32_t local, Handler handler) {
  if (local >= handlers_.size()) handlers_.resize(local + 1);
  handlers_[local] = std::move(handler);
  return Channel(*this, EventPort(local));
}

Result<Channel> EventChannels::bind(DomId domid, EventPort remote, Handler handler) {
  const int local = xenevtchn_bind_interdomain(handle_, domid.value(), remote.value());
  if (local >= 0) return keep(static_cast<uint32_t>(local), std::move(handler));
  return Error::from_errno(
      errno, fmt::format("binding event channel {} of domain {}", remote.value(), domid.value()));
}

Result<Channel> EventChannels::bind_domain_exception(Handler handler) {
  const int local = xenevtchn_bind_virq(handle_, VIRQ_DOM_EXC);
  if (local >= 0) return keep(static_cast<uint32_t>(local), std::move(handler));
  return Error::from_errno(errno, "being told of dying domains");
}

void EventChannels::unbind(EventPort local) noexcept {
  handlers_[local.value()] = nullptr;
  xenevtchn_unbind(handle_, local.value());
}

void EventChannels::notify(EventPort local) noexcept {
  xenevtchn_notify(handle_, local.value());
}

void EventChannels::on_ready(uint32_t) {
  std::array<evtchn_port_t, kBatch> ports;
  const int fd = xenevtchn_fd(handle_);
  const ssize_t bytes = ::read(fd, ports.data(), sizeof ports);
  if (bytes <= 0) return;
  // Unmasked first: what rings while it is served rings again. The kernel passes over unbound ports.
  if (::write(fd, ports.data(), static_cast<size_t>(bytes)) < 0) return;
  for (size_t i = 0; i < static_cast<size_t>(bytes) / sizeof ports[0]; ++i) {
    if (ports[i] >= handlers_.size() || !handlers_[ports[i]]) continue;
    const Handler handler = handlers_[ports[i]];  // it may unbind itself
    handler();
  }
}

}  // namespace synfluid::spawner::store::xen
