#include "spawner/store/xen/empty_domain.h"

#include <cerrno>
#include <memory>
#include <span>

#include <fmt/format.h>

#include "backend/xen/quiet_logger.h"
#include "spawner/toolstack/libxenctrl.h"

extern "C" {
#include <xenevtchn.h>
}

namespace synfluid::spawner::store::xen {

namespace {

constexpr size_t kPage = 4096;
constexpr uint64_t kMaxKib = 64;
constexpr int kMaxPorts = 16;

Error failed(std::string_view what, DomId domid) {
  return Error::from_errno(errno, fmt::format("{} of domain {}", what, domid.value()));
}

struct MemoryCloser {
  void operator()(xenforeignmemory_handle* memory) const { xenforeignmemory_close(memory); }
};

struct ChannelsCloser {
  void operator()(xenevtchn_handle* channels) const { xenevtchn_close(channels); }
};

/// Entry 1 of the table is the store's, by Xen's convention.
Status grant_ring(DomId domid, uint64_t frame) {
  const std::unique_ptr<xenforeignmemory_handle, MemoryCloser> memory(
      xenforeignmemory_open(backend::xen::quiet_logger(), 0));
  if (!memory) return failed("the memory", domid);
  void* table = nullptr;
  xenforeignmemory_resource_handle* resource = xenforeignmemory_map_resource(
      memory.get(), domid.value(), XENMEM_resource_grant_table, XENMEM_resource_grant_table_id_shared, 0, 1,
      &table, PROT_READ | PROT_WRITE, 0);
  if (resource == nullptr) return failed("the grant table", domid);
  auto* const entries = static_cast<grant_entry_v1_t*>(table);
  entries[GNTTAB_RESERVED_XENSTORE] = {
      .flags = GTF_permit_access, .domid = 0, .frame = static_cast<uint32_t>(frame)};
  xenforeignmemory_unmap_resource(memory.get(), resource);
  return {};
}

}  // namespace

Result<XenControl> XenControl::open() {
  xc_interface* handle = xc_interface_open(backend::xen::quiet_logger(), nullptr, 0);
  if (handle == nullptr) return Error::from_errno(errno, "Xen's control interface");
  return XenControl(handle);
}

XenControl::~XenControl() {
  if (handle_ != nullptr) xc_interface_close(handle_);
}

Result<EmptyDomain> EmptyDomain::create(const XenControl& control, DomId domid) {
  xen_domctl_createdomain config{};
  config.max_vcpus = 1;
  config.max_evtchn_port = kMaxPorts;
  config.max_grant_frames = 1;
  config.max_maptrack_frames = 1;
  config.grant_opts = XEN_DOMCTL_GRANT_version(1);
  uint32_t id = domid.value();
  if (xc_domain_create(control.handle(), &id, &config) != 0) return failed("creation", domid);
  EmptyDomain domain(control, domid);
  if (Status furnished = domain.furnish(); !furnished) return furnished.error();
  return domain;
}

EmptyDomain::~EmptyDomain() {
  if (control_ != nullptr) (void)xc_domain_destroy(control_->handle(), domid_.value());
}

Status EmptyDomain::furnish() {
  // Xen crashes when an event is sent to a domain without a vCPU.
  if (xc_domain_max_vcpus(control_->handle(), domid_.value(), 1) != 0) return failed("a vCPU", domid_);
  if (xc_domain_setmaxmem(control_->handle(), domid_.value(), kMaxKib) != 0)
    return failed("the memory limit", domid_);
  xen_pfn_t frame = 0;
  if (xc_domain_populate_physmap_exact(control_->handle(), domid_.value(), 1, 0, 0, &frame) != 0)
    return failed("memory", domid_);
  frame_ = frame;
  if (Status granted = grant_ring(domid_, frame_); !granted) return granted;
  const int port = xc_evtchn_alloc_unbound(control_->handle(), domid_.value(), 0);
  if (port < 0) return failed("an event channel", domid_);
  port_ = EventPort(static_cast<uint32_t>(port));
  return {};
}

Result<int64_t> time_of_bind(const EmptyDomain& domain, const Clock& clock) {
  const std::unique_ptr<xenevtchn_handle, ChannelsCloser> channels(
      xenevtchn_open(backend::xen::quiet_logger(), 0));
  if (!channels) return failed("the event channels", domain.domid());
  const int64_t before = clock.now_ns();
  const int local = xenevtchn_bind_interdomain(channels.get(), domain.domid().value(), domain.port().value());
  const int64_t took = clock.now_ns() - before;
  if (local < 0) return failed("a port", domain.domid());
  return took;
}

}  // namespace synfluid::spawner::store::xen
