#include "spawner/toolstack/xen_calls.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/mman.h>

#include "backend/xen/quiet_logger.h"
#include "spawner/toolstack/libxenctrl.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr unsigned kPageShift = 12;
constexpr uint64_t kInterruptsEnabled = 1ull << 9;

/// One frame of version 1 entries is 512 grants: more than the largest shared area has pages.
constexpr int kGrantFrames = 1;

template <class Handle, int (*close)(Handle*)>
struct Closer {
  void operator()(Handle* handle) const { close(handle); }
};
using XcHandle = std::unique_ptr<xc_interface, Closer<xc_interface, xc_interface_close>>;
using MemoryHandle =
    std::unique_ptr<xenforeignmemory_handle, Closer<xenforeignmemory_handle, xenforeignmemory_close>>;

Error call_failed(const char* call, DomId domid, int sys_errno) {
  if (sys_errno == EEXIST) {
    return {ErrorCode::kConflict, fmt::format("{}: domain id {} is in use", call, domid.value()), sys_errno};
  }
  return Error::from_errno(sys_errno, fmt::format("{} of domain {}", call, domid.value()));
}

DomainInfo info_of(const xc_domaininfo_t& info) {
  DomainInfo out;
  out.domid = DomId(info.domain);
  std::copy(std::begin(info.handle), std::end(info.handle), out.handle.begin());
  out.dying = (info.flags & XEN_DOMINF_dying) != 0;
  out.shut_down = (info.flags & XEN_DOMINF_shutdown) != 0;
  const uint32_t reason = (info.flags >> XEN_DOMINF_shutdownshift) & XEN_DOMINF_shutdownmask;
  out.crashed = out.shut_down && reason != SHUTDOWN_poweroff;
  out.pages = info.tot_pages;
  return out;
}

class LibXenCalls final : public XenCalls {
 public:
  LibXenCalls(XcHandle xc, MemoryHandle memory) : xc_(std::move(xc)), memory_(std::move(memory)) {}

  Status create_domain(DomId domid, const DomainHandle& handle) override {
    xen_domctl_createdomain config{};
    std::copy(handle.begin(), handle.end(), config.handle);
    config.max_vcpus = 1;
    config.max_evtchn_port = -1;
    config.max_grant_frames = kGrantFrames;
    config.max_maptrack_frames = 0;
    config.grant_opts = XEN_DOMCTL_GRANT_version(1);
    uint32_t id = domid.value();
    return check("create", domid, xc_domain_create(xc_.get(), &id, &config));
  }

  Status destroy_domain(DomId domid) override {
    return check("destroy", domid, xc_domain_destroy(xc_.get(), domid.value()));
  }

  Status add_vcpu(DomId domid) override {
    return check("vcpu", domid, xc_domain_max_vcpus(xc_.get(), domid.value(), 1));
  }

  Status limit_memory(DomId domid, uint64_t pages) override {
    return check("memory limit", domid,
                 xc_domain_setmaxmem(xc_.get(), domid.value(), pages << (kPageShift - 10)));
  }

  Result<uint64_t> populate(DomId domid, uint64_t pfn, unsigned order) override {
    xen_pfn_t frame = pfn;
    // libxenctrl reports a partly filled request with an errno of its own choice: it means that there is no
    // memory.
    if (xc_domain_populate_physmap_exact(xc_.get(), domid.value(), 1, order, 0, &frame) != 0) {
      return Error(ErrorCode::kNoMemory,
                   fmt::format("memory for domain {}: Xen has no {} KiB in one piece left", domid.value(),
                               4u << order),
                   errno);
    }
    return frame;
  }

  Result<uint64_t> shared_info_frame(DomId domid) override {
    xc_domaininfo_t info;
    const int found = xc_domain_getinfolist(xc_.get(), domid.value(), 1, &info);
    if (found != 1 || info.domain != domid.value()) return call_failed("information", domid, ESRCH);
    return info.shared_info_frame;
  }

  Result<std::byte*> map_frames(DomId domid, std::span<const uint64_t> frames) override {
    static_assert(sizeof(xen_pfn_t) == sizeof(uint64_t));
    void* address = xenforeignmemory_map(memory_.get(), domid.value(), PROT_READ | PROT_WRITE, frames.size(),
                                         frames.data(), nullptr);
    if (address == nullptr) return call_failed("memory map", domid, errno);
    return static_cast<std::byte*>(address);
  }

