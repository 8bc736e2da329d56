// A domain with nothing but what the store needs of it: one page for the ring, granted to domain 0, and a
// port. It never runs. For benches and tests of INTRODUCE in number.
//
// Threads: one. Ownership: the domain is destroyed with the object. Errors: Result.
#pragma once

#include <cstdint>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "base/strong_id.h"

struct xc_interface_core;

namespace synfluid::spawner::store::xen {

/// libxenctrl's handle.
class XenControl {
 public:
  static Result<XenControl> open();
  XenControl(XenControl&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  XenControl& operator=(XenControl&&) = delete;
  ~XenControl();
  xc_interface_core* handle() const { return handle_; }

 private:
  explicit XenControl(xc_interface_core* handle) : handle_(handle) {}
  xc_interface_core* handle_;
};

class EmptyDomain {
 public:
  static Result<EmptyDomain> create(const XenControl& control, DomId domid);
  EmptyDomain(EmptyDomain&& other) noexcept
      : control_(std::exchange(other.control_, nullptr)),
        domid_(other.domid_),
        frame_(other.frame_),
        port_(other.port_) {}
  EmptyDomain& operator=(EmptyDomain&&) = delete;
  ~EmptyDomain();

  DomId domid() const { return domid_; }
  uint64_t frame() const { return frame_; }
  EventPort port() const { return port_; }

 private:
  EmptyDomain(const XenControl& control, DomId domid) : control_(&control), domid_(domid) {}
  Status furnish();

  const XenControl* control_;
  DomId domid_;
  uint64_t frame_ = 0;
  EventPort port_{};
};

/// Nanoseconds by the clock that the kernel and Xen take to bind the domain's port; it is closed again.
/// Nobody else has it bound.
Result<int64_t> time_of_bind(const EmptyDomain& domain, const Clock& clock);

}  // namespace synfluid::spawner::store::xen
