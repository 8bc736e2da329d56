#include "spawner/store/memory_storage.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unordered_map>

#include "spawner/store/permission_sets.h"
#include "spawner/store/secret_hash.h"
#include "spawner/store/slot_table.h"

namespace synfluid::spawner::store {
namespace {

using NodeId = uint32_t;
constexpr NodeId kNone = UINT32_MAX;
/// The parent of special nodes, and of the root.
constexpr NodeId kNowhere = UINT32_MAX - 1;

struct Node {
  NodeId parent = kNowhere;
  /// Among its siblings, a ring. In a free node: `next` is the next free one.
  NodeId next = kNone;
  NodeId previous = kNone;
  NodeId first_child = kNone;
  uint32_t children = 0;
  uint32_t children_bytes = 0;
  uint32_t hash = 0;
  uint32_t permission_set = 0;
  /// Among the nodes of its permission set.
  NodeId next_of_set = kNone;
  NodeId previous_of_set = kNone;
  /// Name, then value.
  char* text = nullptr;
  uint16_t name_bytes = 0;
  uint16_t value_bytes = 0;
  uint32_t text_bytes = 0;
  Generations generations;

  std::string_view name() const { return {text, name_bytes}; }
  std::string_view value() const { return {text + name_bytes, value_bytes}; }
};

/// The allocator rounds 8 bytes more up to a multiple of 16 anyway.
uint32_t rounded(size_t bytes) {
  return static_cast<uint32_t>((bytes + 8 + 15) / 16 * 16 - 8);
}

}  // namespace

class MemoryStorage::Impl {
 public:
  ~Impl() {
    for (const auto& block : blocks_)
      for (const Node& node : *block) std::free(node.text);
  }

  /// kNone when there is no such node.
  NodeId resolve(std::string_view path) const {
    if (last_ != kNone && path == last_path_) return last_;
    const NodeId found = walk(path);
    if (found == kNone) return kNone;
    last_path_ = path;
    return last_ = found;
  }

  const Node& operator[](NodeId id) const { return (*blocks_[id / kBlock])[id % kBlock]; }

  NodeView view_of(const Node& node) const {
    return {.value = node.value(),
            .permissions = sets_[node.permission_set].permissions,
            .generations = node.generations,
            .children = node.children,
            .children_bytes = node.children_bytes};
  }

  void apply(const Change& change) {
    switch (change.kind) {
      case ChangeKind::kCreate:
        return create(change);
      case ChangeKind::kSetValue:
        return set_value(at(resolve(change.path)), change.value);
      case ChangeKind::kSetPermissions:
        return set_permissions(resolve(change.path), change.permissions);
      case ChangeKind::kErase:
        return erase(resolve(change.path));
    }
  }
  void next_generation() { ++generation_; }

  bool list_children(NodeId id, size_t offset, size_t max_bytes, std::string& out) const;
  void visit_below(NodeId id, std::string& path, const Visitor& visit) const;
  void visit_all(const Visitor& visit) const;
  std::vector<std::string> paths_naming(DomId domid) const;

  Usage usage(DomId owner) const {
    const auto found = usage_.find(owner);
    return found == usage_.end() ? Usage() : found->second;
  }
  size_t size() const { return size_; }
  size_t bytes() const {
    return blocks_.size() * (sizeof(Block) + sizeof(void*)) + table_.bytes() + text_bytes_ + sets_.bytes() +
           usage_.size() * 48;
  }

 private:
  static constexpr size_t kBlock = 512;
  using Block = std::array<Node, kBlock>;

  Node& at(NodeId id) { return (*blocks_[id / kBlock])[id % kBlock]; }
  uint32_t hash_of(std::string_view path) const { return static_cast<uint32_t>(hash_(0, path)); }
  bool is_at(NodeId id, std::string_view path) const;
  NodeId walk(std::string_view path) const;
  std::string path_of(NodeId id) const;

  NodeId allocate();
  void create(const Change& change);
  void set_value(Node& node, std::string_view value);
  void set_permissions(NodeId id, std::span<const Permission> permissions);
  void erase(NodeId id);
  void free_node(NodeId id);
  void set_text(Node& node, std::string_view name, std::string_view value);
  void join_siblings(NodeId id, NodeId parent);
  void leave_siblings(NodeId id);
  void join_set(NodeId id, uint32_t set);
  void leave_set(NodeId id);
  static uint64_t charge_of(const Node& node) {
    return kNodeChargeBytes + node.name_bytes + node.value_bytes;
  }
  DomId owner_of(const Node& node) const { return sets_[node.permission_set].permissions[0].domid; }

