// One foreign guest: its domain, console, store nodes and handshake. Private to spawner/xen.
//
// Threads: the spawner's. Ownership: as in foreign.h.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "backend/xen/xen_link.h"
#include "backend/xen/xenbus_backend.h"
#include "spawner/card_console.h"
#include "spawner/control_store.h"
#include "spawner/hypervisor.h"
#include "spawner/xen/foreign_domain.h"
#include "spawner/xen/foreign_store.h"
#include "spawner/xen/guest_console.h"

namespace synfluid::spawner::xen {

/// What all foreign guests share.
struct ForeignHost {
  ControlStore& store;
  toolstack::XenCalls& xen;
  /// Maps a front end's rings and binds its channels, for a worker.
  std::function<Result<std::unique_ptr<backend::GuestLink>>(WorkerId, const backend::xen::ForeignLinkConfig&)>
      connect;
  /// A guest takes itself off the list.
  std::function<void(backend::DoorbellToken)> forget;
  backend::xen::XenbusOffer offer = {};
};

/// Nodes in the store, an introduction and a watch: undone together.
class StorePresence {
 public:
  StorePresence(ControlStore& store, DomId domid) : store_(store), domid_(domid) {}
  StorePresence(const StorePresence&) = delete;
  StorePresence& operator=(const StorePresence&) = delete;
  ~StorePresence();

  Status enter(const ForeignNodes& nodes, const ForeignDomain& domain);
  /// Events of the front end's state come with this token.
  Status watch(const std::string& token);

 private:
  ControlStore& store_;
  DomId domid_;
  std::string token_;
  bool has_nodes_ = false;
  bool is_introduced_ = false;
};

class ForeignVm final : public Vm, private backend::xen::XenbusDevice {
 public:
  /// `key` names the guest to its console's doorbell and, as text, to its watch.
  static Result<std::unique_ptr<ForeignVm>> create(const ForeignHost& host, ForeignDomain domain,
                                                   std::unique_ptr<GuestConsole> console,
                                                   const VmConfig& config, backend::DoorbellToken key);
  ~ForeignVm() override;

  VmId id() const override { return id_; }
  Status start() override;
  Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) override;
  std::unique_ptr<backend::GuestLink> take_link() override;
  bool link_ready() const override { return link_ != nullptr; }

  /// The watch fired.
  std::optional<VmEvent> front_changed();
  /// What it wrote since its channel last rang is taken as well.
  Result<std::string> console() override {
    read_console();
    return printable(console_->tail());
  }
  void read_console() { console_->read(); }
  std::string last_words() const { return last_line(console_->tail()); }

 private:
  ForeignVm(const ForeignHost& host, ForeignDomain domain, std::unique_ptr<GuestConsole> console,
            const VmConfig& config, backend::DoorbellToken key);

  Result<std::optional<std::string>> read_front(std::string_view key) override;
  Status write_state(backend::xen::XenbusState state) override;
  Status connect(const backend::xen::FrontEndDetails& details) override;
  void disconnect() override;

  Status make_link();
  std::optional<VmEvent> event(VmEvent::Kind kind, std::string detail);

  ForeignHost host_;
  VmId id_;
  backend::DoorbellToken key_;
  WorkerId worker_;
  backend::DoorbellToken doorbell_;
  // Destroyed in reverse: link, handshake, store, console, domain. Xen keeps a domain whose pages are mapped.
  ForeignDomain domain_;
  std::unique_ptr<GuestConsole> console_;
  StorePresence presence_;
  backend::xen::XenbusBackend handshake_;
  std::optional<backend::xen::FrontEndDetails> details_;
  std::unique_ptr<backend::GuestLink> link_;
  bool is_link_taken_ = false;
  bool has_ended_ = false;
};

}  // namespace synfluid::spawner::xen
