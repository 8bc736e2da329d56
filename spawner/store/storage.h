// The waist to whatever keeps the nodes. Four verbs: find, list children, apply, walk.
//
// The engine (engine.h) decides what a request may do and what it changes; a Storage holds nodes and applies
// groups of changes, each group as a whole or not at all. It knows no connection, watch, transaction or
// quota.
//
// Threads: one, the daemon's. Ownership: a Storage owns its nodes; a NodeView points into it and holds until
// the next apply(). Paths: absolute and valid (wire.h), or special ("@releaseDomain"), which have no parent.
// Each but the root and the special ones has a parent in the storage. Errors: Result; after a failed apply()
// nothing has changed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/strong_id.h"
#include "spawner/store/wire.h"

namespace synfluid::spawner::store {

/// When each part of a node last changed, by a count of applied groups that never repeats, not even for a
/// node erased and made anew. 0 is "never".
struct Generations {
  uint64_t value = 0;
  uint64_t children = 0;
  uint64_t permissions = 0;
  friend bool operator==(const Generations&, const Generations&) = default;
};

/// Of the node as a whole.
constexpr uint64_t latest(const Generations& parts) {
  return std::max({parts.value, parts.children, parts.permissions});
}

struct NodeView {
  std::string_view value = {};
  /// Never empty; the first names the owner.
  std::span<const Permission> permissions = {};
  Generations generations = {};
  uint32_t children = 0;
  /// Of all children's names, a NUL after each.
  uint32_t children_bytes = 0;
};

enum class ChangeKind : uint8_t {
  kCreate,          ///< node does not exist, its parent does (or was created earlier in the group)
  kSetValue,        ///< node exists
  kSetPermissions,  ///< node exists
  kErase,           ///< node exists and is not the root; everything below it goes too
};

struct Change {
  ChangeKind kind = ChangeKind::kSetValue;
  std::string_view path = {};
  std::string_view value = {};                   ///< of kCreate and kSetValue
  std::span<const Permission> permissions = {};  ///< of kCreate and kSetPermissions
};

/// What the nodes that a domain owns amount to.
struct Usage {
  uint32_t nodes = 0;
  /// Each node's charge.
  uint64_t bytes = 0;
  friend bool operator==(const Usage&, const Usage&) = default;
};
/// What a node of the memory storage costs beside its path and value, and what a list of permissions of its
/// own costs for each entry after the owner's, with the note of whom it names.
inline constexpr uint64_t kNodeChargeBytes = 112;
inline constexpr uint64_t kPermissionChargeBytes = 128;

/// What its owner is charged for a node.
constexpr uint64_t charge_of(std::string_view path, std::string_view value, size_t permissions) {
  return kNodeChargeBytes + path.size() + value.size() + (permissions - 1) * kPermissionChargeBytes;
}

class Storage {
 public:
  virtual ~Storage() = default;

  virtual std::optional<NodeView> find(std::string_view path) const = 0;

  /// Appends to `out` the children's names, a NUL after each, in the order of their creation, from byte
  /// `offset` of that whole list: whole names, as many as fit into `max_bytes`. Returns true when the list's
  /// end is among them. The node exists.
  virtual bool list_children(std::string_view path, size_t offset, size_t max_bytes,
                             std::string& out) const = 0;

  /// All of it or nothing. Preconditions: those of each ChangeKind.
  virtual Status apply(std::span<const Change> changes) = 0;

  /// Every node once, parents before their children, special ones too. The visitor changes nothing.
  using Visitor = std::function<void(std::string_view path, const NodeView& node)>;
  virtual void for_each(const Visitor& visit) const = 0;
  /// The node and those below it, children before their parents. The node exists.
  virtual void for_each_below(std::string_view path, const Visitor& visit) const = 0;

  virtual Usage usage(DomId owner) const = 0;
  /// Paths of the nodes whose permissions name the domain, parents before their children. Costs by their
  /// number.
  virtual std::vector<std::string> paths_naming(DomId domid) const = 0;

  /// Nodes there are, the root and special ones counted.
  virtual size_t size() const = 0;
};

}  // namespace synfluid::spawner::store
