#include <charconv>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {

Fault Engine::Impl::read(const Request& request) {
  const auto path = only_path(request, Paths::kOrdinary);
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kRead, Part::kValue);
  if (found.fault != Fault::kNone) return found.fault;
  reply(request, found.node->value);
  return Fault::kNone;
}

Fault Engine::Impl::directory(const Request& request) {
  const auto path = only_path(request, Paths::kOrdinary);
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kRead, Part::kExistence);
  if (found.fault != Fault::kNone) return found.fault;
  if (request.transaction != nullptr) {
    text_buffer_ = request.transaction->view.children(*path);
  } else {
    if (found.node->children_bytes > kMaxPayload) return Fault::kE2big;
    text_buffer_.clear();
    storage_.list_children(*path, 0, kMaxPayload, text_buffer_);
  }
  if (text_buffer_.size() > kMaxPayload) return Fault::kE2big;
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::directory_part(const Request& request) {
  Fields fields(request.payload);
  const auto text = fields.next();
  const auto offset_text = text ? fields.next() : std::nullopt;
  const auto path = offset_text ? path_of(request.from, *text, Paths::kOrdinary) : std::nullopt;
  if (!path || !fields.done()) return Fault::kEinval;
  uint32_t offset = 0;
  const char* end = offset_text->data() + offset_text->size();
  if (std::from_chars(offset_text->data(), end, offset).ptr != end || offset_text->empty())
    return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kRead, Part::kExistence);
  if (found.fault != Fault::kNone) return found.fault;

  OpenTransaction* transaction = request.transaction;
  const uint64_t generation =
      transaction != nullptr ? transaction->view.generation(*path) : latest(found.node->generations);
  text_buffer_.assign(std::to_string(generation)).push_back('\0');
  const size_t room = kMaxPayload - text_buffer_.size() - 1;
  const bool complete = transaction != nullptr ? append_part(transaction->view.children(*path), offset, room)
                                               : storage_.list_children(*path, offset, room, text_buffer_);
  // An empty name after the last.
  if (complete) text_buffer_.push_back('\0');
  reply(request, text_buffer_);
  return Fault::kNone;
}

/// As Storage::list_children(), of a list that is all there.
bool Engine::Impl::append_part(std::string_view names, size_t offset, size_t room) {
  if (offset >= names.size()) return true;
  names.remove_prefix(offset);
  const bool complete = names.size() <= room;
  if (!complete) names = names.substr(0, names.rfind('\0', room - 1) + 1);
  text_buffer_.append(names);
  return complete;
}

Fault Engine::Impl::write(const Request& request) {
  Fields fields(request.payload);
  const auto text = fields.next();
  const auto path = text ? path_of(request.from, *text, Paths::kOrdinary) : std::nullopt;
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kWrite, Part::kExistence);
  if (found.fault == Fault::kEnoent) return create(request, *path, fields.rest());
  if (found.fault != Fault::kNone) return found.fault;
  return set_value(request, *path, fields.rest(), *found.node);
}

Fault Engine::Impl::mkdir(const Request& request) {
  const auto path = only_path(request, Paths::kOrdinary);
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kWrite, Part::kExistence);
  if (found.fault == Fault::kEnoent) return create(request, *path, {});
  if (found.fault == Fault::kNone) acknowledge(request);
  return found.fault;
}

