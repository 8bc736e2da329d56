#include <algorithm>
#include <array>
#include <charconv>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {
namespace {

constexpr std::array<Permission, 1> kControlOnly{Permission{kControlDomain, Access::kNone}};

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

/// One that INTRODUCE may name.
std::optional<DomId> parse_guest(std::string_view text) {
  const auto domid = parse_domid(text);
  if (!domid || *domid == kControlDomain || domid->value() >= kFirstReservedDomid) return std::nullopt;
  return domid;
}

}  // namespace

Fault Engine::Impl::introduce(const Request& request) {
  Fields fields(request.payload);
  const auto domid_text = fields.next();
  const auto gfn_text = domid_text ? fields.next() : std::nullopt;
  const auto port_text = gfn_text ? fields.next() : std::nullopt;
  if (!port_text) return Fault::kEinval;
  const auto domid = parse_guest(*domid_text);
  const auto gfn = parse_number<int64_t>(*gfn_text);
  const auto port = parse_number<uint32_t>(*port_text);
  if (!domid || !gfn || !port || *port == 0) return Fault::kEinval;

  const auto known = domains_.find(*domid);
  const Fault fault = known == domains_.end()
                          ? introduce_new(*domid, static_cast<uint64_t>(*gfn), EventPort(*port))
                          : introduce_again(known->second, static_cast<uint64_t>(*gfn), EventPort(*port));
  if (fault == Fault::kNone) acknowledge(request);
  return fault;
}

Fault Engine::Impl::introduce_new(DomId domid, uint64_t gfn, EventPort port) {
  const ConnectionId connection = connect({.domid = domid, .privilege = Privilege::kGuest}, true);
  if (const Fault fault = calls_.introduce(domid, gfn, port, connection); fault != Fault::kNone) {
    disconnect(connection);
    return fault;
  }
  Domain& domain = domains_[domid];
  domain.state = {.domid = domid, .gfn = gfn, .port = port, .connection = connection, .target = {}};
  state_log_.domain_changed(domain.state);
  fire_special(kIntroduceEvent, domid);
  return Fault::kNone;
}

Fault Engine::Impl::introduce_again(Domain& domain, uint64_t gfn, EventPort port) {
  DomainState& state = domain.state;
  clear(at(state.connection));
  if (const Fault fault = calls_.reintroduce(state.domid, gfn, port, state.connection); fault != Fault::kNone)
    return fault;
  state.gfn = gfn;
  state.port = port;
  state_log_.domain_changed(state);
  return Fault::kNone;
}

Domain* Engine::Impl::named_domain(const Request& request, Fault& fault) {
  const auto text = only_field(request.payload);
  const auto domid = text ? parse_guest(*text) : std::nullopt;
  fault = Fault::kEinval;
  if (!domid) return nullptr;
  fault = Fault::kEnoent;
  const auto found = domains_.find(*domid);
  return found == domains_.end() ? nullptr : &found->second;
}