  SecretHash hash_;
  SlotTable table_;
  std::vector<std::unique_ptr<Block>> blocks_;
  NodeId first_free_ = kNone;
  NodeId root_ = kNone;
  PermissionSets sets_;
  std::unordered_map<DomId, Usage> usage_;
  uint64_t generation_ = 0;
  size_t size_ = 0;
  size_t text_bytes_ = 0;

  /// The last path found: what a request reads it then changes.
  mutable std::string last_path_;
  mutable NodeId last_ = kNone;
  /// Where the last list of children ended.
  struct Cursor {
    NodeId parent = kNone;
    uint64_t generation = 0;
    size_t offset = 0;
    NodeId child = kNone;
  };
  mutable Cursor cursor_;
};

NodeId MemoryStorage::Impl::walk(std::string_view path) const {
  if (path == "/") return root_;
  return table_.find(hash_of(path), [&](NodeId id) { return is_at(id, path); });
}

/// Whether this is the node's path: its names are compared from the last to the first.
bool MemoryStorage::Impl::is_at(NodeId id, std::string_view path) const {
  for (;;) {
    const Node& node = (*this)[id];
    const std::string_view name = node.name();
    if (node.parent == kNowhere) return path == name;
    if (path.size() <= name.size() || !path.ends_with(name)) return false;
    path.remove_suffix(name.size());
    if (path.back() != '/') return false;
    path.remove_suffix(1);
    id = node.parent;
  }
}

std::string MemoryStorage::Impl::path_of(NodeId id) const {
  if ((*this)[id].parent == kNowhere)
    return (*this)[id].name_bytes == 0 ? "/" : std::string((*this)[id].name());
  std::vector<std::string_view> names;
  for (; (*this)[id].parent != kNowhere; id = (*this)[id].parent) names.push_back((*this)[id].name());
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) (path += '/') += *name;
  return path;
}

NodeId MemoryStorage::Impl::allocate() {
  if (first_free_ == kNone) {
    const auto first = static_cast<NodeId>(blocks_.size() * kBlock);
    blocks_.push_back(std::make_unique<Block>());
    for (NodeId id = first + kBlock; id-- > first;) {
      at(id).next = first_free_;
      first_free_ = id;
    }
  }
  const NodeId id = first_free_;
  first_free_ = at(id).next;
  return id;
}

void MemoryStorage::Impl::set_text(Node& node, std::string_view name, std::string_view value) {
  const uint32_t needed = rounded(name.size() + value.size());
  // Shrinks only where it pays, so that a value that varies a little stays where it is.
  if (needed > node.text_bytes || needed + 64 < node.text_bytes) {
    char* text = static_cast<char*>(std::malloc(needed));
    if (text == nullptr) throw std::bad_alloc();
    std::memcpy(text, name.data(), name.size());
    if (node.text != nullptr) text_bytes_ -= node.text_bytes + 8;
    std::free(node.text);
    node.text = text;
    node.text_bytes = needed;
    text_bytes_ += needed + 8;
  }
  node.name_bytes = static_cast<uint16_t>(name.size());
  node.value_bytes = static_cast<uint16_t>(value.size());
  std::memmove(node.text + name.size(), value.data(), value.size());
}

void MemoryStorage::Impl::create(const Change& change) {
  const bool top = change.path == "/" || change.path[0] == '@';
  const NodeId parent = top ? kNowhere : resolve(parent_of(change.path));
  const std::string_view name = top && change.path == "/" ? std::string_view()
                                : top                     ? change.path
                                                          : name_of(change.path);
  const NodeId id = allocate();
  Node& node = at(id);
  set_text(node, name, change.value);
  node.parent = parent;
  node.hash = hash_of(change.path);
  node.generations = {generation_, generation_, generation_};
  table_.insert(node.hash, id);
  if (parent != kNowhere) join_siblings(id, parent);
  if (change.path == "/") root_ = id;
  join_set(id, sets_.acquire(change.permissions));
  ++size_;
}

