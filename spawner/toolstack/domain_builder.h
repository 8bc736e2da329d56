// Builds PV domains of ours from a prepared image: one contiguous piece of memory where Xen has one, page
// tables by template, the vif's memory granted before the first instruction.
//
//     build():  create ▸ vcpu, memory, grant table ▸ map ▸ write ▸ unmap ▸ context (Xen checks the page
//     tables)
//
// Each step that takes something is an object that gives it back, so whatever fails, what was taken is
// returned in reverse order. The domain is left paused; its vif is for backend/xen to connect.
//
// Threads: one thread at a time for all builders that share XenCalls. Ownership: a BuiltDomain is the domain:
// when it goes, the domain is destroyed. XenCalls and the GuestTemplate must outlive what is built. Errors:
// Result, nothing left behind; kConflict for a domain id in use. Source: Xen public headers; Xen's own rules
// for PV start of day (docs/misc, xen/arch/x86/pv).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/abi/card.h"
#include "spawner/toolstack/layout.h"
#include "spawner/toolstack/page_tables.h"
#include "spawner/toolstack/pv_image.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::toolstack {

/// Everything about a service's guests that is the same for all of them.
struct GuestTemplate {
  PvImage image;
  GuestLayout layout;
  PageTableTemplate page_tables;
  abi::ServiceKind service = abi::ServiceKind::kResponder;
  std::string card_config;
  std::vector<uint32_t> mapped_pfns;  ///< the pages that the builder writes, ascending; the grant table last
};

/// Errors are the operator's: `name` is what he called the image.
Result<GuestTemplate> make_guest_template(std::span<const std::byte> elf, std::string_view name,
                                          uint64_t memory_bytes, uint32_t buffers);

/// What only this guest has.
struct GuestIdentity {
  DomId domid = {};
  uint32_t generation = 0;
  EventPort event_port = {};  ///< the back end's, left open for this domain id: the guest binds it
  std::array<uint64_t, 4> entropy = {};
};

/// A domain that is destroyed with its owner.
class OwnedDomain {
 public:
  OwnedDomain(DomainEnder& ender, DomId domid) : ender_(&ender), domid_(domid) {}
  OwnedDomain(OwnedDomain&& other) noexcept
      : ender_(std::exchange(other.ender_, nullptr)), domid_(other.domid_) {}
  OwnedDomain& operator=(OwnedDomain&& other) noexcept {
    std::swap(ender_, other.ender_);
    std::swap(domid_, other.domid_);
    return *this;
  }
  ~OwnedDomain() {
    // Xen refuses only what is no domain any more.
    if (ender_ != nullptr) static_cast<void>(ender_->destroy_domain(domid_));
  }
  DomId id() const { return domid_; }

  /// Somebody else ends it when it goes.
  void end_by(DomainEnder& ender) { ender_ = &ender; }
  bool is_ended_by(const DomainEnder& ender) const { return ender_ == &ender; }
  /// The caller ends it.
  DomId let_go() {
    ender_ = nullptr;
    return domid_;
  }

 private:
  DomainEnder* ender_;
  DomId domid_;
};

struct BuiltDomain {
  OwnedDomain domain;
  uint64_t card_frame = 0;  ///< to read its last words when it has died
};

/// Marks a domain as ours, whatever run of the gateway made it.
DomainHandle handle_of(uint32_t generation);
bool is_ours(const DomainHandle& handle);
uint32_t generation_of(const DomainHandle& handle);

class DomainBuilder {
 public:
  explicit DomainBuilder(XenCalls& xen) : DomainBuilder(xen, xen) {}
  /// `ender` ends what is built, and what could not be built to the end.
  DomainBuilder(XenCalls& xen, DomainEnder& ender) : xen_(xen), ender_(ender) {}

  Result<BuiltDomain> build(const GuestTemplate& guest, const GuestIdentity& identity);

 private:
  Status equip(DomId domid, const GuestLayout& layout);
  Status take_piece(DomId domid, const MemoryPiece& piece);
  Status write_memory(const GuestTemplate& guest, const GuestIdentity& identity);

  XenCalls& xen_;
  DomainEnder& ender_;
  // Of the guest that is being built; kept for their memory.
  std::vector<uint64_t> frames_;  ///< by page, up to populated_pages; there, the grant table's
  std::vector<uint64_t> map_list_;
};

}  // namespace synfluid::spawner::toolstack
