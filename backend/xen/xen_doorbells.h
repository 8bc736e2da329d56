// The doorbells of one worker's vifs: event channels on one open /dev/xen/evtchn.
//
// bind() and unbind() may be called by the spawner while the worker waits or collects; fd(), collect() and
// notify() are the worker's. A channel rings once when it is bound, as Xen's protocol has it; an event that
// comes before bind() returns may be dropped, so who binds a channel of a guest that already runs looks at
// its rings once.
//
// A channel can be opened for a domain before there is one: its guest binds it, and when the domain is gone
// Xen leaves the port open for the next domain with the same id. So a port, which costs Xen a walk over all
// ports there are, and the kernel an interrupt, serves one guest after the other.
//
// Ownership: the set owns its descriptor; whoever bound a port unbinds it before the set goes. Errors:
// Result. Source: Xen public header xen/event_channel.h; Linux' evtchn device, which reads and writes many
// ports at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/guest_link.h"
#include "base/result.h"
#include "base/strong_id.h"

struct xenevtchn_handle;

namespace synfluid::backend::xen {

class XenDoorbells final : public DoorbellSet {
 public:
  static Result<std::unique_ptr<XenDoorbells>> create();
  ~XenDoorbells() override;

  /// Opens a port for `domid` to bind. It rings for nobody until it is renamed.
  Result<EventPort> open(DomId domid);
  /// Connects a port that `domid` left open to us. Returns our end.
  Result<EventPort> bind(DomId domid, EventPort remote, DoorbellToken token);
  void unbind(EventPort local) noexcept;
  /// The port rings under another token from now on.
  void rename(EventPort local, DoorbellToken token) noexcept;
  /// The port rings for nobody from now on.
  void silence(EventPort local) noexcept { rename(local, kNoToken); }
  /// Dropped by Xen while nobody has bound the other end.
  void notify(EventPort local) noexcept;

  int fd() const noexcept override;
  size_t collect(std::span<DoorbellToken> out) noexcept override;

 private:
  explicit XenDoorbells(xenevtchn_handle* handle);
  Result<EventPort> adopt(int port, DoorbellToken token);

  /// Nobody's port.
  static constexpr uint32_t kNoToken = ~0u;

  xenevtchn_handle* handle_;
  std::unique_ptr<std::atomic<uint32_t>[]> tokens_;  ///< by local port
};

}  // namespace synfluid::backend::xen