  void unmap_frames(std::byte* address, size_t pages) override {
    xenforeignmemory_unmap(memory_.get(), address, pages);
  }

  Status pin_l4(DomId domid, uint64_t frame) override {
    mmuext_op op{};
    op.cmd = MMUEXT_PIN_L4_TABLE;
    op.arg1.mfn = frame;
    return check("page tables", domid, xc_mmuext_op(xc_.get(), &op, 1, domid.value()));
  }

  Status set_context(DomId domid, const VcpuStart& start) override {
    context_ = {};
    vcpu_guest_context_x86_64_t& context = context_.x64;
    context.flags = VGCF_in_kernel | VGCF_online;
    context.user_regs.rip = start.entry;
    context.user_regs.rsi = start.start_info;
    context.user_regs.rflags = kInterruptsEnabled;
    context.user_regs.cs = FLAT_KERNEL_CS64;
    context.user_regs.ss = FLAT_KERNEL_SS64;
    context.kernel_ss = FLAT_KERNEL_SS64;
    context.ctrlreg[3] = start.l4_frame << kPageShift;
    return check("vcpu context", domid, xc_vcpu_setcontext(xc_.get(), domid.value(), 0, &context_));
  }

  Result<GrantTable> map_grant_table(DomId domid) override {
    static_assert(sizeof(GrantTable::Entry) == sizeof(grant_entry_v1_t));
    void* address = nullptr;
    auto* resource = xenforeignmemory_map_resource(memory_.get(), domid.value(), XENMEM_resource_grant_table,
                                                   XENMEM_resource_grant_table_id_shared, 0, kGrantFrames,
                                                   &address, PROT_READ | PROT_WRITE, 0);
    if (resource == nullptr) return call_failed("grant table", domid, errno);
    return GrantTable{static_cast<GrantTable::Entry*>(address), resource};
  }

  void unmap_grant_table(GrantTable table) override {
    xenforeignmemory_unmap_resource(memory_.get(),
                                    static_cast<xenforeignmemory_resource_handle*>(table.resource));
  }

  Result<EventPort> open_event_port(DomId domid) override {
    const int port = xc_evtchn_alloc_unbound(xc_.get(), domid.value(), DOMID_SELF);
    if (port < 0) return call_failed("event channel", domid, errno);
    return EventPort(static_cast<uint32_t>(port));
  }

  Status unpause(DomId domid) override {
    return check("start", domid, xc_domain_unpause(xc_.get(), domid.value()));
  }

  Result<std::vector<DomainInfo>> list_domains(DomId first, uint32_t max) override {
    std::vector<xc_domaininfo_t> infos(max);
    const int found = xc_domain_getinfolist(xc_.get(), first.value(), max, infos.data());
    if (found < 0) return Error::from_errno(errno, "listing the domains");
    std::vector<DomainInfo> out;
    std::transform(infos.begin(), infos.begin() + found, std::back_inserter(out), info_of);
    return out;
  }

  Result<uint64_t> free_memory() override {
    xc_physinfo_t info{};
    if (xc_physinfo(xc_.get(), &info) != 0) return Error::from_errno(errno, "asking Xen for its free memory");
    return info.free_pages << kPageShift;
  }

 private:
  Status check(const char* call, DomId domid, int rc) {
    if (rc == 0) return {};
    return call_failed(call, domid, errno);
  }

  XcHandle xc_;
  MemoryHandle memory_;
  vcpu_guest_context_any_t context_;
};

Error no_xen(int sys_errno) {
  if (sys_errno == EACCES || sys_errno == EPERM) {
    return {ErrorCode::kPermission, "/dev/xen/privcmd: no permission: Xen's control interface is root's",
            sys_errno};
  }
  return {ErrorCode::kUnavailable, "/dev/xen/privcmd: not there: this is no Xen dom0", sys_errno};
}

}  // namespace

Result<std::unique_ptr<XenCalls>> open_xen_calls() {
  auto* logger = backend::xen::quiet_logger();
  XcHandle xc(xc_interface_open(logger, logger, 0));
  if (!xc) return no_xen(errno);
  MemoryHandle memory(xenforeignmemory_open(logger, 0));
  if (!memory) return no_xen(errno);
  return std::unique_ptr<XenCalls>(std::make_unique<LibXenCalls>(std::move(xc), std::move(memory)));
}

}  // namespace synfluid::spawner::toolstack