void MemoryStorage::Impl::set_value(Node& node, std::string_view value) {
  if (value.size() != node.value_bytes) {
    Usage& usage = usage_[owner_of(node)];
    usage.bytes = usage.bytes - node.value_bytes + value.size();
  }
  set_text(node, node.name(), value);
  node.generations.value = generation_;
}

void MemoryStorage::Impl::set_permissions(NodeId id, std::span<const Permission> permissions) {
  const uint32_t set = sets_.acquire(permissions);
  leave_set(id);
  join_set(id, set);
  at(id).generations.permissions = generation_;
}

void MemoryStorage::Impl::erase(NodeId top) {
  last_ = kNone;
  cursor_ = {};
  if (at(top).parent != kNowhere) leave_siblings(top);
  for (NodeId id = top;;) {
    while (at(id).first_child != kNone) id = at(id).first_child;
    if (id == top) break;
    const NodeId parent = at(id).parent;
    const NodeId next = at(id).next;
    // The ring of its siblings goes as a whole: no need to close it behind each.
    at(parent).first_child = --at(parent).children == 0 ? kNone : next;
    free_node(id);
    id = parent;
  }
  free_node(top);
}

void MemoryStorage::Impl::free_node(NodeId id) {
  Node& node = at(id);
  table_.erase(node.hash, id);
  leave_set(id);
  text_bytes_ -= node.text_bytes + 8;
  std::free(node.text);
  node = {};
  node.next = first_free_;
  first_free_ = id;
  --size_;
}

void MemoryStorage::Impl::join_siblings(NodeId id, NodeId parent_id) {
  Node& parent = at(parent_id);
  Node& node = at(id);
  if (parent.first_child == kNone) {
    parent.first_child = node.next = node.previous = id;
  } else {
    node.next = parent.first_child;
    node.previous = at(parent.first_child).previous;
    at(node.previous).next = id;
    at(node.next).previous = id;
  }
  ++parent.children;
  parent.children_bytes += node.name_bytes + 1u;
  parent.generations.children = generation_;
}

void MemoryStorage::Impl::leave_siblings(NodeId id) {
  const Node& node = at(id);
  Node& parent = at(node.parent);
  at(node.next).previous = node.previous;
  at(node.previous).next = node.next;
  --parent.children;
  if (parent.first_child == id) parent.first_child = parent.children == 0 ? kNone : node.next;
  parent.children_bytes -= node.name_bytes + 1u;
  parent.generations.children = generation_;
}

void MemoryStorage::Impl::join_set(NodeId id, uint32_t number) {
  PermissionSets::Set& set = sets_[number];
  Node& node = at(id);
  node.permission_set = number;
  node.previous_of_set = kNone;
  node.next_of_set = set.first_node;
  if (set.first_node != kNone) at(set.first_node).previous_of_set = id;
  set.first_node = id;
  Usage& usage = usage_[owner_of(node)];
  ++usage.nodes;
  usage.bytes += charge_of(node);
}

void MemoryStorage::Impl::leave_set(NodeId id) {
  const Node& node = at(id);
  const auto usage = usage_.find(owner_of(node));
  usage->second.bytes -= charge_of(node);
  if (--usage->second.nodes == 0) usage_.erase(usage);
  if (node.previous_of_set == kNone) {
    sets_[node.permission_set].first_node = node.next_of_set;
  } else {
    at(node.previous_of_set).next_of_set = node.next_of_set;
  }
  if (node.next_of_set != kNone) at(node.next_of_set).previous_of_set = node.previous_of_set;
  sets_.release(node.permission_set);
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
      visit(path_of(id), view_of((*this)[id]));
  std::vector<NodeId> left;
  if (const NodeId root = resolve("/"); root != kNone) left.push_back(root);
  while (!left.empty()) {
    const NodeId id = left.back();
    left.pop_back();
    visit(path_of(id), view_of((*this)[id]));
    NodeId child = (*this)[id].first_child;
    for (uint32_t i = 0; i < (*this)[id].children; ++i, child = (*this)[child].next) left.push_back(child);
  }
}

std::vector<std::string> MemoryStorage::Impl::paths_naming(DomId domid) const {
  std::vector<std::string> paths;
  for (const uint32_t set : sets_.naming(domid))
    for (NodeId id = sets_[set].first_node; id != kNone; id = (*this)[id].next_of_set)
      paths.push_back(path_of(id));
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
