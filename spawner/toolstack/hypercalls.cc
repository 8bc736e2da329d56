#include "spawner/toolstack/hypercalls.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "backend/xen/quiet_logger.h"
#include "spawner/toolstack/libxenctrl.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr unsigned kPageShift = 12;
constexpr unsigned kKibPerPageShift = 2;
constexpr uint64_t kInterruptsEnabled = 1ull << 9;

/// One frame of version 1 entries is 512 grants: more than the largest shared area has pages.
constexpr uint32_t kGrantFrames = 1;

/// What equip() asks for, in this order.
enum Step : size_t { kVcpu, kLimit, kMemory, kInfo, kGrants, kSteps };

uint64_t address_of(const void* at) {
  return reinterpret_cast<uint64_t>(at);
}

/// A multicall's result is a number for the caller's, negative if it is Xen's errno.
int errno_of(xen_ulong_t result) {
  const auto value = static_cast<int64_t>(result);
  return value < 0 ? static_cast<int>(-value) : 0;
}

}  // namespace

struct Hypercalls::Area {
  xen_domctl_t domctl[kSteps];
  multicall_entry_t calls[kSteps];
  xen_memory_reservation_t reservation;
  xen_pfn_t extent;
  gnttab_setup_table_t grants;
  xen_pfn_t grant_frame;
  vcpu_guest_context_t context;
};

std::unique_ptr<Hypercalls> Hypercalls::open() {
  xencall_handle* handle = xencall_open(backend::xen::quiet_logger(), 0);
  if (handle == nullptr) return nullptr;
  void* memory = xencall_alloc_buffer(handle, sizeof(Area));
  if (memory == nullptr) {
    xencall_close(handle);
    return nullptr;
  }
  return std::unique_ptr<Hypercalls>(new Hypercalls(handle, new (memory) Area{}));
}

Hypercalls::~Hypercalls() {
  xencall_free_buffer(handle_, area_);
  xencall_close(handle_);
}

int Hypercalls::call_domctl(DomId domid, uint32_t command) {
  xen_domctl_t& domctl = area_->domctl[0];
  domctl.cmd = command;
  domctl.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
  domctl.domain = domid.value();
  return xencall1(handle_, __HYPERVISOR_domctl, address_of(&domctl)) < 0 ? errno : 0;
}

int Hypercalls::create_domain(DomId domid, const DomainHandle& handle) {
  xen_domctl_createdomain& config = area_->domctl[0].u.createdomain;
  config = {};
  std::copy(handle.begin(), handle.end(), config.handle);
  config.max_vcpus = 1;
  config.max_evtchn_port = -1;
  config.max_grant_frames = kGrantFrames;
  config.max_maptrack_frames = 0;
  config.grant_opts = XEN_DOMCTL_GRANT_version(1);
  return call_domctl(domid, XEN_DOMCTL_createdomain);
}

int Hypercalls::destroy_domain(DomId domid) {
  return call_domctl(domid, XEN_DOMCTL_destroydomain);
}

int Hypercalls::unpause_domain(DomId domid) {
  return call_domctl(domid, XEN_DOMCTL_unpausedomain);
}

int Hypercalls::equip(DomId domid, uint64_t page_limit, unsigned order, Outfit& outfit) {
  Area& area = *area_;
  const auto domctl = [&](Step step, uint32_t command) -> xen_domctl_t& {
    xen_domctl_t& call = area.domctl[step];
    call.cmd = command;
    call.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    call.domain = domid.value();
    area.calls[step] = {.op = __HYPERVISOR_domctl, .result = 0, .args = {address_of(&call)}};
    return call;
  };
  domctl(kVcpu, XEN_DOMCTL_max_vcpus).u.max_vcpus.max = 1;
  domctl(kLimit, XEN_DOMCTL_max_mem).u.max_mem.max_memkb = page_limit << kKibPerPageShift;
  area.extent = 0;
  area.reservation = {};
  area.reservation.extent_start.p = &area.extent;
  area.reservation.nr_extents = 1;
  area.reservation.extent_order = order;
  area.reservation.domid = domid.value();
  area.calls[kMemory] = {.op = __HYPERVISOR_memory_op,
                         .result = 0,
                         .args = {XENMEM_populate_physmap, address_of(&area.reservation)}};
  const xen_domctl_getdomaininfo& info = domctl(kInfo, XEN_DOMCTL_getdomaininfo).u.getdomaininfo;
  area.grants = {};
  area.grants.dom = domid.value();
  area.grants.nr_frames = kGrantFrames;
  area.grants.frame_list.p = &area.grant_frame;
  area.calls[kGrants] = {.op = __HYPERVISOR_grant_table_op,
                         .result = 0,
                         .args = {GNTTABOP_setup_table, address_of(&area.grants), 1}};
  if (xencall2(handle_, __HYPERVISOR_multicall, address_of(area.calls), kSteps) < 0) return errno;

  for (const Step step : {kVcpu, kLimit, kInfo, kGrants})
    if (const int failed = errno_of(area.calls[step].result); failed != 0) return failed;
  if (info.domain != domid.value()) return ESRCH;
  if (area.grants.status != GNTST_okay) return ENOMEM;
  // The memory's result is the number of pieces that there were.
  if (area.calls[kMemory].result == 1) outfit.first_frame = area.extent;
  outfit.shared_info_frame = info.shared_info_frame;
  outfit.grant_frame = area.grant_frame;
  return 0;
}

int Hypercalls::set_context(DomId domid, const VcpuStart& start) {
  vcpu_guest_context_t& context = area_->context;  // all zero but for these
  context.flags = VGCF_in_kernel | VGCF_online;
  context.user_regs.rip = start.entry;
  context.user_regs.rsi = start.start_info;
  context.user_regs.rflags = kInterruptsEnabled;
  context.user_regs.cs = FLAT_KERNEL_CS64;
  context.user_regs.ss = FLAT_KERNEL_SS64;
  context.kernel_ss = FLAT_KERNEL_SS64;
  context.ctrlreg[3] = start.l4_frame << kPageShift;
  xen_domctl_vcpucontext& request = area_->domctl[0].u.vcpucontext;
  request.vcpu = 0;
  request.ctxt.p = &context;
  return call_domctl(domid, XEN_DOMCTL_setvcpucontext);
}

}  // namespace synfluid::spawner::toolstack
