#include <spdlog/spdlog.h>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {
namespace {

/// How long "/local/domain/N/" is at the front of the path; 0 when it is not there.
size_t domain_prefix_bytes(std::string_view path) {
  static constexpr std::string_view kDomains = "/local/domain/";
  if (!path.starts_with(kDomains)) return 0;
  const size_t slash = path.find('/', kDomains.size());
  return slash == std::string_view::npos ||
                 !parse_domid(path.substr(kDomains.size(), slash - kDomains.size()))
             ? 0
             : slash + 1;
}

}  // namespace

std::optional<std::string_view> Engine::Impl::path_of(const Connection& from, std::string_view text,
                                                      Paths paths) {
  if (text.empty()) return std::nullopt;
  if (text[0] == '@') {
    if (paths != Paths::kSpecialToo || !is_special_path(text)) return std::nullopt;
  } else if (text[0] == '/') {
    if (!is_absolute_path(text)) return std::nullopt;
  } else {
    if (!is_relative_path(text)) return std::nullopt;
    path_buffer_.assign(from.base).append(text);
    text = path_buffer_;
  }
  if (from.account != nullptr && exceeds(from, Quota::kPathLength, text.size() - domain_prefix_bytes(text)))
    return std::nullopt;
  return text;
}

std::optional<std::string_view> Engine::Impl::only_path(const Request& request, Paths paths) {
  const auto text = only_field(request.payload);
  return text ? path_of(request.from, *text, paths) : std::nullopt;
}

bool Engine::Impl::is_self_or_target(const Connection& connection, DomId domid) const {
  if (domid == connection.peer.domid) return true;
  const auto domain = domains_.find(connection.peer.domid);
  return domain != domains_.end() && domain->second.state.target == domid;
}

bool Engine::Impl::owns(const Connection& connection, std::span<const Permission> permissions) const {
  return connection.is_control() || is_self_or_target(connection, permissions[0].domid);
}

Access Engine::Impl::access_of(const Connection& connection, std::span<const Permission> permissions) const {
  if (owns(connection, permissions)) return Access::kReadWrite;
  for (const Permission& permission : permissions.subspan(1))
    if (is_self_or_target(connection, permission.domid)) return permission.access;
  return permissions[0].access;
}

std::optional<NodeView> Engine::Impl::look(const Request& request, std::string_view path, Part seen) {
  return request.transaction == nullptr ? storage_.find(path) : request.transaction->view.look(path, seen);
}

Engine::Impl::Found Engine::Impl::find_allowed(const Request& request, std::string_view path, Need need,
                                               Part seen) {
  Connection& from = request.from;
  if (from.is_control()) {
    const auto node = look(request, path, seen);
    return {node ? Fault::kNone : Fault::kEnoent, node};
  }
  const auto wanted = static_cast<Access>(need);
  auto node = look(request, path, seen | Part::kPermissions);
  if (node && allows(access_of(from, node->permissions), wanted)) return {Fault::kNone, node};
  if (node) return {refuse(from, Fault::kEacces, "asks for a node it has no access to"), std::nullopt};
  // Whether a node exists is told to those alone who could have it below what there is.
  node = look(request, nearest_above(request, path), Part::kPermissions);
  if (allows(access_of(from, node->permissions), wanted)) return {Fault::kEnoent, std::nullopt};
  return {refuse(from, Fault::kEacces, "asks for a node where it has no access"), std::nullopt};
}

/// Halves what lies between a node that is there and one that is not, so that a path of a thousand names
/// takes ten looks. What is right below the node found has been looked at, too: a transaction depends on its
/// absence.
std::string_view Engine::Impl::nearest_above(const Request& request, std::string_view path) {
  if (path[0] == '@') return "/";
  if (const std::string_view parent = parent_of(path); look(request, parent, Part::kExistence)) return parent;
  size_t there = 0;
  size_t missing = path.rfind('/');
  for (;;) {
    size_t middle = path.rfind('/', there + (missing - there) / 2);
    if (middle <= there) middle = path.find('/', there + 1);
    if (middle >= missing) return there == 0 ? "/" : path.substr(0, there);
    (look(request, path.substr(0, middle), Part::kExistence) ? there : missing) = middle;
  }
}

Fault Engine::Impl::apply(std::span<const Change> changes) {
  const Status applied = storage_.apply(changes);
  if (applied) return Fault::kNone;
  spdlog::error("store: a change is lost: {}", applied.error().text());
  return Fault::kEio;
}

}  // namespace synfluid::spawner::store
