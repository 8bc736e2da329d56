#include "backend/xen/xen_doorbells.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "backend/xen/libxen.h"
#include "backend/xen/quiet_logger.h"

namespace synfluid::backend::xen {

namespace {

/// What the FIFO event channels of a domain can have; the older kind has fewer.
constexpr uint32_t kMaxPorts = 1u << 17;

/// Ports taken in one go; more wait for the next call.
constexpr size_t kBatch = 256;

}  // namespace

Result<std::unique_ptr<XenDoorbells>> XenDoorbells::create() {
  xenevtchn_handle* handle = xenevtchn_open(quiet_logger(), 0);
  if (handle == nullptr) return Error::from_errno(errno, "opening /dev/xen/evtchn");
  std::unique_ptr<XenDoorbells> set(new XenDoorbells(handle));
  const int flags = ::fcntl(set->fd(), F_GETFL);
  if (flags < 0 || ::fcntl(set->fd(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return Error::from_errno(errno, "making /dev/xen/evtchn non-blocking");
  }
  return set;
}

XenDoorbells::XenDoorbells(xenevtchn_handle* handle)
    : handle_(handle), tokens_(std::make_unique<std::atomic<uint32_t>[]>(kMaxPorts)) {
  for (uint32_t port = 0; port < kMaxPorts; ++port) tokens_[port].store(kNoToken, std::memory_order_relaxed);
}

XenDoorbells::~XenDoorbells() {
  xenevtchn_close(handle_);
}

Result<EventPort> XenDoorbells::open(DomId domid) {
  const int port = xenevtchn_bind_unbound_port(handle_, domid.value());
  if (port < 0)
    return Error::from_errno(errno, fmt::format("opening an event channel for domain {}", domid.value()));
  return adopt(port, kNoToken);
}

Result<EventPort> XenDoorbells::bind(DomId domid, EventPort remote, DoorbellToken token) {
  const int port = xenevtchn_bind_interdomain(handle_, domid.value(), remote.value());
  if (port < 0) {
    return Error::from_errno(
        errno, fmt::format("binding event channel {} of domain {}", remote.value(), domid.value()));
  }
  return adopt(port, token);
}

Result<EventPort> XenDoorbells::adopt(int port, DoorbellToken token) {
  const EventPort local(static_cast<uint32_t>(port));
  if (local.value() >= kMaxPorts) {
    xenevtchn_unbind(handle_, local.value());
    return Error(ErrorCode::kExhausted,
                 fmt::format("event channel {} is beyond the {} there are", port, kMaxPorts));
  }
  tokens_[local.value()].store(token, std::memory_order_release);
  return local;
}

void XenDoorbells::unbind(EventPort local) noexcept {
  tokens_[local.value()].store(kNoToken, std::memory_order_release);
  xenevtchn_unbind(handle_, local.value());
}

void XenDoorbells::rename(EventPort local, DoorbellToken token) noexcept {
  tokens_[local.value()].store(token, std::memory_order_release);
}

void XenDoorbells::notify(EventPort local) noexcept {
  xenevtchn_notify(handle_, local.value());
}

int XenDoorbells::fd() const noexcept {
  return xenevtchn_fd(handle_);
}

size_t XenDoorbells::collect(std::span<DoorbellToken> out) noexcept {
  std::array<evtchn_port_t, kBatch> ports;
  const size_t room = std::min(out.size(), ports.size());
  const ssize_t bytes = ::read(fd(), ports.data(), room * sizeof(evtchn_port_t));
  if (bytes <= 0) return 0;
  const size_t rung = static_cast<size_t>(bytes) / sizeof(evtchn_port_t);
  size_t taken = 0;
  for (size_t i = 0; i < rung; ++i) {
    if (ports[i] >= kMaxPorts) continue;
    const uint32_t token = tokens_[ports[i]].load(std::memory_order_acquire);
    if (token != kNoToken) out[taken++] = token;
  }
  // Ports that were unbound meanwhile are skipped by the kernel.
  if (::write(fd(), ports.data(), rung * sizeof(evtchn_port_t)) < 0) return taken;
  return taken;
}

}  // namespace synfluid::backend::xen
