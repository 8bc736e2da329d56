#include <charconv>
#include <utility>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {
namespace {

bool is_relative(std::string_view path) {
  return path[0] != '/' && path[0] != '@';
}

}  // namespace

Fault Engine::Impl::watch(const Request& request) {
  Fields fields(request.payload);
  const auto path = fields.next();
  const auto token = path ? fields.next() : std::nullopt;
  if (!token || path->empty()) return Fault::kEinval;
  WatchState wanted{.path = std::string(*path), .token = std::string(*token), .depth = {}};
  if (const auto depth_text = fields.next()) {
    uint32_t depth = 0;
    const char* end = depth_text->data() + depth_text->size();
    if (depth_text->empty() || std::from_chars(depth_text->data(), end, depth).ptr != end)
      return Fault::kEinval;
    wanted.depth = depth;
  }
  WatchId id = kNoWatch;
  if (const Fault fault = set_watch(request.from, wanted, id); fault != Fault::kNone) return fault;
  acknowledge(request);
  announce(watches_[id], watches_[id].path);
  return Fault::kNone;
}

Fault Engine::Impl::set_watch(Connection& connection, const WatchState& wanted, WatchId& id) {
  const auto path = path_of(connection, wanted.path, Paths::kSpecialToo);
  if (!path) return Fault::kEinval;
  if (watches_.find(connection.id, *path, wanted.token) != kNoWatch) return Fault::kEexist;
  Watch watch{.connection = connection.id,
              .path = std::string(*path),
              .token = wanted.token,
              .prefix_bytes = is_relative(wanted.path) ? static_cast<uint32_t>(connection.base.size()) : 0,
              .depth = wanted.depth};
  if (Account* account = connection.account; account != nullptr) {
    if (exceeds(connection, Quota::kWatches, account->watches + 1))
      return refuse(connection, Fault::kE2big, "sets too many watches");
    if (const Fault full = check_memory(connection, WatchTable::charge_of(watch)); full != Fault::kNone)
      return full;
    ++account->watches;
    account->bytes += WatchTable::charge_of(watch);
  }
  id = watches_.add(std::move(watch), connection.first_watch);
  if (connection.is_ring) state_log_.watch_added(connection.id, wanted);
  return Fault::kNone;
}

/// The log knows of it already; it may be over a quota that was lowered since.
void Engine::Impl::restore_watch(Connection& connection, const WatchState& wanted) {
  WatchId id = kNoWatch;
  if (set_watch(connection, wanted, id) == Fault::kNone) announce(watches_[id], watches_[id].path);
}

Fault Engine::Impl::unwatch(const Request& request) {
  Fields fields(request.payload);
  const auto text = fields.next();
  const auto token = text ? fields.next() : std::nullopt;
  const auto path = token ? path_of(request.from, *text, Paths::kSpecialToo) : std::nullopt;
  if (!path) return Fault::kEinval;
  const WatchId id = watches_.find(request.from.id, *path, *token);
  if (id == kNoWatch) return Fault::kEnoent;
  forget_watch(request.from, id);
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::reset_watches(const Request& request) {
  drop_watches(request.from);
  drop_transactions(request.from);
  acknowledge(request);
  return Fault::kNone;
}

void Engine::Impl::forget_watch(Connection& connection, WatchId id) {
  if (connection.account != nullptr) {
    --connection.account->watches;
    connection.account->bytes -= WatchTable::charge_of(watches_[id]);
  }
  if (connection.is_ring) state_log_.watch_removed(connection.id, state_of(watches_[id]));
  watches_.remove(id, connection.first_watch);
}

WatchState Engine::Impl::state_of(const Watch& watch) {
  return {.path = watch.path.substr(watch.prefix_bytes), .token = watch.token, .depth = watch.depth};
}

void Engine::Impl::announce(const Watch& watch, std::string_view path) {
  Connection& to = at(watch.connection);
  event_buffer_.assign(path.substr(watch.prefix_bytes)).push_back('\0');
  event_buffer_.append(watch.token).push_back('\0');
  const bool too_much = to.account != nullptr &&
                        exceeds(to, Quota::kMemory, memory_of(to) + kHeaderBytes + event_buffer_.size());
  if (too_much) refuse(to, Fault::kEnomem, "takes no events, and gets no more for now");
  if (too_much || event_buffer_.size() > kMaxPayload) {
    ++counters.events_dropped;
    return;
  }
  ++counters.events;
  send(to, {.type = MessageType::kWatchEvent}, event_buffer_);
}

bool Engine::Impl::Audience::includes(const Connection& connection) {
  if (connection.is_control()) return true;
  if (last_ != &connection) {
    last_ = &connection;
    last_included_ = may_hear(connection);
  }
  return last_included_;
}

/// It can read the node or the one above, or could read it before.
bool Engine::Impl::Audience::may_hear(const Connection& connection) {
  const auto reads = [&](std::span<const Permission> permissions) {
    return !permissions.empty() && allows(engine_.access_of(connection, permissions), Access::kRead);
  };
  look();
  return reads(before_) || reads(now_) || reads(above_);
}

void Engine::Impl::Audience::look() {
  if (std::exchange(looked_, true)) return;
  const auto node = engine_.storage_.find(path_);
  if (!node) return;
  now_ = node->permissions;
  if (path_[0] == '@') return;
  if (const auto parent = engine_.storage_.find(parent_of(path_))) above_ = parent->permissions;
}

void Engine::Impl::fire(std::string_view path, std::span<const Permission> before) {
  Audience audience(*this, path, before);
  watches_.for_each_matching(path, [&](const Watch& watch) {
    if (audience.includes(at(watch.connection))) announce(watch, path);
  });
}

void Engine::Impl::fire_erased(std::string_view path) {
  if (watches_.any_below(path)) {
    storage_.for_each_below(path, [&](std::string_view below, const NodeView&) {
      if (below == path) return;
      Audience audience(*this, below);
      watches_.for_each_at(below, [&](const Watch& watch) {
        if (audience.includes(at(watch.connection))) announce(watch, below);
      });
    });
  }
  fire(path);
}

/// Watches with a depth of 1 hear the domain's id too.
void Engine::Impl::fire_special(std::string_view name, DomId domid) {
  const std::string of_domain = std::string(name) + "/" + std::to_string(domid.value());
  Audience audience(*this, name);
  const auto tell = [&](const Watch& watch, std::string_view path) {
    if (audience.includes(at(watch.connection))) announce(watch, path);
  };
  watches_.for_each_at(name, [&](const Watch& watch) {
    if (!watch.depth || *watch.depth == 0) return tell(watch, name);
    tell(watch, of_domain);
  });
  watches_.for_each_at(of_domain, [&](const Watch& watch) { tell(watch, of_domain); });
}

}  // namespace synfluid::spawner::store
