#include "spawner/toolstack/hypercalls.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <utility>

#include "backend/xen/quiet_logger.h"
#include "spawner/toolstack/libxenctrl.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr unsigned kPageShift = 12;
constexpr unsigned kKibPerPageShift = 2;
constexpr uint64_t kInterruptsEnabled = 1ull << 9;

/// One frame of version 1 entries is 512 grants: more than the largest shared area has pages.
constexpr uint32_t kGrantFrames = 1;

/// Of equip(): vCPU, limit, information.
constexpr size_t kEquipDomctls = 3;
constexpr size_t kDomctls = std::max(kEquipDomctls, Hypercalls::kMostDestroyed);
/// Of equip(): its domctls, the pieces of memory, the claim on the rest, and the grant table.
constexpr size_t kCalls = kEquipDomctls + kMaxPieces + 2;

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
  xen_domctl_t domctl[kDomctls];
  multicall_entry_t calls[kCalls];
  xen_memory_reservation_t reservations[kMaxPieces + 1];
  xen_pfn_t extents[kMaxPieces];
  gnttab_setup_table_t grants;
  xen_pfn_t grant_frame;
  vcpu_guest_context_t context;
};

/// Calls to be made in one go, in the order in which they are added.
class Hypercalls::Batch {
 public:
  Batch(xencall_handle* handle, Area& area) : handle_(handle), area_(area) {}

  multicall_entry_t& add(xen_ulong_t op, uint64_t first, uint64_t second = 0, uint64_t third = 0) {
    multicall_entry_t& call = area_.calls[calls_++];
    call.op = op;
    call.args[0] = first;
    call.args[1] = second;
    call.args[2] = third;
    return call;
  }
  std::pair<xen_domctl_t&, multicall_entry_t&> add_domctl(DomId domid, uint32_t command) {
    xen_domctl_t& domctl = area_.domctl[domctls_++];
    domctl.cmd = command;
    domctl.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    domctl.domain = domid.value();
    return {domctl, add(__HYPERVISOR_domctl, address_of(&domctl))};
  }
  multicall_entry_t& add_reservation(DomId domid, unsigned command, const MemoryPiece& piece) {
    xen_memory_reservation_t& reservation = area_.reservations[reservations_];
    xen_pfn_t& extent = area_.extents[reservations_++];
    extent = piece.pfn;
    reservation = {};
    reservation.extent_start.p = &extent;
    reservation.nr_extents = 1;
    reservation.extent_order = piece.order;
    reservation.domid = domid.value();
    return add(__HYPERVISOR_memory_op, command, address_of(&reservation));
  }
  multicall_entry_t& add_claim(DomId domid, uint64_t pages) {
    xen_memory_reservation_t& reservation = area_.reservations[kMaxPieces];
    reservation = {};
    reservation.nr_extents = pages;
    reservation.domid = domid.value();
    return add(__HYPERVISOR_memory_op, XENMEM_claim_pages, address_of(&reservation));
  }
  multicall_entry_t& add_grant_table(DomId domid) {
    area_.grants = {};
    area_.grants.dom = domid.value();
    area_.grants.nr_frames = kGrantFrames;
    area_.grants.frame_list.p = &area_.grant_frame;
    return add(__HYPERVISOR_grant_table_op, GNTTABOP_setup_table, address_of(&area_.grants), 1);
  }
  int make() {
    return xencall2(handle_, __HYPERVISOR_multicall, address_of(area_.calls), calls_) < 0 ? errno : 0;
  }

 private:
  xencall_handle* handle_;
  Area& area_;
  size_t calls_ = 0;
  size_t domctls_ = 0;
  size_t reservations_ = 0;
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

void Hypercalls::destroy_domains(std::span<const DomId> domids, std::span<int> failed) {
  Batch batch(handle_, *area_);
  std::array<const multicall_entry_t*, kMostDestroyed> calls;
  for (size_t i = 0; i < domids.size(); ++i)
    calls[i] = &batch.add_domctl(domids[i], XEN_DOMCTL_destroydomain).second;
  const int all = batch.make();
  for (size_t i = 0; i < domids.size(); ++i) failed[i] = all != 0 ? all : errno_of(calls[i]->result);
}

int Hypercalls::unpause_domain(DomId domid) {
  Batch batch(handle_, *area_);
  const multicall_entry_t& unpause = batch.add_domctl(domid, XEN_DOMCTL_unpausedomain).second;
  batch.add(__HYPERVISOR_sched_op, SCHEDOP_yield);
  if (const int failed = batch.make(); failed != 0) return failed;
  return errno_of(unpause.result);
}

int Hypercalls::equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory, Outfit& outfit) {
  Batch batch(handle_, *area_);
  std::array<const multicall_entry_t*, kCalls - kMaxPieces> must;
  size_t musts = 0;
  auto [vcpu, vcpu_call] = batch.add_domctl(domid, XEN_DOMCTL_max_vcpus);
  vcpu.u.max_vcpus.max = 1;
  must[musts++] = &vcpu_call;
  auto [limit, limit_call] = batch.add_domctl(domid, XEN_DOMCTL_max_mem);
  limit.u.max_mem.max_memkb = page_limit << kKibPerPageShift;
  must[musts++] = &limit_call;
  std::array<const multicall_entry_t*, kMaxPieces> pieces;
  uint64_t populated = 0;
  for (size_t i = 0; i < memory.size(); ++i) {
    pieces[i] = &batch.add_reservation(domid, XENMEM_populate_physmap, memory[i]);
    populated += 1ull << memory[i].order;
  }
  if (populated < page_limit) must[musts++] = &batch.add_claim(domid, page_limit);
  auto [info, info_call] = batch.add_domctl(domid, XEN_DOMCTL_getdomaininfo);
  must[musts++] = &info_call;
  must[musts++] = &batch.add_grant_table(domid);
  if (const int failed = batch.make(); failed != 0) return failed;

  for (const multicall_entry_t* call : std::span(must).first(musts))
    if (const int failed = errno_of(call->result); failed != 0) return failed;
  if (info.u.getdomaininfo.domain != domid.value()) return ESRCH;
  if (area_->grants.status != GNTST_okay) return ENOMEM;
  // The result of a populating call is the number of pieces that there were.
  for (size_t i = 0; i < memory.size(); ++i)
    if (pieces[i]->result == 1) memory[i].frame = area_->extents[i];
  outfit.shared_info_frame = info.u.getdomaininfo.shared_info_frame;
  outfit.grant_frame = area_->grant_frame;
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
