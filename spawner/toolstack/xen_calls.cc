#include "spawner/toolstack/xen_calls.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>

#include <fmt/format.h>
#include <sys/mman.h>

#include "backend/xen/quiet_logger.h"
#include "spawner/toolstack/hypercalls.h"
#include "spawner/toolstack/libxenctrl.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr unsigned kPageShift = 12;

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
  out.cpu_time_ns = info.cpu_time;
  return out;
}

class LibXenCalls final : public XenCalls {
 public:
  LibXenCalls(XcHandle xc, MemoryHandle memory, std::unique_ptr<Hypercalls> calls)
      : xc_(std::move(xc)), memory_(std::move(memory)), calls_(std::move(calls)) {}

  Status create_domain(DomId domid, const DomainHandle& handle) override {
    return check("create", domid, calls_->create_domain(domid, handle));
  }

  Status destroy_domain(DomId domid) override {
    return check("destroy", domid, calls_->destroy_domain(domid));
  }

  std::vector<DomId> destroy_domains(std::span<const DomId> domids) override {
    std::vector<DomId> left;
    for (size_t at = 0; at < domids.size(); at += Hypercalls::kMostDestroyed) {
      const auto some = domids.subspan(at, std::min(Hypercalls::kMostDestroyed, domids.size() - at));
      std::array<int, Hypercalls::kMostDestroyed> failed{};
      calls_->destroy_domains(some, failed);
      for (size_t i = 0; i < some.size(); ++i)
        if (is_still_dying(check("destroy", some[i], failed[i]))) left.push_back(some[i]);
    }
    return left;
  }

  Result<Outfit> equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) override {
    Outfit outfit;
    if (const int failed = calls_->equip(domid, page_limit, memory, outfit); failed != 0)
      return call_failed("vcpu, memory and grant table", domid, failed);
    return outfit;
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

  Status set_context(DomId domid, const VcpuStart& start) override {
    return check("page tables and vcpu context", domid, calls_->set_context(domid, start));
  }

  Status unpause(DomId domid) override { return check("start", domid, calls_->unpause_domain(domid)); }

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
    return (info.free_pages - std::min(info.outstanding_pages, info.free_pages)) << kPageShift;
  }

 private:
  static Status check(const char* call, DomId domid, int failed) {
    if (failed == 0) return {};
    return call_failed(call, domid, failed);
  }

  XcHandle xc_;
  MemoryHandle memory_;
  std::unique_ptr<Hypercalls> calls_;
};

Error no_xen(int sys_errno) {
  if (sys_errno == EACCES || sys_errno == EPERM) {
    return {ErrorCode::kPermission, "/dev/xen/privcmd: no permission: Xen's control interface is root's",
            sys_errno};
  }
  return {ErrorCode::kUnavailable, "/dev/xen/privcmd: not there: this is no Xen dom0", sys_errno};
}

}  // namespace

bool is_still_dying(const Status& destroyed) {
  if (destroyed) return false;
  const int code = destroyed.error().sys_errno();
  return code == EAGAIN || code == EBUSY || code == EINTR;
}

std::vector<DomId> DomainEnder::destroy_domains(std::span<const DomId> domids) {
  std::vector<DomId> left;
  std::copy_if(domids.begin(), domids.end(), std::back_inserter(left),
               [this](DomId domid) { return is_still_dying(destroy_domain(domid)); });
  return left;
}

Result<std::unique_ptr<XenCalls>> open_xen_calls() {
  auto* logger = backend::xen::quiet_logger();
  XcHandle xc(xc_interface_open(logger, logger, 0));
  if (!xc) return no_xen(errno);
  MemoryHandle memory(xenforeignmemory_open(logger, 0));
  if (!memory) return no_xen(errno);
  auto calls = Hypercalls::open();
  if (!calls) return no_xen(errno);
  return std::unique_ptr<XenCalls>(
      std::make_unique<LibXenCalls>(std::move(xc), std::move(memory), std::move(calls)));
}

}  // namespace synfluid::spawner::toolstack
