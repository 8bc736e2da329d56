#include "spawner/xen/foreign_vm.h"

#include <utility>

#include "spawner/shared_area.h"
#include "spawner/xen/foreign_store.h"

namespace synfluid::spawner::xen {

using backend::xen::FrontEndDetails;
using backend::xen::XenbusChange;
using backend::xen::XenbusState;

// ---- StorePresence ----

// The store may be gone before the guest is: what can't be taken back then is swept by the next run.
StorePresence::~StorePresence() {
  if (!token_.empty()) static_cast<void>(store_.unwatch(front_path(domid_) + "/state", token_));
  if (is_introduced_) static_cast<void>(store_.release(domid_));
  if (has_nodes_) static_cast<void>(remove_nodes(store_, domid_));
}

Status StorePresence::enter(const ForeignNodes& nodes, const ForeignDomain& domain) {
  if (const Status s = write_nodes(store_, nodes); !s) return s;
  has_nodes_ = true;
  if (const Status s = store_.introduce(domid_, domain.store_frame, domain.store_port); !s) return s;
  is_introduced_ = true;
  return {};
}

Status StorePresence::watch(const std::string& token) {
  if (const Status s = store_.watch(front_path(domid_) + "/state", token); !s) return s;
  token_ = token;
  return {};
}

// ---- ForeignVm ----

ForeignVm::ForeignVm(const ForeignHost& host, ForeignDomain domain, std::unique_ptr<GuestConsole> console,
                     const VmConfig& config, backend::DoorbellToken key)
    : host_(host),
      id_{domain.domain.id(), config.generation},
      key_(key),
      worker_(config.worker),
      doorbell_(config.doorbell),
      domain_(std::move(domain)),
      console_(std::move(console)),
      presence_(host.store, id_.domid),
      handshake_(*this, host.offer) {}

ForeignVm::~ForeignVm() {
  host_.forget(key_);
}

Result<std::unique_ptr<ForeignVm>> ForeignVm::create(const ForeignHost& host, ForeignDomain domain,
                                                     std::unique_ptr<GuestConsole> console,
                                                     const VmConfig& config, backend::DoorbellToken key) {
  std::unique_ptr<ForeignVm> vm(new ForeignVm(host, std::move(domain), std::move(console), config, key));
  const ForeignNodes nodes{.domid = vm->id_.domid,
                           .name = config.name,
                           .mac = guest_mac(vm->id_.domid, vm->id_.generation),
                           .offer = host.offer};
  if (const Status s = vm->presence_.enter(nodes, vm->domain_); !s) return s.error();
  if (const Status s = vm->presence_.watch(std::to_string(key)); !s) return s.error();
  return vm;
}

Status ForeignVm::start() {
  return host_.xen.unpause(id_.domid);
}

Status ForeignVm::set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) {
  if (worker == worker_ && doorbell == doorbell_) return {};
  worker_ = worker;
  doorbell_ = doorbell;
  if (!link_) return {};
  link_.reset();  // the guest's port is open to us again only when our old end is closed
  return make_link();
}

std::unique_ptr<backend::GuestLink> ForeignVm::take_link() {
  if (link_) is_link_taken_ = true;
  return std::move(link_);
}

std::optional<VmEvent> ForeignVm::front_changed() {
  const auto change = handshake_.front_changed();
  if (!change) return event(VmEvent::Kind::kExited, change.error().text());
  switch (change->kind) {
    case XenbusChange::Kind::kNone:
      return std::nullopt;
    case XenbusChange::Kind::kConnected:
      return VmEvent{id_, VmEvent::Kind::kVifReady, {}};
    case XenbusChange::Kind::kClosed:
      // Before it has served anybody a front end may leave and come back.
      if (!is_link_taken_) return std::nullopt;
      break;
    case XenbusChange::Kind::kRefused:
      break;
  }
  return event(VmEvent::Kind::kExited, change->reason);
}

std::optional<VmEvent> ForeignVm::event(VmEvent::Kind kind, std::string detail) {
  if (std::exchange(has_ended_, true)) return std::nullopt;
  return VmEvent{id_, kind, std::move(detail)};
}

Result<std::optional<std::string>> ForeignVm::read_front(std::string_view key) {
  auto value = host_.store.read(front_path(id_.domid).append("/").append(key));
  if (value) return std::optional<std::string>(std::move(*value));
  if (value.error().code() == ErrorCode::kNotFound) return std::optional<std::string>{};
  return value.error();
}

Status ForeignVm::write_state(XenbusState state) {
  return host_.store.write(back_path(id_.domid) + "/state", std::to_string(static_cast<int>(state)));
}

Status ForeignVm::connect(const FrontEndDetails& details) {
  if (is_link_taken_)
    return Error(ErrorCode::kProtocol, "the front end came back while its former vif is in use");
  details_ = details;
  return make_link();
}

Status ForeignVm::make_link() {
  auto link = host_.connect(worker_, {.domid = id_.domid,
                                      .tx_ring = details_->tx_ring,
                                      .rx_ring = details_->rx_ring,
                                      .tx_port = details_->tx_port,
                                      .rx_port = details_->rx_port,
                                      .persistent = details_->persistent,
                                      .receives_chains = details_->receives_chains,
                                      .control = details_->control,
                                      .token = doorbell_});
  if (!link) return link.error();
  link_ = std::move(*link);
  return {};
}

void ForeignVm::disconnect() {
  link_.reset();
}

}  // namespace synfluid::spawner::xen
