#include "spawner/store/map_storage.h"

#include <algorithm>

namespace synfluid::spawner::store {
namespace {

bool is_special(std::string_view path) {
  return path[0] == '@';
}

std::string prefix_below(std::string_view path) {
  return path == "/" ? "/" : std::string(path) + "/";
}

}  // namespace

NodeView MapStorage::view_of(const Node& node) {
  NodeView view{.value = node.value, .permissions = node.permissions, .generations = node.generations};
  view.children = static_cast<uint32_t>(node.children.size());
  for (const std::string& child : node.children)
    view.children_bytes += static_cast<uint32_t>(child.size() + 1);
  return view;
}

std::optional<NodeView> MapStorage::find(std::string_view path) const {
  const auto found = nodes_.find(path);
  if (found == nodes_.end()) return std::nullopt;
  return view_of(found->second);
}

bool MapStorage::list_children(std::string_view path, size_t offset, size_t max_bytes,
                               std::string& out) const {
  std::string all;
  for (const std::string& child : nodes_.find(path)->second.children) all.append(child).push_back('\0');
  if (offset >= all.size()) return true;
  std::string_view rest = std::string_view(all).substr(offset);
  if (rest.size() > max_bytes) {
    const size_t last = max_bytes == 0 ? std::string_view::npos : rest.rfind('\0', max_bytes - 1);
    rest = last == std::string_view::npos ? std::string_view() : rest.substr(0, last + 1);
  }
  out += rest;
  return offset + rest.size() == all.size();
}

Status MapStorage::apply(std::span<const Change> changes) {
  ++generation_;
  for (const Change& change : changes) apply_one(change);
  return {};
}

void MapStorage::apply_one(const Change& change) {
  const std::string path(change.path);
  const bool has_parent = path != "/" && !is_special(path);
  Node* parent = has_parent ? &nodes_.find(parent_of(path))->second : nullptr;
  switch (change.kind) {
    case ChangeKind::kCreate:
      nodes_[path] = {.value = std::string(change.value),
                      .permissions = {change.permissions.begin(), change.permissions.end()},
                      .children = {},
                      .generations = {generation_, generation_, generation_}};
      if (parent != nullptr) parent->children.emplace_back(name_of(path));
      break;
    case ChangeKind::kSetValue:
      nodes_[path].value = change.value;
      nodes_[path].generations.value = generation_;
      return;
    case ChangeKind::kSetPermissions:
      nodes_[path].permissions.assign(change.permissions.begin(), change.permissions.end());
      nodes_[path].generations.permissions = generation_;
      return;
    case ChangeKind::kErase:
      erase_below(path);
      if (parent != nullptr) std::erase(parent->children, name_of(path));
      break;
  }
  if (parent != nullptr) parent->generations.children = generation_;
}

void MapStorage::erase_below(const std::string& path) {
  const std::string prefix = prefix_below(path);
  auto node = nodes_.lower_bound(prefix);
  while (node != nodes_.end() && node->first.starts_with(prefix)) node = nodes_.erase(node);
  nodes_.erase(path);
}

void MapStorage::for_each(const Visitor& visit) const {
  for (const auto& [path, node] : nodes_) visit(path, view_of(node));
}

void MapStorage::for_each_below(std::string_view path, const Visitor& visit) const {
  const std::string prefix = prefix_below(path);
  for (const std::string& child : nodes_.find(path)->second.children) for_each_below(prefix + child, visit);
  visit(path, view_of(nodes_.find(path)->second));
}

Usage MapStorage::usage(DomId owner) const {
  Usage usage;
  for (const auto& [path, node] : nodes_) {
    if (node.permissions[0].domid != owner) continue;
    ++usage.nodes;
    usage.bytes += charge_of(path, node.value, node.permissions.size());
  }
  return usage;
}

std::vector<std::string> MapStorage::paths_naming(DomId domid) const {
  std::vector<std::string> paths;
  for (const auto& [path, node] : nodes_)
    if (std::ranges::find(node.permissions, domid, &Permission::domid) != node.permissions.end())
      paths.push_back(path);
  return paths;
}

}  // namespace synfluid::spawner::store
