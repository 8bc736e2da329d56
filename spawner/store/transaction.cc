#include "spawner/store/transaction.h"

#include <algorithm>

namespace synfluid::spawner::store {
namespace {

/// Beside the texts: the map's node and the entry.
constexpr size_t kEntryBytes = 256;

std::string prefix_below(std::string_view path) {
  std::string prefix(path);
  if (path != "/") prefix += '/';
  return prefix;
}

bool is_top(std::string_view path) {
  return path == "/" || path[0] == '@';
}

}  // namespace

bool Transaction::below_erased(std::string_view path) const {
  if (!erased_any_) return false;
  while (!is_top(path)) {
    path = parent_of(path);
    const auto above = entries_.find(path);
    if (above != entries_.end() && above->second.was_erased) return true;
  }
  return false;
}

Transaction::Entries::iterator Transaction::touch(std::string_view path) {
  if (last_ != entries_.end() && last_->first == path) return last_;
  // Where it is, or before where it belongs.
  const auto at = entries_.lower_bound(path);
  if (at != entries_.end() && at->first == path) return last_ = at;
  Entry entry;
  if (below_erased(path)) {
    entry.was_erased = true;
  } else if (const auto base = storage_->find(path)) {
    entry.was_there = entry.is_there = true;
    entry.generations = base->generations;
    entry.children = base->children;
    entry.children_bytes = base->children_bytes;
  }
  bytes_ += kEntryBytes + path.size();
  return last_ = entries_.emplace_hint(at, path, std::move(entry));
}

/// Copies what is seen, so that it reads the same again.
void Transaction::fill(std::string_view path, Entry& entry, Part seen) {
  if (entry.was_erased) return;
  entry.seen = entry.seen | seen;
  const bool wants_value = includes(seen, Part::kValue) && !entry.value;
  const bool wants_permissions = includes(seen, Part::kPermissions) && !entry.permissions;
  if (!entry.is_there || (!wants_value && !wants_permissions)) return;
  const auto base = storage_->find(path);
  if (!base) return;  // gone meanwhile: what was seen is a conflict already
  if (wants_value) {
    entry.value.emplace(base->value);
    bytes_ += base->value.size();
  }
  if (wants_permissions) entry.permissions.emplace(base->permissions.begin(), base->permissions.end());
}

std::optional<NodeView> Transaction::look(std::string_view path, Part seen) {
  const auto found = touch(path);
  Entry& entry = found->second;
  if (entry.value_set) seen = without(seen, Part::kValue);
  if (entry.permissions_set) seen = without(seen, Part::kPermissions);
  if (!entry.value_set || !entry.permissions_set) fill(path, entry, seen | Part::kExistence);
  if (!entry.is_there) return std::nullopt;
  NodeView view{.generations = entry.generations};
  if (entry.value) view.value = *entry.value;
  if (entry.permissions) view.permissions = *entry.permissions;
  view.children = entry.children;
  view.children_bytes = entry.children_bytes;
  return view;
}

std::string Transaction::base_children(std::string_view path, Entry& entry) {
  if (!entry.was_there || entry.was_erased) return {};
  entry.seen = entry.seen | Part::kChildren;
  if (!entry.children_names) {
    entry.children_names.emplace();
    if (storage_->find(path)) storage_->list_children(path, 0, SIZE_MAX, *entry.children_names);
    bytes_ += entry.children_names->size();
  }
  return *entry.children_names;
}

std::string Transaction::children(std::string_view path) {
  const std::string base = base_children(path, touch(path)->second);
  const std::string prefix = prefix_below(path);
  std::string names;
  Fields fields({base.data(), base.size()});
  while (const auto name = fields.next()) {
    const auto entry = entries_.find(prefix + std::string(*name));
    if (entry == entries_.end() || entry->second.is_kept()) names.append(*name).push_back('\0');
  }
  for (auto below = entries_.lower_bound(prefix); below != entries_.end() && below->first.starts_with(prefix);
       ++below) {
    const std::string_view name = std::string_view(below->first).substr(prefix.size());
    if (!name.empty() && below->second.is_new() && name.find('/') == std::string_view::npos)
      names.append(name).push_back('\0');
  }
  return names;
}

uint64_t Transaction::generation(std::string_view path) {
  return latest(touch(path)->second.generations) + changes_;
}

void Transaction::note_order(Entry& entry) {
  ++changes_;
  if (entry.order == 0) entry.order = changes_;
}

void Transaction::set_value(std::string_view path, std::string_view value) {
  Entry& entry = touch(path)->second;
  bytes_ += value.size();
  entry.value.emplace(value);
  entry.value_set = true;
  note_order(entry);
}

void Transaction::set_permissions(std::string_view path, std::span<const Permission> permissions) {
  Entry& entry = touch(path)->second;
  entry.permissions.emplace(permissions.begin(), permissions.end());
  entry.permissions_set = true;
  note_order(entry);
}

void Transaction::create(std::string_view path, std::string_view value,
                         std::span<const Permission> permissions, Cause cause) {
  std::vector<Permission> own(permissions.begin(), permissions.end());
  Entry& entry = touch(path)->second;
  bytes_ += value.size();
  entry.value.emplace(value);
  entry.permissions = std::move(own);
  entry.is_there = entry.value_set = entry.permissions_set = true;
  entry.children = entry.children_bytes = 0;
  ++created_;
  ++changes_;
  if (cause == Cause::kNamed) note_order(entry);
}

void Transaction::erase(std::string_view path) {
  const std::string prefix = prefix_below(path);
  for (auto below = entries_.lower_bound(prefix); below != entries_.end() && below->first.starts_with(prefix);
       ++below) {
    Entry& entry = below->second;
    entry.is_there = entry.erases = entry.value_set = entry.permissions_set = false;
    entry.was_erased = true;
    entry.order = 0;
  }
  Entry& entry = touch(path)->second;
  entry.erases = entry.erases || (entry.was_there && !entry.was_erased);
  entry.was_erased = true;
  entry.is_there = entry.value_set = entry.permissions_set = false;
  erased_any_ = true;
  note_order(entry);
}

bool Transaction::holds(std::string_view path, const Entry& entry) const {
  if (entry.seen == Part::kNothing) return true;
  const auto now = storage_->find(path);
  if (now.has_value() != entry.was_there) return false;
  if (!now) return true;
  const Generations& then = entry.generations;
  return (!includes(entry.seen, Part::kValue) || now->generations.value == then.value) &&
         (!includes(entry.seen, Part::kChildren) || now->generations.children == then.children) &&
         (!includes(entry.seen, Part::kPermissions) || now->generations.permissions == then.permissions);
}

bool Transaction::conflicts() const {
  return std::ranges::any_of(entries_, [&](const auto& item) { return !holds(item.first, item.second); });
}

std::vector<Change> Transaction::changes() const {
  std::vector<Change> changes;
  // A path sorts before those below it, so a parent is made before its children.
  for (const auto& [path, entry] : entries_) {
    if (entry.erases) changes.push_back({.kind = ChangeKind::kErase, .path = path});
    if (!entry.is_there) continue;
    if (entry.is_new()) {
      changes.push_back({.kind = ChangeKind::kCreate,
                         .path = path,
                         .value = *entry.value,
                         .permissions = *entry.permissions});
      continue;
    }
    if (entry.value_set)
      changes.push_back({.kind = ChangeKind::kSetValue, .path = path, .value = *entry.value});
    if (entry.permissions_set)
      changes.push_back(
          {.kind = ChangeKind::kSetPermissions, .path = path, .permissions = *entry.permissions});
  }
  return changes;
}

std::vector<NodeEvent> Transaction::events() const {
  std::vector<std::pair<uint32_t, NodeEvent>> ordered;
  for (const auto& [path, entry] : entries_) {
    if (entry.order == 0 || (!entry.erases && !entry.is_there)) continue;
    ordered.push_back({entry.order,
                       {.path = path,
                        .erased = entry.erases,
                        .present = entry.is_there,
                        .permissions_changed = entry.permissions_set && entry.was_there}});
  }
  std::ranges::sort(ordered, {}, [](const auto& item) { return item.first; });
  std::vector<NodeEvent> events;
  for (const auto& [order, event] : ordered) events.push_back(event);
  return events;
}

bool Transaction::depends_on(std::string_view path, ChangeKind kind) const {
  const auto saw = [&](std::string_view at, Part parts) {
    const auto found = entries_.find(at);
    return found != entries_.end() && includes(found->second.seen, parts);
  };
  switch (kind) {
    case ChangeKind::kSetValue:
      return saw(path, Part::kValue);
    case ChangeKind::kSetPermissions:
      return saw(path, Part::kPermissions);
    case ChangeKind::kCreate:
      return saw(path, Part::kExistence) || saw(parent_of(path), Part::kChildren);
    case ChangeKind::kErase:
      break;
  }
  if (saw(path, Part::kExistence) || saw(parent_of(path), Part::kChildren)) return true;
  const std::string prefix = prefix_below(path);
  const auto below = entries_.lower_bound(prefix);
  return below != entries_.end() && below->first.starts_with(prefix);
}

}  // namespace synfluid::spawner::store
