// Foreign guests on Xen: a kernel of their own, their vif wired by xenbus.
//
//     prepare ▸ create: domain by libxenguest ▸ console ▸ store nodes ▸ introduce ▸ watch
//     start   ▸ the kernel finds its vif ▸ handshake (backend/xen/xenbus_backend.h) ▸ kVifReady ▸ take_link()
//
// The store and the builder are opened when the first foreign image is prepared: a host that runs only guests
// of ours needs neither.
//
// Threads: the spawner's. Ownership: ForeignGuests must outlive the guests it made; a guest (Vm) owns its
// domain, nodes, watch and console, and gives them back in reverse. A link must be destroyed before its Vm.
// Errors: Result, nothing left behind; a store that fails later on ends the guests it concerns (kExited, with
// the reason).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "base/result.h"
#include "spawner/hypervisor.h"
#include "spawner/toolstack/xen_calls.h"
#include "spawner/xen/foreign_image.h"

namespace synfluid::spawner::xen {

struct ForeignGuestsConfig {
  toolstack::XenCalls* xen = nullptr;
  toolstack::DomainEnder* ender = nullptr;  ///< of domains that may be large
  backend::xen::GrantMapper* grants = nullptr;
  /// Where a worker's doorbells arrive; valid for every worker that a VmConfig names.
  std::function<backend::xen::XenDoorbells&(WorkerId)> doorbells;
};

class ForeignGuests {
 public:
  static Result<std::unique_ptr<ForeignGuests>> create(ForeignGuestsConfig config);
  ~ForeignGuests();
  ForeignGuests(const ForeignGuests&) = delete;
  ForeignGuests& operator=(const ForeignGuests&) = delete;

  Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec);
  Result<std::unique_ptr<Vm>> create_vm(const ForeignImage& image, const VmConfig& config);

  /// Readable when next_event() has something. Stable from the start.
  int event_fd() const;
  /// Does what the store and the consoles ask for, a bounded amount a call.
  std::optional<VmEvent> next_event();

  /// The last line a guest wrote to its console; empty for guests that are not foreign or said nothing.
  std::string last_words(VmId vm) const;

  /// Removes what a former run's guests left in the store, where there is one. To be called when their
  /// domains are gone; `is_in_use` tells of ids that somebody else's domain has.
  Status sweep(const std::function<bool(DomId)>& is_in_use);

 private:
  class Impl;
  explicit ForeignGuests(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace synfluid::spawner::xen
