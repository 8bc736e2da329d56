#include "spawner/xen/foreign_store.h"

#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace synfluid::spawner::xen {

namespace {

using backend::xen::XenbusState;

constexpr DomId kOurDomain{0};
constexpr char kBackRoot[] = "/local/domain/0/synfluid/vif";

std::string text_of(const std::array<uint8_t, 6>& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4],
                     mac[5]);
}

std::string back_parent(DomId domid) {
  return fmt::format("{}/{}", kBackRoot, domid.value());
}

std::string text_of(XenbusState state) {
  return std::to_string(static_cast<int>(state));
}

/// Runs store operations until one fails.
class Steps {
 public:
  explicit Steps(StoreView& store) : store_(store) {}

  Steps& write(const std::string& path, const std::string& value) {
    return then([&] { return store_.write(path, value); });
  }
  /// A directory, and whatever is made below it, that only `domid` and we may read.
  Steps& readable(const std::string& path, DomId domid) {
    return directory(
        path, {.owner = kOurDomain, .others = StoreAccess::kNone, .grants = {{domid, StoreAccess::kRead}}});
  }
  /// A directory that belongs to the guest.
  Steps& owned(const std::string& path, DomId domid) {
    return directory(path, {.owner = domid, .others = StoreAccess::kNone, .grants = {}});
  }
  Steps& remove(const std::string& path) {
    return then([&] { return store_.remove(path); });
  }
  Status status() const { return status_; }

 private:
  template <class Step>
  Steps& then(Step step) {
    if (status_) status_ = step();
    return *this;
  }
  Steps& directory(const std::string& path, const StorePermissions& permissions) {
    then([&] { return store_.make_directory(path); });
    return then([&] { return store_.set_permissions(path, permissions); });
  }

  StoreView& store_;
  Status status_;
};

Status write_all(StoreView& store, const ForeignNodes& n) {
  const std::string guest = guest_path(n.domid);
  const std::string front = front_path(n.domid);
  const std::string back = back_path(n.domid);
  Steps steps(store);
  steps.remove(guest)
      .remove(back_parent(n.domid))
      .readable(guest, n.domid)
      .write(guest + "/name", n.name)
      .owned(guest + "/control/shutdown", n.domid)
      .owned(front, n.domid)
      .write(front + "/backend", back)
      .write(front + "/backend-id", std::to_string(kOurDomain.value()))
      .write(front + "/state", text_of(XenbusState::kInitialising))
      .write(front + "/mac", text_of(n.mac))
      .readable(back, n.domid)
      .write(back + "/state", text_of(XenbusState::kInitWait))
      .write(back + "/feature-rx-copy", "1")
      .write(back + "/feature-sg", "1")
      .write(back + "/feature-persistent", "1");
  if (n.offer.control_ring) steps.write(back + "/feature-ctrl-ring", "1");
  return steps.status();
}

std::optional<DomId> domid_of(std::string_view name) {
  uint16_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  return DomId{id};
}

}  // namespace

std::string guest_path(DomId domid) {
  return fmt::format("/local/domain/{}", domid.value());
}
std::string front_path(DomId domid) {
  return guest_path(domid) + "/device/vif/0";
}
std::string back_path(DomId domid) {
  return back_parent(domid) + "/0";
}

Status write_nodes(ControlStore& store, const ForeignNodes& nodes) {
  const Status done = store.transact([&](StoreView& view) { return write_all(view, nodes); });
  if (!done) return done.error().within(fmt::format("guest {}", nodes.domid.value()));
  return {};
}

Status remove_nodes(ControlStore& store, DomId domid) {
  const Status done = store.transact([&](StoreView& view) {
    return Steps(view).remove(guest_path(domid)).remove(back_parent(domid)).status();
  });
  if (!done) return done.error().within(fmt::format("guest {}", domid.value()));
  return {};
}

Result<uint32_t> sweep_nodes(ControlStore& store, const std::function<bool(DomId)>& is_in_use) {
  const auto names = store.list(kBackRoot);
  if (!names && names.error().code() == ErrorCode::kNotFound) return 0u;
  if (!names) return names.error();
  uint32_t swept = 0;
  for (const std::string& name : *names) {
    const auto domid = domid_of(name);
    if (!domid) continue;
    const Status removed =
        is_in_use(*domid) ? store.remove(back_parent(*domid)) : remove_nodes(store, *domid);
    if (!removed) return removed.error();
    ++swept;
  }
  return swept;
}

}  // namespace synfluid::spawner::xen
