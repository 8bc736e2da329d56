// What memory_storage.h hides: the nodes, by number, and how paths lead to them. The changes are in
// memory_changes.cc.
#pragma once

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "spawner/store/memory_storage.h"
#include "spawner/store/permission_sets.h"
#include "spawner/store/secret_hash.h"
#include "spawner/store/slot_table.h"

namespace synfluid::spawner::store {

using NodeId = uint32_t;
inline constexpr NodeId kNone = UINT32_MAX;
/// The parent of special nodes, and of the root.
inline constexpr NodeId kNowhere = UINT32_MAX - 1;

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
  /// The whole path, then the value: a node is told from another without a look at its parents, each of which
  /// would be a cache miss or two.
  char* text = nullptr;
  uint16_t path_bytes = 0;
  uint16_t name_bytes = 0;
  uint16_t value_bytes = 0;
  uint16_t text_bytes = 0;
  Generations generations;

  std::string_view path() const { return {text, path_bytes}; }
  std::string_view name() const { return path().substr(path_bytes - name_bytes); }
  std::string_view value() const { return {text + path_bytes, value_bytes}; }
};

class MemoryStorage::Impl {
 public:
  Impl() = default;
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

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
    return memory_bytes_ + blocks_.size() * sizeof(void*) + table_.bytes() + text_bytes_ + sets_.bytes() +
           usage_.size() * 48;
  }

 private:
  static constexpr size_t kBlock = 512;
  using Block = std::array<Node, kBlock>;
  /// The first blocks come one by one, later ones out of large pages.
  static constexpr size_t kSmallBlocks = 32;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  Node& at(NodeId id) { return (*blocks_[id / kBlock])[id % kBlock]; }
  uint32_t hash_of(std::string_view path) const { return static_cast<uint32_t>(hash_(0, path)); }
  NodeId walk(std::string_view path) const;

  NodeId allocate();
  Block* new_block();
  void create(const Change& change);
  void set_value(Node& node, std::string_view value);
  void set_permissions(NodeId id, std::span<const Permission> permissions);
  void erase(NodeId id);
  void free_node(NodeId id);
  void set_text(Node& node, std::string_view path, std::string_view value);
  void join_siblings(NodeId id, NodeId parent);
  void leave_siblings(NodeId id);
  void join_set(NodeId id, uint32_t set);
  void leave_set(NodeId id);
  uint64_t charge_for(const Node& node) const {
    return charge_of(node.path(), node.value(), sets_[node.permission_set].permissions.size());
  }
  DomId owner_of(const Node& node) const { return sets_[node.permission_set].permissions[0].domid; }

  SecretHash hash_;
  SlotTable table_;
  std::vector<std::unique_ptr<void, Free>> memory_;
  size_t memory_bytes_ = 0;
  size_t left_of_memory_ = 0;   ///< bytes, at the end of the last
  std::vector<Block*> blocks_;  ///< in memory_
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

}  // namespace synfluid::spawner::store
