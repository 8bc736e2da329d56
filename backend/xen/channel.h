// One bound event channel, unbound when its owner goes. Private to backend/xen.
#pragma once

#include <utility>

#include "backend/xen/xen_doorbells.h"

namespace synfluid::backend::xen {

class Channel {
 public:
  static Result<Channel> bind(XenDoorbells& doorbells, DomId domid, EventPort remote, DoorbellToken token) {
    auto local = doorbells.bind(domid, remote, token);
    if (!local) return local.error();
    return Channel(doorbells, *local);
  }
  Channel(Channel&& other) noexcept
      : doorbells_(std::exchange(other.doorbells_, nullptr)), local_(other.local_) {}
  Channel& operator=(Channel&&) = delete;
  ~Channel() {
    if (doorbells_ != nullptr) doorbells_->unbind(local_);
  }
  void notify() const noexcept { doorbells_->notify(local_); }

 private:
  Channel(XenDoorbells& doorbells, EventPort local) : doorbells_(&doorbells), local_(local) {}

  XenDoorbells* doorbells_;
  EventPort local_;
};

}  // namespace synfluid::backend::xen
