#include "spawner/xen/foreign_domain.h"

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "backend/xen/quiet_logger.h"
#include "spawner/xen/libxenguest.h"

namespace synfluid::spawner::xen {

namespace {

/// Foreign guests take ids from here downwards, apart from ours, which begin at Xen's highest: each kind
/// finds the next free one at the first try, and Xen, which keeps its domains sorted, has few to walk past.
constexpr uint16_t kHighestId = 8191;
/// Two frames hold the grants of both rings and their buffers; Linux' own drivers may want some.
constexpr uint32_t kGrantFrames = 8;
/// For Xen's own tables about the guest, as its toolstack allows.
constexpr uint64_t kSlackKib = 1024;

struct CloseInterface {
  void operator()(xc_interface* xc) const noexcept { xc_interface_close(xc); }
};
struct ReleaseImage {
  void operator()(xc_dom_image* dom) const noexcept { xc_dom_release(dom); }
};
using Image = std::unique_ptr<xc_dom_image, ReleaseImage>;

class XenGuestBuilder final : public ForeignBuilder {
 public:
  XenGuestBuilder(std::unique_ptr<xc_interface, CloseInterface> xc, toolstack::DomainEnder& ender)
      : xc_(std::move(xc)), ender_(ender) {}

  Result<ForeignDomain> build(const ForeignImage& image, uint32_t generation) override {
    auto domain = create(generation);
    if (!domain) return domain.error();
    ForeignDomain built{.domain = std::move(*domain)};
    if (const Status done = configure(built, image); !done) return done.error();
    if (const Status done = fill(built, image); !done) return done.error();
    return built;
  }

 private:
  Error failed(std::string_view step, DomId domid) const {
    const int code = errno;
    const xc_error* last = xc_get_last_error(xc_.get());
    const auto what = fmt::format("domain {}: {}", domid.value(), step);
    if (last->message[0] == '\0') return Error::from_errno(code, what);
    return Error::from_errno(code, fmt::format("{} ({})", what, last->message));
  }
  Status check(std::string_view step, DomId domid, int rc) const {
    if (rc != 0) return failed(step, domid);
    return {};
  }

  Result<toolstack::OwnedDomain> create(uint32_t generation) {
    const toolstack::DomainHandle handle = toolstack::handle_of(generation);
    for (uint16_t tries = 0; tries < kHighestId; ++tries) {
      next_id_ = next_id_ <= 1 ? kHighestId : static_cast<uint16_t>(next_id_ - 1);
      xen_domctl_createdomain config{};
      std::copy(handle.begin(), handle.end(), config.handle);
      config.max_vcpus = 1;
      config.max_evtchn_port = -1;
      config.max_grant_frames = kGrantFrames;
      config.grant_opts = XEN_DOMCTL_GRANT_version(1);
      uint32_t id = next_id_;
      if (xc_domain_create(xc_.get(), &id, &config) == 0)
        return toolstack::OwnedDomain(ender_, DomId{next_id_});
      if (errno != EEXIST) return failed("create", DomId{next_id_});
    }
    return Error(ErrorCode::kExhausted, fmt::format("no domain id below {} is free", kHighestId));
  }

  Status configure(ForeignDomain& built, const ForeignImage& image) {
    const DomId id = built.domain.id();
    const uint64_t kib = (image.memory_bytes >> 10) + kSlackKib;
    xc_interface* xc = xc_.get();
    if (const auto s = check("vcpu", id, xc_domain_max_vcpus(xc, id.value(), 1)); !s) return s;
    if (const auto s = check("memory limit", id, xc_domain_setmaxmem(xc, id.value(), kib)); !s) return s;
    if (const auto s =
            check("memory map", id, xc_domain_set_memmap_limit(xc, id.value(), image.memory_bytes >> 10));
        !s)
      return s;
    if (const auto s = check(
            "processor features", id,
            xc_cpuid_apply_policy(xc, id.value(), false, nullptr, 0, true, false, false, nullptr, nullptr));
        !s)
      return s;
    const auto store = open_port(id);
    if (!store) return store.error();
    const auto console = open_port(id);
    if (!console) return console.error();
    built.store_port = *store;
    built.console_port = *console;
    return {};
  }

  Result<EventPort> open_port(DomId id) {
    const int port = xc_evtchn_alloc_unbound(xc_.get(), id.value(), 0);
    if (port < 0) return failed("event channel", id);
    return EventPort{static_cast<uint32_t>(port)};
  }

  /// Kernel, ramdisk, page tables, start info, first context.
  Status fill(ForeignDomain& built, const ForeignImage& image) {
    const DomId id = built.domain.id();
    const Image dom(xc_dom_allocate(xc_.get(), image.command_line.c_str(), nullptr));
    if (!dom) return failed("memory to build it", id);
    dom->container_type = xc_dom_image::XC_DOM_PV_CONTAINER;
    dom->console_evtchn = built.console_port.value();
    dom->xenstore_evtchn = built.store_port.value();
    dom->max_vcpus = 1;
    if (const auto s = load(dom.get(), id, image); !s) return s;
    if (const auto s = boot(dom.get(), id, image); !s) return s;
    built.store_frame = xc_dom_p2m(dom.get(), dom->xenstore_pfn);
    return {};
  }

  Status load(xc_dom_image* dom, DomId id, const ForeignImage& image) {
    if (const auto s = check("kernel", id, xc_dom_kernel_mem(dom, image.kernel.data(), image.kernel.size()));
        !s)
      return s;
    if (image.ramdisk.empty()) return {};
    return check("ramdisk", id, xc_dom_module_mem(dom, image.ramdisk.data(), image.ramdisk.size(), nullptr));
  }

  Status boot(xc_dom_image* dom, DomId id, const ForeignImage& image) {
    const auto mib = static_cast<unsigned int>(image.memory_bytes >> 20);
    if (const auto s = check("start of the build", id, xc_dom_boot_xen_init(dom, xc_.get(), id.value())); !s)
      return s;
    if (const auto s = check("kernel", id, xc_dom_parse_image(dom)); !s) return s;
    if (const auto s = check("memory", id, xc_dom_mem_init(dom, mib)); !s) return s;
    if (const auto s = check("memory", id, xc_dom_boot_mem_init(dom)); !s)
      return out_of_memory(id, mib, s.error());
    if (const auto s = check("kernel and ramdisk in memory", id, xc_dom_build_image(dom)); !s) return s;
    if (const auto s = check("first context", id, xc_dom_boot_image(dom)); !s) return s;
    return check("grants of its rings", id, xc_dom_gnttab_init(dom));
  }

  // The library reports a want of memory with whatever errno the last call left.
  static Error out_of_memory(DomId id, unsigned int mib, const Error& error) {
    return {ErrorCode::kNoMemory, fmt::format("domain {}: Xen has no {} MiB left for it", id.value(), mib),
            error.sys_errno()};
  }

  std::unique_ptr<xc_interface, CloseInterface> xc_;
  toolstack::DomainEnder& ender_;
  uint16_t next_id_ = 0;
};

}  // namespace

Result<std::unique_ptr<ForeignBuilder>> open_foreign_builder(toolstack::DomainEnder& ender) {
  auto* logger = backend::xen::quiet_logger();
  std::unique_ptr<xc_interface, CloseInterface> xc(
      xc_interface_open(logger, logger, XC_OPENFLAG_NON_REENTRANT));
  if (!xc) return Error(ErrorCode::kUnavailable, "no Xen on this host, or no right to use it", errno);
  return std::unique_ptr<ForeignBuilder>(std::make_unique<XenGuestBuilder>(std::move(xc), ender));
}

}  // namespace synfluid::spawner::xen