Fault Engine::Impl::set_value(const Request& request, std::string_view path, std::string_view value,
                              const NodeView& node) {
  Connection& from = request.from;
  if (exceeds(from, Quota::kNodeSize, value.size() + node.children_bytes))
    return refuse(from, Fault::kEnospc, "makes a node too large");
  if (const Fault full = check_memory(from, value.size()); full != Fault::kNone) return full;
  if (request.transaction != nullptr) {
    request.transaction->view.set_value(path, value);
  } else {
    const Change change{.kind = ChangeKind::kSetValue, .path = path, .value = value, .permissions = {}};
    if (const Fault lost = apply({&change, 1}); lost != Fault::kNone) return lost;
    fire(path);
  }
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::create(const Request& request, std::string_view path, std::string_view value) {
  const std::string_view above = nearest_above(request, path);
  missing_.clear();
  for (std::string_view at = path; at.size() > above.size(); at = parent_of(at)) missing_.push_back(at);
  const auto parent = look(request, above, Part::kPermissions);
  const Fault full = check_new_nodes(request.from, request.transaction, value, *parent);
  if (full != Fault::kNone) return full;

  if (request.from.is_control()) return create_missing(request, value, parent->permissions);
  // Guests own what they make; who else may what is as above.
  std::vector<Permission> own(parent->permissions.begin(), parent->permissions.end());
  own[0].domid = request.from.peer.domid;
  return create_missing(request, value, own);
}

Fault Engine::Impl::create_missing(const Request& request, std::string_view value,
                                   std::span<const Permission> permissions) {
  return request.transaction != nullptr ? create_later(request, value, permissions)
                                        : create_now(request, value, permissions);
}

Fault Engine::Impl::check_new_nodes(Connection& from, const OpenTransaction* transaction,
                                    std::string_view value, const NodeView& parent) {
  if (from.account == nullptr) return Fault::kNone;
  const uint64_t made = transaction == nullptr ? 0 : transaction->view.created();
  if (exceeds(from, Quota::kNodes, storage_.usage(from.peer.domid).nodes + made + missing_.size()))
    return refuse(from, Fault::kEnospc, "makes too many nodes");
  if (exceeds(from, Quota::kNodeSize, value.size()) ||
      exceeds(from, Quota::kNodeSize, parent.children_bytes + name_of(missing_.back()).size() + 1))
    return refuse(from, Fault::kEnospc, "makes a node too large");
  uint64_t bytes = value.size();
  for (const std::string_view path : missing_) bytes += charge_of(path, {}, parent.permissions.size());
  return check_memory(from, bytes);
}

Fault Engine::Impl::create_later(const Request& request, std::string_view value,
                                 std::span<const Permission> permissions) {
  using Cause = Transaction::Cause;
  for (size_t i = missing_.size(); i-- > 0;)
    request.transaction->view.create(missing_[i], i == 0 ? value : std::string_view(), permissions,
                                     i == 0 ? Cause::kNamed : Cause::kForChild);
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::create_now(const Request& request, std::string_view value,
                               std::span<const Permission> permissions) {
  changes_.clear();
  for (size_t i = missing_.size(); i-- > 0;)
    changes_.push_back({.kind = ChangeKind::kCreate,
                        .path = missing_[i],
                        .value = i == 0 ? value : std::string_view(),
                        .permissions = permissions});
  if (const Fault lost = apply(changes_); lost != Fault::kNone) return lost;
  fire(missing_[0]);
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::rm(const Request& request) {
  const auto path = only_path(request, Paths::kOrdinary);
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kWrite, Part::kExistence);
  if (found.fault == Fault::kEnoent && look(request, parent_of(*path), Part::kExistence)) {
    acknowledge(request);
    return Fault::kNone;
  }
  if (found.fault != Fault::kNone) return found.fault;
  if (*path == "/") return Fault::kEinval;
  if (request.transaction != nullptr) {
    request.transaction->view.erase(*path);
  } else {
    fire_erased(*path);
    const Change change{.kind = ChangeKind::kErase, .path = *path, .value = {}, .permissions = {}};
    if (const Fault lost = apply({&change, 1}); lost != Fault::kNone) return lost;
  }
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::get_perms(const Request& request) {
  const auto path = only_path(request, Paths::kSpecialToo);
  if (!path) return Fault::kEinval;
  const Found found = find_allowed(request, *path, Need::kRead, Part::kPermissions);
  if (found.fault != Fault::kNone) return found.fault;
  text_buffer_.clear();
  for (const Permission& permission : found.node->permissions) {
    append_permission(text_buffer_, permission);
    text_buffer_.push_back('\0');
  }
  if (text_buffer_.size() > kMaxPayload) return Fault::kE2big;
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::set_perms(const Request& request) {
  Connection& from = request.from;
  Fields fields(request.payload);
  const auto text = fields.next();
  std::vector<Permission> permissions;
  while (const auto field = fields.next()) {
    const auto permission = parse_permission(*field);
    if (!permission) return Fault::kEinval;
    permissions.push_back(*permission);
  }
  if (permissions.empty()) return Fault::kEinval;
  if (exceeds(from, Quota::kNodePermissions, permissions.size()))
    return refuse(from, Fault::kEnospc, "gives a node too many permissions");
  const auto path = path_of(from, *text, Paths::kSpecialToo);
  if (!path) return Fault::kEinval;

  const Found found = find_allowed(request, *path, Need::kWrite, Part::kPermissions);
  if (found.fault != Fault::kNone) return found.fault;
  if (!owns(from, found.node->permissions))
    return refuse(from, Fault::kEacces, "sets permissions of a node it does not own");
  if (!from.is_control() && permissions[0].domid != found.node->permissions[0].domid)
    return refuse(from, Fault::kEperm, "gives a node another owner");
  const uint64_t bytes = permissions.size() * kPermissionChargeBytes;
  if (const Fault full = check_memory(from, bytes); full != Fault::kNone) return full;
  if (request.transaction != nullptr) {
    request.transaction->view.set_permissions(*path, permissions);
  } else {
    const std::vector<Permission> before(found.node->permissions.begin(), found.node->permissions.end());
    const Change change{
        .kind = ChangeKind::kSetPermissions, .path = *path, .value = {}, .permissions = permissions};
    if (const Fault lost = apply({&change, 1}); lost != Fault::kNone) return lost;
    fire(*path, before);
  }
  acknowledge(request);
  return Fault::kNone;
}

}  // namespace synfluid::spawner::store
