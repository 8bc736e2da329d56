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
  Channel& operator=(Channel&& other) noexcept {
    std::swap(doorbells_, other.doorbells_);
    std::swap(local_, other.local_);
    return *this;
  }
  ~Channel() {
    if (doorbells_ != nullptr) doorbells_->unbind(local_);
  }
  void rename(DoorbellToken token) const noexcept { doorbells_->rename(local_, token); }
  bool is_in(const XenDoorbells& doorbells) const noexcept { return doorbells_ == &doorbells; }
  void notify() const noexcept { doorbells_->notify(local_); }

 private:
  Channel(XenDoorbells& doorbells, EventPort local) : doorbells_(&doorbells), local_(local) {}

  XenDoorbells* doorbells_;
  EventPort local_;
};

}  // namespace synfluid::backend::xen
