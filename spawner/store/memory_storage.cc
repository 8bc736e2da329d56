#include "spawner/store/memory_storage.h"

#include <algorithm>
#include <cstdlib>

#include "spawner/store/memory_nodes.h"

namespace synfluid::spawner::store {

NodeId MemoryStorage::Impl::walk(std::string_view path) const {
  if (path == "/") return root_;
  return table_.find(hash_of(path), [&](NodeId id) { return (*this)[id].path() == path; });
}

bool MemoryStorage::Impl::list_children(NodeId id, size_t offset, size_t max_bytes, std::string& out) const {
  const Node& parent = (*this)[id];
  if (offset >= parent.children_bytes) return true;
  NodeId child = parent.first_child;
  size_t at = 0;
  if (cursor_.parent == id && cursor_.generation == parent.generations.children && cursor_.offset <= offset) {
    child = cursor_.child;
    at = cursor_.offset;
  }
  for (size_t room = max_bytes; at < parent.children_bytes;) {
    const std::string_view name = (*this)[child].name();
    // An offset inside a name gives the rest of that name.
    const size_t skip = offset > at ? std::min(offset - at, name.size() + 1) : 0;
    if (skip <= name.size()) {
      const std::string_view part = name.substr(skip);
      if (part.size() + 1 > room) break;
      out.append(part).push_back('\0');
      room -= part.size() + 1;
    }
    at += name.size() + 1;
    child = (*this)[child].next;
  }
  cursor_ = {.parent = id, .generation = parent.generations.children, .offset = at, .child = child};
  return at == parent.children_bytes;
}

void MemoryStorage::Impl::visit_below(NodeId top, std::string& path, const Visitor& visit) const {
  const Node& node = (*this)[top];
  const size_t length = path.size();
  NodeId child = node.first_child;
  for (uint32_t i = 0; i < node.children; ++i, child = (*this)[child].next) {
    if (path != "/") path += '/';
    path += (*this)[child].name();
    visit_below(child, path, visit);
    path.resize(length);
  }
  visit(path, view_of(node));
}

void MemoryStorage::Impl::visit_all(const Visitor& visit) const {
  for (NodeId id = 0; id < blocks_.size() * kBlock; ++id)
    if ((*this)[id].text != nullptr && (*this)[id].parent == kNowhere && (*this)[id].name_bytes > 0)
      visit(std::string((*this)[id].path()), view_of((*this)[id]));
  std::vector<NodeId> left;
  if (const NodeId root = resolve("/"); root != kNone) left.push_back(root);
  while (!left.empty()) {
    const NodeId id = left.back();
    left.pop_back();
    visit(std::string((*this)[id].path()), view_of((*this)[id]));
    NodeId child = (*this)[id].first_child;
    for (uint32_t i = 0; i < (*this)[id].children; ++i, child = (*this)[child].next) left.push_back(child);
  }
}

std::vector<std::string> MemoryStorage::Impl::paths_naming(DomId domid) const {
  std::vector<std::string> paths;
  for (const uint32_t set : sets_.naming(domid))
    for (NodeId id = sets_[set].first_node; id != kNone; id = (*this)[id].next_of_set)
      paths.push_back(std::string((*this)[id].path()));
  std::ranges::sort(paths);
  return paths;
}

MemoryStorage::MemoryStorage() : impl_(std::make_unique<Impl>()) {}
MemoryStorage::~MemoryStorage() = default;

std::optional<NodeView> MemoryStorage::find(std::string_view path) const {
  const NodeId id = impl_->resolve(path);
  if (id == kNone) return std::nullopt;
  return impl_->view_of((*impl_)[id]);
}

bool MemoryStorage::list_children(std::string_view path, size_t offset, size_t max_bytes,
                                  std::string& out) const {
  return impl_->list_children(impl_->resolve(path), offset, max_bytes, out);
}

Status MemoryStorage::apply(std::span<const Change> changes) {
  impl_->next_generation();
  for (const Change& change : changes) impl_->apply(change);
  return {};
}

void MemoryStorage::for_each(const Visitor& visit) const {
  impl_->visit_all(visit);
}

void MemoryStorage::for_each_below(std::string_view path, const Visitor& visit) const {
  std::string buffer(path);
  impl_->visit_below(impl_->resolve(path), buffer, visit);
}

Usage MemoryStorage::usage(DomId owner) const {
  return impl_->usage(owner);
}

std::vector<std::string> MemoryStorage::paths_naming(DomId domid) const {
  return impl_->paths_naming(domid);
}

size_t MemoryStorage::size() const {
  return impl_->size();
}

size_t MemoryStorage::bytes() const {
  return impl_->bytes();
}

}  // namespace synfluid::spawner::store