Fault Engine::Impl::release(const Request& request) {
  Fault fault = Fault::kNone;
  const Domain* domain = named_domain(request, fault);
  if (domain == nullptr) return fault;
  remove_domain(domain->state.domid);
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::resume(const Request& request) {
  Fault fault = Fault::kNone;
  Domain* domain = named_domain(request, fault);
  if (domain == nullptr) return fault;
  domain->state.shut_down = false;
  state_log_.domain_changed(domain->state);
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::get_domain_path(const Request& request) {
  const auto text = only_field(request.payload);
  const auto domid = text ? parse_domid(*text) : std::nullopt;
  if (!domid) return Fault::kEinval;
  text_buffer_.assign("/local/domain/").append(std::to_string(domid->value())).push_back('\0');
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::is_domain_introduced(const Request& request) {
  const auto text = only_field(request.payload);
  const auto domid = text ? parse_domid(*text) : std::nullopt;
  if (!domid) return Fault::kEinval;
  const bool yes = *domid == kControlDomain || *domid == kSelfDomid || domains_.contains(*domid);
  reply(request, std::string_view(yes ? "T" : "F", 2));
  return Fault::kNone;
}

Fault Engine::Impl::set_target(const Request& request) {
  Fields fields(request.payload);
  const auto domid_text = fields.next();
  const auto target_text = domid_text ? fields.next() : std::nullopt;
  const auto domid = target_text ? parse_domid(*domid_text) : std::nullopt;
  const auto target = domid ? parse_domid(*target_text) : std::nullopt;
  if (!target) return Fault::kEinval;
  const auto domain = domains_.find(*domid);
  const auto aim = domains_.find(*target);
  if (domain == domains_.end() || aim == domains_.end()) return Fault::kEnoent;
  remove_targets(domain->second);
  domain->second.state.target = *target;
  aim->second.targeted_by.push_back(*domid);
  state_log_.domain_changed(domain->second.state);
  acknowledge(request);
  return Fault::kNone;
}

/// What it aims at no longer lists it.
void Engine::Impl::remove_targets(const Domain& domain) {
  if (!domain.state.target) return;
  const auto aim = domains_.find(*domain.state.target);
  if (aim != domains_.end()) std::erase(aim->second.targeted_by, domain.state.domid);
}

void Engine::Impl::remove_domain(DomId domid) {
  const auto found = domains_.find(domid);
  // First its connection, so that it hears nothing of its own end.
  const ConnectionId connection = found->second.state.connection;
  clear(at(connection));
  calls_.release(domid, connection);
  disconnect(connection);
  remove_targets(found->second);
  for (const DomId other : found->second.targeted_by) {
    const auto aiming = domains_.find(other);
    if (aiming == domains_.end() || other == domid) continue;
    aiming->second.state.target.reset();
    state_log_.domain_changed(aiming->second.state);
  }
  domains_.erase(found);
  remove_nodes_of(domid);
  state_log_.domain_gone(domid);
  fire_special(kReleaseEvent, domid);
}

void Engine::Impl::remove_nodes_of(DomId domid) {
  for (const std::string& path : storage_.paths_naming(domid))
    if (storage_.find(path)) forget_domain_at(path, domid);
}

/// Its nodes go, with all below them; what others granted it is taken back, for the id will come again.
void Engine::Impl::forget_domain_at(const std::string& path, DomId domid) {
  const auto held = storage_.find(path)->permissions;
  std::vector<Permission> permissions(held.begin(), held.end());
  const bool owned = permissions[0].domid == domid;
  Change change{.kind = ChangeKind::kErase, .path = path, .value = {}, .permissions = {}};
  if (!owned || path == "/" || path[0] == '@') {
    std::erase_if(permissions, [&](const Permission& permission) { return permission.domid == domid; });
    change.kind = ChangeKind::kSetPermissions;
    change.permissions = owned ? std::span<const Permission>(kControlOnly) : permissions;
  } else {
    fire_erased(path);
  }
  apply({&change, 1});
}

void Engine::Impl::domain_died(DomId domid) {
  if (domid == kControlDomain) return;
  if (domains_.contains(domid)) return remove_domain(domid);
  remove_nodes_of(domid);
}

void Engine::Impl::domain_shut_down(DomId domid) {
  const auto found = domains_.find(domid);
  if (found == domains_.end() || found->second.state.shut_down) return;
  found->second.state.shut_down = true;
  state_log_.domain_changed(found->second.state);
  fire_special(kReleaseEvent, domid);
}

ConnectionId Engine::Impl::adopt_domain(DomId domid, EventPort port, Privilege privilege) {
  const ConnectionId connection = connect({.domid = domid, .privilege = privilege}, true);
  Domain& domain = domains_[domid];
  domain.state = {.domid = domid, .gfn = 0, .port = port, .connection = connection, .target = {}};
  state_log_.domain_changed(domain.state);
  return connection;
}

std::vector<DomainState> Engine::Impl::domain_states() const {
  std::vector<DomainState> states;
  for (const auto& [domid, domain] : domains_) states.push_back(domain.state);
  std::ranges::sort(states, {}, &DomainState::domid);
  return states;
}

}  // namespace synfluid::spawner::store
