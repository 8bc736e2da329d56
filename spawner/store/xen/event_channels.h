// The event channels of every domain's ring, and Xen's own signal that a domain has changed: one open
// /dev/xen/evtchn, read and unmasked many ports at a time.
//
// Threads: one. Ownership: a Channel unbinds its port; the set outlives its channels. Errors: Result.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/strong_id.h"
#include "spawner/store/event_loop.h"

struct xenevtchn_handle;

namespace synfluid::spawner::store::xen {

class EventChannels;

/// One bound port.
class Channel {
 public:
  Channel(EventChannels& set, EventPort local) : set_(&set), local_(local) {}
  Channel(Channel&& other) noexcept : set_(std::exchange(other.set_, nullptr)), local_(other.local_) {}
  Channel& operator=(Channel&&) = delete;
  ~Channel();
  void notify() const noexcept;

 private:
  EventChannels* set_;
  EventPort local_;
};

class EventChannels final : public Watcher {
 public:
  using Handler = std::function<void()>;

  static Result<std::unique_ptr<EventChannels>> open(EventLoop& loop);
  ~EventChannels() override;

  /// Connects to a port that the domain left open to us. The handler is called once at least, as the protocol
  /// has it that a channel rings when it is bound.
  Result<Channel> bind(DomId domid, EventPort remote, Handler handler);
  /// Xen says that some domain has died or shut down.
  Result<Channel> bind_domain_exception(Handler handler);

  void on_ready(uint32_t events) override;

 private:
  friend class Channel;
  EventChannels(xenevtchn_handle* handle, EventLoop& loop);
  Channel keep(uint32_t local, Handler handler);
  void unbind(EventPort local) noexcept;
  void notify(EventPort local) noexcept;

  xenevtchn_handle* handle_;
  EventLoop& loop_;
  std::vector<Handler> handlers_;  ///< by local port
};

}  // namespace synfluid::spawner::store::xen
